"""Trees whose questions and answers are fixed and whose thresholds are fitted: the shapes of the MD tree paper.

The paper (Zhou et al., "MD tree: a model-diagnostic tree grown on loss landscape", 2024) writes its trees over the
*negated* largest error on the mode-connecting curve, x2 = -peak, and asks "x2 <= t1". Here the peak is stored with its
natural sign, so the same question reads "peak >= -t1": its "yes" branch is our *right* branch, and a peak that equals
the threshold belongs to it. A `ShapeSplit` with `closed="right"` says so, and `Shape.tree` lowers the threshold of such
a split by one unit in the last place, which makes "<= goes left" decide every number as the paper does. The paper's
third metric is the natural logarithm of the Hessian trace; here the trace itself is compared with exp(threshold).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdtree.errors import InputError
from mdtree.nodes import Leaf, Node, Split, numbered
from mdtree.priors import GaussianPrior

TEMPERATURE = "temperature"
"""Answer of the model-size and data shapes where the other resource is the temperature (the paper's "optimizer")."""

_TOO_LOW = "temperature_too_low"
_TOO_HIGH = "temperature_too_high"
_SMALL_MODEL = "model_too_small"
_LITTLE_DATA = "too_little_data"


@dataclass(frozen=True)
class ShapeSplit:
    """A question whose threshold is open.

    Attributes
    ----------
    name : str
        Name of the threshold, unique within the shape.
    feature : str
        The metric.
    left, right : ShapeSplit or str
        Branches; a text is the label of a leaf.
    start : float
        The threshold before any fitting.
    low, high : float
        Bounds of the threshold (infinite: none).
    closed : {"left", "right"}
        The side that a value equal to a *given* threshold takes. Fitted thresholds lie between training values.
    prior : GaussianPrior, optional
        What is believed of the threshold before any rows are seen (`mdtree.threshold_posterior`).
    """

    name: str
    feature: str
    left: ShapeSplit | str
    right: ShapeSplit | str
    start: float
    low: float = -math.inf
    high: float = math.inf
    closed: Literal["left", "right"] = "left"
    prior: GaussianPrior | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.low <= self.start <= self.high):
            raise InputError(
                f"threshold {self.name}: start {self.start} with bounds {self.low} and {self.high}",
                "a finite start between the bounds",
            )


@dataclass(frozen=True)
class Shape:
    """A tree without its thresholds.

    Attributes
    ----------
    name : str
        What the shape is called.
    root : ShapeSplit
        The first question.
    """

    name: str
    root: ShapeSplit

    def __post_init__(self) -> None:
        names = [split.name for split in self.splits()]
        if len(set(names)) != len(names):
            raise InputError(f"shape {self.name}: threshold names {names}", "names that differ")

    def splits(self) -> tuple[ShapeSplit, ...]:
        """All questions, a question before its branches and the left branch before the right."""
        return _splits(self.root)

    def features(self) -> tuple[str, ...]:
        """The metrics asked for, each once, in the order of the questions."""
        return tuple(dict.fromkeys(split.feature for split in self.splits()))

    def labels(self) -> tuple[str, ...]:
        """The answers, sorted."""
        return tuple(sorted({child for s in self.splits() for child in (s.left, s.right) if isinstance(child, str)}))

    def depth(self) -> int:
        """Number of questions on the longest way to an answer."""
        return shape_depth(self.root)

    def tree(self, thresholds: Mapping[str, float] | None = None) -> Node:
        """The tree at given thresholds, without training rows (no counts, every `share_left` 0.5).

        Parameters
        ----------
        thresholds : mapping of str to float, optional
            Threshold name -> value in the metric's unit; the start value where a name is left out.

        Raises
        ------
        InputError
            A name is unknown or a value is not finite.
        """
        given = dict(thresholds or {})
        unknown = set(given) - {split.name for split in self.splits()}
        if unknown:
            known = ", ".join(split.name for split in self.splits())
            raise InputError(f"shape {self.name} has no threshold {', '.join(sorted(unknown))}", f"some of {known}")
        for name, value in given.items():
            if not math.isfinite(value):
                raise InputError(f"threshold {name} is {value}", "a finite number")
        cuts = {}
        for split in self.splits():
            value = float(given.get(split.name, split.start))
            cuts[split.name] = value if split.closed == "left" else float(np.nextafter(value, -math.inf))
        return self.tree_at(cuts)

    def tree_at(self, cuts: Mapping[str, float]) -> Node:
        """The tree whose splits carry exactly these thresholds, "<= goes left" whatever side is closed."""
        return numbered(_tree(self.root, cuts))

    def without_bounds(self) -> Shape:
        """The same shape with every threshold free."""
        return Shape(self.name, _unbounded(self.root))

    def relabelled(self, labels: Mapping[str, str]) -> Shape:
        """The same shape with answers renamed; what `labels` does not name keeps its name."""
        return Shape(self.name, _relabelled(self.root, labels))


def shape_depth(node: ShapeSplit | str) -> int:
    """Number of questions on the longest way to an answer below (and with) this node."""
    return 0 if isinstance(node, str) else 1 + max(shape_depth(node.left), shape_depth(node.right))


def _splits(node: ShapeSplit | str) -> tuple[ShapeSplit, ...]:
    return () if isinstance(node, str) else (node, *_splits(node.left), *_splits(node.right))


def _tree(node: ShapeSplit | str, cuts: Mapping[str, float]) -> Node:
    if isinstance(node, str):
        return Leaf(node)
    return Split(node.feature, float(cuts[node.name]), _tree(node.left, cuts), _tree(node.right, cuts))


def _unbounded(node: ShapeSplit) -> ShapeSplit:
    left, right = (child if isinstance(child, str) else _unbounded(child) for child in (node.left, node.right))
    return dataclasses.replace(node, left=left, right=right, low=-math.inf, high=math.inf)


def _relabelled(node: ShapeSplit, labels: Mapping[str, str]) -> ShapeSplit:
    left, right = (
        labels.get(child, child) if isinstance(child, str) else _relabelled(child, labels)
        for child in (node.left, node.right)
    )
    return dataclasses.replace(node, left=left, right=right)


def _error(left: ShapeSplit | str, right: ShapeSplit | str) -> ShapeSplit:
    return ShapeSplit("t0", "train_error_percent", left, right, start=0.5, low=0.0, high=1.0)


def _peak(name: str, left: ShapeSplit | str, right: ShapeSplit | str) -> ShapeSplit:
    return ShapeSplit(name, "connectivity_peak_percent", left, right, start=10.0, low=0.0, high=30.0, closed="right")


def _trace(name: str, left: str, right: str) -> ShapeSplit:
    start, low, high = math.exp(7), math.exp(4), math.exp(9)
    return ShapeSplit(name, "hessian_trace", left, right, start=start, low=low, high=high)


def _cka(name: str, left: str, right: str) -> ShapeSplit:
    return ShapeSplit(name, "cka", left, right, start=0.5, low=0.2, high=0.8)


SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("temperature", _error(_TOO_LOW, _peak("t1", _TOO_HIGH, _trace("t2", _TOO_HIGH, _TOO_LOW)))),
        Shape("temperature_cka", _error(_TOO_LOW, _peak("t1", _TOO_HIGH, _cka("t2", _TOO_LOW, _TOO_HIGH)))),
        Shape("model_size", _error(_peak("t1", TEMPERATURE, _SMALL_MODEL), _peak("t2", TEMPERATURE, _SMALL_MODEL))),
        Shape(
            "data",
            _error(
                _peak("t1", _trace("t2", _LITTLE_DATA, TEMPERATURE), _trace("t4", _LITTLE_DATA, TEMPERATURE)),
                _peak("t3", _trace("t5", _LITTLE_DATA, TEMPERATURE), TEMPERATURE),
            ),
        ),
    )
}
"""The paper's four trees by name, with its start values and bounds in our units; "t0" ... are its threshold indices."""
