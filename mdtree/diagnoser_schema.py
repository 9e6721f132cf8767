"""What a diagnoser is made of, and its JSON form, checked on the way in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdtree.composition import ANSWERS, COMPONENTS, ONE_HALF, READINGS, is_composed, question_of
from mdtree.errors import InputError
from mdtree.nodes import Node, leaves, splits
from mdtree.record import RECORD_METRICS
from mdtree.set_trees import SetTrees, set_trees_from_dict, set_trees_to_dict
from mdtree.tree_json import from_dict as tree_from_dict
from mdtree.tree_json import to_dict as tree_to_dict
from mdtree.zoo import DIRECTIONS, EVIDENCE, FAILURES, QUESTIONS
from mdtree.zoo_reference import ZooReference

SCHEMA_VERSION = 1
TREE_QUESTIONS = tuple(dict.fromkeys((*QUESTIONS, *COMPONENTS, *READINGS)))
"""Questions a diagnoser may hold trees for: those of a zoo's labels, and those a composed verdict asks besides."""


@dataclass(frozen=True)
class StepGain:
    """What changing one axis by a factor truly brought the zoo's networks of a leaf.

    Attributes
    ----------
    factor : float
        Above 1; a lower temperature divides by it. Chosen to gain most on average, on other cells than it is scored on.
    gain_points, standard_error : float
        Mean change of test accuracy in points, over cells, and its standard error; 0 ± 0 without a cell to tell.
    gain_share, gain_share_standard_error : float
        The same as a share of the test error.
    cells : int
        Cells it is the mean of.
    """

    factor: float
    gain_points: float
    standard_error: float
    gain_share: float
    gain_share_standard_error: float
    cells: int


@dataclass(frozen=True)
class LeafStatistics:
    """What the zoo knows of the networks that end in a leaf, cross-fitted by cell, or by family in a composed verdict.

    Attributes
    ----------
    counts : mapping of failure to float
        Networks whose true answer it was.
    probability : mapping of failure to float
        Sums to 1; every cause counts as equally frequent in the zoo, in a composed verdict as the square root of its
        frequency.
    room_points : mapping of direction to float
        Mean RFI.
    steps : mapping of direction to StepGain
    """

    counts: Mapping[str, float]
    probability: Mapping[str, float]
    room_points: Mapping[str, float]
    steps: Mapping[str, StepGain]


@dataclass(frozen=True)
class QuestionTree:
    """A tree for one question and evidence set; `leaves[i]` belongs to the leaf with index i (verdict trees only)."""

    tree: Node
    leaves: tuple[LeafStatistics, ...] = ()


@dataclass(frozen=True)
class NotTrainingGate:
    """When a network counts as not training, and which side of the gradient means too hot.

    Attributes
    ----------
    error_over_chance : float
        Train error over chance from which on it applies.
    gradient_threshold : float or None
        `gradient_norm_squared_per_parameter` at or below it: thrown out by a temperature too high; above it: never
        left the start. None where the zoo cannot tell.
    """

    error_over_chance: float
    gradient_threshold: float | None


@dataclass(frozen=True)
class Diagnoser:
    """Fitted trees with their leaf statistics.

    Attributes
    ----------
    name : str
    zoo : dict
        `families`, `data_sets`, `protocols`, `rows`, `cells`: what it was fitted on; `not_told`, where there are
        any: causes that no network of it could show, since the zoo has no such axis.
    trees : dict of question to dict of evidence to QuestionTree
    ranges : dict of metric to (low, high)
        1st and 99th percentile of the fitted rows.
    not_training : NotTrainingGate
    reference : ZooReference, optional
        Networks of the zoo by which distances from it are told.
    set_trees : SetTrees, optional
        Trees on positions within a set of checkpoints of one task (`mdtree.checkpoint_set`).
    """

    name: str
    zoo: Mapping[str, Any]
    trees: Mapping[str, Mapping[str, QuestionTree]]
    ranges: Mapping[str, tuple[float, float]]
    not_training: NotTrainingGate
    reference: ZooReference | None = None
    set_trees: SetTrees | None = None

    def nodes(self, evidence: str) -> dict[str, Node]:
        """The trees of an evidence set by question."""
        return {
            question: by_evidence[evidence].tree
            for question, by_evidence in self.trees.items()
            if evidence in by_evidence
        }

    def tree(self, question: str, evidence: str) -> QuestionTree:
        """The tree of a question for an evidence set.

        Raises
        ------
        InputError
            There is none.
        """
        try:
            return self.trees[question][evidence]
        except KeyError:
            raise InputError(
                f"the diagnoser {self.name} has no tree for question {question!r} with evidence {evidence!r}"
            ) from None


def diagnoser_to_dict(diagnoser: Diagnoser) -> dict[str, Any]:
    """The JSON form."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": diagnoser.name,
        "zoo": dict(diagnoser.zoo),
        "not_training": vars(diagnoser.not_training),
        "ranges": {name: list(pair) for name, pair in diagnoser.ranges.items()},
        "trees": {
            question: {
                evidence: {"tree": tree_to_dict(q.tree), "leaves": [_leaf_to_dict(leaf) for leaf in q.leaves]}
                for evidence, q in by_evidence.items()
            }
            for question, by_evidence in diagnoser.trees.items()
        },
        **({"set_trees": set_trees_to_dict(diagnoser.set_trees)} if diagnoser.set_trees else {}),
        **({"reference": diagnoser.reference.to_dict()} if diagnoser.reference else {}),
    }


def _leaf_to_dict(leaf: LeafStatistics) -> dict[str, Any]:
    return {
        "counts": dict(leaf.counts),
        "probability": dict(leaf.probability),
        "room_points": dict(leaf.room_points),
        "steps": {direction: vars(step) for direction, step in leaf.steps.items()},
    }


def diagnoser_from_dict(values: Any, source: str) -> Diagnoser:
    """Check and rebuild a diagnoser.

    Raises
    ------
    InputError
        Another schema version, an unknown metric or question, a tree deeper than a readable one may be, numbers that
        are not finite, or leaves that do not match the tree.
    """
    if not isinstance(values, dict) or "trees" not in values:
        raise InputError(f"{source} is not a diagnoser", "the JSON that `mdtree train` writes")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{source} has schema version {values.get('schema_version')!r}",
            f"version {SCHEMA_VERSION}",
            "fit it again with `mdtree train`",
        )
    try:
        return _whole(
            Diagnoser(
                name=str(values["name"]),
                zoo=_zoo(values["zoo"]),
                trees={
                    _known(question, TREE_QUESTIONS): {
                        _known(evidence, EVIDENCE): _question_tree(question, q) for evidence, q in by_evidence.items()
                    }
                    for question, by_evidence in values["trees"].items()
                },
                ranges={
                    _known(name, RECORD_METRICS): (_finite(pair[0]), _finite(pair[1]))
                    for name, pair in values["ranges"].items()
                },
                not_training=_gate(values["not_training"]),
                set_trees=set_trees_from_dict(values["set_trees"]) if "set_trees" in values else None,
                reference=ZooReference.from_dict(values["reference"], source) if "reference" in values else None,
            )
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{source} is not a valid diagnoser ({type(error).__name__}: {error})") from error


def _whole(diagnoser: Diagnoser) -> Diagnoser:
    """A composed verdict needs the trees of the questions it asks."""
    for evidence, question in diagnoser.trees.get("verdict", {}).items():
        if is_composed(question.tree):
            for split in splits(question.tree):
                if split.feature not in ANSWERS or split.threshold != ONE_HALF:
                    raise InputError(
                        f"a composed verdict that asks {split.feature} <= {split.threshold}",
                        "questions alone, whose answers are yes (1) or no (0), cut at 0.5",
                    )
                diagnoser.tree(question_of(split.feature), evidence)
    return diagnoser


def _zoo(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "families": [str(v) for v in values["families"]],
        "data_sets": [str(v) for v in values["data_sets"]],
        "protocols": [str(v) for v in values["protocols"]],
        "rows": int(values["rows"]),
        "cells": int(values["cells"]),
        **({"not_told": [_known(str(v), FAILURES) for v in values["not_told"]]} if "not_told" in values else {}),
    }


def _gate(values: Mapping[str, Any]) -> NotTrainingGate:
    threshold = values["gradient_threshold"]
    return NotTrainingGate(_finite(values["error_over_chance"]), None if threshold is None else _finite(threshold))


def _question_tree(question: str, values: Mapping[str, Any]) -> QuestionTree:
    tree = tree_from_dict(values["tree"])
    for split in splits(tree):
        _known(split.feature, (*RECORD_METRICS, *ANSWERS) if question == "verdict" else RECORD_METRICS)
    statistics = tuple(_leaf(leaf) for leaf in values["leaves"])
    if question == "verdict" and len(statistics) != len(leaves(tree)):
        raise InputError(f"{len(statistics)} leaf records for {len(leaves(tree))} leaves", "one for each")
    return QuestionTree(tree, statistics)


def _leaf(values: Mapping[str, Any]) -> LeafStatistics:
    leaf = LeafStatistics(
        counts={f: _finite(values["counts"][f]) for f in FAILURES},
        probability={f: _finite(values["probability"][f]) for f in FAILURES},
        room_points={d: _finite(values["room_points"][d]) for d in DIRECTIONS},
        steps={d: _step(values["steps"][d]) for d in DIRECTIONS},
    )
    if min(leaf.probability.values()) < 0 or abs(sum(leaf.probability.values()) - 1) > 1e-6:
        raise InputError(f"leaf probabilities {leaf.probability}", "shares that sum to 1")
    return leaf


def _step(values: Mapping[str, Any]) -> StepGain:
    step = StepGain(
        factor=_finite(values["factor"]),
        gain_points=_finite(values["gain_points"]),
        standard_error=_finite(values["standard_error"]),
        gain_share=_finite(values["gain_share"]),
        gain_share_standard_error=_finite(values["gain_share_standard_error"]),
        cells=int(values["cells"]),
    )
    if step.factor <= 1:
        raise InputError(f"step factor {step.factor}", "a factor above 1")
    return step


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise InputError(f"unknown name {name!r}", f"one of {', '.join(names)}")
    return name


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{value!r} where a finite number belongs")
    return float(value)


__all__ = [
    "Diagnoser",
    "LeafStatistics",
    "NotTrainingGate",
    "QuestionTree",
    "StepGain",
    "diagnoser_from_dict",
    "diagnoser_to_dict",
]
