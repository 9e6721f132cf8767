"""How far a build is, from what lies on disk alone."""

import json

import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.build_status import build_record_file, build_status, busy_seconds, read_build_record
from mdtree.errors import InputError
from mdtree.unfinished_table import UnfinishedTable
from mdtree.zoo import MEASURED_COLUMNS, write_zoo
from mdtree.zoo_summary_text import status_text

ROWS = synthetic_zoo().reindex(columns=[*MEASURED_COLUMNS])
FACTS = {"networks": 4, "diverged": 1, "train_seconds": 6.0, "measure_seconds": 2.0}


@pytest.fixture
def unfinished(tmp_path):
    """A build of five units with two done: each took 8 seconds, by two workers side by side for 4 of them."""
    table = tmp_path / "zoo.csv"
    with UnfinishedTable(table, {"networks": 20}, ["a", "b", "c", "d", "e"]) as build:
        build.add("a", ROWS[:4], MEASURED_COLUMNS, FACTS | {"finished_at": 1000.0})
        build.add("d", ROWS[4:8], MEASURED_COLUMNS, FACTS | {"finished_at": 1004.0})
        yield build, table


def test_a_build_under_way(unfinished):
    _, table = unfinished
    status = build_status(table)
    assert status.state == "building"
    assert (status.units_done, status.units_planned) == (2, 5)
    assert (status.networks_done, status.networks_planned, status.diverged) == (8, 20, 2)
    assert status.networks_per_second == 8 / 12
    assert status.seconds_left == 3 * 12 / 2
    assert "process" in status.writer
    text = status_text(status)
    assert "2 of 5 units, 8 of 20 networks, 2 of them diverged" in text
    assert "0.67 networks/s so far; about 18 s left at this rate" in text


def test_a_build_that_was_stopped(unfinished):
    build, table = unfinished
    build.close()
    status = build_status(table)
    assert (status.state, status.writer) == ("stopped", None)
    assert "nobody is at work: run the same command again" in status_text(status)


def test_before_the_first_unit_no_rate_is_claimed(tmp_path):
    table = tmp_path / "zoo.csv"
    with UnfinishedTable(table, {"data": "x"}, ["a", "b"]):
        status = build_status(table)
    assert (status.networks_done, status.networks_planned, status.networks_per_second) == (0, None, None)
    assert status.seconds_left is None
    assert "no unit is finished yet" in status_text(status)


def test_all_units_done_and_no_table_yet(tmp_path):
    table = tmp_path / "zoo.csv"
    with UnfinishedTable(table, {"networks": 4}, ["a"]) as build:
        build.add("a", ROWS[:4], MEASURED_COLUMNS, FACTS | {"finished_at": 1000.0})
        status = build_status(table)
    assert status.seconds_left == 0
    assert "all units are done" in status_text(status)


def test_facts_that_are_missing_are_not_made_up(tmp_path):
    table = tmp_path / "zoo.csv"
    with UnfinishedTable(table, {"networks": "many"}, ["a", "b"]) as build:
        build.add("a", ROWS[:4], MEASURED_COLUMNS, {"networks": 4})
        status = build_status(table)
    assert (status.networks_done, status.networks_planned, status.diverged) == (4, None, 0)
    assert (status.networks_per_second, status.seconds_left) == (None, None)


def test_a_finished_table(tmp_path):
    table = tmp_path / "zoo.csv"
    write_zoo(synthetic_zoo(), table)
    status = build_status(table)
    assert (status.state, status.networks_done, status.networks_planned) == ("complete", 256, 256)
    assert (status.units_planned, status.networks_per_second) == (None, None)
    build_record_file(table).write_text(json.dumps({"units": 16, "networks": 256, "wall_seconds": 64}))
    status = build_status(table)
    assert (status.units_done, status.units_planned, status.networks_per_second) == (16, 16, 4.0)
    assert status_text(status) == f"{table}: complete, 256 networks, none diverged"


def test_no_build_there_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: no such table, and no unfinished build of it") as error:
        build_status(tmp_path / "nothing.csv")
    assert error.value.exit_code == 2


def test_pauses_between_units_do_not_count_and_workers_overlap():
    assert busy_seconds([]) == 0.0
    assert busy_seconds([(10.0, 4.0), (11.0, 4.0)]) == 5.0
    assert busy_seconds([(10.0, 4.0), (12.0, 1.0), (100.0, 3.0)]) == 8.0
    assert busy_seconds([(10.0, 8.0), (9.0, 1.0)]) == 8.0
    assert busy_seconds([(0.0, 8.0)]) == 0.0


def test_the_record_lies_beside_its_table(tmp_path):
    assert build_record_file("a/zoo.csv").as_posix() == "a/zoo.build.json"
    assert build_record_file("a/zoo.v2.csv").name == "zoo.v2.build.json"
    assert build_record_file("zoo.txt").name == "zoo.txt.build.json"
    assert read_build_record(tmp_path / "zoo.csv") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no record of a build"),
        ('{"trained": 3}', "holds no record of a build"),
        ('{"networks": "many"}', "networks is 'many'; expected a number"),
        ('{"trained": {"stack": -1}}', "stack is -1; expected a number"),
        ("", "is empty"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, text, complaint):
    build_record_file(tmp_path / "zoo.csv").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_build_record(tmp_path / "zoo.csv")


def test_an_interrupted_build_has_no_time_by_the_clock(tmp_path):
    record = {"networks": 8, "train_seconds": 3, "measure_seconds": 1, "wall_seconds": None, "trained": {"loop": 8}}
    build_record_file(tmp_path / "zoo.csv").write_text(json.dumps(record))
    found = read_build_record(tmp_path / "zoo.csv")
    assert (found.networks_per_second, found.networks_per_worker_second) == (None, 2.0)
