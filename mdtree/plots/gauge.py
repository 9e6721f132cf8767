"""A small scale: where a value and the threshold it was compared with lie within the range of the zoo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mdtree.diagnoser_schema import Diagnoser
from mdtree.nodes import Step
from mdtree.plots.style import ink


@dataclass(frozen=True)
class Gauge:
    """Places on a scale from 0 (1st percentile of the zoo) to 1 (99th); what lies beyond stands at its end.

    Attributes
    ----------
    threshold, value, low, high : float
        `low` and `high` are 1.96 standard errors from the value.
    beyond : bool
        Whether the value lies outside the zoo's range.
    """

    threshold: float
    value: float
    low: float
    high: float
    beyond: bool


def gauge_of(step: Step, diagnoser: Diagnoser) -> Gauge | None:
    """Where a step's value lies; None where nothing was measured or the zoo's range is unknown or a point.

    The scale is the one by which distances from the zoo are told (`mdtree.reference_points.Axis`: logarithmic for
    metrics that span decades), or a plain one where the diagnoser holds no reference for the metric.
    """
    ends = diagnoser.ranges.get(step.feature)
    if step.value is None or ends is None:
        return None
    error = 1.96 * (step.standard_error or 0.0)
    numbers = np.array([*ends, step.threshold, step.value, step.value - error, step.value + error])
    axes = diagnoser.reference.axes if diagnoser.reference else ()
    floor = next((axis.floor for axis in axes if axis.metric == step.feature), None)
    scaled = numbers if floor is None else np.arcsinh(numbers / floor)
    if not scaled[1] > scaled[0]:
        return None
    places = (scaled[2:] - scaled[0]) / (scaled[1] - scaled[0])
    threshold, value, low, high = np.clip(places, 0.0, 1.0).tolist()
    return Gauge(threshold, value, low, high, beyond=not 0.0 <= places[1] <= 1.0)


def draw_gauge(ax: Axes, gauge: Gauge, place: tuple[float, float, float], colour: str, scale: float = 1.0) -> None:
    """Draw a gauge: a rule, a stroke at the threshold, a dot with its error bar (hollow beyond the zoo's range).

    Parameters
    ----------
    ax : Axes
        Whose unit is a point (times `scale`).
    gauge : Gauge
    place : tuple of float
        Left end, height of the rule, length.
    colour : str
        Of the dot.
    scale : float
        Of lines and marks.
    """
    left, y, length = place
    tone = ink()
    ax.plot([left, left + length], [y, y], color=tone.faint, lw=0.9 * scale, solid_capstyle="butt", zorder=4)
    at = left + gauge.threshold * length
    ax.plot([at, at], [y - 4.5, y + 4.5], color=tone.text, lw=1.5 * scale, solid_capstyle="butt", zorder=5)
    ends = [left + gauge.low * length, left + gauge.high * length]
    ax.plot(ends, [y, y], color=colour, lw=3.2 * scale, alpha=0.55, solid_capstyle="butt", zorder=5)
    face = tone.ground if gauge.beyond else colour
    ax.plot([left + gauge.value * length], [y], "o", ms=5 * scale, mfc=face, mec=colour, mew=1.2 * scale, zorder=6)
