"""The ``.metadata`` file of a distributed checkpoint, read without unpickling it.

The stock reader unpickles it, which runs whatever the file asks for. Here `mdtree.reading.metadata_opcodes` turns it
into plain values, and these are checked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.reading.metadata_opcodes import SAVE_AGAIN, Made, Name, evaluated, extent, natural, of
from mdtree.reading.zip_archive import MAX_PICKLE_BYTES
from mdtree.specification import shown

MAX_PIECES = 500_000
MAX_DEPTH = 32


@dataclass(frozen=True)
class Piece:
    """Where one part of a tensor, or one value, is stored.

    Parameters
    ----------
    file : str
        Relative to the checkpoint's folder.
    offset, length : int
        Bytes of that file; they are what ``torch.save`` wrote.
    start, size : tuple of int
        The part of the tensor: its first index and its extent along every dimension. Empty for a value.
    """

    file: str
    offset: int
    length: int
    start: tuple[int, ...] = ()
    size: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a distributed checkpoint: its type, its full size, and its parts that hold any element."""

    dtype: torch.dtype
    size: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class DistributedMetadata:
    """What a distributed checkpoint holds and where.

    Parameters
    ----------
    tensors : mapping of str to StoredTensor
        By name, as ``torch.distributed.checkpoint`` flattened it: "model.0.weight".
    values : mapping of str to Piece
        Everything that is no tensor.
    paths : mapping of str to tuple of str or int
        The place of every name in the nested dict that was saved: ("model", "0.weight"). Integers index lists.
    """

    tensors: Mapping[str, StoredTensor]
    values: Mapping[str, Piece]
    paths: Mapping[str, tuple[str | int, ...]]


def read_distributed_metadata(path: Path) -> DistributedMetadata:
    """Read the ``.metadata`` file of a distributed checkpoint.

    Parameters
    ----------
    path : Path
        The file itself.

    Raises
    ------
    InputError
        If it is missing, too large, damaged, asks for a class that torch does not write there, or contradicts itself.
    """
    regular_file(path)
    size = path.stat().st_size
    if size > MAX_PICKLE_BYTES:
        raise InputError(f"{path} has {size:,} bytes", f"at most {MAX_PICKLE_BYTES:,}")
    try:
        return _interpreted(evaluated(path.read_bytes(), path), path)
    except InputError:
        raise
    except Exception as error:  # pickletools and the walk over damaged data raise a dozen kinds
        raise InputError(f"{path} is truncated or damaged", "", SAVE_AGAIN) from error


def _interpreted(root: Any, path: Path) -> DistributedMetadata:
    fields = _fields(root, "Metadata")
    entries = of(dict, fields["state_dict_metadata"])
    stored: dict[tuple[Any, Any], Piece] = {}
    for index, info in of(dict, fields["storage_data"]).items():
        key = _fields(index, "MetadataIndex")
        offset = key.get("offset")
        start = () if offset is None else extent(offset)
        stored[of(str, key["fqn"]), None if offset is None else start] = _piece(info, start, path)
    tensors, values = {}, {}
    count = 0  # of all tensors: one long list that many tensors share would never end
    for name, entry in entries.items():
        if of(Made, entry).kind == "BytesStorageMetadata":
            values[of(str, name)] = stored[name, None]
            continue
        described = _fields(entry, "TensorStorageMetadata")
        chunks = of(list, described["chunks"])
        count += len(chunks)
        if count > MAX_PIECES:
            raise InputError(f"{path} lists more than {MAX_PIECES:,} pieces of tensors", "fewer", SAVE_AGAIN)
        pieces = tuple(piece for chunk in chunks if (piece := _chunk(chunk, of(str, name), stored, path)))
        tensors[name] = StoredTensor(_dtype(described["properties"]), extent(described["size"]), pieces)
    return DistributedMetadata(tensors, values, _paths(fields.get("planner_data"), entries))


def _piece(info: Any, start: tuple[int, ...], path: Path) -> Piece:
    fields = _fields(info, "_StorageInfo")
    transforms = fields.get("transform_descriptors")
    if transforms:
        names = ", ".join(of(list, transforms)[:3])
        raise InputError(
            f"the tensors of {path.parent} were written through the extension {shown(names)}",
            "tensors as torch.save writes them",
            "save it again without extensions",
        )
    return Piece(of(str, fields["relative_path"]), natural(fields["offset"]), natural(fields["length"]), start)


def _chunk(chunk: Any, name: str, stored: Mapping[tuple[Any, Any], Piece], path: Path) -> Piece | None:
    """Where a chunk is stored; None for one without elements, as a rank has it that got no share of a small tensor."""
    fields = _fields(chunk, "ChunkStorageMetadata")
    start, size = extent(fields["offsets"]), extent(fields["sizes"])
    if 0 in size:
        return None
    piece = stored.get((name, start))
    if piece is None:
        raise InputError(f"{path} does not tell where {shown(name)} from index {start} on is stored", "", SAVE_AGAIN)
    return Piece(piece.file, piece.offset, piece.length, start, size)


def _dtype(properties: Any) -> torch.dtype:
    held = of(Made, properties).state
    name = held["dtype"] if isinstance(held, dict) else of(tuple, held)[0]
    return of(torch.dtype, vars(torch)[of(Name, name).dotted.rpartition(".")[2]])


def _paths(planner_data: Any, names: Mapping[str, Any]) -> dict[str, tuple[str | int, ...]]:
    """The place of every name in what was saved; where nothing was flattened, every name stands at the top.

    A name is its place joined with dots, and none is left out: that catches damage, for which there is no checksum.
    """
    if not planner_data:
        return {name: (name,) for name in names}
    paths: dict[str, tuple[str | int, ...]] = {}
    for name in names:
        place = of(tuple, of(dict, planner_data)[name])
        if not 0 < len(place) <= MAX_DEPTH or not all(type(part) in (str, int) for part in place):
            raise ValueError("place")
        if ".".join(map(str, place)) != name:
            raise ValueError("name")
        paths[name] = place
    return paths


def _fields(value: Any, kind: str) -> dict[str, Any]:
    if of(Made, value).kind != kind:
        raise ValueError(kind)
    return of(dict, value.state)
