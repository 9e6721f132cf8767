"""The ways of fitting a tree compared inside the embedded digits zoo, by cross-validation grouped by cell.

    python benchmarks/digits_procedure.py [--workers N] [--json]

`grown`: what `mdtree train` does, a tree grown and refined for right answers, causes weighted to count alike. `policy`:
the same refined for gains, beside label noise. `travelling`: a shape searched for on the fitted part by transfer
between its folds, thresholds by the default procedure of the public table. Held-out cells are not read.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdtree.benchmark_methods import tree_answers
from mdtree.default_procedure import fit_shape
from mdtree.evaluation import action_gains
from mdtree.fitting import FitOptions, fit_rows, fit_tree, folds_of
from mdtree.label_noise import beside_label_noise
from mdtree.refinement import STARTS
from mdtree.scoring import score
from mdtree.shape_search import SearchOptions, SearchRows, Transfer, search_shape, simplest, words
from mdtree.threshold_posterior import SHARPNESS
from mdtree.tree import MDTree
from mdtree.zoo import EVIDENCE, QUESTIONS, UNLABELLED, evidence_metrics, read_zoo

ZOO = Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.csv"
SEARCH = SearchOptions(max_leaves=5, beam=1, max_cuts=16, sharpness=SHARPNESS)
OPTIONS = FitOptions()


def gains_of(rows: pd.DataFrame, question: str) -> dict[str, np.ndarray]:
    return {answer: np.nan_to_num(values) for answer, values in action_gains(rows, question).items()}


def grown(part: pd.DataFrame, asked: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
    tree = fit_tree(part, question, evidence, OPTIONS)
    return np.asarray(tree.predict(asked[list(tree.features_)])).astype(str)


def policy(part: pd.DataFrame, asked: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
    both = beside_label_noise(part)
    metrics = [name for name in evidence_metrics(evidence) if part[name].notna().any()]
    labels = both[f"label_{question}"].to_numpy(dtype=str)
    gains = {answer: values for answer, values in gains_of(both, question).items() if answer in set(labels)}
    tree = MDTree(min_samples_leaf=2 * OPTIONS.min_samples_leaf, starts=STARTS).fit(both[metrics], labels, gains=gains)
    return np.asarray(tree.predict(asked[metrics])).astype(str)


def searched(rows: pd.DataFrame, question: str, evidence: str, workers: int) -> Any:
    """The shape found for the fitted part: each fold in turn is what is fitted on, all others are scored."""
    labels = rows[f"label_{question}"].to_numpy(dtype=str)
    metrics = [name for name in evidence_metrics(evidence) if rows[name].notna().all()]
    transfers = tuple(Transfer(f"fold {k}", held, ~held) for k, held in enumerate(folds_of(rows, OPTIONS)))
    worth = {str(label): (labels == label).astype(float) for label in np.unique(labels)}
    table = SearchRows({name: rows[name].to_numpy(dtype=float) for name in metrics}, labels, worth, transfers)
    return simplest(search_shape(question, table, replace(SEARCH, workers=workers))).shape


def compared(zoo: pd.DataFrame, question: str, evidence: str, workers: int) -> dict[str, Any]:
    rows = zoo[~zoo[f"label_{question}"].isin(UNLABELLED)].reset_index(drop=True)
    shape = searched(rows, question, evidence, workers)
    ways = {
        "grown": lambda part, asked: grown(part, asked, question, evidence),
        "policy": lambda part, asked: policy(part, asked, question, evidence),
        "travelling": lambda part, asked: tree_answers(
            fit_shape(shape, part, part[f"label_{question}"].to_numpy(dtype=str)).tree_, asked
        ),
    }
    truth = rows[f"label_{question}"].to_numpy(dtype=str)
    found: dict[str, Any] = {"question": question, "evidence": evidence, "shape": words(shape.root)}
    for name, fit in ways.items():
        answers = np.empty(len(rows), dtype=object)
        for held in folds_of(rows, OPTIONS):
            answers[held] = fit(rows[~held], rows[held])
        scores = score(truth, answers.astype(str), gains_of(rows, question))
        found[name] = {"balanced_accuracy": scores.balanced_accuracy, "gain_captured": scores.gain_captured}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=-1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    zoo = fit_rows(read_zoo(ZOO))
    results = []
    for question in QUESTIONS:
        for evidence in EVIDENCE:
            found = compared(zoo, question, evidence, arguments.workers)
            results.append(found)
            if not arguments.json:
                figures = "   ".join(
                    f"{name} {100 * found[name]['balanced_accuracy']:.1f} / {100 * found[name]['gain_captured']:.1f}"
                    for name in ("grown", "policy", "travelling")
                )
                print(f"{question:<12} {evidence:<13} {figures}   {found['shape']}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
