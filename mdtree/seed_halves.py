"""Do the labels of a zoo repeat? Each cell labelled twice, from two disjoint halves of its seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.room import Grid, cross_fitted_gains, grids, labels, places
from mdtree.zoo import DIRECTIONS, QUESTIONS, UNLABELLED

MOST_SPLITS = 10
"""Splits of the seeds that are tried; where there are more, as many are drawn."""

Split = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Agreement:
    """How far the labels of two halves of the seeds agree on one question, over cells and splits.

    Attributes
    ----------
    question : str
    cells : float
        Cells (mean over splits) on which both halves give an answer; `healthy` and `temperature` are answers too.
    agree : float or None
        Share of those, pooled over splits, with the same answer; None where there are none.
    abstain : float or None
        Of the cells that the grid lets at least one half judge, the share where one or both are `ambiguous` or
        `censored`; None where the grid lets no half judge.
    """

    question: str
    cells: float
    agree: float | None
    abstain: float | None


@dataclass(frozen=True)
class HalfAgreement:
    """Agreement of a family's labels between halves of its seeds.

    Attributes
    ----------
    sizes : (int, int)
        Seeds in the two halves.
    splits : int
        Splits of the seeds tried.
    questions : tuple of Agreement
    """

    sizes: tuple[int, int]
    splits: int
    questions: tuple[Agreement, ...]


def half_agreement(frame: pd.DataFrame) -> HalfAgreement | None:
    """Label every cell of a family from each half of its seeds, and compare.

    A half of two seeds or more is labelled by the zoo's own rule (`mdtree.room`) on cross-fitted gains. A half of one
    seed (a zoo of two or three) cannot be cross-fitted and has no standard error: the best cell is chosen and scored
    on that seed, and the rule's margins count in points alone. Such a half is flattered and names a cause more
    readily, so the agreement of a zoo with three seeds is not that of one with four.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of one family.

    Returns
    -------
    HalfAgreement or None
        None where the rows are means over seeds, or no block has two seeds.
    """
    blocks = [(rows, grid) for rows, grid in grids(frame) if len(grid.seeds) > 1]
    if not blocks:
        return None
    # blocks of one build have equal seeds; of a mixed table the fewest say how seeds are cut
    splits = half_splits(min(len(grid.seeds) for _, grid in blocks))
    asked, named, same = (dict.fromkeys(QUESTIONS, 0) for _ in range(3))
    for grid, place in _cells(blocks):
        of_half = {half: _half_labels(grid, place, half) for half in sorted(set(itertools.chain(*splits)))}
        for question, (one, other) in itertools.product(QUESTIONS, splits):
            answers = of_half[one][question], of_half[other][question]
            asked[question] += answers != ("censored", "censored")
            if not set(answers) & set(UNLABELLED):
                named[question] += 1
                same[question] += answers[0] == answers[1]
    return HalfAgreement(
        sizes=(len(splits[0][0]), len(splits[0][1])),
        splits=len(splits),
        questions=tuple(
            Agreement(
                question=q,
                cells=named[q] / len(splits),
                agree=same[q] / named[q] if named[q] else None,
                abstain=1 - named[q] / asked[q] if asked[q] else None,
            )
            for q in QUESTIONS
        ),
    )


def half_splits(seeds: int) -> list[Split]:
    """Cuts of seeds 0...n-1 in two disjoint halves (the first holds one less where n is odd).

    All of them where there are at most `MOST_SPLITS`, otherwise that many different ones from a fixed draw.
    """
    half = seeds // 2
    if math.comb(seeds, half) // (2 if seeds % 2 == 0 else 1) <= MOST_SPLITS:
        firsts = list(itertools.combinations(range(seeds), half))
    else:
        firsts, generator = [], np.random.default_rng(0)
        while len({_cut(first, seeds) for first in firsts}) < MOST_SPLITS:
            firsts.append(tuple(sorted(generator.permutation(seeds)[:half].tolist())))
    return sorted({_cut(first, seeds) for first in firsts})


def _cut(first: Sequence[int], seeds: int) -> Split:
    """The split with `first` as a half; halves of one size stand in order, so that no split comes twice."""
    one, other = tuple(first), tuple(s for s in range(seeds) if s not in first)
    return (other, one) if len(one) == len(other) and other < one else (one, other)


def _cells(blocks: Sequence[tuple[pd.DataFrame, Grid]]) -> Iterator[tuple[Grid, tuple[int, int, int]]]:
    for rows, grid in blocks:
        for place in dict.fromkeys(place for _, place, _ in places(rows, grid)):
            yield grid, place


def _half_labels(grid: Grid, place: tuple[int, int, int], half: Sequence[int]) -> dict[str, str]:
    """Labels of one cell from some of its seeds."""
    gains = {}
    for direction in DIRECTIONS:
        errors = grid.along(direction, place)[1][:, list(half)]
        complete = ~np.isnan(errors).any(axis=1)
        if complete[0] and complete.sum() > 1:
            gains[direction] = _gains(errors[complete])
    return labels(gains)


def _gains(errors: np.ndarray) -> np.ndarray:
    """Gain per seed; one seed stands twice, which leaves the rule its points and takes its standard error away."""
    return cross_fitted_gains(errors) if errors.shape[1] > 1 else np.repeat(errors[0] - errors.min(axis=0), 2)
