"""A zoo out of training runs that exist: open the checkpoints, measure each as `mdtree diagnose` does, label.

Where test data are at hand the test set is cut in two halves, one for the test metrics, one for gains. Where only test
errors are given they stand for both, and a notice says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mdtree.backends import Backend, run_tasks
from mdtree.errors import InputError
from mdtree.run_cell import CellTask, finish_cell
from mdtree.run_plan import RunOptions, plan_cells
from mdtree.runs import RunsTable
from mdtree.supported_questions import label_supported, supported_questions
from mdtree.unfinished_table import UnfinishedTable
from mdtree.zoo import MEASURED_COLUMNS, read_zoo, write_zoo

SAME_TEST_NUMBERS = "test errors as given stand for the test metrics and for the gains: the two are not independent"


@dataclass(frozen=True)
class MeasuredRuns:
    """A finished zoo of runs.

    Attributes
    ----------
    table : pandas.DataFrame
        Labelled, as written.
    measured : int
        Networks measured now rather than found on disk.
    questions : dict of question to str
        "yes", or why it cannot be answered.
    notices : tuple of str
        What a reader of the table should know.
    """

    table: pd.DataFrame
    measured: int
    questions: dict[str, str]
    notices: tuple[str, ...]


def measure_runs(
    runs: RunsTable,
    output: str | os.PathLike[str],
    options: RunOptions | None = None,
    *,
    backend: Backend | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> MeasuredRuns:
    """Measure checkpoints that exist and write them as a labelled zoo table.

    Cells are measured in parallel and put on disk as they finish, in `<output>.partial/`: run again after an
    interruption it goes on where it was.

    Parameters
    ----------
    runs : RunsTable
        See `mdtree.runs.read_runs`.
    output : path
        The zoo table (CSV).
    options : RunOptions, optional
    backend : Backend, optional
        Where cells are measured; default: a process of one thread per core.
    progress : callable, optional
        Called with what is being done and the share done.

    Returns
    -------
    MeasuredRuns

    Raises
    ------
    InputError
        A specification is missing or cannot be used, there is no test error to be had, two cells stand at one place
        of the grid, a checkpoint does not open or cannot be measured (its line is named), the unfinished table belongs
        to other runs or is under way, or `output` is another table.
    ResourceError
        The disk is full. Finished cells are kept.
    """
    table = Path(output)
    report = progress or (lambda what, share: None)
    tasks = plan_cells(runs, options or RunOptions())
    total = sum(len(task.runs) for task in tasks)
    if table.exists():
        return _measured(_complete_table(table, tasks), 0, runs)
    with UnfinishedTable(table, _plan(tasks), [task.name for task in tasks]) as unfinished:
        waiting = [task for task in tasks if task.name not in unfinished.finished]
        now = sum(len(task.runs) for task in waiting)
        done = total - now
        report(f"{done}/{total} networks", done / total)
        for index, result in run_tasks(finish_cell, waiting, backend or Backend()):
            unfinished.add(waiting[index].name, result.rows, MEASURED_COLUMNS, result.facts)
            done += len(result.rows)
            report(f"{done}/{total} networks {waiting[index].name}", done / total)
        labelled = label_supported(unfinished.rows())
        write_zoo(labelled, table)
        unfinished.remove()
    return _measured(read_zoo(table), now, runs)


def _measured(table: pd.DataFrame, now: int, runs: RunsTable) -> MeasuredRuns:
    notices = []
    if runs.unused:
        notices.append(f"columns that mean nothing here: {', '.join(runs.unused)}")
    lone = int((table.groupby(["family", "cell"])["seed"].transform("count") == 1).sum())
    if lone:
        notices.append(f"{lone} networks have no sibling (one seed in their cell): no pair metrics")
    diverged = int(table["diverged"].sum())
    if diverged:
        notices.append(f"{diverged} networks diverged: they are kept with their test error, and not measured")
    # only where test errors were given are they the same to the last digit
    measured = table[table["diverged"] == 0]
    given = measured["test_loss"].isna() & (measured["test_error_percent"] == measured["gain_test_error_percent"])
    if given.any():
        notices.append(SAME_TEST_NUMBERS)
    return MeasuredRuns(table, now, supported_questions(table), tuple(notices))


def _plan(tasks: Sequence[CellTask]) -> dict[str, Any]:
    """What a table under way is told apart by; a checkpoint that was saved again is another one."""
    return {
        "protocol": tasks[0].protocol.to_dict(),
        "device": tasks[0].device,
        "cells": {
            task.name: {
                "settings": dict(task.settings),
                "model": task.model,
                "data": task.data,
                "runs": {str(run.seed): _fingerprint(run.path, run.test_error_percent) for run in task.runs},
            }
            for task in tasks
        },
    }


def _fingerprint(path: Path, test_error_percent: float | None) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns, test_error_percent]


def _complete_table(table: Path, tasks: Sequence[CellTask]) -> pd.DataFrame:
    """The table that is there already, if it holds these very runs and none was saved again since."""
    frame = read_zoo(table)
    have = set(zip(frame["cell"], frame["seed"], frame["protocol"], strict=True))
    want = {(task.name, run.seed, task.protocol.digest()) for task in tasks for run in task.runs}
    if have != want:
        raise InputError(
            f"{table} holds another zoo than these runs make ({len(have & want)} of {len(want)} networks)",
            "no table, or this one finished",
            "choose another output file",
        )
    written = table.stat().st_mtime_ns
    newer = [run.path for task in tasks for run in task.runs if run.path.stat().st_mtime_ns > written]
    if newer:
        raise InputError(
            f"{newer[0]} was saved after {table} was written", "", f"remove {table} to measure all runs again"
        )
    return frame
