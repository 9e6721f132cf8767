"""Everything the protocol asks for of one network and its siblings, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from landscape.alone import (
    EIGENVALUE_METRICS,
    TRACE_METRICS,
    measure_first_order,
    measure_hessian,
    measure_hessian_by_pyhessian,
    measure_weight_growth,
    put_loss,
    put_loss_over_chance,
)
from landscape.budget import Clock, cut_to_budget, seconds_per_gradient, sibling_gradients
from landscape.connectivity import check_same_architecture, same_weights
from landscape.errors import LandscapeError
from landscape.failures import out_of_memory
from landscape.features import FEATURE_METRICS, measure_features
from landscape.finiteness import not_finite
from landscape.ledger import Ledger, Progress
from landscape.measurement import Cost, Measurement
from landscape.network import Network, computing
from landscape.objective import LossFunction, Objective
from landscape.protocol import METRICS, PAIR_METRICS, TEST_METRICS, Execution, Protocol
from landscape.sampling_error import SamplingPlan
from landscape.siblings import measure_siblings
from landscape.task import ClassificationData, Samples, Task
from landscape.weight_noise import measure_weight_noise

T = TypeVar("T")

NEEDS_LOGITS = (
    "train_error_percent",
    "train_error_over_chance",
    "train_loss_over_chance",
    *FEATURE_METRICS,
    "weight_noise_loss_over_chance",
    "test_error_percent",
    *(name for name in PAIR_METRICS if name != "parameter_distance"),
)
"""Metrics that a bare loss function leaves out."""


def measure(
    models: Sequence[nn.Module],
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    *,
    fresh: Callable[[], nn.Module] | None = None,
    initial_norm_squared: float | None = None,
    progress: Progress | None = None,
    task: Task | LossFunction | None = None,
) -> Measurement:
    """Measure the loss landscape around a classifier, in evaluation mode, on fixed data.

    The size-normalised forms (``*_per_parameter``, ``*_over_chance``, ``log_weight_growth``) make networks of
    different size and tasks of different difficulty comparable. They are not invariant: rescaling layers around ReLU
    or BatchNorm changes them and not the function.

    Parameters
    ----------
    models : sequence of nn.Module
        The network under study and its siblings, each the same recipe trained from another seed. None is changed.
    data : ClassificationData
        Cut to ``protocol.samples`` each. Without test samples test metrics are not measured.
    protocol : Protocol, optional
        What is measured and how.
    execution : Execution, optional
        Device, precision, micro-batch, threads.
    fresh : callable, optional
        Makes an untrained network of the same recipe; called under a fixed global seed, for ``log_weight_growth``.
    initial_norm_squared : float, optional
        E||w||^2 over all parameters at initialisation, if known; then `fresh` is not called.
    progress : callable, optional
        Called with a stage's name and the share of the stage that is done.
    task : Task or loss function, optional
        Default: plain cross-entropy. With a bare ``loss_fn(model, (inputs, targets))`` whatever needs logits is not
        measured.

    Returns
    -------
    Measurement
        Every metric either has a value or a reason.

    Raises
    ------
    LandscapeError
        If the task is not single-label classification, the data are empty or not repeatable, weights are not finite,
        or a sibling has another architecture or the very same weights.
    """
    task = task or Task(data.num_classes)
    request = Request(
        data, protocol or Protocol(), execution or Execution(), task, fresh, initial_norm_squared, progress
    )
    return measure_group(models, request)


@dataclass(frozen=True, eq=False)
class Request:
    """What :func:`measure` is asked for, whatever the networks; its parameters."""

    data: ClassificationData
    protocol: Protocol
    execution: Execution
    task: Task | LossFunction
    fresh: Callable[[], nn.Module] | None = None
    initial_norm_squared: float | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        square = self.initial_norm_squared
        if square is not None and not 0 < square < math.inf:
            raise LandscapeError(f"initial_norm_squared is {square}", "a positive finite number")

    @cached_property
    def train(self) -> Samples:
        """The training samples that the protocol takes."""
        return self.data.train.subset(self.protocol.samples, self.protocol.seed)

    @cached_property
    def test(self) -> Samples | None:
        """The test samples that the protocol takes."""
        test = self.data.test
        return None if test is None else test.subset(self.protocol.samples, self.protocol.seed)


def measure_group(
    models: Sequence[nn.Module | Network], request: Request, middles: Sequence[Tensor | None] = ()
) -> Measurement:
    """One measurement; `middles` are the middle points of the curves to the siblings that are known already."""
    if not models:
        raise LandscapeError("no model was given", "the network under study, then its siblings")
    clock = Clock(request.execution.budget_seconds)
    with computing(request.execution):
        work = _Work(models, request, clock)
        work.alone()
        work.pairs(middles)
    return work.measurement()


class _Work:
    """One measurement under way: the network and its siblings on the same samples, and what is known so far."""

    def __init__(self, models: Sequence[nn.Module | Network], request: Request, clock: Clock) -> None:
        protocol, execution, samples = request.protocol, request.execution, request.train
        self.request, self.clock = request, clock
        self.protocol, self.execution = protocol, execution
        self.objective = _objective(models[0], samples, execution, request.task)
        self.siblings = [_sibling(self.objective, model, number) for number, model in enumerate(models[1:], 1)]
        _check_siblings(self.objective, self.siblings)
        self.speed = 0.0 if clock.budget is None else seconds_per_gradient(self.objective)
        batch_norm = bool(self.objective.network.batch_norms)
        self.cut = cut_to_budget(protocol, len(samples), clock, self.speed, len(self.siblings), batch_norm)
        if self.cut.samples < len(samples):
            short = samples.at(torch.arange(self.cut.samples))
            self.objective, self.siblings = self.objective.on(short), [each.on(short) for each in self.siblings]
        self.available = len(request.data.train)
        self.ledger = Ledger(self.objective.samples, request.progress)
        for flag in self.cut.flags:
            self.ledger.flag(flag)
        if self.objective.execution != execution:
            self._say_batch_size()
        self.chance = self.chance_loss = 0.0
        if self.objective.task is None:
            self.ledger.skip(NEEDS_LOGITS, "needs logits, and only a loss function is known")
        elif self.objective.data is not None:
            self.chance = self.objective.task.chance_error_percent(self.objective.data.targets)
            self.chance_loss = self.objective.task.chance_loss(self.objective.data.targets)

    def alone(self) -> None:
        """The metrics of the network by itself."""
        fresh, initial_norm_squared = self.request.fresh, self.request.initial_norm_squared
        ledger, objective, protocol = self.ledger, self.objective, self.protocol
        plan = SamplingPlan(self.available, protocol.precision, self.cut.first_samples, protocol.seed)
        first = self._enduring(lambda: measure_first_order(ledger, objective, plan, protocol.trace, self.chance))
        if objective.task is not None:
            put_loss_over_chance(ledger, self.chance_loss)
            self._enduring(lambda: measure_features(ledger, objective, self.available))
            self._enduring(lambda: measure_weight_noise(ledger, objective, protocol.seed, self.chance_loss))
        self._enduring(lambda: _measure_test(ledger, objective, self.request.test))
        measure_weight_growth(ledger, objective.network, protocol, fresh, initial_norm_squared)
        if not self._in_time("the Hessian", (*EIGENVALUE_METRICS, *TRACE_METRICS)):
            return
        if protocol.backend == "pyhessian":
            self._enduring(lambda: measure_hessian_by_pyhessian(ledger, objective, protocol))
        else:
            most = self.cut.hessian_samples
            self._enduring(lambda: measure_hessian(ledger, objective, protocol, plan, first, most))

    def pairs(self, middles: Sequence[Tensor | None]) -> None:
        """The metrics of the network and its siblings."""
        batch_norm = bool(self.objective.network.batch_norms)
        each = sibling_gradients(self.protocol, self.objective.samples, batch_norm)
        seconds = self.speed * len(self.siblings) * each
        if self.siblings and not self._in_time("the siblings", PAIR_METRICS, seconds):
            return
        self._enduring(
            lambda: measure_siblings(
                self.ledger, self.objective, self.siblings, self.protocol, self.chance, self.available, middles
            )
        )

    def _in_time(self, what: str, metrics: Sequence[str], seconds: float = 0.0) -> bool:
        """Whether the budget allows so many seconds more; if not, that is the metrics' reason, and flagged."""
        if self.clock.allows(seconds):
            return True
        needs = f", which needs about {seconds:.2g} s" if seconds else ""
        self.ledger.skip(metrics, f"the time budget of {self.clock.budget:g} s is spent before {what}{needs}")
        self.ledger.flag("budget_cut_" + what.removeprefix("the ").lower())
        return False

    def _enduring(self, work: Callable[[], T]) -> T:
        """Do the work; where memory runs out, again from its start with half as many samples at a time."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                sizes = (
                    [each.halve_batch() for each in (self.objective, *self.siblings)] if out_of_memory(error) else []
                )
                if not sizes or not min(sizes):
                    raise
                self._say_batch_size()

    def _say_batch_size(self) -> None:
        self.execution = self.objective.execution
        self.ledger.flag(f"batch_size_halved_to_{self.execution.batch_size}", instead_of="batch_size_halved_to_")

    def measurement(self) -> Measurement:
        """What was found."""
        ledger = self.ledger
        spent = self.objective.sample_gradients + sum(each.sample_gradients for each in self.siblings)
        return Measurement(
            metrics={name: ledger.metrics[name] for name in METRICS if name in ledger.metrics},
            not_measured=ledger.not_measured,
            series=ledger.series,
            layers=ledger.layers,
            flags=ledger.flags,
            cost=Cost(self.clock.spent, spent),
            protocol=self.protocol,
            execution=self.execution,
        )


def _objective(
    model: nn.Module | Network, samples: Samples, execution: Execution, task: Task | LossFunction
) -> Objective:
    """The objective, with as small a batch as memory asks for."""
    while True:
        try:
            if isinstance(task, Task):
                return Objective(model, samples, task, execution=execution)
            return Objective(model, samples, loss_fn=task, execution=execution)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or execution.batch_size == 1:
                raise
            execution = replace(execution, batch_size=min(execution.batch_size, len(samples)) // 2 or 1)


def _sibling(objective: Objective, model: nn.Module | Network, number: int) -> Objective:
    try:
        data, task = objective.data, objective.task
        assert data is not None  # a measurement is of samples
        return Objective(model, data, task, loss_fn=objective.loss_fn, execution=objective.execution)
    except LandscapeError as error:
        raise LandscapeError(f"sibling {number}: {error.got}", error.expected, error.mend) from error


def _check_siblings(objective: Objective, siblings: Sequence[Objective]) -> None:
    for sibling in siblings:
        check_same_architecture(objective.network, sibling.network)
        if torch.equal(objective.network.flat, sibling.network.flat):
            raise same_weights()


def _measure_test(ledger: Ledger, objective: Objective, test: Samples | None) -> None:
    """Error and loss on the test samples; their errors are those of a sample of the population."""
    if test is None:
        ledger.skip(TEST_METRICS, "no test data were given")
        return
    with ledger.stage("test", TEST_METRICS):
        other = objective.on(test)
        found = other.loss_and_error()
        if not math.isfinite(found.loss):
            ledger.skip(TEST_METRICS, f"{not_finite(other) or 'not finite'}, of the test data")
        put_loss(ledger, "test", found, 1.0)
