"""The time a measurement may take, and what it leaves out to keep to it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from landscape.connectivity import pair_gradients
from landscape.features import FEATURE_SAMPLES
from landscape.objective import Objective
from landscape.protocol import Protocol

TRIAL_SAMPLES = 64
"""Samples on which the speed is tried."""

LEAST_SAMPLES = 64
"""Samples under which nothing is cut further."""

FIRST_ORDER_SHARE = 0.3
"""Share of the time for the pass that gives loss, gradient and trace."""

HESSIAN_SHARE = 0.5
"""Share of the time then left for the eigenvalues; with a sibling, the whole of its own cost is set aside before."""


@dataclass(frozen=True)
class Cut:
    """What a budget leaves of a protocol.

    Parameters
    ----------
    samples, first_samples, hessian_samples : int
        As in the protocol, and the most samples the eigenvalues may use.
    flags : tuple of str
        What was cut.
    """

    samples: int
    first_samples: int
    hessian_samples: int
    flags: tuple[str, ...]


class Clock:
    """Wall time since the measurement began.

    Parameters
    ----------
    budget : float, optional
        Seconds it may take; None is without end.
    """

    def __init__(self, budget: float | None = None) -> None:
        self.started = time.perf_counter()
        self.budget = budget

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether so many seconds more are within the budget."""
        return self.budget is None or self.spent + seconds < self.budget


def seconds_per_gradient(objective: Objective) -> float:
    """Wall time of one sample gradient, tried on a few samples after one warm-up."""
    part = objective.at(0, min(TRIAL_SAMPLES, objective.samples))
    part.gradient()
    started = time.perf_counter()
    part.gradient()
    return (time.perf_counter() - started) / part.samples


def cut_to_budget(
    protocol: Protocol, samples: int, clock: Clock, seconds: float, pairs: int = 0, batch_norm: bool = False
) -> Cut:
    """Sample numbers with which the measurement is expected to keep to its time.

    Parameters
    ----------
    protocol : Protocol
    samples : int
        Training samples that the protocol would use.
    clock : Clock
    seconds : float
        Wall time of one sample gradient.
    pairs : int
        Siblings to be compared with.
    batch_norm : bool
        Whether the networks have BatchNorm statistics.
    """
    hessian = max(2 * protocol.first_samples, samples // 2)
    if clock.budget is None:
        return Cut(samples, protocol.first_samples, hessian, ())
    affordable = max(0.0, clock.budget - clock.spent) / seconds
    flags = []
    most = _power(FIRST_ORDER_SHARE * affordable / 2)
    if most < samples:
        flags.append(f"budget_cut_samples_to_{most}")
    used = min(samples, most)
    # the pass over all samples, and ten forward passes over the few that features and weight noise are read from
    affordable -= 2 * used + 10 / 3 * min(FEATURE_SAMPLES, used)
    pair = pairs * sibling_gradients(protocol, used, batch_norm)
    if pair < affordable:
        affordable -= pair
    # a run of the density's length on the first samples, one quadratic form on as many more
    possible = _power(HESSIAN_SHARE * affordable / (2 * protocol.density_steps + 2))
    first = min(possible, protocol.first_samples, used)
    # every doubling beyond the first stage costs about as much as all before it
    reached = 2 * possible
    if reached < min(hessian, used):
        flags.append(f"budget_cut_hessian_samples_to_{reached}")
    return Cut(used, first, min(hessian, reached), tuple(flags))


def sibling_gradients(protocol: Protocol, samples: int, batch_norm: bool) -> float:
    """Sample gradients that comparing with one sibling costs: similarity, both paths, the curve's training."""
    return pair_gradients(protocol, samples, batch_norm) + 4 * samples / 3


def _power(count: float) -> int:
    """The largest power of two up to `count`, at least 64."""
    return max(LEAST_SAMPLES, 2 ** (max(1, int(count)).bit_length() - 1))
