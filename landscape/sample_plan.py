"""Which way the per-sample gradients of each parameter are found.

A parameter belongs to a *group*: a layer with a rule of its own (:mod:`landscape.layer_squares`); else the nearest
module around it whose calls have the samples in the first dimension of what they get and return, computed again for
each sample (:mod:`landscape.module_squares`); else the whole network, computed again for each sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from landscape.inputs import sample_count
from landscape.layer_squares import Rule, rule_of
from landscape.network import Network
from landscape.recorded_calls import Call, Layout, RecordedCalls, UnsupportedError

Layouts: TypeAlias = "Mapping[tuple[int, tuple[int, ...]], Layout]"
"""By the form of a call (:meth:`landscape.recorded_calls.Call.form`)."""


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters whose squared norms are found together.

    Parameters
    ----------
    module : nn.Module
    names : tuple of str
        Relative to the module.
    indices : tuple of int
        Their places among the network's parameters.
    rule : Rule or None
        None where the module is computed again for each sample.
    layouts : mapping of (int, tuple of int) to Layout
        Of calls with so many tensor arguments and gradients at these outputs.
    """

    module: nn.Module
    names: tuple[str, ...]
    indices: tuple[int, ...]
    rule: Rule | None
    layouts: Layouts


@dataclass(frozen=True, eq=False)
class Plan:
    """Groups that hold every parameter once, but for those on which no logit depends.

    Parameters
    ----------
    groups : tuple of Group
    unused : tuple of int
        Places of the other parameters.
    """

    groups: tuple[Group, ...]
    unused: tuple[int, ...]

    def share_of(self, module: nn.Module, sizes: list[int]) -> float:
        """Share of all parameters for which `module` is computed again for each sample."""
        held = [i for group in self.groups if group.module is module and group.rule is None for i in group.indices]
        return sum(sizes[i] for i in held) / sum(sizes)


class Planner:
    """Plans from one forward pass over a few samples.

    Parameters
    ----------
    network : Network
    few : Inputs
        A few samples: their number tells the dimension that holds them.
    used : list of bool
        For each parameter, whether the logits depend on it.
    """

    def __init__(self, network: Network, few: Any, used: list[bool]) -> None:
        self.network = network
        self.count = sample_count(few)
        modules = [m for m in network.module.modules() if next(m.parameters(), None) is not None]
        self.parents = {child: module for module in modules for child in module.children()}
        self.homes: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in modules:
            for name, parameter in module.named_parameters(recurse=False):
                self.homes.setdefault(id(parameter), []).append((module, name))
        self.layouts: dict[nn.Module, Layouts | None] = {}
        self.rules: dict[nn.Module, Rule | None] = {}
        self.calls = RecordedCalls(modules)
        with self.calls.recording():
            network(few)
        self.ways = [self._ways(index) if needed else None for index, needed in enumerate(used)]
        self.calls.clear()

    def plan(self) -> Plan:
        """Every parameter by the first way left to it."""
        gathered: dict[tuple[nn.Module, bool], list[tuple[int, str]]] = {}
        for index, ways in enumerate(self.ways):
            if ways is not None:
                module, name, by_rule = ways[0]
                gathered.setdefault((module, by_rule), []).append((index, name))
        groups = []
        for (module, by_rule), members in gathered.items():
            indices, names = zip(*members, strict=True)
            rule = self.rules[module] if by_rule else None
            groups.append(Group(module, names, indices, rule, self.layouts.get(module) or {}))
        return Plan(tuple(groups), tuple(i for i, ways in enumerate(self.ways) if ways is None))

    def give_up(self, group: Group) -> bool:
        """Strike the way that failed for a group; whether another one is left."""
        for index in group.indices:
            ways = self.ways[index]
            assert ways is not None
            if len(ways) == 1:
                return False
            ways.pop(0)
        return True

    def _ways(self, index: int) -> list[tuple[nn.Module, str, bool]]:
        """Modules that can find a parameter's gradients, its name in them, and whether by a rule: the best first."""
        root = self.network.module
        whole = (root, self.network.names[index], False)
        homes = self.homes[id(self.network.parameters[index])]
        if len(homes) > 1:  # shared by layers: its gradient is a sum over them
            return [whole]
        module, name = homes[0]
        ways: list[tuple[nn.Module, str, bool]] = []
        while True:
            if not ways and self._rule(module, name) is not None:
                ways.append((module, name, True))
            if module is root:
                break
            if self._layout(module):
                ways.append((module, name, False))
                break
            child, module = module, self.parents[module]
            name = f"{next(key for key, other in module.named_children() if other is child)}.{name}"
        return [*ways, whole]

    def _rule(self, module: nn.Module, name: str) -> Rule | None:
        calls = self.calls.of.get(module)
        if calls is None:
            return None
        if module not in self.rules:
            self.rules[module] = rule_of(module) if all(_by_samples(c, self.count) for c in calls) else None
        rule = self.rules[module]
        return rule if rule is not None and name in rule.names else None

    def _layout(self, module: nn.Module) -> Layouts | None:
        """Where the samples are in a module's calls; None where that does not follow from them."""
        if module not in self.layouts:
            try:
                self.layouts[module] = self._find_layout(self.calls.of.get(module, []))
            except UnsupportedError:
                self.layouts[module] = None
        return self.layouts[module]

    def _find_layout(self, calls: list[Call]) -> Layouts | None:
        layouts: dict[tuple[int, tuple[int, ...]], Layout] = {}
        for call in calls:
            given = tuple(self._samples_in(tensor.shape) for tensor in call.arguments())
            returned = tuple(place for place in map(self._samples_in, call.shapes) if place is not None)
            layout = Layout(given, returned)
            if set(given) <= {None} or len(returned) < len(call.shapes):
                return None
            if layouts.setdefault(call.form(), layout) != layout:
                return None
        return layouts or None

    def _samples_in(self, shape: torch.Size) -> int | None:
        """The first dimension of the samples' number: where that is another one, the comparison will tell."""
        return shape.index(self.count) if self.count in shape else None


def _by_samples(call: Call, count: int) -> bool:
    """Whether a layer got and returned one row a sample."""
    try:
        first = next(iter(call.arguments()), None)
    except UnsupportedError:
        return False
    if first is None or first.dim() == 0 or len(first) != count:
        return False
    return all(shape[:1] == (count,) for shape in call.shapes)
