"""Fit the trees that ask for positions within a set (`mdtree.set_trees`) on sets like those a user has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.composed_fit import component_labels, family_weights
from mdtree.nodes import Node
from mdtree.set_trees import SET_QUESTIONS, SMALLEST_SET, SetTrees, position_name, positions, zoo_scale
from mdtree.tree import MDTree
from mdtree.zoo import EVIDENCE, UNLABELLED, size_free_metrics

TASK_COLUMNS = ("family", "train_size", "label_noise")
"""Networks of the zoo that agree in these were trained on the same images: a task."""


@dataclass(frozen=True)
class SetOptions:
    """How sets are made of a zoo, and how trees are grown on them.

    Attributes
    ----------
    size : int
        Networks in a set. Positions among 16 were asked about sets of 8, 16 and 32.
    draws : int
        Times a task's networks are dealt into sets.
    max_depth, max_leaves, min_samples_leaf : int
        Of the trees; a network counts once for every set it stands in.
    seed : int
    """

    size: int = 16
    draws: int = 2
    max_depth: int = 4
    max_leaves: int = 8
    min_samples_leaf: int = 60
    seed: int = 0


def fit_set_trees(rows: pd.DataFrame, options: SetOptions = SetOptions()) -> SetTrees | None:
    """Fit a tree of positions for every question of `SET_QUESTIONS` and every evidence set.

    The networks of a task are dealt at random into sets, their metrics replaced by positions; the trees are grown by
    entropy, causes weighing alike and a family as the square root of its networks.

    Parameters
    ----------
    rows : pandas.DataFrame
        Labelled rows to fit on: not held out, not diverged.
    options : SetOptions

    Returns
    -------
    SetTrees or None
        None where no task has `SMALLEST_SET` networks or no question two answers.
    """
    rows = rows.reset_index(drop=True)
    sets = list(dealt_sets(rows, options))
    if not sets:
        return None
    members = np.concatenate(sets)
    names = [n for n in size_free_metrics("sibling_test") if n in rows and rows[n].notna().any()]
    places = pd.DataFrame(
        {
            position_name(name): np.concatenate([positions(rows[name].to_numpy(dtype=float)[s]) for s in sets])
            for name in names
        }
    )
    trees: dict[str, dict[str, Node]] = {}
    for question in SET_QUESTIONS:
        labels = component_labels(rows, question)[members]
        known = ~np.isin(labels, UNLABELLED)
        if len(set(labels[known])) < 2:
            continue
        families = rows["family"].to_numpy(dtype=str)[members][known]
        for evidence in EVIDENCE:
            columns = [position_name(name) for name in size_free_metrics(evidence) if name in names]
            if columns:
                tree = _grown(places.loc[known, columns], labels[known], families, options)
                trees.setdefault(question, {})[evidence] = tree
    if not trees:
        return None
    return SetTrees(trees, {name: zoo_scale(rows[name].to_numpy(dtype=float)) for name in names})


def dealt_sets(rows: pd.DataFrame, options: SetOptions) -> Iterator[np.ndarray]:
    """Row numbers of the networks of each set: a task's networks shuffled and cut into sets of equal size.

    What is left over after the last whole set stands in none, unless the task has no whole set; a task with fewer than
    `SMALLEST_SET` networks has none either.
    """
    generator = np.random.default_rng(options.seed)
    for _, task in rows.groupby(list(TASK_COLUMNS), sort=True, dropna=False):
        numbers = task.index.to_numpy()
        if len(numbers) < SMALLEST_SET:
            continue
        for _ in range(options.draws):
            shuffled = generator.permutation(numbers)
            whole = max(1, len(shuffled) // options.size)
            yield from (shuffled[k * options.size : (k + 1) * options.size] for k in range(whole))


def _grown(places: pd.DataFrame, labels: np.ndarray, families: np.ndarray, options: SetOptions) -> Node:
    weight = family_weights(families)
    names = sorted(set(labels))
    tree = MDTree(
        max_depth=options.max_depth,
        max_leaves=options.max_leaves,
        min_samples_leaf=min(options.min_samples_leaf, max(3, len(labels) // 8)),
        class_weight={name: weight.sum() / (len(names) * weight[labels == name].sum()) for name in names},
        criterion="entropy",
        merge_leaves=False,
    )
    return tree.fit(places, labels, sample_weight=weight).tree_
