"""Reading a folder that a training left: Hugging Face, accelerate, timm, a distributed checkpoint.

Which weights are taken: the folder's own, never those of a subfolder, and of several kinds the first of
`WEIGHT_FILES`. What tells of the training beside them is read as data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import FileContents, read_checkpoint_file
from mdtree.reading.distributed_checkpoint import read_distributed_checkpoint
from mdtree.reading.other_folders import checkpoint_files, refuse_folder, step_folders
from mdtree.reading.side_files import read_side_files
from mdtree.reading.weight_shards import combined_contents, read_shards
from mdtree.specification import listing, shown

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model_fsdp.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
)
"""The names under which a folder's own weights are looked for, the first one that is there."""

MAX_ENTRIES = 100_000
_FURTHER_MODEL = re.compile(r"(?:pytorch_)?model_(\d{1,3})\.(?:safetensors|bin)")


def read_checkpoint_folder(path: Path) -> FileContents:
    """Read a folder with weights in it.

    Parameters
    ----------
    path : Path
        The folder: of ``save_pretrained``, of the Hugging Face ``Trainer`` (``checkpoint-500``), of
        ``Accelerator.save_state``, of timm's hub, of ``torch.distributed.checkpoint`` (Lightning's sharded ones too),
        or one with a single checkpoint file.

    Returns
    -------
    FileContents
        `content` is one state dict, or the nested dict that was saved. Several models of accelerate stand under
        ``model``, ``model_1`` ... `sha256` is that of the weight file; of several it is what
        ``sha256sum FILES | sha256sum`` prints in the folder, names sorted. `size` is that of the weight files. In
        `beside` the files of `mdtree.reading.side_files.read_side_files`.

    Raises
    ------
    InputError
        If there are no weights, or several and none is the folder's own, or a file of them is missing, damaged or
        hostile; the sentence says what to give instead.
    ResourceError
        If they do not fit into memory.
    """
    names = _names(path)
    contents = _weights(path, names)
    side = read_side_files(path)
    steps = step_folders(path, names)
    notes = [*contents.notes, *side.notes]
    if steps and "trainer_state.json" not in side.files and (path / steps[-1] / "trainer_state.json").is_file():
        notes.append(
            f"the record of the training stands in {steps[-1]}/trainer_state.json, which may be of other weights, "
            "and was not read"
        )
    return replace(
        contents,
        beside={**contents.beside, **side.files},
        unknown=tuple(dict.fromkeys((*contents.unknown, *side.unknown))),
        notes=tuple(dict.fromkeys(notes)),
    )


def files_beside(path: Path) -> dict[str, Any]:
    """The files that tell of the training of a weight file inside a folder of `read_checkpoint_folder`.

    Parameters
    ----------
    path : Path
        ``.../checkpoint-500/model.safetensors``. A file of another name stands for itself: what is beside it may have
        nothing to do with it.

    Returns
    -------
    dict of str to object
        `FileContents.beside`; empty for a file of a name that is none of `WEIGHT_FILES`.
    """
    return read_side_files(path.parent).files if path.name in WEIGHT_FILES else {}


def _names(path: Path) -> set[str]:
    try:
        with os.scandir(path) as entries:
            names = {entry.name for entry in islice(entries, MAX_ENTRIES + 1)}
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path} cannot be read ({reason})", "a folder with weights in it") from error
    if len(names) > MAX_ENTRIES:
        raise InputError(f"{path} holds more than {MAX_ENTRIES:,} files", "a folder with weights in it")
    return names


def _weights(path: Path, names: set[str]) -> FileContents:
    found = [name for name in WEIGHT_FILES if name in names and (path / name).is_file()]
    if found:
        return _own_weights(path, found, names)
    for folder in (path, path / "pytorch_model_fsdp_0"):
        if (folder / ".metadata").is_file():
            return read_distributed_checkpoint(folder)
    refuse_folder(path, names)
    files = checkpoint_files(names)
    if len(files) == 1:
        contents = read_checkpoint_file(path / files[0])
        return replace(contents, notes=(*contents.notes, f"{shown(files[0])} is the only checkpoint in the folder"))
    raise InputError(
        f"{path} holds {len(files)} checkpoints ({listing(files)})",
        "one",
        f"give one of them, such as {path}/{shown(files[-1])}",
    )


def _own_weights(path: Path, found: list[str], names: set[str]) -> FileContents:
    file = path / found[0]
    contents = read_shards(file) if file.suffix == ".json" else read_checkpoint_file(file)
    alike = [name for name in names if Path(name).suffix == file.suffix]
    further = {int(match[1]): name for name in sorted(alike) if (match := _FURTHER_MODEL.fullmatch(name))}
    if further:
        contents = _several(path, contents, found[0], dict(sorted(further.items())))
    notes = list(contents.notes)
    if len(found) > 1:
        notes.append(f"{found[0]} was read, not {listing(found[1:])}")
    if "adapter_config.json" in names:
        notes.append("the folder holds an adapter too (adapter_config.json), which is not part of these weights")
    if "modules.json" in names:
        notes.append("a folder of sentence-transformers: these are the weights of its first module alone")
    return replace(contents, notes=tuple(notes))


def _several(path: Path, first: FileContents, name: str, further: Mapping[int, str]) -> FileContents:
    """The models that one ``Accelerator.save_state`` wrote, each under a key of its own."""
    parts = {number: read_checkpoint_file(path / file) for number, file in further.items()}
    together = combined_contents({name: first, **{further[number]: part for number, part in parts.items()}})
    models = {f"model_{number}": part.content for number, part in parts.items()}
    return replace(together, content={"model": first.content, **models})
