"""How a decision tree is drawn: boxes laid out in points, no Graphviz."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from mdtree.plots.decision_path import DrawnNode
from mdtree.plots.gauge import draw_gauge
from mdtree.plots.style import colour, ink, line_colour, mixed, new_axes, text_on, text_width

_SIZE, _LINE, _PAD = 8.5, 11.5, 6.0
"""Font size, line height and margin of a box, in points."""
_GAUGE, _BETWEEN, _LEVEL = 11.0, 8.0, 30.0
"""Height of a gauge; least gap between boxes; height between levels."""
_LAYOUT = 1.25


@dataclass(frozen=True)
class _Box:
    """A node's box in points: centre, size, lines."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


def draw_decision_path(nodes: Sequence[DrawnNode], ax: Axes | None = None) -> Axes:
    """Draw a tree with the walked path in full ink and the rest faint.

    In every box that was passed stand the question, the measured value with its error, and a scale across the zoo's
    range with the threshold (stroke) and the value (dot, and a bar of 1.96 standard errors). Lit leaves are filled.
    All of it shrinks to fit the panel it is given.
    """
    boxes, (left, right, bottom, top) = _laid_out(nodes)
    scale = 1.0 if ax is None else _scale(ax, right - left, top - bottom)
    if ax is None:
        ax = new_axes((right - left) / 72 + 0.15, (top - bottom) / 72 + 0.15)
    for node, box in zip(nodes, boxes, strict=True):
        if node.parent is not None:
            _edge(ax, node, box, boxes[node.parent], scale)
    for node, box in zip(nodes, boxes, strict=True):
        _draw_box(ax, node, box, scale)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def _scale(ax: Axes, width: float, height: float) -> float:
    """How much smaller than in points the drawing is in a panel that it was given."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes always are in one
    inches, place = figure.get_size_inches(), ax.get_position()
    # a layout engine gives the axes more room than the margins they start with
    return min(1.0, _LAYOUT * inches[0] * 72 * place.width / width, _LAYOUT * inches[1] * 72 * place.height / height)


def _laid_out(nodes: Sequence[DrawnNode]) -> tuple[list[_Box], tuple[float, float, float, float]]:
    lines = [_lines(node) for node in nodes]
    widths = [
        max(text_width(line, _SIZE, bold=_is_bold(node, line)) for line in own) + 2 * _PAD
        for own, node in zip(lines, nodes, strict=True)
    ]
    heights = [
        _LINE * len(own) + 2 * _PAD + (_GAUGE if node.gauge else 0.0) for own, node in zip(lines, nodes, strict=True)
    ]
    unit = _spacing(nodes, widths)
    levels = sorted({node.y for node in nodes}, reverse=True)
    tallest = {level: max(h for h, n in zip(heights, nodes, strict=True) if n.y == level) for level in levels}
    middle, y = {}, 0.0
    for level in levels:
        middle[level] = y - tallest[level] / 2
        y -= tallest[level] + _LEVEL
    boxes = [
        _Box(node.x * unit, middle[node.y], width, height, own)
        for node, width, height, own in zip(nodes, widths, heights, lines, strict=True)
    ]
    left = min(box.x - box.width / 2 for box in boxes) - 4
    right = max(box.x + box.width / 2 for box in boxes) + 4
    return boxes, (left, right, y + _LEVEL - 4, 4.0)


def _lines(node: DrawnNode) -> tuple[str, ...]:
    return tuple((node.text.replace(" too ", "\ntoo ") if node.label else node.text).split("\n"))


def _is_bold(node: DrawnNode, line: str) -> bool:
    return node.taken if node.label else line.startswith("here ")


def _spacing(nodes: Sequence[DrawnNode], widths: Sequence[float]) -> float:
    """Points between neighbouring leaves: as few as keep the boxes of a level apart."""
    unit = 50.0
    for level in {node.y for node in nodes}:
        row = sorted((node.x, width) for node, width in zip(nodes, widths, strict=True) if node.y == level)
        for (x, width), (next_x, next_width) in itertools.pairwise(row):
            unit = max(unit, ((width + next_width) / 2 + _BETWEEN) / (next_x - x))
    return unit


def _edge(ax: Axes, node: DrawnNode, box: _Box, parent: _Box, scale: float) -> None:
    tone = ink()
    start, end = parent.y - parent.height / 2, box.y + box.height / 2
    ax.plot(
        [parent.x, box.x],
        [start, end],
        color=tone.text if node.taken else tone.rule,
        lw=(2.4 if node.taken else 1.1) * scale,
        solid_capstyle="round",
        zorder=1,
    )
    # beside the line, on the side away from its sister
    across, down = box.x - parent.x, end - start
    length = math.hypot(across, down)
    normal = (down / length, -across / length) if node.side == "left" else (-down / length, across / length)
    away = 3 + 9 * abs(normal[0]) + 5 * abs(normal[1])
    ax.text(
        (parent.x + box.x) / 2 + away * normal[0], (start + end) / 2 + away * normal[1],
        "yes" if node.side == "left" else "no", ha="center", va="center", fontsize=8 * scale, zorder=2,
        color=tone.text if node.taken else tone.faint, fontweight="bold" if node.taken else "normal",
    )  # fmt: skip


def _draw_box(ax: Axes, node: DrawnNode, box: _Box, scale: float) -> None:
    tone = ink()
    face, edge, text = tone.panel, tone.text if node.taken else tone.rule, tone.text if node.taken else tone.faint
    if node.label:
        cause = colour(node.label)
        face = cause if node.taken else mixed(cause, tone.ground, 0.1)
        edge, text = (tone.text, text_on(face)) if node.taken else (mixed(cause, tone.ground, 0.6), tone.faint)
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    ax.add_patch(
        FancyBboxPatch(
            corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=5", fc=face, ec=edge,
            lw=(1.8 if node.taken else 0.9) * scale, zorder=3,
        )
    )  # fmt: skip
    y = box.y + box.height / 2 - _PAD - _LINE / 2
    for line in box.lines:
        ax.text(
            box.x, y, line.replace("-", "−"), ha="center", va="center_baseline", color=text, zorder=4,
            fontsize=_SIZE * scale,
            fontweight="bold" if _is_bold(node, line) else "normal",
        )  # fmt: skip
        y -= _LINE
    if node.gauge is not None:
        length = box.width - 4 * _PAD
        draw_gauge(ax, node.gauge, (box.x - length / 2, y + 0.5, length), line_colour(0), scale)
