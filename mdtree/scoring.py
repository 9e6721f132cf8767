"""How good a set of answers is: accuracy where the truth is clear, gain captured and regret everywhere.

Accuracy counts only rows whose label is beyond doubt. What an answer is worth is told by replaying it: every answer
stands for an action (raise the temperature, enlarge the model, ...), whose true gain in points is known per row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mdtree.baselines import BASELINES, baseline_predictions
from mdtree.errors import InputError

__all__ = [
    "BASELINES",
    "STATISTICS",
    "Answers",
    "Gains",
    "Interval",
    "Labels",
    "Scores",
    "baseline_predictions",
    "bootstrap_intervals",
    "grouped_folds",
    "score",
]

NO_CHANGE = ("healthy", "undetermined")
"""Answers that advise nothing: their gain is 0."""

STATISTICS = ("accuracy", "balanced_accuracy", "gain_captured", "regret_points")

Gains: TypeAlias = Mapping[str, ArrayLike] | pd.DataFrame
Labels: TypeAlias = Sequence[str] | np.ndarray


@dataclass(frozen=True)
class Scores:
    """Figures of one set of answers; a figure without rows to stand on is NaN.

    Attributes
    ----------
    accuracy : float
        Share (0...1) of the rows that are not ambiguous whose answer is the true label.
    balanced_accuracy : float
        Mean of `per_class`.
    per_class : dict of str to float
        Recall of each label that occurs among the rows that are not ambiguous.
    gain_captured : float
        Summed true gain of the chosen actions over the summed gain of the best ones, all rows; negative if the advice
        does harm.
    regret_points : float
        Mean over all rows of best gain minus chosen gain, in points.
    n, n_ambiguous : int
        Number of rows, and of the ambiguous ones among them.
    """

    accuracy: float
    balanced_accuracy: float
    per_class: Mapping[str, float]
    gain_captured: float
    regret_points: float
    n: int
    n_ambiguous: int


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval: quantiles (1 - level) / 2 and (1 + level) / 2 of the resampled figure."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Answers:
    """Answers beside the truth, row by row.

    Attributes
    ----------
    truth, predicted : sequence of str
        True label and answer; `undetermined` is always wrong and gains nothing.
    gains : mapping or DataFrame of str to array, optional
        Answer -> true gain in points, per row, of the action this answer advises. NaN (the grid ends there, the gain
        is not known) counts as 0, for the best action and for the chosen one. `healthy` and `undetermined` change
        nothing and gain 0. Without gains, gain captured and regret are NaN.
    ambiguous : bool array, optional
        Rows whose label is too close to call (or not known): left out of accuracy, kept for gain and regret.
    """

    truth: Labels
    predicted: Labels
    gains: Gains | None = None
    ambiguous: ArrayLike | None = None


def score(
    truth: Labels,
    predicted: Labels,
    gains: Gains | None = None,
    ambiguous: ArrayLike | None = None,
) -> Scores:
    """Score answers; the parameters are those of `Answers`.

    The best action of a row is the one of largest gain, or no change if none gains anything.

    Raises
    ------
    InputError
        Lengths differ, there are no rows, or an answer has no column of gains.
    """
    sums = _row_sums(Answers(truth, predicted, gains, ambiguous))
    totals = _totals(sums, np.ones((1, len(truth))))
    figures = {name: float(totals[name][0]) for name in STATISTICS}
    recalls = {label: float(r) for label, r in zip(sums.labels, totals["recalls"][0], strict=True) if not math.isnan(r)}
    return Scores(
        accuracy=figures["accuracy"],
        balanced_accuracy=figures["balanced_accuracy"],
        per_class=recalls,
        gain_captured=figures["gain_captured"],
        regret_points=figures["regret_points"],
        n=len(truth),
        n_ambiguous=len(truth) - int(sums.counted.sum()),
    )


def bootstrap_intervals(
    answers: Answers,
    cells: Sequence[object] | np.ndarray,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of all four figures by resampling whole cells, since the rows of a cell are not independent.

    Parameters
    ----------
    answers : Answers
        What `score` takes.
    cells : sequence, length n
        Cell of each row; cells are drawn with replacement, as many as there are.
    level : float
        Share of the resampled figures inside the interval, between 0 and 1.
    n_resamples, seed : int
        Number of resamples and seed of the generator that draws them.

    Returns
    -------
    dict of str to Interval
        One for each of `STATISTICS`. Resamples in which a figure has no rows to stand on are left out of it.
    """
    if not 0 < level < 1 or n_resamples < 1:
        raise InputError(f"level {level} with {n_resamples} resamples", "a level between 0 and 1, one resample or more")
    sums = _row_sums(answers)
    cell_of = _cell_numbers(cells, len(answers.truth))
    n_cells = int(cell_of.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n_cells, np.full(n_cells, 1 / n_cells), size=n_resamples)
    totals = _totals(sums.by_cell(cell_of), drawn.astype(float))
    intervals = {}
    for name in STATISTICS:
        known = totals[name][np.isfinite(totals[name])]
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if known.size else (math.nan, math.nan)
        intervals[name] = Interval(float(low), float(high), level)
    return intervals


@dataclass(frozen=True)
class _Sums:
    """What every figure is made of, per row or per cell."""

    labels: tuple[str, ...]
    counted: np.ndarray  # (rows, labels) rows that are not ambiguous, by true label
    right: np.ndarray  # (rows, labels) those answered correctly
    chosen: np.ndarray  # (rows,) gain of the chosen action; NaN without gains
    best: np.ndarray  # (rows,) gain of the best action
    rows: np.ndarray  # (rows,) number of rows

    def by_cell(self, cell_of: np.ndarray) -> _Sums:
        def summed(values: np.ndarray) -> np.ndarray:
            out = np.zeros((int(cell_of.max()) + 1, *values.shape[1:]))
            np.add.at(out, cell_of, values)
            return out

        parts = (summed(part) for part in (self.counted, self.right, self.chosen, self.best, self.rows))
        return _Sums(self.labels, *parts)


def _row_sums(answers: Answers) -> _Sums:
    truth = np.asarray(answers.truth, dtype=object)
    predicted = np.asarray(answers.predicted, dtype=object)
    n = truth.size
    if n == 0 or predicted.shape != truth.shape or truth.ndim != 1:
        raise InputError(f"{truth.size} true labels and {predicted.size} answers", "one answer per label, at least one")
    clear = np.ones(n, dtype=bool)
    if answers.ambiguous is not None:
        clear = ~np.asarray(answers.ambiguous, dtype=bool)
        if clear.shape != (n,):
            raise InputError(f"ambiguous has shape {clear.shape}", f"one truth value for each of {n} rows")
    labels = tuple(sorted(set(truth[clear].tolist())))
    counted = np.stack([clear & (truth == label) for label in labels], axis=1) if labels else np.zeros((n, 0))
    correct = (predicted == truth) & (predicted != "undetermined")
    chosen, best = _gains(predicted, answers.gains, n)
    return _Sums(labels, counted.astype(float), counted * correct[:, None], chosen, best, np.ones(n))


def _gains(predicted: np.ndarray, gains: Gains | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gain of the chosen and of the best action per row; NaN throughout without gains."""
    if gains is None:
        return np.full(n, math.nan), np.full(n, math.nan)
    columns = {str(action): np.asarray(values, dtype=float) for action, values in gains.items()}
    short = [action for action, values in columns.items() if values.shape != (n,)]
    if short:
        raise InputError(f"the gains of {', '.join(short)} do not have {n} rows", "one gain per row and action")
    unknown = sorted(set(predicted.tolist()) - set(columns) - set(NO_CHANGE))
    if unknown:
        raise InputError(f"no gains for the answer {', '.join(map(str, unknown))}", "a column for every answer given")
    chosen, best = np.zeros(n), np.zeros(n)
    for action, values in columns.items():
        if action in NO_CHANGE:
            continue
        known = np.where(np.isnan(values), 0.0, values)
        chosen = np.where(predicted == action, known, chosen)
        best = np.maximum(best, known)
    return chosen, best


def _totals(sums: _Sums, times: np.ndarray) -> dict[str, np.ndarray]:
    """All figures with each row (or cell) counted so many times, `times` of shape (n_resamples, n_rows)."""
    counted, right = times @ sums.counted, times @ sums.right
    chosen, best, rows = times @ sums.chosen, times @ sums.best, times @ sums.rows
    recalls = _ratio(right, counted)
    present = (counted > 0).sum(axis=1)
    return {
        "recalls": recalls,
        "accuracy": _ratio(right.sum(axis=1), counted.sum(axis=1)),
        "balanced_accuracy": _ratio(np.nan_to_num(recalls).sum(axis=1), present),
        "gain_captured": _ratio(chosen, best),
        "regret_points": (best - chosen) / rows,
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotient where the denominator is positive, else NaN."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), math.nan)


def _cell_numbers(cells: Sequence[object] | np.ndarray, n: int) -> np.ndarray:
    """Cells as numbers 0, 1, ... in the order of their names as text."""
    names = np.asarray([str(cell) for cell in cells])
    if names.shape != (n,) or n == 0:
        raise InputError(f"{names.size} cells for {n} rows", "one cell per row, at least one row")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def grouped_folds(cells: Sequence[object] | np.ndarray, k: int, seed: int) -> list[np.ndarray]:
    """Divide rows into k folds that keep every cell whole.

    Parameters
    ----------
    cells : sequence, length n
        Cell of each row.
    k : int
        Number of folds, from 1 (everything is held out) to the number of cells.
    seed : int
        Seed of the shuffle of the cells. Which fold a cell falls into does not depend on the order of the rows.

    Returns
    -------
    list of bool array, shape (n,)
        The rows held out in each fold; every row is held out once. Folds differ by at most one cell.
    """
    cell_of = _cell_numbers(cells, len(cells))
    n_cells = int(cell_of.max()) + 1
    if not 1 <= k <= n_cells:
        raise InputError(f"{k} folds of {n_cells} cells", f"between 1 and {n_cells} folds")
    fold_of_cell = np.empty(n_cells, dtype=int)
    fold_of_cell[np.random.default_rng(seed).permutation(n_cells)] = np.arange(n_cells) % k
    return [fold_of_cell[cell_of] == fold for fold in range(k)]
