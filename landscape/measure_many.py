"""Everything the protocol asks for of many networks and their siblings: their curves trained together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from landscape.curve_stack import CurveStack, may_be_stacked
from landscape.errors import LandscapeError
from landscape.ledger import Progress
from landscape.measure import Request, measure_group
from landscape.measurement import Measurement
from landscape.network import Network, computing
from landscape.objective import LossFunction, Objective
from landscape.protocol import Execution, Protocol
from landscape.task import ClassificationData, Task


def measure_many(
    groups: Sequence[Sequence[nn.Module]],
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    *,
    fresh: Callable[[], nn.Module] | None = None,
    initial_norm_squared: float | None = None,
    progress: Progress | None = None,
    task: Task | LossFunction | None = None,
) -> list[Measurement]:
    """Measure many networks of one architecture on the same data, each with its siblings.

    Result i is that of :func:`landscape.measure` for ``groups[i]``, and faster for small networks: their curves are
    trained in one stack (see :mod:`landscape.curve_stack`), and a network that stands in several groups is copied
    once. The values that come from a curve agree up to the rounding of its training, all others are the same bytes.
    Where the rule on kinds and sizes of layers (:func:`landscape.curve_stack.may_be_stacked`) refuses that, and under a
    time budget, all are measured one by one.

    Parameters
    ----------
    groups : sequence of sequences of nn.Module
        Each a network under study and its siblings; a module may stand in several groups. None is changed.
    data, protocol, execution, fresh, initial_norm_squared, task
        As for :func:`landscape.measure`, the same for all groups.
    progress : callable, optional
        Called with a stage's name and the share of the stage that is done: ``curves`` for all groups first, then the
        stages of each group in turn.

    Returns
    -------
    list of Measurement
        In the order of `groups`; a group's seconds hold its share of the stack's.

    Raises
    ------
    LandscapeError
        As :func:`landscape.measure` does, with the number of the group.
    """
    task = task or Task(data.num_classes)
    request = Request(
        data, protocol or Protocol(), execution or Execution(), task, fresh, initial_norm_squared, progress
    )
    for number, group in enumerate(groups):
        if not group:
            raise LandscapeError(f"group {number} is empty", "the network under study, then its siblings")
    started = time.perf_counter()
    with computing(request.execution):
        stack = _stack(groups, request)
        if stack is not None:
            networks = _networks(groups, request)
            middles = _middles(networks, stack, progress)
    if stack is None:
        return [_measured(number, group, request) for number, group in enumerate(groups)]
    share = (time.perf_counter() - started) / sum(map(len, middles))
    found = []
    for number, (copies, known) in enumerate(zip(networks, middles, strict=True)):
        one = _measured(number, copies, request, known)
        found.append(replace(one, cost=replace(one.cost, seconds=one.cost.seconds + share * len(known))))
    return found


def _stack(groups: Sequence[Sequence[nn.Module]], request: Request) -> CurveStack | None:
    """A stack for the curves, where there are several and the rule allows it."""
    task, pairs = request.task, [number for number, group in enumerate(groups) for _ in group[1:]]
    if len(pairs) < 2 or request.execution.budget_seconds is not None or not isinstance(task, Task):
        return None
    with _named(pairs[0]):
        network = Network(groups[pairs[0]][0], request.execution)
        if not may_be_stacked(network, request.train):
            return None
        objective = Objective(network, request.train, task, execution=request.execution)
        stack = CurveStack(objective, request.protocol)
        return None if stack.has_rows() else stack


def _networks(groups: Sequence[Sequence[nn.Module]], request: Request) -> list[list[Network]]:
    """The copies that are measured, one of each model."""
    copies: dict[int, Network] = {}
    for number, group in enumerate(groups):
        for place, model in enumerate(group):
            if id(model) not in copies:
                with _named(number, place):
                    copies[id(model)] = Network(model, request.execution)
    return [[copies[id(model)] for model in group] for group in groups]


def _middles(networks: list[list[Network]], stack: CurveStack, progress: Progress | None) -> list[list[Tensor | None]]:
    """Of the curve from each network to each of its siblings the middle point; None where it is trained alone."""
    found: list[list[Tensor | None]] = [[None] * (len(group) - 1) for group in networks]
    pairs = [(number, place) for number, group in enumerate(networks) for place in range(1, len(group))]
    alike = [each for each in pairs if _alike(networks[each[0]][each[1]], networks[each[0]][0], stack.network)]
    computed = stack.computes([networks[number][0] for number, _ in alike])
    fit = [each for each, right in zip(alike, computed, strict=True) if right]
    if not fit:
        return found
    starts = torch.stack([networks[number][0].flat for number, _ in fit])
    ends = torch.stack([networks[number][place].flat for number, place in fit])
    told = None if progress is None else partial(progress, "curves")
    for (number, place), middle in zip(fit, stack.train(starts, ends, told), strict=True):
        found[number][place - 1] = middle
    return found


def _alike(*networks: Network) -> bool:
    return all((each.names, each.shapes) == (networks[0].names, networks[0].shapes) for each in networks)


def _measured(
    number: int, group: Sequence[nn.Module | Network], request: Request, middles: Sequence[Tensor | None] = ()
) -> Measurement:
    for network in group:
        if isinstance(network, Network):
            network.products_checked = False  # as in a copy of its own
    with _named(number):
        return measure_group(group, request, middles)


@contextmanager
def _named(number: int, place: int = 0) -> Iterator[None]:
    """Errors say which group, and which sibling, they are of."""
    try:
        yield
    except LandscapeError as error:
        which = f"group {number}: sibling {place}: " if place else f"group {number}: "
        raise LandscapeError(which + error.got, error.expected, error.mend) from error
