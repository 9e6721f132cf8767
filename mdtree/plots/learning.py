"""How the share of right answers grows with what a diagnoser is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mdtree.errors import InputError
from mdtree.learning_curves import AXES, CurvePoint
from mdtree.plots.style import LINE_MARKERS, decades, ink, line_colour, new_axes, plain, words


@dataclass(frozen=True)
class LearningLine:
    """A method: what it was fitted on, its share of right answers and the spread over draws, in percent."""

    method: str
    x: tuple[float, ...]
    percent: tuple[float, ...]
    spread: tuple[float, ...]


@dataclass(frozen=True)
class LearningCurves:
    """All methods over one axis of `mdtree.learning_curves.AXES`."""

    axis: str
    lines: tuple[LearningLine, ...]


def learning_curves_data(points: Sequence[CurvePoint], axis: str = "configurations") -> LearningCurves:
    """The points of one axis, a line per method in the order of the points, sorted by x.

    Raises
    ------
    InputError
        An unknown axis, or one without points.
    """
    own = [point for point in points if point.axis == axis]
    if axis not in AXES or not own:
        raise InputError(f"no points over {axis!r}", f"one of {', '.join(AXES)} that was computed")
    lines = []
    for method in dict.fromkeys(point.method for point in own):
        row = sorted((point for point in own if point.method == method), key=lambda point: point.x)
        lines.append(
            LearningLine(
                method,
                tuple(point.x for point in row),
                tuple(100 * point.accuracy for point in row),
                tuple(100 * point.std for point in row),
            )
        )
    return LearningCurves(axis, tuple(lines))


_X_LABELS = {
    "configurations": "training configurations",
    "data limit": "largest share of the data fitted on (%)",
    "width limit": "largest width fitted on",
}


def draw_learning_curves(data: LearningCurves, ax: Axes | None = None) -> Axes:
    """Draw a line with its own mark for every method, its spread as a band."""
    if ax is None:
        ax = new_axes(5.0, 3.4)
    lowest = 100.0
    for number, line in enumerate(data.lines):
        x, y, spread = np.array(line.x), np.array(line.percent), np.array(line.spread)
        ax.plot(x, y, "-", marker=LINE_MARKERS[number % len(LINE_MARKERS)], ms=4.5, color=line_colour(number), lw=1.4,
                label=plain(words(line.method)), mec=ink().ground, mew=0.4)  # fmt: skip
        ax.fill_between(x, y - spread, y + spread, color=line_colour(number), alpha=0.15, lw=0)
        lowest = min(lowest, float((y - spread).min()))
    if data.axis != "data limit":
        ax.set_xscale("log")
        decades(ax.xaxis)
    ax.set_ylim(10 * np.floor(max(0.0, lowest - 2) / 10), 101)
    ax.set_xlabel(_X_LABELS[data.axis])
    ax.set_ylabel("right (%)")
    ax.grid(axis="y", lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(loc="lower right")
    return ax
