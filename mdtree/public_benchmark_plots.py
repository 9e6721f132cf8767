"""Drawings of the public benchmark: learning curves, reliability, risk and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdtree.errors import InputError
from mdtree.learning_curves import AXES, CurvePoint
from mdtree.plots.calibration import calibration_of, draw_calibration
from mdtree.plots.learning import draw_learning_curves, learning_curves_data
from mdtree.plots.style import ink, line_colour, style

METHOD_WORDS = {
    "hyperparameter": "hyperparameters",
    "validation": "train and test error and loss",
    "paper": "the paper's MD tree",
    "posterior": "default",
}
TICKS = {"configurations": (12, 50, 200, 800), "width limit": (2, 8, 32, 128)}


def make_folder(folder: Path) -> None:
    """Make the folder for the figures, before any work is done for them.

    Raises
    ------
    InputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror})", "a folder for the figures") from error


def write_figures(folder: Path, points: Sequence[CurvePoint], abstention: Mapping[str, Any]) -> list[Path]:
    """Write `learning_curves.png` and `abstention.png` into a folder, which is made if need be.

    Raises
    ------
    InputError
        The folder cannot be made.
    """
    make_folder(folder)
    written = [folder / "learning_curves.png", folder / "abstention.png"]
    with style():
        _draw_curves(points).savefig(written[0], dpi=150)
        _draw_abstention(abstention).savefig(written[1], dpi=150)
    return written


def _draw_curves(points: Sequence[CurvePoint]) -> Figure:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    named = [replace(point, method=METHOD_WORDS.get(point.method, point.method)) for point in points]
    for axis, ax in zip(AXES, panels, strict=True):
        draw_learning_curves(learning_curves_data(named, axis), ax)
        ax.get_legend().remove()
        ax.set_ylim(50, 100)
        ax.set_ylabel("")
        if axis in TICKS:
            ax.set_xticks(TICKS[axis], [str(tick) for tick in TICKS[axis]])
    panels[0].set_ylabel("right on the noisy collection (%)")
    handles, words = panels[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=len(words))
    return figure


def _draw_abstention(abstention: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(4.2 * len(abstention), 7), layout="constrained")
    panels = figure.subplots(2, len(abstention), squeeze=False)
    for (question, found), column in zip(abstention.items(), panels.T, strict=True):
        draw_calibration(calibration_of(found["reliability"]), column[0])
        column[0].set_ylabel("right on the noisy collection (%)")
        column[0].set_title(question.replace("_", " "))
        draw_risk_coverage(found, column[1])
    return figure


def draw_risk_coverage(found: Mapping[str, Any], ax: Axes) -> Axes:
    """Draw the share of wrong answers against the share of rows answered, the tuned point marked."""
    curve = found["risk_coverage"]
    ax.plot(100 * np.array(curve["coverage"]), 100 * np.array(curve["risk"]), color=line_colour(0))
    if found["accuracy"] is not None:
        ax.plot(100 * found["coverage"], 100 * (1 - found["accuracy"]), "D", color=line_colour(1), label="tuned point")
        ax.legend(loc="upper left")
    ax.axhline(5, color=ink().faint, lw=1, ls=":")
    ax.set_xlim(0, 102)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("rows answered (%)")
    ax.set_ylabel("wrong among them (%)")
    return ax
