"""Trace of a mean of second derivatives by random probes, fresh ones for every small group of samples.

One probe on all samples leaves the error of that probe whole; a probe of its own for every 16 samples costs as many
sample gradients, and averages the probes along with the samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.objective import Objective
from landscape.sampling_error import Estimate, SamplingPlan, log_error, ratio_estimate, signs, stages

GROUP = 16
"""Samples that share their probes."""

PROBES = 2
"""Probes a group at a time: the fewest whose spread tells their error from that of the samples."""

FREEDOM = 32
"""Degrees of freedom, groups × (probes - 1), before the error of the probes is trusted."""

MOST_PROBES = 1024
"""Probes of groups, at a precision of 0.1, after which the estimator stops short of it; the standard error says so."""

NOTHING = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class GroupedTrace:
    """A trace from grouped probes.

    Parameters
    ----------
    estimate : Estimate
    samples : int
        Samples used, from the first on.
    probes : int
        Probes of each group.
    """

    estimate: Estimate
    samples: int
    probes: int


def grouped_trace(
    objective: Objective,
    plan: SamplingPlan,
    *,
    residual: bool = False,
    offset: Estimate = NOTHING,
    deflation: Tensor | None = None,
) -> GroupedTrace:
    """tr(H), or tr(H - G), by Hutchinson's estimator (1990) on groups of samples.

    For group g of samples with weight w_g and random signs s_g the estimate is ``sum_g w_g s_g . A_g s_g / sum_g w_g``;
    with orthonormal rows Q of `deflation` each ``A_g`` is measured along Q and sampled across it. Its error is that
    of two-stage sampling, see :func:`landscape.sampling_error.ratio_estimate`. Samples are doubled until it is
    precise; where all are used up, probes are.

    Parameters
    ----------
    objective : Objective
        On samples.
    plan : SamplingPlan
    residual : bool
        Of the Hessian less its Gauss-Newton matrix.
    offset : Estimate
        What is added afterwards: precision is asked of the sum, with the joined error.
    deflation : Tensor, shape (k, P), optional
    """
    draws = torch.empty(PROBES, 0, dtype=torch.float64)
    used = 0
    for stop in stages(plan.first, objective.samples):
        first = _sweep(objective, (plan.seed, 0), range(used, stop, GROUP), stop, residual, deflation)
        draws, used = torch.cat([draws, first], dim=1), stop
        found = _estimate(objective, draws, used, plan)
        error = math.hypot(found.standard_error, offset.standard_error)
        precise = not log_error(found.value + offset.value, error) > plan.precision
        if precise and draws.shape[1] * (PROBES - 1) >= FREEDOM:
            return GroupedTrace(found, used, PROBES)
    while True:  # no more samples: what is left to take away is the error of the probes, down to that of the rest
        rest = math.hypot(offset.standard_error, math.sqrt(max(0.0, found.standard_error**2 - found.draw_error**2)))
        precise = found.draw_error <= max(rest, plan.precision * abs(found.value + offset.value))
        trusted = draws.shape[1] * (len(draws) - 1) >= FREEDOM
        spent = draws.numel() >= MOST_PROBES * (0.1 / plan.precision) ** 2
        if (precise and trusted) or spent or not math.isfinite(found.value):
            return GroupedTrace(found, used, len(draws))
        groups, sweeps = range(0, used, GROUP), range(len(draws), 2 * len(draws), PROBES)
        more = [_sweep(objective, (plan.seed, sweep), groups, used, residual, deflation) for sweep in sweeps]
        draws = torch.cat([draws, *more])
        found = _estimate(objective, draws, used, plan)


def _estimate(objective: Objective, draws: Tensor, used: int, plan: SamplingPlan) -> Estimate:
    weights = [objective.at(a, b).normaliser for a, b in _ranges(range(0, used, GROUP), used)]
    return ratio_estimate(draws, torch.tensor(weights, dtype=torch.float64), plan.share(used))


def _ranges(starts: range, stop: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + GROUP, stop)) for start in starts)


def _sweep(
    objective: Objective, key: tuple[int, int], starts: range, stop: int, residual: bool, deflation: Tensor | None
) -> Tensor:
    """Two draws of each group's weighted trace, shape (2, groups), float64."""
    size, like = objective.parameter_count, objective.network.flat
    columns = []
    for start, end in _ranges(starts, stop):
        part = objective.at(start, end)
        product = part.residual_vector_product if residual else part.hessian_vector_product
        measured = 0.0
        if deflation is not None:
            measured = sum(float(torch.dot(row.double(), product(row).double())) for row in deflation)
        draws = []
        for vector in signs((PROBES, size), *key, start).to(like):
            probe = vector if deflation is None else vector - deflation.mT @ (deflation @ vector)
            draws.append(measured + float(torch.dot(probe.double(), product(probe).double())))
        part.release()
        columns.append(torch.tensor(draws, dtype=torch.float64) * part.normaliser)
    return torch.stack(columns, dim=1)
