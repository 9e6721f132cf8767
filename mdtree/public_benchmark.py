"""The public table of the MD tree paper as a yardstick: all methods on all cases, side by side.

Fitted on the collection with clean labels, asked about the one with 10 % wrong labels. Nothing here chooses anything.
Shapes were chosen on the clean collection (`benchmarks/choose_shapes.py`); that rows stand beside label noise was
decided after a first run on the noisy one (`benchmarks/choose_shapes.md` tells the order).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdtree.abstention import abstention_report
from mdtree.benchmark_cases import CASES, SEEDS, Case, draws
from mdtree.benchmark_methods import DEFAULT_METHOD, METHODS, Method, methods_for, refuse_unknown
from mdtree.chosen_shapes import chosen_shapes
from mdtree.default_procedure import fit_shape, fitted_thresholds
from mdtree.errors import InputError
from mdtree.evaluation import action_gains
from mdtree.modeldiagnosis import read_public_table
from mdtree.one_step import TASKS, one_step, one_step_references
from mdtree.scoring import score
from mdtree.verdict_benchmark import verdict_report

CLEAN_FILE, NOISY_FILE = "dataframe_normal_public.csv", "dataframe_noise_public.csv"

CLEAR_POINTS = 1.0
"""Difference of the two rooms for improvement from which a label counts as beyond doubt."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Collections:
    """The two halves of the public table, as zoo tables."""

    clean: pd.DataFrame
    noisy: pd.DataFrame


def read_collections(folder: Path) -> Collections:
    """Read both files of the public table.

    Raises
    ------
    InputError
        The folder or one of the files is missing, or a file is not that table.
    """
    for name in (CLEAN_FILE, NOISY_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}", f"a folder with {CLEAN_FILE} and {NOISY_FILE}")
    return Collections(read_public_table(folder / CLEAN_FILE), read_public_table(folder / NOISY_FILE))


def run_benchmark(tables: Collections, names: Sequence[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Every figure of the benchmark.

    Parameters
    ----------
    tables : Collections
    names : sequence of str
        Methods; all of `METHODS` if empty.
    progress : callable, optional
        Told what is done and the share (0...1) of it.

    Returns
    -------
    dict
        JSON-able: `default_method`, `cases`, `thresholds` (of the default, first draw), `one_step`, `verdict`,
        `abstention`; accuracies and shares are 0...1.

    Raises
    ------
    InputError
        A method is unknown.
    """
    refuse_unknown(names)
    chosen = list(names) or list(METHODS)
    show = progress or (lambda words, share: None)
    cases: dict[str, dict[str, Any]] = {}
    for case in CASES:
        cases[str(case.number)] = {}
        for name in chosen:
            if name in methods_for(case.question):
                show(f"case {case.number}: {name}", 0.5 * (case.number - 1) / len(CASES))
                cases[str(case.number)][name] = case_figures(case, METHODS[name], tables)
    return {
        "default_method": DEFAULT_METHOD,
        "seeds": list(SEEDS),
        "cases": cases,
        "thresholds": {str(case.number): default_thresholds(case, tables) for case in CASES},
        "one_step": _one_step(tables, chosen, show),
        "verdict": verdict_report(tables.clean, tables.noisy, lambda words, share: show(words, 0.7 + 0.25 * share)),
        "abstention": abstention_report(tables.clean, tables.noisy),
    }


def case_figures(case: Case, method: Method, tables: Collections) -> dict[str, Any]:
    """Figures of one method on one case: means over the seeds, `std` the spread of the accuracy (n - 1)."""
    per_seed: list[dict[str, float]] = []
    n = 0
    for draw in draws(case, tables.clean, tables.noisy):
        truth = draw.test[f"label_{case.question}"].to_numpy(dtype=str)
        predicted = method(case.question, draw.training, draw.test)
        gains = action_gains(draw.test, case.question)
        scores = score(truth, predicted, gains)
        values = np.stack(list(gains.values()))
        clear = values.max(axis=0) - values.min(axis=0) >= CLEAR_POINTS
        per_seed.append(
            {
                "accuracy": scores.accuracy,
                "balanced_accuracy": scores.balanced_accuracy,
                "clear_accuracy": float(np.mean(predicted[clear] == truth[clear])),
                "regret_points": scores.regret_points,
                "gain_captured": scores.gain_captured,
                "training_rows": float(len(draw.training)),
            }
        )
        n, n_clear = len(truth), int(clear.sum())
    means = {name: math.fsum(s[name] for s in per_seed) / len(per_seed) for name in per_seed[0]}
    spread = float(np.std([s["accuracy"] for s in per_seed], ddof=1))
    total = int((tables.noisy["width"] >= case.least_width).sum())
    return {**means, "std": spread, "n": n, "n_clear": n_clear, "dropped_share": 1 - n / total}


def default_thresholds(case: Case, tables: Collections) -> list[dict[str, Any]]:
    """The default tree's questions in the first draw of a case, with their intervals (`fitted_thresholds`)."""
    shape = chosen_shapes()[case.question]
    draw = next(draws(case, tables.clean, tables.noisy))
    labels = draw.training[f"label_{case.question}"].to_numpy(dtype=str)
    return fitted_thresholds(shape, fit_shape(shape, draw.training, labels))


def _one_step(tables: Collections, names: Sequence[str], show: Progress) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        show(f"one step: {task}", 0.5 if task == "temperature" else 0.6)
        found[task] = {
            name: vars(one_step(task, METHODS[name], tables.clean, tables.noisy))
            for name in names
            if name in methods_for(task)
        }
        found[task] |= {name: vars(step) for name, step in one_step_references(task, tables.noisy).items()}
    return found
