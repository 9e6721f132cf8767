"""Heat maps of a zoo: test error over temperature and width (or amount of data), one picture per family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mdtree.errors import InputError
from mdtree.room import grids
from mdtree.zoo import GAIN_COLUMN

MOST_PANELS = 6
MOST_COLUMNS, MOST_ROWS = 18, 28
"""Cells side by side and one above the other in a picture: as many as stay readable on a page."""

_NAMES = {"width": "width", "train_size": "training samples", "temperature": "temperature"}
_NUISANCES = ("label_noise", "weight_decay", "optimizer", "schedule", "budget", "augmentation", "temperature_axis")
_COLOURS = "YlGnBu"
_LEAST_ERROR = 0.1
"""Where the logarithmic colour scale begins at the latest (percent): an error of 0 has no logarithm."""


@dataclass(frozen=True)
class HeatPanel:
    """Mean test error over seeds of one slice of a family's grid.

    Attributes
    ----------
    title : str
        What is fixed in the slice and differs between slices; empty where there is one slice.
    rows : tuple of float
        Widths or amounts of data, ascending.
    columns : tuple of float
        Values along the temperature axis, coldest first.
    error : numpy.ndarray, shape (rows, columns)
        Percent; NaN where there is no network.
    diverged : numpy.ndarray of bool, shape (rows, columns)
        Whether training diverged for a seed of the cell.
    """

    title: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    error: np.ndarray
    diverged: np.ndarray

    @property
    def best(self) -> tuple[int | None, ...]:
        """Column of the lowest error in each row, the coldest of equals; None in a row without networks."""
        return tuple(None if np.isnan(row).all() else int(np.nanargmin(row)) for row in self.error)


@dataclass(frozen=True)
class HeatMap:
    """The panels of one family.

    Attributes
    ----------
    family : str
    row_name, column_name : str
        What the axes hold, for people.
    fixed : str
        The setting all panels share where the family has others ("label noise 0"); empty where it has not.
    panels : tuple of HeatPanel
    """

    family: str
    row_name: str
    column_name: str
    fixed: str
    panels: tuple[HeatPanel, ...]


def heat_map_data(frame: pd.DataFrame) -> HeatMap:
    """Slices of a family's grid: test error over temperature and width, one for each amount of data.

    Settings of the nuisances (label noise, weight decay ...) get panels of their own while all fit in the picture
    (`MOST_PANELS`, `MOST_COLUMNS`, `MOST_ROWS`); else the one with the least label noise is shown, and of its amounts
    of data, where they are too many, the smallest, the largest and some between at even steps; the largest alone
    where there is place for one. A family of one width is shown over the amount of data.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of one family.

    Raises
    ------
    InputError
        The rows belong to several families, or to none.
    """
    families = frame["family"].unique()
    if len(families) != 1:
        raise InputError(f"rows of {len(families)} families", "those of one")
    blocks = sorted((rows for rows, _ in grids(frame)), key=lambda rows: float(rows["label_noise"].iloc[0]))
    row_axis, panel_axis = ("width", "train_size") if frame["width"].nunique() > 1 else ("train_size", "width")
    panels_of = [rows[panel_axis].nunique() for rows in blocks]
    across, down = MOST_COLUMNS // frame["temperature"].nunique(), MOST_ROWS // frame[row_axis].nunique()
    most = min(MOST_PANELS, max(1, across) * max(1, down))
    shown = blocks if sum(panels_of) <= most else blocks[:1]
    names = [name for name in _NUISANCES if name in frame and frame[name].nunique(dropna=False) > 1]
    # what the temperature axis does not turn is held within a block and may differ between blocks
    held = {"learning_rate": "batch_size", "batch_size": "learning_rate"}
    names += [
        held[axis] for axis in frame["temperature_axis"].unique() if axis in held and frame[held[axis]].nunique() > 1
    ]
    column_axis = _column_axis(shown)
    panels = []
    for rows in shown:
        sizes = np.sort(rows[panel_axis].unique())
        for size in _spread(sizes, most):
            parts = [f"{size:g} {_NAMES[panel_axis]}"] if len(sizes) > 1 else []
            parts += [_setting(rows, name) for name in names] if len(shown) > 1 else []
            panels.append(_panel(rows[rows[panel_axis] == size], ", ".join(parts), row_axis, column_axis))
    return HeatMap(
        family=str(families[0]),
        row_name=_NAMES[row_axis],
        column_name=column_axis.replace("_", " "),
        fixed=", ".join(_setting(blocks[0], name) for name in names) if len(shown) < len(blocks) else "",
        panels=tuple(panels),
    )


def _column_axis(blocks: Sequence[pd.DataFrame]) -> str:
    """What the temperature axis turns, where that tells the temperature in every block; else the temperature."""
    names = {str(name) for rows in blocks for name in rows["temperature_axis"].unique()}
    name = names.pop()
    if names or name not in ("learning_rate", "batch_size"):
        return "temperature"
    for rows in blocks:
        pairs = rows[[name, "temperature"]].drop_duplicates()
        if rows[name].isna().any() or not len(pairs) == pairs[name].nunique() == pairs["temperature"].nunique():
            return "temperature"
    return name


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the values, both ends among them, at even steps of their number; the last if but one."""
    if len(values) <= most:
        return values
    if most == 1:
        return values[-1:]
    return values[np.round(np.linspace(0, len(values) - 1, most)).astype(int)]


def _setting(rows: pd.DataFrame, name: str) -> str:
    value = rows[name].iloc[0]
    return f"{name.replace('_', ' ')} {value if isinstance(value, str) else format(value, 'g')}"


def _panel(rows: pd.DataFrame, title: str, row_axis: str, column_axis: str) -> HeatPanel:
    cells = rows.groupby([row_axis, "temperature"])
    error = cells[GAIN_COLUMN].mean().unstack()
    diverged = cells["diverged"].max().unstack().reindex_like(error)
    value_of = dict(zip(rows["temperature"], rows[column_axis], strict=True))
    return HeatPanel(
        title=title,
        rows=tuple(float(v) for v in error.index),
        columns=tuple(float(value_of[temperature]) for temperature in error.columns),
        error=error.to_numpy(dtype=float),
        diverged=diverged.fillna(0).to_numpy(dtype=float) > 0,
    )


def draw_heat_map(data: HeatMap) -> Figure:
    """Draw the panels of a family on one colour scale."""
    widest = max(len(panel.columns) for panel in data.panels)
    tallest = max(len(panel.rows) for panel in data.panels)
    across = max(1, min(len(data.panels), MOST_COLUMNS // widest))
    down = math.ceil(len(data.panels) / across)
    size = (1.6 + across * (0.5 * widest + 0.6), 1.0 + down * (0.32 * tallest + 0.75))
    figure = plt.figure(figsize=(max(5.0, size[0]), size[1]), layout="constrained")
    low, high = colour_range(data)
    # errors that span a factor of 4 or more are told apart on a logarithmic scale
    norm = LogNorm(low, high, clip=True) if high >= 4 * low else Normalize(low, high, clip=True)
    axes = []
    for number, panel in enumerate(data.panels):
        ax = figure.add_subplot(down, across, number + 1)
        draw_heat_panel(panel, norm, ax)
        if number % across == 0:
            ax.set_ylabel(data.row_name)
        if number + across >= len(data.panels):
            ax.set_xlabel(f"{data.column_name}  (hotter →)")
        axes.append(ax)
    bar = figure.colorbar(plt.cm.ScalarMappable(norm, _COLOURS), ax=axes, aspect=30, pad=0.01)
    bar.set_label("test error (%), mean over seeds")
    if isinstance(norm, LogNorm):
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 90) if low <= t <= high]
        bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
        bar.ax.minorticks_off()
    figure.suptitle(data.family + (f"  ({data.fixed})" if data.fixed else ""), fontsize=11)
    marks = [Patch(fc="none", ec=_MARK, lw=2, label="lowest in its row")]
    if any(panel.diverged.any() for panel in data.panels):
        marks.append(Patch(fc="none", ec="#888888", hatch="////", lw=0, label="a seed diverged"))
    figure.legend(handles=marks, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    return figure


_MARK = "#d62728"


def colour_range(data: HeatMap) -> tuple[float, float]:
    """Lowest and highest error of all panels, above 0 and at least 1 point apart."""
    errors = np.concatenate([panel.error[~np.isnan(panel.error)] for panel in data.panels])
    low = max(_LEAST_ERROR, float(errors.min()))
    return low, max(low + 1.0, float(errors.max()))


def draw_heat_panel(panel: HeatPanel, norm: Normalize, ax: Axes | None = None) -> Axes:
    """Draw one slice: a number in every cell, a frame around the best of each row, diverged cells hatched.

    Cells are of one size whatever the step of the axis; the ticks say the values.
    """
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    colours = colormaps[_COLOURS]
    for (i, j), error in np.ndenumerate(panel.error):
        if np.isnan(error):
            continue
        face = colours(norm(error))
        dark = 0.299 * face[0] + 0.587 * face[1] + 0.114 * face[2] < 0.5
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc=face, ec="white", lw=0.8))
        if panel.diverged[i, j]:
            ink = "#ffffff80" if dark else "#00000060"
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="none", lw=0, ec=ink, hatch="////"))
        text = f"{error:.1f}" if error < 99.95 else "100"
        ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "#222222", zorder=3)
    for i, best in enumerate(panel.best):
        if best is not None:
            ax.add_patch(Rectangle((best - 0.45, i - 0.45), 0.9, 0.9, fc="none", ec=_MARK, lw=2, zorder=2.5))
    ax.set_xlim(-0.5, len(panel.columns) - 0.5)
    ax.set_ylim(-0.5, len(panel.rows) - 0.5)
    ax.set_xticks(range(len(panel.columns)), [f"{v:g}" for v in panel.columns], fontsize=8.5)
    ax.set_yticks(range(len(panel.rows)), [f"{v:g}" for v in panel.rows], fontsize=8.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(panel.title, fontsize=9.5)
    return ax
