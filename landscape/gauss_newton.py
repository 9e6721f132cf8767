"""Trace of the Hessian: by the Gauss-Newton identity where it holds, with a correction where it does not.

H = G + R, G the Gauss-Newton matrix and R the Hessian of ``(1/N) sum_n r_n . z_n`` with the residual r held fixed. In
networks whose logits are piecewise linear in each parameter tensor alone (ReLU, max-pooling, convolution, BatchNorm in
evaluation) the diagonal blocks of R vanish and tr(H) = tr(G), which per-sample gradient norms give exactly or to any
precision. Elsewhere (smooth activations, LayerNorm, attention, shared weights) Hutchinson's estimator adds tr(R).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.first_order import EXACT_BELOW, FirstOrder
from landscape.grouped_trace import grouped_trace
from landscape.lanczos import SymmetricOperator
from landscape.objective import Objective
from landscape.protocol import TRACE_MODES
from landscape.sampling_error import Estimate, SamplingPlan
from landscape.trace_identity import identity_or_none

AGAIN = 128
"""Samples of which a second draw tells how much draws differ, where one draw of each may be enough."""

FREEDOM = 256
"""Degrees of freedom, samples × (draws - 1), before the standard error of the sampled trace is trusted."""

MOST_DRAWS = 64
"""Sign vectors a sample after which sampling the Gauss-Newton trace stops short of its precision."""

LEAST_PROBES = 16
"""Probes before Hutchinson's standard error is trusted; it is looked at again each time they have doubled."""

MOST_PROBES = 512
"""Probes after which Hutchinson's estimator stops short of its precision; the standard error then says so."""


@dataclass(frozen=True)
class TraceEstimate:
    """A trace and how it was found.

    Parameters
    ----------
    value, standard_error : float
        The error is that of the estimator, 0 where nothing was sampled; of :func:`sampled_trace` that of the samples,
        too.
    method : str
        ``gauss_newton`` (the identity holds), ``gauss_newton+hutchinson`` (it does not), ``hutchinson``.
    exact : bool
        Whether nothing was sampled.
    gauss_newton, residual : float or None
        The two parts, where they were computed apart.
    draws : int
        Backward passes over the data for the Gauss-Newton part.
    probes : int
        Products taken by Hutchinson's estimator, or probes of each group of samples.
    samples : int
        Samples used; 0 for an operator, which has none.
    """

    value: float
    standard_error: float
    method: str
    exact: bool
    gauss_newton: float | None
    residual: float | None
    draws: int
    probes: int
    samples: int


def trace(
    target: Objective | SymmetricOperator,
    *,
    relative_error: float = 0.03,
    mode: str = "auto",
    seed: int = 0,
    deflation: Tensor | None = None,
) -> TraceEstimate:
    """Trace of an objective's Hessian, or of any symmetric operator.

    Parameters
    ----------
    target : Objective or SymmetricOperator
        The Gauss-Newton route needs an objective with a task; everything else is Hutchinson's.
    relative_error : float
        Standard error, relative to the trace, at which sampling stops.
    mode : {"auto", "exact", "stochastic"}
        How the Gauss-Newton part is computed; ``auto`` is exact for two classes or at most 20,000 classes × samples.
    seed : int
    deflation : Tensor, shape (k, P), optional
        Orthonormal vectors, such as the top eigenvectors, along which Hutchinson's estimator measures instead of
        sampling. Used where the whole trace is Hutchinson's.
    """
    if mode not in TRACE_MODES:
        raise LandscapeError(f"trace mode is {mode!r}", f"one of {', '.join(TRACE_MODES)}")
    generator = torch.Generator().manual_seed(seed)
    if isinstance(target, SymmetricOperator):
        return _operator_trace(target, relative_error, generator, deflation)
    if target.task is None:
        if target.data is None:
            return _operator_trace(SymmetricOperator.hessian(target), relative_error, generator, deflation)
        return sampled_trace(target, _whole(target, relative_error, seed), None, deflation=deflation)
    holds = identity_or_none(target)
    if holds is None and target.data is not None:
        return sampled_trace(target, _whole(target, relative_error, seed), None, deflation=deflation)
    share = relative_error if holds else relative_error / 2  # leaves most of the error to the costlier part
    gauss_newton, draws = _gauss_newton_trace(target, share, mode, generator)
    if holds or target.data is not None:
        return _sum(target, _whole(target, relative_error, seed), gauss_newton, draws, target.samples, bool(holds))
    value, error, probes = hutchinson(
        SymmetricOperator.residual(target),
        relative_error,
        generator,
        offset=gauss_newton.value,
        offset_error=gauss_newton.standard_error,
    )
    return _joined(gauss_newton, draws, target.samples, Estimate(value, error, error), probes)


def sampled_trace(
    objective: Objective, plan: SamplingPlan, first: FirstOrder | None, *, deflation: Tensor | None = None
) -> TraceEstimate:
    """Trace of the Hessian from as many samples as the plan's precision needs; the error is that for all available.

    Parameters
    ----------
    objective : Objective
        On samples.
    plan : SamplingPlan
    first : FirstOrder, or None
        The pass that gave the Gauss-Newton trace; None where only a loss function is known.
    deflation : Tensor, shape (k, P), optional
        Used where the whole trace is Hutchinson's.
    """
    holds = None if first is None or first.gauss_newton is None else identity_or_none(objective, plan.seed)
    if holds is None or first is None or first.gauss_newton is None:
        found = grouped_trace(objective, plan, deflation=deflation)
        value = found.estimate
        return TraceEstimate(
            value.value, value.standard_error, "hutchinson", False, None, None, 0, found.probes, found.samples
        )
    return _sum(objective, plan, first.gauss_newton, first.draws, first.samples, holds)


def _whole(objective: Objective, relative_error: float, seed: int) -> SamplingPlan:
    """All samples at once, and they are all there are."""
    return SamplingPlan(objective.samples, relative_error, objective.samples, seed)


def _sum(
    objective: Objective, plan: SamplingPlan, gauss_newton: Estimate, draws: int, samples: int, holds: bool
) -> TraceEstimate:
    if holds:
        return _joined(gauss_newton, draws, samples, None, 0)
    found = grouped_trace(objective, plan, residual=True, offset=gauss_newton)
    return _joined(gauss_newton, draws, max(samples, found.samples), found.estimate, found.probes)


def _joined(gauss_newton: Estimate, draws: int, samples: int, residual: Estimate | None, probes: int) -> TraceEstimate:
    rest = residual or Estimate(0.0, 0.0, 0.0)
    error = math.hypot(gauss_newton.standard_error, rest.standard_error)
    return TraceEstimate(
        value=gauss_newton.value + rest.value,
        standard_error=error,
        method="gauss_newton" if residual is None else "gauss_newton+hutchinson",
        exact=error == 0,
        gauss_newton=gauss_newton.value,
        residual=rest.value,
        draws=draws,
        probes=probes,
        samples=samples,
    )


def _operator_trace(
    operator: SymmetricOperator, relative_error: float, generator: torch.Generator, deflation: Tensor | None
) -> TraceEstimate:
    value, error, probes = hutchinson(operator, relative_error, generator, deflation=deflation)
    return TraceEstimate(value, error, "hutchinson", error == 0, None, None, 0, probes, 0)


def _gauss_newton_trace(
    objective: Objective, relative_error: float, mode: str, generator: torch.Generator
) -> tuple[Estimate, int]:
    """tr(G) with its standard error given the data, and the backward passes it took."""
    classes, samples = objective.require_task().num_classes, objective.samples
    if mode == "exact" or (mode == "auto" and (classes <= 2 or classes * samples <= EXACT_BELOW)):
        return _exact(objective), classes
    first = _signed_squares(objective, generator)
    if objective.data is not None and samples > AGAIN:
        found = _once_and_again(objective, first, AGAIN, generator)
        if not found.draw_error > relative_error * found.value:
            return found, 1
    rounds = [first]
    while True:
        rounds.append(_signed_squares(objective, generator))
        if len(rounds) < 1 + math.ceil(FREEDOM / samples):
            continue
        squares = torch.cat(rounds)
        # the draws of one sample differ by chance alone: what separates the samples is no error on these data
        error = math.sqrt(float(squares.var(0).sum()) / len(rounds)) / objective.normaliser
        found = Estimate(float(squares.mean(0).sum()) / objective.normaliser, error, error)
        if not error > relative_error * found.value or len(rounds) >= MOST_DRAWS:
            return found, len(rounds)
        if mode == "auto" and len(rounds) >= classes:  # exactness costs no more than what was spent
            return _exact(objective), len(rounds) + classes


def _signed_squares(objective: Objective, generator: torch.Generator) -> Tensor:
    shape = (1, objective.samples, objective.require_task().num_classes)
    return objective.gauss_newton_squares(2 * torch.randint(2, shape, generator=generator, dtype=torch.int8) - 1)


def _once_and_again(objective: Objective, first: Tensor, count: int, generator: torch.Generator) -> Estimate:
    """The trace from one draw a sample, and a second one of some samples to tell how much draws differ.

    With t and t' the two draws of a sample, ``var(t)`` is on the whole the share
    ``sum (t - t')^2 / sum (t^2 + t'^2)`` of ``t^2``.
    """
    chosen = torch.arange(count) * objective.samples // count
    again = _signed_squares(objective.spread(count), generator)[0]
    once, draws = first[0, chosen], first[0].clone()
    total = float((once.square() + again.square()).sum())
    share = float((once - again).square().sum()) / total if total else 0.0
    draws[chosen] = (once + again) / 2
    weights = torch.ones_like(draws)
    weights[chosen] = 0.5  # the mean of two draws varies half as much
    squares = first[0].square()
    squares[chosen] = (once.square() + again.square()) / 2
    error = math.sqrt(share * float((weights * squares).sum())) / objective.normaliser
    return Estimate(float(draws.sum()) / objective.normaliser, error, error)


def _exact(objective: Objective) -> Estimate:
    return Estimate(float(objective.gauss_newton_squares().sum()) / objective.normaliser, 0.0, 0.0)


def hutchinson(
    operator: SymmetricOperator,
    relative_error: float,
    generator: torch.Generator,
    *,
    deflation: Tensor | None = None,
    offset: float = 0.0,
    offset_error: float = 0.0,
) -> tuple[float, float, int]:
    """Trace as the mean of ``s . A s`` over random signs s (Hutchinson, 1990), deflated (Girard; Meyer et al., 2021).

    With orthonormal rows Q of `deflation`, ``tr(A) = tr(Q A Q^T) + tr(P A P)``, P = I - Q^T Q: the first part is
    measured, the second sampled. Stops when the standard error, joined with `offset_error`, is at most
    `relative_error` of the trace plus `offset`.

    Returns
    -------
    trace, standard_error, products
    """
    products = 0
    if operator.dimension <= LEAST_PROBES:
        columns = torch.eye(operator.dimension, dtype=operator.dtype, device=operator.device)
        return sum(_quadratic(operator, column) for column in columns), 0.0, operator.dimension
    measured = 0.0
    if deflation is not None:
        measured = sum(_quadratic(operator, row) for row in deflation)
        products += len(deflation)
    values: list[float] = []
    while True:
        for _ in range(max(LEAST_PROBES, len(values))):
            signs = operator.signs(generator)
            if deflation is not None:
                signs = signs - deflation.mT @ (deflation @ signs)
            values.append(_quadratic(operator, signs))
        sampled = torch.tensor(values, dtype=torch.float64)
        value = measured + float(sampled.mean())
        error = float(sampled.std()) / math.sqrt(len(values))
        precise = math.hypot(error, offset_error) <= relative_error * abs(value + offset)
        if precise or len(values) >= MOST_PROBES or not math.isfinite(value):
            return value, error, products + len(values)


def _quadratic(operator: SymmetricOperator, vector: Tensor) -> float:
    return float(torch.dot(vector.double(), operator.product(vector).double()))
