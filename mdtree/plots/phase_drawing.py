"""How the plane of temperature and load is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.ndimage import distance_transform_edt

from mdtree.plots.phase_diagram import ACROSS, HIGHEST, UP, PhaseDiagram, PlacedCheckpoint, place_x, place_y
from mdtree.plots.style import MARKERS, colour, ink, mixed, new_axes, plain, words
from mdtree.zoo import FAILURES


def draw_phase_diagram(data: PhaseDiagram, ax: Axes | None = None) -> Axes:
    """Draw the plane: regions tinted and named, the zoo's networks small, the checkpoints large with error bars."""
    if ax is None:
        ax = new_axes(5.6, 4.9 + 0.1 * len(data.checkpoints))
    tone = ink()
    tints = [mixed(colour(cause), tone.ground, 0.2) for cause in FAILURES]
    x, y = np.linspace(0.0, 1.0, ACROSS), np.linspace(0.0, HIGHEST, UP)
    for number, cause in enumerate(FAILURES):
        if (data.regions == number).any():
            inside = (data.regions == number).astype(float)
            area = ax.contourf(x, y, inside, levels=[0.5, 1.5], colors=[tints[number]], zorder=0)
            area.set(edgecolor=tone.ground, linewidth=1.5)
            row, column = _innermost(data.regions == number, data.checkpoints)
            ax.text(
                x[column], y[row], words(cause).replace(" too ", "\ntoo "), ha="center", va="center", fontsize=8.5,
                color=mixed(colour(cause), tone.text, 0.45), fontweight="bold", linespacing=1.1, zorder=4,
                bbox=_behind(tone.ground),
            )  # fmt: skip
    for cause in FAILURES:
        own = [point for point in data.zoo if point.cause == cause]
        ax.plot(
            place_x(np.array([p.temperature for p in own])), place_y(np.array([p.load for p in own])), MARKERS[cause],
            ms=2.6, mfc="none", mec=mixed(colour(cause), tone.ground, 0.75), mew=0.6, ls="none", zorder=1,
            label="_zoo",
        )  # fmt: skip
    for number, point in enumerate(data.checkpoints):
        _draw_checkpoint(ax, point, number, alone=len(data.checkpoints) == 1)
    _axes_of_plane(ax)
    _key(ax, data)
    return ax


def _behind(ground: str) -> dict[str, Any]:
    """A patch behind a name on a busy ground; an outline around its letters would make them curves in an SVG."""
    return {"boxstyle": "round,pad=0.12", "fc": ground, "ec": "none", "alpha": 0.72}


def _innermost(inside: np.ndarray, checkpoints: Sequence[PlacedCheckpoint]) -> tuple[int, int]:
    """The place of a region that is furthest from its edge and not under a checkpoint or the name beside it."""
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    y, x = np.mgrid[0 : HIGHEST : UP * 1j, 0 : 1 : ACROSS * 1j]
    for point in checkpoints:
        beside = x - float(place_x(point.temperature))
        near = (np.abs(y - place_y(point.load)) < 0.09) & (beside > -0.14) & (beside < 0.3)
        depth = np.where(near, 0.1 * depth, depth)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def _draw_checkpoint(ax: Axes, point: PlacedCheckpoint, number: int, alone: bool) -> None:
    tone = ink()
    x, y = float(place_x(point.temperature)), float(place_y(point.load))
    # a star alone; of several each by the mark and the colour of its verdict, with its number
    marker, size = ("*", 17) if alone else (MARKERS.get(point.verdict, "X"), 11)
    ends = [
        [[float(abs(place(value + sign * error) - place(value)))] for sign in (-1, 1)]
        for place, value, error in (
            (place_x, point.temperature, point.temperature_error),
            (place_y, point.load, point.load_error),
        )
    ]
    ax.errorbar(
        [x], [y], xerr=ends[0], yerr=ends[1], fmt=marker, ms=size, mfc=colour(point.verdict), mec=tone.text, mew=1.3,
        ecolor=tone.text, elinewidth=1.3, capsize=3, zorder=6, clip_on=False,
    )  # fmt: skip
    right = x < 0.72
    ax.annotate(
        "this checkpoint" if alone else str(number + 1), (x, y), xytext=(10 if right else -10, 0 if y < 0.9 else -9),
        textcoords="offset points", ha="left" if right else "right", va="center", fontsize=9, fontweight="bold",
        zorder=7, bbox=_behind(tone.ground),
    )  # fmt: skip


def _axes_of_plane(ax: Axes) -> None:
    ax.set_xlim(-0.015, 1.015)
    ax.set_ylim(-0.03, 1.06)
    growth = [-1, 0, 1, 2, 3, 4]
    ax.set_xticks(place_x(np.array(growth, dtype=float)), [f"{g:g}".replace("-", "−") for g in growth])
    loads = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0]
    ax.set_yticks(place_y(np.array(loads)), [f"{100 * load:g}" for load in loads])
    ax.set_xlabel("temperature →   growth of the weights (natural logarithm)")
    ax.set_ylabel("load →   train error (% of chance)")


def _key(ax: Axes, data: PhaseDiagram) -> None:
    held = [cause for cause in FAILURES if any(point.cause == cause for point in data.zoo)]
    handles = [
        Line2D([], [], marker=MARKERS[c], mfc=mixed(colour(c), ink().ground, 0.2), mec=colour(c), ls="none", ms=7,
               label=words(c)) for c in held
    ]  # fmt: skip
    if len(data.checkpoints) > 1:
        handles += [
            Line2D([], [], marker=MARKERS.get(p.verdict, "X"), mfc=colour(p.verdict), mec=ink().text, ls="none", ms=8,
                   label=f"{number + 1}  {plain(p.name, 34)}") for number, p in enumerate(data.checkpoints)
        ]  # fmt: skip
    whose = "what helped most" if data.told_by == "grid" else "what the trees tell"
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), columnspacing=1.2,
        ncols=2 if len(data.checkpoints) > 1 else 3, handletextpad=0.3,
        title=f"networks of the zoo, by {whose}", title_fontsize=8.5,
    )  # fmt: skip
