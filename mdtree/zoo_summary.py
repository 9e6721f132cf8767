"""What a zoo holds: cells and causes, how sure its labels are, and whether its axes reach far enough."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mdtree.build_status import BuildRecord, read_build_record
from mdtree.errors import InputError
from mdtree.room import grids
from mdtree.seed_halves import HalfAgreement, half_agreement
from mdtree.zoo import CAUSES, QUESTIONS, read_zoo

LEAST_CAUSE_SHARE = 0.1
"""A tree says a cause only where enough cells have it: each should be that of a tenth of the cells not healthy."""

AXES = ("width", "train_size", "temperature", "learning_rate", "batch_size", "weight_decay", "label_noise")
_SETTINGS = ("architecture", "data_set", "optimizer", "schedule", "budget", "augmentation")


@dataclass(frozen=True)
class QuestionCount:
    """Labels of a family's cells on one question.

    Attributes
    ----------
    question : str
    cells : dict of str -> int
        Label -> cells, `ambiguous` and `censored` among them.
    """

    question: str
    cells: dict[str, int]

    def share(self, label: str) -> float:
        """Share of all cells with a label (0...1)."""
        return self.cells.get(label, 0) / sum(self.cells.values())

    @property
    def answerable(self) -> bool:
        """Whether the grid can tell at least one cell's answer (or that it is too close to call)."""
        return any(label != "censored" for label in self.cells)


@dataclass(frozen=True)
class Optimum:
    """Where the best temperature of each row (one width, amount of data and setting of the nuisances) lies.

    Attributes
    ----------
    rows : int
        Rows with at least three temperatures: fewer have no inside.
    inside, coldest, hottest : int
        Rows whose lowest mean test error lies inside the axis, at its cold end, at its hot end.
    """

    rows: int
    inside: int
    coldest: int
    hottest: int


@dataclass(frozen=True)
class Trend:
    """Test error along the width or the amount of data, at the best temperature of each row.

    Attributes
    ----------
    axis : str
        `width` or `train_size`.
    values : tuple of float
        Ascending.
    errors : tuple of float
        Percent: mean over the rows of the other axes and the nuisances, those only that hold every value.
    """

    axis: str
    values: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def steps_down(self) -> int:
        """Steps along the axis at which the error falls, of `len(values) - 1`."""
        return int((np.diff(self.errors) < 0).sum())


@dataclass(frozen=True)
class FamilySummary:
    """What one family of a zoo table holds.

    Attributes
    ----------
    family, table : str
    cells, networks : int
    seeds : tuple of int
        Fewest and most networks of a cell; (0, 0) in a table of means over seeds.
    diverged : int
        Networks.
    axes : dict of str -> tuple of float
        Distinct values of the columns of `AXES`, ascending; a column that is empty is left out.
    settings : dict of str -> tuple of str
        Distinct values of the columns that hold text: architecture, data set, optimizer, schedule ...
    build : BuildRecord or None
        None where the table has no record of its build, or holds other families too.
    questions : tuple of QuestionCount
    cause_shares : dict of str -> float, or None
        Share of each cause among the cells whose verdict is one; None where no verdict names a cause.
    agreement : HalfAgreement or None
        None for means over seeds.
    optimum : Optimum
    trends : tuple of Trend
        Of width and amount of data, those with two values or more.
    """

    family: str
    table: str
    cells: int
    networks: int
    seeds: tuple[int, int]
    diverged: int
    axes: dict[str, tuple[float, ...]]
    settings: dict[str, tuple[str, ...]]
    build: BuildRecord | None
    questions: tuple[QuestionCount, ...]
    cause_shares: dict[str, float] | None
    agreement: HalfAgreement | None
    optimum: Optimum
    trends: tuple[Trend, ...]


def summarise_tables(tables: Sequence[str | os.PathLike[str]]) -> list[FamilySummary]:
    """Read labelled zoo tables and summarise every family in them, in the order given.

    Raises
    ------
    InputError
        A table cannot be read (`mdtree.zoo.read_zoo`), or a family stands in two of them.
    """
    found: list[FamilySummary] = []
    for table in tables:
        frame = read_zoo(table)
        families = [(str(name), rows) for name, rows in frame.groupby("family", sort=False, dropna=False)]
        for name, rows in families:
            twice = [other.table for other in found if other.family == name]
            if twice:
                raise InputError(f"family {name} stands in {twice[0]} and in {table}", "each family in one table")
            build = read_build_record(table) if len(families) == 1 else None
            found.append(summarise_family(rows, name, str(table), build))
    return found


def summarise_family(frame: pd.DataFrame, family: str, table: str, build: BuildRecord | None) -> FamilySummary:
    """Summarise the rows of one family of a labelled table."""
    means = bool(frame["seed"].isna().all())
    networks_of_cell = frame.groupby("cell").size()
    questions = tuple(QuestionCount(name, _cell_labels(frame, name)) for name in QUESTIONS)
    verdicts = {cause: questions[-1].cells.get(cause, 0) for cause in CAUSES.values()}
    sick = sum(verdicts.values())
    return FamilySummary(
        family=family,
        table=table,
        cells=len(networks_of_cell),
        networks=len(frame),
        seeds=(0, 0) if means else (int(networks_of_cell.min()), int(networks_of_cell.max())),
        diverged=int(frame["diverged"].fillna(0).sum()),
        axes={name: tuple(sorted(map(float, v))) for name in AXES if len(v := frame[name].dropna().unique())},
        settings={
            name: tuple(map(str, v)) for name in _SETTINGS if name in frame and len(v := frame[name].dropna().unique())
        },
        build=build,
        questions=questions,
        cause_shares={cause: count / sick for cause, count in verdicts.items()} if sick else None,
        agreement=half_agreement(frame),
        optimum=find_optima(frame),
        trends=tuple(trend for trend in (_trend(frame, name) for name in AXES[:2]) if trend),
    )


def _cell_labels(frame: pd.DataFrame, question: str) -> dict[str, int]:
    """Cells of each label; a cell's is what more than half of its networks carry, else it is `ambiguous`."""
    labels_of = frame[f"label_{question}"].fillna("censored")
    counts = frame.groupby(["cell", labels_of], sort=False).size().unstack(fill_value=0)
    clear = counts.gt(counts.sum(axis=1) / 2, axis=0)
    labels = clear.idxmax(axis=1).where(clear.any(axis=1), "ambiguous")
    return {str(label): int(n) for label, n in labels.value_counts().sort_index().items()}


def find_optima(frame: pd.DataFrame) -> Optimum:
    """Count the rows of a family's grid whose best temperature lies inside the axis, by the mean over seeds."""
    inside = coldest = hottest = 0
    for _, grid in grids(frame):
        for errors in _mean_over_seeds(grid.error).reshape(-1, len(grid.temperatures)):
            present = errors[~np.isnan(errors)]
            if len(present) > 2:
                best = int(np.argmin(present))
                coldest += best == 0
                hottest += best == len(present) - 1
                inside += 0 < best < len(present) - 1
    return Optimum(inside + coldest + hottest, inside, coldest, hottest)


def _trend(frame: pd.DataFrame, axis: str) -> Trend | None:
    """Mean test error at the best temperature along an axis; None where it has one value, or no row has all."""
    best: list[pd.Series] = []
    for number, (_, grid) in enumerate(grids(frame)):
        errors = _mean_over_seeds(grid.error)
        lowest = np.where(np.isnan(errors), np.inf, errors).min(axis=2)
        along, across = (grid.widths, lowest.T) if axis == "width" else (grid.train_sizes, lowest)
        best += [pd.Series(row, index=along, name=(number, n)) for n, row in enumerate(across)]
    rows = pd.DataFrame(best).replace(np.inf, np.nan).dropna().sort_index(axis=1)
    if rows.empty or rows.shape[1] < 2:
        return None
    return Trend(axis, tuple(float(v) for v in rows.columns), tuple(float(v) for v in rows.mean()))


def _mean_over_seeds(error: np.ndarray) -> np.ndarray:
    """Mean over the last axis of those that are there; NaN where none is."""
    count = (~np.isnan(error)).sum(axis=-1)
    return np.where(count > 0, np.nansum(error, axis=-1) / np.maximum(count, 1), np.nan)


def summary_values(summary: FamilySummary) -> dict[str, Any]:
    """A summary as plain values; the questions, causes and axes by name."""
    values = asdict(summary)
    agreement = {q.pop("question"): q for q in values["agreement"].pop("questions")} if summary.agreement else None
    values["questions"] = {
        q.question: {
            "cells": q.cells,
            "ambiguous_share": q.share("ambiguous"),
            "censored_share": q.share("censored"),
            "agreement": agreement and agreement[q.question],
        }
        for q in summary.questions
    }
    if summary.build:
        values["build"]["networks_per_second"] = summary.build.networks_per_second
        values["build"]["networks_per_worker_second"] = summary.build.networks_per_worker_second
    values["trends"] = {trend.pop("axis"): trend for trend in values["trends"]}
    return values
