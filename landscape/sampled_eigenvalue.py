"""The largest Hessian eigenvalue of a population of samples, from some of them, with its sampling error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.hessian import LEAST_PRODUCTS, TOLERANCE, Eigenvalues, top_eigenvalues
from landscape.krylov_basis import dot
from landscape.objective import Objective
from landscape.sampling_error import SamplingPlan, log_error, ratio_estimate

GROUP = 16
"""Samples whose curvature along the eigenvector is measured together; the spread of the groups gives the error."""

LEAST_GROUPS = 16
"""Groups before their spread is trusted: where the samples make fewer, groups are smaller."""

WARM_TOLERANCE = 0.3
"""Residual bound on a larger part, over the precision asked for: the error of the value is of second order in it."""

WARM_PRODUCTS = 3
"""Least products of a run that starts from the vector of half its samples."""


@dataclass(frozen=True, eq=False)
class SampledEigenvalue:
    """The largest eigenvalue of the Hessian of a population of samples.

    Parameters
    ----------
    value, sampling_error : float
        Estimate and standard error; the error is 0 where every sample was used.
    bound : float
        Residual bound of the Ritz value it rests on.
    samples, products : int
        Samples used, and runs through some of them with one vector.
    found : Eigenvalues
        The last run, on the samples that chose the vector: of the largest alone where it followed another.
    first : Eigenvalues
        The first run, from a random vector, which the spectral density can use again.
    """

    value: float
    sampling_error: float
    bound: float
    samples: int
    products: int
    found: Eigenvalues
    first: Eigenvalues


@dataclass(frozen=True)
class _Curvature:
    """Curvature along a vector: its weighted mean over groups, and the spread of the products with the groups.

    ``variance`` is that of a sample's curvature, ``coordinates`` those of a sample's product along each Ritz vector,
    ``rest`` the summed variance across them.
    """

    value: float
    variance: float
    coordinates: NDArray[np.float64]
    rest: float


def sampled_top_eigenvalue(
    objective: Objective,
    plan: SamplingPlan,
    *,
    k: int = 1,
    tolerance: float = TOLERANCE,
    least_products: int = LEAST_PRODUCTS,
) -> SampledEigenvalue:
    """The largest eigenvalue over ``plan.available`` samples, drawn at random, of which the objective holds the first.

    With v the leading Ritz vector on samples A, ``upper = v . H_A v`` its Ritz value there and ``lower = v . H_B v``
    measured on samples B that did not choose it: to second order in the sampling noise upper lies above the eigenvalue
    of the population by ``q = sum_j (u_j . (H_A - H) u)^2 / (lambda - lambda_j)`` and lower as far below, u, u_j its
    eigenvectors. The value is their mean: unbiased to that order, with the sampling error of all samples,
    ``s^2 (1/n_A + 1/n_B - 4/N) / 4 + sum_j q_j^2``, s^2 the variance of a sample's curvature along v. The last term is
    the variance of ``sum_j (u_j . (H_A - H) u) (u_j . (H_B - H) u) / (lambda - lambda_j)``, what is left of second
    order, with ``q_j = s_j^2 / (n_A (lambda - lambda_j))`` and s_j^2 a sample's variance of ``u_j . H_i v``, over B.

    A is ``plan.first`` samples and B as many. While the standard error of the logarithm is above ``plan.precision`` A
    takes B in, starting from the vector found. Where a further step would take half of the population or more it is
    used whole, and there is no sampling error; so it is at once up to ``2 plan.first``.

    Parameters
    ----------
    objective : Objective
        On samples in random order.
    plan : SamplingPlan
    k : int
        Eigenvalues of the first part that are brought to `tolerance`.
    tolerance : float
    least_products : int
        Of the first run.

    Raises
    ------
    LandscapeError
        If the samples at hand are more than are available, or a part of them is fewer than 4.
    """
    most, available = objective.samples, plan.available
    if most > available or (most < min(4, available)):
        raise LandscapeError(f"{most} samples of {available}", "at least 4, and no more than there are")
    whole = most == available
    chosen = most if whole and most <= 2 * plan.first else min(plan.first, most // 2)
    found = first = _run(objective, chosen, k, tolerance, plan.seed, least_products)
    products, own = found.products, 0.0
    while chosen < most:
        stop = min(2 * chosen, most)
        if not own:
            own = _curvature(objective, found, 0, chosen).variance
            products += 1
        other = _curvature(objective, found, chosen, stop)
        products += 1
        value = (found.values[0] + other.value) / 2
        variance = (chosen * own + (stop - chosen) * other.variance) / stop
        share = max(0.0, 1 / chosen + 1 / (stop - chosen) - 4 / available) / 4
        error = math.hypot(math.sqrt(variance * share), _second_order(found, other, chosen))
        if log_error(value, error) <= plan.precision or stop == most < available:
            return SampledEigenvalue(value, error, found.bounds[0], stop, products, found, first)
        own, last = variance, whole and 2 * stop >= most
        chosen = most if last else stop
        found = _run(
            objective,
            chosen,
            k if last else 1,
            tolerance if last else max(tolerance, WARM_TOLERANCE * plan.precision),
            plan.seed,
            LEAST_PRODUCTS if last else WARM_PRODUCTS,
            found.vectors[:1],
        )
        products += found.products
    return SampledEigenvalue(found.values[0], 0.0, found.bounds[0], most, products, found, first)


def _run(
    objective: Objective,
    stop: int,
    k: int,
    tolerance: float,
    seed: int,
    least_products: int,
    start: Tensor | None = None,
) -> Eigenvalues:
    part = objective if stop == objective.samples else objective.at(0, stop)
    found = top_eigenvalues(part, k, tolerance=tolerance, seed=seed, least_products=least_products, start=start)
    part.release()
    return found


def _curvature(objective: Objective, found: Eigenvalues, start: int, stop: int) -> _Curvature:
    """Along the leading Ritz vector, over the samples from `start` to before `stop`, in small groups."""
    vector, run = found.vectors[0], found.run
    _, _, turn = run.ritz()
    size = max(1, min(GROUP, (stop - start) // LEAST_GROUPS))
    values, weights, coordinates, squares = [], [], [], 0.0
    total = torch.zeros_like(vector)
    for begin in range(start, stop, size):
        part = objective.at(begin, min(begin + size, stop))
        image = part.hessian_vector_product(vector)
        part.release()
        values.append(part.normaliser * dot(vector, image))
        weights.append(part.normaliser)
        coordinates.append(turn.T @ run.basis.project(image).cpu().numpy())
        squares += dot(image, image)
        total += image
    count, along = len(weights), np.array(coordinates)
    mean = ratio_estimate(torch.tensor([values]), torch.tensor(weights), 0.0)
    spread = (squares - dot(total, total) / count) / (count - 1)
    inside = along.var(axis=0, ddof=1)
    return _Curvature(
        value=mean.value,
        variance=mean.standard_error**2 * (stop - start),
        coordinates=size * inside,
        rest=size * max(0.0, spread - float(inside.sum())),
    )


def _second_order(found: Eigenvalues, other: _Curvature, samples: int) -> float:
    """Root of the sum of squares of q_j, s_j^2 a sample's variance along u_j, for parts of `samples` samples.

    Each is at most its own noise: no turn of v within nearly equal eigenvalues costs more.
    """
    ritz = found.run.ritz()[0]
    gaps = np.append(ritz[-1] - ritz[:-1], abs(ritz[-1]))
    noise = np.append(other.coordinates[:-1], other.rest) / samples
    parts = np.minimum(noise, np.sqrt(noise) * gaps) / np.maximum(gaps, np.finfo(float).tiny)
    return float(np.linalg.norm(parts))
