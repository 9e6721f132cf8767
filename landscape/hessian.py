"""Eigenvalues, trace and spectral density of the Hessian of an objective, or of any symmetric operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.gauss_newton import TraceEstimate, trace
from landscape.krylov_basis import LEAST_VECTORS
from landscape.lanczos import Lanczos, SymmetricOperator
from landscape.objective import Objective

__all__ = ["Eigenvalues", "SpectralDensity", "TraceEstimate", "spectral_density", "top_eigenvalues", "trace"]

MOST_PRODUCTS = 128
"""Products after which Lanczos gives up; the residual bounds then say how far it came."""

LEAST_PRODUCTS = 6
"""Products before which no bound is trusted: an early Ritz value can sit still beside the largest eigenvalue."""

TOLERANCE = 1e-4
"""Relative residual bound. The error of the value is far smaller; a run that stops here saw what a run that stops at
1e-3 is blind to about ten times as often: an eigenvalue within a few per cent of the one it settled on."""

NEXT_TOLERANCE = 0.1
"""Relative residual bound asked of the Ritz value that follows the k largest."""

FLOOR = 1e-2
"""An eigenvalue smaller than this share of the largest in magnitude is brought to the precision of that share."""


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Both ends of a symmetric operator's spectrum.

    Parameters
    ----------
    values, bounds : tuples of float
        The k algebraically largest eigenvalues, descending, and the residual bound of each.
    vectors : Tensor, shape (k, P)
        Their Ritz vectors.
    smallest, smallest_bound : float
        The algebraically smallest Ritz value: an upper bound of the smallest eigenvalue, not iterated to tolerance.
    products : int
    converged : bool
        Whether the top k reached the tolerance within the products allowed.
    run : Lanczos
        The iteration itself, which :func:`spectral_density` can use again.
    """

    values: tuple[float, ...]
    bounds: tuple[float, ...]
    vectors: Tensor
    smallest: float
    smallest_bound: float
    products: int
    converged: bool
    run: Lanczos

    @property
    def magnitude(self) -> tuple[float, float]:
        """The largest absolute eigenvalue and its residual bound."""
        if -self.smallest > self.values[0]:
            return -self.smallest, self.smallest_bound
        return abs(self.values[0]), self.bounds[0]


def top_eigenvalues(
    target: Objective | SymmetricOperator,
    k: int = 5,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    least_products: int = LEAST_PRODUCTS,
    most_products: int = MOST_PRODUCTS,
    start: Tensor | None = None,
) -> Eigenvalues:
    """The k algebraically largest eigenvalues by Lanczos iteration.

    Stops after at least `least_products` products when every one of the k has a residual bound of at most
    `tolerance` relative to it, and the Ritz value that follows them one of at most a tenth: a larger eigenvalue that
    has not shown itself yet rises through that place. In memory for few vectors the iteration is restarted from the
    leading ones (see :class:`landscape.lanczos.Basis`).

    Parameters
    ----------
    target : Objective or SymmetricOperator
        An objective stands for its Hessian.
    k : int
        Fewer are returned where the operator has fewer dimensions.
    tolerance : float
    seed : int
    least_products, most_products : int
    start : Tensor, shape (s, P), optional
        Ritz vectors of a similar operator, such as the Hessian of part of the data. A random vector joins them, so
        that a direction they miss is found all the same. Such a run says nothing of the spectral density.

    Raises
    ------
    LandscapeError
        If a product is not finite, or the start vectors have another length.
    """
    operator = SymmetricOperator.hessian(target) if isinstance(target, Objective) else target
    if start is not None and (start.dim() != 2 or start.shape[1] != operator.dimension or not len(start)):
        raise LandscapeError(f"start has the shape {tuple(start.shape)}", f"(vectors, {operator.dimension})")
    k = min(k, operator.dimension)
    generator = torch.Generator().manual_seed(seed)
    run = Lanczos(operator, generator, start=start, least_vectors=max(LEAST_VECTORS, 2 * k + 2))
    converged, blind, closed_at, closed = False, False, 0, np.empty(0)
    while run.steps < most_products and not run.exhausted:
        run.step()
        if not run.finite:
            raise LandscapeError("a Hessian product is not finite", "finite logits and loss")
        blind = blind and run.steps < closed_at + least_products
        if run.closed:  # every bound is 0 and tells nothing of the rest: another such space must find the same
            top = run.ritz()[0][-k:]
            blind = len(top) > len(closed) or not np.allclose(top, closed, rtol=0, atol=tolerance * abs(top).max())
            closed_at, closed = run.steps, top
        converged = run.steps > k and not blind and _settled(run, k, tolerance)
        if converged and run.steps >= least_products:
            break
    values, bounds, vectors = run.ritz()
    rounding = torch.finfo(operator.dtype).eps * np.abs(values).max()  # what the bound of exact arithmetic leaves out
    bounds = np.maximum(bounds, rounding)
    order = np.arange(len(values))[::-1][:k]
    return Eigenvalues(
        values=tuple(map(float, values[order])),
        bounds=tuple(map(float, bounds[order])),
        vectors=run.basis.combine(vectors[:, order].T),
        smallest=float(values[0]),
        smallest_bound=float(bounds[0]),
        products=run.steps,
        converged=converged or run.exhausted,
        run=run,
    )


def _settled(run: Lanczos, k: int, tolerance: float) -> bool:
    values, bounds, _ = run.ritz()
    scale = np.maximum(np.abs(values), FLOOR * np.abs(values).max())
    within = bounds <= np.concatenate([np.full(len(values) - k, NEXT_TOLERANCE), np.full(k, tolerance)]) * scale
    return bool(within[-k - 1 :].all())


@dataclass(frozen=True)
class SpectralDensity:
    """Density of the eigenvalues: atoms from each probe, and a smooth curve over a grid.

    Parameters
    ----------
    ritz_values, ritz_weights : tuples (one a probe) of tuples
        Atoms of the density; the weights of a probe sum to 1.
    eigenvalues, density : tuples of float
        The grid, and the mean over probes of ``sum_i w_i N(x; theta_i, width^2)``, which integrates to 1.
    width : float
        Standard deviation of the Gaussian kernel.
    """

    ritz_values: tuple[tuple[float, ...], ...]
    ritz_weights: tuple[tuple[float, ...], ...]
    eigenvalues: tuple[float, ...]
    density: tuple[float, ...]
    width: float


def spectral_density(
    target: Objective | SymmetricOperator,
    *,
    steps: int = 20,
    probes: int = 2,
    seed: int = 0,
    first: Lanczos | None = None,
    points: int = 200,
) -> SpectralDensity:
    """Stochastic Lanczos quadrature (Ghorbani, Krishnan and Xiao, 2019).

    For a random unit vector v and its Lanczos matrix T = S diag(theta) S^T the measure with atoms theta_i and
    weights ``S_1i^2`` matches the first 2 m moments of the spectral measure of v, whose mean is the density.

    Parameters
    ----------
    target : Objective or SymmetricOperator
    steps, probes : int
        Products a probe, and probes.
    seed : int
    first : Lanczos, optional
        A run already made: from a random vector it stands for the first probe at no cost, else it is left aside.
    points : int
        Of the grid.
    """
    operator = SymmetricOperator.hessian(target) if isinstance(target, Objective) else target
    generator = torch.Generator().manual_seed(seed + 1)  # other vectors than the run of the eigenvalues
    runs = [first] if first is not None and first.from_random else []
    while len(runs) < probes:
        run = Lanczos(operator, generator)
        while run.steps < steps and not run.exhausted:
            run.step()
        runs.append(run)
    values, weights = zip(*(run.atoms() for run in runs), strict=True)
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    width = max(0.01 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-12)
    grid = np.linspace(low - 4 * width, high + 4 * width, points)
    kernels = [np.exp(-0.5 * ((grid[:, None] - v) / width) ** 2) @ w for v, w in zip(values, weights, strict=True)]
    density = np.mean(kernels, axis=0) / (width * np.sqrt(2 * np.pi))
    return SpectralDensity(
        ritz_values=tuple(tuple(v.tolist()) for v in values),
        ritz_weights=tuple(tuple(w.tolist()) for w in weights),
        eigenvalues=tuple(grid.tolist()),
        density=tuple(density.tolist()),
        width=float(width),
    )
