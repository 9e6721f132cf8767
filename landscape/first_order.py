"""One pass over the data: loss, error, gradient, and the trace of the Gauss-Newton matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from landscape.inputs import sample_count
from landscape.network import differentiable
from landscape.objective import LossAndError, Objective
from landscape.sampling_error import Estimate, SamplingPlan, log_error, ratio_estimate, signs, stages
from landscape.task import Task

GROUP = 256
"""Samples whose summed gradients are kept apart, to tell the gradient from its sampling noise."""

SKETCH = 4096
"""Length of the sketch of a group's gradient, from which the spread of the squared norm follows."""

DRAWS = 2
"""Random sign vectors a sample: the fewest whose spread tells the error of the draws from that of the samples."""

EXACT_BELOW = 20_000
"""In mode ``auto`` the trace is exact where all samples are used and classes × samples is at most this."""


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """What one pass over the data gives.

    Parameters
    ----------
    loss : LossAndError
    gradient : Tensor, shape (P,)
        Of the mean loss over the samples.
    norm_squared : Estimate
        Squared norm of the population's gradient: where the samples are a part of it, that of `gradient` less the
        noise that sampling adds, ``(1 - f) tr(Sigma) / n``, estimated from groups; its error by the jackknife.
    gauss_newton : Estimate or None
        Trace of the Gauss-Newton matrix; None where only a loss function is known.
    samples : int
        Samples that the trace was computed from.
    draws : int
        Backward passes over them for it.
    exact : bool
        Whether all classes were used instead of random signs.
    """

    loss: LossAndError
    gradient: Tensor
    norm_squared: Estimate
    gauss_newton: Estimate | None
    samples: int
    draws: int
    exact: bool


def first_order_pass(objective: Objective, plan: SamplingPlan, trace: str = "auto") -> FirstOrder:
    """Loss, error and gradient of all samples; the Gauss-Newton trace of as many as its precision needs.

    Each group costs one forward pass and one backward pass for the gradient, and while the trace is not yet precise a
    backward pass for each of two random sign vectors a sample, on the same graph.

    Parameters
    ----------
    objective : Objective
        On samples (not on a loader).
    plan : SamplingPlan
    trace : {"auto", "exact", "stochastic"}
        As in :class:`landscape.Protocol`.
    """
    work = _Pass(objective, plan, trace)
    with differentiable():
        for start, stop in work.groups():
            work.add(start, stop)
    return work.result()


class _Pass:
    def __init__(self, objective: Objective, plan: SamplingPlan, mode: str) -> None:
        self.objective = objective
        self.plan = plan
        self.task = objective.task
        total = objective.samples
        self.share = plan.share(total)
        classes = self.task.num_classes if self.task is not None else 0
        whole = total == plan.available and (classes <= 2 or classes * total <= EXACT_BELOW)
        self.exact = mode == "exact" or (mode == "auto" and whole)
        self.stages = [total] if self.exact else stages(plan.first, total)
        self.gradient = torch.zeros_like(objective.network.flat)
        self.group_squares: list[float] = []
        self.sketches: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.wrong = 0
        self.finite = True
        self.squares: list[Tensor] = []
        self.estimate: Estimate | None = None
        self.used = 0

    def groups(self) -> Iterator[tuple[int, int]]:
        """Ranges of samples: cut every 256 and where precision is looked at, whatever the batch size."""
        total = self.objective.samples
        cuts = sorted({0, *range(GROUP, total, GROUP), *self.stages})
        return itertools.pairwise(cuts)

    def add(self, start: int, stop: int) -> None:
        part = self.objective.at(start, stop)
        sums = torch.zeros_like(self.gradient)
        drawn = self._signs(start, stop)
        for batch in part.batches():
            if self.task is None:
                sums += self._loss_only(part, batch)
            else:
                count = len(batch[1])
                sums += self._batch(self.task, batch, None if drawn is None else drawn[:, :count])
                drawn = None if drawn is None else drawn[:, count:]
        self.gradient += sums
        if self.share < 1:
            self.group_squares.append(float(torch.linalg.vector_norm(sums, dtype=torch.float64)) ** 2)
            self.sketches.append(self._sketch(sums))
        if stop in self.stages and self.squares and self.estimate is None:
            self._look(stop)

    def _signs(self, start: int, stop: int) -> Tensor | None:
        """Of a whole group at once, so that they do not depend on the batch size."""
        if self.task is None or self.exact or self.estimate is not None:
            return None
        return signs((DRAWS, stop - start, self.task.num_classes), self.plan.seed, start)

    def _loss_only(self, part: Objective, batch: Any) -> Tensor:
        loss = part.batch_loss(batch) * part.normaliser
        part.sample_gradients += sample_count(batch)
        self.losses.append(loss.detach().reshape(1).double())
        return part.network.gradient(loss)

    def _batch(self, task: Task, batch: tuple[Any, Tensor], drawn: Tensor | None) -> Tensor:
        inputs, targets = batch
        count = len(targets)
        if self.estimate is None:
            found = self.objective.norms.first_order(
                inputs, partial(task.trace_cotangents, targets, drawn), partial(_residual, task, targets)
            )
            logits, gradient = found.logits, found.gradient
            rows = found.squares.double().cpu()
            self.squares.append(rows.sum(0, keepdim=True) if self.exact else rows)
            self.objective.sample_gradients += count * 2 * len(rows) / 3
        else:
            logits = self.objective.evaluate(batch)
            gradient = self.objective.network.gradient(logits, [task.residual(logits.detach(), targets)])
            logits = logits.detach()
        self.objective.sample_gradients += count
        logits = logits.double()
        self.finite = self.finite and not bool(torch.isnan(logits).any())
        self.losses.append(task.losses(logits, targets))
        self.wrong += int((logits.argmax(1) != task.labels(targets)).sum())
        return gradient

    def _look(self, stop: int) -> None:
        """Whether the trace is precise enough: then the later groups go without it."""
        assert self.task is not None
        assert self.objective.data is not None
        weights = self.task.sample_weights(self.objective.data.targets[:stop])
        found = ratio_estimate(torch.cat(self.squares, dim=1), weights, self.plan.share(stop))
        last = stop == self.objective.samples
        if last or not log_error(found.value, found.standard_error) > self.plan.precision:
            self.estimate, self.used = found, stop

    def _sketch(self, vector: Tensor) -> Tensor:
        """A short image of a vector under random signs, whose inner products are right on average."""
        turned = vector * signs((len(vector),), self.plan.seed).to(vector)
        rest = -len(turned) % SKETCH
        return torch.nn.functional.pad(turned, (0, rest)).view(-1, SKETCH).sum(0).double().cpu()

    def result(self) -> FirstOrder:
        objective = self.objective
        loss = self._loss()
        gradient = self.gradient / objective.normaliser
        draws = 0 if self.task is None else self.task.num_classes if self.exact else DRAWS
        return FirstOrder(
            loss, gradient, self._norm_squared(gradient), self.estimate, self.used, draws, self.exact or not draws
        )

    def _loss(self) -> LossAndError:
        objective = self.objective
        losses = torch.cat(self.losses)
        if self.task is None:
            return LossAndError(float(losses.sum()) / objective.normaliser, None, None, objective.samples)
        assert objective.data is not None
        error = 100.0 * self.wrong / objective.samples if self.finite else math.nan
        return objective.loss_of(losses, error)

    def _norm_squared(self, gradient: Tensor) -> Estimate:
        found = float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
        groups = len(self.group_squares)
        if self.share >= 1:
            return Estimate(found, 0.0, 0.0)
        if groups < 3:
            return Estimate(found, math.inf, 0.0)
        scale = self.objective.normaliser**2
        spread = sum(self.group_squares) - found * scale / groups
        noise = (1 - self.share) * groups / (groups - 1) * spread / scale
        sketches = torch.stack(self.sketches)
        gram = sketches @ sketches.mT
        return Estimate(found - noise, _jackknife_error(gram, 1 - self.share) / scale, 0.0)


def _jackknife_error(gram: Tensor, unsampled: float) -> float:
    """Jackknife error, over groups, of ``||sum_g v_g||^2 - (1 - f) noise`` from the inner products of the v_g."""
    groups = len(gram)
    kept = [[g for g in range(groups) if g != left] for left in range(groups)]
    values = []
    for rows in kept:
        part = gram[rows][:, rows]
        whole, own, count = float(part.sum()), float(part.diagonal().sum()), groups - 1
        noise = unsampled * count / (count - 1) * (own - whole / count)
        values.append((whole - noise) * (groups / count) ** 2)
    found = torch.tensor(values, dtype=torch.float64)
    return math.sqrt(unsampled * (groups - 1) / groups * float((found - found.mean()).square().sum()))


def _residual(task: Task, targets: Tensor, logits: Tensor) -> Tensor:
    return task.residual(logits, targets)
