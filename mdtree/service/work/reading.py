"""Reading what clients uploaded, in a child process: the one place of the service where their bytes are understood.

Every file is opened under the name that its client knows, through a link that lies alone in a folder: reports and
errors then name what the client knows, and nothing of the server's folders, nor a file beside it, can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mdtree.checkpoint import open_checkpoint
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.service.work.confinement import Report
from mdtree.service.work.handing_over import write_checkpoint, write_data
from mdtree.specification import Specification

CHECKPOINT, START, DATA = "checkpoint", "start", "data"
"""What is handed over, by name; siblings are those of `sibling`."""

_DATA_FORMS = {b"PK\x03\x04": "npz", b"PK\x05\x06": "npz"}


@dataclass(frozen=True)
class UploadedFile:
    """Where an upload lies, and what its client calls it."""

    path: Path
    name: str


@dataclass(frozen=True)
class Uploads:
    """The files of one job.

    Attributes
    ----------
    checkpoint : UploadedFile
    siblings : tuple of UploadedFile
    start : UploadedFile or None
        What training started from.
    data : UploadedFile or None
    data_options : mapping of str to str
        Of the data's specification.
    weights : str or None
        Which weights of the checkpoint and its siblings.
    """

    checkpoint: UploadedFile
    siblings: tuple[UploadedFile, ...] = ()
    start: UploadedFile | None = None
    data: UploadedFile | None = None
    data_options: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None


def sibling(number: int) -> str:
    """The name under which a sibling is handed over."""
    return f"sibling-{number}"


def read_uploads(uploads: Uploads, work: Path, say: Report) -> None:
    """Read the files of one job, one after another, and hand each over in `work` (see `handing_over`).

    The current directory is another one afterwards: meant for a process of its own.

    Raises
    ------
    InputError
        One of them cannot be used; it is named as its client names it.
    ResourceError
        One of them does not fit into memory.
    """
    files = {CHECKPOINT: uploads.checkpoint, START: uploads.start}
    files |= {sibling(number): file for number, file in enumerate(uploads.siblings)}
    given = [(name, file) for name, file in files.items() if file is not None]
    total = len(given) + (uploads.data is not None)
    for number, (name, file) in enumerate(given):
        say(file.name, number / total)
        _enter_alone(work, name, file)
        weights = None if name == START else uploads.weights
        write_checkpoint(open_checkpoint(Path(file.name), weights=weights), work / name)
    if uploads.data is not None:
        say(uploads.data.name, len(given) / total)
        _enter_alone(work, DATA, uploads.data)
        specification = _data_specification(uploads.data, uploads.data_options)
        write_data(load_data(str(specification), Path()), work / DATA)


def _enter_alone(work: Path, name: str, file: UploadedFile) -> None:
    """Make a folder in which nothing lies but the file, under the client's name for it, the current one."""
    if Path(file.name).name != file.name:
        raise ValueError("the name of an upload is a path")  # they are made harmless when they come
    folder = work / "opened" / name
    folder.mkdir(parents=True)
    os.symlink(file.path.absolute(), folder / file.name)
    os.chdir(folder)


def _data_specification(file: UploadedFile, options: Mapping[str, str]) -> Specification:
    """How the command line would name the file: by what its first bytes show it to be."""
    with open(file.path, "rb") as handle:
        head = handle.read(9)
    form = _DATA_FORMS.get(head[:4]) or ("safetensors" if head[8:9] == b"{" else None)
    if form is None:
        raise InputError(
            f"{file.name} is neither a numpy archive nor a safetensors file",
            "x_train, y_train and perhaps x_test, y_test saved by numpy.savez or safetensors",
        )
    return Specification(form, file.name, dict(options))
