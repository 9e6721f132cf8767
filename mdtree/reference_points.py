"""Networks of a zoo as points: the scales of their metrics, and how far others are from them. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 5

HEAVY_TAILED = frozenset(
    {
        "train_loss",
        "test_loss",
        "hessian_top_eigenvalue",
        "hessian_top_eigenvalue_magnitude",
        "hessian_smallest_eigenvalue",
        "hessian_trace",
        "hessian_top_eigenvalue_per_parameter",
        "hessian_trace_per_parameter",
        "gradient_norm_squared_per_parameter",
        "logit_spread",
        "weight_noise_loss_over_chance",
        "connectivity_barrier_loss",
        "parameter_distance",
        "parameter_count",
    }
)
"""Metrics compared by orders of magnitude; all others (shares, errors, similarities, logarithms) by differences."""

STEPS_PER_SPREAD = 100
_FLOOR_QUANTILE = 0.02
_FURTHEST = 6.0
"""Coordinates end here, in spreads."""
_SLACK = 0.15
"""Added to the spacing of the points, in spreads: where they nearly coincide, being near is enough."""


@dataclass(frozen=True)
class Axis:
    """The scale of one metric: `(t(value) - centre) / spread`.

    Attributes
    ----------
    metric : str
    floor : float or None
        `t(x) = asinh(x / floor)`, a logarithm above the floor that passes through 0; None: `t(x) = x`.
    centre, spread : float
        Median and standard deviation of t over the zoo, its outermost percents drawn in.
    low, high : float
        1st and 99th percentile of the zoo, in spreads from the centre.
    """

    metric: str
    floor: float | None
    centre: float
    spread: float
    low: float
    high: float

    def coordinate(self, values: np.ndarray) -> np.ndarray:
        """Values in spreads from the centre, within ±6; missing ones stay missing."""
        scaled = values if self.floor is None else np.arcsinh(values / self.floor)
        return np.clip((scaled - self.centre) / self.spread, -_FURTHEST, _FURTHEST)

    def value(self, coordinates: np.ndarray) -> np.ndarray:
        """The inverse."""
        scaled = coordinates * self.spread + self.centre
        return scaled if self.floor is None else np.sinh(scaled) * self.floor


@dataclass(frozen=True)
class Point:
    """A network of the zoo: its family, the number of its cell, and its coordinates in hundredths of a spread."""

    family: str
    cell: int
    steps: tuple[int | None, ...]


@dataclass(frozen=True)
class View:
    """Points in the space of some of the metrics, all of which they have.

    Attributes
    ----------
    columns : numpy.ndarray of int, shape (metrics,)
        Which of the axes they are.
    coordinates : numpy.ndarray, shape (points, metrics)
    whitening : numpy.ndarray, shape (metrics, metrics)
        Takes coordinates to where Euclidean distances are Mahalanobis distances, as a root mean square over metrics.
    embedded : numpy.ndarray, shape (points, metrics)
    apart : numpy.ndarray, shape (points,)
        Mean distance of a point from its nearest points in other cells.
    families : numpy.ndarray of str, shape (points,)
    own : numpy.ndarray, shape (points,)
        Overall distance of every point from those in other cells.
    """

    columns: np.ndarray
    coordinates: np.ndarray
    whitening: np.ndarray
    embedded: np.ndarray
    apart: np.ndarray
    families: np.ndarray
    own: np.ndarray

    def nearest(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Overall distances, shape (rows,), and the nearest points, nearest first, shape (rows, neighbours)."""
        distances = distances_between(coordinates[:, self.columns] @ self.whitening, self.embedded)
        order, near = _nearest(distances)
        ratios = near / (self.apart[order] + _SLACK)
        return ratios.mean(axis=1), order

    def family(self, order: np.ndarray) -> str:
        """The family of most of these points; among equals that of the nearest."""
        names = self.families[order].tolist()
        return str(max(names, key=names.count))


def make_view(points: Sequence[Point], covariance: np.ndarray, measured: np.ndarray) -> View:
    """The points in the space of the measured metrics.

    Points that lack a metric are left out; a metric that would cost more than half of them is left out instead.

    Parameters
    ----------
    points : sequence of Point
        Of at least two cells.
    covariance : numpy.ndarray, shape (axes, axes)
    measured : numpy.ndarray of bool, shape (axes,)
        True at least once.
    """
    columns = np.flatnonzero(measured)
    coordinates = np.array([point.steps for point in points], dtype=float) / STEPS_PER_SPREAD
    while np.isnan(coordinates[:, columns]).any(axis=1).mean() > 0.5 and columns.size > 1:
        columns = np.delete(columns, np.isnan(coordinates[:, columns]).sum(axis=0).argmax())
    kept = ~np.isnan(coordinates[:, columns]).any(axis=1)
    coordinates = coordinates[np.ix_(kept, columns)]
    # a root mean square over metrics, so that the slack means the same for few and for many
    whitening = np.linalg.inv(np.linalg.cholesky(covariance[np.ix_(columns, columns)])).T / math.sqrt(len(columns))
    embedded = coordinates @ whitening
    cells = np.array([point.cell for point in points])[kept]
    between = distances_between(embedded, embedded)
    between[cells[:, None] == cells[None, :]] = np.inf
    order, near = _nearest(between)
    apart = _mean_where_finite(near)
    return View(
        columns=columns,
        coordinates=coordinates,
        whitening=whitening,
        embedded=embedded,
        apart=apart,
        families=np.array([point.family for point in points])[kept],
        own=_mean_where_finite(near / (apart[order] + _SLACK)),
    )


def _nearest(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the smallest distances of every row, smallest first, and these distances."""
    count = min(NEIGHBOURS, distances.shape[1])
    order = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(order, np.argsort(np.take_along_axis(distances, order, axis=1), axis=1), axis=1)
    return order, np.take_along_axis(distances, order, axis=1)


def _mean_where_finite(values: np.ndarray) -> np.ndarray:
    """Row means; 0 where a point has no other cell beside it."""
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)


def distances_between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Euclidean distances, shape (left, right)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.maximum(squares, 0.0))


def fit_axis(name: str, values: np.ndarray) -> Axis:
    """The scale of a metric over the zoo's values of it (at least one), none of them missing."""
    magnitudes = np.abs(values[values != 0])
    floor = None
    if name in HEAVY_TAILED and magnitudes.size:
        floor = six_digits(np.quantile(magnitudes, _FLOOR_QUANTILE))
    scaled = values if floor is None else np.arcsinh(values / floor)
    low, high = np.quantile(scaled, [0.01, 0.99])
    centre, spread = six_digits(np.median(scaled)), six_digits(np.clip(scaled, low, high).std())
    # where a metric never varies, any other value is far
    spread = max(spread, six_digits(1e-6 * max(1.0, abs(centre))))
    return Axis(name, floor, centre, spread, six_digits((low - centre) / spread), six_digits((high - centre) / spread))


def as_steps(coordinates: np.ndarray) -> tuple[int | None, ...]:
    """Coordinates in whole hundredths of a spread; None where missing."""
    return tuple(None if math.isnan(v) else round(STEPS_PER_SPREAD * float(v)) for v in coordinates)


def six_digits(value: float) -> float:
    """Six significant digits, as files keep them."""
    return float(f"{value:.6g}")
