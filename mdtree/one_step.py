"""The one-step experiment: follow the advice once on the whole grid and see what test accuracy it brings.

Source: Zhou et al., "MD tree: a model-diagnostic tree grown on loss landscape", 2024. The public tables hold the test
error of every cell of their grid, so any change of one axis can be replayed. The published figures cut every gain off
at 0, as if a change that does harm were taken back at no cost; the unclipped ones beside them show the harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.benchmark_cases import CASES, SEEDS, clear_rows, training_rows
from mdtree.benchmark_methods import Method
from mdtree.errors import InputError
from mdtree.room import grids, places
from mdtree.scoring import NO_CHANGE
from mdtree.zoo import CAUSES, GAIN_COLUMN

DIRECTIONS = ("temperature_up", "temperature_down", "model_size")
"""The changes that can be advised; the temperature is raised by the next smaller batch."""

TASKS: Mapping[str, tuple[str, ...]] = {"temperature": DIRECTIONS[:2], "model_size": DIRECTIONS}
"""Task -> the changes to choose from."""

REFERENCES = ("random_direction", "always_up", "always_down", "always_width", "oracle")
"""What needs no method: a random choice, constant ones, and the direction of the true label."""

_ALWAYS = {"always_up": "temperature_up", "always_down": "temperature_down", "always_width": "model_size"}

_QUESTIONS = {"temperature": ("temperature",), "model_size": ("model_size", "temperature")}
_CASES = {"temperature": CASES[0], "model_size": CASES[3]}
_FIGURES = ("one", "random", "best", "one_unclipped", "best_unclipped")


@dataclass(frozen=True)
class OneStep:
    """Mean change of test accuracy by one change of configuration, in points, over rows and seeds.

    Where the grid ends in the advised direction, or nothing is advised, nothing changes.

    Attributes
    ----------
    one : float
        To the next cell; gains below 0 count as 0.
    random : float
        To a random cell in that direction (the expectation); gains below 0 count as 0.
    best : float
        To the best cell in that direction, or none if all are worse.
    one_unclipped, best_unclipped : float
        The same to the next, and to the best of the cells beyond, losses included.
    """

    one: float
    random: float
    best: float
    one_unclipped: float
    best_unclipped: float


def one_step(task: str, method: Method, train: pd.DataFrame, test: pd.DataFrame) -> OneStep:
    """What a method's advice is worth.

    Parameters
    ----------
    task : {"temperature", "model_size"}
        Raise or lower the temperature; or enlarge the model, or else raise or lower the temperature. In the second
        task the same training rows fit the method to both questions, and the answer about the temperature decides
        where the model is not to be enlarged.
    method : callable
        See `mdtree.benchmark_methods`.
    train, test : pandas.DataFrame
        Labelled tables of cells: the method is fitted on draws from the first (case 1 or 4, rows that are ambiguous
        about one of the questions left out) and advises every such row of the second.

    Raises
    ------
    InputError
        The task is unknown, a table lacks what is needed, or an answer advises nothing known.
    """
    asked, figures = _replayed(task, test)
    rows = clear_rows(train, *_QUESTIONS[task])
    chosen = [_advised(task, method, training_rows(_CASES[task], rows, seed), asked) for seed in SEEDS]
    return _averaged(figures, np.mean(chosen, axis=0))


def one_step_references(task: str, test: pd.DataFrame) -> dict[str, OneStep]:
    """What the references of a task are worth on the same rows, by name (`REFERENCES`).

    `random_direction` draws evenly between the two questions' answers: up or down with 1/2 each, or in the task
    `model_size` the width with 1/2, up and down with 1/4 each. All are expectations; nothing is drawn.

    Raises
    ------
    InputError
        The task is unknown or the table lacks what is needed.
    """
    asked, figures = _replayed(task, test)
    shares = {
        "random_direction": [0.5, 0.5, 0.0] if task == "temperature" else [0.25, 0.25, 0.5],
        **{name: np.array([d == direction for d in DIRECTIONS]) for name, direction in _ALWAYS.items()},
    }
    chosen = {name: np.tile(np.asarray(share, dtype=float), (len(asked), 1)) for name, share in shares.items()}
    chosen["oracle"] = _advised(task, lambda question, _, rows: rows[f"label_{question}"].to_numpy(str), asked, asked)
    return {
        name: _averaged(figures, chosen[name])
        for name in REFERENCES
        if name not in _ALWAYS or _ALWAYS[name] in TASKS[task]
    }


def step_figures(table: pd.DataFrame) -> np.ndarray:
    """What a step from every cell in every direction brings.

    Parameters
    ----------
    table : pandas.DataFrame
        Cells of a zoo table; the gains are differences of `gain_test_error_percent` within one block of the grid
        (`mdtree.room.grids`), means where a cell has several rows.

    Returns
    -------
    ndarray, shape (rows, directions, 5)
        Points of test accuracy by row, `DIRECTIONS` and the attributes of `OneStep`; 0 where the grid ends.

    Raises
    ------
    InputError
        A row has no test error.
    """
    if table[GAIN_COLUMN].isna().any():
        raise InputError(f"{int(table[GAIN_COLUMN].isna().sum())} rows have no {GAIN_COLUMN}", "one in every row")
    figures = np.zeros((len(table), len(DIRECTIONS), len(_FIGURES)))
    position = {index: number for number, index in enumerate(table.index)}
    for rows, grid in grids(table):
        for index, place, _ in places(rows, grid):
            for number, direction in enumerate(DIRECTIONS):
                error = np.nanmean(grid.along(direction, place)[1], axis=1)
                gains = error[0] - error[1:]
                if gains.size:
                    cut = np.maximum(gains, 0.0)
                    figures[position[index], number] = cut[0], cut.mean(), cut.max(), gains[0], gains.max()
    return figures


def _replayed(task: str, test: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that are asked about and what a step from each of them brings."""
    if task not in TASKS:
        raise InputError(f"task {task!r}", f"one of {', '.join(TASKS)}")
    numbered = test.reset_index(drop=True)
    asked = clear_rows(numbered, *_QUESTIONS[task])
    return asked, step_figures(numbered)[asked.index.to_numpy()]


def _advised(task: str, method: Method, training: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """Which direction a method advises, 1 or 0, shape (rows, directions)."""
    answers = np.asarray(method(task, training, asked))
    if task == "model_size":
        answers = np.where(answers == "temperature", method("temperature", training, asked), answers)
    unknown = set(answers.tolist()) - {CAUSES[direction] for direction in TASKS[task]} - set(NO_CHANGE)
    if unknown:
        raise InputError(f"the answer {', '.join(sorted(unknown))} to {task}", "a cause the task can cure")
    return np.stack([answers == CAUSES[direction] for direction in DIRECTIONS], axis=1).astype(float)


def _averaged(figures: np.ndarray, chosen: np.ndarray) -> OneStep:
    return OneStep(*(np.einsum("rdf,rd->f", figures, chosen) / len(chosen)).tolist())
