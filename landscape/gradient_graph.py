"""The graph of a gradient, which double backward goes through, and the memory it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge, saved_tensors_hooks

from landscape.inputs import tensors

WRONG_TWICE = ("WeightNormInterfaceBackward0",)
"""Operations of torch whose second derivative is wrong: it takes the norm of the weights for a constant."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that the graphs of n samples hold, parameters left out: ``forward n`` and ``fixed + gradient n``."""

    forward: float
    gradient: float
    fixed: float

    def graph(self, samples: int) -> float:
        """Of the gradient with its forward pass."""
        return self.fixed + self.gradient * samples


class GradientGraph:
    """The graph of the gradient of one piece of a batch: of the gradient itself only its edges are held."""

    def __init__(self, value: Tensor, parameters: list[torch.nn.Parameter], size: float) -> None:
        self.size = size  # estimated bytes
        # a weight that wants a gradient of its own: else a layer fed by constants passes for one that is linear
        one = torch.ones_like(value).requires_grad_()
        gradients = torch.autograd.grad(value, parameters, one, create_graph=True, allow_unused=True)
        found = [(i, g) for i, g in enumerate(gradients) if g is not None and g.requires_grad]
        self.edges: list[GradientEdge] = [get_gradient_edge(g) for _, g in found]
        self.positions = [i for i, _ in found]
        self.parameters = parameters

    def check(self) -> None:
        """Raise RuntimeError where a function was marked as differentiable once: differentiation passes it by."""
        seen: set[Node] = set()
        left = [edge.node for edge in self.edges]
        while left:
            node = left.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.name() == "torch::autograd::Error":
                raise RuntimeError("the network has a function that torch cannot differentiate twice")
            left += [following for following, _ in node.next_functions if following is not None]

    def apply(self, directions: list[Tensor], *, batched: bool, retain: bool) -> tuple[Tensor | None, ...]:
        """The derivative of ``gradient . direction``, for each row of the directions where they are batched."""
        if not self.edges:
            return (None,) * len(self.parameters)
        weights = [directions[i] for i in self.positions]
        return torch.autograd.grad(
            self.edges, self.parameters, weights, retain_graph=retain, allow_unused=True, is_grads_batched=batched
        )


def made_of_known_operations(value: Tensor) -> bool:
    """Whether torch's own operations alone, with a right second derivative, lead to a value."""
    seen: set[Node] = set()
    left = [value.grad_fn] if value.grad_fn is not None else []
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) or node.name() in WRONG_TWICE:
            return False
        left += [following for following, _ in node.next_functions if following is not None]
    return True


def saved_bytes(scalar: Callable[[], Tensor], batch: Any, parameters: list[torch.nn.Parameter]) -> tuple[int, int]:
    """Bytes that the forward pass of a batch saves, and those that the graph of its gradient holds in all.

    What is there anyway, the parameters and the batch, is left out.

    Raises
    ------
    RuntimeError
        If the gradient cannot be differentiated.
    """
    seen = {tensor.untyped_storage().data_ptr() for tensor in [*parameters, *tensors(batch)]}
    size = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal size
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            size += storage.nbytes()
        return tensor.detach()  # a saved output would hold the graph that holds it

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        value = scalar()
        forward = size
        graph = GradientGraph(value, parameters, 0.0)
    graph.check()  # held till here, so that no storage was counted as another's
    return forward, size
