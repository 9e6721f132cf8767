"""Between a network and its sibling: the error along the trained curve and along the straight line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mdtree.errors import InputError
from mdtree.plots.series import damaged, numbers, series_of
from mdtree.plots.style import ink, line_colour, new_axes, signed
from mdtree.record import Record

BARRIER_T = (0.25, 0.5, 0.75)
"""Where the barrier of a curve is read off."""


@dataclass(frozen=True)
class CurveProfile:
    """Train error (percent) at points of two paths from the network (t = 0) to its sibling (t = 1).

    Attributes
    ----------
    curve_t, curve_error_percent, linear_t, linear_error_percent : numpy.ndarray
    peak_t, peak_percent : float or None
        Where of t = 1/4, 1/2, 3/4 the trained curve is highest; None where it has no such points.
    ends_percent : float
        Mean error of the two ends: what the barrier is counted from.
    """

    curve_t: np.ndarray
    curve_error_percent: np.ndarray
    linear_t: np.ndarray
    linear_error_percent: np.ndarray
    peak_t: float | None
    peak_percent: float | None
    ends_percent: float

    @property
    def barrier_percent(self) -> float | None:
        """The peak less the mean of the ends, as `connectivity_barrier_percent`."""
        return None if self.peak_percent is None else self.peak_percent - self.ends_percent


@damaged("curve")
def curve_data(record: Record) -> CurveProfile:
    """The two paths of a record.

    Raises
    ------
    InputError
        The record was measured without a sibling, or its series are damaged.
    """
    curve = series_of(record, "curve", "one measured with --sibling")
    line = series_of(record, "linear_path", "one measured with --sibling")
    t, error = numbers(curve, "t"), numbers(curve, "error_percent")
    linear_t, linear_error = numbers(line, "t"), numbers(line, "error_percent")
    if not len(t) == len(error) > 1 or not len(linear_t) == len(linear_error) > 1:
        raise InputError("the record's curve is damaged", "an error for every t, two or more")
    inner = [i for i, value in enumerate(t) if value in BARRIER_T]
    peak = max(inner, key=lambda i: float(error[i]), default=None)
    return CurveProfile(
        curve_t=t,
        curve_error_percent=error,
        linear_t=linear_t,
        linear_error_percent=linear_error,
        peak_t=None if peak is None else float(t[peak]),
        peak_percent=None if peak is None else float(error[peak]),
        ends_percent=float(error[0] + error[-1]) / 2,
    )


def draw_curve(data: CurveProfile, ax: Axes | None = None) -> Axes:
    """Draw both paths, with the barrier of the trained one from the mean of its ends to its peak."""
    if ax is None:
        ax = new_axes(5.0, 3.1)
    tone = ink()
    ax.plot(data.linear_t, data.linear_error_percent, "s--", color=tone.faint, ms=4, mfc=tone.ground, lw=1.2,
            label="straight line", zorder=3)  # fmt: skip
    ax.plot(data.curve_t, data.curve_error_percent, "o-", color=line_colour(0), ms=5, lw=1.8, label="trained curve",
            zorder=4)  # fmt: skip
    ax.axhline(data.ends_percent, color=tone.faint, lw=0.8, ls=":", label="mean of the ends", zorder=1)
    if data.peak_t is not None and data.barrier_percent is not None:
        ax.annotate(
            "", (data.peak_t, data.peak_percent or 0.0), (data.peak_t, data.ends_percent),
            arrowprops={"arrowstyle": "->", "color": line_colour(1), "lw": 1.5, "shrinkA": 0, "shrinkB": 3}, zorder=5,
        )  # fmt: skip
    barrier = "" if data.barrier_percent is None else f"barrier {signed(data.barrier_percent)} points"
    ax.set_title(barrier, fontsize=9, fontweight="normal", loc="right")
    ax.set_xlabel("t   (0: this network, 1: its sibling)")
    ax.set_ylabel("train error (%)")
    top = max(float(data.curve_error_percent.max()), float(data.linear_error_percent.max()))
    ax.set_ylim(-0.03 * max(top, 1.0), max(1.0, 1.3 * top))
    ax.set_xlim(-0.03, 1.03)
    ax.grid(axis="y", lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(loc="upper center", ncols=3, columnspacing=1.0, handlelength=1.8)
    return ax
