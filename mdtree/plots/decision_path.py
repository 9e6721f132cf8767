"""The tree that was asked, with the way of one checkpoint through it lit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mdtree.composition import ANSWERS, QUESTION_TEXT, is_composed, question_of, walk_composed
from mdtree.cut_points import format_threshold
from mdtree.diagnoser_schema import Diagnoser, QuestionTree
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.nodes import Leaf, Node, Split, Step
from mdtree.plots.gauge import Gauge, gauge_of
from mdtree.plots.numbers import with_error
from mdtree.plots.style import words


@dataclass(frozen=True)
class DrawnNode:
    """One node of a drawn tree.

    Attributes
    ----------
    x, y : float
        Leaves stand at x = 0, 1, 2 ...; y is minus the depth.
    text : str
        Lines: what is asked and what was measured, or the answer and its share.
    label : str or None
        The answer of a leaf.
    taken : bool
        Whether the walk came by.
    parent : int or None
        Position of the parent in the list.
    side : str
        `left` (yes) or `right` (no) as seen from the parent.
    share : float or None
        Of a leaf of the verdict: the probability of its answer; of a question's: the share of the zoo's networks there
        whose answer it is.
    gauge : Gauge or None
        Of a metric that was compared here: value, error and threshold within the zoo's range.
    """

    x: float
    y: float
    text: str
    label: str | None
    taken: bool
    parent: int | None
    side: str
    share: float | None = None
    gauge: Gauge | None = None


def decision_path_data(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str = "verdict") -> list[DrawnNode]:
    """The tree of a question that was walked, with the nodes the walk came by marked, a parent before its children.

    Of a verdict composed of questions, the tree that asks them; `question` names the tree of one of these
    (`path_questions` lists them).

    Raises
    ------
    InputError
        The diagnoser has no such tree, or the walk never came to it.
    """
    asked = diagnoser.tree(question, diagnosis.diagnoser["evidence"])
    steps = {(s.feature, s.threshold): s for s in _steps(diagnosis, diagnoser, question)}
    if not steps and isinstance(asked.tree, Split):
        raise InputError(f"the question {question} was not asked", "one of the path's")
    drawn: list[DrawnNode] = []
    next_leaf = iter(range(1_000_000))

    def place(node: Node, level: int, taken: bool, parent: int | None, side: str) -> float:
        number = len(drawn)
        bare = DrawnNode(0.0, -float(level), "", None, taken, parent, side)
        drawn.append(bare)
        if isinstance(node, Leaf):
            share = _share(asked, node)
            text = words(node.label) + ("" if share is None else f"\n{share:.0%}")
            drawn[number] = replace(bare, x=float(next(next_leaf)), text=text, label=node.label, share=share)
            return drawn[number].x
        step = steps.get((node.feature, node.threshold)) if taken else None
        sides = {"left": taken, "right": taken} if step is None else {
            name: step.side in (name, "both") for name in ("left", "right")
        }  # fmt: skip
        # "yes" is drawn to the left: at most the threshold, or the positive answer of a question
        order = ("right", "left") if node.feature in ANSWERS else ("left", "right")
        places = [
            place(getattr(node, name), level + 1, taken and sides[name], number, drawn_side)
            for name, drawn_side in zip(order, ("left", "right"), strict=True)
        ]
        gauge = gauge_of(step, diagnoser) if step is not None and node.feature not in ANSWERS else None
        drawn[number] = replace(bare, x=sum(places) / 2, text=_asks(node, step), gauge=gauge)
        return drawn[number].x

    place(asked.tree, 0, True, None, "")
    return drawn


def path_questions(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The questions a composed verdict came to ask, in order; empty where the verdict has one tree of its own."""
    return tuple(dict.fromkeys(step.question for step in diagnosis.path if step.question))


def _steps(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str) -> Sequence[Step]:
    evidence = diagnosis.diagnoser["evidence"]
    tree = diagnoser.tree("verdict", evidence).tree
    if not is_composed(tree):
        return diagnosis.path
    if question != "verdict":
        return [step for step in diagnosis.path if step.question == question]
    values = {name: metric.value for name, metric in diagnosis.record.metrics.items()}
    return walk_composed(tree, diagnoser.nodes(evidence), values).above


def _share(asked: QuestionTree, leaf: Leaf) -> float | None:
    """Probability of a verdict leaf's answer; in the tree of a question, the answer's share of the zoo's networks."""
    if asked.leaves:
        return asked.leaves[leaf.index].probability[leaf.label]
    total = sum(leaf.counts.values())
    return leaf.counts.get(leaf.label, 0.0) / total if total > 0 else None


def _asks(node: Split, step: Step | None) -> str:
    if node.feature in ANSWERS:
        return QUESTION_TEXT[question_of(node.feature)]
    text = f"{_short(node.feature)}\n≤ {format_threshold(node.threshold)} ?"
    if step is None:
        return text
    if step.value is None or math.isnan(step.value):
        return f"{text}\nnot measured"
    return f"{text}\nhere {with_error(step.value, step.standard_error, step.threshold)}"


def _short(metric: str) -> str:
    """A metric's name on two lines at most, without the unit that the axis would carry."""
    parts = metric.replace("hessian_", "").replace("connectivity_", "").split("_")
    half = (len(parts) + 1) // 2
    return " ".join(parts) if len(parts) < 3 else " ".join(parts[:half]) + "\n" + " ".join(parts[half:])
