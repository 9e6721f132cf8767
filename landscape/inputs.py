"""What a network takes: one tensor, several in order, or several by name; counted, cut and handed over alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from landscape.errors import LandscapeError

Inputs: TypeAlias = "Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]"
"""A tensor is called as ``model(x)``, a tuple or list as ``model(*x)``, a mapping as ``model(**x)``.

Every tensor in it has the samples in its first dimension; what is no tensor goes to the model as it is.
"""


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of the call that `inputs` stand for."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    return (inputs,), {}


def tensors(inputs: Any) -> list[Tensor]:
    """Every tensor in a nest of tuples, lists and mappings, in its order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    items = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else ()
    return [tensor for item in items for tensor in tensors(item)]


def each_tensor(function: Callable[[Tensor], Any], inputs: Any) -> Any:
    """The same nest with every tensor replaced by ``function(tensor)``."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {key: each_tensor(function, item) for key, item in inputs.items()}
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(each_tensor(function, item) for item in inputs))
    if isinstance(inputs, tuple | list):
        return type(inputs)(each_tensor(function, item) for item in inputs)
    return inputs


def sample_count(inputs: Any) -> int:
    """Samples in the inputs, or in a whole batch: the first dimension of its first tensor.

    Raises
    ------
    LandscapeError
        If there is no tensor with a dimension.
    """
    for tensor in tensors(inputs):
        if tensor.dim():
            return len(tensor)
    kind = type(inputs).__name__
    raise LandscapeError(f"a batch of type {kind} without a tensor", "tensors, in tuples, lists, dicts")


def check_lengths(inputs: Inputs) -> None:
    """Raise LandscapeError unless all tensors have as many samples as the first."""
    shapes = [tuple(tensor.shape) for tensor in tensors(inputs)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise LandscapeError(f"inputs of shapes {shapes}", "tensors with the samples in their first dimension")


def take(inputs: Inputs, index: Tensor | slice) -> Any:
    """The chosen samples of every tensor."""
    if isinstance(index, slice):
        return each_tensor(lambda tensor: tensor[index], inputs)
    return each_tensor(lambda tensor: tensor[index.to(tensor.device)], inputs)


def concatenate(parts: list[Any]) -> Any:
    """Inputs of one kind one after the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {key: concatenate([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(concatenate([part[i] for part in parts]) for i in range(len(first)))
    return first


def shape_text(inputs: Inputs) -> str:
    """Shapes of the tensors, for a message."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors(inputs))


def inputs_and_targets(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and targets of one batch of a loader: a pair, or a mapping whose ``labels`` are the targets.

    Raises
    ------
    LandscapeError
        If it is neither.
    """
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise LandscapeError(f"a batch with the keys {', '.join(map(str, batch))}", "the targets under 'labels'")
        return {key: item for key, item in batch.items() if key != "labels"}, batch["labels"]
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise LandscapeError(
            f"a batch of type {type(batch).__name__}", "a pair (inputs, targets), or a mapping with 'labels'"
        )
    return batch[0], batch[1]
