"""Weights that are spread over several files of a folder, and what may be read there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.reading.checkpoint_files import FileContents, read_checkpoint_file
from mdtree.reading.safetensors_file import MAX_TENSORS
from mdtree.record import read_json
from mdtree.specification import listing, shown

MAX_JSON_BYTES = 16 * 2**20
MAX_SHARDS = 10_000
COPY_AGAIN = "save or copy it again"


def inside(folder: Path, name: str, named_in: Path) -> Path:
    """The path of a file that another file of the folder names.

    A link is followed wherever it leads: the Hugging Face cache is made of them, and the user chose the folder. The
    name itself has to stay in the folder.

    Raises
    ------
    InputError
        If the name is absolute or holds ``..``, or no regular file with something in it stands there.
    """
    parts = PureWindowsPath(name)  # takes / and \ apart, and knows what is absolute on either system
    if not name or parts.anchor or ".." in parts.parts:
        raise InputError(f"{named_in} names {shown(name) or 'an empty path'}", f"files inside {folder}", COPY_AGAIN)
    path = folder / name
    if not name.isprintable():
        raise InputError(f"{named_in} names {shown(name)}", "names of files", COPY_AGAIN)
    try:
        exists = path.exists()
    except OSError as error:  # longer than names may be
        raise InputError(f"{named_in} names {shown(name)}", "names of files", COPY_AGAIN) from error
    if not exists:
        raise InputError(f"{path} does not exist, but {named_in.name} names it", "", "copy the whole folder again")
    return regular_file(path)


def read_side_json(path: Path) -> Any:
    """Parse a JSON file of at most 16 MB that stands beside weights.

    Raises
    ------
    InputError
        If it is no regular file, too large, or not JSON.
    """
    size = regular_file(path).stat().st_size
    if size > MAX_JSON_BYTES:
        raise InputError(f"{path} has {size:,} bytes", f"at most {MAX_JSON_BYTES:,} of JSON")
    return read_json(path)


def read_shards(index: Path) -> FileContents:
    """Read the weights that ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json`` lists.

    Parameters
    ----------
    index : Path
        Holds ``weight_map``: the file of every tensor.

    Returns
    -------
    FileContents
        One dict of all tensors, in the order of the index. `sha256` is that of `combined_sha256`.

    Raises
    ------
    InputError
        If the index is damaged, a shard is missing or leads out of the folder, or holds other tensors than the index
        says.
    """
    folder = index.parent
    weight_map = _weight_map(index)
    parts: dict[str, FileContents] = {}
    found: dict[str, Tensor] = {}
    placed: dict[str, set[str]] = {}
    for key, name in weight_map.items():
        placed.setdefault(name, set()).add(key)
    for name in sorted(placed):
        part = read_checkpoint_file(inside(folder, name, index))
        parts[name] = part
        found.update(_tensors(part, placed[name], folder / name, index))
    is_safetensors = next(iter(parts.values())).metadata is not None
    together = combined_contents(parts)
    return replace(
        together,
        content={name: found[name] for name in weight_map},
        layout=f"{'safetensors' if is_safetensors else 'torch.save'} in {len(parts)} shard{'s' * (len(parts) > 1)}",
    )


def combined_contents(parts: Mapping[str, FileContents]) -> FileContents:
    """What is to be said of several weight files of one folder; `content` is that of the first."""
    first = next(iter(parts.values()))
    sha256 = digest_of({name: part.sha256 for name, part in parts.items()})
    notes = tuple(dict.fromkeys(note for part in parts.values() for note in part.notes))
    if len(parts) > 1 and first.metadata is not None:  # one sentence for all files
        notes = (f"safetensors payloads carry no checksum: compare what sha256sum FILES | sha256sum prints, {sha256}",)
    return replace(
        first,
        sha256=sha256,
        size=sum(part.size for part in parts.values()),
        unknown=tuple(dict.fromkeys(name for part in parts.values() for name in part.unknown)),
        notes=notes,
    )


def combined_sha256(folder: Path, names: Iterable[str]) -> str:
    """One hash for several files: what ``sha256sum NAMES | sha256sum`` prints in the folder, names sorted.

    A single file keeps its own.
    """
    hashes = {}
    for name in names:
        with open(folder / name, "rb") as handle:
            hashes[name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return digest_of(hashes)


def digest_of(hashes: Mapping[str, str]) -> str:
    """`combined_sha256` of files whose hashes are known."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def _weight_map(index: Path) -> dict[str, str]:
    content = read_side_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise InputError(f"{index} does not tell which file holds which tensor", "a weight_map", COPY_AGAIN)
    if len(weight_map) > MAX_TENSORS or len(set(weight_map.values())) > MAX_SHARDS:
        raise InputError(
            f"{index} lists {len(weight_map):,} tensors in {len(set(weight_map.values())):,} files",
            f"at most {MAX_TENSORS:,} in {MAX_SHARDS:,}",
        )
    return weight_map


def _tensors(part: FileContents, expected: set[str], shard: Path, index: Path) -> dict[str, Tensor]:
    """The tensors of one shard, which are those that the index places there and no others."""
    content = part.content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{shard} holds other things than tensors", "the shard of a state dict", COPY_AGAIN)
    missing = sorted(expected - set(content))
    extra = sorted(str(name) for name in content if name not in expected)
    faults = [f"lacks {listing(missing)}"] if missing else []
    faults += [f"holds {listing(extra)}"] if extra else []
    if faults:
        raise InputError(
            f"{shard} {' and '.join(faults)}, against {index.name}",
            "the tensors that the index places there",
            "copy the whole folder again",
        )
    return dict(content)
