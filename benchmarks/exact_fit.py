"""Seconds to fit the MD tree paper's temperature tree: our exact search against the published procedure.

    python benchmarks/exact_fit.py dataframe_normal_public.csv [--repeats 21] [--json]

On each of the five training samples of case 1 (96 rows), the published procedure and the exact search run in turn; a
ratio is that of two neighbouring runs. The published procedure stands twice: as its authors wrote it (the tree walked
row by row, accuracy by scikit-learn, for every trial of a threshold), and as `mdtree.authors_fit` has it (whole
columns at once). Both try the same thresholds and find the same ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score

from mdtree.authors_fit import fit_as_published
from mdtree.benchmark_cases import CASES, SEEDS, clear_rows, training_rows
from mdtree.modeldiagnosis import read_public_table
from mdtree.threshold_search import fit_thresholds
from mdtree.tree import SHAPES

QUESTION = "temperature"
SHAPE = SHAPES[QUESTION]
TOO_LOW, TOO_HIGH = "temperature_too_low", "temperature_too_high"
STARTS = (0.5, -10.0, 7.0)
BOUNDS = ((0.0, 1.0), (-30.0, 0.0), (4.0, 9.0))


def predicted_row_by_row(X: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """The paper's temperature tree over (train error, negated peak, log trace), one row after the other."""
    answers = []
    for row in range(X.shape[0]):
        if X[row, 0] <= thresholds[0]:
            answers.append(TOO_LOW)
        elif X[row, 1] <= thresholds[1]:
            answers.append(TOO_HIGH if X[row, 2] <= thresholds[2] else TOO_LOW)
        else:
            answers.append(TOO_HIGH)
    return np.array(answers)


def fit_row_by_row(X: np.ndarray, labels: np.ndarray) -> tuple[list[float], int]:
    """The published procedure in the style of the published code: thresholds, and how often the tree was evaluated."""
    thresholds, evaluations = list(STARTS), 0
    for number, bounds in enumerate(BOUNDS):

        def cost(value: float, number: int = number) -> float:
            thresholds[number] = value
            return -accuracy_score(labels, predicted_row_by_row(X, thresholds))

        result = minimize_scalar(cost, bounds=bounds, method="bounded")
        thresholds[number] = float(result.x)
        evaluations += result.nfev
    return thresholds, evaluations


def compared(rows: pd.DataFrame, seed: int, repeats: int) -> dict[str, float]:
    """Scores, evaluations, seconds and ratios of one training sample."""
    columns = {name: rows[name].to_numpy(dtype=float) for name in SHAPE.features()}
    labels = rows[f"label_{QUESTION}"].to_numpy(dtype=str)
    error, peak, trace = (columns[name] for name in SHAPE.features())
    X = np.column_stack([error, -peak, np.log(trace)])
    thresholds, evaluations = fit_row_by_row(X, labels)
    published, exact = fit_as_published(SHAPE, columns, labels), fit_thresholds(SHAPE, columns, labels)
    if published.score != accuracy_score(labels, predicted_row_by_row(X, thresholds), normalize=False):
        raise SystemExit(f"seed {seed}: the two versions of the published procedure differ")
    ways = {
        "row_by_row": lambda: fit_row_by_row(X, labels),
        "vectorised": lambda: fit_as_published(SHAPE, columns, labels),
        "exact": lambda: fit_thresholds(SHAPE, columns, labels),
    }
    return {
        "seed": seed,
        "rows": len(labels),
        "published_score": published.score,
        "exact_score": exact.score,
        "published_evaluations": evaluations,
        **timed(ways, repeats),
    }


def timed(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each way, and how often the exact one fits into each of the others."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, "exact_after_row_by_row", "exact_after_vectorised")}
    for _ in range(repeats):
        for peer in ("row_by_row", "vectorised"):
            seconds[peer].append(_seconds(ways[peer]))
            seconds[f"exact_after_{peer}"].append(_seconds(ways["exact"]))
    seconds["exact"] = seconds["exact_after_row_by_row"] + seconds["exact_after_vectorised"]
    figures = {f"{name}_ms": 1000 * statistics.median(seconds[name]) for name in ways}
    for peer in ("row_by_row", "vectorised"):
        ratios = [a / b for a, b in zip(seconds[peer], seconds[f"exact_after_{peer}"], strict=True)]
        figures[f"{peer}_ratio"] = statistics.median(ratios)
        figures[f"{peer}_ratio_least"], figures[f"{peer}_ratio_most"] = min(ratios), max(ratios)
    return figures


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="the public table with clean labels")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    rows = clear_rows(read_public_table(given.table), QUESTION)
    results = [compared(training_rows(CASES[0], rows, seed), seed, given.repeats) for seed in SEEDS]
    if given.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'':36} {'milliseconds':^30} {'published / exact: median (range)':^46}")
    print(
        f"{'seed':>4} {'rows':>4} {'published':>9} {'exact':>5} {'evaluated':>9}"
        f" {'row by row':>10} {'vectorised':>10} {'exact':>6} {'row by row':>22} {'vectorised':>22}"
    )
    for r in results:
        ratios = (
            f"{r[f'{peer}_ratio']:.1f} ({r[f'{peer}_ratio_least']:.1f}-{r[f'{peer}_ratio_most']:.1f})"
            for peer in ("row_by_row", "vectorised")
        )
        print(
            f"{r['seed']:>4} {r['rows']:>4} {r['published_score']:>9.0f} {r['exact_score']:>5.0f}"
            f" {r['published_evaluations']:>9} {r['row_by_row_ms']:>10.2f} {r['vectorised_ms']:>10.2f}"
            f" {r['exact_ms']:>6.2f} {next(ratios):>22} {next(ratios):>22}"
        )


if __name__ == "__main__":
    main()
