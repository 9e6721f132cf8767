"""Trees for checkpoints of one task taken together: they ask where in the set a network stands, not how large it is.

In place of a metric stands its *position*: the share of the set's networks that lie below, ties halved, in (0, 1).
Whatever multiplies or shifts a metric of all networks of a task alike, so that thresholds learned on other tasks miss,
leaves positions as they are. What positions cannot tell is whether a set spans the causes at all: ten good networks
have a hottest one too. So each tree is asked only where the metrics it asks for spread, within the set, over a good
part of what the zoo holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdtree.composition import MODEL_OR_DATA
from mdtree.errors import InputError
from mdtree.nodes import Node, splits
from mdtree.tree_json import from_dict as tree_from_dict
from mdtree.tree_json import to_dict as tree_to_dict
from mdtree.zoo import EVIDENCE, size_free_metrics

SMALLEST_SET = 8
"""Networks from which on positions are taken."""

SET_QUESTIONS = ("temperature", "model_size", "data", MODEL_OR_DATA)
"""Questions that a set helps to answer. Whether a network is healthy is not among them: in a set of healthy networks
all positions are taken, too."""

LEAST_SPREAD = 0.45
"""Part of the zoo's networks (mean over the metrics that a tree asks for) that must lie between the tenths of a set."""

SCALE_POINTS = 21
POSITION = "_position"


@dataclass(frozen=True)
class SetTrees:
    """Trees that ask for positions, and the scale by which the spread of a set is judged.

    Attributes
    ----------
    trees : mapping of question to mapping of evidence to Split or Leaf
        They ask for `position_name(metric)`.
    scale : mapping of metric to tuple of float
        Equally spaced quantiles of the zoo's networks, lowest value first.
    """

    trees: Mapping[str, Mapping[str, Node]]
    scale: Mapping[str, tuple[float, ...]]


def position_name(metric: str) -> str:
    """What a tree asks for in place of a metric."""
    return metric + POSITION


def positions(values: np.ndarray) -> np.ndarray:
    """Where each value stands among all, shape (n,): (rank - 1/2) / n, equal values sharing their mean rank.

    NaN (not measured) takes no place and stays NaN.
    """
    from scipy.stats import rankdata  # takes half a second to import, and few diagnose sets

    places = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        places[known] = (rankdata(values[known]) - 0.5) / known.sum()
    return places


def zoo_scale(values: np.ndarray) -> tuple[float, ...]:
    """Equally spaced quantiles of a zoo's values, six digits each; NaN is left out."""
    quantiles = np.nanquantile(values, np.linspace(0.0, 1.0, SCALE_POINTS))
    return tuple(float(f"{value:.6g}") for value in quantiles)


def spread(values: np.ndarray, scale: tuple[float, ...]) -> float:
    """Part of the zoo (0...1) between the lower and the upper tenth of a set's values; 0 without values."""
    known = values[~np.isnan(values)]
    if not known.size:
        return 0.0
    low, high = np.interp(np.quantile(known, (0.1, 0.9)), scale, np.linspace(0.0, 1.0, len(scale)))
    return float(high - low)


def asked_metrics(tree: Node) -> tuple[str, ...]:
    """The metrics whose positions a tree asks for."""
    return tuple(dict.fromkeys(split.feature.removesuffix(POSITION) for split in splits(tree)))


def spreads_enough(tree: Node, values: Mapping[str, np.ndarray], scale: Mapping[str, tuple[float, ...]]) -> bool:
    """Whether a set may be asked: the mean spread of the metrics that the tree asks for is `LEAST_SPREAD` or more.

    Parameters
    ----------
    tree : Split or Leaf
    values : mapping of metric to ndarray, shape (networks,)
    scale : mapping of metric to tuple of float
        As in `SetTrees`.
    """
    metrics = asked_metrics(tree)
    if not metrics:
        return False
    found = [spread(values[name], scale[name]) if name in values else 0.0 for name in metrics]
    return sum(found) / len(found) >= LEAST_SPREAD


def set_trees_to_dict(set_trees: SetTrees) -> dict[str, Any]:
    """The JSON form."""
    return {
        "scale": {name: list(points) for name, points in set_trees.scale.items()},
        "trees": {
            question: {evidence: tree_to_dict(tree) for evidence, tree in by_evidence.items()}
            for question, by_evidence in set_trees.trees.items()
        },
    }


def set_trees_from_dict(values: Any) -> SetTrees:
    """Check and rebuild what `set_trees_to_dict` wrote.

    Raises
    ------
    InputError
        A name is unknown, a scale is no rising row of finite numbers, a tree is broken or asks for what has no scale.
    """
    if not isinstance(values, Mapping) or set(values) != {"scale", "trees"}:
        raise InputError("set trees of another form", "a scale and trees")
    scale = {str(name): _scale(name, points) for name, points in values["scale"].items()}
    trees: dict[str, dict[str, Node]] = {}
    for question, by_evidence in values["trees"].items():
        if question not in SET_QUESTIONS:
            raise InputError(f"a set tree for {question!r}", f"one of {', '.join(SET_QUESTIONS)}")
        for evidence, tree in by_evidence.items():
            if evidence not in EVIDENCE:
                raise InputError(f"a set tree for evidence {evidence!r}", f"one of {', '.join(EVIDENCE)}")
            trees.setdefault(question, {})[evidence] = _tree(tree, evidence, scale)
    return SetTrees(trees, scale)


def _tree(values: Any, evidence: str, scale: Mapping[str, tuple[float, ...]]) -> Node:
    tree = tree_from_dict(values)
    for split in splits(tree):
        metric = split.feature.removesuffix(POSITION)
        if not split.feature.endswith(POSITION) or metric not in scale or metric not in size_free_metrics(evidence):
            raise InputError(f"a set tree that asks for {split.feature!r}", "the position of a metric that has a scale")
    return tree


def _scale(name: Any, points: Any) -> tuple[float, ...]:
    numbers = isinstance(points, list) and all(
        isinstance(point, int | float) and not isinstance(point, bool) and math.isfinite(point) for point in points
    )
    if not numbers or len(points) < 2 or any(b < a for a, b in itertools.pairwise(points)):
        raise InputError(f"the scale of {name!r} is {points!r}"[:120], "two or more finite numbers, lowest first")
    return tuple(float(point) for point in points)
