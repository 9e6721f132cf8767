"""Whether two ways of measuring connectivity lead to the same diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.fitting import FitOptions, folds_of
from mdtree.tree import MDTree
from mdtree.zoo import UNLABELLED, evidence_metrics, read_zoo

ZOO = Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.csv"
OPTIONS = FitOptions()
CURVE = tuple(name for name in evidence_metrics("sibling") if name.startswith("connectivity_"))
FEATURES: Mapping[str, tuple[str, ...]] = {
    "all": evidence_metrics("sibling"),
    "paper's four": ("train_error_percent", "connectivity_peak_percent", "hessian_trace", "cka"),
}
RESAMPLES = 1000


@dataclass(frozen=True)
class Comparison:
    """Shares of rows: answers like the reference's, read in two ways, and right answers of refitted trees.

    `fed`: trees fitted on the reference's metrics, given these. `refitted`: trees fitted on these metrics.
    """

    fed: float
    fed_interval: tuple[float, float]
    refitted: float
    refitted_interval: tuple[float, float]
    fed_accuracy: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    rows: int
    labelled: int


def zoo_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """The zoo's rows of these networks with the path metrics put in place of the table's."""
    zoo = read_zoo(ZOO)
    zoo["seed"] = zoo["seed"].astype(int)
    zoo = zoo.set_index(["cell", "seed"]).loc[metrics.index]
    kept = [name for name in metrics if name in zoo]
    zoo[kept] = metrics[kept]
    return zoo.reset_index()


def answers(
    fitted: pd.DataFrame, asked: Sequence[pd.DataFrame], question: str, features: Sequence[str]
) -> list[np.ndarray]:
    """Answers on cells a tree was not fitted on, to each table of the same rows."""
    found = [np.empty(len(fitted), dtype=object) for _ in asked]
    labels = fitted[f"label_{question}"]
    names = [name for name in features if fitted[name].notna().any()]
    for held in folds_of(fitted, OPTIONS):
        part = fitted[~held & ~labels.isin(UNLABELLED).to_numpy()]
        tree = MDTree(
            max_depth=OPTIONS.max_depth,
            max_leaves=OPTIONS.max_leaves,
            min_samples_leaf=OPTIONS.min_samples_leaf,
            class_weight="balanced",
            criterion=OPTIONS.criterion,
            starts=OPTIONS.starts,
        ).fit(part[names], part[f"label_{question}"].to_numpy(dtype=str))
        for answer, table in zip(found, asked, strict=True):
            answer[held] = np.asarray(tree.predict(table.loc[held, names]))
    return [answer.astype(str) for answer in found]


def compare(
    reference: pd.DataFrame, others: Mapping[str, pd.DataFrame], question: str, features: Sequence[str]
) -> dict[str, Comparison]:
    """Every table against the reference, which comes first under the name `reference`."""
    tables = {"reference": reference, **others}
    fed = dict(zip(tables, answers(reference, list(tables.values()), question, features), strict=True))
    truth = reference[f"label_{question}"].to_numpy(dtype=str)
    known = ~np.isin(truth, UNLABELLED)
    cells = reference["cell"].to_numpy(dtype=str)
    result = {}
    for name, table in tables.items():
        own = fed[name] if name == "reference" else answers(table, [table], question, features)[0]
        same_fed, same_own, right = fed[name] == fed["reference"], own == fed["reference"], own == truth
        result[name] = Comparison(
            fed=float(same_fed.mean()),
            fed_interval=interval(same_fed, cells),
            refitted=float(same_own.mean()),
            refitted_interval=interval(same_own, cells),
            fed_accuracy=float((fed[name] == truth)[known].mean()),
            accuracy=float(right[known].mean()),
            accuracy_interval=interval(right[known], cells[known]),
            rows=len(truth),
            labelled=int(known.sum()),
        )
    return result


def interval(hits: np.ndarray, cells: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a share; whole cells are drawn."""
    _, cell_of = np.unique(cells, return_inverse=True)
    sums, counts = np.bincount(cell_of, hits.astype(float)), np.bincount(cell_of)
    draws = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    shares = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)
