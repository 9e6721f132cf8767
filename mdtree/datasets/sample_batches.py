"""One item of somebody's data, a sample or a batch, as tensors; and many of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdtree.datasets.data_set import Inputs
from mdtree.errors import InputError
from mdtree.specification import listing, shown

LABEL_NAMES = ("labels", "label", "y", "target", "targets")
"""Under which name a dict holds the class label; the first of them that is there."""

INPUT_NAMES = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "inputs_embeds",
    "pixel_values",
    "pixel_mask",
    "input_values",
    "input_features",
)
"""What networks of transformers call their inputs. Where a dict holds one of them, other columns are left aside."""

_MASK = "attention_mask"
_UNNAMED = ""
_ITEMS = "(input, label), or a dict of inputs with a label (" + ", ".join(LABEL_NAMES) + ")"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples: inputs by name (one without a name if there is only that), labels (n,), columns left aside."""

    inputs: dict[str, Tensor]
    labels: Tensor
    left_aside: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Joined:
    """All samples, and what a reader of results on them should know."""

    inputs: Inputs
    labels: Tensor
    notes: tuple[str, ...]


def as_batch(item: Any, batched: bool | None, where: str) -> Batch:
    """One item as a batch, of one sample if it is a sample.

    Parameters
    ----------
    item : (input, label) or mapping
        As a Dataset, a DataLoader or an iterable gives it.
    batched : bool or None
        Whether it is a batch; None where one with a row of labels, as many as inputs, is.
    where : str
        What to call it in errors.

    Raises
    ------
    InputError
        If it is neither, or holds pictures or text instead of numbers.
    """
    inputs, label, left = _taken_apart(item, where)
    tensors = {name: _tensor(value, name, where) for name, value in inputs.items()}
    labels = _tensor(label, "label", where)
    if batched is None:
        first = next(iter(tensors.values()))
        batched = labels.ndim >= 1 and first.ndim >= 1 and len(labels) == len(first)
    if not batched:
        tensors, labels = {name: tensor[None] for name, tensor in tensors.items()}, labels[None]
    count = len(labels) if labels.ndim else 0
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors.values()}
    if sizes != {count}:
        raise InputError(f"{where} has {count} labels and {listing(sorted(map(str, sizes)))} inputs", "equally many")
    if labels.ndim > 1 and labels.numel() == count:
        labels = labels.reshape(count)
    return Batch(tensors, labels, left)


def _taken_apart(item: Any, where: str) -> tuple[dict[str, Any], Any, tuple[str, ...]]:
    """Inputs by name, the label, and the names of what is neither."""
    if isinstance(item, Mapping):
        return _columns(item, where)
    if isinstance(item, tuple | list) and len(item) == 2:
        inputs, label = item
        if isinstance(inputs, Mapping) and inputs:
            return {str(name): value for name, value in inputs.items()}, label, ()
        return {_UNNAMED: inputs}, label, ()
    raise InputError(f"{where} is {described(item)}", _ITEMS)


def _columns(item: Mapping[Any, Any], where: str) -> tuple[dict[str, Any], Any, tuple[str, ...]]:
    label = next((name for name in LABEL_NAMES if name in item), None)
    if label is None:
        raise InputError(f"{where} is a dict of {listing(list(map(str, item))) or 'nothing'}", _ITEMS)
    rest = {str(name): value for name, value in item.items() if name not in LABEL_NAMES}
    names = [name for name in rest if name in INPUT_NAMES] or [name for name in rest if _is_numeric(rest[name])]
    if not names:
        held = [f"{name} ({type(value).__name__})" for name, value in rest.items()]
        raise InputError(
            f"{where} holds no numbers beside the label: {listing(held) or 'nothing'}",
            "tensors or arrays",
            "transform pictures to normalised tensors, and tokenize text",
        )
    left = tuple(str(name) for name in item if name != label and name not in names)
    if len(names) == 1 and names[0] not in INPUT_NAMES:
        return {_UNNAMED: rest[names[0]]}, item[label], left
    return {name: rest[name] for name in names}, item[label], left


def _is_numeric(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, list | tuple):
        return len(value) > 0 and _is_numeric(value[0])
    return isinstance(value, int | float | np.number | np.bool_) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    )


def _tensor(value: Any, name: str, where: str) -> Tensor:
    """Numbers of any kind as a tensor; floats as float32."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, Tensor) for part in value):
        value = torch.stack(list(value))
    if not isinstance(value, Tensor):
        array = None if hasattr(value, "getbands") else np.asarray(value)
        if array is None or array.dtype.kind not in "biufc":
            raise _no_numbers(value, name, where)
        value = torch.from_numpy(np.array(array, order="C"))
    tensor: Tensor = value.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _no_numbers(value: Any, name: str, where: str) -> InputError:
    word = "label" if name == "label" else f"input {shown(name)}".strip()
    if hasattr(value, "getbands"):
        found, mend = "a picture", "give the data the evaluation transform, up to the normalised tensor"
    elif isinstance(value, str):
        found, mend = "text", "number the classes" if name == "label" else "tokenize it, or read it as text:FILE"
    else:
        found, mend = described(value), ""
    return InputError(f"the {word} in {where} is {found}", "a tensor or an array of numbers", mend)


def joined(batches: Sequence[Batch], what: str) -> Joined:
    """All batches as one, in order; token sequences of different length are padded where a mask hides the padding.

    Raises
    ------
    InputError
        If there are none, they hold different inputs, or inputs differ in shape.
    """
    if not batches:
        raise InputError(f"{what} is empty", "at least one sample")
    names = list(batches[0].inputs)
    odd = next((number for number, batch in enumerate(batches) if set(batch.inputs) != set(names)), None)
    if odd is not None:
        raise InputError(
            f"item {odd} of {what} holds {listing(list(batches[odd].inputs))}", f"{listing(names)}, as item 0"
        )
    notes = []
    left = sorted({name for batch in batches for name in batch.left_aside})
    if left:
        notes.append(f"columns left aside: {listing(left)}")
    inputs = {}
    for name in names:
        tensors = [batch.inputs[name] for batch in batches]
        shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
        if len(shapes) > 1:
            tensors = _padded(tensors, name, _MASK in names, what)
            if name != _MASK:
                notes.append(f"{name} padded to {tensors[0].shape[1]} with 0, hidden by the {_MASK}")
        inputs[name] = torch.cat(tensors)
    labels = torch.cat([batch.labels for batch in batches])
    return Joined(inputs[_UNNAMED] if names == [_UNNAMED] else inputs, labels, tuple(notes))


def _padded(tensors: list[Tensor], name: str, masked: bool, what: str) -> list[Tensor]:
    """Rows of tokens with zeros behind them, up to the longest."""
    if not masked or any(tensor.ndim != 2 or tensor.is_floating_point() for tensor in tensors):
        one, other = sorted({str(tuple(tensor.shape[1:])) for tensor in tensors})[:2]
        raise InputError(
            f"the inputs {shown(name)} of {what} have different shapes, {one} and {other}".replace("  ", " "),
            "one shape",
            "resize or crop pictures to one size" if not name else f"pad them to one length, or give an {_MASK} too",
        )
    longest = max(tensor.shape[1] for tensor in tensors)
    return [torch.nn.functional.pad(tensor, (0, longest - tensor.shape[1])) for tensor in tensors]


def described(value: object) -> str:
    """What somebody's object is: "3 parts", "a Tensor"."""
    if isinstance(value, tuple | list):
        return f"{len(value)} parts"
    name = type(value).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
