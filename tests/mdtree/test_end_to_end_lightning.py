"""A Lightning run as people have it, trained here and diagnosed with one command; and the callback."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings

import pytest
import torch
from lightning_project import NETS

import mdtree
from mdtree.integrations.lightning import DiagnosisCallback
from mdtree.zoo import FAILURES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory, mdtree_data):
    """A folder with nets.py and two finished runs of it; and the module itself."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MDTREE_DATA", str(mdtree_data))
        spec = importlib.util.spec_from_file_location("a_users_nets", folder / "nets.py")
        nets = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(nets)
        runs = [nets.fit(folder / f"run{seed}", seed) for seed in (1, 2)]
        yield folder, nets, runs


def checkpoint_of(folder, seed):
    [file] = (folder / f"run{seed}" / "checkpoints").glob("*.ckpt")
    return file.relative_to(folder)


def command(folder, mdtree_data, *words):
    environment = {**os.environ, "MDTREE_DATA": str(mdtree_data), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mdtree", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_one_command_diagnoses_a_run_and_its_sibling(project, mdtree_data):
    folder, nets, runs = project
    files = [checkpoint_of(folder, seed) for seed in (1, 2)]
    done = command(
        folder, mdtree_data, "diagnose", files[0], "--sibling", files[1], "--model", "nets:make", "--data", "nets:data",
        "--no-cache", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] in {*FAILURES, "undetermined"}
    assert found["evidence"] == "sibling_test"

    network, train = runs[0][1].net.eval(), nets.images()[0]
    with torch.no_grad():
        error = 100 * float((network(train.tensors[0]).argmax(1) != train.tensors[1]).float().mean())
    assert found["metrics"]["train_error_percent"]["value"] == pytest.approx(error, abs=1e-4)
    assert found["metrics"]["parameter_count"]["value"] == sum(p.numel() for p in network.parameters())

    about = found["checkpoint"]
    assert about["framework"] == "lightning"
    assert about["model_from"] == "--model"
    assert any("loss.weight" in note for note in about["notes"])
    assert about["class_counts"] == torch.bincount(train.tensors[1]).tolist()
    recipe = found["recipe"]
    assert (recipe["learning_rate"], recipe["momentum"], recipe["weight_decay"]) == (0.05, 0.9, 5e-4)
    assert (recipe["epochs"], recipe["steps"], recipe["train_size"]) == (4, 4 * 32, 1024)
    # Lightning writes no batch size down; the samples of an epoch over its steps are one
    assert (recipe["batch_size"], about["recipe_from"]["batch_size"]) == (32, "about: samples x epochs / steps")
    assert "optimizer_states" in about["recipe_from"]["learning_rate"]


def test_inside_the_project_the_path_alone_is_enough(project, mdtree_data):
    folder, _, _ = project
    (folder / "pyproject.toml").write_text('[tool.mdtree]\nmodel = "nets:make"\ndata = "nets:data"\n')
    try:
        done = command(folder, mdtree_data, "measure", checkpoint_of(folder, 1), "--no-cache", "--json")
    finally:
        (folder / "pyproject.toml").unlink()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"]["model_from"] == "[tool.mdtree] in pyproject.toml"


def test_without_a_network_the_error_is_what_to_write(project, mdtree_data):
    folder, _, _ = project
    done = command(folder, mdtree_data, "diagnose", checkpoint_of(folder, 1), "--data", "nets:data")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "does not say which network it is" in done.stderr.splitlines()[0]
    assert f"mdtree diagnose {checkpoint_of(folder, 1)} --model nets:make" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def with_callback(project):
    """A run with the callback, which also diagnoses."""
    folder, nets, _ = project
    told = []
    callback = DiagnosisCallback(
        network="net", model_spec="nets:make", data_spec="nets:data",
        scores={"train_accuracy_percent": "train_acc"}, diagnose=True, report=told.append,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        start = nets.LitNet
        norms = []

        class Kept(start):
            def on_fit_start(self):
                norms.append(sum(float(p.detach().double().square().sum()) for p in self.net.parameters()))

        patch.setattr(nets, "LitNet", Kept)
        trainer, module = nets.fit(folder / "watched", 5, [callback])
    return trainer, module, callback, told, norms[0]


def test_the_callbacks_checkpoints_explain_themselves(project, with_callback, mdtree_data):
    folder, _, _ = project
    trainer, _, _, _, start = with_callback
    opened = mdtree.open_checkpoint(trainer.checkpoint_callback.best_model_path)
    assert (opened.model_spec, opened.data_spec) == ("nets:make", "nets:data")
    assert opened.initial_norm_squared == pytest.approx(start, rel=1e-9)
    assert opened.recipe["batch_size"] == 32
    assert opened.recipe["optimizer"] == "sgd"
    assert 50 < opened.recorded["train_accuracy_percent"].value <= 100

    file = os.path.relpath(trainer.checkpoint_callback.best_model_path, folder)
    refused = command(folder, mdtree_data, "measure", file)
    assert refused.returncode == 2
    assert "nothing that a checkpoint names is called unasked" in refused.stderr
    done = command(folder, mdtree_data, "measure", file, "--trust", "--no-cache", "--json")
    assert done.returncode == 0, done.stderr


def test_the_callback_diagnoses_what_is_in_memory(project, with_callback):
    _, nets, _ = project
    _, module, callback, told, start = with_callback
    [report] = told
    assert "Verdict" in report
    metrics = callback.diagnosis.record.metrics
    end = sum(float(p.detach().double().square().sum()) for p in module.net.parameters())
    assert metrics["log_weight_growth"].value == pytest.approx(math.log(end / start), rel=1e-5)
    train = nets.images()[0].tensors
    with torch.no_grad():
        error = 100 * float((module.net.eval()(train[0]).argmax(1) != train[1]).float().mean())
    assert metrics["train_error_percent"].value == pytest.approx(error, abs=1e-4)


def test_a_resumed_run_keeps_the_norm_of_its_first_start(project, with_callback):
    folder, nets, _ = project
    trainer, _, _, _, start = with_callback
    again = DiagnosisCallback(network="net", model_spec="nets:make", data_spec="nets:data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resumed, _ = nets.fit(
            folder / "resumed", 6, [again], epochs=5, ckpt_path=trainer.checkpoint_callback.best_model_path
        )
    opened = mdtree.open_checkpoint(resumed.checkpoint_callback.best_model_path)
    assert opened.initial_norm_squared == pytest.approx(start, rel=1e-9)
    assert opened.recipe["epochs"] == 5


def test_a_network_that_is_not_there_is_named(project):
    folder, nets, _ = project
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(mdtree.InputError, match="LitNet has no attribute 'backbone'"):
            nets.fit(folder / "wrong", 1, [DiagnosisCallback(network="backbone")])


def test_data_that_cannot_be_used_end_no_training(project, caplog):
    """An exception in the last hook of a run would end a script before it saves its network."""
    folder, nets, _ = project
    told = []
    callback = DiagnosisCallback(network="net", diagnose=True, data=lambda: object(), report=told.append)
    with warnings.catch_warnings(), caplog.at_level("WARNING", "mdtree"):
        warnings.simplefilter("ignore")
        trainer, _ = nets.fit(folder / "unusable", 1, [callback], epochs=1)
    assert trainer.state.finished
    assert callback.diagnosis is None
    assert told == []
    [line] = [one.getMessage() for one in caplog.records if one.name == "mdtree"]
    assert line.startswith("mdtree: no diagnosis at the end of training: the data given")
