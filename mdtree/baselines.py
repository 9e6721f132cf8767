"""Answers that use no loss landscape: what a diagnosis has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.tree import DecisionTreeClassifier

from mdtree.errors import InputError
from mdtree.refinement import STARTS
from mdtree.tree import MDTree

HYPERPARAMETER_COLUMNS = (
    "width",
    "parameter_count",
    "train_size",
    "learning_rate",
    "batch_size",
    "label_noise",
    "temperature",
)
VALIDATION_COLUMNS = ("train_error_percent", "train_loss", "test_error_percent", "test_loss")
BASELINES = ("majority", "hyperparameters", "validation")


def baseline_predictions(
    kind: str, train: pd.DataFrame, labels: Sequence[str] | np.ndarray, test: pd.DataFrame
) -> np.ndarray:
    """Answers that use no loss landscape, to compare with.

    Parameters
    ----------
    kind : {"majority", "hyperparameters", "validation"}
        The most frequent label (the first in the alphabet among equals); a balanced CART tree of depth 4 on the
        training configuration (`HYPERPARAMETER_COLUMNS`); a balanced `MDTree` on errors and losses
        (`VALIDATION_COLUMNS`).
    train, test : DataFrame
        Rows of a zoo table; empty cells of a used column are missing values.
    labels : sequence of str, length len(train)
        True labels of the training rows; leave rows that are ambiguous out beforehand.

    Returns
    -------
    ndarray of str, shape (len(test),)

    Raises
    ------
    InputError
        The kind is unknown, a column is missing, or lengths differ.
    """
    label_of = np.asarray(labels, dtype=str)
    if label_of.shape != (len(train),) or not len(train):
        raise InputError(f"{label_of.size} labels for {len(train)} training rows", "one label per row, at least one")
    if kind == "majority":
        names, counts = np.unique(label_of, return_counts=True)
        return np.full(len(test), names[np.argmax(counts)])
    if kind == "hyperparameters":
        tree = DecisionTreeClassifier(max_depth=4, class_weight="balanced", random_state=0)
        return _fitted_answers(tree, HYPERPARAMETER_COLUMNS, train, label_of, test)
    if kind == "validation":
        return _fitted_answers(
            MDTree(class_weight="balanced", starts=STARTS), VALIDATION_COLUMNS, train, label_of, test
        )
    raise InputError(f"baseline {kind!r}", f"one of {', '.join(BASELINES)}")


def _fitted_answers(
    tree: ClassifierMixin, columns: Sequence[str], train: pd.DataFrame, labels: np.ndarray, test: pd.DataFrame
) -> np.ndarray:
    tree.fit(_numbers(train, columns), labels)
    return np.asarray(tree.predict(_numbers(test, columns)))


def _numbers(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"the table lacks the columns {', '.join(missing)}", "the columns of a zoo table")
    return frame.loc[:, list(columns)].to_numpy(dtype=float)
