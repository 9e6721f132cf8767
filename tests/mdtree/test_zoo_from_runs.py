"""Forty checkpoints of a plain training loop become a zoo, a diagnoser and a verdict: three commands, as a stranger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

README = Path(__file__).parents[2] / "README.md"


def user_loop() -> str:
    """The training loop that the README shows."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return next(block for block in blocks if "train_runs.py" in block)


def run(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(README.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def mdtree(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "mdtree", *words, code=code)


SOURCES = ("--model", "train_runs:net", "--data", "train_runs:data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder after training: 40 checkpoints and a table of them."""
    place = tmp_path_factory.mktemp("runs")
    (place / "train_runs.py").write_text(user_loop())
    run(place, "train_runs.py")
    assert len(list(place.glob("*.pt"))) == 40
    return place


@pytest.fixture(scope="module")
def zoo(folder: Path) -> dict[str, object]:
    """The zoo of all runs, `zoo.csv` in the folder; what the command printed as JSON."""
    done = mdtree(folder, "zoo", "measure", "runs.csv", "-o", "zoo.csv", *SOURCES, "--workers", "2", "--json")
    assert "cannot answer data: train size does not vary" in done.stderr
    return json.loads(done.stdout)


def test_the_loop_is_short_and_plain() -> None:
    lines = [line for line in user_loop().splitlines() if line.strip()]
    assert len(lines) < 20
    assert "mdtree" not in user_loop()


@pytest.mark.slow
def test_measure_train_diagnose(folder: Path, zoo: dict[str, object]) -> None:
    assert (zoo["rows"], zoo["measured"]) == (40, 40)
    assert zoo["questions"] == {
        "temperature": "yes",
        "model_size": "width does not vary",
        "data": "train size does not vary",
        "verdict": "yes",
    }
    table = pd.read_csv(folder / "zoo.csv")
    assert table["parameter_distance"].notna().all()
    rate, cause = table["learning_rate"], table["label_verdict"]
    assert set(cause[rate == 3e-4]) == {"temperature_too_low"}
    assert set(cause[rate == 0.06]) == {"healthy"}
    assert set(cause[rate == 1]) == {"temperature_too_high"}

    mdtree(folder, "train", "zoo.csv", "-o", "my.json")
    truth = {"r0.001": "temperature_too_low", "r0.06": "healthy", "r0.2": "temperature_too_high"}
    for name, expected in truth.items():
        words = (f"{name}-s0.pt", "--sibling", f"{name}-s1.pt", *SOURCES, "--diagnoser", "my.json", "--no-cache")
        said = json.loads(mdtree(folder, "diagnose", *words, "--json").stdout)
        assert said["verdict"] == expected
        assert {"not_told:model_too_small", "not_told:too_little_data"} <= set(said["flags"])


@pytest.mark.slow
def test_a_row_is_what_measure_says_of_the_checkpoint(folder: Path, zoo: dict[str, object]) -> None:
    # the same halves of the test set, the same sibling: the next seed of the cell, of the last the first
    table = pd.read_csv(folder / "zoo.csv").set_index(["learning_rate", "seed"])
    (folder / "halves.py").write_text(
        "from train_runs import data\n"
        "def first():\n    a, b, c, d = data()\n    return a, b, c[:len(d) // 2], d[:len(d) // 2]\n"
    )
    files = ("r0.03-s3.pt", "--sibling", "r0.03-s0.pt")
    specs = ("--model", "train_runs:net", "--data", "halves:first")
    metrics = json.loads(mdtree(folder, "measure", *files, *specs, "--no-cache", "--json").stdout)["metrics"]
    row = table.loc[(0.03, 3)]
    assert row["sibling_seed"] == 0
    for name in ("train_loss", "test_error_percent", "hessian_trace", "parameter_distance", "cka"):
        assert row[name] == pytest.approx(metrics[name]["value"], rel=6e-6)
    assert row["connectivity_barrier_loss"] == pytest.approx(metrics["connectivity_barrier_loss"]["value"], abs=0.02)


@pytest.mark.slow
def test_killed_it_goes_on_and_gives_the_same_bytes(folder: Path, zoo: dict[str, object]) -> None:
    words = [sys.executable, "-m", "mdtree", "zoo", "measure", "runs.csv", "-o", "again.csv", *SOURCES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(README.parent)}
    parts = folder / "again.csv.partial" / "parts"
    with subprocess.Popen([*words, "--workers", "1"], cwd=folder, env=environment) as first:
        while len(list(parts.glob("*.csv"))) < 3:
            assert first.poll() is None
            time.sleep(0.02)
        refused = mdtree(folder, *words[3:], code=2)
        assert f"again.csv is being built by process {first.pid} on host" in refused.stderr
        first.send_signal(signal.SIGKILL)
    finished = len(list(parts.glob("*.csv")))
    done = mdtree(folder, *words[3:], "--workers", "1", "--json")
    assert json.loads(done.stdout)["measured"] == 4 * (10 - finished)
    assert (folder / "again.csv").read_bytes() == (folder / "zoo.csv").read_bytes()
    assert not (folder / "again.csv.partial").exists()
    # once more: nothing is left to do
    assert json.loads(mdtree(folder, *words[3:], "--json").stdout)["measured"] == 0


def test_bad_input_is_one_clear_line(folder: Path) -> None:
    good = (folder / "runs.csv").read_text()

    def refused(text: str, *words: str) -> str:
        (folder / "bad.csv").write_text(text)
        done = mdtree(folder, "zoo", "measure", "bad.csv", "-o", "bad_zoo.csv", *(words or SOURCES), code=2)
        errors = [line for line in done.stderr.splitlines() if line.startswith("mdtree: ")]
        assert len(errors) == 1, done.stderr
        assert not (folder / "bad_zoo.csv").exists()
        return errors[0]

    missing = refused(good.replace("-s3.pt", "-s9.pt"))
    assert "10 of 40 checkpoints are missing: r0.0003-s9.pt, " in missing
    assert "and 5 more" in missing
    (folder / "broken.pt").write_bytes(b"not a checkpoint")
    assert "bad.csv, line 2: broken.pt " in refused(
        good.replace("r0.0003-s0.pt", "broken.pt"), *SOURCES, "--workers", "1"
    )
    assert "line 2: the weights in r0.0003-s0.pt under 0 do not fit the network" in refused(
        good, "--model", "torch.nn:Linear?in_features=64&out_features=5", "--data", "train_runs:data", "--workers", "1"
    )
    assert "line 2: neither the table nor the checkpoint names its model; give --model SPEC" in refused(
        good, "--data", "train_runs:data"
    )
    assert "asks for the column 'wide'; expected one of path, seed, learning_rate" in refused(
        good, "--model", "train_runs:net?width={wide}", "--data", "train_runs:data"
    )


def test_given_test_errors_do_without_test_data_and_say_so(folder: Path) -> None:
    (folder / "few.py").write_text(
        "from train_runs import data, net\ndef train_only():\n    return tuple(data()[:2])\n"
    )
    lines = (folder / "runs.csv").read_text().splitlines()
    kept = [f"{line},{0.9 - 0.01 * n}" for n, line in enumerate(lines[1:]) if "-s0.pt" in line][:5]
    (folder / "given.csv").write_text("\n".join([lines[0] + ",test_accuracy", *kept]) + "\n")
    specs = ("--model", "few:net", "--data", "few:train_only", "--workers", "1")
    done = mdtree(folder, "zoo", "measure", "given.csv", "-o", "given_zoo.csv", *specs, "--json")
    table = pd.read_csv(folder / "given_zoo.csv")
    assert table["gain_test_error_percent"].tolist() == [10, 14, 18, 22, 26]
    assert table["test_error_percent"].tolist() == [10, 14, 18, 22, 26]
    assert table["test_loss"].isna().all()
    assert set(table["label_verdict"]) == {"censored"}
    notices = json.loads(done.stdout)["notices"]
    assert any("test errors as given stand for the test metrics and for the gains" in notice for notice in notices)
    assert any("5 networks have no sibling" in notice for notice in notices)
    assert "cannot answer temperature: labels need 3 seeds in a cell, and there is 1 at most" in done.stderr
    # and the diagnoser that nobody can fit on it is refused in one line
    no = mdtree(folder, "train", "given_zoo.csv", "-o", "no.json", code=2).stderr
    assert "fewer than two verdicts (censored 5)" in no

    (folder / "given.csv").write_text("\n".join([lines[0], *lines[1:6]]) + "\n")
    no = mdtree(folder, "zoo", "measure", "given.csv", "-o", "other.csv", *specs, code=2).stderr
    assert "given.csv, line 2: no test error, and few:train_only has no test data" in no


def test_a_diverged_run_is_kept_and_marked(folder: Path) -> None:
    import torch

    lines = (folder / "runs.csv").read_text().splitlines()
    broken = torch.load(folder / "r1-s1.pt", weights_only=True)
    torch.save({name: value * torch.nan for name, value in broken.items()}, folder / "nan.pt")
    kept = [line for line in lines[1:] if line.startswith(("r1-", "r0.4-"))]
    kept = [line.replace("r1-s1.pt", "nan.pt") for line in kept]
    (folder / "diverged.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    done = mdtree(folder, "zoo", "measure", "diverged.csv", "-o", "diverged_zoo.csv", *SOURCES, "--workers", "1")
    assert "1 networks diverged: they are kept with their test error, and not measured" in done.stderr
    table = pd.read_csv(folder / "diverged_zoo.csv").set_index(["learning_rate", "seed"])
    assert table["diverged"].sum() == table.loc[(1, 1), "diverged"] == 1
    assert table.loc[(1, 1), "gain_test_error_percent"] > 80
    assert pd.isna(table.loc[(1, 1), "train_loss"])
    assert pd.isna(table.loc[(1, 0), "parameter_distance"])  # its sibling is the one that diverged
    assert pd.notna(table.loc[(1, 2), "parameter_distance"])
