"""How many networks a zoo needs: accuracy on the noisy collection against what the tree was fitted on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.benchmark_cases import SEEDS, clear_rows
from mdtree.benchmark_methods import METHODS, refuse_unknown

QUESTION = "temperature"
CURVE_METHODS = ("hyperparameter", "validation", "paper", "posterior")
PAIR_COUNTS = (1, 2, 4, 8, 16, 32, 64, 130)

AXES = ("configurations", "data limit", "width limit")


@dataclass(frozen=True)
class CurvePoint:
    """One point: mean and spread (n - 1) over seeds of the share of right answers on all rows of the noisy half."""

    axis: str
    method: str
    x: float
    accuracy: float
    std: float


def learning_curves(
    clean: pd.DataFrame,
    noisy: pd.DataFrame,
    names: Sequence[str] = CURVE_METHODS,
    progress: Callable[[str, float], None] | None = None,
) -> list[CurvePoint]:
    """Curves of the question `temperature` over three axes.

    `configurations`: training rows of random (training size, width) pairs, from one pair to all; x is the mean number
    of rows. `data limit`: all rows up to a share of the data (percent). `width limit`: all rows up to a width.

    Raises
    ------
    InputError
        A method is unknown.
    """
    refuse_unknown(names)
    rows, asked = clear_rows(clean, QUESTION), clear_rows(noisy, QUESTION)
    truth = asked[f"label_{QUESTION}"].to_numpy(dtype=str)
    steps = list(_training_sets(rows))
    points = []
    for number, (axis, x, parts) in enumerate(steps):
        for name in names:
            if progress:
                progress(f"{axis} {x:g}: {name}", number / len(steps))
            shares = [float(np.mean(METHODS[name](QUESTION, part, asked) == truth)) for part in parts]
            spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0
            points.append(CurvePoint(axis, name, x, float(np.mean(shares)), spread))
    return points


def _training_sets(rows: pd.DataFrame) -> Iterator[tuple[str, float, list[pd.DataFrame]]]:
    """Axis, x and the training sets of each point, one per seed where they are drawn."""
    size, width = rows["train_size"].to_numpy(), rows["width"].to_numpy()
    pairs = np.array(list(itertools.product(np.unique(size), np.unique(width))))
    for count in PAIR_COUNTS:
        parts = []
        for seed in SEEDS if count < len(pairs) else SEEDS[:1]:
            drawn = pairs[np.random.RandomState(seed).choice(len(pairs), min(count, len(pairs)), replace=False)]
            parts.append(rows[np.any([(size == s) & (width == w) for s, w in drawn], axis=0)])
        yield "configurations", float(np.mean([len(part) for part in parts])), parts
    for value in np.unique(size):
        yield "data limit", 100 * float(value) / float(size.max()), [rows[size <= value]]
    for value in np.unique(width):
        yield "width limit", float(value), [rows[width <= value]]
