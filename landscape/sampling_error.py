"""A ratio of sums over a subset of the samples, each summand known by random draws: its value and standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the part of that which more draws on the same samples would take away.

    Parameters
    ----------
    value, standard_error, draw_error : float
    """

    value: float
    standard_error: float
    draw_error: float


def ratio_estimate(draws: Tensor, weights: Tensor, share: float) -> Estimate:
    """``sum_u x_u / sum_u w_u`` over units u (samples or groups of them), x_u the mean of its R random draws.

    Two-stage sampling without replacement (Cochran, *Sampling Techniques*, 1977, sections 6.4 and 10.3). With the
    draws' variance of the mean ``s_w^2`` averaged over the units, residuals ``e_u = x_u - value w_u`` of variance
    ``s_e^2`` and n units, a share f of all there are,
    ``var(sum_u x_u) = n s_w^2 + n (1 - f) max(0, s_e^2 - s_w^2)``.

    Parameters
    ----------
    draws : Tensor, shape (R, n)
        Unbiased draws of each unit's summand; with R = 1 they are taken as exact.
    weights : Tensor, shape (n,)
        What each unit adds to the denominator.
    share : float
        Sampled share f of the population; 1 leaves the draws' error alone.
    """
    draws, weights = draws.double().cpu(), weights.double().cpu()
    rounds, units = draws.shape
    means, total = draws.mean(0), float(weights.sum())
    value = float(means.sum()) / total
    within = float(draws.var(0).mean()) / rounds if rounds > 1 else 0.0
    between = 0.0
    if share < 1 and units > 1:
        residual = means - value * weights
        between = max(0.0, float(residual.square().sum()) / (units - 1) - within) * (1 - share)
    scale = math.sqrt(units) / total
    return Estimate(value, math.sqrt(within + between) * scale, math.sqrt(within) * scale)


def log_error(value: float, standard_error: float) -> float:
    """Standard error of the logarithm, ``standard_error / |value|``; infinite for a value of 0 that is not exact."""
    if value:
        return standard_error / abs(value)
    return math.inf if standard_error else 0.0


def stages(first: int, most: int) -> list[int]:
    """Sample numbers at which precision is looked at: `first`, doubled up to `most`; all at once to twice `first`."""
    if most <= 2 * first:
        return [most]
    numbers = [first]
    while numbers[-1] < most:
        numbers.append(min(2 * numbers[-1], most))
    return numbers


def signs(shape: tuple[int, ...], *key: int) -> Tensor:
    """Random signs of any shape, int8; other keys (seed, first sample they are for, ...) give independent ones."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)  # near seeds must not make near generators
    generator = torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
    return 2 * torch.randint(2, shape, generator=generator, dtype=torch.int8) - 1


@dataclass(frozen=True)
class SamplingPlan:
    """How many samples a stochastic value may use, in their fixed order.

    Parameters
    ----------
    available : int
        Samples in the population; where all are used only the error of the draws is left.
    precision : float
        Standard error of the logarithm at which no more are added.
    first : int
        Samples used first, then doubled.
    seed : int
        Of the random draws.
    """

    available: int
    precision: float = 0.1
    first: int = 512
    seed: int = 0

    def share(self, samples: int) -> float:
        """Share of the population in the first `samples`."""
        return samples / self.available
