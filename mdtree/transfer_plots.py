"""Drawings of transfers: every part left out on a line, the diagnoser beside the simplest answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdtree.transfer_methods import AGREEING
from mdtree.transfer_text import baseline_runs, method_words, short_name
from mdtree.zoo import EVIDENCE, QUESTIONS
from mdtree.zoo_transfer import Run, TransferResult

TREE_STYLES = {"alone": ("o", "#4c72b0"), "sibling_test": ("D", "#c44e52")}
"""Evidence sets that are drawn: the least and the most there is."""

BASELINE_STYLES = {"majority": "|", "hyperparameters": "^", "parameter_count": "v", "validation": "s"}
BASELINE_COLOUR = "#8c8c8c"

TITLES = {
    "data_set": "a data set left out",
    "family": "a family left out",
    "architecture": "an architecture left out",
    "width": "wider networks left out",
    "train_size": "more data left out",
    "cells": "all but 50 cells left out",
}


@dataclass(frozen=True)
class Series:
    """One method over the parts of a panel.

    Attributes
    ----------
    name : str
        In words, for the legend.
    method, evidence : str
        `evidence` is empty where the answers do not depend on it.
    places : ndarray of int, shape (k,)
        Numbers of the parts that have the figure.
    balanced_accuracy, low, high : ndarray, shape (k,)
        Percent, with the ends of the 95 % interval.
    """

    name: str
    method: str
    evidence: str
    places: np.ndarray
    balanced_accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One question of one kind of transfer."""

    transfer: str
    question: str
    parts: tuple[str, ...]
    series: tuple[Series, ...]


def transfer_panels(result: TransferResult) -> list[Panel]:
    """The panels of a result: kinds of transfer in the order of the runs, questions in the house's order.

    All questions of a kind share their list of parts, so that panels can stand side by side.
    """
    panels = []
    for transfer in dict.fromkeys(run.transfer for run in result.runs):
        runs = [run for run in result.runs if run.transfer == transfer]
        parts = tuple(dict.fromkeys(run.left_out for run in runs))
        for question in QUESTIONS:
            own = [run for run in runs if run.question == question]
            if own:
                panels.append(Panel(transfer, question, parts, tuple(_series(own, parts, result.default_method))))
    return panels


def _series(runs: Sequence[Run], parts: Sequence[str], default_method: str) -> list[Series]:
    found = []
    for method in dict.fromkeys(run.method for run in runs if run.method not in (default_method, AGREEING)):
        found.append(_one(baseline_runs(runs, method), parts, method_words(method), ""))
    for evidence in (name for name in EVIDENCE if name in TREE_STYLES):
        own = [run for run in runs if run.method == default_method and run.evidence == evidence]
        found.append(_one(own, parts, f"tree, {evidence.replace('_', ' ')}", evidence))
    return [series for series in found if series.places.size]


def _one(runs: Sequence[Run], parts: Sequence[str], name: str, evidence: str) -> Series:
    known = [run for run in runs if run.balanced_accuracy is not None and run.interval is not None]
    values = [(run.balanced_accuracy, *(run.interval or ())) for run in known]
    table = 100 * np.array(values, dtype=float).reshape(-1, 3)
    places = np.array([parts.index(run.left_out) for run in known], dtype=int)
    method = known[0].method if known else ""
    return Series(name, method, evidence, places, table[:, 0], table[:, 1], table[:, 2])


def draw_panel(panel: Panel, ax: Axes) -> Axes:
    """Draw one panel: a line per part, from the top; the trees with their 95 % intervals over cells."""
    for series in panel.series:
        marker, colour = TREE_STYLES.get(series.evidence, (BASELINE_STYLES.get(series.method, "x"), BASELINE_COLOUR))
        if series.evidence:
            shift = 0.13 * (1 if series.evidence == "alone" else -1)
            ax.hlines(series.places - shift, series.low, series.high, color=colour, lw=1.2, alpha=0.6)
            ax.plot(series.balanced_accuracy, series.places - shift, marker, color=colour, ms=4.5, label=series.name)
        else:
            size = 9 if marker == "|" else 4
            ax.plot(
                series.balanced_accuracy, series.places, marker, color=colour, ms=size, mfc="none", label=series.name
            )
    ax.set_yticks(range(len(panel.parts)), [short_name(part) for part in panel.parts], fontsize=8)
    ax.set_ylim(len(panel.parts) - 0.5, -0.5)
    ax.set_xlim(0, 102)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_title(panel.question.replace("_", " "), fontsize=9)
    ax.grid(axis="x", color="#e5e5e5", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_transfers(results: Sequence[TransferResult]) -> Figure:
    """All panels of several results: kinds of transfer below each other, questions side by side."""
    panels = [panel for result in results for panel in transfer_panels(result)]
    kinds = list(dict.fromkeys(panel.transfer for panel in panels))
    parts = {kind: len(next(p for p in panels if p.transfer == kind).parts) for kind in kinds}
    height = sum(0.9 + 0.24 * count for count in parts.values()) + 0.5
    figure = plt.figure(figsize=(11, height), layout="constrained")
    rows = figure.subfigures(len(kinds), 1, squeeze=False, height_ratios=[0.9 + 0.24 * parts[kind] for kind in kinds])
    handles: dict[str, Artist] = {}
    for kind, row in zip(kinds, rows[:, 0], strict=True):
        row.suptitle(TITLES.get(kind, kind), fontsize=10)
        axes = row.subplots(1, len(QUESTIONS), sharey=True)
        asked = {panel.question: panel for panel in panels if panel.transfer == kind}
        for question, ax in zip(QUESTIONS, axes, strict=True):
            if question not in asked:
                ax.set_axis_off()
                continue
            draw_panel(asked[question], ax)
            # names once, beside the first question there is
            ax.tick_params(labelleft=question == next(iter(asked)))
            handles |= {words: handle for handle, words in zip(*ax.get_legend_handles_labels(), strict=True)}
    rows[-1, 0].supxlabel("balanced accuracy (%)", fontsize=9)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
