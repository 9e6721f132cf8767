"""Readable decision trees: the data they are (`Split`, `Leaf`), the one walk through them, and the estimator.

`MDTree` grows a small tree of its own, or fits the thresholds of a tree whose questions are given: the four of the MD
tree paper by name, or any `Shape`. What comes out, `tree_`, is plain data: every report prints the `Walk` through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from mdtree.cut_points import Midpoint
from mdtree.errors import InputError
from mdtree.growth import Criterion, GrowthRules, TrainingRows, grow
from mdtree.nodes import (
    Leaf,
    Node,
    Split,
    Step,
    Walk,
    depth,
    leaf_weights,
    leaves,
    populated,
    splits,
    text,
    walk,
)
from mdtree.priors import GaussianPrior, LogDensity
from mdtree.refinement import grow_refined
from mdtree.shapes import SHAPES, Shape, ShapeSplit
from mdtree.threshold_posterior import posterior_thresholds, right_answers
from mdtree.threshold_search import ThresholdFit, fit_thresholds
from mdtree.tree_inputs import class_factors, classes_of, gains_by_class, gaussian_priors, sample_weights, shape_of
from mdtree.tree_json import from_dict, to_dict

__all__ = [
    "SHAPES",
    "GaussianPrior",
    "Leaf",
    "MDTree",
    "Node",
    "Shape",
    "ShapeSplit",
    "Split",
    "Step",
    "ThresholdFit",
    "Walk",
    "depth",
    "fit_thresholds",
    "from_dict",
    "leaf_weights",
    "leaves",
    "populated",
    "splits",
    "text",
    "to_dict",
    "walk",
]


class MDTree(ClassifierMixin, BaseEstimator):
    """A decision tree small enough to read, as a scikit-learn classifier.

    Parameters
    ----------
    shape : Shape or str, optional
        Fit only the thresholds of this shape, exactly (a text names one of `SHAPES`, the paper's). Without it the
        tree is grown, best question first.
    max_depth : int
        Most questions on the way to a leaf of a grown tree (at most 16).
    max_leaves : int
        Most leaves of a grown tree.
    min_samples_leaf : int
        Fewest training rows of positive weight on either side of a question of a grown tree, counted without weights
        among the rows that have the metric.
    class_weight : "balanced" or dict of label to float, optional
        Factor on each label's weight while fitting and in `predict_proba`; "balanced" makes all labels weigh the
        same. Leaf counts and `share_left` are free of it.
    feature_names : sequence of str, optional
        Names of the columns of an array X. A DataFrame brings its own; if both are given they must agree.
    prior : mapping of str to LogDensity, optional
        Threshold name -> log-density (`GaussianPrior`), added to the training score of a shape; with `sharpness` in
        place of the shape's own priors.
    sharpness : float, optional
        Fit the thresholds of a shape not by the best training score but as medians of a tempered posterior of this
        sharpness (`mdtree.threshold_posterior`): steadier with few rows.
    midpoint : {"geometric", "arithmetic"}
        Where between two training values a threshold is put; geometric only between positive values.
    criterion : {"gini", "entropy", "worth"}
        Impurity by which a grown tree chooses its questions; with `gains` always "worth", that of the best answers.
    merge_leaves : bool
        Whether neighbouring leaves of a grown tree with the same label become one.
    starts : int
        Grown trees that are refined as a whole (`mdtree.refinement`), the best of which is kept; 0 leaves the greedy
        tree as it is.

    Attributes
    ----------
    tree_ : Split or Leaf
        The tree as data. Its labels are the classes as text, its leaf counts are summed sample weights.
    classes_ : ndarray
        Labels of y, and the answers of the shape; sorted.
    answers_by_leaf_ : bool
        Whether `predict` gives the leaf's answer rather than its most probable label.
    features_ : tuple of str
        The names used in `tree_`: the columns of X, `feature_names`, or x0, x1, ...
    thresholds_ : dict of str to float
        Fitted thresholds by name; empty for a grown tree.
    threshold_intervals_, identified_ : dict
        With `sharpness`: 90 % interval of each threshold, and whether the rows narrowed its prior.
    class_weight_ : ndarray, shape (n_classes,)
        The factors that `class_weight` stands for.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    X may hold NaN (a missing metric) in a grown tree: such a row goes down both branches in proportion to the rows
    that have the metric, in training and in prediction alike. A shape refuses NaN in training, not in prediction.
    """

    def __init__(
        self,
        shape: Shape | str | None = None,
        max_depth: int = 4,
        max_leaves: int = 8,
        min_samples_leaf: int = 5,
        class_weight: str | Mapping[Any, float] | None = None,
        feature_names: Sequence[str] | None = None,
        prior: Mapping[str, LogDensity] | None = None,
        midpoint: Midpoint = "geometric",
        criterion: Criterion = "gini",
        merge_leaves: bool = True,
        starts: int = 0,
        sharpness: float | None = None,
    ) -> None:
        self.shape = shape
        self.max_depth = max_depth
        self.max_leaves = max_leaves
        self.min_samples_leaf = min_samples_leaf
        self.class_weight = class_weight
        self.feature_names = feature_names
        self.prior = prior
        self.midpoint = midpoint
        self.criterion = criterion
        self.merge_leaves = merge_leaves
        self.starts = starts
        self.sharpness = sharpness

    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, gains: Mapping[Any, ArrayLike] | None = None
    ) -> MDTree:
        """Fit the tree.

        Parameters
        ----------
        X : DataFrame or array, shape (n_samples, n_features)
            Finite numbers or NaN. A shape takes the columns it asks for by name and ignores all others.
        y : array, shape (n_samples,)
            Labels.
        sample_weight : array, shape (n_samples,), optional
            Weights >= 0; rows of weight 0 count as absent.
        gains : mapping of label to array, shape (n_samples,), optional
            What each answer is worth to each row, 0 for a label that is not named. A grown tree is then refined for
            the highest weighted sum of gains instead of right answers, and `predict` gives the answer of the leaf
            (a policy tree). Needs `starts` of 1 or more.

        Returns
        -------
        MDTree
            Itself.

        Raises
        ------
        InputError
            A parameter or the names do not fit, weights are negative or all zero.
        """
        shape = shape_of(self.shape)
        if shape is None and (self.prior or self.sharpness is not None):
            raise InputError("a prior without a shape, or a sharpness", "a shape whose thresholds it is about")
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        weight = sample_weights(sample_weight, len(y))
        counted = weight > 0
        X, y, weight = X[counted], y[counted], weight[counted]
        self.features_ = self._names()
        self.classes_, codes = classes_of(y, shape)
        names = tuple(str(name) for name in self.classes_)
        if len(set(names)) < len(names):
            raise InputError(f"the labels {names}", "labels that differ as text")
        self.class_weight_ = class_factors(self.class_weight, self.classes_, codes, weight)
        self.thresholds_: dict[str, float] = {}
        worth = gains_by_class(gains, self.classes_, counted)
        self.answers_by_leaf_ = shape is not None or worth is not None
        if worth is not None and (shape is not None or not self.starts):
            raise InputError("gains for a tree that is not refined", "a grown tree with starts of 1 or more")
        if shape is None:
            criterion = self.criterion if worth is None else "worth"
            rules = GrowthRules(
                self.max_depth, self.max_leaves, self.min_samples_leaf, self.midpoint, criterion, self.merge_leaves
            )
            rows = TrainingRows(X, codes, weight, self.class_weight_, self.features_, names, worth)
            self.tree_ = grow_refined(rows, rules, self.starts) if self.starts else grow(rows, rules)
        else:
            self._fit_shape(shape, X, [names[code] for code in codes], weight * self.class_weight_[codes], weight)
        return self

    def _fit_shape(
        self, shape: Shape, X: np.ndarray, labels: list[str], objective_weight: np.ndarray, weight: np.ndarray
    ) -> None:
        columns = self._columns(X)
        missing = [name for name in shape.features() if name not in columns]
        if missing:
            raise InputError(
                f"X has no column {', '.join(missing)}",
                f"the metrics of shape {shape.name}",
                "pass a DataFrame with these columns, or feature_names",
            )
        if self.sharpness is None:
            fit = fit_thresholds(shape, columns, labels, objective_weight, prior=self.prior, midpoint=self.midpoint)
            self.thresholds_, tree = dict(fit.thresholds), fit.tree
        else:
            worth = right_answers(labels, objective_weight, shape.labels())
            found = posterior_thresholds(
                shape, columns, worth, sharpness=self.sharpness, prior=gaussian_priors(self.prior)
            )
            self.thresholds_, tree = dict(found.thresholds), found.tree
            self.threshold_intervals_, self.identified_ = dict(found.intervals), dict(found.identified)
        self.tree_ = populated(tree, columns, labels, weight)

    def _names(self) -> tuple[str, ...]:
        given = None if self.feature_names is None else tuple(str(name) for name in self.feature_names)
        if given is not None and (len(given) != self.n_features_in_ or len(set(given)) != len(given)):
            raise InputError(f"feature_names {list(given)}", f"{self.n_features_in_} different names, one per column")
        columns = getattr(self, "feature_names_in_", None)
        if columns is None:
            return given or tuple(f"x{number}" for number in range(self.n_features_in_))
        if given is not None and given != tuple(columns):
            raise InputError(f"feature_names {list(given)}", f"the columns of X, {list(columns)}")
        return tuple(str(name) for name in columns)

    def _columns(self, X: np.ndarray) -> dict[str, np.ndarray]:
        return {name: X[:, number] for number, name in enumerate(self.features_)}

    def _reached(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        return leaf_weights(self.tree_, self._columns(X), len(X))

    def apply(self, X: Any) -> np.ndarray:
        """Number of the leaf each row ends in, counted left to right; the one of largest weight if metrics are missing.

        Returns
        -------
        ndarray of int, shape (n_samples,)
        """
        return np.argmax(self._reached(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Label of each row.

        A grown tree gives the label of largest `predict_proba`. A shape or a policy tree (fitted on gains) gives the
        label of the leaf, by summed weight if missing metrics lead to several: its answers hold even where most of
        the training rows there have another label.

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        reached = self._reached(X)
        votes = self._answers() if self.answers_by_leaf_ else self._shares()
        return self.classes_[np.argmax(reached @ votes, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Share of each class among the training rows of the leaf, times `class_weight_`.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            Rows sum to 1. A leaf of a shape that no training row reached gives its own label probability 1.
        """
        return self._reached(X) @ self._shares()

    def _answers(self) -> np.ndarray:
        """One row per leaf, one column per class: 1 where the leaf says the class."""
        names = [str(name) for name in self.classes_]
        return np.array([[float(leaf.label == name) for name in names] for leaf in leaves(self.tree_)])

    def _shares(self) -> np.ndarray:
        """One row per leaf, one column per class: the class's share of the leaf's weighted counts."""
        names = [str(name) for name in self.classes_]
        counts = np.array([[leaf.counts.get(name, 0.0) for name in names] for leaf in leaves(self.tree_)])
        counts = counts * self.class_weight_
        total = counts.sum(axis=1, keepdims=True)
        return np.where(total > 0, counts / np.where(total > 0, total, 1.0), self._answers())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
