"""How far a diagnosis travels, as a table in colours: a row per part left out, a column per method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mdtree.errors import InputError
from mdtree.plots.style import brightness, ink, new_axes, text_on, words
from mdtree.transfer_methods import AGREEING
from mdtree.transfer_text import method_words, short_name
from mdtree.zoo import EVIDENCE, QUESTIONS
from mdtree.zoo_transfer import TransferResult

FIGURES = ("balanced_accuracy", "gain_captured")


@dataclass(frozen=True)
class TransferTable:
    """Shares in percent; NaN where a method was not asked, or no network tells.

    Attributes
    ----------
    question, figure : str
    parts, methods : tuple of str
        What is left out; the methods in words, the diagnoser's trees first.
    percent : numpy.ndarray, shape (parts, methods)
    """

    question: str
    figure: str
    parts: tuple[str, ...]
    methods: tuple[str, ...]
    percent: np.ndarray


def transfer_table_data(
    result: TransferResult, question: str = "verdict", figure: str = "balanced_accuracy"
) -> TransferTable:
    """One question of one way of leaving out, every part in a row of its own.

    A baseline does not see the evidence; the mean of its runs is shown.

    Raises
    ------
    InputError
        An unknown question or figure, or a question that no part was asked.
    """
    if question not in QUESTIONS or figure not in FIGURES:
        raise InputError(f"{figure} of {question}", f"{' or '.join(FIGURES)} of {', '.join(QUESTIONS)}")
    runs = [run for run in result.runs if run.question == question and run.method != AGREEING]
    if not runs:
        raise InputError(f"no part was asked for the {words(question)}", "a question of the transfer")
    trees = [(result.default_method, name) for name in EVIDENCE]
    others = [(method, "") for method in dict.fromkeys(r.method for r in runs if r.method != result.default_method)]
    columns = [(m, e) for m, e in (*trees, *others) if any(r.method == m and e in ("", r.evidence) for r in runs)]
    # widths and amounts of data are left out of each family in turn: together they name a part
    several = len({run.transfer for run in runs}) > 1
    parts = list(dict.fromkeys((run.transfer, run.left_out) for run in runs))
    table = np.full((len(parts), len(columns)), np.nan)
    for i, (transfer, left_out) in enumerate(parts):
        for j, (method, evidence) in enumerate(columns):
            found = [
                getattr(run, figure)
                for run in runs
                if (run.transfer, run.left_out, run.method) == (transfer, left_out, method)
                and evidence in ("", run.evidence)
            ]
            known = [value for value in found if value is not None]
            table[i, j] = 100 * float(np.mean(known)) if known else np.nan
    return TransferTable(
        question=question,
        figure=figure,
        parts=tuple(f"{words(t)}: {short_name(p)}" if several else short_name(p) for t, p in parts),
        methods=tuple(f"tree, {words(e)}" if e else method_words(m) for m, e in columns),
        percent=table,
    )


def draw_transfer_table(data: TransferTable, ax: Axes | None = None) -> Axes:
    """Draw the table: a number in every cell, darker the better; a frame around the best of each row."""
    rows, columns = data.percent.shape
    if ax is None:
        ax = new_axes(2.2 + 0.72 * columns, 1.3 + 0.27 * rows)
    tone, shades = ink(), colormaps["cividis"]
    for (i, j), share in np.ndenumerate(data.percent):
        if np.isnan(share):
            ax.text(j, i, "–", ha="center", va="center", color=tone.faint, fontsize=8.5)
            continue
        face = "#" + "".join(f"{round(255 * c):02x}" for c in shades(1 - np.clip(share, 0, 100) / 100)[:3])
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc=face, ec=tone.ground, lw=1.0))
        best = share >= np.nanmax(data.percent[i])
        ax.text(j, i, f"{share:.0f}", ha="center", va="center", color=text_on(face), fontsize=8.5, zorder=3,
                fontweight="bold" if best else "normal")  # fmt: skip
        if best:
            edge = "#ffffff" if brightness(face) < 0.2 else "#000000"
            ax.add_patch(Rectangle((j - 0.43, i - 0.4), 0.86, 0.8, fc="none", ec=edge, lw=1.2, zorder=2.5))
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_xticks(range(columns), [method.replace(", ", ",\n") for method in data.methods], fontsize=8)
    ax.set_yticks(range(rows), list(data.parts), fontsize=8)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)
    unit = "balanced accuracy" if data.figure == "balanced_accuracy" else "gain captured"
    ax.set_title(f"{words(data.question)}: {unit} (%) where this part was left out")
    return ax
