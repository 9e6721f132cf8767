"""Fit the questions of a composed verdict on several families of networks, and what its leaves know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mdtree.composition import (
    COMPONENTS,
    HEALTHY,
    MODEL_OR_DATA,
    READING_METRICS,
    READINGS,
    composed_leaf_weights,
    composed_tree,
)
from mdtree.diagnoser_schema import QuestionTree
from mdtree.leaf_statistics import leaf_statistics, six_digits
from mdtree.nodes import Leaf, Node, leaves
from mdtree.scoring import grouped_folds
from mdtree.tree import MDTree
from mdtree.zoo import CAUSES, UNLABELLED, size_free_metrics

MOST_FOLDS = 8
"""Folds of whole families at most: the leaves tell what happened to families that the trees had not seen."""

SMALLEST_LEAF = 60
"""Networks on either side of a question: a handful of cells at least, of one family or of several."""

HEALTHY_WEIGHT = 0.1
"""A network called healthy is left alone: taking a sick one for healthy weighs ten times the opposite."""

CAUSE_BALANCE = 0.5
"""Probabilities of a composed verdict take a cause as the square root of its frequency: healthy networks are rare, and
taken as frequent as all others they would hide every cause that resembles them."""

NOT_HEALTHY = "not_healthy"


def family_weights(families: np.ndarray) -> np.ndarray:
    """A family weighs as the square root of its number of networks; mean 1. Shape (rows,)."""
    _, number, counts = np.unique(families, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(counts[number])
    return weight / weight.mean()


def component_labels(rows: pd.DataFrame, question: str) -> np.ndarray:
    """The true answer of every row to a question of the verdict; one of `UNLABELLED` where there is none."""
    if question in READINGS:
        return rows["label_temperature"].to_numpy(dtype=str)
    if question not in (HEALTHY, MODEL_OR_DATA):
        return rows[f"label_{question}"].to_numpy(dtype=str)
    verdict = rows["label_verdict"].to_numpy(dtype=str)
    if question == HEALTHY:
        return np.where(np.isin(verdict, (*UNLABELLED, HEALTHY)), verdict, NOT_HEALTHY)
    return np.where(np.isin(verdict, (CAUSES["model_size"], CAUSES["data"])), verdict, UNLABELLED[0])


def can_compose(rows: pd.DataFrame) -> bool:
    """Whether there are several families, and both answers to every question but `healthy`."""
    if rows["family"].nunique() < 2:
        return False
    return all(_answers(rows, question) > 1 for question in COMPONENTS if question != HEALTHY)


def _answers(rows: pd.DataFrame, question: str) -> int:
    return len(set(component_labels(rows, question)) - set(UNLABELLED))


def fit_components(rows: pd.DataFrame, evidence: str, max_depth: int, max_leaves: int) -> dict[str, Node]:
    """The tree of every question of the verdict and of every reading of the temperature.

    Grown greedily by entropy on size-free metrics, causes weighing alike and families as the square root of their
    networks. A question without two answers has no tree.
    """
    found: dict[str, Node] = {}
    for question in dict.fromkeys((*COMPONENTS, *READINGS)):
        metrics = [
            name
            for name in READING_METRICS.get(question, size_free_metrics(evidence))
            if name in rows and rows[name].notna().any()
        ]
        labels = component_labels(rows, question)
        known = ~np.isin(labels, UNLABELLED)
        if len(set(labels[known])) < 2 or not metrics:
            continue
        found[question] = _grown(
            rows.loc[known, metrics], labels[known], rows.loc[known, "family"], max_depth, max_leaves
        )
    return found


def _grown(X: pd.DataFrame, labels: np.ndarray, families: pd.Series, max_depth: int, max_leaves: int) -> Node:
    weight = family_weights(families.to_numpy(dtype=str))
    names = sorted(set(labels))
    factors = {name: weight.sum() / (len(names) * weight[labels == name].sum()) for name in names}
    if HEALTHY in factors:
        factors[HEALTHY] *= HEALTHY_WEIGHT
    tree = MDTree(
        max_depth=max_depth,
        max_leaves=max_leaves,
        min_samples_leaf=min(SMALLEST_LEAF, max(3, len(labels) // 8)),
        class_weight=factors,
        criterion="entropy",
        # leaves of one answer differ in how sure they are, which the readings' mean needs
        merge_leaves=False,
    )
    return _six_digits(tree.fit(X, labels, sample_weight=weight).tree_)


def _six_digits(node: Node) -> Node:
    """The tree with its sums of weights as leaf statistics hold theirs: their last bits hang on the order of rows."""
    if isinstance(node, Leaf):
        return replace(node, counts={name: six_digits(count) for name, count in node.counts.items()})
    left, right = _six_digits(node.left), _six_digits(node.right)
    return replace(node, left=left, right=right, share_left=six_digits(node.share_left))


def fit_composed(
    rows: pd.DataFrame, evidence: str, gains: Mapping[str, np.ndarray], limits: tuple[int, int], folds: tuple[int, int]
) -> dict[str, QuestionTree]:
    """The trees of one evidence set: questions, readings, and the verdict with what its leaves know.

    Parameters
    ----------
    rows : pandas.DataFrame
        Labelled rows of several families (`can_compose`).
    evidence : str
    gains : mapping of direction to ndarray, shape (rows, factors)
        True gains of steps (`mdtree.room.step_gains`).
    limits : (int, int)
        Most questions on the way to a leaf and most leaves of a tree.
    folds : (int, int)
        Number of the folds in which a step is chosen on other cells than it is scored on, and the seed.

    Returns
    -------
    dict of question to QuestionTree
    """
    trees = fit_components(rows, evidence, *limits)
    verdict = composed_tree(HEALTHY in trees)
    reached = np.zeros((len(rows), len(leaves(verdict))))
    for held in family_folds(rows, folds[1]):
        part, rest = rows[held], rows[~held]
        # a question that the other families alone cannot answer is asked of the tree of all
        fold_trees = {**trees, **fit_components(rest, evidence, *limits)}
        reached[held] = composed_leaf_weights(verdict, fold_trees, _columns(part, evidence), len(part))
    weight = family_weights(rows["family"].to_numpy(dtype=str))
    statistics = leaf_statistics(reached * weight[:, None], rows, gains, folds, CAUSE_BALANCE)
    found = {question: QuestionTree(tree) for question, tree in trees.items()}
    held_by = (reached * weight[:, None]).sum(axis=0)
    counts = [{name: round(count, 3) for name, count in leaf.counts.items()} for leaf in statistics]
    return {**found, "verdict": QuestionTree(_with_counts(verdict, counts, held_by), statistics)}


def _with_counts(tree: Node, counts: Sequence[Mapping[str, float]], held_by: np.ndarray) -> Node:
    """The tree with what its leaves hold, and the share of the rows that answers no at every question."""
    if isinstance(tree, Leaf):
        return replace(tree, counts=counts[tree.index])
    left, right = (sum(held_by[leaf.index] for leaf in leaves(side)) for side in (tree.left, tree.right))
    share = round(float(left / (left + right)), 9) if left + right > 0 else 0.5
    return replace(
        tree,
        left=_with_counts(tree.left, counts, held_by),
        right=_with_counts(tree.right, counts, held_by),
        share_left=share,
    )


def family_folds(rows: pd.DataFrame, seed: int) -> Iterator[np.ndarray]:
    """Masks of the families left out together; every family once, eight folds at most."""
    families = rows["family"].to_numpy(dtype=str)
    yield from grouped_folds(families, min(MOST_FOLDS, len(set(families))), seed)


def _columns(rows: pd.DataFrame, evidence: str) -> dict[str, np.ndarray]:
    names: Sequence[str] = [name for name in size_free_metrics(evidence) if name in rows]
    return {name: rows[name].to_numpy(dtype=float) for name in names}
