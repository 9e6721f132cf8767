"""Everything the protocol asks for of one network and its siblings, in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from landscape.alone import (
    measure_gradient,
    measure_hessian,
    measure_hessian_by_pyhessian,
    measure_training_loss,
    measure_weight_growth,
    put_loss,
)
from landscape.connectivity import check_same_architecture, same_weights
from landscape.errors import LandscapeError
from landscape.ledger import Ledger, Progress
from landscape.measurement import Cost, Measurement
from landscape.network import computing
from landscape.objective import LossFunction, Objective
from landscape.protocol import METRICS, PAIR_METRICS, TEST_METRICS, Execution, Protocol
from landscape.siblings import measure_siblings
from landscape.task import ClassificationData, Samples, Task

NEEDS_LOGITS = (
    "train_error_percent",
    "train_error_over_chance",
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
    if not models:
        raise LandscapeError("no model was given", "the network under study, then its siblings")
    if initial_norm_squared is not None and not 0 < initial_norm_squared < math.inf:
        raise LandscapeError(f"initial_norm_squared is {initial_norm_squared}", "a positive finite number")
    protocol, execution = protocol or Protocol(), execution or Execution()
    started = time.perf_counter()
    with computing(execution):
        objective = _objective(models[0], data, protocol, execution, task or Task(data.num_classes))
        siblings = [objective.of(model) for model in models[1:]]
        _check_siblings(objective, siblings)
        ledger = Ledger(objective.samples, progress)
        chance = 0.0
        if objective.task is None:
            ledger.skip(NEEDS_LOGITS, "needs logits, and only a loss function is known")
        elif objective.data is not None:
            chance = objective.task.chance_error_percent(objective.data.targets)
        measure_training_loss(ledger, objective, len(data.train), chance)
        measure_gradient(ledger, objective)
        if protocol.backend == "pyhessian":
            measure_hessian_by_pyhessian(ledger, objective, protocol)
        else:
            measure_hessian(ledger, objective, protocol)
        measure_weight_growth(ledger, objective.network, protocol, fresh, initial_norm_squared)
        _measure_test(ledger, objective, data.test, protocol)
        measure_siblings(ledger, objective, siblings, protocol, chance)
    spent = objective.sample_gradients + sum(sibling.sample_gradients for sibling in siblings)
    return Measurement(
        metrics={name: ledger.metrics[name] for name in METRICS if name in ledger.metrics},
        not_measured=ledger.not_measured,
        series=ledger.series,
        layers=ledger.layers,
        flags=ledger.flags,
        cost=Cost(time.perf_counter() - started, spent),
        protocol=protocol,
        execution=execution,
    )


def _objective(
    model: nn.Module,
    data: ClassificationData,
    protocol: Protocol,
    execution: Execution,
    task: Task | LossFunction,
) -> Objective:
    samples = data.train.subset(protocol.samples, protocol.seed)
    if isinstance(task, Task):
        return Objective(model, samples, task, execution=execution)
    return Objective(model, samples, loss_fn=task, execution=execution)


def _check_siblings(objective: Objective, siblings: Sequence[Objective]) -> None:
    for sibling in siblings:
        check_same_architecture(objective.network, sibling.network)
        if torch.equal(objective.network.flat, sibling.network.flat):
            raise same_weights()


def _measure_test(ledger: Ledger, objective: Objective, test: Samples | None, protocol: Protocol) -> None:
    """Error and loss on the test samples; their errors are those of a sample of the population."""
    if test is None:
        ledger.skip(TEST_METRICS, "no test data were given")
        return
    with ledger.stage("test", TEST_METRICS):
        other = objective.on(test.subset(protocol.samples, protocol.seed))
        put_loss(ledger, "test", other.loss_and_error(), 1.0)
        objective.sample_gradients += other.sample_gradients
