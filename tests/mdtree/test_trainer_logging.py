"""A run of the Hugging Face Trainer that ends with its diagnosis where it reports to, read back from there."""

import logging
import os
import socket
import warnings

import numpy as np
import pytest
import tracker_stores as stores
import transformers
from real_text import docstring_sentences, save_word_pieces
from test_diagnoser import record_of
from test_end_to_end_trainer import Sentences, fit
from transformers import AutoTokenizer, TrainingArguments
from transformers.integrations import TensorBoardCallback
from wandb_file import history

import mdtree.integrations.transformers
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.errors import InputError
from mdtree.integrations.trackers import logged
from mdtree.integrations.transformers import DiagnosisCallback
from mdtree.integrations.transformers_logging import Reporters

ROWS = 64
STEPS = ROWS // 32  # of one epoch: batches of 16, two to a step


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Sentences to train on and to test with, few enough to be measured in seconds."""
    rows = docstring_sentences(64)
    folder = save_word_pieces(tmp_path_factory.mktemp("words") / "pieces", [text for text, _ in rows])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = sorted({topic for _, topic in rows})
    return [Sentences(part, tokenizer, names) for part in (rows[:ROWS], rows[ROWS : 2 * ROWS])]


def reporting(folder, parts, *reports, callbacks=(), **options):
    """One epoch that reports there and ends with a diagnosis; the callback, and the warnings of this project."""
    callback = DiagnosisCallback(diagnose=True, report=lambda _: None, **options)
    said = []
    with stores.kept_in(folder) as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(logging.getLogger("mdtree"), "warning", lambda text, *parts: said.append(text % parts))
        fit(folder, "out", 3, parts, [*callbacks, callback], num_train_epochs=1, report_to=list(reports))
    return callback, said


@pytest.fixture(scope="module")
def run(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    callback, said = reporting(folder, parts, "tensorboard", "mlflow", "wandb")
    assert said == []
    return folder, logged(callback.diagnosis)


@pytest.mark.slow
def test_tensorboard_holds_it_beside_the_runs_own_numbers(run):
    folder, everything = run
    [board] = {file.parent for file in folder.rglob("events.out.tfevents.*")}
    events = stores.event_folder(board)
    for name, value in everything.numbers.items():
        scalar = stores.only_scalar(events, name)
        assert (scalar.step, scalar.value) == (STEPS, np.float32(value))
    assert "mdtree/metrics/hessian_top_eigenvalue" in everything.numbers
    image, size, step = stores.only_image(events, "mdtree/decision_path")
    assert (size, step) == (everything.picture.shape[:2], STEPS)
    assert np.array_equal(image, everything.picture)
    assert stores.only_text(events, "mdtree/verdict").strip() == everything.words["verdict"]
    assert stores.only_scalar(events, "eval/accuracy").step == STEPS  # the run's own


@pytest.mark.slow
def test_mlflows_run_holds_it_and_is_finished(run, tmp_path):
    folder, everything = run
    client = stores.sqlite_store(folder)
    [found] = client.search_runs(["0"])
    assert found.info.status == "FINISHED"
    assert found.data.tags["mdtree.verdict"] == everything.words["verdict"]
    assert {name: found.data.metrics[name] for name in everything.numbers} == everything.numbers
    assert found.data.metrics["eval_accuracy"] > 0  # the run's own
    assert client.get_metric_history(found.info.run_id, "mdtree/confidence")[0].step == STEPS
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        picture = stores.artifact(client, found.info.run_id, "mdtree/decision_path.png", tmp_path)
    assert np.array_equal(stores.pixels(picture), everything.picture)


@pytest.mark.slow
def test_weights_and_biases_counts_the_trainers_steps(run):
    folder, everything = run
    [file] = folder.glob("wandb/offline-run-*/run-*.wandb")
    [row] = [row for row in history(file) if "mdtree/confidence" in row]
    assert {name: row[name] for name in everything.numbers} == everything.numbers
    assert int(row["train/global_step"]) == STEPS
    assert (file.parent / "files" / row["mdtree/decision_path/path"]).is_file()


@pytest.fixture
def already_measured(monkeypatch):
    """Measuring gives a diagnosis made before."""
    found = diagnose_record(default_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=20.0))
    monkeypatch.setattr(mdtree.integrations.transformers, "diagnose_at_end", lambda *_: found)
    return found


@pytest.mark.slow
def test_nothing_is_logged_where_that_is_not_wanted(parts, tmp_path, already_measured):
    callback, said = reporting(tmp_path, parts, "tensorboard", log=False)
    assert callback.diagnosis is already_measured
    [file] = tmp_path.rglob("events.out.tfevents.*")
    assert not [name for name in stores.event_folder(file.parent).Tags()["scalars"] if name.startswith("mdtree")]
    assert said == []


@pytest.mark.slow
def test_a_writer_elsewhere_is_warned_of_with_what_to_call(parts, tmp_path, already_measured):
    from torch.utils.tensorboard import SummaryWriter

    own = TensorBoardCallback(SummaryWriter(tmp_path / "elsewhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.trainer, "get_reporting_integration_callbacks", lambda _: [])
        _, said = reporting(tmp_path, parts, "tensorboard", callbacks=[own])
    [line] = said
    assert line.startswith("mdtree: the diagnosis is not in TensorBoard (InputError:")
    assert "mdtree.integrations.tensorboard.log_diagnosis(callback.diagnosis, WRITER)" in line


def arguments(folder, *reports):
    return TrainingArguments(output_dir=str(folder), report_to=list(reports), use_cpu=True)


def event_file(folder, number, process=None):
    folder.mkdir(parents=True)
    process = process or os.getpid()
    file = folder / f"events.out.tfevents.1700000000.{socket.gethostname()}.{process}.{number}"
    file.write_bytes(b"")
    return file


def folder_written(reporters, args, monkeypatch):
    """Where TensorBoard's part would go."""
    from mdtree.integrations import tensorboard

    went = []
    monkeypatch.setattr(tensorboard, "write_folder", lambda folder, everything, step: went.append((folder, step)))
    [(_, write)] = reporters.writers(args, 5)
    write(None)
    [found] = went
    return found


def test_the_latest_writer_of_this_process_is_followed(tmp_path, monkeypatch):
    """A search of hyper-parameters opens one writer after the other; another process may report beside this one."""
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    latest = event_file(tmp_path / "runs" / "a", 10)
    event_file(tmp_path / "runs" / "b", 9)
    event_file(tmp_path / "runs" / "c", 11, process=1)
    assert folder_written(Reporters(), arguments(tmp_path, "tensorboard"), monkeypatch) == (latest.parent, 5)


def test_the_folder_of_the_environment_is_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "boards"))
    event_file(tmp_path / "out" / "runs" / "a", 2)
    there = event_file(tmp_path / "boards", 1)
    assert folder_written(Reporters(), arguments(tmp_path / "out", "tensorboard"), monkeypatch)[0] == there.parent


def test_only_what_the_trainer_reports_to_is_written(tmp_path):
    def names(*reports):
        return [name for name, _ in Reporters().writers(arguments(tmp_path, *reports), 1)]

    assert names() == []
    assert names("mlflow") == ["MLflow"]
    assert names("wandb", "tensorboard") == ["TensorBoard", "Weights & Biases"]


def test_a_run_of_mlflow_that_never_was_is_said(tmp_path):
    reporters = Reporters()
    reporters.note(arguments(tmp_path, "mlflow"))
    [(_, write)] = reporters.writers(arguments(tmp_path, "mlflow"), 1)
    with pytest.raises(InputError, match="no run of MLflow was active"):
        write(None)
