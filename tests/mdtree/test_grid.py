"""Zoos built for real, small: the same bytes whatever the workers and interruptions, and what `diagnose` measures."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from tiny_zoo import SPECIFICATION

from mdtree.backends import Backend
from mdtree.build_status import build_record_file
from mdtree.diagnose import Sources, measure
from mdtree.errors import InputError
from mdtree.grid import build_zoo, plan_units
from mdtree.samples import draw_samples, write_samples
from mdtree.spec_file import read_spec
from mdtree.zoo import COLUMNS, METRICS, RFI_COLUMNS, read_zoo


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    file = tmp_path_factory.mktemp("specification") / "tiny.toml"
    file.write_text(SPECIFICATION)
    return file


@pytest.fixture(scope="module")
def built(specification, tmp_path_factory):
    table = tmp_path_factory.mktemp("built") / "tiny.csv"
    seen = []
    result = build_zoo(read_spec(specification), table, backend=Backend(workers=1), progress=seen.append)
    assert (result.rows, result.trained) == (24, 24)
    assert [p.done for p in seen] == [0, 6, 12, 18, 24]
    return table


def test_the_table_is_complete(built):
    frame = read_zoo(built)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 24
    assert frame[["train_error_percent", "hessian_trace", "cka", "log_weight_growth"]].notna().all().all()
    assert (frame["sibling_seed"] == (frame["seed"] + 1) % 3).all()
    assert frame.groupby("cell")["split"].nunique().eq(1).all()
    assert frame.drop_duplicates("cell")["split"].value_counts().to_dict() == {"fit": 4, "held_out": 4}
    assert not list(built.parent.glob("*.partial"))


def test_the_build_record_tells_what_it_took(built):
    record = json.loads(build_record_file(built).read_text())
    assert (record["units"], record["networks"], record["diverged"]) == (4, 24, 0)
    assert record["trained"] == {"stack": 24}
    assert 0 < record["train_seconds"] < record["wall_seconds"]
    assert record["versions"].keys() == {"python", "torch", "numpy"}


def test_the_number_of_workers_does_not_show(specification, built, tmp_path):
    build_zoo(read_spec(specification), tmp_path / "two.csv", backend=Backend(workers=2))
    assert (tmp_path / "two.csv").read_bytes() == built.read_bytes()


def start_building(specification, table):
    """The command line's build in a process group of its own."""
    command = [sys.executable, "-m", "mdtree", "zoo", "build", str(specification), "-o", str(table), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def finished_parts(table):
    return {f.name: f.stat().st_mtime_ns for f in (table.with_name(table.name + ".partial") / "parts").glob("w*.csv")}


@pytest.mark.slow
def test_killed_twenty_times_it_is_the_same_table_and_nothing_is_trained_twice(specification, built, tmp_path):
    """SIGKILL to the builder and its workers at random moments, whether or not a unit was finished meanwhile."""
    table, draw = tmp_path / "killed.csv", random.Random(5)
    known: dict[str, int] = {}
    for kill in range(20):
        process = start_building(specification, table)
        if kill % 5 == 4 and len(known) < 3:  # now and then it gets as far as another unit
            deadline = time.monotonic() + 60
            while len(finished_parts(table)) <= len(known) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.02))
        else:
            time.sleep(draw.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        parts = finished_parts(table)
        if table.exists():  # it was quick: checked, and begun again, so that all twenty kills happen
            assert table.read_bytes() == built.read_bytes()
            table.unlink()
        else:
            assert known.items() <= parts.items()  # none lost, none written again
        known = parts
    result = build_zoo(read_spec(specification), table, backend=Backend(workers=1))
    assert result.trained == 24 - 6 * len(known)
    assert table.read_bytes() == built.read_bytes()
    assert not table.with_name("killed.csv.partial").exists()


def test_two_builders_of_one_table_do_not_meet(specification, tmp_path):
    table = tmp_path / "shared.csv"
    first = start_building(specification, table)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "shared.csv.partial" / "plan.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(InputError, match=rf"shared.csv is being built by process {first.pid}"):
            build_zoo(read_spec(specification), table, backend=Backend(workers=1))
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_a_finished_table_is_left_alone_and_what_its_build_left_is_swept(specification, built):
    before, left = built.stat().st_mtime_ns, built.with_name(built.name + ".partial")
    (left / "parts").mkdir(parents=True)  # killed after the table was written, before its parts were removed
    assert build_zoo(read_spec(specification), built).trained == 0
    assert built.stat().st_mtime_ns == before
    assert not left.exists()


def test_another_specification_does_not_touch_what_is_there(specification, built, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(SPECIFICATION.replace("[3, 6]", "[3, 7]"))
    with pytest.raises(InputError, match=r"another zoo than this specification plans \(12 of 24 networks\)"):
        build_zoo(read_spec(other), built)


def variant(tmp_path, *changes):
    """The zoo of one cell, with some lines of its specification changed."""
    text = SPECIFICATION.replace("[40, 80]", "40").replace("[3, 6]", "6").replace("[0.003, 0.05]", "0.05")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "variant.toml"
    file.write_text(text)
    table = tmp_path / "variant.csv"
    build_zoo(read_spec(file), table, backend=Backend(workers=1))
    return read_zoo(table)


def test_batch_size_can_be_the_temperature(tmp_path):
    frame = variant(tmp_path, ("batch_size = 8", "batch_size = [4, 20]"), ("steps = 60", "epochs = 6"))
    assert frame["temperature_axis"].eq("batch_size").all()
    cells = frame.drop_duplicates("cell").set_index("batch_size")
    assert cells["temperature"].to_dict() == {4: 0.0125, 20: 0.0025}
    assert cells["steps"].to_dict() == {4: 60, 20: 12}
    assert cells["epochs"].to_dict() == {4: 6, 20: 6}
    assert set(frame["budget"]) == {"6 epochs"}
    assert frame["rfi_temperature_up_points"].notna().sum() == frame["rfi_temperature_down_points"].notna().sum() == 3


def test_settings_that_are_not_compared_lie_side_by_side(tmp_path):
    frame = variant(
        tmp_path,
        ("weight_decay = 5e-4", 'weight_decay = [0.0, 0.1]\noptimizer = ["sgd", "adamw"]'),
        ("[0.0]", "[0.0, 0.1]"),
    )
    assert len(frame) == 2 * 2 * 2 * 3
    assert frame["cell"].nunique() == 8
    assert frame[list(RFI_COLUMNS)].isna().all().all()
    assert frame["label_verdict"].eq("censored").all()


def test_what_a_stack_cannot_hold_is_trained_in_a_loop_and_says_so(tmp_path):
    image = ('"digits"', '"digits?shape=image"')
    frame = variant(tmp_path, image, ('"mlp"', '"resnet18"'), ("width = 6", "width = 2"), ("0.05", "0.01"))
    assert frame["trained"].eq("loop").all()
    assert frame["diverged"].eq(0).all()
    assert frame["connectivity_barrier_percent"].notna().all()


def test_a_network_that_diverged_is_kept_and_marked(tmp_path):
    frame = variant(tmp_path, ("learning_rate = 0.05", "learning_rate = [0.05, 1e30]"))
    hot = frame["learning_rate"] == 1e30
    assert frame.loc[hot, "diverged"].eq(1).all()
    assert frame.loc[~hot, "diverged"].eq(0).all()
    assert frame.loc[hot, "train_error_percent"].isna().all()
    assert frame.loc[hot, "gain_test_error_percent"].between(80, 100).all()
    assert frame.loc[~hot, "label_temperature"].eq("censored").all()  # the way back in does not help the cold cell


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mlp"', '"resnet18"', "resnet18"),
        ('"mlp"', '"mlp?colour=3"', "unknown option 'colour' of mlp"),
        ('"digits"', '"npz:none.npz"', "none.npz does not exist"),
        ('"digits"', '"letters"', "unknown data set 'letters'"),
        ("[40, 80]", "[40, 5000]", "5000"),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_is_trained(tmp_path, old, new, message):
    file = tmp_path / "wrong.toml"
    file.write_text(SPECIFICATION.replace(old, new))
    with pytest.raises(InputError, match=message):
        build_zoo(read_spec(file), tmp_path / "wrong.csv")
    assert not list(tmp_path.glob("wrong.csv*"))


def test_units_are_cut_by_a_rule_on_layers(specification):
    assert [unit.name for unit in plan_units(read_spec(specification))] == [
        "w3-n40-e0",
        "w3-n80-e0",
        "w6-n40-e0",
        "w6-n80-e0",
    ]


def test_a_row_holds_what_diagnose_measures(specification, built, tmp_path):
    """A network of the zoo, saved and opened again, measures to the same six digits."""
    frame = read_zoo(built)
    spec = read_spec(specification)
    drawn = frame[(frame["seed"] == 0) & (frame["learning_rate"] == 0.05) & (frame["width"] == 6)].head(1).copy()
    drawn["file"] = "sample"
    written = write_samples(spec, drawn, tmp_path)
    assert [row["cell"] for row in written] == drawn["cell"].tolist()
    record = measure(
        tmp_path / "sample.pt", Sources(siblings=(tmp_path / "sample.sibling.pt",)), protocol=spec.protocol
    )
    row = drawn.iloc[0]
    for name in METRICS:
        assert float(f"{record.metrics[name].value:.6g}") == row[name], name
    assert record.recipe["learning_rate"] == 0.05
    assert record.metrics["parameter_count"].value == row["parameter_count"]


def rows_of(verdicts, noise=0.0):
    """Held-out cells with given verdicts, two networks each."""
    cells = [(f"{verdict}{i}", verdict, seed) for i, verdict in enumerate(verdicts) for seed in range(2)]
    frame = pd.DataFrame(cells, columns=["cell", "label_verdict", "seed"])
    return frame.assign(sibling_seed=1 - frame["seed"], label_noise=noise, split="held_out")


ALL = ["temperature_too_high", "temperature_too_low", "model_too_small", "too_little_data", "healthy"]


def test_samples_are_the_first_of_their_kind_and_one_has_label_noise():
    table = pd.concat([rows_of(ALL * 6), rows_of(["healthy"], noise=0.1).assign(cell="noisy")], ignore_index=True)
    drawn = draw_samples(table, seed=0)
    assert len(drawn) == 8
    assert set(drawn["label_verdict"].iloc[:5]) == set(ALL)
    assert drawn["label_verdict"].iloc[5:].is_unique
    assert (drawn["label_noise"] > 0).any()
    assert draw_samples(table, seed=0)["file"].tolist() == drawn["file"].tolist()
    assert drawn["file"].is_unique


def test_samples_come_from_clear_held_out_cells_only():
    table = rows_of([*ALL * 3, "ambiguous", "censored"])
    table.loc[table.index[0], "label_verdict"] = "healthy"
    drawn = draw_samples(table, seed=0)
    assert "temperature_too_high0" not in set(drawn["cell"])
    assert not set(drawn["label_verdict"]) & {"ambiguous", "censored"}
    with pytest.raises(InputError, match="no clear held-out cell is healthy"):
        draw_samples(table[table["label_verdict"] != "healthy"], seed=0)
    with pytest.raises(InputError, match="no clear held-out cell"):
        draw_samples(table.assign(split="fit"), seed=0)
