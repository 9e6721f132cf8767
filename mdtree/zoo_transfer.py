"""Does a diagnosis travel? Fitted on all zoos but a part, asked about the part, beside the simplest answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mdtree.errors import InputError
from mdtree.evaluation import action_gains
from mdtree.leaf_statistics import cell_names
from mdtree.scoring import Answers, Interval, Scores, bootstrap_intervals, score
from mdtree.transfer_methods import Answering, Method, methods_with
from mdtree.zoo import ALONE_METRICS, EVIDENCE, PAIR_METRICS, QUESTIONS, TEST_METRICS, UNLABELLED
from mdtree.zoo_parts import Part, parts_of

UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Run:
    """One method on one part, question and evidence set. Shares are 0...1; None where no row tells.

    Attributes
    ----------
    left_out, transfer : str
        As `Part.name` and `Part.transfer`.
    question, evidence, method : str
    balanced_accuracy : float or None
        Mean recall over the causes that occur, rows that are not ambiguous; `undetermined` counts as wrong.
    interval : pair of float, or None
        95 % bootstrap interval of it over cells.
    accuracy : float or None
        Share of right answers among the same rows.
    per_cause : dict of str to float
        Recalls.
    gain_captured, regret_points : float or None
        As `mdtree.scoring.Scores`, on all rows, ambiguous ones too; `undetermined` changes nothing and gains nothing.
    gain_interval : pair of float, or None
    coverage : float
        Share of all rows that get an answer other than `undetermined`.
    accuracy_answered, balanced_accuracy_answered : float or None
        Of the answered rows that are not ambiguous.
    answered_interval : pair of float, or None
        Of `accuracy_answered`.
    n, n_ambiguous : int
        Rows asked about, and those of them whose truth is too close to call.
    n_censored, n_diverged, n_not_measured : int
        Rows of the part that are not asked about: their truth lies beyond the edge of the grid; their training
        diverged; they lack the metrics of this evidence set.
    cells, n_fitted : int
        Cells asked about; rows fitted on, diverged ones not counted.
    """

    left_out: str
    transfer: str
    question: str
    evidence: str
    method: str
    balanced_accuracy: float | None
    interval: tuple[float, float] | None
    accuracy: float | None
    per_cause: Mapping[str, float]
    gain_captured: float | None
    gain_interval: tuple[float, float] | None
    regret_points: float | None
    coverage: float
    accuracy_answered: float | None
    answered_interval: tuple[float, float] | None
    balanced_accuracy_answered: float | None
    n: int
    n_ambiguous: int
    n_censored: int
    n_diverged: int
    n_not_measured: int
    cells: int
    n_fitted: int


@dataclass(frozen=True)
class Gap:
    """What was not run, and why: a part, or of a part a question, of it an evidence set or a method (else empty)."""

    left_out: str
    question: str
    evidence: str
    method: str
    reason: str


@dataclass(frozen=True)
class TransferResult:
    """All runs of one way of leaving out."""

    leave_out: str
    default_method: str
    runs: tuple[Run, ...]
    gaps: tuple[Gap, ...]

    def to_dict(self) -> dict[str, Any]:
        """`default_method` and `runs` as JSON-able values."""
        return {"default_method": self.default_method, "runs": [asdict(run) for run in self.runs]}


def run_transfer(
    frame: pd.DataFrame,
    leave_out: str,
    *,
    methods: Sequence[Method] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[str, float], None] | None = None,
) -> TransferResult:
    """Leave out every part in turn, fit all methods on the rest, and ask them about it.

    All rows of the rest are fitted on, whatever their `split`; all rows of the part are asked about: nothing of it was
    seen. Their labels stay those of the whole grid.

    Parameters
    ----------
    frame : pandas.DataFrame
        What `mdtree.zoo_parts.read_zoos` gives.
    leave_out : {"data_set", "family", "architecture", "scale"}
    methods : sequence of Method, optional
        The first is the one in question; `methods_with()` by default.
    seed : int
        Of the cells drawn where scale is left out.
    workers : int
        Parts are done on so many processes of one thread each; -1 for one per core. The result does not depend on it.
    progress : callable, optional
        Called with the part that was done and the share of all parts done.

    Returns
    -------
    TransferResult

    Raises
    ------
    InputError
        See `parts_of`; or not one run was possible.
    """
    chosen = tuple(methods) if methods is not None else methods_with()
    parts, missing = parts_of(frame, leave_out, seed)
    if workers != -1 and workers < 1:
        raise InputError(f"workers = {workers}", "1 or more, or -1 for one per core")
    # no memory maps: a worker gets frames it may write to, as this process has them
    pool = Parallel(n_jobs=min(workers, len(parts)), return_as="generator", max_nbytes=None)
    tasks = (delayed(_run_part)(part, frame[part.fitted], frame[part.asked], chosen) for part in parts)
    runs: list[Run] = []
    gaps = [Gap(part.name, "", "", "", part.reason) for part in missing]
    for number, (found, not_run) in enumerate(pool(tasks), start=1):
        runs += found
        gaps += not_run
        if progress is not None:
            progress(parts[number - 1].name, number / len(parts))
    if not runs:
        raise InputError(f"no part can be asked about ({gaps[0].left_out}: {gaps[0].reason})", "labelled zoos")
    return TransferResult(leave_out, chosen[0].name, tuple(runs), tuple(gaps))


def _run_part(
    part: Part, fitted: pd.DataFrame, asked: pd.DataFrame, methods: Sequence[Method]
) -> tuple[list[Run], list[Gap]]:
    """All questions, evidence sets and methods of one part; one thread, so that sums have the same last bits."""
    with threadpool_limits(1):
        rows = fitted.assign(split="fit").reset_index(drop=True)
        ready: dict[str, Answering | InputError] = {}
        for method in methods:
            try:
                upon = rows if method.upon is None else ready[method.upon]
                if isinstance(upon, InputError):
                    raise upon
                ready[method.name] = method.fit(upon)
            except InputError as error:
                ready[method.name] = error
        task = _PartTask(part, methods, ready, asked.reset_index(drop=True), int((rows["diverged"] == 0).sum()))
        found = [item for question in QUESTIONS for item in task.ask(question)]
    return [run for run in found if isinstance(run, Run)], [gap for gap in found if isinstance(gap, Gap)]


@dataclass(frozen=True)
class _PartTask:
    """A part with all methods fitted (or why one could not be)."""

    part: Part
    methods: Sequence[Method]
    ready: Mapping[str, Answering | InputError]
    asked: pd.DataFrame
    n_fitted: int

    def ask(self, question: str) -> Iterator[Run | Gap]:
        """Runs and gaps of a question, evidence sets in their order, methods in theirs."""
        trained = self.asked[self.asked["diverged"] == 0]
        known = trained[label_known(trained, question)]
        kinds = sorted(set(known[f"label_{question}"]) - set(UNLABELLED))
        if len(kinds) < 2:
            words = f"all that is clear is {kinds[0].replace('_', ' ')}" if kinds else "no network has a clear answer"
            yield Gap(self.part.name, question, "", "", f"{words}: nothing to tell apart")
            return
        counts = {"n_censored": len(trained) - len(known), "n_diverged": len(self.asked) - len(trained)}
        # figures of methods that do not see the evidence, by the rows asked about
        kept: dict[tuple[str, bytes], dict[str, Any]] = {}
        for evidence in EVIDENCE:
            here = has_evidence(known, evidence)
            if not here.any():
                yield Gap(self.part.name, question, evidence, "", "its networks lack such metrics")
                continue
            left = {**counts, "n_not_measured": len(known) - int(here.sum()), "n_fitted": self.n_fitted}
            for method in self.methods:
                if question not in method.questions:
                    continue
                try:
                    figures = kept.get((method.name, here.tobytes())) or self._figures(
                        method, known[here], question, evidence
                    )
                except InputError as error:
                    yield Gap(self.part.name, question, evidence, method.name, str(error))
                    continue
                if not method.sees_evidence:
                    kept[method.name, here.tobytes()] = figures
                yield Run(self.part.name, self.part.transfer, question, evidence, method.name, **{**figures, **left})

    def _figures(self, method: Method, rows: pd.DataFrame, question: str, evidence: str) -> dict[str, Any]:
        answering = self.ready[method.name]
        if isinstance(answering, InputError):
            raise answering
        return run_figures(rows, question, answering(rows, question, evidence))


def label_known(rows: pd.DataFrame, question: str) -> np.ndarray:
    """Rows whose label is not censored (or empty); ambiguous ones are known: what they gain is."""
    label = rows[f"label_{question}"]
    return ((label != "censored") & label.notna()).to_numpy(dtype=bool)


def has_evidence(rows: pd.DataFrame, evidence: str) -> np.ndarray:
    """Rows with a metric of every kind that an evidence set names: of the network, of a pair, of the test data."""
    kinds: list[tuple[str, ...]] = [ALONE_METRICS]
    kinds += [PAIR_METRICS] if evidence.startswith("sibling") else []
    kinds += [TEST_METRICS] if evidence.endswith("_test") else []
    return np.all([rows[list(names)].notna().any(axis=1).to_numpy() for names in kinds], axis=0)


def run_figures(rows: pd.DataFrame, question: str, predicted: np.ndarray) -> dict[str, Any]:
    """The figures of a run that depend on the answers, from `balanced_accuracy` to `n_ambiguous` and `cells`.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows whose label is not censored, at least one.
    question : str
    predicted : ndarray of str, shape (rows,)
    """
    truth = rows[f"label_{question}"].to_numpy(dtype=str)
    ambiguous = np.isin(truth, UNLABELLED)
    answered = predicted != UNDETERMINED
    cells = cell_names(rows).tolist()
    given = Answers(truth, predicted, action_gains(rows, question), ambiguous)
    scores, intervals = _scored(given, cells)
    # without the answers withheld; rows stay, so that the same cells are drawn
    of_answered = Answers(truth, predicted, None, ambiguous | ~answered)
    scores_answered, intervals_answered = (scores, intervals) if answered.all() else _scored(of_answered, cells)
    return {
        "balanced_accuracy": _plain(scores.balanced_accuracy),
        "interval": _pair(intervals["balanced_accuracy"]),
        "accuracy": _plain(scores.accuracy),
        "per_cause": dict(scores.per_class),
        "gain_captured": _plain(scores.gain_captured),
        "gain_interval": _pair(intervals["gain_captured"]),
        "regret_points": _plain(scores.regret_points),
        "coverage": float(answered.mean()),
        "accuracy_answered": _plain(scores_answered.accuracy),
        "answered_interval": _pair(intervals_answered["accuracy"]),
        "balanced_accuracy_answered": _plain(scores_answered.balanced_accuracy),
        "n": len(rows),
        "n_ambiguous": int(ambiguous.sum()),
        "cells": len(set(cells)),
    }


def _scored(given: Answers, cells: Sequence[str]) -> tuple[Scores, Mapping[str, Interval]]:
    return score(given.truth, given.predicted, given.gains, given.ambiguous), bootstrap_intervals(given, cells)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _pair(interval: Interval) -> tuple[float, float] | None:
    return None if math.isnan(interval.low) else (interval.low, interval.high)
