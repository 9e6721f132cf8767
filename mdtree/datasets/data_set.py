"""What a data set is, how one is made out of arrays, and the two halves of its test set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.inputs import sample_count, take
from mdtree.datasets.checked_arrays import Inputs, as_inputs, as_labels, class_count, dtype_name
from mdtree.errors import InputError
from mdtree.specification import listing

__all__ = [
    "AS_GIVEN",
    "TEST_GAIN_HALF",
    "TEST_METRIC_HALF",
    "TEST_PARTS",
    "WHOLE_TEST",
    "DataSet",
    "Inputs",
    "Samples",
    "cut_test_set",
    "make_data_set",
    "part_of_test_set",
]

AS_GIVEN = "as given"

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
    x_train : Inputs
        float32 inputs or int64 tokens, shape (n, ...); or a dict of such, masks of bool among them.
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
    normalisation : str
        What was done to the stored numbers before they became inputs.
    notes : tuple of str
        What a reader of results on these data should know, one sentence each.
    """

    x_train: Inputs
    y_train: Tensor
    x_test: Inputs | None
    y_test: Tensor | None
    num_classes: int
    name: str
    specification: str
    train_size_full: int | None = None
    test_part: str = WHOLE_TEST
    normalisation: str = AS_GIVEN
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch dimension.

        Of named inputs that of the first floating one, else of ``input_ids``, else of the first.
        """
        if isinstance(self.x_train, Tensor):
            return tuple(self.x_train.shape[1:])
        floating = [tensor for tensor in self.x_train.values() if tensor.is_floating_point()]
        first = floating[0] if floating else self.x_train.get("input_ids", next(iter(self.x_train.values())))
        return tuple(first.shape[1:])

    @property
    def class_counts(self) -> tuple[int, ...]:
        """How many training labels each class has."""
        return tuple(torch.bincount(self.y_train, minlength=self.num_classes).tolist())

    @property
    def train_tensor(self) -> Tensor:
        """The training inputs, for code that trains: that takes one tensor.

        Raises
        ------
        InputError
            If the inputs have names.
        """
        return _single(self.x_train, self.specification)

    @property
    def test_tensor(self) -> Tensor | None:
        """The test inputs where they are one tensor; see `train_tensor`."""
        return None if self.x_test is None else _single(self.x_test, self.specification)


def _single(inputs: Inputs, specification: str) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs
    raise InputError(
        f"{specification} has inputs by name ({listing(list(inputs))}): they are measured, not trained on",
        "one tensor of inputs",
    )


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
        replace(data, x_test=take(x_test, where), y_test=y_test[where], test_part=part)
        for part in (TEST_METRIC_HALF, TEST_GAIN_HALF)
        for where in [part_of_test_set(part, len(y_test))]
    )
    return first, second


@dataclass(frozen=True, eq=False)
class Samples:
    """Arrays as someone gives them, not yet checked: tensors, numpy arrays, lists; inputs also as a dict of them."""

    x_train: object
    y_train: object
    x_test: object = None
    y_test: object = None
    num_classes: int | None = None


def make_data_set(
    samples: Samples,
    name: str,
    specification: str,
    train_size_full: int | None = None,
    test_part: str = WHOLE_TEST,
    normalisation: str = AS_GIVEN,
    notes: tuple[str, ...] = (),
) -> DataSet:
    """Check arrays and turn them into a `DataSet`.

    Inputs: floats of any width become float32, int32 and int64 stay tokens (int64); others are refused, because whether
    bytes were scaled in training cannot be known. Of inputs by name, integers of every kind are tokens, and bools stay
    masks; bytes with more than two dimensions are refused still. Labels: integers, one a sample. Without `num_classes`
    there are as many classes as the largest label plus one.

    Raises
    ------
    InputError
        For empty data, lengths that differ, NaN or infinite inputs, names that are no identifiers, targets that are no
        class labels, labels outside the classes, fewer than two classes, one half of a test set missing.
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
        if _kind(x_test) != _kind(x_train):
            raise InputError(
                f"x_test of {name} holds {_kind_text(x_test)} and x_train {_kind_text(x_train)}",
                "the same shape and type of input",
            )
    labels = y_train if y_test is None else torch.cat([y_train, y_test])
    classes = class_count(labels, samples.num_classes, name)
    origin = name, specification, train_size_full, test_part, normalisation, notes
    return DataSet(x_train, y_train, x_test, y_test, classes, *origin)


def _check_lengths(x: Inputs, y: Tensor, x_name: str, y_name: str) -> None:
    count = sample_count(x)
    if count != len(y):
        raise InputError(f"{x_name} has {count} samples and {y_name} {len(y)}", "as many labels as samples")


def _kind(inputs: Inputs) -> object:
    if isinstance(inputs, Tensor):
        return inputs.shape[1:], inputs.dtype
    return {name: _kind(tensor) for name, tensor in inputs.items()}


def _kind_text(inputs: Inputs) -> str:
    if isinstance(inputs, Tensor):
        return f"{dtype_name(inputs)} of shape {tuple(inputs.shape[1:])}"
    return listing([f"{name}: {_kind_text(tensor)}" for name, tensor in inputs.items()])
