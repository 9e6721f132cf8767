"""The command line as people type it: results, JSON, and one line with the right exit code for every bad input."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from synthetic_zoo import synthetic_zoo

from mdtree.checkpoint_saving import save_checkpoint
from mdtree.models import build_model
from mdtree.zoo import EVIDENCE, FAILURES, QUESTIONS, read_zoo, write_zoo

SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


@pytest.fixture(scope="module")
def hot():
    return SAMPLES / "temperature_too_high-1.pt"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    file = tmp_path_factory.mktemp("zoo") / "synthetic.csv"
    write_zoo(synthetic_zoo(), file)
    return file


def test_diagnose_prints_verdict_ranking_path_and_advice(run, hot):
    code, out, _ = run("diagnose", hot, "--sibling", hot.with_suffix(".sibling.pt"))
    assert code == 0
    for part in ("Verdict ", "Causes", "Path  evidence sibling + test", "metrics measured in", "learning rate", "±"):
        assert part in out


def test_diagnose_json_holds_record_and_diagnosis(run, hot):
    code, out, _ = run("diagnose", hot, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["evidence"] == "alone_test"
    assert values["verdict"] in {*FAILURES, "undetermined"}
    assert {c["failure"] for c in values["ranking"]} == set(FAILURES)
    assert sum(c["probability"] for c in values["ranking"]) == pytest.approx(1)
    assert values["recipe"]["optimizer"] == "sgd"


def test_several_checkpoints_give_a_list_in_order(run, hot):
    other = SAMPLES / "healthy-1.pt"
    code, out, _ = run("measure", other, hot, "--json")
    assert code == 0
    assert [Path(v["checkpoint"]["path"]).name for v in json.loads(out)] == [other.name, hot.name]


def test_a_saved_record_is_diagnosed_as_the_checkpoint_was(run, hot, tmp_path):
    _, record, _ = run("measure", hot, "--json")
    (tmp_path / "record.json").write_text(record)
    _, direct, _ = run("diagnose", hot, "--json")
    code, from_record, _ = run("diagnose", tmp_path / "record.json", "--json")
    assert code == 0
    a, b = json.loads(direct), json.loads(from_record)
    assert (a["verdict"], a["ranking"], a["path"]) == (b["verdict"], b["ranking"], b["path"])


def test_a_bare_state_dict_needs_model_and_data_from_the_command_line(run, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def net(width):\n"
        "    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))\n"
        "def data():\n"
        "    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))\n"
        "    return x, (x[:, 0] > 0).long()\n"
    )
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    torch.nn.init.zeros_(model[2].weight)  # it knows nothing: random weights are sometimes right by luck
    torch.nn.init.zeros_(model[2].bias)
    torch.save(model.state_dict(), "bare.pt")
    code, _, err = run("measure", "bare.pt", "--data", "mine:data")
    assert code == 2
    assert "bare.pt does not say which network it is" in err
    assert "write a function that builds it" in err.splitlines()[0]
    assert "mdtree diagnose bare.pt --model nets:make --data npz:FILE" in err
    named = ("--model", "mine:net?width=5", "--data", "mine:data")
    code, _, err = run("measure", "bare.pt", *named)
    assert code == 2  # nobody trained it: the question comes before any measurement
    assert "wrong normalisation, label order or split? Or did it fail to train?" in err
    code, out, err = run("measure", "bare.pt", *named, "--data-checked", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["evidence"] == "alone"
    assert values["metrics"]["parameter_count"]["value"] == 37
    assert "test_loss" in {n["metric"] for n in values["not_measured"]}


def test_the_pyhessian_back_end_agrees(run, hot):
    _, ours, _ = run("measure", hot, "--json")
    code, theirs, _ = run("measure", hot, "--backend", "pyhessian", "--json")
    assert code == 0
    ours, theirs = json.loads(ours)["metrics"], json.loads(theirs)["metrics"]
    trace = theirs["hessian_trace"]
    assert abs(trace["value"] - ours["hessian_trace"]["value"]) < 5 * trace["standard_error"]
    assert theirs["hessian_top_eigenvalue_magnitude"]["value"] == pytest.approx(
        ours["hessian_top_eigenvalue_magnitude"]["value"], rel=0.02
    )


def test_a_second_run_uses_the_measurement_of_the_first_and_says_so(run, hot):
    _, first, _ = run("measure", hot, "--json")
    _, second, _ = run("measure", hot, "--json")
    first, second = json.loads(first), json.loads(second)
    assert second["cost"].pop("cached") is True
    assert first == second
    _, text, _ = run("diagnose", hot)
    assert "kept from an earlier run (--no-cache measures again)" in " ".join(text.split())
    _, text, _ = run("measure", hot, "--no-cache")
    assert "earlier run" not in text


def test_without_a_cache_nothing_is_written_or_read(run, hot, own_cache):
    code, out, _ = run("measure", hot, "--no-cache", "--json")
    assert code == 0
    assert list(own_cache.iterdir()) == []
    run("measure", hot, "--json")
    before = {file: file.stat().st_mtime_ns for file in own_cache.rglob("*")}
    code, again, _ = run("measure", hot, "--no-cache", "--json")
    assert "cached" not in json.loads(again)["cost"]
    assert {file: file.stat().st_mtime_ns for file in own_cache.rglob("*")} == before
    assert json.loads(again)["metrics"] == json.loads(out)["metrics"]


def test_the_cache_tells_what_it_holds_and_is_cleared(run, hot, own_cache):
    folder = own_cache / "measurements"
    assert run("cache", "info")[:2] == (0, f"{folder}: 0 measurements, 0.0 kB of at most 268.4 MB\n")
    run("measure", hot)
    size = next(folder.iterdir()).stat().st_size
    code, out, _ = run("cache", "info", "--json")
    assert (code, json.loads(out)) == (0, {"folder": str(folder), "entries": 1, "bytes": size, "limit_bytes": 2**28})
    assert run("cache", "clear")[:2] == (0, f"{folder}: removed 1 measurement, {size / 1000:.1f} kB\n")
    code, out, _ = run("cache", "clear", "--json")
    assert (code, json.loads(out)) == (0, {"folder": str(folder), "removed": 0, "bytes": 0})
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_costs_one_line_on_standard_error(hot, tmp_path):
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "MDTREE_CACHE": str(tmp_path / "file")}
    run = subprocess.run(
        [sys.executable, "-m", "mdtree", "measure", str(hot), "--json"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0
    assert "train_loss" in json.loads(run.stdout)["metrics"]
    (line,) = run.stderr.splitlines()
    assert line.startswith("mdtree: the measurement is not kept for the next time: the folder")


def test_precision_and_what_it_runs_on_are_set_by_options(run):
    checkpoint = SAMPLES / "healthy-1.pt"
    words = ("--dtype", "float64", "--threads", "0", "--batch-size", "100", "--budget", "600", "--precision", "0.3")
    code, out, err = run("measure", checkpoint, "--json", *words)
    assert code == 0, err
    values = json.loads(out)
    assert values["execution"] == {
        "device": "cpu", "dtype": "float64", "threads": 0, "batch_size": 100, "budget_seconds": 600.0,
    }  # fmt: skip
    _, plain, _ = run("measure", checkpoint, "--json")
    plain = json.loads(plain)
    changed = {name for name in plain["protocol"] if plain["protocol"][name] != values["protocol"][name]}
    assert changed == {"precision"}  # the same numbers, less exactly: comparable all the same
    assert values["protocol"]["precision"] == 0.3
    train_loss = values["metrics"]["train_loss"]["value"]
    assert train_loss == pytest.approx(plain["metrics"]["train_loss"]["value"], rel=1e-5)
    assert train_loss != plain["metrics"]["train_loss"]["value"]  # float64 was computed in


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--precision", "0", "precision is 0.0; expected a positive finite number"),
        ("--precision", "nan", "precision is nan; expected a positive finite number"),
        ("--budget", "-3", "budget_seconds is -3.0; expected a positive finite number"),
        ("--threads", "-1", "threads is -1; expected an integer of at least 0"),
        ("--batch-size", "0", "batch_size is 0; expected an integer of at least 1"),
        ("--dtype", "half", "dtype is 'half'; expected one of float32, float64"),
    ],
)
def test_an_option_out_of_range_is_one_line_and_exit_2(run, hot, own_cache, option, value, message):
    assert run("measure", hot, option, value) == (2, "", f"mdtree: {message}\n")
    assert list(own_cache.iterdir()) == []


def test_train_then_evaluate(run, zoo, tmp_path):
    code, out, _ = run("train", zoo, "-o", tmp_path / "d.json")
    assert code == 0
    assert "verdict, evidence sibling_test" in out
    code, out, _ = run("evaluate", tmp_path / "d.json", zoo, "--json")
    values = json.loads(out)
    assert code == 0
    assert set(values["questions"]) == set(QUESTIONS)
    assert set(values["questions"]["verdict"]) == set(EVIDENCE)
    code, out, _ = run("evaluate", tmp_path / "d.json", zoo)
    assert code == 0
    assert "majority" in out


def test_one_diagnoser_of_two_zoos(run, zoo, tmp_path):
    table = read_zoo(zoo)
    write_zoo(table.assign(family="other", data_set="elsewhere"), tmp_path / "other.csv")
    code, _, _ = run("train", zoo, tmp_path / "other.csv", "-o", tmp_path / "both.json")
    assert code == 0
    fitted = json.loads((tmp_path / "both.json").read_text())
    assert fitted["name"] == "both"
    assert fitted["zoo"]["data_sets"] == ["elsewhere", "formula"]
    fit = table[table["split"] == "fit"]
    assert (fitted["zoo"]["rows"], fitted["zoo"]["cells"]) == (2 * len(fit), 2 * fit["cell"].nunique())
    code, _, error = run("train", zoo, zoo, "-o", tmp_path / "twice.json")
    assert (code, error) == (2, "mdtree: a zoo table is named twice; expected each table once\n")


def test_label_makes_the_labels_of_a_measured_table(run, zoo, tmp_path):
    code, out, _ = run("zoo", "label", zoo, "-o", tmp_path / "again.csv", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 256
    assert (read_zoo(tmp_path / "again.csv")["label_verdict"] == read_zoo(zoo)["label_verdict"]).all()


def test_an_undetermined_verdict_with_strict_exits_with_4(run, tmp_path):
    """A network that nobody trained, without a gradient of its own to tell by, is not diagnosed."""
    record = {
        "schema_version": 1, "checkpoint": {}, "recipe": {}, "protocol": {}, "execution": {}, "evidence": "alone",
        "metrics": {"train_error_over_chance": {"value": 0.99, "standard_error": 0.0, "samples": 10}},
        "not_measured": [], "series": {}, "layers": [], "cost": {"seconds": 0.0, "sample_gradients": 0.0},
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(record))
    assert run("diagnose", tmp_path / "r.json")[0] == 0
    assert run("diagnose", tmp_path / "r.json", "--strict")[0] == 4


class Evil:
    """What a malicious checkpoint asks for."""

    def __reduce__(self):
        return (os.system, ("touch ran-code",))


def a_model_file(path, change=None):
    model = build_model("mlp?width=4&inputs=64&classes=10", seed=0)
    if change:
        change(model)
    save_checkpoint(path, model, model_spec="mlp?width=4", data_spec="digits?train=50")
    return path


def poison(model):
    with torch.no_grad():
        model.output.weight[0, 0] = float("nan")


def make_bad(kind, folder):
    """The words to type after `mdtree` for each kind of bad input."""
    file = folder / "bad.pt"
    good = a_model_file(folder / "good.pt")
    if kind == "missing":
        return ["diagnose", file]
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        file.write_bytes(good.read_bytes()[:2000])
    elif kind == "html":
        file.write_text("<!DOCTYPE html><html><body>404</body></html>")
    elif kind == "text":
        file.write_text("not a checkpoint\n" * 20)
    elif kind == "code":
        file.write_bytes(pickle.dumps(Evil(), protocol=2))
    elif kind == "nan":
        a_model_file(file, poison)
    elif kind == "keys":
        return ["diagnose", good, "--model", "layernorm_mlp?width=4"]
    elif kind == "shapes":
        return ["diagnose", good, "--model", "mlp?width=5"]
    elif kind == "data":
        return ["diagnose", good, "--data", "digest"]
    elif kind == "labels":
        (folder / "mine.py").write_text(
            "import numpy as np\ndef data():\n    return {'x_train': np.zeros((4, 64), 'float32'),"
            " 'y_train': np.array([0, 1, 2, 11]), 'num_classes': 10}\n"
        )
        return ["diagnose", good, "--data", "mine:data"]
    elif kind == "sibling":
        other = folder / "other.pt"
        save_checkpoint(other, build_model("mlp?width=5&inputs=64&classes=10", seed=1))
        return ["diagnose", good, "--sibling", other]
    elif kind == "same":
        return ["diagnose", good, "--sibling", good]
    elif kind == "device":
        return ["diagnose", good, "--device", "toaster"]
    elif kind == "diagnoser":
        (folder / "d.json").write_text(json.dumps({"schema_version": 99, "trees": {}}))
        return ["diagnose", good, "--diagnoser", folder / "d.json"]
    elif kind == "columns":
        (folder / "zoo.csv").write_text("cell,seed\na,0\n")
        return ["train", folder / "zoo.csv", "-o", folder / "out.json"]
    elif kind == "cells":
        synthetic = synthetic_zoo().astype(object)
        synthetic.loc[3, "hessian_trace"] = "big"
        synthetic.to_csv(folder / "zoo.csv", index=False)
        return ["train", folder / "zoo.csv", "-o", folder / "out.json"]
    return ["diagnose", file]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "bad.pt does not exist"),
        ("empty", "bad.pt is empty: the save or the copy did not finish"),
        ("truncated", "truncated or damaged"),
        ("html", "HTML"),
        ("text", "text"),
        ("code", "asks to call posix.system"),
        ("nan", "output.weight"),
        ("keys", "norm1.weight"),
        ("shapes", "hidden1.weight"),
        ("data", "'digest'"),
        ("labels", "11"),
        ("sibling", "other.pt"),
        ("same", "the same weights"),
        ("device", "the device 'toaster' cannot be used"),
        ("diagnoser", "schema version 99; expected version 1"),
        ("columns", "lacks the columns family, data_set"),
        ("cells", "line 5, column hessian_trace: 'big'"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(run, tmp_path, monkeypatch, kind, message):
    monkeypatch.chdir(tmp_path)
    words = make_bad(kind, tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__")
    code, out, err = run(*words)
    assert code == 2, err
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("mdtree: ")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == before


def test_wrong_words_on_the_command_line(run):
    code, _, err = run("diagnose")
    assert code == 2
    assert "Missing argument" in err
    code, _, err = run("diagnosis")
    assert code == 2
    assert "No such command" in err


def test_our_own_defects_exit_with_70_and_say_where_to_look(run, monkeypatch, hot):
    def broken(*_):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("mdtree.cli.measuring._record", broken)
    code, _, err = run("diagnose", hot)
    assert code == 70
    assert "a defect of mdtree: ZeroDivisionError: by design" in err
    assert "Traceback" not in err
    _, _, err = run("--debug", "diagnose", hot)
    assert "Traceback" in err


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in ("diagnose", "measure", "zoo", "train", "evaluate", "cache"):
        assert name in out
