"""The seven cases of the public diagnosis table: which rows a method is fitted on and which it is scored on.

Source: Zhou et al., "MD tree: a model-diagnostic tree grown on loss landscape", 2024. Methods are fitted on few rows of
one collection of networks (clean labels) and scored on all rows of another (10 % of the training labels wrong). The
draws are the published ones, seed for seed, made by a generator of their own: `numpy.random.RandomState(seed).choice`
gives what `numpy.random.choice` gives after `numpy.random.seed(seed)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.zoo import UNLABELLED

SEEDS = (42, 90, 38, 18, 72)
"""Seeds of the draws; every figure of the benchmark is a mean over them."""

PAIRS = 8
"""(train size, width) pairs drawn in case 1; with 13 batch sizes each, tied rows left out, about 96 rows."""

LEAST_DATA, LEAST_WIDTH, LEAST_DATA_QUESTION_WIDTH = 5000, 2, 32

Sampler = Callable[[pd.DataFrame, np.random.RandomState], np.ndarray]
"""From the rows that may be drawn and a generator to the rows that are, as a bool array."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    number : int
        As published, 1 to 7.
    question : str
        `temperature`, `model_size` or `data`.
    words : str
        The training rows in words.
    sampler : callable
        Which of the clear training rows are drawn.
    least_width : float
        Narrower networks are left out of both collections.
    """

    number: int
    question: str
    words: str
    sampler: Sampler
    least_width: float = 0.0


@dataclass(frozen=True)
class Draw:
    """What a method gets: rows to fit on and rows to answer, both without rows whose label is ambiguous."""

    seed: int
    training: pd.DataFrame
    test: pd.DataFrame


def _random_pairs(rows: pd.DataFrame, generator: np.random.RandomState) -> np.ndarray:
    pairs = list(itertools.product(_values(rows, "train_size"), _values(rows, "width")))
    drawn = {pairs[position] for position in generator.choice(len(pairs), size=PAIRS, replace=False)}
    return np.array([pair in drawn for pair in zip(rows["train_size"], rows["width"], strict=True)])


def _random_value(column: str) -> Sampler:
    def sampler(rows: pd.DataFrame, generator: np.random.RandomState) -> np.ndarray:
        values = _values(rows, column)
        drawn = values[generator.choice(len(values), size=1, replace=False)[0]]
        return (rows[column] == drawn).to_numpy()

    return sampler


def _at_most(column: str, limit: float) -> Sampler:
    return lambda rows, generator: (rows[column] <= limit).to_numpy()


def _values(rows: pd.DataFrame, column: str) -> list[float]:
    return sorted(rows[column].unique().tolist())


CASES = (
    Case(1, "temperature", "8 random pairs of training-set size and width", _random_pairs),
    Case(2, "temperature", "at most 5,000 training images", _at_most("train_size", LEAST_DATA)),
    Case(3, "temperature", "width at most 2", _at_most("width", LEAST_WIDTH)),
    Case(4, "model_size", "one random training-set size", _random_value("train_size")),
    Case(5, "model_size", "at most 5,000 training images", _at_most("train_size", LEAST_DATA)),
    Case(6, "data", "one random width of 32 or more", _random_value("width"), LEAST_DATA_QUESTION_WIDTH),
    Case(7, "data", "width 32", _at_most("width", LEAST_DATA_QUESTION_WIDTH), LEAST_DATA_QUESTION_WIDTH),
)
"""The published cases in their order."""


def clear_rows(table: pd.DataFrame, *questions: str) -> pd.DataFrame:
    """The rows that have a cause as label for each of these questions, in the table's order.

    Raises
    ------
    InputError
        The table lacks a label, or no row is left.
    """
    missing = [f"label_{question}" for question in questions if f"label_{question}" not in table]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}", "a labelled table")
    clear = np.ones(len(table), dtype=bool)
    for question in questions:
        clear &= ~table[f"label_{question}"].isin(UNLABELLED).to_numpy()
    if not clear.any():
        raise InputError(f"every row is ambiguous about {' or '.join(questions)}", "rows with a label")
    return table[clear]


def training_rows(case: Case, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows of a case's draw among rows that may be drawn, in their order.

    Raises
    ------
    InputError
        Nothing is drawn, or there are fewer values than the case draws.
    """
    try:
        drawn = case.sampler(rows, np.random.RandomState(seed))
    except ValueError as error:
        raise InputError(f"case {case.number} cannot draw from {len(rows)} rows ({error})", "a larger grid") from error
    if not drawn.any():
        raise InputError(f"case {case.number} draws no row", f"rows with {case.words}")
    return rows[drawn]


def draws(case: Case, train: pd.DataFrame, test: pd.DataFrame) -> Iterator[Draw]:
    """The draws of a case, one for each of `SEEDS`.

    Parameters
    ----------
    case : Case
        One of `CASES`.
    train, test : pandas.DataFrame
        The two collections, labelled, in the order of the published files (the draws do not depend on it).

    Yields
    ------
    Draw
        The drawn rows of `train` and all rows of `test`; ambiguous ones (and narrow ones, where the case says so) are
        dropped from both before the draw.

    Raises
    ------
    InputError
        A table has no labels, or no row is left of it.
    """
    may_be_drawn, asked = (
        _wide(clear_rows(table, case.question), case.least_width, case.number) for table in (train, test)
    )
    for seed in SEEDS:
        yield Draw(seed, training_rows(case, may_be_drawn, seed), asked)


def _wide(rows: pd.DataFrame, least_width: float, number: int) -> pd.DataFrame:
    wide = rows[rows["width"] >= least_width]
    if wide.empty:
        raise InputError(f"no network is {least_width:g} wide or wider", f"some: case {number} is about them")
    return wide
