"""The exact fitter: for a tree of fixed shape, the thresholds with the highest training score, found without a grid.

The score is the summed weight of the rows that end in a leaf of their own label, plus an optional log-density per
threshold. It changes only when a threshold passes a training value, so with m distinct values of a metric a threshold
has m + 1 choices, its *gaps*. Trying all gaps of three nested questions costs m^3; here it costs m^2 log m:

* the last question on each way down is solved by a tree of prefix sums over its metric (each node keeps the sum of its
  rows' scores and the best prefix sum within), whose root is the best threshold for the rows added so far; while all
  prefix sums are few, they are simply written out;
* the question above it is swept: rows are added in the order of its metric, once upwards (for its left branch) and once
  downwards (for its right branch);
* the first question is carried along as an axis of the arrays: one lane for each of its gaps.

Once a question's threshold is chosen, the problems in its two branches are independent, and each is solved again on
its own rows to read off its thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mdtree.best_prefix import best_prefixes
from mdtree.cut_points import Midpoint, check_midpoint, cut_point
from mdtree.errors import InputError
from mdtree.nodes import Node
from mdtree.priors import LogDensity
from mdtree.shapes import Shape, ShapeSplit, shape_depth

MAX_DEPTH = 3
"""Questions on the longest way to an answer that the search can solve exactly."""

_LANES = 512  # gaps of the first question that are solved at once; bounds the memory of the prefix-sum trees
_TIE = 1e-9  # scores closer than this share of the total weight are equal: sums in another order differ by less


@dataclass(frozen=True)
class ThresholdFit:
    """What the search found.

    Attributes
    ----------
    tree : Split or Leaf
        The shape at the fitted thresholds, without counts.
    thresholds : mapping of str to float
        Threshold name -> value.
    score : float
        Weight of the rows answered correctly plus the log-densities: the maximum over all thresholds.
    """

    tree: Node
    thresholds: Mapping[str, float]
    score: float


def fit_thresholds(
    shape: Shape,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[str] | np.ndarray,
    weight: np.ndarray | None = None,
    *,
    prior: Mapping[str, LogDensity] | None = None,
    midpoint: Midpoint = "geometric",
) -> ThresholdFit:
    """Thresholds of a shape with the highest training score; exact for up to three questions on a way.

    Parameters
    ----------
    shape : Shape
        Questions, answers and bounds. Every gap that holds a number within the bounds is a choice, also those that
        send all rows to one side.
    columns : mapping of str to array, shape (n,)
        Metric -> finite values; must hold the shape's metrics.
    labels : sequence of str, length n
        True labels, any number of them; a label that is no answer of the shape is never correct.
    weight : array, shape (n,), optional
        Finite weights >= 0; default 1.
    prior : mapping of str to LogDensity, optional
        Threshold name -> log-density, evaluated at the middle of each gap.
    midpoint : {"geometric", "arithmetic"}
        Where in an interval the threshold is put, see `cut_point`.

    Returns
    -------
    ThresholdFit

    Notes
    -----
    Ties are broken from the first question down. Among the gaps of a question with which the highest score can still
    be reached, given the thresholds chosen above it, take the longest run of neighbouring gaps (the first of equally
    long ones) and put the threshold in the middle of the run. Under a prior, runs do not matter: the first best gap
    is taken. The outermost gaps reach to the bounds or, where there are none, as far beyond the extreme training
    values as their neighbours reach inwards. The result does not depend on the order of the rows.

    Raises
    ------
    InputError
        The shape is too deep, a metric is missing or not finite, lengths differ, weights are negative, no row has a
        positive weight, a prior names no threshold or forbids all of its gaps.
    """
    check_midpoint(midpoint)
    if shape.depth() > MAX_DEPTH:
        raise InputError(f"shape {shape.name} asks {shape.depth()} questions in a row", f"at most {MAX_DEPTH}")
    problem = _problem(shape, columns, labels, weight, prior or {}, midpoint)
    cuts: dict[str, float] = {}
    score = _choose(problem, shape.root, np.ones(len(labels), dtype=bool), cuts)
    ordered = {split.name: cuts[split.name] for split in shape.splits()}
    return ThresholdFit(shape.tree_at(ordered), ordered, score)


@dataclass(frozen=True)
class _Gaps:
    """The choices of one threshold: gap g lets the rows of rank < g go left."""

    rank: np.ndarray  # (n,) position of each row's value among the distinct values
    values: np.ndarray  # (m,) distinct values, ascending
    low: np.ndarray  # (m + 1,) where the gap starts (included) ...
    high: np.ndarray  # (m + 1,) ... and ends (excluded), both finite
    bonus: np.ndarray  # (m + 1,) log-density; -inf where bounds or prior forbid the gap
    has_prior: bool


@dataclass(frozen=True)
class _Problem:
    gaps: Mapping[str, _Gaps]  # per threshold name
    hits: Mapping[str, np.ndarray]  # per answer: (n,) weight of each row if that answer is right for it, else 0
    midpoint: Midpoint
    tie: float  # scores this close are equal


def _problem(
    shape: Shape,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[str] | np.ndarray,
    weight: np.ndarray | None,
    prior: Mapping[str, LogDensity],
    midpoint: Midpoint,
) -> _Problem:
    n = len(labels)
    weights = np.ones(n) if weight is None else np.asarray(weight, dtype=float)
    if weights.shape != (n,) or not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights > 0):
        raise InputError(
            f"weights of shape {weights.shape} for {n} labels", "one finite weight >= 0 per label, not all of them 0"
        )
    unknown = set(prior) - {split.name for split in shape.splits()}
    if unknown:
        raise InputError(f"prior for {', '.join(sorted(unknown))}", f"a threshold of shape {shape.name}")
    label_of = np.asarray(labels, dtype=object)
    return _Problem(
        gaps={s.name: _gaps(s, _column(columns, s.feature, n), prior.get(s.name), midpoint) for s in shape.splits()},
        hits={label: np.where(label_of == label, weights, 0.0) for label in shape.labels()},
        midpoint=midpoint,
        tie=_TIE * float(weights.sum()),
    )


def _column(columns: Mapping[str, np.ndarray], feature: str, n: int) -> np.ndarray:
    if feature not in columns:
        raise InputError(f"no column {feature}", "every metric of the shape")
    values = np.asarray(columns[feature], dtype=float)
    if values.shape != (n,):
        raise InputError(f"column {feature} has shape {values.shape}", f"{n} values, one per label")
    if not np.all(np.isfinite(values)):
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"column {feature}, row {bad}: {values[bad]}", "finite values", "leave such rows out")
    return values


def _gaps(split: ShapeSplit, column: np.ndarray, prior: LogDensity | None, midpoint: Midpoint) -> _Gaps:
    values, rank = np.unique(column, return_inverse=True)
    below, above = _ends(values, midpoint)
    low = np.concatenate(([-math.inf], values))
    high = np.concatenate((values, [math.inf]))
    permitted = (low <= split.high) & (high > split.low)
    low, high = np.maximum(low, split.low), np.minimum(high, split.high)
    low[0] = low[0] if math.isfinite(low[0]) else min(below, high[0])
    high[-1] = high[-1] if math.isfinite(high[-1]) else max(above, low[-1])
    bonus = np.zeros(values.size + 1)
    if prior is not None:
        middles = np.array([cut_point(a, b, midpoint) for a, b in zip(low, high, strict=True)])
        bonus = np.asarray(prior(middles), dtype=float)
        if bonus.shape != low.shape or np.any(np.isnan(bonus)) or np.any(bonus == math.inf):
            raise InputError(
                f"the prior of threshold {split.name} gave {bonus}", "a number below infinity per threshold"
            )
    bonus = np.where(permitted, bonus, -math.inf)
    if not np.any(np.isfinite(bonus)):
        raise InputError(f"threshold {split.name} has no permitted value", "a prior that allows some within the bounds")
    return _Gaps(rank.reshape(-1), values, low, high, bonus, prior is not None)


def _ends(values: np.ndarray, midpoint: Midpoint) -> tuple[float, float]:
    """How far the first gap reaches down and the last one up: their neighbours mirrored at the extreme values."""
    first, last = float(values[0]), float(values[-1])
    second, last_but_one = (float(values[1]), float(values[-2])) if values.size > 1 else (math.nan, math.nan)
    if midpoint == "geometric" and first > 0:
        down, up = (second / first, last / last_but_one) if values.size > 1 else (2.0, 2.0)
        below, above = first / down, last * up
    else:
        down, up = (second - first, last - last_but_one) if values.size > 1 else (1.0, 1.0)
        below, above = first - down, last + up
    limit = float(np.finfo(float).max)
    return max(below, -limit), min(above, limit)


def _choose(problem: _Problem, node: ShapeSplit | str, rows: np.ndarray, cuts: dict[str, float]) -> float:
    """Choose the thresholds of this node and below for these rows into `cuts`; return their best score."""
    if isinstance(node, str):
        return float(problem.hits[node][rows].sum())
    gaps = problem.gaps[node.name]
    scores = _gap_scores(problem, node, rows)
    best = float(scores.max())
    first, last = _best_run(scores >= best - problem.tie, whole=not gaps.has_prior)
    cut = cut_point(float(gaps.low[first]), float(gaps.high[last]), problem.midpoint)
    cuts[node.name] = cut
    left = gaps.rank < np.searchsorted(gaps.values, cut, side="right")
    _choose(problem, node.left, rows & left, cuts)
    _choose(problem, node.right, rows & ~left, cuts)
    return best


def _best_run(best: np.ndarray, *, whole: bool) -> tuple[int, int]:
    """First and last gap of the longest run of best gaps; the first best gap alone if runs do not count."""
    where = np.flatnonzero(best)
    if not whole:
        return int(where[0]), int(where[0])
    runs = np.split(where, np.flatnonzero(np.diff(where) > 1) + 1)
    longest = max(runs, key=len)
    return int(longest[0]), int(longest[-1])


def _gap_scores(problem: _Problem, node: ShapeSplit, rows: np.ndarray) -> np.ndarray:
    """Best score of the tree below each gap of `node`, shape (m + 1,)."""
    gaps = problem.gaps[node.name]
    lane = rows[:, None]
    total = gaps.bonus.copy()
    for child, is_left in ((node.left, True), (node.right, False)):
        if shape_depth(child) < 2:
            total += _swept(problem, child, node, lane, left=is_left)[:, 0]
            continue
        assert isinstance(child, ShapeSplit)
        permitted = np.flatnonzero(np.isfinite(gaps.bonus))
        for some in np.array_split(permitted, math.ceil(permitted.size / _LANES)):
            goes_left = gaps.rank[:, None] < some[None, :]
            members = lane & (goes_left if is_left else ~goes_left)
            total[some] += _lane_scores(problem, child, members)
    return total


def _lane_scores(problem: _Problem, node: ShapeSplit, lanes: np.ndarray) -> np.ndarray:
    """Best score of a tree of at most two questions on each lane of rows, shape (n_lanes,)."""
    table = problem.gaps[node.name].bonus[:, None] + _swept(problem, node.left, node, lanes, left=True)
    table += _swept(problem, node.right, node, lanes, left=False)
    return table.max(axis=0)


def _swept(
    problem: _Problem, child: ShapeSplit | str, parent: ShapeSplit, lanes: np.ndarray, *, left: bool
) -> np.ndarray:
    """Best score of a branch of at most one question for every gap of its parent and every lane.

    Parameters
    ----------
    lanes : bool array, shape (n, n_lanes)
        Which rows belong to which lane.
    left : bool
        Whether the branch gets the rows of rank < gap or the others.

    Returns
    -------
    ndarray, shape (m + 1, n_lanes)
    """
    gaps = problem.gaps[parent.name]
    m = gaps.values.size
    rank = gaps.rank if left else m - 1 - gaps.rank
    if isinstance(child, str):
        added = np.zeros((m + 1, lanes.shape[1]))
        np.add.at(added, rank + 1, problem.hits[child][:, None] * lanes)
        table = np.cumsum(added, axis=0)
    else:
        table = _swept_split(problem, child, rank, m, lanes)
    return table if left else table[::-1]


def _swept_split(problem: _Problem, child: ShapeSplit, rank: np.ndarray, m: int, lanes: np.ndarray) -> np.ndarray:
    """`_swept` for a branch that is one question, rows being added by ascending `rank`."""
    assert isinstance(child.left, str)
    assert isinstance(child.right, str)
    gaps = problem.gaps[child.name]
    if_right = problem.hits[child.right]
    change = problem.hits[child.left] - if_right
    used = np.flatnonzero(lanes.any(axis=1) & ((change != 0) | (if_right != 0)))
    order = used[np.argsort(rank[used], kind="stable")]
    members = lanes[order]
    after = best_prefixes(gaps.bonus, gaps.rank[order], change[order, None] * members)
    after[1:] += np.cumsum(if_right[order, None] * members, axis=0)
    return after[np.searchsorted(rank[order], np.arange(m + 1))]
