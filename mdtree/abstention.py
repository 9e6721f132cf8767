"""When to answer: the probability that a tree is right about a row, and what is gained by answering fewer rows.

A row close to another answer is the one a tree errs on. How close is told in spreads of the thresholds' priors; how
probable a right answer is at that distance is learnt in each leaf by logistic regression, from rows whose tree was
fitted without their part of the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from mdtree.benchmark_cases import clear_rows
from mdtree.chosen_shapes import chosen_shapes
from mdtree.default_procedure import fit_shape
from mdtree.nodes import Leaf, Node, leaf_weights, leaves
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit
from mdtree.transfer import largest_cause

TARGET = 0.98
"""Share of right answers that the abstention is tuned for on the fitted collection. Above the 95 % it is for: another
collection is harder, and how much harder is not known when tuning."""

LEVEL = 0.95
BINS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 1.0)


@dataclass(frozen=True)
class Calibrated:
    """A fitted tree with the probability of a right answer in each leaf by distance from the thresholds.

    Attributes
    ----------
    tree : Split or Leaf
    shape : Shape
        Its priors give the units of distance.
    curves : tuple of (slope, offset)
        Of each leaf: log-odds of a right answer = offset + slope * ln(1 + distance), slope >= 0.
    answer_from : float
        Probability from which on it answers.
    """

    tree: Node
    shape: Shape
    curves: tuple[tuple[float, float], ...]
    answer_from: float

    def answers(self, columns: Mapping[str, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label, leaf number and probability of being right, of every row."""
        leaf = np.argmax(leaf_weights(self.tree, columns, n), axis=1)
        distance = distances(self.tree, self.shape, columns, n)
        return np.array([end.label for end in leaves(self.tree)])[leaf], leaf, _probability(self.curves, leaf, distance)


def distances(tree: Node, shape: Shape, columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """How far every row is from another answer: the least that all its metrics would have to move at once.

    A metric moves in spreads of its threshold's prior. Crossing a threshold behind which the same answer waits counts
    for nothing by itself.
    """

    def visit(node: Node, question: ShapeSplit | str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The answer of each row and, per answer, the least move that brings it there (0 for its own)."""
        if isinstance(node, Leaf):
            return np.full(n, node.label, dtype=object), {node.label: np.zeros(n)}
        assert isinstance(question, ShapeSplit)
        assert question.prior is not None
        values = columns[node.feature]
        threshold = _on_scale(np.array([node.threshold]), question.prior)
        away = np.abs(_on_scale(values, question.prior) - threshold) / question.prior.spread
        is_left = values <= node.threshold
        (own_left, left), (own_right, right) = visit(node.left, question.left), visit(node.right, question.right)
        moves = {}
        for label in dict.fromkeys((*left, *right)):
            by_left = np.where(is_left, 0.0, away) if label in left else np.full(n, np.inf)
            by_right = np.where(is_left, away, 0.0) if label in right else np.full(n, np.inf)
            moves[label] = np.minimum(
                np.maximum(by_left, left.get(label, np.inf)), np.maximum(by_right, right.get(label, np.inf))
            )
        return np.where(is_left, own_left, own_right), moves

    own, moves = visit(tree, shape.root)
    others = [np.where(own == label, np.inf, move) for label, move in moves.items()]
    return np.asarray(np.min(others, axis=0), dtype=float)


def _on_scale(values: np.ndarray, prior: GaussianPrior) -> np.ndarray:
    return np.log(np.maximum(values, 1e-300)) if prior.scale == "log" else values


def calibrate(shape: Shape, rows: pd.DataFrame, labels: np.ndarray, parts: np.ndarray, target: float) -> Calibrated:
    """Fit a shape, its probabilities of being right, and the probability to answer from.

    Parameters
    ----------
    shape : Shape
    rows : DataFrame
        Holds the shape's metrics.
    labels : ndarray of str
    parts : ndarray
        Part of the grid of each row; a row's probability is learnt from a tree fitted without its part.
    target : float
        Share of right answers, cross-fitted, above which it answers; of all probabilities that reach it the lowest.
    """
    columns = {name: rows[name].to_numpy(dtype=float) for name in shape.features()}
    n = len(rows)
    right, distance, leaf = np.zeros(n, dtype=bool), np.zeros(n), np.zeros(n, dtype=int)
    for part in np.unique(parts):
        held = parts == part
        tree = fit_shape(shape, rows[~held], labels[~held]).tree_
        inside = {name: values[held] for name, values in columns.items()}
        leaf[held] = np.argmax(leaf_weights(tree, inside, int(held.sum())), axis=1)
        right[held] = np.array([end.label for end in leaves(tree)])[leaf[held]] == labels[held]
        distance[held] = distances(tree, shape, inside, int(held.sum()))
    curves = tuple(_curve(distance, right, leaf == number) for number in range(len(shape.splits()) + 1))
    probability = _probability(curves, leaf, distance)
    order = np.sort(np.unique(probability))
    kept = [right[probability >= p].mean() for p in order]
    reached = [float(p) for p, share in zip(order, kept, strict=True) if share >= target]
    return Calibrated(fit_shape(shape, rows, labels).tree_, shape, curves, min(reached, default=1.0))


def _curve(distance: np.ndarray, right: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Slope and offset of one leaf, from its rows (from all where all of its own are right, or wrong, or it has none).

    A slope below 0 says nothing but chance; then the leaf has one probability.
    """
    if len(set(right[inside].tolist())) < 2:
        inside = np.ones_like(inside)
    if len(set(right.tolist())) < 2:
        return 0.0, _FAR if right.all() else -_FAR
    x, y = np.log1p(np.minimum(distance[inside], _FAR)), right[inside]
    fit = LogisticRegression(C=np.inf).fit(x[:, None], y)
    if fit.coef_[0, 0] >= 0:
        return float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return 0.0, float(np.log(y.mean() / (1 - y.mean())))


_FAR = 1e6  # spreads, or log-odds, beyond which nothing changes


def _probability(curves: Sequence[tuple[float, float]], leaf: np.ndarray, distance: np.ndarray) -> np.ndarray:
    slope, offset = np.array(curves).T
    return np.asarray(expit(offset[leaf] + slope[leaf] * np.log1p(np.minimum(distance, _FAR))))


def abstention_report(clean: pd.DataFrame, noisy: pd.DataFrame) -> dict[str, Any]:
    """Abstention tuned on the clean collection and replayed on the noisy one: for the temperature and the verdict.

    Returns
    -------
    dict
        Question -> `answer_from`, `coverage`, `accuracy` (at the tuned point), `accuracy_of_all`,
        `coverage_at_95` (largest coverage with 95 % right, in hindsight), `risk_coverage` (coverages and shares of
        wrong answers), `reliability` (bins of probability with what was observed, 95 % intervals), `leaves`.
    """
    rows, asked = clear_rows(clean, "temperature"), clear_rows(noisy, "temperature")
    truths = [table["label_temperature"].to_numpy(dtype=str) for table in (rows, asked)]
    found = {"temperature": _report(chosen_shapes()["temperature"], rows, truths[0], asked, truths[1])}
    shape = chosen_shapes()["verdict_sibling"]
    found["verdict"] = _report(shape, clean, largest_cause(clean), noisy, largest_cause(noisy))
    return found


def _report(
    shape: Shape, rows: pd.DataFrame, labels: np.ndarray, asked: pd.DataFrame, truth: np.ndarray
) -> dict[str, Any]:
    fitted = calibrate(shape, rows, labels, rows["train_size"].to_numpy(), TARGET)
    columns = {name: asked[name].to_numpy(dtype=float) for name in shape.features()}
    answer, leaf, probability = fitted.answers(columns, len(asked))
    right = answer == truth
    given = probability >= fitted.answer_from
    coverage, risk = risk_coverage(probability, right)
    sure = coverage[risk <= 1 - 0.95]
    return {
        "n": len(asked),
        "answer_from": fitted.answer_from,
        "coverage": float(given.mean()),
        "accuracy": float(right[given].mean()) if given.any() else None,
        "accuracy_of_all": float(right.mean()),
        "coverage_at_95": float(sure.max()) if sure.size else 0.0,
        "risk_coverage": {"coverage": coverage.tolist(), "risk": risk.tolist()},
        "reliability": reliability(probability, right, BINS),
        "leaves": _leaf_table(fitted, rows, labels, leaf, right),
    }


def _leaf_table(
    fitted: Calibrated, rows: pd.DataFrame, labels: np.ndarray, leaf: np.ndarray, right: np.ndarray
) -> list[dict[str, Any]]:
    """Per leaf: its answer, share of right answers among the fitted rows with its interval, and among those asked."""
    columns = {name: rows[name].to_numpy(dtype=float) for name in fitted.shape.features()}
    given, own, _ = fitted.answers(columns, len(rows))
    table = []
    for number, end in enumerate(leaves(fitted.tree)):
        hits, n = int((given == labels)[own == number].sum()), int((own == number).sum())
        here = right[leaf == number]
        low, high = interval_of_share(hits, n)
        observed = float(here.mean()) if here.size else None
        table.append({"answer": end.label, "n_fitted": n, "share": hits / n if n else None, "interval": [low, high],
                      "n": int(here.size), "observed": observed})  # fmt: skip
    return table


def risk_coverage(probability: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of rows answered and of wrong answers among them, surest rows first; rows equally sure go together."""
    order = np.argsort(-probability, kind="stable")
    wrong = np.cumsum(~right[order])
    last = np.append(np.diff(probability[order]) != 0, True)
    answered = np.arange(1, len(right) + 1)[last]
    return answered / len(right), wrong[last] / answered


def reliability(probability: np.ndarray, right: np.ndarray, bins: Sequence[float]) -> list[dict[str, float]]:
    """Mean probability and observed share of right answers in each bin that holds rows, with its 95 % interval."""
    table = []
    for low, high in itertools.pairwise(bins):
        inside = (probability >= low) & ((probability < high) | (high == bins[-1]))
        if inside.any():
            hits, n = int(right[inside].sum()), int(inside.sum())
            bounds = interval_of_share(hits, n)
            table.append({"probability": float(probability[inside].mean()), "observed": hits / n, "n": n,
                          "low": bounds[0], "high": bounds[1]})  # fmt: skip
    return table


def interval_of_share(hits: int, n: int) -> tuple[float, float]:
    """Jeffreys interval of a share: quantiles of Beta(hits + 1/2, misses + 1/2); 0 or 1 at the ends where all agree.

    Brown, Cai, DasGupta, "Interval estimation for a binomial proportion", Statistical Science 2001.
    """
    low, high = (float(q) for q in beta.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], hits + 0.5, n - hits + 0.5))
    return (low if hits > 0 else 0.0), (high if hits < n else 1.0)
