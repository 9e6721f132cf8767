"""The settings with which each contender reaches the asked accuracy for the fewest products."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hessian_models import TrainedNetwork
from hessian_peers import RUNS, Outcome, Settings, curvlinops_operator
from hessian_reference import Floats, PlainHessian, Reference
from torch import Tensor

TRACE_ERROR, EIGENVALUE_ERROR = 0.03, 0.01
"""Root mean square relative errors asked for."""

MISS = {"trace": 0.10, "top5": 0.01, "top1": 0.01}
"""Relative error beyond which a run is a miss; of five eigenvalues the worst one counts."""

QUANTITIES = {"trace": 1, "top5": 5, "top1": 1}
"""And how many numbers each is."""

REPLAYS = 100
"""Seeds of one candidate in the search, unless said otherwise."""

TRACE_REPLAYS = 50
"""And of one candidate for curvlinops' trace, whose error has no rare outliers."""

FIRST_SEED = 10_000
"""Seeds of the search; those of the timed runs start at 0."""

POOL_SECONDS, POOL_PROBES = 15.0, (48, 256)
"""Hutchinson's probes drawn to know their spread: at least and at most so many, stopping in between by the clock."""

CANDIDATES: dict[str, list[dict[str, float | int]]] = {
    "ours": [{"tolerance": 1e-4, "least_products": 6}],  # the defaults, which ask for no tuning
    "pyhessian": [
        {"max_iter": most, "tol": tol}
        for most, tol in itertools.product(
            (25, 50, 100, 200), (0.03, 0.01, 5e-3, 3e-3, 2e-3, 1e-3, 5e-4, 3e-4, 1e-4, 3e-5)
        )
    ],
    "curvlinops": [
        {"ncv": ncv, "tol": tol}
        for ncv, tol in itertools.product((3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32), (0.3, 0.1, 0.03, 0.01, 1e-3))
    ],
}
"""What is tried for the eigenvalues."""


@dataclass(frozen=True)
class Tuned:
    """Settings found for one contender and quantity.

    Parameters
    ----------
    settings : Settings
    rms_error, products, miss_rate : float
        Expected by the search.
    """

    settings: Settings
    rms_error: float
    products: float
    miss_rate: float = 0.0


def truth(quantity: str, exact: Reference) -> tuple[float, ...]:
    """The exact values of a quantity."""
    return (exact.trace,) if quantity == "trace" else exact.eigenvalues[: QUANTITIES[quantity]]


def errors(outcome: Outcome, values: tuple[float, ...]) -> Floats:
    """Relative errors, one a value; a value that is missing or not finite counts as wholly wrong."""
    found = np.array(outcome.values[: len(values)])
    found = np.append(found, np.full(len(values) - len(found), np.nan))
    return np.nan_to_num(found / np.array(values) - 1, nan=1.0, posinf=1.0, neginf=-1.0)


def rms(parts: list[Floats]) -> float:
    """Root mean square over all runs and values."""
    return math.sqrt(float(np.mean(np.square(np.concatenate(parts))))) if parts else math.nan


def tune_eigenvalues(name: str, quantity: str, exact: Reference, replays: int = REPLAYS) -> Tuned:
    """Search `CANDIDATES` on the spectrum: fewest products with an rms error in bounds, else the least error.

    PyHessian is tuned towards what it looks for, the largest magnitudes.
    """
    k = QUANTITIES[quantity]
    spectrum = torch.from_numpy(exact.spectrum).float()
    top = np.sort(exact.spectrum)[::-1][:k]
    if name == "pyhessian":
        top = np.sort(exact.spectrum[np.argsort(-np.abs(exact.spectrum))[:k]])[::-1]
    candidates = [{"k": k, **candidate} for candidate in CANDIDATES[name] if candidate.get("ncv", k + 1) > k]
    best: Tuned | None = None
    least = Tuned({}, math.inf, math.inf)
    for settings in candidates:
        found = _tried(name, settings, spectrum, tuple(top), replays, best.products if best else math.inf)
        good = found.rms_error <= EIGENVALUE_ERROR
        if good and (best is None or found.products < best.products):
            best = found
        least = min(least, found, key=lambda one: one.rms_error)
    return best or least


def _tried(
    name: str, settings: Settings, spectrum: Tensor, top: tuple[float, ...], replays: int, most_products: float
) -> Tuned:
    """One candidate over so many seeds; given up where it can no longer be in bounds, or clearly costs more."""
    found: list[Floats] = []
    products: list[int] = []
    for seed in range(replays):
        run = RUNS["top"][name](spectrum, settings, FIRST_SEED + seed)
        found.append(errors(run, top))
        products.append(run.products)
        hopeless = rms(found) ** 2 * len(found) > EIGENVALUE_ERROR**2 * replays
        dear = len(products) >= 10 and statistics.fmean(products) > 1.3 * most_products
        if hopeless or dear:
            break
    # what was given up says its error over the runs made, which is out of bounds or of no interest
    error = rms(found) if len(found) == replays else max(rms(found), 1.01 * EIGENVALUE_ERROR)
    misses = statistics.fmean(float(np.abs(one).max() > EIGENVALUE_ERROR) for one in found)
    return Tuned(settings, error, statistics.fmean(products), misses)


def replay(name: str, quantity: str, settings: Settings, exact: Reference, seed: int) -> Outcome:
    """A call on the spectrum instead of the network; a trace is brought to the network's."""
    spectrum = torch.from_numpy(exact.spectrum).float()
    outcome = RUNS["trace" if quantity == "trace" else "top"][name](spectrum, settings, seed)
    if quantity != "trace":
        return outcome
    return Outcome((outcome.values[0] - float(exact.spectrum.sum()) + exact.trace,), outcome.products)


def probe_pool(network: TrainedNetwork) -> Floats:
    """Values ``s . H s`` of random sign vectors s: Hutchinson's probes, the same whoever computes the products."""
    hessian = PlainHessian(network, torch.float32)
    generator = torch.Generator().manual_seed(FIRST_SEED)
    values: list[float] = []
    start = time.perf_counter()
    least, most = POOL_PROBES
    while len(values) < least or (len(values) < most and time.perf_counter() - start < POOL_SECONDS):
        signs = 2.0 * torch.randint(2, (hessian.dimension,), generator=generator) - 1
        values.append(float(signs.double() @ hessian(signs).double()))
    return np.array(values)


def tune_hutchinson(pool: Floats, exact: Reference) -> Tuned:
    """PyHessian's number of probes: the smallest p with ``sd / sqrt(p)`` in bounds, sd the spread of one probe."""
    spread = float(np.sqrt(np.mean(np.square(pool / exact.trace - 1))))
    probes = max(1, math.ceil((spread / TRACE_ERROR) ** 2))
    return Tuned({"probes": probes}, spread / math.sqrt(probes), probes)


def tune_curvlinops_trace(network: TrainedNetwork, exact: Reference, hutchinson: int) -> Tuned:
    """Its three estimators by bisection over the number of products, on the spectrum; Hutchinson's p is known."""
    columns = _fastest_columns(network)
    best = Tuned({"estimator": "hutchinson", "products": hutchinson, "columns": columns}, TRACE_ERROR, hutchinson)
    for estimator, divisor in (("xtrace", 2), ("hutch++", 3)):
        low, high = 0, hutchinson // divisor + 1  # in units of the divisor: high is as dear as Hutchinson
        found = None
        while high - low > 1:
            middle = (low + high) // 2
            settings: dict[str, Any] = {"estimator": estimator, "products": divisor * middle, "columns": 1024}
            if settings["products"] >= len(exact.spectrum):
                high = middle
                continue
            runs = [replay("curvlinops", "trace", settings, exact, FIRST_SEED + seed) for seed in range(TRACE_REPLAYS)]
            error = rms([errors(run, (exact.trace,)) for run in runs])
            if error <= TRACE_ERROR:
                high, found = middle, Tuned({**settings, "columns": columns}, error, settings["products"])
            else:
                low = middle
        if found is not None and found.products < best.products:
            best = found
    return best


def _fastest_columns(network: TrainedNetwork) -> int:
    """How many columns at a time curvlinops multiplies fastest."""
    seconds: dict[int, float] = {}
    with torch.no_grad():
        for columns in (4, 16):
            operator = curvlinops_operator(network, columns)
            matrix: Tensor = torch.ones(network.parameter_count, columns)
            start = time.perf_counter()
            operator @ matrix
            seconds[columns] = (time.perf_counter() - start) / columns
    return min(seconds, key=lambda columns: seconds[columns])


def tune_our_trace(network: TrainedNetwork, exact: Reference) -> Tuned:
    """The asked relative error, sampled, by calls on the network: the cheapest in bounds."""
    tried = []
    for relative_error in (0.1, 0.07, 0.05, 0.04, 0.03):
        settings = {"relative_error": relative_error, "mode": "stochastic"}
        runs = [RUNS["trace"]["ours"](network, settings, FIRST_SEED + seed) for seed in range(16)]
        error = rms([errors(run, (exact.trace,)) for run in runs])
        cost = float(np.mean([run.gradients for run in runs]))
        if error <= TRACE_ERROR:
            return Tuned(settings, error, cost)
        tried.append(Tuned(settings, error, cost))
    return tried[-1]
