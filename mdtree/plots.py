"""Drawings with matplotlib. `*_data` computes what is shown and is tested; `draw_*(data, ax=None)` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mdtree.composition import ANSWERS, QUESTION_TEXT, is_composed, probability, question_of, walk_composed
from mdtree.cut_points import format_threshold
from mdtree.diagnoser_schema import Diagnoser, QuestionTree
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.nodes import Leaf, Node, Split, Step, Walk
from mdtree.record import Record

COLOURS = {
    "temperature_too_high": "#c44e52",
    "temperature_too_low": "#4c72b0",
    "model_too_small": "#dd8452",
    "too_little_data": "#8172b3",
    "healthy": "#55a868",
    "undetermined": "#8c8c8c",
}
_TAKEN, _PASSED = "#222222", "#b8b8b8"


@dataclass(frozen=True)
class DrawnNode:
    """One node of a drawn tree.

    Attributes
    ----------
    x, y : float
        Leaves stand at x = 0, 1, 2 ...; y is minus the depth.
    text : str
    label : str or None
        The answer of a leaf.
    taken : bool
        Whether the walk came by.
    parent : int or None
        Position of the parent in the list.
    side : str
        `left` (yes) or `right` (no) as seen from the parent.
    """

    x: float
    y: float
    text: str
    label: str | None
    taken: bool
    parent: int | None
    side: str


def decision_path_data(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str = "verdict") -> list[DrawnNode]:
    """The tree of a question that was walked, with the nodes the walk came by marked, a parent before its children.

    Of a verdict composed of questions, the tree that asks them; `question` names the tree of one of these.

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
        drawn.append(DrawnNode(0.0, -float(level), "", None, taken, parent, side))
        if isinstance(node, Leaf):
            x = float(next(next_leaf))
            text = f"{node.label.replace('_', ' ')}\n{_share(asked, node):.0%}"
            drawn[number] = DrawnNode(x, -float(level), text, node.label, taken, parent, side)
            return x
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
        drawn[number] = DrawnNode(sum(places) / 2, -float(level), _asks(node, step), None, taken, parent, side)
        return drawn[number].x

    place(asked.tree, 0, True, None, "")
    return drawn


def _steps(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str) -> Sequence[Step]:
    evidence = diagnosis.diagnoser["evidence"]
    tree = diagnoser.tree("verdict", evidence).tree
    if not is_composed(tree):
        return diagnosis.path
    if question != "verdict":
        return [step for step in diagnosis.path if step.question == question]
    values = {name: metric.value for name, metric in diagnosis.record.metrics.items()}
    return walk_composed(tree, diagnoser.nodes(evidence), values).above


def _share(asked: QuestionTree, leaf: Leaf) -> float:
    """Probability of a verdict leaf's answer; in the tree of a question, the answer's balanced share."""
    if asked.leaves:
        return asked.leaves[leaf.index].probability[leaf.label]
    return probability(asked.tree, Walk((), ((leaf, 1.0),)), leaf.label)


def _asks(node: Split, step: Step | None) -> str:
    if node.feature in ANSWERS:
        return QUESTION_TEXT[question_of(node.feature)]
    text = f"{_short(node.feature)}\n≤ {format_threshold(node.threshold)} ?"
    if step is not None:
        text += "\nnot measured" if step.value is None else f"\nhere {step.value:.4g}"
    return text


def _short(metric: str) -> str:
    """A metric's name on two lines at most, without the unit that the axis would carry."""
    words = metric.replace("hessian_", "").replace("connectivity_", "").split("_")
    half = (len(words) + 1) // 2
    return " ".join(words) if len(words) < 3 else " ".join(words[:half]) + "\n" + " ".join(words[half:])


def draw_decision_path(nodes: Sequence[DrawnNode], ax: Axes | None = None) -> Axes:
    """Draw a tree with the walked path in full colour and the rest faint. No Graphviz."""
    width = max(node.x for node in nodes) + 1
    height = 1 - min(node.y for node in nodes)
    if ax is None:
        _, ax = plt.subplots(figsize=(1.75 * width + 0.5, 1.5 * height + 0.2), layout="constrained")
    for node in nodes:
        if node.parent is not None:
            parent = nodes[node.parent]
            both = node.taken and parent.taken
            ax.plot(
                [parent.x, node.x],
                [parent.y, node.y],
                color=_TAKEN if both else _PASSED,
                lw=2.5 if both else 1,
                zorder=1,
            )
            ax.text(
                0.55 * node.x + 0.45 * parent.x,
                0.55 * node.y + 0.45 * parent.y,
                "yes" if node.side == "left" else "no",
                ha="center", va="center", fontsize=8, color=_TAKEN if both else "#909090", zorder=2,
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"},
            )  # fmt: skip
    for node in nodes:
        face = COLOURS.get(node.label, "#eeeeee") if node.label else "#f7f4ec"
        ax.text(
            node.x, node.y, node.text.replace(" too ", "\ntoo ") if node.label else node.text,
            ha="center", va="center", fontsize=8.5, zorder=3, linespacing=1.25,
            color="white" if node.label and node.taken else _TAKEN if node.taken else "#707070",
            fontweight="bold" if node.label and node.taken else "normal",
            bbox={"boxstyle": "round,pad=0.4", "fc": face if node.taken or not node.label else _faint(face),
                  "ec": _TAKEN if node.taken else _PASSED, "lw": 1.6 if node.taken else 0.8},
        )  # fmt: skip
    ax.set_xlim(-0.6, width - 0.4)
    ax.set_ylim(-height + 0.5, 0.45)
    ax.axis("off")
    return ax


def _faint(colour: str) -> str:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - 0.25 * (255 - c)):02x}" for c in rgb)


def _series(record: Record, name: str, needs: str) -> Mapping[str, Any]:
    if name not in record.series:
        raise InputError(f"the record holds no {name.replace('_', ' ')}", needs)
    series = record.series[name]
    assert isinstance(series, Mapping)
    return series


def curve_data(record: Record) -> dict[str, np.ndarray]:
    """Train error (percent) along the trained curve and the straight line between the two networks.

    Returns
    -------
    dict
        `curve_t`, `curve_error_percent`, `linear_t`, `linear_error_percent`.

    Raises
    ------
    InputError
        The record was measured without a sibling.
    """
    curve = _series(record, "curve", "one measured with --sibling")
    line = _series(record, "linear_path", "one measured with --sibling")
    return {
        "curve_t": np.array(curve["t"], dtype=float),
        "curve_error_percent": np.array(curve["error_percent"], dtype=float),
        "linear_t": np.array(line["t"], dtype=float),
        "linear_error_percent": np.array(line["error_percent"], dtype=float),
    }


def draw_curve(data: Mapping[str, np.ndarray], ax: Axes | None = None) -> Axes:
    """Draw the two paths between a network (t = 0) and its sibling (t = 1)."""
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    ax.plot(data["linear_t"], data["linear_error_percent"], "o-", color="#b8b8b8", ms=3, label="straight line")
    ax.plot(data["curve_t"], data["curve_error_percent"], "o-", color="#4c72b0", ms=4, label="trained curve")
    ax.set_xlabel("t  (0: this network, 1: its sibling)")
    ax.set_ylabel("train error (%)")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def spectrum_data(record: Record) -> dict[str, np.ndarray]:
    """Density of the Hessian's eigenvalues: `eigenvalues` and `density` (integrates to 1).

    Raises
    ------
    InputError
        The record holds no spectral density.
    """
    density = _series(record, "spectral_density", "one whose Hessian was measured")
    return {name: np.array(density[name], dtype=float) for name in ("eigenvalues", "density")}


def draw_spectrum(data: Mapping[str, np.ndarray], ax: Axes | None = None) -> Axes:
    """Draw the spectral density on a logarithmic scale, five decades of it."""
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    top = float(data["density"].max())
    ax.fill_between(
        data["eigenvalues"], np.maximum(data["density"], 1e-5 * top), 1e-5 * top, color="#4c72b0", alpha=0.35
    )
    ax.plot(data["eigenvalues"], np.maximum(data["density"], 1e-5 * top), color="#4c72b0", lw=1.2)
    ax.set_yscale("log")
    ax.set_ylim(1e-5 * top, 2 * top)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def ranking_data(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    """Causes and their probabilities, most probable first."""
    return [(c.failure, c.probability) for c in diagnosis.ranking]


def draw_ranking(data: Sequence[tuple[str, float]], ax: Axes | None = None) -> Axes:
    """Draw the ranking as bars."""
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
    names = [failure.replace("_", " ") for failure, _ in data]
    ax.barh(names[::-1], [p for _, p in data][::-1], color=[COLOURS[f] for f, _ in data][::-1])
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
