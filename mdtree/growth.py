"""Growing a readable classification tree: best question first, exact splits, few leaves.

The method is CART (Breiman, Friedman, Olshen, Stone 1984) grown best-first: of all leaves that may still be split, the
one whose best question lowers the impurity most is split next. Rows that lack the asked metric go down both branches
with the weights of the rows that have it (Quinlan's C4.5), as `mdtree.nodes.walk` sends them later.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdtree.cut_points import Midpoint, check_midpoint, cut_point
from mdtree.errors import InputError
from mdtree.nodes import Leaf, Node, Split, numbered
from mdtree.tree_json import DEPTH_LIMIT

Criterion = Literal["gini", "entropy", "worth"]

_NO_GAIN = 1e-6  # an impurity decrease below this share of a node's weight is no reason for a question


@dataclass(frozen=True)
class GrowthRules:
    """When to stop and how to cut; see `mdtree.tree.MDTree` for the meaning of each."""

    max_depth: int = 4
    max_leaves: int = 8
    min_samples_leaf: int = 5
    midpoint: Midpoint = "geometric"
    criterion: Criterion = "gini"
    merge_leaves: bool = True

    def __post_init__(self) -> None:
        check_midpoint(self.midpoint)
        if self.criterion not in _CRITERIA:
            raise InputError(f"criterion {self.criterion!r}", f"one of {', '.join(_CRITERIA)}")
        for name, most in (("max_depth", DEPTH_LIMIT), ("max_leaves", 2**DEPTH_LIMIT), ("min_samples_leaf", None)):
            value = getattr(self, name)
            least = 0 if name == "max_depth" else 1
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < least or (most is not None and value > most):
                upper = "" if most is None else f" and at most {most}"
                raise InputError(f"{name}={value!r}", f"a whole number of at least {least}{upper}")


@dataclass(frozen=True)
class TrainingRows:
    """What a tree is grown on.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Metrics; NaN where missing.
    codes : ndarray of int, shape (n,)
        Index of each row's label in `labels`.
    weight : ndarray, shape (n,)
        Weight of each row, > 0: counted in leaves and in `share_left`.
    label_weight : ndarray, shape (n_labels,)
        Factor on the weight of each label where impurities are compared and a leaf's label is chosen.
    features, labels : tuple of str
        Names of the columns and of the labels.
    gains : ndarray, shape (n, n_labels), optional
        What each answer is worth to each row; without it a row's own label is worth 1 and all others nothing.
    """

    X: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    label_weight: np.ndarray
    features: tuple[str, ...]
    labels: tuple[str, ...]
    gains: np.ndarray | None = None

    def worth(self, rows: np.ndarray) -> np.ndarray:
        """Weighted worth of every answer to each of the given rows, shape (len(rows), n_labels)."""
        weight = self.weight[rows] * self.label_weight[self.codes[rows]]
        if self.gains is not None:
            return weight[:, None] * self.gains[rows]
        worth = np.zeros((len(rows), len(self.labels)))
        worth[np.arange(len(rows)), self.codes[rows]] = weight
        return worth


@dataclass(frozen=True)
class _Question:
    gain: float
    column: int
    threshold: float
    share_left: float


@dataclass
class _Growing:
    rows: np.ndarray  # indices of the rows that reach this node ...
    part: np.ndarray  # ... and the part (0...1] of each that does
    depth: int
    question: _Question | None = None
    branches: tuple[_Growing, _Growing] | None = None


def grow(data: TrainingRows, rules: GrowthRules) -> Node:
    """Grow a tree.

    Parameters
    ----------
    data : TrainingRows
        The rows.
    rules : GrowthRules
        Stopping rules and the way of cutting.

    Returns
    -------
    Split or Leaf
        At most `max_leaves` leaves and `max_depth` questions in a row, leaves numbered left to right. Between equal
        gains the metric that comes first decides, then the lower threshold, then the leaf that was made first.
    """
    root = _Growing(np.arange(data.codes.size), np.ones(data.codes.size), 0)
    open_leaves: list[tuple[float, int, _Growing]] = []
    made = 0

    def offer(node: _Growing) -> None:
        nonlocal made
        if node.depth < rules.max_depth:
            node.question = _best_question(data, rules, node)
        if node.question is not None:
            heapq.heappush(open_leaves, (-node.question.gain, made, node))
        made += 1

    offer(root)
    n_leaves = 1
    while open_leaves and n_leaves < rules.max_leaves:
        _, _, node = heapq.heappop(open_leaves)
        node.branches = _divide(data, node)
        n_leaves += 1
        for branch in node.branches:
            offer(branch)
    return numbered(_finished(data, rules, root))


def _divide(data: TrainingRows, node: _Growing) -> tuple[_Growing, _Growing]:
    question = node.question
    assert question is not None
    values = data.X[node.rows, question.column]
    to_left = np.where(np.isnan(values), question.share_left, values <= question.threshold)
    left, right = (
        _Growing(node.rows[part > 0], (node.part * part)[part > 0], node.depth + 1) for part in (to_left, 1 - to_left)
    )
    return left, right


def _finished(data: TrainingRows, rules: GrowthRules, node: _Growing) -> Node:
    if node.branches is None or node.question is None:
        weights = data.weight[node.rows] * node.part
        counts = np.bincount(data.codes[node.rows], weights, minlength=len(data.labels))
        return _leaf(data, counts)
    left, right = (_finished(data, rules, branch) for branch in node.branches)
    if rules.merge_leaves and isinstance(left, Leaf) and isinstance(right, Leaf) and left.label == right.label:
        return _leaf(data, np.array([left.counts[name] + right.counts[name] for name in data.labels]))
    question = node.question
    return Split(data.features[question.column], question.threshold, left, right, question.share_left)


def _leaf(data: TrainingRows, counts: np.ndarray) -> Leaf:
    label = data.labels[int(np.argmax(counts * data.label_weight))]
    return Leaf(label, {name: float(count) for name, count in zip(data.labels, counts, strict=True)})


def _best_question(data: TrainingRows, rules: GrowthRules, node: _Growing) -> _Question | None:
    codes = data.codes[node.rows]
    if np.all(codes == codes[0]):
        return None
    best: _Question | None = None
    for column in range(data.X.shape[1]):
        found = _best_cut(data, rules, node, column)
        if found is not None and (best is None or found.gain > best.gain * (1 + 1e-9)):
            best = found
    return best


def _best_cut(data: TrainingRows, rules: GrowthRules, node: _Growing, column: int) -> _Question | None:
    """Best threshold of one metric at one node: all of them are compared, by sums over the sorted rows."""
    values = data.X[node.rows, column]
    order = np.argsort(values, kind="stable")  # NaN comes last
    order = order[: values.size - int(np.count_nonzero(np.isnan(values)))]
    values = values[order]
    cuts = np.flatnonzero(values[1:] > values[:-1])
    part = node.part[order]
    n_left = np.cumsum(part)
    fewer = np.minimum(n_left[cuts], n_left[-1] - n_left[cuts]) if cuts.size else n_left[cuts]
    cuts = cuts[fewer > rules.min_samples_leaf - 1e-6]
    if not cuts.size:
        return None
    rows = node.rows[order]
    weight = np.cumsum(data.weight[rows] * part)
    if rules.criterion == "worth":
        scaled = np.cumsum(data.worth(rows) * part[:, None], axis=0)
    else:
        by_label = np.zeros((rows.size, len(data.labels)))
        by_label[np.arange(rows.size), data.codes[rows]] = data.weight[rows] * part
        scaled = np.cumsum(by_label, axis=0) * data.label_weight
    purity = _CRITERIA[rules.criterion]
    gain = purity(scaled[cuts]) + purity(scaled[-1] - scaled[cuts]) - purity(scaled[-1:])
    highest = float(gain.max())
    if highest <= _NO_GAIN * float(np.abs(scaled[-1]).sum()):
        return None
    cut = int(cuts[np.flatnonzero(gain >= highest * (1 - 1e-9))[0]])
    threshold = cut_point(float(values[cut]), float(values[cut + 1]), rules.midpoint)
    share = float(weight[cut] / weight[-1])
    return _Question(highest, column, threshold, min(1.0, share))


def _gini_purity(weights: np.ndarray) -> np.ndarray:
    """Weight times (1 - Gini impurity): sum over labels of w_k^2 / w, shape (n,) from (n, n_labels)."""
    total = weights.sum(axis=1)
    return np.divide((weights**2).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)


def _entropy_purity(weights: np.ndarray) -> np.ndarray:
    """Weight times minus the entropy in nats: sum over labels of w_k ln(w_k / w), shape (n,) from (n, n_labels)."""
    weights = np.maximum(weights, 0.0)
    total = np.broadcast_to(weights.sum(axis=1, keepdims=True), weights.shape)
    shares = np.divide(weights, total, out=np.ones_like(weights), where=weights > 0)
    return (weights * np.log(shares)).sum(axis=1)


def _worth_of_the_best(worth: np.ndarray) -> np.ndarray:
    """Worth of the answer that is worth most, shape (n,) from (n, n_labels)."""
    return np.asarray(worth.max(axis=1))


_CRITERIA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gini": _gini_purity,
    "entropy": _entropy_purity,
    "worth": _worth_of_the_best,
}
