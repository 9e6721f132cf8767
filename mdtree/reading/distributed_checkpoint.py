"""Reading the folders of ``torch.distributed.checkpoint``: whole tensors out of the pieces that every process wrote.

The folder holds ``.metadata``, which tells where every piece stands, and ``.distcp`` files, in which every piece is a
small file of ``torch.save``. Nothing in them is run: see `mdtree.reading.distributed_metadata` and
`mdtree.reading.stored_pieces`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtree.errors import InputError, ResourceError
from mdtree.reading.checkpoint_files import FileContents, read_checkpoint_file
from mdtree.reading.distributed_metadata import DistributedMetadata, Piece, StoredTensor, read_distributed_metadata
from mdtree.reading.metadata_opcodes import SAVE_AGAIN
from mdtree.reading.safetensors_file import MAX_TENSORS
from mdtree.reading.stored_pieces import check_format, load_piece
from mdtree.reading.weight_shards import combined_sha256, inside
from mdtree.specification import listing, shown

MAX_VALUES = 5_000
"""Read at most: each is a small archive of its own, and takes half a millisecond."""
_GROUPS = "param_groups"
_OPTIMIZER = re.compile(r"(\w+_)?(opt|optim|optimizer|optimiser)s?(_(state|states|state_dict))?(_?\d+)?", re.IGNORECASE)

_SCALAR = (int, float, str, type(None))


def read_distributed_checkpoint(folder: Path) -> FileContents:
    """Read a folder of ``torch.distributed.checkpoint`` in one process, whatever the number that wrote it.

    Of what stands under a top name such as ``optimizer`` only the parameter groups are read: an optimizer's state is
    twice as large as the weights, and no part of the recipe. What Lightning leaves (``meta.pt`` beside the rest) is put
    together as Lightning's own consolidation does it.

    Parameters
    ----------
    folder : Path
        Holds ``.metadata``.

    Returns
    -------
    FileContents
        The nested dict that was saved. Its `sha256` is the `mdtree.reading.weight_shards.combined_sha256` of
        ``.metadata`` and of all files it names.

    Raises
    ------
    InputError
        If a file is missing, damaged or in another format, a path leaves the folder, or the pieces do not make up the
        tensors.
    ResourceError
        If it does not fit into memory.
    """
    metadata = read_distributed_metadata(folder / ".metadata")
    sizes = _checked_files(folder, metadata)
    reading = _Reading(folder, metadata)
    try:
        content = reading.content()
    except MemoryError as error:
        raise ResourceError(f"{folder} does not fit into memory") from error
    beside: dict[str, Any] = {}
    if (folder / "meta.pt").is_file():
        try:
            meta = read_checkpoint_file(folder / "meta.pt")
        except InputError as error:
            reading.notes.append(f"not read: {error}")
        else:
            content = _as_lightning(content, meta.content)
            reading.unknown.update(dict.fromkeys(meta.unknown))
    return FileContents(
        content,
        None,
        combined_sha256(folder, [".metadata", *sizes]),
        sum(sizes.values()) + (folder / ".metadata").stat().st_size,
        "distributed checkpoint",
        beside,
        tuple(reading.unknown),
        tuple(reading.notes),
    )


class _Node(dict[Any, Any]):
    """A dict or list of what was saved. One that was stored as a single value is no node: it may hold itself."""


@dataclass(eq=False)
class _Reading:
    """One pass over a distributed checkpoint, and what there is to say about it afterwards."""

    folder: Path
    metadata: DistributedMetadata
    notes: list[str] = field(default_factory=list)
    unknown: dict[str, None] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        nested = _Node()
        tensors = {n: one for n, one in self.metadata.tensors.items() if not _is_optimizers(self.metadata.paths[n])}
        if len(tensors) > MAX_TENSORS:
            raise InputError(f"{self.folder} holds {len(tensors):,} tensors", f"at most {MAX_TENSORS:,}")
        for name, tensor in tensors.items():
            _place(nested, self.metadata.paths[name], self._assembled(name, tensor), self.folder)
        refused: dict[str, InputError] = {}
        for name, piece in self._values().items():
            try:
                value, unknown = load_piece(self.folder / piece.file, piece, name)
            except InputError as error:
                refused[name] = error
                continue
            self.unknown.update(dict.fromkeys(unknown))
            _place(nested, self.metadata.paths[name], value, self.folder)
        if refused:
            first = next(iter(refused.values())).got
            self.notes.append(f"not read: {listing(list(refused))} ({first})")
        if left_out := len(self.metadata.tensors) - len(tensors):
            self.notes.append(f"the {left_out} tensors of the optimizer's state were not read")
        return {str(key): _with_lists(value) for key, value in _with_model(nested).items()}

    def _values(self) -> dict[str, Piece]:
        """Everything that is no tensor; of an optimizer what belongs to its parameter groups."""
        kept = {
            name: piece
            for name, piece in self.metadata.values.items()
            if not _is_optimizers(path := self.metadata.paths[name]) or _is_group(path)
        }
        if len(kept) <= MAX_VALUES:
            return kept
        self.notes.append(f"of its {len(kept):,} values beside the tensors, the first {MAX_VALUES:,} were read")
        return dict(list(kept.items())[:MAX_VALUES])

    def _assembled(self, name: str, tensor: StoredTensor) -> Tensor:
        what = f"{shown(name)} in {self.folder}"
        pieces = tensor.pieces
        for piece in pieces:
            _check_extent(piece, tensor.size, what)
        covered = sum(math.prod(piece.size) for piece in pieces)
        total = math.prod(tensor.size)
        if covered != total:
            raise InputError(
                f"the pieces of {what} hold {covered:,} of its {total:,} elements", "every element once", SAVE_AGAIN
            )
        if total * tensor.dtype.itemsize > sum(piece.length for piece in pieces):
            raise InputError(f"{what} claims {total:,} elements, more than its pieces hold", "", SAVE_AGAIN)
        if len(pieces) == 1:
            return self._part(pieces[0], tensor.dtype, name)
        whole = torch.empty(tensor.size, dtype=tensor.dtype)
        filled = torch.zeros(tensor.size, dtype=torch.bool)
        for piece in pieces:
            place = tuple(slice(a, a + n) for a, n in zip(piece.start, piece.size, strict=True))
            if bool(filled[place].any()):
                raise InputError(f"the pieces of {what} overlap", "every element once", SAVE_AGAIN)
            filled[place] = True
            whole[place] = self._part(piece, tensor.dtype, name)
        return whole

    def _part(self, piece: Piece, dtype: torch.dtype, name: str) -> Tensor:
        path = self.folder / piece.file
        part, _ = load_piece(path, piece, name)
        if not isinstance(part, Tensor) or part.dtype is not dtype or part.layout is not torch.strided:
            raise InputError(f"{path} does not hold {shown(name)} as a tensor of {dtype}", "", SAVE_AGAIN)
        if tuple(part.shape) != piece.size:
            raise InputError(
                f"{path} holds a piece of {shown(name)} of the size {tuple(part.shape)}", f"{piece.size}", SAVE_AGAIN
            )
        if part.numel() * part.element_size() > part.untyped_storage().nbytes():
            raise InputError(f"{shown(name)} in {path} claims more elements than its storage holds", "", SAVE_AGAIN)
        return part.detach()


def _checked_files(folder: Path, metadata: DistributedMetadata) -> dict[str, int]:
    """The bytes of every file named; refuse pieces that leave their file or share bytes with each other."""
    index = folder / ".metadata"
    pieces = [piece for tensor in metadata.tensors.values() for piece in tensor.pieces]
    by_file: dict[str, list[Piece]] = {}
    for piece in [*pieces, *metadata.values.values()]:
        by_file.setdefault(piece.file, []).append(piece)
    sizes = {}
    for name in sorted(by_file):
        path = inside(folder, name, index)
        sizes[name] = path.stat().st_size
        ordered = sorted(by_file[name], key=lambda piece: (piece.offset, piece.length))
        if max(piece.offset + piece.length for piece in ordered) > sizes[name]:
            raise InputError(
                f"{path} has {sizes[name]:,} bytes, fewer than .metadata tells", "", "copy the whole folder again"
            )
        check_format(path, ordered)
        if any(one.offset + one.length > other.offset for one, other in pairwise(ordered)):
            raise InputError(f"{index} places two things at the same bytes of {shown(name)}", "", SAVE_AGAIN)
    return sizes


def _check_extent(piece: Piece, size: tuple[int, ...], what: str) -> None:
    fits = len(piece.start) == len(piece.size) == len(size)
    if not fits or any(a + n > m for a, n, m in zip(piece.start, piece.size, size, strict=True)):
        raise InputError(
            f"a piece of {what} reaches from {piece.start} over {piece.size}", f"within {size}", SAVE_AGAIN
        )


def _is_optimizers(path: tuple[str | int, ...]) -> bool:
    return len(path) > 1 and _OPTIMIZER.fullmatch(str(path[0])) is not None


def _is_group(path: tuple[str | int, ...]) -> bool:
    return any(part == _GROUPS or str(part).startswith(f"{_GROUPS}.") for part in path)


def _place(nested: _Node, path: tuple[str | int, ...], value: Any, folder: Path) -> None:
    at: Any = nested
    for part in path[:-1]:
        at = at.setdefault(part, _Node())
        if not isinstance(at, _Node):
            break
    if not isinstance(at, _Node) or path[-1] in at:
        raise InputError(f"{folder / '.metadata'} gives two things the name {listing(list(map(str, path)))}")
    at[path[-1]] = value


def _with_lists(value: Any) -> Any:
    """The same nest with lists where all positions of a list are there, and parameter groups gathered."""
    if not isinstance(value, _Node):
        return value
    inner = {key: _with_lists(held) for key, held in value.items()}
    if inner and set(inner) == set(range(len(inner))):
        return [inner[position] for position in range(len(inner))]
    return _with_groups(inner)


def _with_groups(values: dict[Any, Any]) -> dict[Any, Any]:
    """Undo the flattening of parameter groups: ``param_groups.layer.weight.lr`` is one option of one parameter."""
    options: dict[str, dict[str, Any]] = {}
    rest = {}
    for key, value in values.items():
        if str(key).startswith(f"{_GROUPS}."):
            parameter, _, option = str(key).removeprefix(f"{_GROUPS}.").rpartition(".")
            options.setdefault(parameter, {})[option] = value
        else:
            rest[key] = value
    if not options or _GROUPS in values:
        return values
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parameter, held in options.items():
        same = tuple((option, value if isinstance(value, _SCALAR) else None) for option, value in sorted(held.items()))
        groups.setdefault(same, {**held, "params": []})["params"].append(parameter)
    return {**rest, _GROUPS: list(groups.values())}


def _with_model(content: _Node) -> _Node:
    """Weights that were saved at the top, between the dicts of an optimizer and a loader, stand under ``model``."""
    top = _Node({name: value for name, value in content.items() if isinstance(value, Tensor)})
    rest = _Node({name: value for name, value in content.items() if name not in top})
    if not top or not rest or "model" in rest or any(_holds_tensor(value) for value in rest.values()):
        return content
    return _Node({"model": top, **rest})


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, _Node):
        return any(_holds_tensor(held) for held in value.values())
    return isinstance(value, Tensor)


def _as_lightning(content: dict[str, Any], meta: Any) -> dict[str, Any]:
    """What Lightning's consolidation makes of a sharded checkpoint: the keys of a usual ``.ckpt``."""
    if not isinstance(meta, Mapping):
        return content
    whole = {**content, **{key: value for key, value in meta.items() if key not in content}}
    if "pytorch-lightning_version" in meta and "model" in whole and "state_dict" not in whole:
        whole["state_dict"] = whole.pop("model")
        numbers = sorted(int(found[1]) for key in whole if (found := re.fullmatch(r"optimizer_(\d{1,4})", str(key))))
        if numbers:
            whole["optimizer_states"] = [whole.pop(f"optimizer_{number}") for number in numbers]
    return whole
