"""A diagnosis written to TensorBoard, MLflow and Weights & Biases, and read back by their own readers."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tracker_stores as stores
import wandb_file
from tensorboard.plugin_util import markdown_to_safe_html
from test_diagnoser import record_of, small_diagnoser
from torch.utils.tensorboard import SummaryWriter
from tracker_stores import mlflow, wandb

from mdtree.diagnoser import diagnose_record
from mdtree.errors import InputError
from mdtree.integrations import mlflow as to_mlflow
from mdtree.integrations import tensorboard as to_tensorboard
from mdtree.integrations import wandb as to_wandb
from mdtree.integrations.trackers import Logged, logged
from mdtree.report import diagnosis_text

HOSTILE = "<img src=x onerror=alert(1)>\n# [link](http://evil.example)\r```\r![](http://evil.example/a.png)\u2028# b.pt"


def cold(name="a.pt"):
    record = record_of(errors={"log_weight_growth": 0.01}, log_weight_growth=0.5, train_error_percent=20.0)
    record = dataclasses.replace(record, checkpoint={**record.checkpoint, "path": name})
    return diagnose_record(small_diagnoser(), record)


def written(folder, **options):
    to_tensorboard.log_diagnosis(cold(**options), folder, 7, diagnoser=small_diagnoser())
    return stores.event_folder(folder)


def test_tensorboard_holds_every_number_at_its_step(tmp_path):
    events = written(tmp_path)
    numbers = logged(cold()).numbers
    assert sorted(events.Tags()["scalars"]) == sorted(numbers)
    for name, value in numbers.items():
        scalar = stores.only_scalar(events, name)
        assert (scalar.step, scalar.value) == (7, np.float32(value))


def test_tensorboard_shows_the_drawn_path_pixel_by_pixel(tmp_path):
    events = written(tmp_path)
    assert events.Tags()["images"] == ["mdtree/decision_path"]
    image, size, step = stores.only_image(events, "mdtree/decision_path")
    picture = logged(cold(), small_diagnoser()).picture
    assert (size, step) == (picture.shape[:2], 7)
    assert np.array_equal(image, picture)


def test_tensorboard_tells_the_verdict_and_the_report(tmp_path):
    events = written(tmp_path)
    assert stores.only_text(events, "mdtree/verdict") == "    temperature_too_low"
    report = stores.only_text(events, "mdtree/report")
    assert [line[4:] for line in report.splitlines()] == diagnosis_text(cold()).splitlines()
    assert set(re.findall("<[^>]*>", markdown_to_safe_html(report))) == {"<pre>", "<code>", "</code>", "</pre>"}


def test_what_looks_like_markup_in_a_file_stays_text_in_tensorboard(tmp_path):
    to_tensorboard.write_folder(tmp_path, Logged({}, {"verdict": "![](x.png)"}, HOSTILE, None, {}), 0)
    events = stores.event_folder(tmp_path)
    for name, words in (("report", "evil.example/a.png"), ("verdict", "![](x.png)")):
        shown = markdown_to_safe_html(stores.only_text(events, f"mdtree/{name}"))
        assert words in shown
        assert re.findall("<[^>]*>", shown) == ["<pre>", "<code>", "</code>", "</pre>"]


def test_a_writer_of_the_users_stays_open(tmp_path):
    writer = SummaryWriter(tmp_path)
    to_tensorboard.log_diagnosis(cold(), writer)
    writer.add_scalar("loss", 0.5, 8)
    writer.close()
    events = stores.event_folder(tmp_path)
    assert stores.only_scalar(events, "mdtree/confidence").step == 0
    assert stores.only_scalar(events, "loss").value == 0.5
    assert len(list(tmp_path.iterdir())) == 1
    assert events.Tags()["images"] == []  # another diagnoser's path is not drawn


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in a file, and an experiment whose artefacts lie beside it."""
    folder = tmp_path_factory.mktemp("mlflow")
    client = stores.sqlite_store(folder)
    client.create_experiment("digits", artifact_location=(folder / "artifacts").as_uri())
    return client, f"sqlite:///{folder}/mlflow.db"


def test_mlflow_holds_metrics_tags_params_and_artefacts(store, tmp_path):
    client, uri = store
    before = mlflow.get_tracking_uri(), mlflow.active_run()
    run = to_mlflow.MLflowRun(tracking_uri=uri, experiment="digits", name="first")
    run_id = to_mlflow.log_diagnosis(cold(), run, 7, diagnoser=small_diagnoser())
    assert (mlflow.get_tracking_uri(), mlflow.active_run()) == before

    everything = logged(cold(), small_diagnoser())
    found = client.get_run(run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert client.get_experiment(found.info.experiment_id).name == "digits"
    assert found.data.metrics == everything.numbers
    assert [one.step for one in client.get_metric_history(run_id, "mdtree/confidence")] == [7]
    tags = {name: value for name, value in found.data.tags.items() if name.startswith("mdtree.")}
    assert tags == {f"mdtree.{name}": value for name, value in everything.words.items()}
    assert found.data.params == {"mdtree.evidence": "alone", "mdtree.diagnoser": "small", "mdtree.protocol": "p"}

    files = {file.path: file.file_size for file in client.list_artifacts(run_id, "mdtree")}
    assert files == {f"mdtree/{name}": len(content) for name, content in everything.files.items()}
    values = json.loads(stores.artifact(client, run_id, "mdtree/diagnosis.json", tmp_path))
    assert values["verdict"] == "temperature_too_low"
    picture = stores.pixels(stores.artifact(client, run_id, "mdtree/decision_path.png", tmp_path))
    assert np.array_equal(picture, everything.picture)
    assert "Verdict" in stores.artifact(client, run_id, "mdtree/report.txt", tmp_path).decode()


def test_a_second_diagnosis_of_a_run_moves_its_tags_and_leaves_its_params(store):
    client, uri = store
    experiment = client.get_experiment_by_name("digits").experiment_id
    run_id = client.create_run(experiment).info.run_id
    client.set_terminated(run_id, "KILLED")
    run = to_mlflow.MLflowRun(run_id, uri)
    assert to_mlflow.log_diagnosis(cold(), run) == run_id
    later = dataclasses.replace(cold(), verdict="undetermined", diagnoser={**cold().diagnoser, "evidence": "sibling"})
    to_mlflow.log_diagnosis(later, run)
    found = client.get_run(run_id)
    assert found.info.status == "KILLED"
    assert found.data.tags["mdtree.verdict"] == "undetermined"
    assert found.data.tags["mdtree.evidence"] == "sibling"
    assert found.data.params["mdtree.evidence"] == "alone"


def test_mlflows_active_run_is_written_to_and_without_one_the_error_says_what_to_do(store, tmp_path):
    client, uri = store
    with pytest.raises(InputError, match=r"no MLflow run is active.*mlflow.start_run\(\)"):
        to_mlflow.log_diagnosis(cold())
    with stores.kept_in(tmp_path):
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run(experiment_id=client.get_experiment_by_name("digits").experiment_id) as run:
            assert to_mlflow.log_diagnosis(cold()) == run.info.run_id
            assert mlflow.active_run().info.run_id == run.info.run_id
        assert to_mlflow.log_diagnosis(cold(), run, 9) == run.info.run_id  # ended, and named
    steps = [one.step for one in client.get_metric_history(run.info.run_id, "mdtree/confidence")]
    assert sorted(steps) == [0, 9]


def test_a_run_that_is_not_in_the_store_is_named(store):
    with pytest.raises(InputError, match="there is no MLflow run 0123abcd"):
        to_mlflow.log_diagnosis(cold(), to_mlflow.MLflowRun("0123abcd", store[1]))


def test_a_new_run_that_could_not_be_written_is_marked_as_failed(store, monkeypatch):
    client, uri = store

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", full)
    with pytest.raises(OSError, match="no space left"):
        to_mlflow.log_diagnosis(cold(), to_mlflow.MLflowRun(tracking_uri=uri, experiment="digits", name="broken"))
    experiment = client.get_experiment_by_name("digits").experiment_id
    [broken] = [run for run in client.search_runs([experiment]) if run.info.run_name == "broken"]
    assert broken.info.status == "FAILED"


def offline_run(folder, name, **options):
    """The file of a run that a diagnosis was written to."""
    with stores.kept_in(folder), wandb.init(project="digits", settings=wandb.Settings(disable_git=True)) as run:
        to_wandb.log_diagnosis(cold(name), run, 7, **options)
    [file] = folder.glob("wandb/offline-run-*/run-*.wandb")
    return file, run.id


def test_weights_and_biases_keeps_it_offline(tmp_path):
    with pytest.raises(InputError, match="no run of Weights & Biases is open"):
        to_wandb.log_diagnosis(cold())
    file, run_id = offline_run(tmp_path, "a.pt", diagnoser=small_diagnoser())
    everything = logged(cold(), small_diagnoser())
    [row] = wandb_file.history(file)
    assert row["_step"] == 7
    assert {name: row[name] for name in everything.numbers} == everything.numbers
    picture = (file.parent / "files" / row["mdtree/decision_path/path"]).read_bytes()
    assert np.array_equal(stores.pixels(picture), everything.picture)
    page = (file.parent / "files" / row["mdtree/report/path"]).read_bytes()
    assert page == everything.files["report.html"]

    summary = wandb_file.summary(file)
    assert {name: summary[f"mdtree/{name}"] for name in everything.words} == everything.words
    [artifact] = wandb_file.artifacts(file)
    assert (artifact.name, artifact.type) == (f"mdtree-{run_id}", "diagnosis")
    files = {one.path: Path(one.local_path).read_bytes() for one in artifact.manifest.contents}
    assert files == everything.files


def test_without_an_html_report_the_text_is_escaped(tmp_path):
    file, _ = offline_run(tmp_path, "</pre><script>alert(1)</script>")
    [row] = wandb_file.history(file)
    assert "mdtree/decision_path/path" not in row
    page = (file.parent / "files" / row["mdtree/report/path"]).read_text()
    assert re.findall("<[^>]*>", page) == ["<pre>", "</pre>"]
    assert "&lt;script&gt;alert(1)" in page
