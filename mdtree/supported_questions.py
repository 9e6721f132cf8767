"""What a table of networks can answer: labels where the grid and the seeds support them, and a reason where not.

A table made for a purpose of its own seldom is a full grid. What it holds decides: labels need three seeds in a cell
(a row's own is set aside and two must remain), the question of temperature a temperature axis, the others an axis of
their own beside it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.room import grids, label_zoo
from mdtree.zoo import GAIN_COLUMN, LABEL_COLUMNS, QUESTIONS, RFI_COLUMNS, RFI_ERROR_COLUMNS, UNLABELLED

SEEDS_NEEDED = 3
YES = "yes"

_AXES = {"temperature": "temperature", "width": "model_size", "train_size": "data"}
"""Axis -> the question that is about it."""


def refuse_shared_places(frame: pd.DataFrame) -> None:
    """Refuse two cells that a grid cannot tell apart: the same family, nuisances and axis values.

    Raises
    ------
    InputError
        Both are named.
    """
    places = frame.assign(**{GAIN_COLUMN: 0.0, "seed": 0})
    for rows, _ in grids(places):
        cells = rows.drop_duplicates("cell")
        twice = cells.duplicated(list(_AXES))
        if twice.any():
            second = twice.idxmax()
            same = (cells[list(_AXES)] == cells.loc[second, list(_AXES)]).all(axis=1)
            first = same.idxmax()
            raise InputError(
                f"the cells {rows.at[first, 'cell']!r} and {rows.at[second, 'cell']!r} stand at the same place of the "
                f"grid (width {rows.at[first, 'width']:g}, train_size {rows.at[first, 'train_size']:g}, temperature "
                f"{rows.at[first, 'temperature']:g})",
                "cells that differ in an axis or in a setting that parts families",
                "name what they differ in: in a column such as family, architecture, optimizer or budget",
            )


def label_supported(frame: pd.DataFrame) -> pd.DataFrame:
    """Label what the table supports; the rest is `censored`, with rooms for improvement empty.

    Seeds are paired by number where all cells of a block have the same ones, else by their rank in the cell: numbers
    that do not recur mean nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
        Measured rows (`mdtree.zoo.MEASURED_COLUMNS`).

    Returns
    -------
    pandas.DataFrame
        A copy with RFI and label columns, in the order of `frame`.

    Raises
    ------
    InputError
        Two cells stand at the same place of the grid.
    """
    refuse_shared_places(frame)
    seeds = frame["seed"].copy()
    enough = pd.Series(False, index=frame.index)
    for rows, _ in grids(frame):
        by_cell = rows.groupby("cell")["seed"]
        if len({tuple(sorted(values)) for _, values in by_cell}) > 1:
            seeds[rows.index] = by_cell.rank(method="first") - 1
        enough[rows.index] = seeds[rows.index].nunique() >= SEEDS_NEEDED
    labelled = frame.drop(columns=[c for c in (*RFI_COLUMNS, *RFI_ERROR_COLUMNS, *LABEL_COLUMNS) if c in frame])
    for name in (*RFI_COLUMNS, *RFI_ERROR_COLUMNS):
        labelled[name] = np.nan
    for name in LABEL_COLUMNS:
        labelled[name] = pd.Series("censored", index=frame.index, dtype=object)
    if enough.any():
        part = label_zoo(frame.assign(seed=seeds)[enough])
        for name in (*RFI_COLUMNS, *RFI_ERROR_COLUMNS, *LABEL_COLUMNS):
            labelled.loc[enough, name] = part[name]
    return labelled


def supported_questions(labelled: pd.DataFrame) -> dict[str, str]:
    """For every question "yes", or why the table cannot answer it.

    A question is answered where clear labels of two kinds are there to be told apart.
    """
    varying = _varying(labelled)
    seeds = int(labelled.groupby(["family", "cell"])["seed"].nunique().max())
    return {question: _answer(labelled, question, varying, seeds) for question in QUESTIONS}


def _varying(frame: pd.DataFrame) -> frozenset[str]:
    """Axes with two values or more in some block."""
    return frozenset(name for rows, _ in grids(frame) for name in _AXES if rows[name].nunique() > 1)


def _answer(labelled: pd.DataFrame, question: str, varying: frozenset[str], seeds: int) -> str:
    labels = labelled[f"label_{question}"]
    kinds = sorted(set(labels[~labels.isin(UNLABELLED)]))
    if len(kinds) > 1:
        return YES
    axis = next((name for name, about in _AXES.items() if about == question), None)
    if axis is not None and axis not in varying:
        return f"{_words(axis)} does not vary"
    if question in ("model_size", "data") and "temperature" not in varying:
        return "compared with a change of temperature, and temperature does not vary"
    if not varying:
        return "no axis varies"
    if seeds < SEEDS_NEEDED:
        return f"labels need {SEEDS_NEEDED} seeds in a cell, and there {'is' if seeds == 1 else 'are'} {seeds} at most"
    counts = labels.value_counts()
    unclear = ", ".join(f"{counts[name]} {name}" for name in UNLABELLED if name in counts)
    if kinds:
        more = f" (and {unclear})" if unclear else ""
        return f"all that is clear is {_words(kinds[0])}{more}: nothing to tell apart"
    return (
        f"no network has a clear answer ({unclear} of {len(labels)}; censored: the grid ends or is not complete there)"
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
