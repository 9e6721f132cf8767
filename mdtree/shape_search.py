"""Which questions a tree should ask: shapes compared by how well they travel inside a zoo.

A shape (questions and answers, thresholds open) is grown leaf by leaf, best few first. Each candidate is fitted on one
part of the zoo, scored on another, over many such transfers: the smallest width and all larger ones, one amount of data
and all others. Thresholds are fitted as they will be later, as medians of a posterior with weak priors
(`mdtree.threshold_posterior`), labels weighted to count alike. Of all sizes the smallest is taken that is within half
a point of the best: a question that brings less is not worth reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed

from mdtree.errors import InputError
from mdtree.nodes import leaf_weights, leaves
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit
from mdtree.threshold_posterior import SHARPNESS, posterior_thresholds, right_answers

WORTH_A_QUESTION = 0.005
"""Mean share of the worth that a larger shape has to bring over a smaller one."""

PRIORS: Mapping[str, GaussianPrior] = {
    "train_loss": GaussianPrior(0.01, 1.0),
    "train_error_percent": GaussianPrior(1.0, 15.0, "linear"),
    "connectivity_barrier_percent": GaussianPrior(0.0, 2.0, "linear"),
    "connectivity_peak_percent": GaussianPrior(5.0, 5.0, "linear"),
    "cka": GaussianPrior(0.5, 0.25, "linear"),
}
"""What thresholds are believed to be before any zoo is seen: a loss of 0.01 nats is interpolation, a barrier parts hot
from cold near 0. All other metrics get the zoo's own middle, see `prior_of`."""


def prior_of(metric: str, values: np.ndarray) -> GaussianPrior:
    """The prior of a metric: that of `PRIORS`, or the values' median with half their 5-95 % range as its spread.

    Without a look at any label; on the logarithmic scale where all values are positive.
    """
    if metric in PRIORS:
        return PRIORS[metric]
    known = values[np.isfinite(values)]
    scale = "log" if np.all(known > 0) else "linear"
    on_scale = np.log(known) if scale == "log" else known
    low, middle, high = np.quantile(on_scale, [0.05, 0.5, 0.95])
    spread = max(float(high - low) / 2, 1e-6)
    centre = math.exp(middle) if scale == "log" else float(middle)
    # two digits: a prior is a rough belief, and should read as one
    return GaussianPrior(float(f"{centre:.2g}"), float(f"{spread:.2g}"), "log" if scale == "log" else "linear")


@dataclass(frozen=True)
class Transfer:
    """Rows to fit on and rows to score."""

    name: str
    fitted: np.ndarray  # bool, one per row
    scored: np.ndarray


@dataclass(frozen=True)
class SearchRows:
    """What shapes are compared on.

    Attributes
    ----------
    columns : mapping of str to ndarray, shape (n,)
        Metrics that may be asked for; finite.
    labels : ndarray of str, shape (n,)
    worth : mapping of str to ndarray, shape (n,)
        What each answer is worth in scoring: 1 where right, or its gain in points.
    transfers : tuple of Transfer
    """

    columns: Mapping[str, np.ndarray]
    labels: np.ndarray
    worth: Mapping[str, np.ndarray]
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True)
class SearchOptions:
    """How far to look."""

    max_depth: int = 3
    max_leaves: int = 6
    beam: int = 6
    sharpness: float = SHARPNESS
    max_cuts: int = 64
    workers: int = -1


@dataclass(frozen=True)
class Candidate:
    """A shape and the share of the possible worth it captured in each transfer."""

    shape: Shape
    scores: np.ndarray

    @property
    def n_leaves(self) -> int:
        return len(self.shape.splits()) + 1


def search_shape(name: str, rows: SearchRows, options: SearchOptions = SearchOptions()) -> list[Candidate]:
    """Grow shapes leaf by leaf.

    Returns
    -------
    list of Candidate
        The best of each number of leaves, from 2 up; `simplest` picks one of them. Deterministic, whatever the number
        of workers: between equal scores the shape that comes first (metrics in the order of `columns`) wins.

    Raises
    ------
    InputError
        Fewer than two labels or no transfers.
    """
    answers = tuple(sorted(set(rows.labels.tolist())))
    if len(answers) < 2 or not rows.transfers:
        raise InputError(f"{len(answers)} labels and {len(rows.transfers)} transfers", "two labels, one transfer")
    priors = {metric: prior_of(metric, values) for metric, values in rows.columns.items()}
    beam: list[ShapeSplit | str] = list(answers)
    best: list[Candidate] = []
    for _ in range(2, options.max_leaves + 1):
        grown: dict[str, ShapeSplit] = {}
        for node in beam:
            for larger in _grown(node, priors, answers, options.max_depth):
                grown.setdefault(words(larger), larger)
        if not grown:
            break
        shapes = [Shape(name, _named(node)) for node in grown.values()]
        scores = Parallel(n_jobs=options.workers)(delayed(transfer_scores)(s, rows, options) for s in shapes)
        order = sorted(range(len(shapes)), key=lambda i: (-round(float(scores[i].mean()), 9), i))
        best.append(Candidate(shapes[order[0]], scores[order[0]]))
        beam = [shapes[i].root for i in order[: options.beam]]
    return best


def simplest(candidates: Sequence[Candidate]) -> Candidate:
    """The smallest shape that is within `WORTH_A_QUESTION` of the best one, by mean score."""
    top = max(float(c.scores.mean()) for c in candidates)
    good = [c for c in candidates if float(c.scores.mean()) >= top - WORTH_A_QUESTION]
    return min(good, key=lambda c: c.n_leaves)


def transfer_scores(shape: Shape, rows: SearchRows, options: SearchOptions = SearchOptions()) -> np.ndarray:
    """Share of the possible worth captured in every transfer, thresholds fitted on its own rows."""
    scores = np.empty(len(rows.transfers))
    for number, transfer in enumerate(rows.transfers):
        fit = posterior_thresholds(
            shape,
            {name: values[transfer.fitted] for name, values in rows.columns.items()},
            balanced_worth(rows.labels[transfer.fitted], shape.labels()),
            sharpness=options.sharpness,
            max_cuts=options.max_cuts,
        )
        n = int(transfer.scored.sum())
        columns = {name: values[transfer.scored] for name, values in rows.columns.items()}
        reached = leaf_weights(fit.tree, columns, n)
        worth = np.stack([rows.worth[leaf.label][transfer.scored] for leaf in leaves(fit.tree)], axis=1)
        possible = np.max([values[transfer.scored] for values in rows.worth.values()], axis=0)
        scores[number] = float((reached * worth).sum() / possible.sum())
    return scores


def balanced_worth(labels: np.ndarray, answers: Sequence[str]) -> dict[str, np.ndarray]:
    """Right answers, each label that occurs weighing the same in total; the mean weight is 1."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return right_answers(labels, len(labels) / (len(counts) * counts[codes]), answers)


def words(node: ShapeSplit | str) -> str:
    """A shape in one line: (metric: left | right)."""
    return node if isinstance(node, str) else f"({node.feature}: {words(node.left)} | {words(node.right)})"


def _grown(
    node: ShapeSplit | str, priors: Mapping[str, GaussianPrior], answers: Sequence[str], depth: int
) -> Iterator[ShapeSplit]:
    """All shapes with one leaf of this one replaced by a question that keeps its answer on one side."""
    if depth == 0:
        return
    if isinstance(node, str):
        for metric, prior in priors.items():
            for other in answers:
                if other != node:
                    split = ShapeSplit("t", metric, node, other, start=prior.centre, prior=prior)
                    yield split
                    yield replace(split, left=other, right=node)
        return
    for left in _grown(node.left, priors, answers, depth - 1):
        yield replace(node, left=left)
    for right in _grown(node.right, priors, answers, depth - 1):
        yield replace(node, right=right)


def _named(node: ShapeSplit) -> ShapeSplit:
    """The same questions with their thresholds named t0, t1, ... a question before its branches."""
    numbers = iter(range(64))

    def visit(here: ShapeSplit | str) -> ShapeSplit | str:
        if isinstance(here, str):
            return here
        name = f"t{next(numbers)}"
        return replace(here, name=name, left=visit(here.left), right=visit(here.right))

    named = visit(node)
    assert isinstance(named, ShapeSplit)
    return named
