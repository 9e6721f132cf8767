"""Service, command line and library say the same of a checkpoint, to the byte but for the seconds it took."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from service_forking import ForkingProcess

from mdtree.checkpoint import open_checkpoint
from mdtree.checkpoint_saving import save_checkpoint
from mdtree.cli import main
from mdtree.data import load_data
from mdtree.diagnose import Sources, diagnose
from mdtree.diagnoser import default_diagnoser
from mdtree.models import build_model
from mdtree.service.jobs import DataRequest, JobRequest
from mdtree.service.registry import Registry
from mdtree.service.work.confinement import End, Report
from mdtree.service.work.endings import Ending
from mdtree.service.work.measuring import Task, measure_uploads
from mdtree.service.work.reading import UploadedFile, Uploads, read_uploads

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"
SAMPLE = SAMPLES / "model_too_small-1.pt"
SIBLING = SAMPLES / "model_too_small-1.sibling.pt"
SECONDS = re.compile(r'(?<="seconds": )[\d.e-]+')
NO_NAMES = Registry()


def import_what_measures() -> None:
    """As a worker does before its first job."""
    import mdtree.service.work.children

    assert mdtree.service.work.children


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkingProcess]:
    process = ForkingProcess(tmp_path_factory.mktemp("errors") / "errors", import_what_measures)
    yield process
    process.close()


def measure(request: JobRequest, registry: Registry, work: Path, say: Report) -> None:
    """What the second child of a job does, with the server's folder for its current one."""
    os.chdir(work.parent)
    measure_uploads(Task(request, registry, default_diagnoser()), work, say)


@dataclass(frozen=True)
class Service:
    """The two children of a job, on files as the server keeps them: one in a folder, under names of its own."""

    forking: ForkingProcess
    folder: Path

    def ending(self, request: JobRequest, files: Mapping[str, Path], registry: Registry = NO_NAMES) -> Ending:
        """How the job ended; `files` by what the request calls them."""
        kept = {}
        for number, (id, file) in enumerate(files.items()):
            place = self.folder / "files" / str(number) / f"upload{file.suffix}"
            place.parent.mkdir(parents=True)
            shutil.copy(file, place)
            kept[id] = UploadedFile(place, file.name)
        data = request.data
        uploads = Uploads(
            checkpoint=kept[request.checkpoint],
            siblings=tuple(kept[id] for id in request.siblings),
            start=kept.get(request.init or ""),
            data=kept.get((data and data.file) or ""),
            data_options=data.options if data else {},
            weights=request.weights,
        )
        (self.folder / "work").mkdir()
        ending = self.forking.run(partial(read_uploads, uploads, self.folder / "work"), processes=False).ending
        if ending.end is not End.RETURNED:
            return ending
        return self.forking.run(partial(measure, request, registry, self.folder / "work"), memory=2**33).ending

    def answer(self, request: JobRequest, files: Mapping[str, Path], registry: Registry = NO_NAMES) -> str:
        """The diagnosis, with the line end that the command line prints."""
        ending = self.ending(request, files, registry)
        assert ending.end is End.RETURNED, ending.message
        return (self.folder / "work" / "diagnosis.json").read_text(encoding="utf-8") + "\n"


@pytest.fixture
def service(forking: ForkingProcess, tmp_path: Path) -> Service:
    return Service(forking, tmp_path / "server")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's, and where the command line runs."""
    here = tmp_path / "client"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copy(SAMPLE, here / "run7.pt")
    shutil.copy(SIBLING, here / "run8.pt")
    return here


def printed(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line prints."""
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", *words, "--json", "--no-cache"])
    found = capsys.readouterr()
    assert ended.value.code == 0, found.err
    return found.out


def timeless(text: str) -> str:
    """A diagnosis without the seconds it cost, which stand in it once."""
    assert len(SECONDS.findall(text)) == 1
    return SECONDS.sub("0", text)


def bare(file: Path, to: Path) -> Path:
    """The weights of a checkpoint alone."""
    torch.save(open_checkpoint(file).state, to)
    return to


def arrays() -> dict[str, torch.Tensor]:
    """What the sample was trained on."""
    data = load_data(open_checkpoint(SAMPLE).data_spec or "")
    assert data.x_test is not None
    return {"x_train": data.train_tensor, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}  # type: ignore[dict-item]


def test_a_checkpoint_that_says_everything(service: Service, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three ways: the service, the command line, the library."""
    answer = service.answer(JobRequest("a"), {"a": folder / "run7.pt"})
    assert timeless(answer) == timeless(printed(["run7.pt"], capsys))
    assert timeless(answer) == timeless(diagnose("run7.pt").to_json() + "\n")
    assert json.loads(answer)["checkpoint"]["path"] == "run7.pt"
    summary = json.loads((service.folder / "work" / "summary.json").read_text())
    assert (summary["verdict"], summary["evidence"]) == (json.loads(answer)["verdict"], "alone_test")


def test_a_checkpoint_and_its_sibling(service: Service, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = service.answer(JobRequest("a", ("b",)), {"a": folder / "run7.pt", "b": folder / "run8.pt"})
    assert timeless(answer) == timeless(printed(["run7.pt", "--sibling", "run8.pt"], capsys))
    assert timeless(answer) == timeless(diagnose("run7.pt", siblings=["run8.pt"]).to_json() + "\n")


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_bare_weights_with_uploaded_data_and_a_named_network(
    form: str, service: Service, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare(SAMPLE, folder / "bare.pt")
    sample = folder / f"sample.{form}"
    if form == "npz":
        np.savez(sample, **{name: tensor.numpy() for name, tensor in arrays().items()})
    else:
        save_file(arrays(), sample)
    data = DataRequest("d", {"train": "300", "test": "first_half"})
    answer = service.answer(
        JobRequest("a", data=data, architecture="mlp?width=4"), {"a": folder / "bare.pt", "d": sample}
    )
    specification = f"{form}:sample.{form}?train=300&test=first_half"
    words = ["bare.pt", "--data", specification, "--model", "mlp?width=4"]
    assert timeless(answer) == timeless(printed(words, capsys))
    assert json.loads(answer)["checkpoint"]["data"] == specification


def test_everything_that_can_be_asked_for(service: Service, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which weights, a start, data that are right, a precision; a network that is only recognised."""
    for name, file in (("two.pt", SAMPLE), ("two2.pt", SIBLING)):
        state = open_checkpoint(file).state
        torch.save({"model": state, "model_ema": {key: value * 1.25 for key, value in state.items()}}, folder / name)
    fresh = build_model("mlp?width=4&inputs=64&classes=10", seed=1)
    torch.save(fresh.state_dict(), folder / "start.pt")
    request = JobRequest(
        "a", ("b",), "c", DataRequest(name="digits?train=450"), weights="model_ema", data_checked=True, precision=0.3
    )
    files = {id: folder / name for id, name in {"a": "two.pt", "b": "two2.pt", "c": "start.pt"}.items()}
    answer = service.answer(request, files)
    words = ["two.pt", "--sibling", "two2.pt", "--init", "start.pt", "--data", "digits?train=450", "--weights"]
    words += ["model_ema", "--data-checked", "--precision", "0.3"]
    assert timeless(answer) == timeless(printed(words, capsys))
    sources = Sources(init="start.pt", weights="model_ema")
    assert json.loads(answer)["checkpoint"]["notes"] == list(
        diagnose("two.pt", sources, siblings=["two2.pt"], data="digits?train=450").record.checkpoint["notes"]
    )


def test_what_a_project_on_the_server_says_is_not_asked(
    service: Service, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare(SAMPLE, folder / "bare.pt")
    expected = timeless(printed(["bare.pt", "--data", "digits"], capsys))
    service.folder.mkdir()
    (service.folder / "pyproject.toml").write_text('[tool.mdtree]\nmodel = "os:system"\ndata = "os:system"\n')
    answer = service.answer(JobRequest("a", data=DataRequest(name="digits")), {"a": folder / "bare.pt"})
    assert timeless(answer) == expected
    assert json.loads(answer)["checkpoint"]["model_from"] == "names and shapes"


def registered(tmp_path: Path) -> Registry:
    """A network and data of the operator's, behind names."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "their_nets.py").write_text(
        "from mdtree.models import build_model\n"
        "def make(width, table): return build_model(f'mlp?width={width}&inputs=64&classes=10')\n"
    )
    np.savez(private / "secret.npz", **{name: tensor.numpy() for name, tensor in arrays().items()})
    networks = {"ours": f"their_nets:make?width=4&table={private}/t"}
    data_sets = {"theirs": f"npz:{private}/secret.npz?train=300", "lost": f"npz:{private}/lost.npz"}
    return Registry(networks, data_sets, private)


def test_registered_names_stand_for_what_they_are_and_hide_it(service: Service, folder: Path, tmp_path: Path) -> None:
    request = JobRequest("a", ("b",), data=DataRequest(name="theirs"), architecture="ours")
    files = {"a": folder / "run7.pt", "b": folder / "run8.pt"}
    answer = service.answer(request, files, registered(tmp_path))
    told = json.loads(answer)["checkpoint"]
    assert (told["model"], told["data"]) == ("ours?width=4", "theirs?train=300")
    assert (told["model_from"], told["data_from"]) == ("--model", "--data")
    assert str(tmp_path) not in answer
    assert "their_nets" not in answer
    named_by_path = diagnose("run7.pt", siblings=["run8.pt"], data=registered_data(tmp_path), model="mlp?width=4")
    assert json.loads(answer)["metrics"] == json.loads(named_by_path.to_json())["metrics"]


def registered_data(tmp_path: Path) -> str:
    return f"npz:{tmp_path}/private/secret.npz?train=300"


def refusals(service: Service, tmp_path: Path) -> Iterator[tuple[JobRequest, Path, str]]:
    """Requests that cannot be met, the file, and the sentence."""
    network = build_model("mlp?width=4&inputs=64&classes=10", seed=1)
    calls, plain, own = (tmp_path / name for name in ("calls.pt", "plain.pt", "own.pt"))
    save_checkpoint(calls, network, model_spec="os:system?command=true", data_spec="digits")
    yield (
        JobRequest("a"),
        calls,
        "calls.pt names the network os:system?command=true, which is not known here; expected a registered one; "
        "name its architecture: ours, mlp?width=16",
    )
    save_checkpoint(own, network, model_spec="mlp?width=4", data_spec="npz:/etc/passwd")
    yield (
        JobRequest("a"),
        own,
        "own.pt names the data npz:/etc/passwd, which are not known here; expected its data; send them (x_train, "
        "y_train), or name a data set: theirs, lost, digits",
    )
    torch.save({"odd": torch.zeros(3, 2)}, plain)
    yield (
        JobRequest("a", data=DataRequest(name="digits")),
        plain,
        "plain.pt does not say which network it is (1 tensors, first odd 3×2); name its architecture: ours, "
        "mlp?width=16",
    )
    yield (
        JobRequest("a", architecture="mlp?width=4"),
        plain,
        "plain.pt does not say what it was trained on; expected its data; send them (x_train, y_train), or name a "
        "data set: theirs, lost, digits",
    )
    yield (
        JobRequest("a", data=DataRequest(name="theirs"), architecture="ours"),
        plain,
        "the weights in plain.pt do not fit the network: 6 missing (hidden1.weight, hidden1.bias, hidden2.weight, "
        "hidden2.bias, output.weight and 1 more), 1 unexpected (odd); expected the network they were trained in; "
        "name it with --model package.module:factory?key=value",
    )
    yield (
        JobRequest("a", data=DataRequest(name="digits"), architecture="resnet99"),
        plain,
        "no network named resnet99 is registered here; expected one of ours, mlp, layernorm_mlp, cnn, groupnorm_cnn, "
        "resnet18, vit, gru (such as mlp?width=32)",
    )


def test_what_cannot_be_measured_is_said_in_names_that_a_client_knows(forking: ForkingProcess, tmp_path: Path) -> None:
    registry = registered(tmp_path)
    service = Service(forking, tmp_path)
    for number, (request, file, sentence) in enumerate(refusals(service, tmp_path)):
        ending = Service(forking, tmp_path / str(number)).ending(request, {"a": file}, registry)
        assert (ending.end, ending.message) == (End.REFUSED, sentence)


def test_data_that_the_operator_lost_are_no_fault_of_the_client(service: Service, folder: Path, tmp_path: Path) -> None:
    request = JobRequest("a", data=DataRequest(name="lost"))
    ending = service.ending(request, {"a": folder / "run7.pt"}, registered(tmp_path))
    sentence, cause = ending.message.split("\n", 1)
    assert (ending.end, sentence) == (
        End.FAULT,
        "the data set lost, registered on this server, cannot be loaded",
    )
    assert "lost.npz does not exist" in cause


def test_progress_is_that_of_the_measurement(service: Service, folder: Path) -> None:
    service.answer(JobRequest("a"), {"a": folder / "run7.pt"})
    request = partial(measure, JobRequest("a"), NO_NAMES, service.folder / "work")
    said = service.forking.run(request, memory=2**33).said
    shares = [share for _, share in said]
    assert said[0] == ("", 0.0)
    assert shares == sorted(shares)
