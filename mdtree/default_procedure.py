"""How the package fits a chosen shape to the rows at hand: one procedure for every question and amount of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mdtree.label_noise import beside_label_noise
from mdtree.shapes import Shape
from mdtree.threshold_posterior import SHARPNESS
from mdtree.tree import MDTree


def fit_shape(shape: Shape, rows: pd.DataFrame, labels: np.ndarray) -> MDTree:
    """Thresholds of a shape as medians of a tempered posterior (`mdtree.threshold_posterior`).

    Labels are weighted to count alike. Every row stands for itself and for what label noise would make of it
    (`mdtree.label_noise`, for ten classes), half each.

    Parameters
    ----------
    shape : Shape
        With a prior for every threshold.
    rows : DataFrame
        Holds the shape's metrics, and `train_error_percent` beside those that label noise changes.
    labels : ndarray of str

    Returns
    -------
    MDTree
        Fitted on the shape's metrics.
    """
    both = beside_label_noise(rows)
    tree = MDTree(shape=shape, sharpness=SHARPNESS, class_weight="balanced")
    return tree.fit(both[list(shape.features())], np.tile(labels, 2), sample_weight=np.full(len(both), 0.5))


def fitted_thresholds(shape: Shape, tree: MDTree) -> list[dict[str, Any]]:
    """Every question of a tree that `fit_shape` gave: `feature`, `threshold`, 90 % `interval`, `identified`.

    Where the rows did not narrow the prior, `identified` is false: the threshold is then what was believed beforehand.
    """
    return [
        {
            "feature": split.feature,
            "threshold": tree.thresholds_[split.name],
            "interval": list(tree.threshold_intervals_[split.name]),
            "identified": tree.identified_[split.name],
        }
        for split in shape.splits()
    ]
