"""What a child that read uploads hands to the one that measures: tensors as safetensors, all else as JSON.

Nothing is pickled, so whoever reads it runs nothing. Tensors are stored as bytes: their kinds and shapes stand in the
JSON, which knows every kind that torch has. One that stands under several names, as tied weights do, is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from mdtree.checkpoint import Checkpoint
from mdtree.datasets.data_set import DataSet, Inputs
from mdtree.errors import InputError
from mdtree.recipes.recipe import Recorded

LARGEST_JSON_BYTES = 64 * 2**20

_TEXTS = ("model_spec", "data_spec", "sha256", "weights_from", "framework", "layout", "fine_tuned_from", "network")
_TUPLES = ("candidates", "notes", "file_notes")
_AS_THEY_ARE = (*_TEXTS, "recipe", "initial_norm_squared", "recipe_sources", "prefix")


def write_checkpoint(opened: Checkpoint, at: Path) -> None:
    """Write an opened file to ``at.json`` and ``at.safetensors``; what lies beside it and programs are left out."""
    tensors = _Tensors()
    values = {name: getattr(opened, name) for name in _AS_THEY_ARE}
    values |= {name: list(getattr(opened, name)) for name in _TUPLES}
    values |= {
        "path": str(opened.path),
        "recipe": dict(opened.recipe),
        "recipe_sources": dict(opened.recipe_sources),
        "recorded": {name: [one.value, one.source] for name, one in opened.recorded.items()},
        "state": [[name, tensors.add(tensor)] for name, tensor in opened.state.items()],
    }
    _write(values, tensors, at, str(opened.path))


def read_checkpoint(at: Path) -> Checkpoint:
    """The `Checkpoint` that `write_checkpoint` wrote."""
    values = _read_json(at)
    tensors = _read_tensors(at, [where for _, where in values["state"]])
    names = [name for name, _ in values["state"]]
    kept: dict[str, Any] = {name: values[name] for name in _AS_THEY_ARE}
    kept |= {name: tuple(values[name]) for name in _TUPLES}
    recorded = {name: Recorded(value, source) for name, (value, source) in values["recorded"].items()}
    state = dict(zip(names, tensors, strict=True))
    return Checkpoint(path=Path(values["path"]), state=state, recorded=recorded, **kept)


def write_data(data: DataSet, at: Path) -> None:
    """Write a data set to ``at.json`` and ``at.safetensors``."""
    tensors = _Tensors()
    parts = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    values = {
        **{name: _placed(part, tensors) for name, part in parts.items()},
        **{name: getattr(data, name) for name in ("num_classes", "name", "specification", "train_size_full")},
        "test_part": data.test_part,
        "normalisation": data.normalisation,
        "notes": list(data.notes),
    }
    _write(values, tensors, at, data.specification)


def read_data(at: Path) -> DataSet:
    """The `DataSet` that `write_data` wrote."""
    values = _read_json(at)
    parts = {name: values.pop(name) for name in ("x_train", "y_train", "x_test", "y_test")}
    wheres = [where for part in parts.values() if part is not None for _, where in part]
    tensors = iter(_read_tensors(at, wheres))
    found: dict[str, Any] = {
        name: None if part is None else _inputs({key: next(tensors) for key, _ in part}) for name, part in parts.items()
    }
    values["notes"] = tuple(values["notes"])
    return DataSet(**found, **values)


def _placed(part: Inputs | None, tensors: _Tensors) -> list[Any] | None:
    """Inputs by name; a single tensor under none."""
    if part is None:
        return None
    if isinstance(part, Tensor):
        return [[None, tensors.add(part)]]
    return [[name, tensors.add(tensor)] for name, tensor in part.items()]


def _inputs(named: Mapping[str | None, Tensor]) -> Any:
    return named[None] if None in named else dict(named)


class _Tensors:
    """Tensors on their way to a file, each once."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []
        self._places: dict[tuple[Any, ...], int] = {}

    def add(self, tensor: Tensor) -> dict[str, Any]:
        """Where it will stand in the file, of which kind and shape it is."""
        plain = tensor.detach().resolve_conj().resolve_neg()
        same = (plain.data_ptr(), plain.dtype, tuple(plain.shape), plain.stride())
        place = self._places.setdefault(same, len(self.kept))
        if place == len(self.kept):
            self.kept.append(plain)
        return {"place": place, "kind": str(plain.dtype).removeprefix("torch."), "shape": list(plain.shape)}

    def write(self, file: Path) -> None:
        """One tensor after another, so that no second copy of all of them is ever in memory."""
        header, at = {}, 0
        for place, tensor in enumerate(self.kept):
            size = tensor.numel() * tensor.element_size()
            header[str(place)] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
            at += size
        head = json.dumps(header).encode()
        with open(file, "wb") as handle:
            handle.write(len(head).to_bytes(8, "little") + head)
            for tensor in self.kept:
                handle.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _write(values: Mapping[str, Any], tensors: _Tensors, at: Path, name: str) -> None:
    text = json.dumps(values)  # NaN and infinities of a recipe included, as Python reads them again
    if len(text) > LARGEST_JSON_BYTES:
        raise InputError(f"{name} says {len(text):,} bytes beside its tensors", f"at most {LARGEST_JSON_BYTES:,}")
    at.with_suffix(".json").write_text(text, encoding="utf-8")
    tensors.write(at.with_suffix(".safetensors"))


def _read_json(at: Path) -> dict[str, Any]:
    file = at.with_suffix(".json")
    size = file.stat().st_size
    if size > LARGEST_JSON_BYTES:
        raise ValueError(f"{size:,} bytes were handed over, at most {LARGEST_JSON_BYTES:,} expected")
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


_KINDS = {str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
"""Every kind of number by its name."""


def _read_tensors(at: Path, wheres: list[dict[str, Any]]) -> list[Tensor]:
    """The tensors at these places; those at one place share their memory, as they did in the file."""
    bytes_at: dict[int, Tensor] = {}
    found = []
    with safetensors.safe_open(at.with_suffix(".safetensors"), framework="pt") as opened:
        for where in wheres:
            place = where["place"]
            if place not in bytes_at:
                bytes_at[place] = opened.get_tensor(str(place)).clone()  # aligned, and no longer in the file
            kind = _KINDS[where["kind"]]
            found.append(bytes_at[place].view(kind).reshape(where["shape"]))
    return found
