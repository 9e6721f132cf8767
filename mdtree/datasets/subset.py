"""Choosing from a data set: nested, balanced parts of the pool, label noise that stays with its sample, test halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdtree.datasets.checked_arrays import as_labels, class_count
from mdtree.datasets.data_set import (
    AS_GIVEN,
    TEST_METRIC_HALF,
    TEST_PARTS,
    DataSet,
    Samples,
    make_data_set,
    part_of_test_set,
)
from mdtree.errors import InputError
from mdtree.specification import Kind, Plain, Specification

Array = NDArray[Any]
Decoded = Array | Mapping[str, Array]

CHOICE_KINDS: Mapping[str, Kind] = {"train": int, "label_noise": float, "seed": int, "test": TEST_PARTS, "only": str}
CHOICE_DEFAULTS: Mapping[str, Plain] = {"label_noise": 0.0, "seed": 0, "test": TEST_METRIC_HALF, "only": ""}


@dataclass(frozen=True)
class Choice:
    """Which part of a data set is taken; `train` None takes the whole pool, an empty `only` every class."""

    train: int | None
    label_noise: float
    seed: int
    test: str
    only: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Stored:
    """A data set as stored, before a part of it is chosen.

    `decode` turns stored inputs into what a network takes, shape (n, ...), or several such by name; only the chosen
    ones are decoded. `normalisation` and `notes` go to the `DataSet` as they are.
    """

    x_pool: Array
    y_pool: Array
    x_test: Array | None
    y_test: Array | None
    name: str
    num_classes: int | None = None
    decode: Callable[[Array], Decoded] = np.asarray
    normalisation: str = AS_GIVEN
    notes: tuple[str, ...] = ()


def choice_of(name: str, options: Mapping[str, Any]) -> Choice:
    """The options `train`, `label_noise`, `seed`, `test` and `only` of a specification, their ranges checked."""
    choice = Choice(
        options["train"], options["label_noise"], options["seed"], options["test"], _classes_of(name, options["only"])
    )
    if choice.train is not None and choice.train < 1:
        raise InputError(f"train={choice.train} of {name}", "at least 1")
    if choice.seed < 0:
        raise InputError(f"seed={choice.seed} of {name}", "0 or more")
    if not 0 <= choice.label_noise <= 1:
        raise InputError(f"label_noise={choice.label_noise:g} of {name}", "a share between 0 and 1")
    return choice


def _classes_of(name: str, text: str) -> tuple[int, ...]:
    """``0,3,4`` as numbers; nothing for an empty text."""
    parts = text.split(",") if text else []
    classes = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(classes) < len(parts) or len(set(classes)) < len(parts) or len(parts) == 1:
        raise InputError(f"only={text} of {name}", "two or more different classes, for instance only=0,3,4")
    return classes


def _renumbered(labels: NDArray[np.int64], only: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the samples of the classes `only` stand, in their old order, and their labels counted in its order."""
    if not only:
        return np.arange(len(labels)), labels
    new = np.full(max(*only, int(labels.max())) + 1, -1, dtype=np.int64)
    new[list(only)] = np.arange(len(only))
    places = np.flatnonzero(new[labels] >= 0)
    return places, new[labels[places]]


def balanced_order(labels: Array, seed: int) -> NDArray[np.int64]:
    """An order of samples that takes the classes in turn.

    A permutation drawn from `seed`, then sorted (stably) by how many of the same class stand before. In any prefix two
    classes that are not used up yet differ by one sample at most.

    Parameters
    ----------
    labels : array of int, shape (n,)
        True labels, without noise.
    seed : int
        0 or more.

    Returns
    -------
    array of int64, shape (n,)
        Indices into `labels`.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        rank[places] = np.arange(len(places))
    return order[np.argsort(rank, kind="stable")]


def noisy_labels(labels: Array, noise: float, num_classes: int, seed: int) -> NDArray[np.int64]:
    """Replace each label, with probability `noise`, by one of the other classes, each equally likely.

    Two numbers are drawn for every sample whatever `noise` is: the wrong labels at a smaller noise are among those at a
    larger one.

    Parameters
    ----------
    labels : array of int, shape (n,)
        True labels, 0 <= label < `num_classes`.
    noise : float
        Between 0 and 1.
    num_classes, seed : int
        How many classes there are; what the draws depend on.

    Returns
    -------
    array of int64, shape (n,)
    """
    generator = np.random.default_rng([seed, 1])
    wrong = generator.random(len(labels)) < noise
    other = (labels + generator.integers(1, num_classes, len(labels))) % num_classes
    return np.where(wrong, other, labels).astype(np.int64)


def choose(stored: Stored, choice: Choice, specification: Specification) -> DataSet:
    """Take the chosen part of a stored data set and check it.

    Raises
    ------
    InputError
        If `train` asks for more than the pool holds, or the data cannot be used (see `make_data_set`).
    """
    name = stored.name
    y_pool = as_labels(stored.y_pool, f"y_train of {name}")
    every_label = [y_pool] if stored.y_test is None else [y_pool, as_labels(stored.y_test, f"y_test of {name}")]
    classes = class_count(torch.cat(every_label), stored.num_classes, name)
    if np.ndim(stored.x_pool) == 0 or len(stored.x_pool) != len(y_pool):
        raise InputError(
            f"x_train of {name} has shape {np.shape(stored.x_pool)} and y_train {len(y_pool)} labels",
            "as many labels as samples",
        )
    missing = set(choice.only) - set(y_pool.tolist())
    if missing:
        raise InputError(
            f"only={','.join(map(str, choice.only))} of {name}, which has no class {min(missing)}",
            f"classes from 0 to {classes - 1} that it holds",
        )
    pool, true = _renumbered(y_pool.numpy(), choice.only)
    classes = len(choice.only) or classes
    if choice.train is not None and choice.train > len(pool):
        raise InputError(f"train={choice.train} of {name}", f"at most {len(pool)}, all there are")
    taken = balanced_order(true, choice.seed)[: choice.train]
    labels = noisy_labels(true, choice.label_noise, classes, choice.seed)[taken]
    x_test = y_test = None
    if stored.x_test is not None and stored.y_test is not None:
        if len(stored.x_test) != len(stored.y_test):
            raise InputError(
                f"x_test of {name} has {len(stored.x_test)} samples and y_test {len(stored.y_test)}",
                "as many labels as samples",
            )
        places, y_test = _renumbered(every_label[1].numpy(), choice.only)
        part = part_of_test_set(choice.test, len(places))
        x_test, y_test = stored.decode(stored.x_test[places[part]]), y_test[part]
    samples = Samples(stored.decode(stored.x_pool[pool[taken]]), labels, x_test, y_test, classes)
    return make_data_set(samples, name, str(specification), len(pool), choice.test, stored.normalisation, stored.notes)
