"""Does the out-of-zoo mark tell networks of unknown kinds from those of known families? Prints Markdown.

    python benchmarks/out_of_zoo.py DIAGNOSER ZOO... --outside TABLE... [--public FOLDER [--write]]

The reference is fitted on the zoos' rows that are not held out. How often is the mark raised on held-out cells of the
same families and on the tables outside, and is a diagnosis right where it is not raised? Parts of the zoos, left out in
turn, show the same for networks between the two. With the folder of the public table of the MD tree paper: is a
network told to be of the zoos or of that table; `--write` keeps its summary in the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mdtree.diagnoser import read_diagnoser
from mdtree.diagnoser_schema import Diagnoser
from mdtree.evaluation import answers
from mdtree.files import write_atomically
from mdtree.fitting import FitOptions, fit_rows, folds_of
from mdtree.leaf_statistics import cell_names
from mdtree.modeldiagnosis import read_public_table
from mdtree.resemblance import resembles, summarise_public_table
from mdtree.zoo import EVIDENCE, UNLABELLED, size_free_metrics
from mdtree.zoo_parts import GROUPS, parts_of, read_zoos
from mdtree.zoo_reference import ZooReference, fit_reference

PUBLIC = Path(__file__).parent.parent / "mdtree" / "data_files" / "public_reference.json"
METRICS = size_free_metrics("sibling_test")
QUESTIONS = ("temperature", "verdict")
RESAMPLES = 500
DRAWN = 200
"""Rows of a table asked for their resemblance."""


def of_evidence(rows: pd.DataFrame, evidence: str) -> pd.DataFrame:
    return rows[[name for name in size_free_metrics(evidence) if name in rows]]


def area(known: pd.DataFrame, unknown: pd.DataFrame) -> tuple[float, float, float]:
    """Area under the ROC curve of `overall` and its 95 % bootstrap interval over cells."""
    generator = np.random.default_rng(0)
    sides = [[part["overall"].to_numpy() for _, part in side.groupby("cell")] for side in (known, unknown)]
    drawn = []
    for number in range(RESAMPLES + 1):
        picked = [
            np.concatenate(
                cells if number == 0 else [cells[i] for i in generator.integers(len(cells), size=len(cells))]
            )
            for cells in sides
        ]
        truth = np.repeat([0, 1], [picked[0].size, picked[1].size])
        drawn.append(float(roc_auc_score(truth, np.concatenate(picked))))
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    return drawn[0], float(low), float(high)


def asked(reference: ZooReference, rows: pd.DataFrame, evidence: str) -> pd.DataFrame:
    return reference.distances(of_evidence(rows, evidence)).assign(cell=cell_names(rows), family=rows["family"])


def mark_table(reference: ZooReference, known: pd.DataFrame, outside: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    yield "| evidence | networks | n | cells | marked % | AUC (95 % interval) |"
    yield "|---|---|---|---|---|---|"
    everything = pd.concat(outside.values())
    for evidence in EVIDENCE:
        inside = asked(reference, known, evidence)
        yield (
            f"| {evidence} | held-out cells of known families | {len(inside)} | {inside['cell'].nunique()} "
            f"| {100 * inside['outside'].mean():.1f} | |"
        )
        for name, rows in {**outside, "all outside": everything}.items():
            found = asked(reference, rows, evidence)
            value, low, high = area(inside, found)
            yield (
                f"| | {name} | {len(found)} | {found['cell'].nunique()} | {100 * found['outside'].mean():.1f} "
                f"| {value:.3f} ({low:.3f} to {high:.3f}) |"
            )


def family_table(reference: ZooReference, known: pd.DataFrame) -> Iterator[str]:
    yield f"| family | n | {' | '.join(EVIDENCE)} |"
    yield f"|---|---|{'---|' * len(EVIDENCE)}"
    marked = {evidence: asked(reference, known, evidence)["outside"] for evidence in EVIDENCE}
    for family, rows in known.groupby("family"):
        shares = [f"{100 * marked[evidence][rows.index].mean():.1f}" for evidence in EVIDENCE]
        yield f"| {family} | {len(rows)} | {' | '.join(shares)} |"


def left_out_table(rows: pd.DataFrame) -> Iterator[str]:
    """Every part of the fitted rows left out in turn, against cells of the rest seen by none of their own."""
    yield "| left out | evidence | parts | mean AUC | smallest | marked % |"
    yield "|---|---|---|---|---|---|"
    folds = list(folds_of(rows, FitOptions()))
    references = [fit_reference(rows[~held], METRICS) for held in folds]
    seen_by_none = {
        evidence: pd.concat(
            [asked(reference, rows[held], evidence) for reference, held in zip(references, folds, strict=True)]
        ).loc[rows.index]
        for evidence in EVIDENCE
    }
    for group in GROUPS:
        parts, _ = parts_of(rows, group)
        found = []
        for part in parts:
            reference = fit_reference(rows[part.fitted], METRICS)
            for evidence in EVIDENCE:
                inside, unknown = seen_by_none[evidence][part.fitted], asked(reference, rows[part.asked], evidence)
                # families count alike: the digits are most of the rows
                weight = np.concatenate(
                    [1.0 / side.groupby("family")["family"].transform("size") / side["family"].nunique()
                     for side in (inside, unknown)]
                )  # fmt: skip
                scores = np.concatenate([inside["overall"], unknown["overall"]])
                truth = np.repeat([0, 1], [len(inside), len(unknown)])
                value = float(roc_auc_score(truth, scores, sample_weight=weight))
                found.append((evidence, value, float(unknown["outside"].mean())))
        for evidence in EVIDENCE:
            areas = [value for name, value, _ in found if name == evidence]
            marked = [share for name, _, share in found if name == evidence]
            yield (
                f"| {group.replace('_', ' ')} | {evidence} | {len(parts)} | {np.mean(areas):.3f} | {min(areas):.3f} "
                f"| {100 * np.mean(marked):.1f} |"
            )


def right(diagnoser: Diagnoser, rows: pd.DataFrame, question: str, evidence: str) -> str:
    """Share of clear answers that are right, mean over the labels' classes after it, coverage and number."""
    clear = rows[~(rows[f"label_{question}"].isin(UNLABELLED) | rows[f"label_{question}"].isna())]
    if clear.empty or evidence not in diagnoser.trees.get(question, {}):
        return "–"
    truth = clear[f"label_{question}"].to_numpy(dtype=str)
    given = answers(diagnoser, clear, question, evidence)
    told = given != "undetermined"
    hits = pd.Series(given == truth)[told]
    if hits.empty:
        return f"– (n {len(clear)})"
    balanced = hits.groupby(truth[told]).mean().mean()
    return f"{100 * hits.mean():.0f} ({100 * balanced:.0f}; {100 * told.mean():.0f} % of {len(clear)})"


def answer_table(
    diagnoser: Diagnoser, reference: ZooReference, known: pd.DataFrame, outside: Mapping[str, pd.DataFrame]
) -> Iterator[str]:
    yield "| question | evidence | networks | not marked | marked |"
    yield "|---|---|---|---|---|"
    tables = {"held-out cells of known families": known, **outside, "all outside": pd.concat(outside.values())}
    for question in QUESTIONS:
        for evidence in EVIDENCE:
            for name, rows in tables.items():
                marked = asked(reference, rows, evidence)["outside"].to_numpy()
                cells = [right(diagnoser, part, question, evidence) for part in (rows[~marked], rows[marked])]
                yield f"| {question} | {evidence} | {name} | {' | '.join(cells)} |"


def public_table(
    reference: ZooReference, rows: pd.DataFrame, known: pd.DataFrame, outside: pd.DataFrame, folder: Path
) -> Iterator[str]:
    normal = public_rows(folder, "normal")
    order = np.random.default_rng(0).permutation(len(normal))
    references = {
        "zoos": reference,
        "public table": summarise_public_table(normal.iloc[order[: len(order) // 2]], reference),
    }
    hot = rows[rows["label_temperature"] == "temperature_too_high"]
    asked_about = {
        "held-out cells of the zoos": known,
        "the half of the public table not summarised": normal.iloc[order[len(order) // 2 :]],
        "the public table with label noise": public_rows(folder, "noise"),
        "outside": outside,
        **{f"too hot, {family}": part for family, part in hot.groupby("family") if "noise_floor" in str(family)},
    }
    yield f"| networks | n | {' | '.join(EVIDENCE)} |"
    yield f"|---|---|{'---|' * len(EVIDENCE)}"
    for name, part in asked_about.items():
        drawn = part.iloc[np.random.default_rng(0).permutation(len(part))[:DRAWN]]
        shares = []
        for evidence in EVIDENCE:
            values = of_evidence(drawn, evidence).to_dict("records")
            like = [resembles(line, references).nearest == "public table" for line in values]
            shares.append(f"{100 * np.mean(like):.1f}")
        yield f"| {name} | {len(drawn)} | {' | '.join(shares)} |"


def public_rows(folder: Path, kind: str) -> pd.DataFrame:
    return read_public_table(folder / f"dataframe_{kind}_public.csv")


def write_public(reference: ZooReference, folder: Path) -> None:
    summary = summarise_public_table(public_rows(folder, "normal"), reference)
    write_atomically(PUBLIC, (json.dumps(summary.to_dict(), indent=1) + "\n").encode())


def section(title: str, words: str, lines: Iterator[str]) -> None:
    print(f"\n## {title}\n\n{words}\n", flush=True)
    for line in lines:
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("diagnoser", type=Path)
    parser.add_argument("zoos", type=Path, nargs="+")
    parser.add_argument("--outside", type=Path, nargs="+", required=True, help="tables of networks of unknown kinds")
    parser.add_argument("--public", type=Path, help="folder of the public table of the MD tree paper")
    parser.add_argument("--write", action="store_true", help="keep the summary of the public table in the package")
    given = parser.parse_args(arguments)
    zoo = read_zoos(given.zoos)
    diagnoser, rows = read_diagnoser(given.diagnoser), fit_rows(zoo)
    known = zoo[(zoo["split"] == "held_out") & (zoo["diverged"] == 0)]
    beyond = read_zoos(given.outside)
    beyond = beyond[beyond["diverged"] == 0]
    outside = {str(name): part for name, part in beyond.groupby("family", sort=False)}
    reference = fit_reference(rows, METRICS)
    print("# How far from the zoos: the out-of-zoo mark\n")
    print(
        f"{len(reference.points)} reference networks of {rows['family'].nunique()} families stand for {len(rows)} "
        f"fitted ones; a network is marked if it is further from them than {100 * reference.level:.0f} % of them are "
        f"from one another (`mdtree.zoo_reference`). Metrics: {', '.join(reference.metrics)}."
    )
    section(
        "Marked, and told apart",
        "AUC: a network outside is further than a held-out one of a known family.",
        mark_table(reference, known, outside),
    )
    section("Held-out cells by family", "Marked, percent.", family_table(reference, known))
    section(
        "Parts of the zoos left out in turn",
        "Fitted rows only; against cells of the rest, each seen by a reference without it. Means over the parts.",
        left_out_table(rows),
    )
    section(
        "Right answers with and without the mark",
        "Percent right of the answers given (balanced over causes; share answered, of so many clear cases).",
        answer_table(diagnoser, reference, known, outside),
    )
    if given.public is not None:
        section(
            "The zoos or the public table",
            "Percent said to resemble the public table of the MD tree paper, of which one half is summarised.",
            public_table(reference, rows, known, beyond, given.public),
        )
        if given.write:
            write_public(reference, given.public)


if __name__ == "__main__":
    main()
