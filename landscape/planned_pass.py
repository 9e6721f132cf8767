"""One forward pass over a batch, and the backward passes from which a plan's squared norms follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from landscape.failures import out_of_memory
from landscape.inputs import arguments, sample_count, tensors
from landscape.module_squares import module_squares
from landscape.network import Network
from landscape.recorded_calls import Call, Layout, RecordedCalls, UnsupportedError
from landscape.sample_plan import Group, Plan
from landscape.task import Task


class PlannedPass:
    """A forward pass over a batch, ready for backward passes.

    Parameters
    ----------
    plan : Plan
    network : Network
    task : Task
    inputs : Inputs
    forgiving : bool
        Whether a group whose way fails is noted, its squares NaN, instead of the error raised.

    Attributes
    ----------
    logits : Tensor, shape (n, classes)
        With their graph.
    failed : set of Group
    """

    def __init__(self, plan: Plan, network: Network, task: Task, inputs: Any, *, forgiving: bool = False) -> None:
        self.plan = plan
        self.network = network
        self.task = task
        self.inputs = inputs
        self.forgiving = forgiving
        self.failed: set[Group] = set()
        self.count = sample_count(inputs)
        self.calls = RecordedCalls(dict.fromkeys(g.module for g in plan.groups if not self._whole(g)))
        with self.calls.recording():
            self.logits = task.logits(network(inputs))

    def _whole(self, group: Group) -> bool:
        return group.rule is None and group.module is self.network.module

    def squares(self, direction: Tensor, *, retain_graph: bool) -> list[Tensor]:
        """Squared norms of each group's gradients of ``direction_n . z_n``, in the plan's order, each of shape (n,)."""
        found: dict[Group, Tensor] = {}
        early = {g.module: g for g in self.plan.groups if g.rule is not None and g.rule.at_once}

        def arrived(module: nn.Module) -> None:
            group = early.get(module)
            if group is not None:
                found[group] = self._of_group(group, direction)
                for call in self.calls.of[module]:  # let go while the backward pass runs on
                    call.gradients = [None] * len(call.gradients)

        unused = [self.network.parameters[i] for i in self.plan.unused]
        self.calls.backward(self.logits, direction, arrived, unused=unused, retain_graph=retain_graph)
        for group in self.plan.groups:
            if group not in found:
                found[group] = self._of_group(group, direction)
        self.calls.forget_gradients()
        return [found[group] for group in self.plan.groups]

    def _of_group(self, group: Group, direction: Tensor) -> Tensor:
        try:
            return self._squares_of(group, direction)
        except Exception as error:  # a user's module, computed by itself or under vmap, may raise anything
            if not self.forgiving or out_of_memory(error):
                raise
            self.failed.add(group)
            return direction.new_full((self.count,), torch.nan)

    def _squares_of(self, group: Group, direction: Tensor) -> Tensor:
        if self._whole(group):
            return whole_squares(self.network, self.task, self.inputs, direction, group.names)
        calls = [c for c in self.calls.of.get(group.module, []) if any(g is not None for g in c.gradients)]
        if not calls:
            return direction.new_zeros(self.count)
        if group.rule is None:
            return module_squares(group.module, group.names, calls, [self._layout(group, call) for call in calls])
        if any(shape[:1] != (self.count,) for c in calls for shape in (c.arguments()[0].shape, *c.shapes)):
            raise UnsupportedError("a layer without one row a sample")
        with torch.no_grad():
            return group.rule.squares(group.module, calls, frozenset(group.names))

    def _layout(self, group: Group, call: Call) -> Layout:
        layout = group.layouts.get(call.form())
        if layout is not None:
            shapes = [*(t.shape for t in call.arguments()), *call.shapes]
            places = [*layout.arguments, *layout.outputs]
            if all(d is None or shape[d : d + 1] == (self.count,) for d, shape in zip(places, shapes, strict=True)):
                return layout
        raise UnsupportedError("a call unlike those of the first samples")

    def close(self) -> None:
        """Let the graph go."""
        self.calls.clear()


def whole_squares(network: Network, task: Task, inputs: Any, direction: Tensor, names: tuple[str, ...]) -> Tensor:
    """The same of named parameters by the whole network computed again for each sample, shape (n,)."""
    positional, named = arguments(inputs)
    given = tensors((positional, named))
    call = Call(positional, named, [tensor._version for tensor in given], gradients=[direction])
    layout = Layout((0,) * len(given), (0,))
    return module_squares(network.module, names, [call], [layout], lambda _, output: [task.logits(output)])
