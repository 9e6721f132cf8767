"""Zoos for transfers, made of a formula: some that exchange, one whose signs are turned round."""

from __future__ import annotations

import numpy as np
import pandas as pd
from synthetic_zoo import synthetic_zoo

from mdtree.diagnoser_schema import Diagnoser
from mdtree.fitting import FitOptions, fit_diagnoser
from mdtree.transfer_methods import BASELINES, DEFAULT, DiagnoserMethod, Method

SWAPPED = ("gradient_norm_squared_per_parameter", "log_weight_growth")
"""What tells cold from hot in the synthetic zoo; the barrier, which tells too, is held constant in these zoos."""


def family(name: str, seed: int = 0, **columns: object) -> pd.DataFrame:
    """A synthetic family, with columns set to constants."""
    frame = synthetic_zoo(seed).assign(family=name, data_set="formula", architecture="none", protocol="formula")
    return frame.assign(connectivity_barrier_over_chance=0.0, train_error_percent=50.0, **columns)


def turned_round(frame: pd.DataFrame) -> pd.DataFrame:
    """The same networks with the metrics of cold and of hot in exchange."""
    first, second = SWAPPED
    return frame.assign(**{first: frame[second], second: frame[first]})


def together(*families: pd.DataFrame) -> pd.DataFrame:
    """One table, as `read_zoos` gives it."""
    return pd.concat(families, ignore_index=True)


def quick_fit(frame: pd.DataFrame, name: str) -> Diagnoser:
    """A diagnoser of trees grown once."""
    return fit_diagnoser(frame, name, FitOptions(max_depth=2, max_leaves=4, starts=1, folds=2))


QUICK = (Method(DEFAULT, DiagnoserMethod(quick_fit), sees_evidence=True), *BASELINES[:3])


def answer_table(cells: int, per_cell: int, seed: int, recalls: tuple[float, float]) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows and answers to the question of temperature: all networks of a cell are answered alike.

    Each cell is too cold or too hot with equal probability, and answered rightly with the recall of its cause.
    """
    generator = np.random.default_rng(seed)
    names = np.array(["temperature_too_low", "temperature_too_high"])
    cause = generator.integers(0, 2, cells)
    right = generator.random(cells) < np.array(recalls)[cause]
    of_row = np.repeat(np.arange(cells), per_cell)
    rows = pd.DataFrame({"family": "f", "cell": [f"c{k}" for k in of_row], "label_temperature": names[cause[of_row]]})
    for direction in ("temperature_up", "temperature_down", "model_size", "data"):
        rows[f"rfi_{direction}_points"] = 1.0
    return rows, names[np.where(right, cause, 1 - cause)[of_row]]
