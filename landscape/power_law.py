"""Power laws fitted to the tail of a spectrum: maximum likelihood, the Hill estimator, and what noise alone gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh_tridiagonal

from landscape.errors import LandscapeError

LEAST_VALUES = 10
"""Fewer values are not fitted: with 9, an exponent of 4 has a standard error of 1, and two of these reach both 2 and 6.
"""

RANDOM_DRAWS = 19
"""A twentieth draw is the smallest of all with probability one in twenty."""

_BLOCK_ELEMENTS = 1 << 18  # of float64: stays in the cache of one core

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLawFit:
    """A density proportional to ``x^-alpha`` on ``x >= xmin``.

    Parameters
    ----------
    alpha : float
        The exponent.
    standard_error : float
        ``(alpha - 1) / sqrt(tail)``: of independent values above a given xmin. That xmin was chosen, and that
        eigenvalues repel each other, is not in it.
    xmin : float
        The smallest value of the tail, in units of the values.
    distance : float
        Kolmogorov-Smirnov distance of tail and fit.
    tail : int
        How many values are at least xmin.
    """

    alpha: float
    standard_error: float
    xmin: float
    distance: float
    tail: int


def fit_power_law(values: Array) -> PowerLawFit:
    """Fit a continuous power law, its lower end chosen by the Kolmogorov-Smirnov distance.

    Every value but the largest is tried as xmin. With the n values ``x_0 <= x_1 <= ...`` from xmin up::

        alpha = 1 + n / sum_j log(x_j / xmin)
        D     = max_j |1 - (x_j / xmin)^(1 - alpha) - j / n|,   j = 0 ... n - 1

    and the xmin of the smallest D is taken (Clauset, Shalizi and Newman, 2009, eqs. 3.1, 3.2 and 3.9; D on the lower
    side of each step, as in their program and in WeightWatcher). Exact: O(n^2) time, a fixed amount of memory.

    Parameters
    ----------
    values : array (n,)
        Positive, finite, in any order.

    Returns
    -------
    PowerLawFit

    Raises
    ------
    LandscapeError
        If there are fewer than 10 values, one is not positive and finite, or all are equal.
    """
    ordered = _checked(values)
    logs = np.log(ordered) - np.log(ordered[-1])
    n = len(logs)
    # equal values begin a tail together; the largest begins none
    starts = np.flatnonzero(np.diff(logs, prepend=-np.inf) > 0)
    starts = starts[logs[starts] < 0]
    sizes = n - starts
    sums = np.cumsum(logs[::-1])[::-1]
    alphas = 1 + sizes / (sums[starts] - sizes * logs[starts])
    distances = np.empty(len(starts))
    low = 0
    while low < len(starts):
        high = low + max(1, _BLOCK_ELEMENTS // int(sizes[low]))
        distances[low:high] = _distances(logs, starts[low:high], alphas[low:high])
        low = high
    best = int(np.argmin(distances))
    alpha, tail = float(alphas[best]), int(sizes[best])
    return PowerLawFit(alpha, (alpha - 1) / tail**0.5, float(ordered[starts[best]]), float(distances[best]), tail)


def hill_exponent(values: Array) -> float:
    """Exponent of the larger half of the values, ``1 + k / sum_i log(x_(n-i+1) / x_(n-k))`` with k = n // 2, i = 1...k.

    Without a search for xmin it varies less from one training to the next than `fit_power_law`, and cannot find where a
    tail begins (Hill, 1975; the choice of k from Zhou et al., 2023, "Temperature Balancing").

    Parameters
    ----------
    values : array (n,)
        Positive, finite, in any order.

    Raises
    ------
    LandscapeError
        As `fit_power_law`, and if the larger half is all equal.
    """
    ordered = _checked(values)
    k = len(ordered) // 2
    total = float(np.log(ordered[-k:] / ordered[-k - 1]).sum())
    if not total > 0:
        raise LandscapeError("the larger half of the values are equal", "values that differ")
    return 1 + k / total


def random_eigenvalues(rows: int, columns: int, generator: np.random.Generator) -> Array:
    """Eigenvalues of ``X^T X`` for X (rows, columns), rows >= columns, of independent standard normal entries.

    Drawn as those of a tridiagonal matrix of the same law (Dumitriu and Edelman, 2002), in O(columns^2) time.

    Returns
    -------
    array (columns,)
        Ascending, positive.
    """
    diagonal = generator.chisquare(rows - np.arange(columns, dtype=float))
    below = generator.chisquare(np.arange(columns - 1, 0, -1, dtype=float))
    off_diagonal = np.sqrt(diagonal[:-1] * below)
    diagonal[1:] += below
    # of a square matrix the smallest may come out as zero, or a little below
    return np.maximum(eigvalsh_tridiagonal(diagonal, off_diagonal), np.finfo(float).tiny)


@lru_cache(maxsize=256)
def random_alpha(matrices: int, rows: int, columns: int) -> float:
    """The exponent that random matrices of this shape stay above, but for one in twenty.

    Short spectra of pure noise pass for heavy-tailed: a 64×64 matrix of independent normal entries has alpha 2.5 to 11.
    The smallest alpha of 19 draws of `random_eigenvalues`, always the same ones, is returned; it does not depend on the
    scale of the entries.

    Parameters
    ----------
    matrices : int
        How many are drawn and their eigenvalues pooled (the kernel positions of a convolution).
    rows, columns : int
        Shape of each.
    """
    n, m = max(rows, columns), min(rows, columns)
    generator = np.random.default_rng([matrices, n, m])
    fits = []
    for _ in range(RANDOM_DRAWS):
        pooled = [random_eigenvalues(n, m, generator) for _ in range(matrices)]
        fits.append(fit_power_law(np.concatenate(pooled)).alpha)
    return min(fits)


def _checked(values: Array) -> Array:
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.ndim != 1 or len(ordered) < LEAST_VALUES:
        raise LandscapeError(f"a power law for values of shape {ordered.shape}", f"{LEAST_VALUES} values or more")
    if not (ordered[0] > 0 and np.isfinite(ordered[-1])):
        raise LandscapeError("a power law for values that are not all positive and finite", "positive values")
    if ordered[0] == ordered[-1]:
        raise LandscapeError("a power law for values that are all equal", "values that differ")
    return ordered


def _distances(logs: Array, starts: NDArray[np.intp], alphas: Array) -> Array:
    """Kolmogorov-Smirnov distance of the tail from each start on, for sorted logarithms."""
    first = int(starts[0])
    above = logs[None, first:] - logs[starts, None]
    # what lies before a start is no part of its tail: there both distributions are set to zero
    np.maximum(above, 0, out=above)
    above *= (1 - alphas)[:, None]
    np.exp(above, out=above)
    ranks = np.maximum(np.arange(first, len(logs))[None, :] - starts[:, None], 0)
    above += ranks / (len(logs) - starts)[:, None]
    above -= 1
    return np.abs(above, out=above).max(1)
