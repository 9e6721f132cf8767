"""Fit a diagnoser on a zoo: one readable tree per question and evidence set, and what its leaves know.

Of several families the verdict is composed of questions (`mdtree.composed_fit`). Of one it has a tree of its own: the
trees are fitted on the unambiguous rows with causes weighted to count alike. What the leaves say of counts, rooms and
gains is cross-fitted by cell: the thresholds are fitted again without a fold's cells (the questions and their order
stay), and only then are that fold's networks sent down and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mdtree.composed_fit import can_compose, fit_composed
from mdtree.diagnoser_schema import Diagnoser, LeafStatistics, NotTrainingGate, QuestionTree
from mdtree.errors import InputError
from mdtree.growth import Criterion, GrowthRules, TrainingRows
from mdtree.leaf_statistics import FACTORS, cell_names, leaf_statistics, six_digits
from mdtree.nodes import Leaf, Node, Split, leaf_weights, leaves, splits
from mdtree.refinement import STARTS, refine
from mdtree.room import step_gains
from mdtree.scoring import grouped_folds
from mdtree.set_fit import fit_set_trees
from mdtree.tree import MDTree
from mdtree.zoo import (
    CAUSES,
    DIRECTIONS,
    EVIDENCE,
    QUESTIONS,
    RFI_COLUMNS,
    UNLABELLED,
    evidence_metrics,
    size_free_metrics,
)
from mdtree.zoo_reference import ZooReference, fit_reference

NOT_TRAINING_ERROR_OVER_CHANCE = 0.9
SMALLEST_LEAF = 3


@dataclass(frozen=True)
class FitOptions:
    """How the trees of one family are grown; chosen by cross-validation by cell on the fitted part of `digits_mlp`.

    Of several families `max_depth`, `max_leaves`, `folds` and `seed` hold, the rest is `mdtree.composed_fit`'s.

    Attributes
    ----------
    max_depth, max_leaves : int
        A tree beyond 4 and 8 is not readable and is refused.
    min_samples_leaf : int
        Networks, not cells. Fewer where there are few: see `for_rows`.
    criterion : {"gini", "entropy"}
    starts : int
        Trees grown and refined as a whole, the best of which is kept.
    folds, seed : int
        Of the cross-fitting.
    """

    max_depth: int = 4
    max_leaves: int = 8
    min_samples_leaf: int = 10
    criterion: Criterion = "gini"
    starts: int = STARTS
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= 4 or not 2 <= self.max_leaves <= 8:
            raise InputError(
                f"depth {self.max_depth} with {self.max_leaves} leaves", "a readable tree: depth 1 to 4, 2 to 8 leaves"
            )

    def for_rows(self, rows: int) -> FitOptions:
        """The options for so many labelled rows: a leaf need not hold more than an eighth of them, nor under 3."""
        return replace(self, min_samples_leaf=min(self.min_samples_leaf, max(SMALLEST_LEAF, rows // 8)))


def fit_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows a diagnoser may be fitted on: not held out, not diverged."""
    rows = frame[(frame["split"] != "held_out") & (frame["diverged"] == 0)]
    if rows.empty:
        raise InputError("the zoo has no rows to fit on", "rows that are neither held out nor diverged")
    return rows


def fit_diagnoser(frame: pd.DataFrame, name: str, options: FitOptions = FitOptions()) -> Diagnoser:
    """Fit every tree of a diagnoser.

    Parameters
    ----------
    frame : pandas.DataFrame
        A labelled zoo (`mdtree.zoo.read_zoo`). Nothing measured on rows of the split `held_out` is used, nor their
        labels; their test errors count only where they stand beside a fitted cell on the grid, for what a step from
        that cell gains (as in its labels).
    name : str
    options : FitOptions

    Returns
    -------
    Diagnoser

    Raises
    ------
    InputError
        Too few labelled rows, or no verdict can be learned.
    """
    rows = fit_rows(frame)
    used = frame.index.isin(rows.index)
    gains = {direction: values[used] for direction, values in step_gains(frame, FACTORS).items()}
    composed = can_compose(rows)
    trees = (_composed_trees if composed else _single_trees)(rows, gains, options)
    return Diagnoser(
        name=name,
        zoo={
            "families": sorted(set(rows["family"])),
            "data_sets": sorted(set(rows["data_set"])),
            "protocols": sorted(set(rows["protocol"])),
            "rows": len(rows),
            "cells": len(set(cell_names(rows))),
            **_not_told(rows),
        },
        trees=trees,
        ranges=_ranges(rows),
        not_training=_not_training_gate(rows),
        reference=_reference(rows),
        set_trees=fit_set_trees(rows) if composed else None,
    )


Trees = dict[str, dict[str, QuestionTree]]


def _composed_trees(rows: pd.DataFrame, gains: Mapping[str, np.ndarray], options: FitOptions) -> Trees:
    """Of several families: the questions, and the verdict composed of them, for every evidence set."""
    limits, folds = (options.max_depth, options.max_leaves), (options.folds, options.seed)
    trees: Trees = {}
    for evidence in EVIDENCE:
        if _present(rows, size_free_metrics(evidence)):
            for question, tree in fit_composed(rows, evidence, gains, limits, folds).items():
                trees.setdefault(question, {})[evidence] = tree
    return trees


def _single_trees(rows: pd.DataFrame, gains: Mapping[str, np.ndarray], options: FitOptions) -> Trees:
    """Of one family: a tree of its own for every question, the verdict among them, and every evidence set."""
    trees: Trees = {}
    for question in QUESTIONS:
        labelled = ~rows[f"label_{question}"].isin(UNLABELLED).to_numpy()
        if len(set(rows.loc[labelled, f"label_{question}"])) < 2:
            if question == "verdict":
                raise InputError(
                    f"the zoo holds fewer than two verdicts ({_counted(rows['label_verdict'])})",
                    "networks of several causes",
                    "train more cells, beyond the ends of the axes, or more seeds",
                )
            continue
        trees[question] = {}
        fitted = options.for_rows(int(labelled.sum()))
        for evidence in EVIDENCE:
            if not _asked(rows, evidence):
                continue
            tree = fit_tree(rows[labelled], question, evidence, fitted).tree_
            statistics: tuple[LeafStatistics, ...] = ()
            if question == "verdict":
                statistics = leaf_statistics(
                    _cross_fitted_leaves(tree, rows, labelled, fitted), rows, gains, (fitted.folds, fitted.seed)
                )
            trees[question][evidence] = QuestionTree(tree, statistics)
    return trees


def _reference(rows: pd.DataFrame) -> ZooReference | None:
    metrics = _present(rows, size_free_metrics("sibling_test"))
    # points are drawn by number: the order of the tables must not decide which
    ordered = rows.sort_values(["family", "cell", "seed"], kind="stable")
    return fit_reference(ordered, metrics) if metrics else None


def _not_told(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Causes whose axis the zoo does not have: its verdicts are among the others."""
    causes = [CAUSES[d] for d, column in zip(DIRECTIONS, RFI_COLUMNS, strict=True) if rows[column].isna().all()]
    return {"not_told": causes} if causes else {}


def fit_tree(rows: pd.DataFrame, question: str, evidence: str, options: FitOptions = FitOptions()) -> MDTree:
    """The tree of one question and evidence set, fitted on labelled rows."""
    metrics = _asked(rows, evidence)
    tree = MDTree(
        max_depth=options.max_depth,
        max_leaves=options.max_leaves,
        min_samples_leaf=options.min_samples_leaf,
        class_weight="balanced",
        criterion=options.criterion,
        starts=options.starts,
    )
    return tree.fit(rows[metrics], rows[f"label_{question}"].to_numpy(dtype=str))


def _counted(labels: pd.Series) -> str:
    return ", ".join(f"{label} {count}" for label, count in labels.value_counts().sort_index().items())


def _present(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Metrics that the zoo measured at all."""
    return [name for name in metrics if name in rows and rows[name].notna().any()]


def _asked(rows: pd.DataFrame, evidence: str) -> list[str]:
    """Size-free metrics, which travel; all where the zoo (a table made elsewhere) has no two of them."""
    free = _present(rows, size_free_metrics(evidence))
    return free if len(free) > 1 else _present(rows, evidence_metrics(evidence))


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    names = [name for name in evidence_metrics("sibling_test") if name in rows]
    return {name: rows[name].to_numpy(dtype=float) for name in names}


def rethreshold(tree: Node, rows: pd.DataFrame, labels: np.ndarray, options: FitOptions) -> Node:
    """The same questions in the same order with thresholds fitted on other rows; leaf answers and numbers stay."""
    features = tuple(dict.fromkeys(split.feature for split in splits(tree)))
    names, codes = np.unique(np.append(labels, [leaf.label for leaf in leaves(tree)]), return_inverse=True)
    codes = codes[: len(labels)]
    counts = np.bincount(codes, minlength=len(names))
    data = TrainingRows(
        X=rows[list(features)].to_numpy(dtype=float),
        codes=codes,
        weight=np.ones(len(labels)),
        label_weight=len(labels) / (len(names) * np.maximum(counts, 1)),
        features=features,
        labels=tuple(str(name) for name in names),
    )
    return refine(tree, data, GrowthRules(min_samples_leaf=options.min_samples_leaf), thresholds_only=True)


def _cross_fitted_leaves(tree: Node, rows: pd.DataFrame, labelled: np.ndarray, options: FitOptions) -> np.ndarray:
    """Leaf of every row under thresholds fitted without the row's cell. Shape (rows, leaves): weights sum to 1."""
    labels = rows["label_verdict"].to_numpy(dtype=str)
    reached = np.zeros((len(rows), len(leaves(tree))))
    for held in folds_of(rows, options):
        keep = ~held & labelled
        refitted = rethreshold(tree, rows[keep], labels[keep], options)
        part = rows[held]
        reached[held] = leaf_weights(refitted, _columns(part), len(part))
    return reached


def folds_of(rows: pd.DataFrame, options: FitOptions) -> Iterator[np.ndarray]:
    """Masks of the rows held out in each fold; all networks of a cell fall into the same one."""
    cells = cell_names(rows)
    yield from grouped_folds(cells, min(options.folds, len(set(cells))), options.seed)


def _ranges(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    names = _present(rows, evidence_metrics("sibling_test"))
    return {name: (six_digits(rows[name].quantile(0.01)), six_digits(rows[name].quantile(0.99))) for name in names}


def _not_training_gate(rows: pd.DataFrame) -> NotTrainingGate:
    """Where the zoo has networks near chance on both sides, the gradient that tells them apart."""
    stuck = rows[rows["train_error_over_chance"] >= NOT_TRAINING_ERROR_OVER_CHANCE]
    stuck = stuck[stuck["label_temperature"].isin([CAUSES["temperature_up"], CAUSES["temperature_down"]])]
    threshold = None
    if stuck["label_temperature"].nunique() == 2:
        labels = stuck["label_temperature"].to_numpy(dtype=str)
        tree = MDTree(max_depth=1, max_leaves=2, min_samples_leaf=5, class_weight="balanced").fit(
            stuck[["gradient_norm_squared_per_parameter"]], labels
        )
        if isinstance(tree.tree_, Split) and isinstance(tree.tree_.left, Leaf):
            right_way = tree.tree_.left.label == CAUSES["temperature_down"]
            threshold = tree.tree_.threshold if right_way else None
    return NotTrainingGate(NOT_TRAINING_ERROR_OVER_CHANCE, threshold)
