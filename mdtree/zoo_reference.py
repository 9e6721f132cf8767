"""How far a checkpoint is from the networks of a zoo, with the mark for one that is out of it. No torch here.

A zoo is kept as a few networks of every family, its reference points. A network far from them counts as unlike the zoo
only if it is further than they are from one another: families are spread out in some regimes and dense in others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.reference_points import STEPS_PER_SPREAD, Axis, Point, View, as_steps, fit_axis, make_view, six_digits

POINTS_PER_FAMILY = 120
LEVEL = 0.97
"""Share of the reference points, each seen without its own cell, that lie within the limit of the mark."""

_RIDGE = 0.02
_MOST_METRICS, _MOST_POINTS, _MOST_STEPS = 64, 20_000, 10_000


@dataclass(frozen=True)
class ZooDistance:
    """Where a checkpoint lies in relation to a zoo.

    Attributes
    ----------
    overall : float
        Mean over its five nearest reference points of: distance to the point over the point's own distance from its
        neighbours in other cells. About 1 for a network like the zoo's.
    limit : float
        The share `ZooReference.level` of the zoo's own networks, each seen without its cell, lies within it on the
        same metrics.
    outside : bool
        `overall > limit`: the mark.
    nearest : str
        The family most of the nearest points are of.
    per_metric : dict of str to float
        How far the value lies outside the zoo's range (1st to 99th percentile), in spreads of the metric; 0 inside.
    from_nearest : dict of str to float
        Its difference from the mean of the nearest points, in spreads: what sets it apart inside the ranges too.
    """

    overall: float
    limit: float
    outside: bool
    nearest: str
    per_metric: dict[str, float]
    from_nearest: dict[str, float]


@dataclass(frozen=True)
class ZooReference:
    """What is kept of a zoo to measure distances from it.

    Attributes
    ----------
    axes : tuple of Axis
    covariance : tuple of tuple of float
        Of the coordinates within families (every family counts alike), with a ridge; it makes distances Mahalanobis.
    points : tuple of Point
    level : float
        Share of the points within the limit of the mark.
    """

    axes: tuple[Axis, ...]
    covariance: tuple[tuple[float, ...], ...]
    points: tuple[Point, ...]
    level: float = LEVEL
    # by which metrics are measured: an evidence set and its gaps
    _views: dict[tuple[bool, ...], tuple[View, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __hash__(self) -> int:
        # references are keys of a cache that every diagnosis asks: the points, thousands of numbers, tell no more
        return hash((self.axes, self.covariance, self.level))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the axes."""
        return tuple(axis.metric for axis in self.axes)

    def distance(self, values: Mapping[str, float]) -> ZooDistance:
        """The distance of one checkpoint; metrics that are missing, or that the reference has not, are left out.

        Raises
        ------
        InputError
            None of the reference's metrics has a finite value.
        """
        coordinates = self.coordinates_of(values)
        view, limit = self._view(~np.isnan(coordinates[0]))
        overall, order = view.nearest(coordinates)
        here = {axis.metric: (axis, float(v)) for axis, v in zip(self.axes, coordinates[0], strict=True) if v == v}
        kin = view.coordinates[order[0]].mean(axis=0)
        names = [self.axes[column].metric for column in view.columns]
        return ZooDistance(
            overall=float(overall[0]),
            limit=limit,
            outside=bool(overall[0] > limit),
            nearest=view.family(order[0]),
            per_metric={name: max(0.0, axis.low - v, v - axis.high) for name, (axis, v) in here.items()},
            from_nearest={name: here[name][1] - float(mean) for name, mean in zip(names, kin, strict=True)},
        )

    def distances(self, rows: pd.DataFrame) -> pd.DataFrame:
        """`overall`, `limit`, `outside` and `nearest` of every row of a table, the same as `distance` row by row."""
        coordinates = self.coordinates(rows)
        patterns, group = np.unique(~np.isnan(coordinates), axis=0, return_inverse=True)
        overall, limit = np.zeros(len(rows)), np.zeros(len(rows))
        nearest = np.empty(len(rows), dtype=object)
        for number, pattern in enumerate(patterns):
            (view, bound), here = self._view(pattern), np.flatnonzero(group.reshape(-1) == number)
            overall[here], order = view.nearest(coordinates[here])
            limit[here] = bound
            nearest[here] = [view.family(points) for points in order]
        columns = {"overall": overall, "limit": limit, "outside": overall > limit, "nearest": nearest}
        return pd.DataFrame(columns, index=rows.index)

    def coordinates(self, rows: pd.DataFrame) -> np.ndarray:
        """The metrics of a table in spreads from their centres, shape (rows, axes); NaN where not measured."""
        result = np.full((len(rows), len(self.axes)), np.nan)
        for number, axis in enumerate(self.axes):
            if axis.metric in rows:
                result[:, number] = axis.coordinate(_finite_values(rows[axis.metric]))
        return result

    def coordinates_of(self, values: Mapping[str, float]) -> np.ndarray:
        """The same of one checkpoint, shape (1, axes), without the cost of a table."""
        result = np.full((1, len(self.axes)), np.nan)
        for number, axis in enumerate(self.axes):
            value = values.get(axis.metric, math.nan)
            if math.isfinite(value):
                result[:, number] = axis.coordinate(np.array([value], dtype=float))
        return result

    def table(self) -> pd.DataFrame:
        """The reference points as values of the metrics, as far as hundredths of a spread tell them."""
        coordinates = np.array([point.steps for point in self.points], dtype=float) / STEPS_PER_SPREAD
        return pd.DataFrame({axis.metric: axis.value(coordinates[:, i]) for i, axis in enumerate(self.axes)})

    def _view(self, measured: np.ndarray) -> tuple[View, float]:
        key = tuple(measured.tolist())
        if key not in self._views:
            if not measured.any():
                raise InputError(
                    "none of the metrics that distances from the zoo are made of was measured",
                    f"at least one of {', '.join(self.metrics)}",
                )
            view = make_view(self.points, np.array(self.covariance), measured)
            self._views[key] = view, float(np.quantile(view.own, self.level))
        return self._views[key]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; a point is a line of text, cell first, `-` where it lacks a metric."""
        lines: dict[str, list[str]] = {}
        for point in self.points:
            steps = " ".join("-" if step is None else str(step) for step in point.steps)
            lines.setdefault(point.family, []).append(f"{point.cell} {steps}")
        return {
            "level": self.level,
            "axes": [dict(vars(axis)) for axis in self.axes],
            "covariance": [" ".join(f"{v:.6g}" for v in row) for row in self.covariance],
            "points": lines,
        }

    @staticmethod
    def from_dict(values: Any, source: str = "the reference of the zoo") -> ZooReference:
        """Check and rebuild a reference.

        Raises
        ------
        InputError
            A part is missing or of another kind, a number is not finite, a scale has no spread, a metric stands
            twice, the covariance is not positive definite, or the points are of fewer than two cells.
        """
        try:
            reference = ZooReference(
                axes=tuple(_axis(axis) for axis in values["axes"]),
                covariance=tuple(tuple(_finite(float(v)) for v in row.split()) for row in values["covariance"]),
                points=tuple(_point(family, line) for family, lines in values["points"].items() for line in lines),
                level=_finite(values["level"]),
            )
            _check(reference)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"{source} is not valid ({type(error).__name__}: {error})") from error
        return reference


def fit_reference(
    rows: pd.DataFrame, metrics: Sequence[str], *, points_per_family: int = POINTS_PER_FAMILY, seed: int = 0
) -> ZooReference:
    """Keep of a zoo what distances from it need.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of a zoo table to fit on: `family`, `cell` and the metrics.
    metrics : sequence of str
        Those without a measured value in the rows are left out.
    points_per_family : int
        Networks kept of every family: one of each cell first, then a second of each, and so on.
    seed : int
        Of the order in which cells and their networks are taken.

    Raises
    ------
    InputError
        No metric is measured, or the rows are of fewer than two cells.
    """
    values = {name: _finite_values(rows[name]) for name in metrics if name in rows}
    axes = tuple(fit_axis(name, v[np.isfinite(v)]) for name, v in values.items() if np.isfinite(v).any())
    if not axes:
        raise InputError("the zoo measured none of the metrics that distances are made of", ", ".join(metrics))
    coordinates = np.stack([axis.coordinate(values[axis.metric]) for axis in axes], axis=1)
    families = rows["family"].to_numpy(dtype=str)
    cells = np.unique((rows["family"] + "/" + rows["cell"]).to_numpy(dtype=str), return_inverse=True)[1].reshape(-1)
    generator = np.random.default_rng(seed)
    points = [
        Point(str(family), int(cells[row]), as_steps(coordinates[row]))
        for family in np.unique(families)
        for row in _in_turn(np.flatnonzero(families == family), cells, generator)[:points_per_family]
    ]
    reference = ZooReference(axes, _within_families(coordinates, families), tuple(points))
    _check(reference)
    return reference


def _finite_values(column: pd.Series) -> np.ndarray:
    values = column.to_numpy(dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def _within_families(coordinates: np.ndarray, families: np.ndarray) -> tuple[tuple[float, ...], ...]:
    names = np.unique(families)
    total = _RIDGE * np.eye(coordinates.shape[1])
    for name in names:
        part = coordinates[families == name]
        known = ~np.isnan(part)
        means = np.where(known, part, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        deviations = np.where(known, part - means, 0.0)
        total += deviations.T @ deviations / len(part) / len(names)
    return tuple(tuple(six_digits(v) for v in row) for row in total)


def _in_turn(rows: np.ndarray, cells: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The rows in the order in which they are taken: a network of every cell, then a second one."""
    shuffled = generator.permutation(rows)
    turn = pd.Series(cells[shuffled]).groupby(cells[shuffled]).cumcount().to_numpy()
    return shuffled[np.argsort(turn, kind="stable")]


def _axis(values: Mapping[str, Any]) -> Axis:
    floor = values["floor"]
    axis = Axis(
        metric=str(values["metric"]),
        floor=None if floor is None else _finite(floor),
        centre=_finite(values["centre"]),
        spread=_finite(values["spread"]),
        low=_finite(values["low"]),
        high=_finite(values["high"]),
    )
    if axis.spread <= 0 or (axis.floor is not None and axis.floor <= 0) or axis.low > axis.high:
        raise InputError(f"the scale of {axis.metric}", "floor and spread above 0, low at most high")
    return axis


def _point(family: str, line: str) -> Point:
    cell, *steps = line.split()
    return Point(family, int(cell), tuple(None if step == "-" else int(step) for step in steps))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{value!r} where a finite number belongs")
    return float(value)


def _check(reference: ZooReference) -> None:
    axes, points = len(reference.axes), reference.points
    if not 1 <= axes <= _MOST_METRICS or len(set(reference.metrics)) != axes:
        raise InputError(f"scales of {axes} metrics", f"1 to {_MOST_METRICS} metrics, each once")
    if not 0 < reference.level < 1:
        raise InputError(f"a level of {reference.level:g}", "a share between 0 and 1")
    if [len(row) for row in reference.covariance] != [axes] * axes:
        raise InputError("a covariance of another size than the number of metrics", f"{axes} rows of {axes} numbers")
    covariance = np.array(reference.covariance)
    if not np.array_equal(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise InputError("a covariance that is none", "a symmetric matrix with positive eigenvalues")
    if len(points) > _MOST_POINTS or len({point.cell for point in points}) < 2:
        raise InputError(f"{len(points)} reference networks", f"up to {_MOST_POINTS}, of two cells or more")
    for point in points:
        if len(point.steps) != axes or any(s is not None and abs(s) > _MOST_STEPS for s in point.steps):
            raise InputError(f"a network of {point.family} with {len(point.steps)} coordinates", f"{axes} in reach")
