"""What the measurements of a family do from cold to hot: which kind of "too hot" its grid holds.

At a *noise floor* hot training hovers: the training error rises while siblings stay connected (no barrier) and the
curvature is low; cold training interpolates and is sharp. At *instability* hot training breaks: the training error
jumps to that of a constant answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.room import grids
from mdtree.zoo import GAIN_COLUMN

UNTRAINED = 0.9
"""Training error, over that of the best constant answer, from which a network counts as not trained."""


@dataclass(frozen=True)
class ProfilePoint:
    """Means over all networks at one place of the temperature axis, counted from cold to hot.

    Attributes
    ----------
    place : int
        0 is the coldest value of the axis, in each block of the grid.
    networks : int
        That did not diverge.
    test_error_percent, train_error_percent : float
    barrier_percent, cka_mixup : float
        NaN where no pair was measured.
    trace_per_parameter : float
        Geometric mean over networks with a positive trace.
    untrained : float
        Share of networks near a constant answer.
    """

    place: int
    networks: int
    test_error_percent: float
    train_error_percent: float
    barrier_percent: float
    cka_mixup: float
    trace_per_parameter: float
    untrained: float


def temperature_profile(frame: pd.DataFrame) -> list[ProfilePoint]:
    """One point for every place of the temperature axis, the coldest first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of one family of a zoo table.
    """
    place = pd.Series(0, index=frame.index)
    for rows, grid in grids(frame):
        place[rows.index] = np.searchsorted(grid.temperatures, rows["temperature"])
    kept = frame[frame["diverged"] == 0]
    points = []
    for number, rows in kept.groupby(place[kept.index]):
        trace = rows["hessian_trace_per_parameter"]
        points.append(
            ProfilePoint(
                place=int(str(number)),
                networks=len(rows),
                test_error_percent=_mean(rows[GAIN_COLUMN]),
                train_error_percent=_mean(rows["train_error_percent"]),
                barrier_percent=_mean(rows["connectivity_barrier_percent"]),
                cka_mixup=_mean(rows["cka_mixup"]),
                trace_per_parameter=float(np.exp(np.log(trace[trace > 0]).mean())) if (trace > 0).any() else np.nan,
                untrained=float((rows["train_error_over_chance"] >= UNTRAINED).mean()),
            )
        )
    return points


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if values.notna().any() else float("nan")


def profile_rows(points: Sequence[ProfilePoint]) -> list[tuple[str, ...]]:
    """A heading and one row per measurement, for a table; columns run from cold to hot."""

    def numbers(values: Sequence[float], form: str) -> tuple[str, ...]:
        return tuple("-" if np.isnan(value) else format(value, form) for value in values)

    heading = ("cold to hot", *(str(point.place + 1) for point in points))
    return [
        heading,
        ("test error (%)", *numbers([point.test_error_percent for point in points], ".1f")),
        ("training error (%)", *numbers([point.train_error_percent for point in points], ".1f")),
        ("barrier (points)", *numbers([point.barrier_percent for point in points], ".1f")),
        ("CKA on mixtures", *numbers([point.cka_mixup for point in points], ".2f")),
        ("trace / parameter", *numbers([point.trace_per_parameter for point in points], ".2g")),
        ("not trained (%)", *numbers([100 * point.untrained for point in points], ".0f")),
    ]
