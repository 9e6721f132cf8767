"""The eigenvalues of the Hessian: their density, its negative side and the largest ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mdtree.errors import InputError
from mdtree.plots.series import damaged, numbers, series_of
from mdtree.plots.style import decades, ink, line_colour, new_axes
from mdtree.record import Record

DECADES = 5
"""Decades of density that are drawn below the largest."""


@dataclass(frozen=True)
class Spectrum:
    """Density of the eigenvalues, which integrates to 1, the largest ones found, and the smallest.

    Attributes
    ----------
    eigenvalues, density : numpy.ndarray, shape (points,)
    top : tuple of float
        Descending; empty where none were kept.
    smallest : float or None
    negative_share : float
        Share of the density's mass below the kernel's reach of zero.
    """

    eigenvalues: np.ndarray
    density: np.ndarray
    top: tuple[float, ...]
    smallest: float | None
    negative_share: float


@damaged("spectral density")
def spectrum_data(record: Record) -> Spectrum:
    """The spectral density a record holds.

    The kernel that smooths the density smears what lies at zero over both sides; only atoms below minus its width
    (the Ritz values with their weights, mean over probes) count as negative.

    Raises
    ------
    InputError
        The record holds no spectral density, or one that is damaged.
    """
    held = series_of(record, "spectral_density", "one whose Hessian was measured")
    eigenvalues, density = (numbers(held, name) for name in ("eigenvalues", "density"))
    if len(eigenvalues) != len(density) or not len(density) or not density.max() > 0:
        raise InputError("the record's spectral density is damaged", "as many densities as eigenvalues, not all 0")
    top = series_of(record, "top_eigenvalues", "")["eigenvalues"] if "top_eigenvalues" in record.series else ()
    smallest = record.metrics.get("hessian_smallest_eigenvalue")
    width = float(held.get("width", 0.0))
    shares = [
        float(sum(w for v, w in zip(values, weights, strict=True) if v < -width))
        for values, weights in zip(held.get("ritz_values", ()), held.get("ritz_weights", ()), strict=True)
    ]
    return Spectrum(
        eigenvalues=eigenvalues,
        density=density,
        top=tuple(sorted((float(v) for v in top), reverse=True)),
        smallest=None if smallest is None else smallest.value,
        negative_share=float(np.mean(shares)) if shares else 0.0,
    )


def draw_spectrum(data: Spectrum, ax: Axes | None = None) -> Axes:
    """Draw the density on a logarithmic scale; the negative side is hatched, the largest eigenvalues are marked."""
    if ax is None:
        ax = new_axes(5.0, 3.1)
    tone, peak = ink(), float(data.density.max())
    floor = peak * 10.0**-DECADES
    drawn = np.maximum(data.density, floor)
    ax.fill_between(data.eigenvalues, drawn, floor, color=line_colour(0), alpha=0.25, lw=0)
    ax.plot(data.eigenvalues, drawn, color=line_colour(0), lw=1.4)
    below = data.eigenvalues <= 0
    if below.any() and data.smallest is not None and data.smallest < 0:
        ax.fill_between(
            data.eigenvalues[below], drawn[below], floor, fc="none", ec=line_colour(1), hatch="////", lw=0, zorder=2.5,
            label="negative side",
        )  # fmt: skip
    ax.axvline(0.0, color=tone.faint, lw=0.8, ls=":")
    for number, value in enumerate(data.top):
        ax.plot([value], [floor * 1.6], "v", ms=6, color=line_colour(1), mec=tone.ground, mew=0.5, clip_on=False,
                label=f"{len(data.top)} largest" if number == 0 else "_more", ls="none", zorder=5)  # fmt: skip
    if data.top:
        beside = np.abs(data.eigenvalues - data.top[0]) <= 0.02 * np.ptp(data.eigenvalues)
        height = float(drawn[beside].max()) if beside.any() else floor
        ax.annotate(f"{data.top[0]:.4g}", (data.top[0], max(height, 3 * floor)), xytext=(0, 4), ha="center",
                    textcoords="offset points", fontsize=8.5, color=tone.text)  # fmt: skip
    ax.set_yscale("log")
    decades(ax.yaxis)
    ax.set_ylim(floor, 3 * peak)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    if data.smallest is not None and data.smallest < 0:
        text = f"{data.negative_share:.1%} negative, to {data.smallest:.2g}"
        ax.set_title(text.replace("-", "−"), fontsize=9, fontweight="normal", loc="right")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper right")
    ax.grid(axis="y", lw=0.6)
    ax.set_axisbelow(True)
    return ax
