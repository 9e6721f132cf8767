"""Data sets by name: ``digits``, ``npz:FILE``, ``parquet:FILE``, ``cifar10:DIR``, ``idx:DIR``, ``module:function``.

A named data set is a *pool* to train on and a fixed *test set*. The same options choose from all of them:

``train=N``
    N samples of the pool, in an order drawn from ``seed`` (all of them by default). The order takes the classes in
    turn, so every prefix is balanced, and for one seed a smaller ``train`` is contained in a larger one.
``seed=S``
    Draws that order and the label noise; 0 by default.
``label_noise=P``
    Each label is replaced, with probability P, by one of the other classes. Drawn once for the whole pool: a sample
    keeps its wrong label whatever ``train`` is, and the wrong labels at a smaller P are among those at a larger one.
``test=first_half|second_half|all``
    The test set is cut in two fixed halves. The first, the default, is what ``test_*`` metrics are measured on; the
    second is kept for scoring gains. ``npz`` keeps its test set whole by default. `cut_test_set` gives both halves.
``only=A,B,C``
    Keeps these classes alone, in pool and test set, before anything else is chosen, and renumbers them 0, 1, 2 in the
    order given. All of them by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import Dataset, IterableDataset

from mdtree.data_files import FIXED_SEED, load_digits, load_idx, load_npz
from mdtree.data_set import TEST_GAIN_HALF, TEST_METRIC_HALF, DataSet, Samples, cut_test_set, make_data_set
from mdtree.errors import InputError
from mdtree.parquet_data import load_cifar10, load_parquet
from mdtree.specification import Specification, parse
from mdtree.user_code import call_user_function, isolated_random_state

__all__ = ["KNOWN_FORMS", "TEST_GAIN_HALF", "TEST_METRIC_HALF", "DataSet", "cut_test_set", "load_data"]

KNOWN_FORMS = (
    "digits?train=N&label_noise=P&seed=S",
    "npz:FILE",
    "cifar10:DIR?train=N&size=32",
    "idx:DIR?train=N&size=28",
    "parquet:FILE?image=COLUMN&label=COLUMN",
    "module:function?key=value",
)

_LOADERS: Mapping[str, Callable[[Specification, Path], DataSet]] = {
    "digits": load_digits,
    "npz": load_npz,
    "cifar10": load_cifar10,
    "idx": load_idx,
    "parquet": load_parquet,
}

BUILT_IN_DATA = tuple(_LOADERS)
"""Data sets that are read without calling anybody's function."""

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_data(spec: str, directory: Path | None = None) -> DataSet:
    """Load the data set a specification names.

    Parameters
    ----------
    spec : str
        ``digits``, ``npz:FILE``, ``cifar10:DIR``, ``idx:DIR`` or ``parquet:FILE`` with the options of this module
        (``digits`` also ``shape=flat|image``, ``cifar10`` also ``size=32|16|8``, ``npz`` also ``classes=C``,
        ``parquet`` those of `mdtree.parquet_data.load_parquet`), or ``module:function?key=value``. In a path,
        ``$NAME`` and ``${NAME}`` stand for environment variables; ``cifar10`` and ``idx`` without a folder look for
        ``cifar10`` and ``mnist10k`` in the folder that the environment variable MDTREE_DATA names. A function, given
        the options as keyword arguments, returns a `DataSet`, a tuple ``(x_train, y_train)`` or ``(x_train, y_train,
        x_test, y_test)``, a dict with those keys (and perhaps ``num_classes``), a torch Dataset of (input, label)
        pairs, or two of them (train, test).
    directory : Path, optional
        Where relative paths and the user's modules start; the current directory by default.

    Returns
    -------
    DataSet

    Raises
    ------
    InputError
        If the name, an option, or the data itself cannot be used.
    """
    parsed = parse(spec)
    start = directory or Path.cwd()
    if parsed.name in _LOADERS:
        return _LOADERS[parsed.name](parsed, start)
    if not parsed.target:
        raise InputError(f"unknown data set {parsed.name!r}", f"one of {', '.join(KNOWN_FORMS)}")
    name = f"{parsed.name}:{parsed.target}"
    # random splits and transforms of the user's are drawn from one fixed seed: the same words name the same data
    with isolated_random_state(FIXED_SEED):
        returned = call_user_function(parsed, start)
        samples = _samples(returned, name)
    if isinstance(returned, DataSet):
        return make_data_set(samples, name, str(parsed), returned.train_size_full, returned.test_part)
    return make_data_set(samples, name, str(parsed))


def _samples(returned: object, name: str) -> Samples:
    """What a user's function returned, as arrays."""
    if isinstance(returned, DataSet):
        return Samples(returned.x_train, returned.y_train, returned.x_test, returned.y_test, returned.num_classes)
    if isinstance(returned, Dataset):
        return Samples(*_stacked(returned, name))
    if isinstance(returned, Mapping):
        unknown = [str(key) for key in returned if key not in (*_KEYS, "num_classes")]
        if unknown or "x_train" not in returned or "y_train" not in returned:
            raise InputError(
                f"{name} returned a dict with the keys {', '.join(map(str, returned)) or 'none'}",
                f"{', '.join(_KEYS)} (the last two, and num_classes, only if you have them)",
            )
        x_train, y_train, x_test, y_test = (returned.get(key) for key in _KEYS)
        return Samples(x_train, y_train, x_test, y_test, returned.get("num_classes"))
    if isinstance(returned, tuple | list):
        parts = list(returned)
        if len(parts) == 2 and all(isinstance(part, Dataset) for part in parts):
            return Samples(*_stacked(parts[0], name), *_stacked(parts[1], name))
        if len(parts) in (2, 4):
            return Samples(*parts)
    raise InputError(
        f"{name} returned {_described(returned)}",
        "(x_train, y_train[, x_test, y_test]), a dict with those keys, a torch Dataset, or a DataSet",
    )


def _stacked(data_set: Dataset[object], name: str) -> tuple[torch.Tensor, list[object]]:
    """All inputs of a map-style torch Dataset in one tensor, and its labels, in order."""
    if isinstance(data_set, IterableDataset) or not hasattr(data_set, "__len__"):
        raise InputError(f"{name} returned an iterable Dataset", "one with a length and an index")
    inputs: list[torch.Tensor] = []
    labels: list[object] = []
    try:
        for index in range(len(data_set)):
            x, y = cast(tuple[object, object], data_set[index])
            inputs.append(torch.as_tensor(x))
            labels.append(y.item() if isinstance(y, torch.Tensor) and y.ndim == 0 else y)
        return torch.stack(inputs), labels
    except Exception as error:  # the user's __getitem__ may raise anything
        raise InputError(
            f"the Dataset of {name} cannot be stacked ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            "(input, label) pairs, the inputs tensors or arrays of one shape",
        ) from error


def _described(returned: object) -> str:
    return f"{len(returned)} parts" if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
