"""A Lightning run that ends with its diagnosis in the trainer's own loggers, read back by their readers."""

import csv
import importlib.util
import logging
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import tracker_stores as stores
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning_project import NETS
from torch.utils.data import DataLoader, Subset
from wandb_file import history

from mdtree.integrations.lightning import DiagnosisCallback
from mdtree.integrations.trackers import logged

pytestmark = pytest.mark.slow


class Unreachable(Logger):
    """A logger whose server is gone."""

    name, version = "unreachable", 0

    def log_metrics(self, metrics, step=None):
        if "mdtree/confidence" in metrics:
            raise ConnectionError("no route to host")

    def log_hyperparams(self, params, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def nets(tmp_path_factory, mdtree_data):
    """The user's module, and a set small enough to be measured in a second."""
    file = tmp_path_factory.mktemp("project") / "nets.py"
    file.write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDTREE_DATA", str(mdtree_data))
        spec = importlib.util.spec_from_file_location("nets_that_log", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        train, test = (Subset(part, range(128)) for part in module.images())
    return module, {"train": train, "test": test}


def fit(nets, folder, loggers, **options):
    """One epoch, and the diagnosis at its end."""
    module, parts = nets
    callback = DiagnosisCallback(network="net", diagnose=True, data=lambda: parts, report=lambda _: None, **options)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            default_root_dir=folder, max_epochs=1, accelerator="cpu", devices=1, logger=loggers, log_every_n_steps=1,
            callbacks=[callback], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(module.LitNet(), DataLoader(parts["train"], batch_size=32))  # fmt: skip
    return callback.diagnosis


STEPS = 4


@pytest.fixture(scope="module")
def run(nets, tmp_path_factory):
    """A run with every kind of logger, one of them broken."""
    folder = tmp_path_factory.mktemp("run")
    said = []
    with stores.kept_in(folder) as patch:
        patch.setattr(logging.getLogger("mdtree"), "warning", lambda text, *parts: said.append(text % parts))
        loggers = [
            Unreachable(),
            TensorBoardLogger(folder, name="board", version="1"),
            MLFlowLogger(experiment_name="digits", tracking_uri=f"sqlite:///{folder}/mlflow.db"),
            CSVLogger(folder, name="csv", version="1"),
            WandbLogger(project="digits", save_dir=folder),
        ]
        diagnosis = fit(nets, folder, loggers)
    return folder, loggers, logged(diagnosis), said


def test_tensorboard_holds_numbers_figure_and_report(run):
    folder, _, everything, _ = run
    events = stores.event_folder(folder / "board" / "1")
    for name, value in everything.numbers.items():
        scalar = stores.only_scalar(events, name)
        assert (scalar.step, scalar.value) == (STEPS, np.float32(value))
    assert "mdtree/metrics/train_error_percent" in everything.numbers
    image, size, step = stores.only_image(events, "mdtree/decision_path")
    assert (size, step) == (everything.picture.shape[:2], STEPS)
    assert np.array_equal(image, everything.picture)
    assert stores.only_text(events, "mdtree/verdict").strip() == everything.words["verdict"]
    assert len(events.Scalars("train_acc")) == 1  # the run's own


def test_mlflows_run_of_the_trainer_holds_it_and_is_finished(run, tmp_path):
    folder, loggers, everything, _ = run
    client, run_id = stores.sqlite_store(folder), loggers[2].run_id
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["mdtree.verdict"] == everything.words["verdict"]
    assert {name: found.data.metrics[name] for name in everything.numbers} == everything.numbers
    assert client.get_metric_history(run_id, "mdtree/confidence")[0].step == STEPS
    picture = stores.pixels(stores.artifact(client, run_id, "mdtree/decision_path.png", tmp_path))
    assert np.array_equal(picture, everything.picture)


def test_weights_and_biases_counts_the_trainers_steps(run):
    folder, _, everything, _ = run
    [file] = folder.glob("wandb/offline-run-*/run-*.wandb")
    [row] = [row for row in history(file) if "mdtree/confidence" in row]
    assert {name: row[name] for name in everything.numbers} == everything.numbers
    assert int(row["trainer/global_step"]) == STEPS
    assert (file.parent / "files" / row["mdtree/decision_path/path"]).is_file()


def test_a_logger_of_numbers_gets_the_numbers(run):
    folder, _, everything, _ = run
    with open(folder / "csv" / "1" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mdtree/confidence"]]
    [row] = rows
    assert int(row["step"]) == STEPS
    assert {name: float(row[name]) for name in everything.numbers} == everything.numbers


def test_a_logger_that_fails_does_not_fail_the_run(run):
    *_, said = run
    assert said == ["mdtree: the diagnosis is not in Unreachable (ConnectionError: no route to host)"]


def test_nothing_is_logged_where_that_is_not_wanted(nets, tmp_path):
    board = TensorBoardLogger(tmp_path, name="board", version="1")
    assert fit(nets, tmp_path, board, log=False) is not None
    assert not [name for name in stores.event_folder(board.log_dir).Tags()["scalars"] if name.startswith("mdtree")]
