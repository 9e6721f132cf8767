"""The loss around a network as a map with lines of equal height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from mdtree.errors import InputError
from mdtree.plots.style import COLOURS, ink, new_axes

if TYPE_CHECKING:
    from landscape.surface import LossSurface

MOST_DECADES = 4
"""Decades of rise above the lowest loss that are told apart."""


@dataclass(frozen=True)
class SurfaceMap:
    """Losses around a network, and the heights of the lines.

    Attributes
    ----------
    x, y : numpy.ndarray, shape (points,)
    loss : numpy.ndarray, shape (points, points)
        Row j belongs to y[j]; NaN where it is not finite.
    centre : float
        The loss of the network itself.
    levels : numpy.ndarray
        Ascending, evenly spaced in the logarithm.
    x_label, y_label, note : str
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    centre: float
    levels: np.ndarray
    x_label: str
    y_label: str
    note: str


def loss_surface_data(surface: LossSurface, levels: int = 12) -> SurfaceMap:
    """A measured surface (`landscape.surface.loss_surface`) with lines evenly spaced in the logarithm of the loss.

    Raises
    ------
    InputError
        No loss is finite and positive, or fewer than two levels.
    """
    loss = np.array(surface.loss, dtype=float)
    loss = np.where(np.isfinite(loss), loss, np.nan)
    positive = loss[loss > 0]
    if levels < 2 or not positive.size:
        raise InputError("a surface without a positive loss, or fewer than two levels", "finite losses above 0")
    high = float(positive.max())
    low = max(float(positive.min()), high / 10**MOST_DECADES)
    if not high > low * (1 + 1e-9):
        high = low * 1.01
    middle = len(surface.x) // 2
    names = ["filter direction 1 (norms of the filters)", "filter direction 2 (norms of the filters)"]
    if surface.eigenvalues is not None:
        names = [f"eigenvector {k + 1} (eigenvalue {value:.3g})" for k, value in enumerate(surface.eigenvalues)]
    return SurfaceMap(
        x=np.array(surface.x),
        y=np.array(surface.y),
        loss=loss,
        centre=float(loss[middle, middle]),
        levels=np.geomspace(low, high, levels),
        x_label=names[0],
        y_label=names[1],
        note="BatchNorm statistics held fixed" if surface.batch_norm_fixed else "",
    )


def draw_loss_surface(data: SurfaceMap, ax: Axes | None = None) -> Axes:
    """Draw filled levels and labelled lines on a logarithmic scale; a star marks the network."""
    if ax is None:
        ax = new_axes(5.0, 4.4)
    norm = LogNorm(float(data.levels[0]), float(data.levels[-1]))
    floor = np.ma.masked_invalid(np.maximum(data.loss, data.levels[0]))
    ax.contourf(data.x, data.y, floor, levels=data.levels, norm=norm, cmap="cividis", extend="both")
    inner = data.levels[1:-1]
    # light lines on the dark valley, dark ones on the bright heights
    shades = ["#ffffff" if norm(level) < 0.55 else "#000000" for level in inner]
    lines = ax.contour(data.x, data.y, floor, levels=inner, colors=shades, linewidths=0.6, alpha=0.8)
    ax.clabel(lines, inner[::2], fmt=lambda level: f"{level:.2g}", fontsize=7.5)
    ax.plot([0.0], [0.0], "*", ms=15, mfc=COLOURS["temperature_too_high"], mec="#ffffff", mew=1.2, zorder=5)
    ax.annotate(f"{data.centre:.3g}", (0.0, 0.0), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9,
                fontweight="bold", color="#000000", zorder=6,
                bbox={"boxstyle": "round,pad=0.12", "fc": "#ffffff", "ec": "none", "alpha": 0.8})  # fmt: skip
    ax.set_xlabel(data.x_label)
    ax.set_ylabel(data.y_label)
    ax.set_title(data.note or "loss", fontsize=9, fontweight="normal", loc="right", color=ink().faint)
    ax.spines[:].set_visible(False)
    return ax
