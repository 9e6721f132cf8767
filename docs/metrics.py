"""Write the figures and the table behind the page on metrics, from the zoo tables and two sample checkpoints.

python docs/metrics.py [PAGE]    writes docs/metric_values.md, docs/temperature.png and docs/landscapes.png (10 seconds)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

import mdtree
from mdtree import plots
from mdtree.files import write_atomically
from mdtree.plots.style import line_colour
from mdtree.record import RECORD_METRICS
from mdtree.zoo import FAILURES
from mdtree.zoo_parts import read_zoos

HERE = Path(__file__).parent
ROOT = HERE.parent

INTRODUCTION = """\
# What metrics usually are

Every metric over the {networks:,} networks of the reference zoos: what 5 %, half and 95 % of them stay below, and half
of those whose cause is known beyond doubt: temperature *too low*, *too high*, model *too small*, *too little* data,
*healthy*. The networks are small, on digits, MNIST and CIFAR-10; a network of yours may lie elsewhere, and the report
says how far. What each metric means stands in [Metrics](metrics.md). This page is written by `python docs/metrics.py`.
"""

PANELS = (
    ("test_error_percent", "test error (%)"),
    ("train_error_percent", "train error (%)"),
    ("log_weight_growth", "log weight growth"),
    ("gradient_norm_squared_per_parameter", "gradient norm² / P"),
    ("idle_feature_share", "idle feature share"),
    ("linear_barrier_percent", "linear barrier (%)"),
)
"""What the picture of temperature shows of one row of the grid."""

ROW = {"train_size": 650, "width": 32, "label_noise": 0.1}
"""The row: one width, one amount of data, one share of wrong labels, all learning rates."""

SAMPLES = (("temperature_too_low-1", "temperature too low"), ("healthy-1", "healthy"))


def short(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def write_values(zoos: pd.DataFrame, target: Path) -> None:
    """The table of quantiles and medians by cause."""
    head = ["metric", "5 %", "half", "95 %", "too low", "too high", "too small", "too little", "healthy"]
    lines = [INTRODUCTION.format(networks=len(zoos)), "| " + " | ".join(head) + " |", "|---" + "|--:" * 8 + "|"]
    judged = zoos.groupby("label_verdict")
    for name in RECORD_METRICS:
        values = [*zoos[name].quantile([0.05, 0.5, 0.95]), *(judged[name].median()[cause] for cause in FAILURES)]
        lines.append(f"| `{name}` | " + " | ".join(map(short, values)) + " |")
    write_atomically(target, ("\n".join(lines) + "\n").encode())


def draw_temperature(zoo: pd.DataFrame, target: Path) -> None:
    """Six metrics over the learning rate: every network a dot, the median a line."""
    for name, value in ROW.items():
        zoo = zoo[zoo[name] == value]
    zoo = zoo.sort_values("learning_rate")
    best = zoo.groupby("learning_rate")["test_error_percent"].mean().idxmin()
    with plots.style():
        figure, panels = plt.subplots(3, 2, figsize=(7.4, 6.6), layout="constrained", sharex=True)
        for panel, (name, label) in zip(panels.flat, PANELS, strict=True):
            panel.axvline(best, color="0.6", lw=1, ls=":")
            panel.plot(zoo["learning_rate"], zoo[name], ".", color=line_colour(0), alpha=0.35)
            panel.plot(zoo.groupby("learning_rate")[name].median(), color=line_colour(0))
            panel.set_title(label)
            panel.set_xscale("log")
            if name.startswith("gradient"):
                panel.set_yscale("log")
        for panel in panels[-1]:
            panel.set_xlabel("learning rate")
        panels[0, 0].annotate("least test error", (best, 1), (4, -4), xycoords=("data", "axes fraction"),
                              textcoords="offset points", va="top")  # fmt: skip
        _save(figure, target)


def draw_landscapes(target: Path) -> None:
    """Spectrum and curve of two checkpoints side by side."""
    folder = Path("zoo_samples/checkpoints")
    with contextlib.chdir(ROOT):
        records = [
            mdtree.measure(folder / f"{name}.pt", mdtree.Sources(siblings=(folder / f"{name}.sibling.pt",)))
            for name, _ in SAMPLES
        ]
    with plots.style():
        figure = plt.figure(figsize=(7.4, 6.8), layout="constrained")
        columns = []
        for (_, title), record, part in zip(SAMPLES, records, figure.subfigures(1, 2), strict=True):
            part.suptitle(title, fontweight="bold")
            column = part.subplots(2, 1)
            plots.draw_spectrum(plots.spectrum_data(record), column[0])
            plots.draw_curve(plots.curve_data(record), column[1])
            legend = column[1].get_legend()
            if legend is not None:  # wider than the panel: it stands below
                legend.remove()
                part.legend(*column[1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
            columns.append(column)
        for row in zip(*columns, strict=True):
            _align(row)
        _save(figure, target)


def _align(row: Sequence[Axes]) -> None:
    """One scale for both panels of a row."""
    low, high = min(panel.get_ylim()[0] for panel in row), max(panel.get_ylim()[1] for panel in row)
    for panel in row:
        panel.set_ylim(low, high)


def _save(figure: plt.Figure, target: Path) -> None:
    # without the date and the versions that matplotlib would write, equal pictures are equal files
    figure.savefig(target, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main(target: Path) -> None:
    zoos = read_zoos(sorted((ROOT / "zoo_samples").glob("*.csv")))
    write_values(zoos, target)
    draw_temperature(zoos[zoos["family"] == "digits_mlp"], target.with_name("temperature.png"))
    draw_landscapes(target.with_name("landscapes.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "metric_values.md")
