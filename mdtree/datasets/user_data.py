"""Data that a user's function returns, ``module:function?key=value``, in whatever form they stand in training code.

One part, the training data, or two, training and test data **in this order**, each of them

- arrays or tensors ``(x, y)``; two parts also as ``(x_train, y_train, x_test, y_test)``, as a pair of pairs or as a
  dict with those keys; x may be a dict of inputs by name;
- a torch Dataset, TensorDataset or Subset, or a list, of samples: (input, label), or a dict with a label
  (`mdtree.datasets.sample_batches.LABEL_NAMES`);
- a DataLoader: the data set behind it is read in its own order, see `mdtree.datasets.sample_sources`;
- a Hugging Face ``datasets.Dataset``;
- an IterableDataset, a generator or any other iterable of samples or batches that ends.

Parts may also come by name, ``{"train": ..., "val": ...}``, as a ``DatasetDict`` does, with ``num_classes`` if wanted;
or from a LightningDataModule, of which ``setup("fit")``, ``train_dataloader()`` and ``val_dataloader()`` are called.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdtree.datasets.data_files import FIXED_SEED
from mdtree.datasets.data_set import DataSet, Samples, make_data_set
from mdtree.datasets.sample_batches import LABEL_NAMES, as_batch, described, joined
from mdtree.datasets.sample_sources import is_source, read_source
from mdtree.errors import InputError
from mdtree.specification import Specification, listing, shown
from mdtree.user_code import call_user_function, isolated_random_state

HELD_OUT_NAMES = ("validation", "val", "valid", "dev", "eval", "test")
"""By which names a test set may come; where there are several, the first: what is tuned on may be looked at again."""

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_FORMS = (
    "(x_train, y_train[, x_test, y_test]), a dict with those keys, a torch Dataset, a DataLoader or another iterable "
    "of (input, label), a pair (train, test) or a dict {'train', 'test'} of these, or a DataSet"
)
_DRAWS = (
    "the function draws random numbers without a seed of its own: if they split or shuffle, these are not the training "
    "data of a network that was trained elsewhere (give the split a generator with a fixed seed)"
)


def load_user_data(spec: Specification, directory: Path) -> DataSet:
    """Call the function a specification names, with its options as keyword arguments, and read what it returns.

    The function and the reading see the global random state seeded with `FIXED_SEED`: the same words name the same
    data. What is read sample by sample is read twice in part, and refused if it changes.

    Raises
    ------
    InputError
        If the function raises, returns something else, or its data cannot be used (see `make_data_set`).
    ResourceError
        If they do not fit in memory.
    """

    def call() -> object:
        with isolated_random_state(FIXED_SEED):
            return call_user_function(spec, directory)

    returned, notes = _called(spec, directory)
    held = _data_set(returned, f"{spec.name}:{spec.target}", call)
    return replace(held, specification=str(spec), notes=(*held.notes, *notes))


def data_of(value: object, name: str) -> DataSet:
    """The data a caller has in memory, in any form a user's function may return.

    Parameters
    ----------
    value : object
        See the module.
    name : str
        What to call it in errors and in `DataSet.name`.

    Raises
    ------
    InputError, ResourceError
        As `load_user_data`; also for a generator, which can be read once only.
    """

    def once() -> object:
        raise InputError(f"{name} can be read once only", "a Dataset, a DataLoader or a list of samples")

    return _data_set(value, name, once)


def _data_set(returned: object, name: str, call: Callable[[], object]) -> DataSet:
    """What was returned, read and checked; `call` returns it anew, for what can be read once only."""
    if isinstance(returned, DataSet):
        samples = Samples(returned.x_train, returned.y_train, returned.x_test, returned.y_test, returned.num_classes)
        origin = returned.train_size_full, returned.test_part, returned.normalisation, returned.notes
        return make_data_set(samples, name, name, *origin)
    parts = _parts_of(returned, name)
    samples, notes = parts.samples, parts.notes
    if parts.train is not None:
        x, y, said = _read(parts.train, f"the training set of {name}", lambda: _parts_of(call(), name).train)
        samples, notes = replace(samples, x_train=x, y_train=y), (*notes, *said)
    if parts.test is not None:
        x, y, said = _read(parts.test, f"the test set of {name}", lambda: _parts_of(call(), name).test)
        samples = replace(samples, x_test=x, y_test=y)
        notes = (*notes, *(f"test set: {note}" for note in said if note not in notes))
    return make_data_set(samples, name, name, notes=notes)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a function returned: arrays, in `samples`, or what is yet to be read."""

    train: object = None
    test: object = None
    samples: Samples = field(default_factory=lambda: Samples(None, None))
    notes: tuple[str, ...] = ()


def _called(spec: Specification, directory: Path) -> tuple[object, tuple[str, ...]]:
    """What the function returns, and a note if that hangs on the global random state.

    Where a generator has moved, the function is called once more under another seed: one that seeds itself leaves the
    generator in the same place again.
    """
    with isolated_random_state(FIXED_SEED):
        before = _random_states()
        returned = call_user_function(spec, directory)
        after = _random_states()
    if all(map(np.array_equal, before, after)):
        return returned, ()
    with isolated_random_state(FIXED_SEED + 1):
        before_again = _random_states()
        call_user_function(spec, directory)
        again = _random_states()
    drawn = (
        not np.array_equal(start, end) and not np.array_equal(first, end)
        for start, first, end in zip(before_again, after, again, strict=True)
    )
    return returned, (_DRAWS,) if any(drawn) else ()


def _random_states() -> list[Any]:
    """The states of the generators of `random`, numpy and torch (CPU)."""
    _, keys, position, *_ = np.random.get_state()
    return [random.getstate()[1], np.append(keys, position), torch.get_rng_state().numpy().copy()]


def _parts_of(returned: object, name: str) -> _Parts:
    if all(callable(getattr(returned, method, None)) for method in ("setup", "train_dataloader")):
        return _parts_of_module(returned, name)
    if isinstance(returned, Mapping):
        return _parts_of_mapping(returned, name)
    if isinstance(returned, tuple | list):
        return _parts_of_sequence(returned, name)
    if is_source(returned):
        return _Parts(returned)
    raise InputError(f"{name} returned {described(returned)}", _FORMS)


def _parts_of_mapping(returned: Mapping[Any, Any], name: str) -> _Parts:
    """``{"x_train": ...}``, ``{"train": ..., "test": ...}`` or one batch of everything, ``{"input_ids", "labels"}``."""
    classes = returned.get("num_classes")
    given = [str(key) for key in returned if key != "num_classes"]
    if "x_train" in given and "y_train" in given and set(given) <= set(_KEYS):
        x_train, y_train, x_test, y_test = (returned.get(key) for key in _KEYS)
        return _Parts(samples=Samples(x_train, y_train, x_test, y_test, classes))
    held = [key for key in HELD_OUT_NAMES if returned.get(key) is not None]
    if "train" in given:
        left = [key for key in given if key not in ("train", *held[:1])]
        notes = [f"the test set is the part {held[0]}"] if held else []
        notes += [f"parts left aside: {listing(left)}"] if left else []
        test = returned[held[0]] if held else None
        return _Parts(returned["train"], test, Samples(None, None, num_classes=classes), tuple(notes))
    if any(key in given for key in LABEL_NAMES):
        return _Parts(_WholeBatch(returned), samples=Samples(None, None, num_classes=classes))
    raise InputError(
        f"{name} returned a dict with the keys {listing(given) or 'none'}",
        f"{', '.join(_KEYS)} (the last two, and num_classes, only if you have them), or train and test",
    )


def _parts_of_sequence(returned: tuple[Any, ...] | list[Any], name: str) -> _Parts:
    """Arrays, a pair or triple of sources, a pair of pairs of arrays, or a list of samples."""
    parts = list(returned)
    if len(parts) in (2, 3) and is_source(parts[0]) and all(part is None or is_source(part) for part in parts[1:]):
        notes = ("of three parts the second is the test set, the third is left aside",) if len(parts) == 3 else ()
        return _Parts(parts[0], parts[1], notes=notes)
    if len(parts) == 2 and all(isinstance(part, tuple | list) and _is_pair_of_arrays(part) for part in parts):
        return _Parts(samples=Samples(*parts[0], *parts[1]))
    if isinstance(returned, list) and parts and all(_is_sample(part) for part in parts):
        return _Parts(returned)
    if len(parts) in (2, 4) and not any(is_source(part) for part in parts):
        return _Parts(samples=Samples(*parts))
    raise InputError(f"{name} returned {described(returned)}", _FORMS)


def _is_pair_of_arrays(part: tuple[Any, ...] | list[Any]) -> bool:
    return len(part) == 2 and all(getattr(value, "ndim", 0) > 0 or isinstance(value, Mapping) for value in part)


def _is_sample(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, tuple) and len(value) == 2)


def _parts_of_module(module: Any, name: str) -> _Parts:
    """The loaders of a LightningDataModule; it is set up as for training, and prepares nothing (no download)."""
    try:
        module.setup("fit")
        train = module.train_dataloader()
        held = module.val_dataloader() if _implements(module, "val_dataloader") else None
    except Exception as error:  # the user's methods may raise anything
        told = shown(" ".join(f"{type(error).__name__}: {error}".split()))
        raise InputError(
            f"the data module of {name} raised {told}", 'loaders after setup("fit")', "run its prepare_data() before"
        ) from error
    train, held = (loader[0] if isinstance(loader, list | tuple) and loader else loader for loader in (train, held))
    if not is_source(train):
        raise InputError(f"train_dataloader() of {name} gave {described(train)}", "one DataLoader")
    if held is None or not is_source(held):
        return _Parts(train)
    return _Parts(train, held, notes=("the test set is that of val_dataloader()",))


def _implements(module: Any, method: str) -> bool:
    """Whether the user's classes, not Lightning's own, have a method."""
    ours = (
        kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] not in ("lightning", "pytorch_lightning")
    )
    return any(method in vars(kind) for kind in ours)


@dataclass(frozen=True, eq=False)
class _WholeBatch:
    """All samples of a part in one dict of arrays with labels."""

    columns: Mapping[Any, Any]


def _read(part: Any, what: str, fetch_again: Callable[[], Any]) -> tuple[object, object, tuple[str, ...]]:
    """Inputs, labels and notes of one part."""
    if isinstance(part, Mapping):
        part = _WholeBatch(part)
    if isinstance(part, _WholeBatch):
        columns = {key: value for key, value in part.columns.items() if key != "num_classes"}
        whole = joined([as_batch(columns, True, what)], what)
        return whole.inputs, whole.labels, whole.notes
    if isinstance(part, tuple) and len(part) == 2 and not any(map(is_source, part)):
        return part[0], part[1], ()
    if not is_source(part) and not (isinstance(part, list) and all(_is_sample(value) for value in part)):
        raise InputError(f"{what} is {described(part)}", "(x, y), a Dataset, a DataLoader or another iterable")
    first = [part]
    read = read_source(lambda: first.pop() if first else _again(part, fetch_again), what)
    return read.inputs, read.labels, read.notes


def _again(part: Any, fetch_again: Callable[[], Any]) -> Any:
    """The same part for another pass: itself, or, if it can be read once only, what the function returns next."""
    return fetch_again() if hasattr(part, "__next__") else part
