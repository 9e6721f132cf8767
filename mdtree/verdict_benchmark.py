"""One verdict over the four causes on the public table: on the grid it was fitted on, and off it.

Both collections are the same grid, so a tree on the training configuration can read the answer off it. What counts is
what a tree knows beyond its grid: fitted on one corner, asked about all that lies beyond (`mdtree.transfer.off_grid`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from mdtree.benchmark_methods import tree_answers
from mdtree.chosen_shapes import chosen_shapes
from mdtree.default_procedure import fit_shape
from mdtree.label_noise import beside_label_noise
from mdtree.refinement import STARTS
from mdtree.scoring import score
from mdtree.transfer import cause_gains, largest_cause, off_grid
from mdtree.tree import MDTree
from mdtree.zoo import EVIDENCE, evidence_metrics

HYPERPARAMETERS = ("width", "train_size", "batch_size")
HYPERPARAMETER_DEPTH = 6
LEAST_ROWS = 10
"""Rows on either side of a question of a grown tree."""
VALIDATION = ("train_error_percent", "train_loss", "test_error_percent", "test_loss")

Fitter = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]
"""(rows to fit on, rows to answer) -> the cause named for each."""


def verdict_report(
    clean: pd.DataFrame, noisy: pd.DataFrame, progress: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """All methods, fitted on the clean collection, on all rows of the noisy one and off the grid.

    Returns
    -------
    dict
        Setting (`all`, then those of `off_grid`) -> `n`, `n_fitted` and method -> figures. The methods of an evidence
        set are named `method/evidence`; `best_constant` is the best single answer in hindsight.
    """
    show = progress or (lambda words, share: None)
    settings = {"all": (np.ones(len(clean), dtype=bool), np.ones(len(noisy), dtype=bool))}
    settings |= {t.name: (t.fitted, off.scored) for t, off in zip(off_grid(clean), off_grid(noisy), strict=True)}
    found: dict[str, Any] = {}
    for number, (name, (fitted, scored)) in enumerate(settings.items()):
        show(f"verdict: {name}", number / len(settings))
        training, asked = clean[fitted], noisy[scored]
        figures = {method: verdict_figures(fit(training, asked), asked) for method, fit in verdict_methods().items()}
        constants = [verdict_figures(np.full(len(asked), cause), asked) for cause in cause_gains(asked)]
        figures["best_constant"] = max(constants, key=lambda f: f["gain_captured"])
        found[name] = {"n_fitted": len(training), "n": len(asked), "methods": figures}
    return found


def verdict_methods() -> dict[str, Fitter]:
    """Baselines, then per evidence set the chosen shape, a tree grown for right answers and one grown for gains."""
    methods: dict[str, Fitter] = {"hyperparameter": hyperparameter_verdict, "validation": validation_verdict}
    for evidence in EVIDENCE:
        methods[f"travelling/{evidence}"] = _travelling(evidence)
        methods[f"grown/{evidence}"] = _grown(evidence, for_gains=False)
        methods[f"policy/{evidence}"] = _grown(evidence, for_gains=True)
    return methods


def hyperparameter_verdict(training: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """A CART tree of depth 6 on width, amount of data and batch size."""
    tree = DecisionTreeClassifier(max_depth=HYPERPARAMETER_DEPTH, random_state=0)
    tree.fit(training[list(HYPERPARAMETERS)].to_numpy(float), largest_cause(training))
    return np.asarray(tree.predict(asked[list(HYPERPARAMETERS)].to_numpy(float))).astype(str)


def validation_verdict(training: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """A balanced readable tree on training and test error and loss."""
    tree = MDTree(class_weight="balanced", starts=STARTS).fit(training[list(VALIDATION)], largest_cause(training))
    return np.asarray(tree.predict(asked[list(VALIDATION)])).astype(str)


def _travelling(evidence: str) -> Fitter:
    shape = chosen_shapes()[f"verdict_{evidence}"]

    def fit(training: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
        return tree_answers(fit_shape(shape, training, largest_cause(training)).tree_, asked)

    return fit


def _grown(evidence: str, *, for_gains: bool) -> Fitter:
    def fit(training: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
        metrics = [m for m in evidence_metrics(evidence) if m in training and training[m].notna().all()]
        if for_gains:
            training = beside_label_noise(training)
        labels = largest_cause(training)
        gains: Mapping[str, np.ndarray] | None = None
        if for_gains:
            gains = {cause: values for cause, values in cause_gains(training).items() if cause in set(labels)}
        least = LEAST_ROWS * (2 if for_gains else 1)  # every row stands twice
        tree = MDTree(class_weight=None if for_gains else "balanced", min_samples_leaf=least, starts=STARTS)
        return np.asarray(tree.fit(training[metrics], labels, gains=gains).predict(asked[metrics])).astype(str)

    return fit


def verdict_figures(predicted: np.ndarray, asked: pd.DataFrame) -> dict[str, float]:
    """Gain captured, regret in points, share of right answers and their mean over the causes."""
    scores = score(largest_cause(asked), predicted, dict(cause_gains(asked)))
    return {
        "gain_captured": scores.gain_captured,
        "regret_points": scores.regret_points,
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
    }
