"""The fitting procedure published with the MD tree, kept as the mark to compare with.

Source: Zhou et al., "MD tree: a model-diagnostic tree grown on loss landscape", 2024, and the code published with it.
Every threshold in turn, by its number, goes through Brent's bounded scalar minimiser, with the training accuracy of the
whole tree as its objective; thresholds already visited stand at their fitted value, the others at their start.

The exact search (`mdtree.threshold_search`) is better in three ways. Accuracy is a staircase, while Brent's method
expects a smooth curve with one valley: of the whole range it tries some twenty-five points, most of them around the
first two, and where these stand on one level nothing tells it where to go. One pass over single thresholds misses what
only two of them together gain. And the result depends on the scale a metric is written on, because the first points
cut the bounds by the golden section: the negated connectivity and the logarithm of the trace are part of the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mdtree.errors import InputError
from mdtree.shapes import Shape, ShapeSplit
from mdtree.threshold_search import ThresholdFit

LOGARITHMIC = ("hessian_trace",)
"""Metrics whose thresholds are searched on the natural-logarithm scale; a value of 0 or less counts as minus infinity.
Questions closed on the right are searched on the negated scale, all others as they are."""


def fit_as_published(
    shape: Shape, columns: Mapping[str, np.ndarray], labels: Sequence[str] | np.ndarray
) -> ThresholdFit:
    """Thresholds of a shape by the published procedure: one pass, one threshold at a time, by Brent's method.

    For k = 0, 1, ...: t_k = argmin over [low_k, high_k] of -(training accuracy with t_0 ... t_k-1 fitted, t_k free and
    all later ones at their start), as far as `scipy.optimize.minimize_scalar(method="bounded")` finds it.

    Parameters
    ----------
    shape : Shape
        Its thresholds are named t0, t1, ... and have finite bounds.
    columns : mapping of str to array, shape (n,)
        Metric -> finite values, in the metric's own unit; must hold the shape's metrics.
    labels : sequence of str, length n
        True labels.

    Returns
    -------
    ThresholdFit
        Thresholds in the metric's own unit (a value that equals one takes the closed side); `score` is the number of
        training rows answered correctly.

    Raises
    ------
    InputError
        A metric is missing or not finite, lengths differ, a bound is infinite on the scale of the search, or a
        threshold is not named t0, t1, ...

    Notes
    -----
    Source: Zhou et al. 2024, see the module; it also says why `mdtree.threshold_search.fit_thresholds` is better.
    """
    search = PublishedSearch(shape, columns, labels)
    fitted = list(search.starts)
    for number, bounds in enumerate(search.bounds):

        def cost(value: float, number: int = number) -> float:
            return -search.accuracy([*fitted[:number], value, *fitted[number + 1 :]])

        fitted[number] = float(minimize_scalar(cost, bounds=bounds, method="bounded").x)
    thresholds = {f"t{number}": search.in_unit(number, value) for number, value in enumerate(fitted)}
    ordered = {split.name: thresholds[split.name] for split in shape.splits()}
    return ThresholdFit(shape.tree(ordered), ordered, float(round(search.accuracy(fitted) * len(labels))))


@dataclass(frozen=True)
class _Question:
    """One question on the published scale: rows with `values <= threshold` take the branch `yes`."""

    number: int
    values: np.ndarray  # (n,)
    yes: _Question | np.ndarray  # for an answer: (n,) whether it is right
    no: _Question | np.ndarray


class PublishedSearch:
    """A shape and its training rows on the published scales.

    Parameters
    ----------
    shape, columns, labels
        As in `fit_as_published`.

    Attributes
    ----------
    starts : list of float
        Thresholds before fitting, by number, on the published scale.
    bounds : list of (float, float)
        Where each may lie, on the same scale.
    """

    def __init__(self, shape: Shape, columns: Mapping[str, np.ndarray], labels: Sequence[str] | np.ndarray) -> None:
        self._splits = _by_number(shape)
        label_of = np.asarray(labels, dtype=str)
        self.starts = [_scaled(split, split.start) for split in self._splits]
        self.bounds = [_ordered(_scaled(split, split.low), _scaled(split, split.high)) for split in self._splits]
        self._root = _question(shape.root, columns, label_of)

    def accuracy(self, thresholds: Sequence[float]) -> float:
        """Share (0...1) of the training rows the whole tree answers correctly, thresholds on the published scale."""
        return float(np.count_nonzero(_right(self._root, thresholds)) / self._root.values.size)

    def in_unit(self, number: int, value: float) -> float:
        """A threshold of the published scale in the metric's own unit."""
        split = self._splits[number]
        value = -value if split.closed == "right" else value
        return min(max(math.exp(value), split.low), split.high) if split.feature in LOGARITHMIC else value


def _right(node: _Question | np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    if isinstance(node, np.ndarray):
        return node
    yes = node.values <= thresholds[node.number]
    return np.where(yes, _right(node.yes, thresholds), _right(node.no, thresholds))


def _question(split: ShapeSplit, columns: Mapping[str, np.ndarray], labels: np.ndarray) -> _Question:
    if split.feature not in columns:
        raise InputError(f"no column {split.feature}", "every metric of the shape")
    values = np.asarray(columns[split.feature], dtype=float)
    if values.shape != labels.shape or not values.size or not np.all(np.isfinite(values)):
        raise InputError(
            f"column {split.feature} of shape {values.shape} for {labels.size} labels",
            "one finite value per label, at least one",
        )
    left, right = (
        labels == child if isinstance(child, str) else _question(child, columns, labels)
        for child in (split.left, split.right)
    )
    number, scaled = int(split.name[1:]), _scaled_values(split, values)
    return _Question(number, scaled, right, left) if split.closed == "right" else _Question(number, scaled, left, right)


def _scaled_values(split: ShapeSplit, values: np.ndarray) -> np.ndarray:
    if split.feature in LOGARITHMIC:
        values = np.log(values, out=np.full(values.shape, -math.inf), where=values > 0)
    return -values if split.closed == "right" else values


def _scaled(split: ShapeSplit, value: float) -> float:
    scaled = float(_scaled_values(split, np.array([value]))[0])
    if not math.isfinite(scaled):
        raise InputError(f"threshold {split.name} may be {value}", "finite bounds on the scale of the search")
    return scaled


def _ordered(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low <= high else (high, low)


def _by_number(shape: Shape) -> list[ShapeSplit]:
    """The questions by the number in their threshold's name."""
    by_name = {split.name: split for split in shape.splits()}
    names = [f"t{number}" for number in range(len(by_name))]
    if set(names) != set(by_name):
        raise InputError(f"shape {shape.name}: threshold names {', '.join(by_name)}", f"the names {', '.join(names)}")
    return [by_name[name] for name in names]
