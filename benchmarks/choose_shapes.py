"""Choose the shapes of the public table's trees on its clean half, and write them where the benchmark reads them.

    python benchmarks/choose_shapes.py dataframe_normal_public.csv [--workers N] [--only NAME ...]

Prints, for every question, the best shape of each number of leaves with its score by transfer, marks the one taken
(the smallest within half a point of the best) and writes it to mdtree/data_files/modeldiagnosis_shapes.json. The noisy
half of the table is not read. About a quarter of an hour on four cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.benchmark_cases import LEAST_DATA_QUESTION_WIDTH, clear_rows
from mdtree.chosen_shapes import FILE, shape_to_dict
from mdtree.files import write_atomically
from mdtree.label_noise import beside_label_noise
from mdtree.modeldiagnosis import read_public_table
from mdtree.shape_search import SearchOptions, SearchRows, Transfer, search_shape, simplest, words
from mdtree.threshold_posterior import SHARPNESS
from mdtree.transfer import cause_gains, largest_cause, question_transfers, verdict_transfers
from mdtree.zoo import EVIDENCE, evidence_metrics

TARGET = Path(__file__).parent.parent / "mdtree" / "data_files" / FILE
LEFT_OUT = ("train_error_over_chance", "connectivity_barrier_over_chance", "hessian_trace_per_parameter")
"""The same as another metric up to a factor that is one number here, or that holds the width."""

# every row stands twice, so it speaks with half the weight
QUESTION_SEARCH = SearchOptions(sharpness=SHARPNESS / 2, max_cuts=64)
VERDICT_SEARCH = SearchOptions(sharpness=SHARPNESS / 2, max_cuts=16, beam=4)
"""The verdict has ten times the rows and four times the transfers, so fewer cut points are told apart."""


def columns(table: pd.DataFrame, evidence: str) -> dict[str, np.ndarray]:
    """Metrics of an evidence set that the table has."""
    names = [name for name in evidence_metrics(evidence) if table[name].notna().all() and name not in LEFT_OUT]
    return {name: table[name].to_numpy(dtype=float) for name in names}


def question_rows(table: pd.DataFrame, question: str) -> SearchRows:
    """Rows of a question with a clear label; an answer is worth 1 where right."""
    rows = clear_rows(table, question)
    if question == "data":
        rows = rows[rows["width"] >= LEAST_DATA_QUESTION_WIDTH]
    transfers = question_transfers(rows, question)
    rows = beside_label_noise(rows)
    labels = rows[f"label_{question}"].to_numpy(dtype=str)
    worth = {str(label): (labels == label).astype(float) for label in np.unique(labels)}
    return SearchRows(columns(rows, "sibling"), labels, worth, twice(transfers))


def twice(transfers: tuple[Transfer, ...]) -> tuple[Transfer, ...]:
    """The same transfers of rows that stand twice: as measured and with label noise."""
    return tuple(Transfer(t.name, np.tile(t.fitted, 2), np.tile(t.scored, 2)) for t in transfers)


def verdict_rows(table: pd.DataFrame, evidence: str) -> SearchRows:
    """All rows; an answer is worth its gain in points."""
    both = beside_label_noise(table)
    return SearchRows(
        columns(both, evidence), largest_cause(both), dict(cause_gains(both)), twice(verdict_transfers(table))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--workers", type=int, default=-1)
    parser.add_argument("--only", nargs="*", help="names of shapes; all others stay as they are in the file")
    arguments = parser.parse_args()
    table = read_public_table(arguments.table)
    known = json.loads(TARGET.read_text(encoding="utf-8"))["shapes"] if TARGET.exists() else {}
    names = arguments.only or ["temperature", "model_size", "data", *(f"verdict_{evidence}" for evidence in EVIDENCE)]
    for name in names:
        verdict = name.removeprefix("verdict_")
        rows = verdict_rows(table, verdict) if verdict != name else question_rows(table, name)
        options = QUESTION_SEARCH if verdict == name else VERDICT_SEARCH
        found = search_shape(name, rows, replace(options, workers=arguments.workers))
        taken = simplest(found)
        print(f"\n{name}: {len(rows.transfers)} transfers, {len(rows.labels)} rows, metrics {', '.join(rows.columns)}")
        for candidate in found:
            mark = "*" if candidate is taken else " "
            mean, least = 100 * candidate.scores.mean(), 100 * candidate.scores.min()
            print(
                f"{mark} {candidate.n_leaves} leaves  mean {mean:.2f}  least {least:.1f}  {words(candidate.shape.root)}"
            )
        sys.stdout.flush()
        known[name] = shape_to_dict(taken.shape.root)
        values = {"source": "chosen by benchmarks/choose_shapes.py on dataframe_normal_public.csv", "shapes": known}
        write_atomically(TARGET, (json.dumps(values, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
