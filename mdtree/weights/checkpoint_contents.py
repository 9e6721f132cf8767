"""Finding the weights in what a checkpoint holds: which there are, which one is meant, and under which names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import MAX_TENSORS, RE_SAVE
from mdtree.reading.inert_objects import InertObject, module_state
from mdtree.specification import listing, shown
from mdtree.weights.wrapped_names import bare_names

WHOLE_FILE = "file"
"""What weights are called that are all a file holds."""

_KNOWN_KEYS = frozenset(
    {"state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module"}
)
_MEANS = ("ema", "swa")
_MEAN_PARTS = ("averag", "shadow", "polyak")
_NO_MEANS = frozenset({"schema", "cinema", "email", "swap", "emanet"})
_OPTIMIZER_KEYS = frozenset(
    {"optimizer", "optimizers", "optim", "opt", "optimizer_state", "optimizer_states", "optimizer_state_dict"}
    | {"optim_state", "optim_state_dict", "optimizer_g", "optimizer_d"}
)
_RUNNING = frozenset({"running_mean", "running_var", "num_batches_tracked"})
# what optimizers keep for every parameter: of the parameter's shape, and no weight
_OPTIMIZER_SLOTS = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_diff", "exp_inf", "momentum_buffer", "square_avg", "grad_avg"}
    | {"acc_delta", "prev_flat_grad", "exp_avg_sq_row", "exp_avg_sq_col", "master_param", "max_square_avg"}
)
_SHARDED = ("DTensor", "ShardedTensor")

_MAX_DEPTH = 4
_MAX_LISTED = 16  # elements of a list that are looked at: networks come in short lists, histories in long ones
_MAX_CONTAINERS = 100_000  # that are looked at on one level
_MAX_CANDIDATES = 1_000
_MAX_COMPARED = 4  # averages that the weights are compared with
_LONGEST_KEY = 1_000


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights chosen from a checkpoint.

    Parameters
    ----------
    state : dict of str to Tensor
        Names as the bare network has them: what wrappers put into them is taken off.
    found_in : str
        The dotted path they stood under ("checkpoint.model"), or "file" where the file is nothing but weights;
        averaged ones are marked as such.
    candidates : tuple of str
        The paths of all weights in the file.
    notes : tuple of str
        What was taken off the names and what was left aside, as sentences for the report.
    """

    state: dict[str, Tensor]
    found_in: str
    candidates: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_weights(content: Any, path: Path, key: str | None = None) -> Weights:
    """Find the one state dict in what a checkpoint holds, up to four levels deep.

    Averaged weights (EMA, SWA) are never taken unless `key` names them: the loss around them is another one. Nor is
    anything an optimizer keeps. Of several candidates the one under a usual name (``state_dict``, ``model`` ...) is
    taken, the least deep one first.

    Parameters
    ----------
    content : object
        What the file or folder holds.
    path : Path
        Named in errors.
    key : str, optional
        The dotted path to take the weights from, where there are several: "model_ema", "checkpoint.generator".

    Returns
    -------
    Weights

    Raises
    ------
    InputError
        If there are no weights, or several and no `key` to choose, or they are parts of sharded tensors.
    """
    found = _candidates(content)
    if not found:
        raise InputError(
            f"{path} holds no tensors that could be weights ({_described(content)})", "a state dict", RE_SAVE
        )
    names = list(found)
    largest = max(len(state) for state in found.values())
    if largest > MAX_TENSORS:  # said before every name is looked at
        raise InputError(f"{path} holds {largest:,} tensors", f"1 to {MAX_TENSORS:,}")
    averaged = _averaged(content, found)
    if key is None:
        key = _meant(names, averaged, path)
    elif key not in found:
        raise InputError(f"{path} holds no weights under {shown(key)!r}", f"one of {listing(names)}")
    weights = _taken(found, key, path)
    is_mean = key in averaged
    means = [name for name in names if name in averaged and name != key][:_MAX_COMPARED]
    twin = next((name for name in means if _same_parameters(weights.state, found[name])), None)
    if twin is not None and not is_mean:
        note = f"the weights under {shown(key)} are equal to the averaged ones under {shown(twin)}"
        weights = replace(weights, notes=(*weights.notes, note))
        # Lightning puts the mean into the network at the end of training; elsewhere averaging has just begun
        is_mean = isinstance(content, Mapping) and "callbacks" in content
    # what is not called so must not pass for the weights as trained
    return replace(weights, found_in=f"{key} (averaged weights)") if is_mean and not _says_averaged(key) else weights


def _taken(found: Mapping[str, Mapping[Any, Any]], key: str, path: Path) -> Weights:
    """One of the candidates, under the names of the bare network."""
    state, notes = _plain_state(found[key], key, path)
    bare, taken_off = bare_names(state)
    if taken_off:
        notes.append(f"{listing(taken_off)} taken off the weights' names")
    return Weights({name: tensor.detach() for name, tensor in bare.items()}, key, tuple(found), tuple(notes))


def _meant(names: list[str], averaged: frozenset[str], path: Path) -> str:
    """The candidate that is taken unasked."""
    plain = [name for name in names if name not in averaged]
    known = [name for name in plain if name.rpartition(".")[2] in _KNOWN_KEYS]
    least = min((name.count(".") for name in known), default=0)
    for few in (plain, [name for name in known if name.count(".") == least]):
        if len(few) == 1:
            return few[0]
    unnamed = [name for name in names if not _says_averaged(name)]
    if not plain and len(unnamed) == 1:
        return unnamed[0]  # nothing but a mean of torch's AveragedModel, and it will be called one
    raise InputError(
        f"{path} holds {'several sets of weights' if plain else 'averaged weights only'} ({listing(names)})",
        "one",
        f"say which one is meant, for instance --weights {shown((plain or names)[0])}",
    )


def _averaged(content: Any, found: Mapping[str, Mapping[Any, Any]]) -> frozenset[str]:
    """The candidates that are means over training, by their names or by what stands beside them."""
    averaged = {name for name, state in found.items() if "n_averaged" in state or _says_averaged(name)}
    callbacks = content.get("callbacks") if isinstance(content, Mapping) else None
    states = callbacks.values() if isinstance(callbacks, Mapping) else ()
    if any(isinstance(one, Mapping) and "latest_update_step" in one for one in states):
        # Lightning's WeightAveraging saves the mean there, and the weights elsewhere or, after training, nowhere
        averaged.add("state_dict")
    return frozenset(averaged & found.keys())


def _says_averaged(name: str) -> bool:
    # the words of "model_ema", "EMACallback{'decay': 0.9}", "averageModelState", "modelema"
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name[:1000])]
    return any(
        (word.startswith(_MEANS) or word.endswith(_MEANS) or any(part in word for part in _MEAN_PARTS))
        and word not in _NO_MEANS
        for word in words
    )


def _candidates(content: Any) -> dict[str, Mapping[Any, Any]]:
    """Everything that could be the weights, by dotted path, the least deep first.

    Every container is entered once, however often it stands in the file: a hostile one may hold itself.
    """
    found: dict[str, Mapping[Any, Any]] = {}
    partly: dict[str, Mapping[Any, Any]] = {}
    level: list[tuple[str, Any]] = [("", content)]
    # by identity; the values are kept, so that no identity is given twice
    seen: dict[int, tuple[Any, Mapping[Any, Any] | None]] = {}
    for _ in range(_MAX_DEPTH + 1):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            is_new = id(value) not in seen
            if is_new:
                seen[id(value)] = value, _state_in(value, is_root=not path)
            state = seen[id(value)][1]
            if state is not None:
                if len(found) < _MAX_CANDIDATES:
                    found.setdefault(path or WHOLE_FILE, state)
            elif is_new and len(below) < _MAX_CONTAINERS:
                if len(partly) < _MAX_CANDIDATES and _is_mixed_state(value):
                    partly[path] = value
                below += [(f"{path}.{name}" if path else name, one) for name, one in _parts(value)]
        level = below[:_MAX_CONTAINERS]
    for path, state in reversed(partly.items()):
        # weights with an epoch or a version among them: what holds weights further in is no state dict itself
        if not any(name.startswith(f"{path}." if path else "") for name in found):
            found[path or WHOLE_FILE] = state
    return found


def _parts(value: Any) -> list[tuple[str, Any]]:
    """The containers in a container, by the names they stand under; what an optimizer keeps is none of them."""
    if isinstance(value, InertObject):
        held: dict[Any, Any] = value.attributes
    elif isinstance(value, Mapping):
        held = dict(value)
    elif isinstance(value, list | tuple):
        held = dict(enumerate(value[:_MAX_LISTED]))
    else:
        return []
    if "param_groups" in held:
        return []
    return [
        (str(name), one)
        for name, one in held.items()
        if isinstance(one, Mapping | list | tuple | InertObject)
        and isinstance(name, str | int)
        and name not in _OPTIMIZER_KEYS
        and len(str(name)) <= _LONGEST_KEY
    ]


def _state_in(value: Any, is_root: bool) -> Mapping[Any, Any] | None:
    """The state dict that a value is, names to tensors and nothing else; of a pickled module the one it would have."""
    if isinstance(value, InertObject):
        return module_state(value) or None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return None
    # modules may add an extra state that is no tensor
    if not all(_is_tensor(one) or name.endswith("_extra_state") for name, one in value.items()):
        return None
    tensors = [one for name, one in value.items() if _is_tensor(one) and not _is_slot(name)]
    return value if tensors and (is_root or any(_could_be_weight(one) for one in tensors)) else None


def _is_mixed_state(value: Any) -> bool:
    """Whether it is a state dict with a few other values in it, an epoch or a version."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    tensors = {name: one for name, one in value.items() if _is_tensor(one) and not _is_slot(name)}
    return (
        len(tensors) > sum(name not in tensors and not name.endswith("_extra_state") for name in value)
        and any(_could_be_weight(one) for one in tensors.values())
        and any("." in name or name.endswith(("weight", "bias")) for name in tensors)
    )


def _plain_state(state: Mapping[Any, Any], key: str, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that are weights, and what is said of the rest."""
    sharded = next((name for name, one in state.items() if _is_sharded(one)), None)
    if sharded is not None:
        raise InputError(
            f"{shown(sharded)} in {path} is a shard of a tensor that several processes hold (DTensor, ShardedTensor)",
            "whole tensors",
            "save get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of "
            "torch.distributed.checkpoint.state_dict",
        )
    kept = {name: one for name, one in state.items() if isinstance(one, Tensor) and not _is_slot(name)}
    rest = [name for name in state if name not in kept and not name.endswith("_extra_state")]
    where = "the weights" if key == WHOLE_FILE else f"the weights under {shown(key)}"
    return kept, [f"left aside among {where}: {listing(rest)}"] if rest else []


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or _is_sharded(value)


def _is_sharded(value: Any) -> bool:
    name = value.name if isinstance(value, InertObject) else type(value).__name__
    return name.rpartition(".")[2] in _SHARDED


def _could_be_weight(value: Any) -> bool:
    return not isinstance(value, Tensor) or (
        value.dim() > 0 and (value.is_floating_point() or value.is_complex() or value.is_quantized)
    )


def _is_slot(name: str) -> bool:
    """Whether a tensor of this name is what an optimizer keeps for a weight."""
    first, last = name.partition(".")[0], name.rpartition(".")[2]
    return last in _OPTIMIZER_SLOTS or (first in _OPTIMIZER_KEYS and first != name)


def _same_parameters(parameters: Mapping[str, Tensor], state: Mapping[Any, Any]) -> bool:
    """Whether two states are equal but for the running statistics of normalisation, which are refreshed apart."""
    further = bare_names({name: one for name, one in state.items() if isinstance(one, Tensor)})[0]
    names = [name for name in parameters if name.rpartition(".")[2] not in _RUNNING]
    return bool(names) and all(
        name in further
        and parameters[name].dtype == further[name].dtype
        and torch.equal(parameters[name], further[name])
        for name in names
    )


def _described(content: Any) -> str:
    if isinstance(content, InertObject):
        return f"it holds a {shown(content.name)}"
    if isinstance(content, Mapping):
        return f"keys {listing([str(key)[:200] for key in islice(content, 20)])}" if content else "it is empty"
    return f"it holds a {type(content).__name__}"
