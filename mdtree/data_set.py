"""What a data set is, and the checks that make one out of arrays: class labels, finite numbers, equal lengths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mdtree.errors import InputError

TEST_METRIC_HALF = "first_half"
"""The half of the test set that ``test_*`` metrics are measured on: its first n // 2 samples."""

TEST_GAIN_HALF = "second_half"
"""The half of the test set that gains are scored on: all the others."""

WHOLE_TEST = "all"
TEST_PARTS = (TEST_METRIC_HALF, TEST_GAIN_HALF, WHOLE_TEST)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and labels, ready to train and to measure on.

    Parameters
    ----------
    x_train : Tensor, shape (n, ...)
        float32 inputs, or int64 tokens.
    y_train : Tensor, shape (n,)
        int64 labels, 0 <= y < `num_classes`.
    x_test, y_test : Tensor or None
        The chosen part of the test set; None where there is none.
    num_classes : int
        How many classes there are, at least 2.
    name : str
        The data set without its options: "digits".
    specification : str
        The whole specification it was loaded from.
    train_size_full : int or None
        How many samples could be trained on, of which `x_train` may be a part; None where that is not known.
    test_part : str
        Which part of the test set this is: "first_half", "second_half" or "all".
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor | None
    y_test: Tensor | None
    num_classes: int
    name: str
    specification: str
    train_size_full: int | None = None
    test_part: str = WHOLE_TEST

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch dimension."""
        return tuple(self.x_train.shape[1:])


def part_of_test_set(part: str, size: int) -> slice:
    """Where the named part of a test set of `size` samples lies."""
    cut = size // 2
    return {TEST_METRIC_HALF: slice(0, cut), TEST_GAIN_HALF: slice(cut, size), WHOLE_TEST: slice(0, size)}[part]


def cut_test_set(data: DataSet) -> tuple[DataSet, DataSet]:
    """The same data twice: with the half for ``test_*`` metrics, and with the half gains are scored on.

    Raises
    ------
    InputError
        If there is no test set of two samples or more, or it is a half already.
    """
    if data.test_part != WHOLE_TEST:
        raise InputError(f"the test set of {data.specification} is a half already", "test=all in its specification")
    x_test, y_test = data.x_test, data.y_test
    if x_test is None or y_test is None or len(y_test) < 2:
        raise InputError(f"{data.specification} has no test set to cut in halves", "x_test and y_test")
    first, second = (
        replace(data, x_test=x_test[where], y_test=y_test[where], test_part=part)
        for part in (TEST_METRIC_HALF, TEST_GAIN_HALF)
        for where in [part_of_test_set(part, len(y_test))]
    )
    return first, second


@dataclass(frozen=True, eq=False)
class Samples:
    """Arrays as someone gives them, not yet checked: tensors, numpy arrays, lists."""

    x_train: object
    y_train: object
    x_test: object = None
    y_test: object = None
    num_classes: int | None = None


def make_data_set(
    samples: Samples, name: str, specification: str, train_size_full: int | None = None, test_part: str = WHOLE_TEST
) -> DataSet:
    """Check arrays and turn them into a `DataSet`.

    Inputs: floats of any width become float32, int32 and int64 stay tokens (int64); others are refused, because whether
    bytes were scaled in training cannot be known. Labels: integers, one a sample. Without `num_classes` there are as
    many classes as the largest label plus one.

    Raises
    ------
    InputError
        For empty data, lengths that differ, NaN or infinite inputs, targets that are no class labels, labels outside
        the classes, fewer than two classes, one half of a test set missing.
    """
    x_train, y_train = (
        as_inputs(samples.x_train, f"x_train of {name}"),
        as_labels(samples.y_train, f"y_train of {name}"),
    )
    _check_lengths(x_train, y_train, f"x_train of {name}", "y_train")
    if (samples.x_test is None) != (samples.y_test is None):
        raise InputError(f"only one of x_test and y_test of {name} is given", "both or neither")
    x_test = y_test = None
    if samples.x_test is not None:
        x_test, y_test = as_inputs(samples.x_test, f"x_test of {name}"), as_labels(samples.y_test, f"y_test of {name}")
        _check_lengths(x_test, y_test, f"x_test of {name}", "y_test")
        if x_test.shape[1:] != x_train.shape[1:] or x_test.dtype != x_train.dtype:
            raise InputError(
                f"x_test of {name} holds {_kind(x_test)} and x_train {_kind(x_train)}",
                "the same shape and type of input",
            )
    labels = y_train if y_test is None else torch.cat([y_train, y_test])
    classes = class_count(labels, samples.num_classes, name)
    return DataSet(x_train, y_train, x_test, y_test, classes, name, specification, train_size_full, test_part)


def as_inputs(value: object, what: str) -> Tensor:
    """Inputs as float32, or int64 tokens, with at least one sample and one dimension beside the samples' own."""
    tensor = _tensor(value, what)
    if tensor.ndim < 2 or tensor.numel() == 0:
        raise InputError(f"{what} has shape {tuple(tensor.shape)}", "(samples, ...) with at least one sample")
    if tensor.dtype in (torch.int32, torch.int64):
        return tensor.to(torch.int64).contiguous()
    if not tensor.is_floating_point():
        raise InputError(
            f"{what} is {_dtype(tensor)}",
            "floats scaled as in training, or int64 tokens",
            "convert it, for instance x.astype('float32') / 255",
        )
    tensor = tensor.to(torch.float32).contiguous()
    bad = int((~torch.isfinite(tensor.flatten(1)).all(dim=1)).sum())
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
            f"{what} is {_dtype(tensor)}: only classification is diagnosed, not regression",
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


def _check_lengths(x: Tensor, y: Tensor, x_name: str, y_name: str) -> None:
    if len(x) != len(y):
        raise InputError(f"{x_name} has {len(x)} samples and {y_name} {len(y)}", "as many labels as samples")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(tensor: Tensor) -> str:
    return f"{_dtype(tensor)} of shape {tuple(tensor.shape[1:])}"
