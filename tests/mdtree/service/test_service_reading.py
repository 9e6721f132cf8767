"""Uploads are read by a child that no file can harm, under the names of their clients, and each as if it lay alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_files import OPENED_FILES, REFUSED_FILES, RUNNING, Hostile
from safetensors.torch import save_file
from service_forking import Ended, ForkingProcess

from mdtree.checkpoint import open_checkpoint
from mdtree.checkpoint_saving import save_checkpoint
from mdtree.data import load_data
from mdtree.models import build_model
from mdtree.service.jobs import Blame
from mdtree.service.work.confinement import End
from mdtree.service.work.endings import Ending
from mdtree.service.work.handing_over import read_checkpoint, read_data
from mdtree.service.work.outcomes import failure_of
from mdtree.service.work.reading import UploadedFile, Uploads, read_uploads, sibling

SPARE = 2**30
NAMED = {"model_spec": "mlp?width=3", "data_spec": "digits"}
FILES = [*RUNNING, *REFUSED_FILES, *OPENED_FILES]


def import_what_reads() -> None:
    """As a worker does before its first job."""
    import safetensors.torch
    import torch.utils.serialization

    assert safetensors.torch
    assert torch.utils.serialization


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkingProcess]:
    process = ForkingProcess(tmp_path_factory.mktemp("errors") / "errors", import_what_reads)
    yield process
    process.close()


def uploaded(file: Path, folder: Path, name: str | None = None) -> UploadedFile:
    """A file as the server keeps it: alone, under a name of the server's."""
    kept = folder / f"upload{file.suffix}"
    folder.mkdir(parents=True)
    shutil.move(file, kept)
    return UploadedFile(kept, name or file.name)


def read(forking: ForkingProcess, uploads: Uploads, work: Path) -> Ended:
    """What the first child of a job does, within its default limits."""
    work.mkdir()
    given = (uploads.checkpoint, *uploads.siblings, uploads.start, uploads.data)
    most = 4 * max(file.path.stat().st_size for file in given if file is not None) + SPARE
    return forking.run(partial(read_uploads, uploads, work), memory=most, file=most, processes=False)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of this package."""
    file = tmp_path / "run7.pt"
    save_checkpoint(file, build_model("mlp?width=3&inputs=64&classes=10", seed=1), **NAMED)
    return file


@pytest.mark.parametrize("case", FILES[::6], ids=lambda case: case.name)
def test_a_part_of_the_hostile_collection(case: Hostile, forking: ForkingProcess, tmp_path: Path) -> None:
    """A file is refused with its sentence, or opened where only something beside good weights is wrong.

    The whole collection goes the whole way in `test_service_hostile_uploads`.
    """
    (tmp_path / "made").mkdir()
    marker = tmp_path / "marker"
    file = case.build(tmp_path / "made", str(marker))
    upload = uploaded(file, tmp_path / "files" / "1", file.name)
    ending = read(forking, Uploads(upload), tmp_path / "work").ending
    assert not marker.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "made", "work"]
    if case.opens:
        assert ending.end is End.RETURNED
        assert read_checkpoint(tmp_path / "work" / "checkpoint").path == Path(file.name)
    else:
        assert ending.end is End.REFUSED
        assert re.search(case.sentence, ending.message)
        failure = failure_of(ending, "reading", 60, SPARE, [str(tmp_path)])
        assert failure.blame is Blame.INPUT
        assert "\n" not in failure.message
        assert not re.search(r"--\w|/upload|trust", failure.message)


def test_who_has_no_path_is_not_told_to_check_it(forking: ForkingProcess, tmp_path: Path) -> None:
    (tmp_path / "holiday.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    upload = uploaded(tmp_path / "holiday.pt", tmp_path / "files" / "1")
    ending = read(forking, Uploads(upload), tmp_path / "work").ending
    assert ending.message.endswith("check the path")
    failure = failure_of(ending, "reading", 60, SPARE, [])
    assert failure.message == "holiday.pt is a picture; expected a checkpoint"


def test_files_are_known_by_the_names_of_their_clients(forking: ForkingProcess, saved: Path, tmp_path: Path) -> None:
    """Even where two clients' files have one name, or a name that is another file's kind."""
    files = [shutil.copy(saved, tmp_path / f"{number}.pt") for number in range(3)]
    first, second, start = (
        uploaded(file, tmp_path / "files" / str(number), "model.npz") for number, file in enumerate(files)
    )
    ended = read(forking, Uploads(first, (second,), start), tmp_path / "work")
    assert ended.ending.end is End.RETURNED
    for name in ("checkpoint", sibling(0), "start"):
        opened = read_checkpoint(tmp_path / "work" / name)
        assert (opened.path, opened.model_spec, opened.beside) == (Path("model.npz"), "mlp?width=3", {})
        assert opened.sha256 == open_checkpoint(saved).sha256


def test_nothing_beside_a_file_is_seen(forking: ForkingProcess, tmp_path: Path) -> None:
    """A config.json beside the weights tells the network; of two uploads neither lies beside the other."""
    weights = {"weight": torch.ones(2, 2)}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["X"]}')
    assert list(open_checkpoint(tmp_path / "model.safetensors").beside) == ["config.json"]
    upload = uploaded(tmp_path / "model.safetensors", tmp_path / "files" / "1")
    shutil.move(tmp_path / "config.json", upload.path.parent)
    assert read(forking, Uploads(upload), tmp_path / "work").ending.end is End.RETURNED
    opened = read_checkpoint(tmp_path / "work" / "checkpoint")
    assert (opened.beside, opened.network, opened.framework) == ({}, None, "pytorch")


def test_weights_are_chosen_for_the_checkpoint_and_its_siblings(forking: ForkingProcess, tmp_path: Path) -> None:
    holds_two = {"model": {"weight": torch.zeros(2, 2)}, "model_ema": {"weight": torch.ones(2, 2)}}
    for number in range(2):
        torch.save(holds_two, tmp_path / f"{number}.pt")
    torch.save({"weight": torch.full((2, 2), 3.0)}, tmp_path / "start.pt")
    first, second, start = (
        uploaded(tmp_path / f"{name}.pt", tmp_path / "files" / name) for name in ("0", "1", "start")
    )
    ended = read(forking, Uploads(first, (second,), start, weights="model_ema"), tmp_path / "work")
    assert ended.ending.end is End.RETURNED
    found = [read_checkpoint(tmp_path / "work" / name).state["weight"] for name in ("checkpoint", sibling(0), "start")]
    assert [float(weight.mean()) for weight in found] == [1.0, 1.0, 3.0]


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize("suffix", ["npz", "dat"])
def test_data_are_read_by_what_they_are(
    form: str, suffix: str, forking: ForkingProcess, saved: Path, tmp_path: Path
) -> None:
    arrays = {"x_train": np.random.default_rng(1).random((30, 64), np.float32), "y_train": np.arange(30) % 10}
    file = tmp_path / f"sample.{suffix}"
    with open(file, "wb") as handle:
        if form == "npz":
            np.savez(handle, **arrays)
    if form == "safetensors":
        save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, file)
    expected = load_data(f"{form}:{file.name}?train=20&seed=3", tmp_path)
    data = uploaded(file, tmp_path / "files" / "2")
    uploads = Uploads(uploaded(saved, tmp_path / "files" / "1"), data=data, data_options={"train": "20", "seed": "3"})
    assert read(forking, uploads, tmp_path / "work").ending.end is End.RETURNED
    given = read_data(tmp_path / "work" / "data")
    assert given.specification == expected.specification == f"{form}:sample.{suffix}?train=20&seed=3"
    assert torch.equal(given.train_tensor, expected.train_tensor)
    assert torch.equal(given.y_train, expected.y_train)


def refusal(ending: Ending, folder: Path) -> str:
    failure = failure_of(ending, "reading", 60, SPARE, [str(folder)])
    assert failure.blame is Blame.INPUT
    return failure.message


def test_data_that_are_none_are_refused_by_their_names(forking: ForkingProcess, saved: Path, tmp_path: Path) -> None:
    checkpoint = uploaded(saved, tmp_path / "files" / "1")
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n" * 10)
    np.savez(tmp_path / "mine.npz", x_train=np.zeros((3, 2)))
    np.savez(tmp_path / "old.npz", x_train=np.array([{}], dtype=object), y_train=np.zeros(1))
    np.savez(tmp_path / "good.npz", x_train=np.zeros((4, 64), np.float32), y_train=np.arange(4) % 2)
    sentences = {
        "mine.csv": "mine.csv is neither a numpy archive nor a safetensors file; expected x_train, y_train and perhaps "
        "x_test, y_test saved by numpy.savez or safetensors",
        "mine.npz": "mine.npz holds x_train; expected x_train, y_train and perhaps x_test, y_test",
        "old.npz": "old.npz is no numpy archive of plain arrays; expected x_train, y_train, x_test, y_test saved by "
        "numpy.savez",
        "good.npz": "unknown option 'shuffle' of npz; expected one of train, label_noise, seed, test, only, classes",
    }
    for number, (name, sentence) in enumerate(sentences.items()):
        data = uploaded(tmp_path / name, tmp_path / "files" / name)
        uploads = Uploads(checkpoint, data=data, data_options={"shuffle": "yes"} if name == "good.npz" else {})
        ending = read(forking, uploads, tmp_path / f"work{number}").ending
        assert refusal(ending, tmp_path) == sentence


def test_an_archive_that_unpacks_to_more_than_memory(forking: ForkingProcess, saved: Path, tmp_path: Path) -> None:
    """1.2 GB of zeros in about a megabyte."""
    np.savez_compressed(tmp_path / "b.npz", x_train=np.zeros((2000, 600_000), np.uint8), y_train=np.arange(2000) % 2)
    assert (tmp_path / "b.npz").stat().st_size < 2 * 2**20
    uploads = Uploads(
        uploaded(saved, tmp_path / "files" / "1"), data=uploaded(tmp_path / "b.npz", tmp_path / "files" / "2")
    )
    ending = read(forking, uploads, tmp_path / "work").ending
    assert ending.end is End.OUT_OF_MEMORY
    failure = failure_of(ending, "reading", 60, SPARE, [])
    assert (failure.blame, failure.message) == (
        Blame.RESOURCES,
        "reading takes more memory than this server allows (1.0 GiB); send a smaller network or fewer samples",
    )


def test_overlapping_tensors_cannot_fill_the_disk(forking: ForkingProcess, tmp_path: Path) -> None:
    """Many tensors in the bytes of one: apart they are 2,000 times as large."""
    table = torch.zeros(2**20)
    torch.save({f"name{number}": table[number : 2**20 - number] for number in range(1, 2000)}, tmp_path / "x.pt")
    upload = uploaded(tmp_path / "x.pt", tmp_path / "files" / "1")
    (tmp_path / "work").mkdir()
    function = partial(read_uploads, Uploads(upload), tmp_path / "work")
    ending = forking.run(function, file=32 * 2**20, memory=2**30).ending
    assert ending.end is End.FILE_TOO_LARGE
    assert (tmp_path / "work" / "checkpoint.safetensors").stat().st_size <= 32 * 2**20


def test_progress_names_the_file(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[tuple[str, float]] = []
    shutil.copy(saved, tmp_path / "other.pt")
    files = [uploaded(file, tmp_path / "files" / file.name) for file in (saved, tmp_path / "other.pt")]
    read_uploads(Uploads(files[0], (files[1],)), tmp_path, lambda text, share: said.append((text, share)))
    assert said == [("run7.pt", 0.0), ("other.pt", 0.5)]
