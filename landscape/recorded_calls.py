"""What chosen modules got in one forward pass, and the gradients that reach what they returned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from landscape.inputs import each_tensor, tensors


class UnsupportedError(RuntimeError):
    """A route to per-sample gradients does not hold for this network."""


@dataclass(frozen=True)
class Layout:
    """Where the samples are in what a module gets and returns.

    Parameters
    ----------
    arguments : tuple of int or None
        Their dimension in each tensor argument; None where it has none.
    outputs : tuple of int
        Their dimension in each output that can have a gradient.
    """

    arguments: tuple[int | None, ...]
    outputs: tuple[int, ...]


@dataclass(eq=False)
class Call:
    """One call of a module.

    Parameters
    ----------
    positional, named : tuple, dict
        Its arguments, detached.
    versions : list of int
        Of the tensors among them, to notice that one was changed in place since.
    places : list of int
        Which tensors of the output, in their order, can have a gradient.
    shapes : list of torch.Size
        Of each of these.
    gradients : list of Tensor or None
        The gradient at each of these, once it has arrived.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any]
    versions: list[int]
    places: list[int] = field(default_factory=list)
    shapes: list[torch.Size] = field(default_factory=list)
    edges: list[GradientEdge] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)

    def arguments(self) -> list[Tensor]:
        """Every tensor among the arguments.

        Raises
        ------
        UnsupportedError
            If one of them was changed in place since the call.
        """
        found = tensors((self.positional, self.named))
        if [tensor._version for tensor in found] != self.versions:
            raise UnsupportedError("an argument changed in place")
        return found

    def form(self) -> tuple[int, tuple[int, ...]]:
        """Number of tensor arguments, and places of the outputs that can have a gradient."""
        return len(self.versions), tuple(self.places)


class RecordedCalls:
    """The calls of `modules` in the forward passes made while :meth:`recording`.

    Hooks on the outputs, not ``autograd.grad`` for them, see the gradients: so each can be used and let go while the
    backward pass runs.

    Attributes
    ----------
    of : dict
        The calls of each module that was called, in their order.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules = list(modules)
        self.of: dict[nn.Module, list[Call]] = {}
        self._arrived: Callable[[nn.Module], None] | None = None

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Around a forward pass."""
        hooks = [module.register_forward_hook(self._keep, with_kwargs=True) for module in self.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        found = tensors((positional, named))
        detached = each_tensor(Tensor.detach, positional), each_tensor(Tensor.detach, named)
        call = Call(*detached, versions=[tensor._version for tensor in found])
        self.of.setdefault(module, []).append(call)
        watched = [tensor for tensor in tensors(output) if tensor.requires_grad]
        several = len(watched) > 1 and (type(output) is dict or not isinstance(output, Mapping))
        if several or (isinstance(output, Tensor) and any(tensor._is_view() for tensor in watched)):
            # of several outputs one may be made from another: only a copy has the gradient from outside alone; and a
            # view that is changed in place later on would lose its place in the graph
            output = each_tensor(lambda tensor: tensor.clone() if tensor.requires_grad else tensor, output)
        for place, tensor in enumerate(tensors(output)):
            if not tensor.is_leaf:  # a parameter returned as it is would keep its hook
                self._watch(module, call, place, tensor)
        return output

    def _watch(self, module: nn.Module, call: Call, place: int, tensor: Tensor) -> None:
        call.places.append(place)
        call.shapes.append(tensor.shape)
        call.edges.append(get_gradient_edge(tensor))
        call.gradients.append(None)
        tensor.register_hook(partial(self._arrive, module, call, len(call.gradients) - 1))

    def _arrive(self, module: nn.Module, call: Call, index: int, gradient: Tensor) -> None:
        if self._arrived is None:
            return
        call.gradients[index] = gradient.detach()
        if all(kept is not None for each in self.of[module] for kept in each.gradients):
            self._arrived(module)

    def backward(
        self,
        outputs: Tensor,
        direction: Tensor,
        arrived: Callable[[nn.Module], None],
        *,
        unused: Sequence[Tensor],
        retain_graph: bool,
    ) -> None:
        """Bring the gradients of ``outputs . direction`` to the calls; no parameter's gradient is computed.

        Parameters
        ----------
        arrived : callable
            Called with a module as soon as all gradients of all its calls are there.
        unused : sequence of Tensor
            Parameters on which the outputs must not depend.

        Raises
        ------
        UnsupportedError
            If they do depend on one of those.
        """
        inputs: list[Any] = [*self._sources(), *unused]
        if not inputs:
            return
        self._arrived = arrived
        try:
            found = torch.autograd.grad(outputs, inputs, direction, retain_graph=retain_graph, allow_unused=True)
        finally:
            self._arrived = None
        if any(gradient is not None for gradient in found[len(inputs) - len(unused) :]):
            raise UnsupportedError("a parameter used in this batch, not in the first")

    def _sources(self) -> list[GradientEdge]:
        """Recorded outputs that depend on no other: the backward pass to them goes by all the others."""
        edges = [edge for calls in self.of.values() for call in calls for edge in call.edges]
        leads = {edge.node: True for edge in edges}  # whether a node is recorded, or something before it
        before: dict[Node, bool] = {}
        for edge in edges:
            stack = [edge.node]
            while stack:
                node = stack[-1]
                if node in before:
                    stack.pop()
                    continue
                nexts = [n for n, _ in node.next_functions if n is not None]
                waiting = [n for n in nexts if n not in before]
                if waiting:
                    stack.extend(waiting)
                    continue
                before[node] = any(leads[n] for n in nexts)
                leads.setdefault(node, before[node])
                stack.pop()
        return [edge for edge in edges if not before[edge.node]]

    def forget_gradients(self) -> None:
        """Before the next backward pass."""
        for calls in self.of.values():
            for call in calls:
                call.gradients = [None] * len(call.gradients)

    def clear(self) -> None:
        """Let everything go, and cut the circle of graph, hooks and calls."""
        for calls in self.of.values():
            for call in calls:
                call.positional, call.named, call.edges, call.gradients = (), {}, [], []
        self.of.clear()
