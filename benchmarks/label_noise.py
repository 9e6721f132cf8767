"""Does fitting beside label noise help on networks that really have it? The embedded digits zoo, clean to noisy.

    python benchmarks/label_noise.py [--json]

Verdict trees are grown on the fitted cells with clean labels and asked about the fitted cells trained with 10 % wrong
ones, with and without the rows that `mdtree.label_noise` adds; held-out cells are not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.label_noise import beside_label_noise
from mdtree.refinement import STARTS
from mdtree.transfer import cause_gains, largest_cause
from mdtree.tree import MDTree
from mdtree.zoo import EVIDENCE, RFI_COLUMNS, evidence_metrics, read_zoo

ZOO = Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.csv"
LEAST_ROWS = 10


def gain_captured(clean: pd.DataFrame, noisy: pd.DataFrame, evidence: str, *, beside: bool, for_gains: bool) -> float:
    """Share of the possible gain that a tree fitted on `clean` captures on `noisy`."""
    rows = beside_label_noise(clean) if beside else clean
    metrics = [name for name in evidence_metrics(evidence) if clean[name].notna().any()]
    labels = largest_cause(rows)
    gains = {cause: values for cause, values in cause_gains(rows).items() if cause in set(labels)}
    tree = MDTree(
        class_weight=None if for_gains else "balanced",
        min_samples_leaf=LEAST_ROWS * (1 + beside),
        starts=STARTS,
    )
    tree.fit(rows[metrics], labels, gains=gains if for_gains else None)
    answers = tree.predict(noisy[metrics])
    true = cause_gains(noisy)
    best = np.maximum(np.max(list(true.values()), axis=0), 0.0)
    return float(sum(values[answers == cause].sum() for cause, values in true.items()) / best.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    zoo = read_zoo(ZOO)
    zoo = zoo[(zoo["split"] == "fit") & (zoo["diverged"] == 0) & (zoo["label_verdict"] != "censored")]
    zoo = zoo.reset_index(drop=True).fillna({name: 0.0 for name in RFI_COLUMNS})
    clean, noisy = zoo[zoo["label_noise"] == 0], zoo[zoo["label_noise"] > 0]
    rows = [
        {
            "evidence": evidence,
            "grown for": "gains" if for_gains else "answers",
            "measured": gain_captured(clean, noisy, evidence, beside=False, for_gains=for_gains),
            "beside label noise": gain_captured(clean, noisy, evidence, beside=True, for_gains=for_gains),
        }
        for evidence in EVIDENCE
        for for_gains in (False, True)
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{len(clean)} networks with clean labels to {len(noisy)} with wrong ones: gain captured (%)")
    for row in rows:
        print(
            f"{row['evidence']:<13} grown for {row['grown for']:<8} as measured {100 * row['measured']:.1f}"
            f"   beside label noise {100 * row['beside label noise']:.1f}"
        )


if __name__ == "__main__":
    main()
