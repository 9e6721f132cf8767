"""Rooms for improvement (RFI), gains of a concrete step, and the labels made of them.

The RFI of a cell in a direction is what the best cell on that axis gains over it, all else equal, in points of test
accuracy. Choosing the best of several noisy cells flatters the gain, so it is cross-fitted over seeds: for each seed
the best cell is chosen by the mean of the *other* seeds and the paired difference is taken on the seed itself. A row
of the table (one network) gets the RFIs of the other seeds of its cell, so that what is measured on a network and
what is said to be true of it never share a test error.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.zoo import CAUSES, DIRECTIONS, GAIN_COLUMN, LABEL_COLUMNS, RFI_COLUMNS, RFI_ERROR_COLUMNS

HEALTHY_POINTS = 1.0
AMBIGUOUS_POINTS = 0.5
STANDARD_ERRORS = 1.5
"""The constants of the labels. They are part of the definition and are never tuned."""

_AXES = ("width", "train_size", "temperature")
_NUISANCES = (
    "family",
    "data_set",
    "architecture",
    "temperature_axis",
    "weight_decay",
    "label_noise",
    "optimizer",
    "schedule",
    "protocol",
    "budget",
    "augmentation",
)


@dataclass(frozen=True)
class Grid:
    """The test errors of one family and one setting of the nuisances as a dense block.

    Attributes
    ----------
    widths, train_sizes, temperatures : numpy.ndarray
        Ascending axis values.
    seeds : numpy.ndarray
        Ascending; a single NaN in a table of means over seeds.
    error : numpy.ndarray, shape (widths, train_sizes, temperatures, seeds)
        Test error in percent; NaN where there is no such network.
    """

    widths: np.ndarray
    train_sizes: np.ndarray
    temperatures: np.ndarray
    seeds: np.ndarray
    error: np.ndarray

    def along(self, direction: str, place: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Axis values and errors (cells, seeds) from the cell at `place` outwards, itself first.

        Cells without a single network are left out.
        """
        i, j, k = place
        if direction == "temperature_up":
            values, errors = self.temperatures[k:], self.error[i, j, k:]
        elif direction == "temperature_down":
            values, errors = self.temperatures[k::-1], self.error[i, j, k::-1]
        elif direction == "model_size":
            values, errors = self.widths[i:], self.error[i:, j, k]
        else:
            values, errors = self.train_sizes[j:], self.error[i, j:, k]
        present = ~np.isnan(errors).all(axis=1)
        return values[present], errors[present]


def grids(frame: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Grid]]:
    """The blocks of a table within which single changes are compared: rows and their grid, in the table's order.

    Temperature is changed by its own axis alone: by the learning rate at one batch size, or the other way round.
    """
    nuisances = [frame[name] for name in _NUISANCES if name in frame.columns]
    if {"batch_size", "learning_rate"} <= set(frame.columns):
        by_batch = frame["temperature_axis"] == "batch_size"
        nuisances.append(frame["learning_rate"].where(by_batch, frame["batch_size"]).rename("held"))
    for _, rows in frame.groupby(nuisances, dropna=False, sort=False):
        axes = [np.sort(rows[name].unique()) for name in _AXES]
        seeds = np.sort(rows["seed"].unique())
        error = np.full([*map(len, axes), len(seeds)], np.nan)
        where = tuple(np.searchsorted(axis, rows[name]) for axis, name in zip(axes, _AXES, strict=True))
        error[(*where, np.searchsorted(seeds, rows["seed"]))] = rows[GAIN_COLUMN]
        yield rows, Grid(axes[0], axes[1], axes[2], seeds, error)


def cross_fitted_gains(errors: np.ndarray) -> np.ndarray:
    """Per-seed gain of the best of several cells over the first one.

    Parameters
    ----------
    errors : numpy.ndarray, shape (cells, seeds)
        Test errors in percent, the cell in question first; at least two seeds.

    Returns
    -------
    numpy.ndarray, shape (seeds,)
        For each seed: error of the first cell minus error of the cell that is best by the mean of the other seeds.
        The first cell is a candidate, so an optimum gives about 0; a value may be negative.
    """
    seeds = errors.shape[1]
    gains = np.empty(seeds)
    for s in range(seeds):
        others = np.delete(errors, s, axis=1)
        best = int(np.argmin(others.mean(axis=1)))
        gains[s] = errors[0, s] - errors[best, s]
    return gains


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def robust_winner(gains: dict[str, np.ndarray]) -> str | None:
    """The direction whose gain is the largest beyond doubt, or None.

    The lead over the runner-up, paired by seed, must exceed max(0.5 points, 1.5 standard errors).
    """
    order = sorted(gains, key=lambda name: -gains[name].mean())
    if len(order) == 1:
        return order[0]
    lead, error = _mean_and_error(gains[order[0]] - gains[order[1]])
    return order[0] if lead > max(AMBIGUOUS_POINTS, STANDARD_ERRORS * error) else None


def is_healthy(gains: dict[str, np.ndarray]) -> bool:
    """Whether every gain is under max(1 point, 1.5 standard errors)."""
    return all(
        mean < max(HEALTHY_POINTS, STANDARD_ERRORS * error) for mean, error in map(_mean_and_error, gains.values())
    )


def _inward_wins(gains: dict[str, np.ndarray]) -> bool:
    """At an end of the temperature axis: does the way back in help beyond doubt?

    Test error over temperature has one valley, so a cell on its slope has nothing to gain by going further out.
    """
    inward = [gains[name] for name in ("temperature_up", "temperature_down") if name in gains]
    if len(inward) != 1:
        return bool(inward)
    mean, error = _mean_and_error(inward[0])
    return mean >= max(HEALTHY_POINTS, STANDARD_ERRORS * error)


def labels(gains: dict[str, np.ndarray], axes: Collection[str] = _AXES) -> dict[str, str]:
    """The label of every question from the per-seed gains of the directions that the grid can tell.

    `temperature`: too high or too low. `model_size` and `data`: that cause against the better of the two temperature
    changes (answer `temperature`). `verdict`: the cause of the largest gain, or `healthy`. Each may be `ambiguous`
    (too close to call) or `censored` (the grid ends here, so the gain beyond is not known).

    Of an axis that the grid has not at all (not in `axes`) no end can be near: the verdict is then one among the
    causes of the others, and the questions about it are censored.
    """
    result = dict.fromkeys(("temperature", "model_size", "data", "verdict"), "censored")
    temperature: dict[str, np.ndarray] = {
        name: gains[name] for name in ("temperature_up", "temperature_down") if name in gains
    }
    if "temperature" in axes:
        if not _inward_wins(gains):
            return result
        result |= _against_temperature(gains, temperature)
    needed = {"width": "model_size", "train_size": "data"}
    if gains and all(direction in gains for axis, direction in needed.items() if axis in axes):
        if is_healthy(gains):
            result["verdict"] = "healthy"
        else:
            winner = robust_winner(gains)
            result["verdict"] = CAUSES[winner] if winner else "ambiguous"
    return result


def _against_temperature(gains: dict[str, np.ndarray], temperature: dict[str, np.ndarray]) -> dict[str, str]:
    """The labels of the three questions that are about temperature or compared with it."""
    result = {}
    if len(temperature) == 2:
        winner = robust_winner(temperature)
        result["temperature"] = CAUSES[winner] if winner else "ambiguous"
    else:
        result["temperature"] = CAUSES[next(iter(temperature))]
    best_temperature = max(temperature.values(), key=lambda values: values.mean())
    for question in ("model_size", "data"):
        if question in gains:
            winner = robust_winner({question: gains[question], "temperature": best_temperature})
            result[question] = "ambiguous" if winner is None else CAUSES.get(winner, "temperature")
    return result


def label_zoo(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill the RFI and label columns of every row from the other seeds of its cell and of the cells around it.

    Parameters
    ----------
    frame : pandas.DataFrame
        Measured rows (`mdtree.zoo.MEASURED_COLUMNS`).

    Returns
    -------
    pandas.DataFrame
        A copy with RFI columns (points, NaN where the grid ends in that direction), their standard errors (over
        seeds) and the labels.

    Raises
    ------
    InputError
        A block has fewer than three seeds: two must remain when a row's own is set aside. Means over seeds have none.
    """
    result = frame.drop(columns=[c for c in (*RFI_COLUMNS, *RFI_ERROR_COLUMNS, *LABEL_COLUMNS) if c in frame])
    filled: dict[str, pd.Series] = {
        **{name: pd.Series(np.nan, index=frame.index) for name in (*RFI_COLUMNS, *RFI_ERROR_COLUMNS)},
        **{name: pd.Series("censored", index=frame.index, dtype=object) for name in LABEL_COLUMNS},
    }
    for rows, grid in grids(frame):
        if np.isnan(grid.seeds).any():
            raise InputError(
                "the zoo holds means over seeds (the column seed is empty)",
                "at least 3 seeds per cell",
                "keep the labels it came with",
            )
        if len(grid.seeds) < 3:
            raise InputError(
                f"the zoo has {len(grid.seeds)} seeds per cell", "at least 3", "train more seeds: labels need them"
            )
        axes = [name for name in _AXES if rows[name].nunique() > 1]
        for index, place, own in places(rows, grid):
            gains = _gains_without(grid, place, own)
            for direction, values in gains.items():
                mean, error = _mean_and_error(values)
                filled[f"rfi_{direction}_points"].at[index] = mean
                filled[f"rfi_{direction}_points_standard_error"].at[index] = error
            for question, label in labels(gains, axes).items():
                filled[f"label_{question}"].at[index] = label
    return pd.concat([result, pd.DataFrame(filled)], axis=1)


def places(rows: pd.DataFrame, grid: Grid) -> Iterator[tuple[object, tuple[int, int, int], int]]:
    """Index, place on the grid and number of its own seed, for every row of a block."""
    columns = [np.searchsorted(axis, rows[name]) for axis, name in
               zip((grid.widths, grid.train_sizes, grid.temperatures), _AXES, strict=True)]  # fmt: skip
    own = np.searchsorted(grid.seeds, rows["seed"])
    for n, index in enumerate(rows.index):
        yield index, (int(columns[0][n]), int(columns[1][n]), int(columns[2][n])), int(own[n])


def _gains_without(grid: Grid, place: tuple[int, int, int], own: int) -> dict[str, np.ndarray]:
    """Cross-fitted per-seed gains of each direction the grid goes on in, the row's own seed set aside."""
    gains = {}
    for direction in DIRECTIONS:
        _, errors = grid.along(direction, place)
        others = np.delete(errors, own, axis=1)
        complete = ~np.isnan(others).any(axis=1)
        if complete[0] and complete.sum() > 1:
            others = others[complete]
            gains[direction] = cross_fitted_gains(others)
    return gains


def step_gains(frame: pd.DataFrame, factors: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """True gain of changing one axis by given factors, from the other seeds of the grid.

    Between two cells of the axis the mean test error is interpolated linearly in the logarithm of the axis; beyond
    the last cell the last one counts: the grid tells no more, so the gain is then that of the step to its end.
    Where the grid has one seed per cell, or means over seeds, there are no others: the cell's own test error counts.

    Parameters
    ----------
    frame : pandas.DataFrame
        Measured rows.
    factors : mapping of direction to sequence of float
        Factors above 1; `temperature_down` divides by them.

    Returns
    -------
    dict of direction -> numpy.ndarray, shape (rows, factors of the direction)
        Points of test accuracy, in the order of `frame`; NaN where the grid ends at the row's own cell.
    """
    result = {name: np.full((len(frame), len(factors[name])), np.nan) for name in DIRECTIONS}
    position = {index: n for n, index in enumerate(frame.index)}
    logs = {name: np.log(np.asarray(factors[name], dtype=float)) for name in DIRECTIONS}
    for rows, grid in grids(frame):
        for (index, place, own), direction in itertools.product(places(rows, grid), DIRECTIONS):
            values, errors = grid.along(direction, place)
            others = (np.delete(errors, own, axis=1) if len(grid.seeds) > 1 else errors).mean(axis=1)
            keep = ~np.isnan(others)
            if keep[0] and keep.sum() > 1:
                distance = np.abs(np.log(values[keep] / values[0]))
                result[direction][position[index]] = others[0] - np.interp(logs[direction], distance, others[keep])
    return result
