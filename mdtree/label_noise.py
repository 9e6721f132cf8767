"""What wrong training labels do to the measurements of a network, to first order.

A zoo trained on clean labels has seen no network that fits its data only up to the wrong labels. Trees fitted on it
take an error that is all label noise for a network that fails. So the default procedure fits on every row twice: as
measured, and as it would be with a share p of the training labels wrong:

* A network that interpolates (train error up to `INTERPOLATES_PERCENT`) learns wrong labels too. Its error stays, but
  its minimum is sharper. The factors of `SHARPER` are those of the digits zoo: geometric means over the 68 fitted
  networks that interpolate with clean labels and with 10 % wrong ones, rounded. (Their loss doubles as well, at a fixed
  number of steps; that says how far they have come, and is left out: it helps nowhere and costs six points of the
  model-size question by transfer inside the clean collection.)
* Any other errs on the wrong labels as well. With e its error on right ones and c the error of chance, the error on all
  rises by 100 p (1 - e / c) percent, at both ends of a curve and on its way alike, and its loss by p ln(classes).

On the digits zoo (clean labels to 10 % wrong ones) this raises the gain that a readable tree on a pair's metrics
captures: see `benchmarks/label_noise.md`.
"""

from __future__ import annotations

import math

import pandas as pd

INTERPOLATES_PERCENT = 1.0
SHARE = 0.1
"""Wrong training labels assumed by default; at this share the factors below were measured."""

SHARPER = {
    "hessian_trace": 2.0,
    "hessian_trace_per_parameter": 2.0,
    "hessian_top_eigenvalue": 1.5,
    "hessian_top_eigenvalue_magnitude": 1.5,
    "hessian_top_eigenvalue_per_parameter": 1.5,
}
"""Factors at `SHARE`; at a share p they are raised to the power p / `SHARE`."""


def with_label_noise(table: pd.DataFrame, share: float = SHARE, classes: int = 10) -> pd.DataFrame:
    """The rows of a zoo table as they would be measured with a share of the training labels wrong.

    Parameters
    ----------
    table : DataFrame
        Any of the metrics it changes may be missing; `train_error_percent` must be there for any to change.
    share : float
        Of the training labels, 0...1.
    classes : int
        Number of classes of the task, 2 or more.

    Returns
    -------
    DataFrame
        A copy; labels, rooms and settings stay.
    """
    changed = table.copy()
    if "train_error_percent" not in table:
        return changed
    chance = 100.0 * (1 - 1 / classes)
    fails = table["train_error_percent"] > INTERPOLATES_PERCENT

    def raised(name: str) -> pd.Series:
        values = table[name].astype(float)
        return values.where(~fails, values + 100.0 * share * (1 - values / chance))

    changed["train_error_percent"] = raised("train_error_percent")
    if "train_error_over_chance" in table:
        changed["train_error_over_chance"] = changed["train_error_percent"] / chance
    if "train_loss" in table:
        loss = table["train_loss"].astype(float)
        changed["train_loss"] = loss.where(~fails, loss + share * math.log(classes))
    for name in [name for name in SHARPER if name in table]:
        values = changed[name].astype(float)
        changed[name] = values.where(fails, values * SHARPER[name] ** (share / SHARE))
    if "connectivity_peak_percent" in table:
        changed["connectivity_peak_percent"] = raised("connectivity_peak_percent")
        if "connectivity_barrier_percent" in table:
            lifted = changed["connectivity_peak_percent"] - table["connectivity_peak_percent"]
            lifted = lifted - (changed["train_error_percent"] - table["train_error_percent"])
            changed["connectivity_barrier_percent"] = table["connectivity_barrier_percent"] + lifted
            if "connectivity_barrier_over_chance" in table:
                changed["connectivity_barrier_over_chance"] = changed["connectivity_barrier_percent"] / chance
    return changed


def beside_label_noise(table: pd.DataFrame, share: float = SHARE, classes: int = 10) -> pd.DataFrame:
    """The table and, below it, the same rows with label noise; the index starts anew."""
    return pd.concat([table, with_label_noise(table, share, classes)], ignore_index=True)
