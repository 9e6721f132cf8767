"""What each change of the training is expected to bring, beside the room there is; and how probable each cause is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from mdtree.advice import Advice
from mdtree.diagnosis import Diagnosis
from mdtree.plots.style import HATCHES, colour, ink, new_axes, signed, words


@dataclass(frozen=True)
class Gain:
    """One change of the training.

    Attributes
    ----------
    failure : str
        The cause it cures.
    change : str
        What to change: "learning rate 0.0015 → 0.015", or "width × 4" where the recipe does not tell the value.
    gain_points, error : float
        Expected gain in points of test accuracy, and its standard error.
    room_points : float or None
        Mean room for improvement in this direction in the zoo.
    probability : float
    """

    failure: str
    change: str
    gain_points: float
    error: float
    room_points: float | None
    probability: float


def gains_data(diagnosis: Diagnosis) -> tuple[Gain, ...]:
    """The four changes in the order of the ranking; those without an expected gain are left out."""
    return tuple(
        Gain(
            failure=c.failure,
            change=_change(c.advice) if c.advice else "",
            gain_points=c.expected_gain_points,
            error=c.expected_gain_standard_error or 0.0,
            room_points=c.room_points,
            probability=c.probability,
        )
        for c in diagnosis.ranking
        if c.failure != "healthy" and c.expected_gain_points is not None
    )


def _change(advice: Advice) -> str:
    name = {"train_size": "training samples"}.get(advice.parameter, words(advice.parameter))
    if advice.from_value is not None and advice.to_value is not None:
        return f"{name} {advice.from_value:g} → {advice.to_value:g}"
    return f"{name} × {advice.step:.3g}"


def draw_gains(data: Sequence[Gain], ax: Axes | None = None) -> Axes:
    """Draw a bar for every change: filled the expected gain with 95 % error bars, in outline the room there is.

    A bar to the left says that the change is expected to harm.
    """
    if ax is None:
        ax = new_axes(6.0, 0.9 + 0.62 * max(1, len(data)))
    tone = ink()
    for row, gain in enumerate(data):
        face = colour(gain.failure)
        if gain.room_points is not None:
            ax.barh(row, gain.room_points, 0.66, fc="none", ec=tone.faint, lw=1.0, ls=(0, (3, 2)), zorder=2)
        ax.barh(
            row, gain.gain_points, 0.42, fc=face, ec=tone.ground, hatch=HATCHES[gain.failure], lw=0, zorder=3,
            xerr=1.96 * gain.error, error_kw={"ecolor": tone.text, "elinewidth": 1.3, "capsize": 3, "zorder": 5},
        )  # fmt: skip
    ax.axvline(0.0, color=tone.text, lw=1.0, zorder=4)
    low = min([0.0, *(g.gain_points - 1.96 * g.error for g in data)])
    high = max([0.0, *(max(g.gain_points + 1.96 * g.error, g.room_points or 0.0) for g in data)])
    span = max(high - low, 1.0)
    for row, gain in enumerate(data):
        end = max(gain.gain_points + 1.96 * gain.error, gain.room_points or 0.0, 0.0)
        ax.text(end + 0.02 * span, row, f"{signed(gain.gain_points)} ± {gain.error:.1f}", va="center", fontsize=8.5,
                zorder=6)  # fmt: skip
    ax.set_xlim(low - 0.04 * span, high + 0.2 * span)
    ax.set_ylim(max(1, len(data)) - 0.45, -0.55)
    ax.set_yticks(range(len(data)), [f"{words(g.failure)}, {g.probability:.0%}\n{g.change}" for g in data])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("points of test accuracy")
    ax.grid(axis="x", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    handles = [
        Patch(fc=tone.faint, ec="none", label="expected gain (bar: 95 %)"),
        Patch(fc="none", ec=tone.faint, ls=(0, (3, 2)), label="room in the zoo"),
    ]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    return ax


def ranking_data(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    """Causes and their probabilities, most probable first."""
    return [(c.failure, c.probability) for c in diagnosis.ranking]


def draw_ranking(data: Sequence[tuple[str, float]], ax: Axes | None = None) -> Axes:
    """Draw the ranking as bars."""
    if ax is None:
        ax = new_axes(5.0, 0.5 + 0.36 * len(data))
    tone = ink()
    for row, (failure, share) in enumerate(data):
        ax.barh(row, share, 0.7, fc=colour(failure), ec=tone.ground, hatch=HATCHES[failure], lw=0)
        ax.text(share + 0.01, row, f"{share:.0%}", va="center", fontsize=8.5)
    ax.set_yticks(range(len(data)), [words(failure) for failure, _ in data])
    ax.set_ylim(len(data) - 0.4, -0.6)
    ax.set_xlim(0, 1.08)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100"])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("probability (%)")
    return ax
