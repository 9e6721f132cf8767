"""Checks that make inputs and class labels out of arrays of any kind: finite numbers, tokens, masks, labels from 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mdtree.errors import InputError
from mdtree.specification import listing, shown

Inputs: TypeAlias = "Tensor | dict[str, Tensor]"
"""One tensor, or several by the names that the network's `forward` takes them by; all with the samples first."""


def as_inputs(value: object, what: str) -> Inputs:
    """Inputs as float32, or int64 tokens, with at least one sample and one dimension beside the samples' own.

    Of a mapping each entry by itself; the entries have equally many samples, and one may have no other dimension.
    """
    if not isinstance(value, Mapping):
        return _single_input(_tensor(value, what), what)
    if not value:
        raise InputError(f"{what} is an empty dict", "inputs by the names that the network's forward takes")
    wrong = [name for name in value if not isinstance(name, str) or not name.isidentifier()]
    if wrong:
        raise InputError(f"{what} has an input named {shown(repr(wrong[0]))}", "names that the network's forward takes")
    inputs = {
        name: _named_input(_tensor(item, f"{name} in {what}"), f"{name} in {what}") for name, item in value.items()
    }
    sizes = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(sizes.values())) > 1:
        counts = [f"{count} of {name}" for name, count in sizes.items()]
        raise InputError(f"{what} has samples: {listing(counts)}", "equally many of every input")
    return inputs


def _single_input(tensor: Tensor, what: str) -> Tensor:
    if tensor.ndim < 2 or tensor.numel() == 0:
        raise InputError(f"{what} has shape {tuple(tensor.shape)}", "(samples, ...) with at least one sample")
    if tensor.dtype in (torch.int32, torch.int64):
        return tensor.to(torch.int64).contiguous()
    if not tensor.is_floating_point():
        raise _not_scaled(tensor, what)
    return _finite(tensor, what)


def _named_input(tensor: Tensor, what: str) -> Tensor:
    if tensor.ndim < 1 or tensor.numel() == 0:
        raise InputError(f"{what} has shape {tuple(tensor.shape)}", "(samples, ...) with at least one sample")
    if tensor.is_floating_point():
        return _finite(tensor, what)
    if tensor.is_complex() or (tensor.dtype == torch.uint8 and tensor.ndim > 2):
        raise _not_scaled(tensor, what)
    return (tensor if tensor.dtype == torch.bool else tensor.to(torch.int64)).contiguous()


def _not_scaled(tensor: Tensor, what: str) -> InputError:
    return InputError(
        f"{what} is {dtype_name(tensor)}",
        "floats scaled as in training, or int64 tokens",
        "convert it, for instance x.astype('float32') / 255",
    )


def _finite(tensor: Tensor, what: str) -> Tensor:
    tensor = tensor.to(torch.float32).contiguous()
    bad = int((~torch.isfinite(tensor.reshape(len(tensor), -1)).all(dim=1)).sum())
    if bad:
        raise InputError(
            f"{what} holds NaN or infinite values in {bad} of {len(tensor)} samples", "finite float32 numbers"
        )
    return tensor


def as_labels(value: object, what: str) -> Tensor:
    """Class labels as int64, shape (n,)."""
    tensor = _tensor(value, what)
    if tensor.is_floating_point() or tensor.is_complex():
        raise InputError(
            f"{what} is {dtype_name(tensor)}: only classification is diagnosed, not regression",
            "integer class labels",
            "convert class labels with y.astype('int64')",
        )
    if tensor.ndim != 1:
        raise InputError(
            f"{what} has shape {tuple(tensor.shape)}: one label a sample is supported, not several",
            "shape (samples,)",
            "give the class index, for instance y.argmax(axis=1)",
        )
    if len(tensor) == 0:
        raise InputError(f"{what} is empty", "at least one sample")
    return tensor.to(torch.int64).contiguous()


MOST_CLASSES = 2**24
"""Above all vocabularies; more are numbers that name something else, and no output layer for them fits into memory."""


def class_count(labels: Tensor, given: int | None, name: str) -> int:
    """How many classes there are: as given, or the largest label plus one; every label must be one of them."""
    low, high = int(labels.min()), int(labels.max())
    classes = high + 1 if given is None else int(given)
    if low < 0:
        raise InputError(
            f"the labels of {name} go down to {low}", "class labels from 0", "drop or renumber these samples"
        )
    if high >= classes:
        raise InputError(f"the labels of {name} go up to {high}", f"labels below {classes}, the number of classes")
    if classes < 2:
        raise InputError(f"all labels of {name} are the same", "at least two classes")
    if classes > MOST_CLASSES:
        raise InputError(
            f"{name} has {classes:,} classes", f"at most {MOST_CLASSES:,}", "number the classes from 0 without gaps"
        )
    return classes


def _tensor(value: object, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        array = np.asarray(value)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("="))
        # a copy: arrays may be read-only or backwards, and the caller's must stay the caller's
        return torch.from_numpy(np.array(array, order="C"))
    except (TypeError, ValueError) as error:
        held = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"{what} holds {held}", "an array of numbers") from error


def dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
