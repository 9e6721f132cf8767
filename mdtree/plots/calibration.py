"""Whether a stated probability is kept: against the share of right answers that was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mdtree.abstention import reliability
from mdtree.errors import InputError
from mdtree.plots.style import ink, line_colour, new_axes

BINS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class CalibrationBin:
    """Answers of about one stated probability: its mean, the share that was right with its 95 % interval, how many."""

    stated: float
    observed: float
    low: float
    high: float
    answers: int


@dataclass(frozen=True)
class Calibration:
    """The bins that hold answers, and the mean distance of stated from observed, every answer counting alike."""

    bins: tuple[CalibrationBin, ...]
    error: float


def calibration_data(
    stated: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray, bins: Sequence[float] = BINS
) -> Calibration:
    """Sort answers by the probability they were given with.

    Parameters
    ----------
    stated : shape (n,)
        Probability, 0...1, with which each answer was given.
    right : shape (n,)
        Whether it was right.
    bins : sequence of float
        Ascending edges; the last bin holds its upper edge.

    Raises
    ------
    InputError
        No answers, of different numbers, or a probability outside the bins.
    """
    shares, hits = np.asarray(stated, dtype=float), np.asarray(right, dtype=bool)
    if shares.shape != hits.shape or shares.ndim != 1 or not len(shares):
        raise InputError(f"{shares.size} probabilities for {hits.size} answers", "one of each, one or more")
    if not ((shares >= bins[0]) & (shares <= bins[-1])).all():
        raise InputError("a stated probability outside the bins", f"{bins[0]:g} to {bins[-1]:g}")
    return calibration_of(reliability(shares, hits, bins))


def calibration_of(table: Sequence[Mapping[str, float]]) -> Calibration:
    """The same of bins already counted (`mdtree.abstention.reliability`), one or more."""
    bins = tuple(
        CalibrationBin(row["probability"], row["observed"], row["low"], row["high"], int(row["n"])) for row in table
    )
    apart = sum(b.answers * abs(b.stated - b.observed) for b in bins) / sum(b.answers for b in bins)
    return Calibration(bins, apart)


def draw_calibration(data: Calibration, ax: Axes | None = None) -> Axes:
    """Draw observed against stated, with intervals and numbers of answers; on the line, the probability is kept."""
    if ax is None:
        ax = new_axes(4.2, 4.0)
    tone = ink()
    stated = 100 * np.array([b.stated for b in data.bins])
    observed, low, high = (
        100 * np.array([getattr(b, name) for b in data.bins]) for name in ("observed", "low", "high")
    )
    ax.plot([0, 100], [0, 100], color=tone.faint, lw=1, ls="--", zorder=1)
    ax.errorbar(stated, observed, yerr=[observed - low, high - observed], fmt="o", color=line_colour(0), capsize=3,
                ms=6, zorder=3)  # fmt: skip
    for b in data.bins:
        ax.annotate(f"{b.answers}", (100 * b.stated, 100 * b.low), textcoords="offset points", xytext=(0, -11),
                    fontsize=7.5, ha="center", color=tone.faint)  # fmt: skip
    edge = max(0.0, min(float(stated.min()) - 6, float(low.min()) - 10))
    ax.set_xlim(edge, 102)
    ax.set_ylim(edge, 102)
    ax.set_aspect("equal")
    ax.set_xlabel("stated probability (%)")
    ax.set_ylabel("right (%)")
    ax.set_title(f"{100 * data.error:.1f} points apart on average", fontsize=9, fontweight="normal", loc="right")
    ax.grid(lw=0.6)
    ax.set_axisbelow(True)
    return ax
