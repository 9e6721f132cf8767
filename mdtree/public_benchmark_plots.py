"""Drawings of the public benchmark: learning curves, reliability, risk and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mdtree.errors import InputError
from mdtree.learning_curves import AXES, CurvePoint

STYLES = {
    "hyperparameter": ("#8c8c8c", "hyperparameters"),
    "validation": ("#dd8452", "train and test error and loss"),
    "paper": ("#55a868", "the paper's MD tree"),
    "posterior": ("#4c72b0", "default"),
}
X_LABELS = {
    "configurations": "training configurations",
    "data limit": "largest share of the data fitted on (%)",
    "width limit": "largest width fitted on",
}


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
    figure, axes = plt.subplots(1, len(AXES), figsize=(11, 3.6), layout="constrained", sharey=True)
    for axis, ax in zip(AXES, axes, strict=True):
        draw_learning_curve([point for point in points if point.axis == axis], ax)
    axes[0].set_ylabel("right on the noisy collection (%)")
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=len(words), frameon=False)
    written = [folder / "learning_curves.png", folder / "abstention.png"]
    figure.savefig(written[0], dpi=150)
    plt.close(figure)
    figure, axes = plt.subplots(2, len(abstention), figsize=(4.2 * len(abstention), 7), layout="constrained")
    for column, (question, found) in zip(np.atleast_2d(axes).T, abstention.items(), strict=True):
        draw_reliability(found["reliability"], column[0])
        column[0].set_title(question)
        draw_risk_coverage(found, column[1])
    figure.savefig(written[1], dpi=150)
    plt.close(figure)
    return written


def draw_learning_curve(points: Sequence[CurvePoint], ax: Axes) -> Axes:
    """Draw the curves of one axis, a line per method with its spread over seeds."""
    for name in dict.fromkeys(point.method for point in points):
        own = sorted((point for point in points if point.method == name), key=lambda point: point.x)
        x = np.array([point.x for point in own])
        y, spread = (100 * np.array([getattr(point, key) for point in own]) for key in ("accuracy", "std"))
        colour, words = STYLES.get(name, ("#222222", name))
        ax.plot(x, y, "o-", ms=3, color=colour, label=words)
        ax.fill_between(x, y - spread, y + spread, color=colour, alpha=0.15, lw=0)
    axis = points[0].axis
    ax.set_xlabel(X_LABELS[axis])
    if axis != "data limit":
        ax.set_xscale("log")
        ticks = [12, 50, 200, 800] if axis == "configurations" else [2, 8, 32, 128]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    ax.set_ylim(50, 100)
    ax.grid(axis="y", color="#e5e5e5", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_reliability(table: Sequence[Mapping[str, float]], ax: Axes) -> Axes:
    """Draw the observed share of right answers against the probability given, with 95 % intervals and counts."""
    stated = 100 * np.array([row["probability"] for row in table])
    observed, low, high = (100 * np.array([row[key] for row in table]) for key in ("observed", "low", "high"))
    ax.plot([0, 100], [0, 100], color="#b8b8b8", lw=1)
    ax.errorbar(stated, observed, yerr=[observed - low, high - observed], fmt="o", color="#4c72b0", capsize=3)
    for x, y, row in zip(stated, low, table, strict=True):
        ax.annotate(f"{row['n']:.0f}", (x, y), textcoords="offset points", xytext=(0, -11), fontsize=7.5, ha="center",
                    color="#555555")  # fmt: skip
    ax.set_xlim(min(40.0, float(stated.min()) - 5), 102)
    ax.set_ylim(min(40.0, float(low.min()) - 8), 102)
    ax.set_xlabel("stated probability of being right (%)")
    ax.set_ylabel("right on the noisy collection (%)")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_risk_coverage(found: Mapping[str, Any], ax: Axes) -> Axes:
    """Draw the share of wrong answers against the share of rows answered, the tuned point marked."""
    curve = found["risk_coverage"]
    ax.plot(100 * np.array(curve["coverage"]), 100 * np.array(curve["risk"]), color="#4c72b0")
    if found["accuracy"] is not None:
        ax.plot(100 * found["coverage"], 100 * (1 - found["accuracy"]), "o", color="#c44e52", label="tuned point")
        ax.legend(frameon=False, loc="upper left")
    ax.axhline(5, color="#b8b8b8", lw=1, ls=":")
    ax.set_xlim(0, 102)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("rows answered (%)")
    ax.set_ylabel("wrong among them (%)")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
