"""Small multiples: the same picture of several checkpoints, side by side on common axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mdtree.errors import InputError
from mdtree.plots.style import plain

T = TypeVar("T")


def small_multiples(
    draw: Callable[[T, Axes], Axes],
    parts: Sequence[tuple[str, T]],
    *,
    columns: int = 4,
    size: tuple[float, float] = (2.6, 2.1),
    same_axes: bool = True,
) -> Figure:
    """The same drawing for several data, each under its name; labels that all share, and the legend, stand once.

    Parameters
    ----------
    draw : callable
        One of this package's `draw_*`.
    parts : sequence of (name, data)
    columns : int
        At most so many side by side.
    size : pair of float
        Width and height of a panel in inches.
    same_axes : bool
        Bring all panels to the widest range of both axes, so that they can be compared at sight.

    Returns
    -------
    matplotlib.figure.Figure
        Unknown to pyplot. `svg(lambda parts: small_multiples(draw, parts), parts)` makes it a picture for a page.

    Raises
    ------
    InputError
        There is nothing to draw.
    """
    if not parts or columns < 1:
        raise InputError(f"{len(parts)} panels in {columns} columns", "one or more of both")
    across = min(columns, len(parts))
    down = math.ceil(len(parts) / across)
    figure = Figure(figsize=(size[0] * across, size[1] * down), layout="constrained")
    FigureCanvasAgg(figure)
    drawn = []
    for number, (name, data) in enumerate(parts):
        ax = draw(data, figure.add_subplot(down, across, number + 1))
        beside = ax.get_title(loc="right")
        ax.set_title("", loc="right")
        ax.set_title(plain(name, 36) + (f"\n{beside}" if beside else ""), loc="left", fontsize=8.5)
        drawn.append(ax)
    if same_axes:
        _brought_together(drawn)
    _said_once(figure, drawn)
    return figure


def _brought_together(axes: Sequence[Axes]) -> None:
    left, right = min(ax.get_xlim()[0] for ax in axes), max(ax.get_xlim()[1] for ax in axes)
    # an axis of names runs from the top
    first, last = (max, min) if axes[0].yaxis_inverted() else (min, max)
    bottom, top = first(ax.get_ylim()[0] for ax in axes), last(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)


def _said_once(figure: Figure, axes: Sequence[Axes]) -> None:
    """Labels that all panels share stand at the figure's edge, and the first panel's legend above."""
    for get, clear, write in (
        (Axes.get_xlabel, Axes.set_xlabel, figure.supxlabel),
        (Axes.get_ylabel, Axes.set_ylabel, figure.supylabel),
    ):
        texts = {get(ax) for ax in axes}
        if len(texts) == 1:
            write(texts.pop(), fontsize=9)
            for ax in axes:
                clear(ax, "")
    legend = axes[0].get_legend()
    if legend is not None:
        known = [(h, t.get_text()) for h, t in zip(legend.legend_handles, legend.get_texts(), strict=True) if h]
        figure.legend([h for h, _ in known], [t for _, t in known], loc="outside upper center", ncols=3)
    for ax in axes:
        own = ax.get_legend()
        if own is not None:
            own.remove()
