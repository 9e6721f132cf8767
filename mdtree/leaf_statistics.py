"""What the leaves of a fitted tree know: counts per cause, rooms for improvement, the step to advise and its gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mdtree.diagnoser_schema import LeafStatistics, StepGain
from mdtree.scoring import grouped_folds
from mdtree.zoo import DIRECTIONS, FAILURES, GAIN_COLUMN, RFI_COLUMNS

FACTORS = {
    "temperature_up": (2.0, 4.0, 10.0),
    "temperature_down": (2.0, 4.0, 10.0),
    "model_size": (2.0, 4.0),
    "data": (2.0, 4.0),
}
"""Steps an advice may be: the smallest that gains as much as the best, within a standard error, is taken."""

PSEUDO_COUNT = 0.5
"""Added to every cause's (balanced) share of a leaf, so that no cause is ever impossible (Jeffreys)."""


def cell_names(rows: pd.DataFrame) -> np.ndarray:
    """The cell of every row, unique across families."""
    return (rows["family"] + "/" + rows["cell"]).to_numpy(dtype=str)


def leaf_statistics(
    reached: np.ndarray,
    rows: pd.DataFrame,
    gains: Mapping[str, np.ndarray],
    folds: tuple[int, int],
    balance: float = 1.0,
) -> tuple[LeafStatistics, ...]:
    """Counts, rooms and the gain of the step to advise, of every leaf.

    Parameters
    ----------
    reached : numpy.ndarray, shape (rows, leaves)
        Weight of every row in every leaf; the weights of a row sum to 1.
    rows : pandas.DataFrame
        Rows of a labelled zoo.
    gains : dict of direction -> numpy.ndarray, shape (rows, factors of the direction)
        True gains of the steps of `FACTORS` (`mdtree.room.step_gains`).
    folds : tuple of int
        Number of the folds by cell in which a step is chosen on other cells than it is scored on, and their seed.
    balance : float
        1: every cause counts as equally frequent; 0: as frequent as it is; 0.5: as the square root of that.
    """
    labels = rows["label_verdict"].to_numpy(dtype=str)
    totals = {f: max(1, int((labels == f).sum())) for f in FAILURES}
    errors = rows[GAIN_COLUMN].to_numpy(dtype=float)
    cells = cell_names(rows)
    result = []
    for number in range(reached.shape[1]):
        weight = reached[:, number]
        counts = {f: float(weight[labels == f].sum()) for f in FAILURES}
        result.append(
            LeafStatistics(
                counts=_rounded(counts),
                probability=_balanced_probability(counts, totals, balance),
                room_points=_rounded(_rooms(rows, weight)),
                steps={d: _step_gain(FACTORS[d], gains[d], weight, errors, cells, folds) for d in DIRECTIONS},
            )
        )
    return tuple(result)


def _balanced_probability(counts: Mapping[str, float], totals: Mapping[str, int], balance: float) -> dict[str, float]:
    """Share of each cause in a leaf if causes were (to the power `balance`) equally frequent; a pseudo-count each."""
    scale = sum(totals.values()) / len(totals)
    balanced = {f: counts[f] * (scale / totals[f]) ** balance + PSEUDO_COUNT for f in counts}
    total = sum(balanced.values())
    # nine digits: the last bits of a sum are not the same in every version of Python
    return {f: round(value / total, 9) for f, value in balanced.items()}


def _rooms(rows: pd.DataFrame, weight: np.ndarray) -> dict[str, float]:
    rooms = {}
    for direction, column in zip(DIRECTIONS, RFI_COLUMNS, strict=True):
        values = rows[column].to_numpy(dtype=float)
        known = ~np.isnan(values) & (weight > 0)
        rooms[direction] = float(np.average(values[known], weights=weight[known])) if known.any() else 0.0
    return rooms


def _step_gain(
    factors: Sequence[float],
    gains: np.ndarray,
    weight: np.ndarray,
    errors: np.ndarray,
    cells: np.ndarray,
    folds: tuple[int, int],
) -> StepGain:
    """The step to advise in a leaf, and its gain on cells that did not choose it.

    A cell counts by the weight of its networks in the leaf.
    """
    known = ~np.isnan(gains).any(axis=1) & (weight > 0)
    if not known.any():
        return StepGain(factors[0], 0.0, 0.0, 0.0, 0.0, 0)
    names, cell_of = np.unique(cells[known], return_inverse=True)
    share = np.bincount(cell_of, weight[known])

    def by_cell(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell_of, weight[known] * values[known]) / share

    points = np.stack([by_cell(gains[:, k]) for k in range(len(factors))], axis=1)
    scored = points[:, 0].copy()
    if len(names) > 1:
        for held in grouped_folds(names, min(folds[0], len(names)), folds[1]):
            scored[held] = points[held, _step_to_take(points[~held], share[~held])]
    relative = scored / np.maximum(by_cell(errors), 1e-9)
    return StepGain(
        factor=factors[_step_to_take(points, share)],
        gain_points=six_digits(np.average(scored, weights=share)),
        standard_error=six_digits(_error_of_mean(scored, share)),
        gain_share=six_digits(np.average(relative, weights=share)),
        gain_share_standard_error=six_digits(_error_of_mean(relative, share)),
        cells=len(names),
    )


def _step_to_take(points: np.ndarray, weights: np.ndarray) -> int:
    """Number of the smallest step whose mean gain is within a standard error (paired by cell) of the best one's."""
    best = int(np.argmax(np.average(points, axis=0, weights=weights)))
    for number in range(best):
        lost = points[:, best] - points[:, number]
        if np.average(lost, weights=weights) <= _error_of_mean(lost, weights):
            return number
    return best


def _error_of_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Standard error of a weighted mean of independent values; 0 of a single one, whose spread is not known."""
    if len(values) < 2:
        return 0.0
    deviation = weights * (values - np.average(values, weights=weights))
    return float(np.sqrt((deviation**2).sum() * len(values) / (len(values) - 1)) / weights.sum())


def six_digits(value: float) -> float:
    """As a diagnoser's file holds it."""
    return float(f"{float(value):.6g}")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: six_digits(value) for name, value in values.items()}
