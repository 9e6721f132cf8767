"""Who else could advise: what a diagnosis that is followed has to beat.

All are fitted on the clear verdicts, or the gains, of labelled zoos, and none sees a loss landscape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mdtree.baselines import baseline_predictions
from mdtree.errors import InputError
from mdtree.fitting import fit_rows
from mdtree.leaf_statistics import FACTORS
from mdtree.room import step_gains
from mdtree.zoo import CAUSES, DIRECTIONS, UNLABELLED

DIRECTION_OF = {cause: direction for direction, cause in CAUSES.items()}
"""Failure mode -> the direction of the change that cures it; healthy and undetermined are not in it."""

TREES = ("hyperparameters", "validation")
"""Baselines that advise by a fitted tree (`mdtree.baselines`)."""


def without_drawn(training: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """A table without the drawn cells."""
    same = training["family"].isin(set(drawn["family"])) & training["cell"].isin(set(drawn["cell"]))
    return training[~same]


def constant_direction(tables: Sequence[pd.DataFrame]) -> str | None:
    """The direction that gains most on the fitted rows of some zoos, the same step everywhere; None if all lose.

    A step beyond the end of a grid counts as no change.
    """
    sums = dict.fromkeys(DIRECTIONS, np.zeros(1))
    for table in tables:
        used = table.index.isin(fit_rows(table).index)
        for direction, gains in step_gains(table, FACTORS).items():
            sums[direction] = sums[direction] + np.nan_to_num(gains[used]).sum(axis=0)
    best = max(DIRECTIONS, key=lambda direction: sums[direction].max())
    return best if sums[best].max() > 0 else None


def advice_of_tree(name: str, tables: Sequence[pd.DataFrame], rows: pd.DataFrame) -> tuple[str | None, ...]:
    """What a baseline tree, fitted on the clear verdicts of some zoos, advises for every drawn network."""
    fitted = pd.concat([fit_rows(table) for table in tables], ignore_index=True)
    clear = fitted[~fitted["label_verdict"].isin(UNLABELLED)]
    if clear.empty:
        raise InputError("the baselines have no row with a clear verdict to learn from", "a labelled zoo")
    answers = baseline_predictions(name, clear, clear["label_verdict"].to_numpy(dtype=str), rows)
    return tuple(DIRECTION_OF.get(str(answer)) for answer in answers)
