"""The methods the benchmark compares: each is fitted on the training rows of a draw and answers its test rows.

Rows are those of a zoo table whose label is a cause. No method reads a label of the test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier

from mdtree.authors_fit import fit_as_published
from mdtree.baselines import baseline_predictions
from mdtree.chosen_shapes import chosen_shapes
from mdtree.default_procedure import fit_shape
from mdtree.errors import InputError
from mdtree.nodes import Node, leaf_weights, leaves, splits
from mdtree.shapes import SHAPES, Shape
from mdtree.tree import MDTree

Method = Callable[[str, pd.DataFrame, pd.DataFrame], np.ndarray]
"""(question, training rows, test rows) -> the answer to each test row, an array of str."""

FITTED_LOSS = 0.01
"""Training loss (nats) up to which the zero-shot tree takes the training data as fitted."""

ALIKE_CKA = 0.5
"""CKA from which it takes two networks as alike."""

CEILING_LOGARITHMS = ("train_loss", "hessian_trace", "hessian_top_eigenvalue_magnitude")
CEILING_COLUMNS = ("connectivity_barrier_percent", "connectivity_peak_percent", "cka", "train_error_percent")
_SMALLEST = 1e-12  # what is smaller, a loss of 0 among it, counts as this much under a logarithm


def tree_answers(tree: Node, rows: pd.DataFrame) -> np.ndarray:
    """Label of the leaf that each row reaches (the heaviest one if a metric is missing), an array of str."""
    columns = {split.feature: _column(rows, split.feature) for split in splits(tree)}
    labels = np.array([leaf.label for leaf in leaves(tree)])
    return labels[np.argmax(leaf_weights(tree, columns, len(rows)), axis=1)]


def majority(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """The most frequent training label."""
    return baseline_predictions("majority", training, _labels(training, question), test)


def hyperparameter(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """A balanced CART tree of depth 4 on the training configuration, no measurement at all.

    It sees the batch size; the published tree of this name sees only the amounts of data and parameters.
    """
    return baseline_predictions("hyperparameters", training, _labels(training, question), test)


def validation(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """A balanced tree of depth 4 on training and test error and loss, no loss landscape."""
    return baseline_predictions("validation", training, _labels(training, question), test)


def paper(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """The paper's tree for the question, thresholds fitted as published."""
    shape, columns = _shape_and_columns(question, training)
    return tree_answers(fit_as_published(shape, columns, _labels(training, question)).tree, test)


def exact(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """The paper's tree for the question, thresholds of the highest training accuracy within the paper's bounds."""
    shape, columns = _shape_and_columns(question, training)
    tree = MDTree(shape=shape).fit(pd.DataFrame(columns), _labels(training, question))
    return np.asarray(tree.predict(test[list(columns)])).astype(str)


def posterior(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """The default: the shape chosen for the question on the clean collection, thresholds from the training rows alone.

    See `mdtree.default_procedure`. Shape, priors and sharpness are the same in every case and draw.
    """
    return tree_answers(fit_shape(chosen_shapes()[question], training, _labels(training, question)).tree_, test)


def zero_shot(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """A tree on the temperature whose thresholds come from what the metrics mean; nothing is fitted.

    Training loss <= 0.01 nats: too low. Else no barrier on the curve between two networks: too high. Else CKA >= 0.5:
    too high, else too low. The questions and the three numbers were chosen on the collection with clean labels.

    Raises
    ------
    InputError
        The question is not `temperature`.
    """
    if question != "temperature":
        raise InputError(f"no zero-shot tree answers {question}", "the question temperature")
    low, high = "temperature_too_low", "temperature_too_high"
    fitted = _column(test, "train_loss") <= FITTED_LOSS
    connected = _column(test, "connectivity_barrier_percent") <= 0
    alike = _column(test, "cka") >= ALIKE_CKA
    return np.where(fitted | ~(connected | alike), low, high)


def ceiling(question: str, training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """300 extremely randomised trees on the metrics of a pair: what a model nobody can read makes of the same rows."""
    forest = ExtraTreesClassifier(300, min_samples_leaf=3, random_state=0, n_jobs=1)
    forest.fit(_ceiling_features(training), _labels(training, question))
    return np.asarray(forest.predict(_ceiling_features(test))).astype(str)


DEFAULT_METHOD = "posterior"

METHODS: Mapping[str, Method] = {
    "majority": majority,
    "hyperparameter": hyperparameter,
    "validation": validation,
    "paper": paper,
    "zero_shot": zero_shot,
    "exact": exact,
    "posterior": posterior,
    "ceiling": ceiling,
}
"""Every method by name, simplest first."""


def methods_for(question: str) -> dict[str, Method]:
    """The methods that answer a question: all of them, but `zero_shot` for the temperature only."""
    return {name: method for name, method in METHODS.items() if name != "zero_shot" or question == "temperature"}


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise an InputError that lists the methods, if one of these names is none."""
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"method {', '.join(unknown)}", f"one or more of {', '.join(METHODS)}")


def _labels(rows: pd.DataFrame, question: str) -> np.ndarray:
    return rows[f"label_{question}"].to_numpy(dtype=str)


def _column(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        raise InputError(f"the table has no column {name}", "a zoo table")
    return rows[name].to_numpy(dtype=float)


def _shape_and_columns(question: str, rows: pd.DataFrame) -> tuple[Shape, dict[str, np.ndarray]]:
    if question not in SHAPES:
        raise InputError(f"the paper has no tree for the question {question!r}", f"one of {', '.join(SHAPES)}")
    shape = SHAPES[question]
    return shape, {name: _column(rows, name) for name in shape.features()}


def _ceiling_features(rows: pd.DataFrame) -> np.ndarray:
    logarithms = [np.log(np.maximum(_column(rows, name), _SMALLEST)) for name in CEILING_LOGARITHMS]
    return np.column_stack([*logarithms, *(_column(rows, name) for name in CEILING_COLUMNS)])
