"""Trace of the Hessian: by the Gauss-Newton identity where it holds, with a correction where it does not.

H = G + R, G the Gauss-Newton matrix and R the Hessian of ``(1/N) sum_n r_n . z_n`` with the residual r held fixed. In
networks whose logits are piecewise linear in each parameter tensor alone (ReLU, max-pooling, convolution, BatchNorm in
evaluation) the diagonal blocks of R vanish and tr(H) = tr(G), which per-sample gradient norms give exactly or to any
precision. Elsewhere (smooth activations, LayerNorm, attention, shared weights) Hutchinson's estimator adds tr(R).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.first_order import EXACT_BELOW, FirstOrder
from landscape.gradient_graph import made_of_known_operations
from landscape.grouped_trace import grouped_trace
from landscape.inputs import Inputs, sample_count, take
from landscape.lanczos import SymmetricOperator
from landscape.network import Network, differentiable
from landscape.objective import Objective
from landscape.products import NO_SECOND_DERIVATIVE
from landscape.protocol import TRACE_MODES, Execution
from landscape.sampling_error import Estimate, SamplingPlan
from landscape.task import Task

TESTED_SAMPLES = 8
"""Samples on which the identity is tested."""

IDENTITY_TOLERANCE = 1e-9
"""Curvature along one tensor, relative to slope × step, that counts as rounding in float64."""

MOST_DRAWS = 64
"""Sign vectors a sample after which sampling the Gauss-Newton trace stops short of its precision."""

AGAIN = 128
"""Samples of which a second draw tells how much draws differ, where one draw of each may be enough."""

FREEDOM = 256
"""Degrees of freedom, samples × (draws - 1), before the standard error of the sampled trace is trusted."""

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
    holds = _identity_or_differences(target)
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
    holds = None if first is None or first.gauss_newton is None else _identity_or_differences(objective, plan.seed)
    if holds is None or first is None or first.gauss_newton is None:
        found = grouped_trace(objective, plan, deflation=deflation)
        value = found.estimate
        return TraceEstimate(
            value.value, value.standard_error, "hutchinson", False, None, None, 0, found.probes, found.samples
        )
    return _sum(objective, plan, first.gauss_newton, first.draws, first.samples, holds)


def _identity_or_differences(objective: Objective, seed: int = 0) -> bool | None:
    """Whether the identity holds; None where products are differences of gradients.

    It is judged by double backward: where that cannot be trusted, neither can the verdict. A network made of torch's
    own operations alone needs no test for that.
    """
    if not objective.network.products_checked and not made_of_known_operations(_few_logits(objective)):
        objective.check_second_derivative()
    if objective.product_method == "finite_difference":
        return None
    try:
        return identity_holds(objective, seed)
    except RuntimeError as error:
        if not NO_SECOND_DERIVATIVE.search(str(error)):
            raise
    objective.check_second_derivative()
    return None if objective.product_method == "finite_difference" else False


def _few_logits(objective: Objective) -> Tensor:
    inputs, _ = next(objective.batches())
    with differentiable():
        return objective.require_task().logits(objective.network(take(inputs, slice(2))))


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


def identity_holds(objective: Objective, seed: int = 0) -> bool:
    """Whether tr(H) = tr(G): no logit has curvature along any one parameter tensor.

    For each module one random direction v supported on its own parameters, and random coefficients c for the logits of
    a few samples: ``v . d^2 (c . z) v`` is 0 to rounding in float64, or each of its tensors is tried alone; where that
    is not 0 for one of them either, the identity does not hold. The coefficients stand for the residual of the loss, so
    that the answer belongs to the network and not to how well it is fitted; like a residual, those of a sample sum to
    0. Deterministic; the cost is about a backward pass a module on the samples tested.
    """
    task = objective.require_task()
    network = Network(objective.network.module, Execution(device=str(objective.network.device), dtype="float64"))
    generator = torch.Generator().manual_seed(seed)
    left = TESTED_SAMPLES
    for inputs, _ in objective.batches():
        part = network.place(take(inputs, slice(left)))
        objective.sample_gradients += sample_count(part) * (1 + len(network.parameters) / 2)
        if _has_curvature(network, task, part, generator):
            return False
        left -= sample_count(part)
        if left <= 0:
            break
    return True


def _has_curvature(network: Network, task: Task, inputs: Inputs, generator: torch.Generator) -> bool:
    with differentiable():
        logits = task.logits(network(inputs))
        random = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        scalar = ((random - random.mean(1, keepdim=True)) * logits).sum()
        gradients = torch.autograd.grad(
            scalar, network.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        places = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]
        groups = [[p for p in module if p in places] for module in _modules(network)]
        curved = [g for g in groups if g and _curved(network, gradients, g, generator)]
        # of parameters used one after the other in one module the blocks between them do not vanish
        return any(_curved(network, gradients, [place], generator) for group in curved for place in group)


def _modules(network: Network) -> list[list[int]]:
    """Places of the parameters that each module owns: logits that are linear in each are so in both mostly."""
    places = {id(parameter): place for place, parameter in enumerate(network.parameters)}
    groups = []
    for module in network.module.modules():
        own = [places.pop(id(p)) for p in module.parameters(recurse=False) if id(p) in places]
        groups.append(own)
    return groups


def _curved(network: Network, gradients: Sequence[Tensor], places: list[int], generator: torch.Generator) -> bool:
    """Whether the scalar has curvature along a random direction of the parameters at these places."""
    parameters = [network.parameters[place] for place in places]
    directions = []
    for parameter in parameters:
        bits = torch.randint(2, parameter.shape, generator=generator, dtype=torch.int8)
        length = float(parameter.detach().norm()) or 1.0
        directions.append((2 * bits - 1).to(parameter) * (length / math.sqrt(parameter.numel())))
    slopes = [gradients[place] for place in places]
    images = torch.autograd.grad(
        slopes, parameters, directions, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    curvature = abs(sum(float((i * d).sum()) for i, d in zip(images, directions, strict=True)))
    size = sum(float(s.detach().norm() * d.norm()) for s, d in zip(slopes, directions, strict=True))
    return not curvature <= IDENTITY_TOLERANCE * size


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
