"""Zoos built for real, small: the same bytes whatever the workers and interruptions, and what `diagnose` measures."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from mdtree.diagnose import Sources, measure
from mdtree.errors import InputError
from mdtree.grid import build_zoo
from mdtree.grid_spec import read_spec
from mdtree.samples import draw_samples, write_samples
from mdtree.zoo import COLUMNS, METRICS, read_zoo

SPECIFICATION = """
family = "tiny"
seeds = 3
[data]
name = "digits"
seed = 0
train = [40, 80]
label_noise = [0.0]
[model]
name = "mlp"
width = [3, 6]
[training]
learning_rate = [0.003, 0.05]
batch_size = 8
steps = 60
momentum = 0.9
weight_decay = 5e-4
schedule = "constant_then_linear"
stacked = true
[held_out]
share = 0.5
seed = 1
[protocol]
curve_steps = 20
"""


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    file = tmp_path_factory.mktemp("specification") / "tiny.toml"
    file.write_text(SPECIFICATION)
    return file


@pytest.fixture(scope="module")
def built(specification, tmp_path_factory):
    table = tmp_path_factory.mktemp("built") / "tiny.csv"
    seen = []
    result = build_zoo(read_spec(specification), table, workers=1, progress=seen.append)
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


def test_the_number_of_workers_does_not_show(specification, built, tmp_path):
    build_zoo(read_spec(specification), tmp_path / "two.csv", workers=2)
    assert (tmp_path / "two.csv").read_bytes() == built.read_bytes()


def test_killed_and_resumed_it_is_the_same_table(specification, built, tmp_path):
    table = tmp_path / "killed.csv"
    command = [sys.executable, "-m", "mdtree", "zoo", "build", str(specification), "-o", str(table), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    partial = table.with_name("killed.csv.partial")
    deadline = time.monotonic() + 120
    while not list(partial.glob("w*.csv")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {file.name: file.stat().st_mtime_ns for file in partial.glob("w*.csv")}
    assert 1 <= len(finished) < 4
    assert not table.exists()
    result = build_zoo(read_spec(specification), table, workers=1)
    assert result.trained == 24 - 6 * len(finished)
    assert table.read_bytes() == built.read_bytes()


def test_a_finished_table_is_left_alone(specification, built):
    before = built.stat().st_mtime_ns
    assert build_zoo(read_spec(specification), built).trained == 0
    assert built.stat().st_mtime_ns == before


def test_another_specification_does_not_touch_what_is_there(specification, built, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(SPECIFICATION.replace("[3, 6]", "[3, 7]"))
    with pytest.raises(InputError, match=r"another zoo than this specification plans \(12 of 24 networks\)"):
        build_zoo(read_spec(other), built)
    partial = tmp_path / "half.csv.partial"
    partial.mkdir()
    (partial / "specification.json").write_text("{}")
    with pytest.raises(InputError, match="unfinished zoo of another specification"):
        build_zoo(read_spec(other), tmp_path / "half.csv")


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
