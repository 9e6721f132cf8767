"""The loss on a plane through a network: along random directions scaled filter by filter, or along eigenvectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.hessian import top_eigenvalues
from landscape.network import Network
from landscape.objective import Objective

Directions = Literal["filter", "eigenvectors"]

DIRECTIONS = ("filter", "eigenvectors")
MOST_POINTS = 201


@dataclass(frozen=True)
class LossSurface:
    """Losses on a square grid around a network, ``L(w + x u + y v)``.

    Parameters
    ----------
    directions : str
        ``filter`` or ``eigenvectors``.
    x, y : tuple of float
        Steps along u and v; 0 is the network itself. Of filter directions in norms of the filters, of eigenvectors
        as distance in parameter space.
    loss : tuple of tuple of float
        ``loss[j][i]`` belongs to ``(x[i], y[j])``; NaN or infinite where the outputs are not finite.
    error_percent : tuple of tuple of float, or None
        The same of the error; None where only a loss function is known.
    eigenvalues : pair of float, or None
        Curvatures along u and v, of eigenvectors.
    norms : pair of float
        Euclidean lengths of u and v.
    cosine : float
        Of the angle between them.
    batch_norm_fixed : bool
        Whether the network has BatchNorm layers. Their running statistics stay those of the network at every point:
        the surface is that of the network as it predicts, not as it was trained, and rises faster than one whose
        statistics were refreshed.
    samples : int
        Samples each loss is a mean over.
    sample_gradients : float
        What it cost: a third for each sample and point, and the products that found the eigenvectors.
    """

    directions: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    loss: tuple[tuple[float, ...], ...]
    error_percent: tuple[tuple[float, ...], ...] | None
    eigenvalues: tuple[float, float] | None
    norms: tuple[float, float]
    cosine: float
    batch_norm_fixed: bool
    samples: int
    sample_gradients: float


def loss_surface(
    objective: Objective,
    directions: Directions = "filter",
    *,
    span: float | None = None,
    points: int = 21,
    seed: int = 0,
) -> LossSurface:
    r"""Evaluate the loss on a grid of `points` times `points` around a network.

    Filter directions (Li, Xu, Taylor, Studer and Goldstein, 2018) are random normal vectors, each filter f of each
    weight tensor (a slice of its first axis) scaled to the norm of the network's own,

    .. math:: u_f \leftarrow \frac{\lVert w_f\rVert}{\lVert u_f\rVert}\, u_f,

    and 0 for biases and normalisation layers (tensors of one axis), so that rescaling a filter whose scale the
    function does not show leaves the picture alone. Eigenvectors are those of the two largest eigenvalues of the
    Hessian, of length 1: near the network ``L(w + x u + y v) = L(w) + g.(x u + y v) + (x^2 l_1 + y^2 l_2) / 2``.

    Parameters
    ----------
    objective : Objective
        Its network is moved and put back.
    directions : {"filter", "eigenvectors"}
    span : float, optional
        Half the side of the square. By default 1 for filter directions, and for eigenvectors the distance
        ``sqrt(2 / l_1)`` at which the quadratic along the first has risen by 1.
    points : int
        Odd, 3 to 201, so that the network itself is on the grid.
    seed : int
        Of the random directions, or of the Lanczos iteration.

    Returns
    -------
    LossSurface

    Raises
    ------
    LandscapeError
        An unknown kind of directions; a span or number of points that is none; a network without two directions
        (all weights 0, one parameter), or, for the default span, without a positive eigenvalue.
    """
    if directions not in DIRECTIONS:
        raise LandscapeError(f"directions {directions!r}", f"one of {', '.join(DIRECTIONS)}")
    if not 3 <= points <= MOST_POINTS or points % 2 == 0:
        raise LandscapeError(f"a surface of {points} points a side", f"an odd number from 3 to {MOST_POINTS}")
    if span is not None and not (span > 0 and math.isfinite(span)):
        raise LandscapeError(f"a surface of span {span}", "a finite number above 0")
    before = objective.sample_gradients
    eigenvalues = None
    if directions == "filter":
        u, v = filter_directions(objective.network, seed)
        half = span or 1.0
    else:
        u, v, eigenvalues = _eigenvectors(objective, seed)
        half = span or _one_nat(eigenvalues[0])
    steps = [half * (2 * i - (points - 1)) / (points - 1) for i in range(points)]
    losses, errors = _evaluated(objective, u, v, steps)
    return LossSurface(
        directions=directions,
        x=tuple(steps),
        y=tuple(steps),
        loss=losses,
        error_percent=errors,
        eigenvalues=eigenvalues,
        norms=(float(u.norm()), float(v.norm())),
        cosine=float(u @ v / (u.norm() * v.norm())),
        batch_norm_fixed=bool(objective.network.batch_norms),
        samples=objective.samples,
        sample_gradients=objective.sample_gradients - before,
    )


def filter_directions(network: Network, seed: int) -> tuple[Tensor, Tensor]:
    """Two random directions, shape (P,), scaled filter by filter (see :func:`loss_surface`).

    Raises
    ------
    LandscapeError
        Every weight is 0, or no tensor has two axes.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(2):
        parts = []
        for weight in network.split(network.flat):
            # drawn in float64 on the CPU: the same directions in both precisions and on every device
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
            parts.append((_like_filters(drawn, weight) if weight.dim() > 1 else torch.zeros_like(weight)).reshape(-1))
        found.append(torch.cat(parts))
    if not all(bool(direction.any()) for direction in found):
        raise LandscapeError(
            "no filter to scale random directions by", "a weight tensor of two axes or more that is not 0"
        )
    return found[0], found[1]


def _like_filters(drawn: Tensor, weight: Tensor) -> Tensor:
    rows, norms = drawn.flatten(1), weight.flatten(1).norm(dim=1, keepdim=True)
    return (rows * (norms / rows.norm(dim=1, keepdim=True))).view_as(weight)


def _eigenvectors(objective: Objective, seed: int) -> tuple[Tensor, Tensor, tuple[float, float]]:
    found = top_eigenvalues(objective, 2, seed=seed)
    if len(found.values) < 2:
        raise LandscapeError("a network of one parameter", "two directions or more")
    # the sign of an eigenvector is nobody's: the entry of largest magnitude is positive
    u, v = (vector * vector[vector.abs().argmax()].sign() / vector.norm() for vector in found.vectors)
    return u, v, (found.values[0], found.values[1])


def _one_nat(eigenvalue: float) -> float:
    if eigenvalue <= 0:
        raise LandscapeError(
            f"the largest eigenvalue is {eigenvalue:.3g}: no span follows from it", "a positive one", "give a span"
        )
    return math.sqrt(2.0 / eigenvalue)


Grid = tuple[tuple[float, ...], ...]


def _evaluated(objective: Objective, u: Tensor, v: Tensor, steps: Sequence[float]) -> tuple[Grid, Grid | None]:
    """Losses and errors at every step along u (inner) and v (outer)."""
    network = objective.network
    kept = network.flat.clone()
    losses, errors = [], []
    try:
        for y in steps:
            row = []
            for x in steps:
                # at the centre the network itself, bit for bit: -0.0 + 0.0 is 0.0
                network.load(kept if x == y == 0.0 else kept + x * u + y * v)
                row.append(objective.loss_and_error())
            losses.append(tuple(found.loss for found in row))
            errors.append(tuple(found.error_percent for found in row))
    finally:
        network.load(kept)
    if objective.task is None:
        return tuple(losses), None
    return tuple(losses), tuple(tuple(float(e) for e in row if e is not None) for row in errors)
