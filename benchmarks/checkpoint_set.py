"""Does it help to diagnose several checkpoints of one task together? Sets drawn from families that were left out.

    python benchmarks/checkpoint_set.py zoo_samples/*.csv [--evidence alone] [--leave-out family]

Each family (or data set) is left out in turn; the questions' trees (`mdtree.composed_fit`) and the trees of positions
(`mdtree.set_fit`) are fitted on all others. Sets are then drawn from one task of the left-out family: networks trained
on the same images with other temperatures and widths. Odd sets, of which positions tell nothing, are drawn as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.checkpoint_set import decides, questions_of_set, sweeps_temperature
from mdtree.composed_fit import component_labels, fit_components
from mdtree.composition import HEALTHY, composed_tree, walk_composed
from mdtree.nodes import Node, walk
from mdtree.set_fit import TASK_COLUMNS, fit_set_trees
from mdtree.set_trees import SMALLEST_SET, SetTrees, position_name, positions
from mdtree.zoo import CAUSES, DIRECTIONS, EVIDENCE, RFI_COLUMNS, UNLABELLED
from mdtree.zoo_parts import parts_of, read_zoos

KINDS = (
    ("mixed", 8),
    ("mixed", 16),
    ("mixed", 32),
    ("hotter half", 16),
    ("hottest third", 16),
    ("coldest third", 16),
    ("nearly one recipe", 8),
    ("all healthy", 8),
)
QUESTIONS = ("temperature", "model_size", "data", "verdict")
WAYS = ("one by one", "positions alone", "recipes unknown", "recipes known")
LEAST_OF_A_KIND = 5


@dataclass(frozen=True)
class Fitted:
    """What was fitted without a family."""

    single: Mapping[str, Node]
    of_set: Mapping[str, Node]
    set_trees: SetTrees


def draw_sets(rows: pd.DataFrame, kind: str, size: int, count: int, seed: int) -> Iterator[pd.DataFrame]:
    """Sets of one task each; none where its networks are fewer than eight."""
    generator = np.random.default_rng(seed)
    tasks = [task for _, task in rows.groupby(list(TASK_COLUMNS), dropna=False)]
    for _ in range(count):
        task = tasks[generator.integers(len(tasks))]
        heat = np.sort(task["temperature"].unique())
        third = max(1, len(heat) // 3)
        if kind == "hotter half":
            task = task[task["temperature"] >= heat[len(heat) // 2]]
        elif kind == "hottest third":
            task = task[task["temperature"] >= heat[-third]]
        elif kind == "coldest third":
            task = task[task["temperature"] <= heat[third - 1]]
        elif kind == "all healthy":
            task = task[task["label_verdict"] == HEALTHY]
        elif kind == "nearly one recipe":
            task = _nearest(task, task.iloc[int(generator.integers(len(task)))], size)
        if len(task) >= SMALLEST_SET:
            yield task.iloc[generator.permutation(len(task))[:size]]


def _nearest(task: pd.DataFrame, one: pd.Series, size: int) -> pd.DataFrame:
    """Networks of the same width, those of the nearest temperatures first."""
    same = task[task["width"] == one["width"]]
    apart = np.abs(np.log(same["temperature"].to_numpy() / one["temperature"]))
    return same.iloc[np.argsort(apart, kind="stable")[:size]]


def answers(fitted: Fitted, networks: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Way -> question -> the answer to every network of a set."""
    columns = {name: networks[name].to_numpy(dtype=float) for name in fitted.set_trees.scale}
    places = {position_name(name): positions(column) for name, column in columns.items()}
    heat = networks["learning_rate"] / networks["batch_size"]
    swept = sweeps_temperature(heat.to_list())
    verdict = composed_tree(HEALTHY in fitted.single)
    found: dict[str, dict[str, list[str]]] = {way: {q: [] for q in QUESTIONS} for way in WAYS}
    for number in range(len(networks)):
        own = {name: float(column[number]) for name, column in columns.items()}
        ranked = {name: float(column[number]) for name, column in places.items()}
        chosen = [set(), set(fitted.of_set)]
        for known in (False, swept):
            may = questions_of_set(fitted.of_set, columns, fitted.set_trees.scale, known)
            chosen.append({q for q, tree in may.items() if decides(q, (tree, ranked), (fitted.single[q], own), known)})
        for way, questions in zip(WAYS, chosen, strict=True):
            trees = {**fitted.single, **{q: fitted.of_set[q] for q in questions}}
            values = {**own, **ranked}
            for question in QUESTIONS[:-1]:
                found[way][question].append(_heaviest(walk(trees[question], values).leaves))
            found[way]["verdict"].append(_heaviest(walk_composed(verdict, trees, values).walk.leaves))
    return found


def _heaviest(reached: tuple) -> str:
    return max(reached, key=lambda part: part[1])[0].label


def figures(networks: pd.DataFrame, question: str, given: np.ndarray, kinds: list[str]) -> dict[str, float]:
    """Balanced accuracy over `kinds`, share right, and of a verdict the share of the possible gain (all in percent)."""
    truth = component_labels(networks, question) if question != "verdict" else networks["label_verdict"].to_numpy(str)
    clear = ~np.isin(truth, UNLABELLED)
    by_kind = [100 * np.mean(given[truth == kind] == kind) for kind in kinds if (truth == kind).any()]
    gain = np.nan
    if question == "verdict":
        rooms = networks[list(RFI_COLUMNS)].fillna(0.0).to_numpy()
        taken = sum(rooms[clear & (given == CAUSES[d]), k].sum() for k, d in enumerate(DIRECTIONS))
        best = np.maximum(rooms[clear].max(axis=1), 0.0).sum() if clear.any() else 0.0
        gain = 100 * taken / best if best > 0 else np.nan
    return {
        "balanced_accuracy": float(np.mean(by_kind)) if len(by_kind) > 1 else np.nan,
        "accuracy": float(100 * np.mean(given[clear] == truth[clear])) if clear.any() else np.nan,
        "gain_captured": float(gain),
    }


def fit(rest: pd.DataFrame, evidence: str) -> Fitted:
    """The trees of an evidence set."""
    single = fit_components(rest, evidence, 4, 8)
    set_trees = fit_set_trees(rest)
    assert set_trees is not None
    return Fitted(single, {q: by[evidence] for q, by in set_trees.trees.items()}, set_trees)


def of_family(fitted: Fitted, asked: pd.DataFrame, count: int) -> Iterator[dict[str, object]]:
    """All figures of a left-out family."""
    family = asked["family"].iloc[0]
    for kind, size in KINDS:
        sets = list(draw_sets(asked, kind, size, count, seed=1))
        if not sets:
            continue
        given = [answers(fitted, one) for one in sets]
        networks = pd.concat(sets, ignore_index=True)
        for question in QUESTIONS:
            truth = asked["label_verdict"] if question == "verdict" else component_labels(asked, question)
            held = pd.Series(truth).value_counts()
            kinds = [k for k in held.index if k not in UNLABELLED and held[k] >= LEAST_OF_A_KIND]
            for way in WAYS:
                told = np.concatenate([np.array(one[way][question], dtype=str) for one in given])
                about = {"family": family, "kind": kind, "size": size, "question": question, "way": way}
                yield {**about, **figures(networks, question, told, kinds)}


def table(lines: pd.DataFrame) -> Iterator[str]:
    """Mean over the families (worst family): balanced accuracy of mixed sets, share right of odd ones, gain."""
    yield f"{'set':22s}{'question':13s}" + "".join(f"{way:>24s}" for way in WAYS)
    for kind, size in KINDS:
        for question in QUESTIONS:
            name = "balanced_accuracy" if kind == "mixed" else "accuracy"
            wanted = [name] if question != "verdict" else [name, "gain_captured"]
            for figure in wanted:
                part = lines[(lines["kind"] == kind) & (lines["size"] == size) & (lines["question"] == question)]
                by_way = part.groupby("way")[figure].agg(["mean", "min"])
                label = question if figure == name else "  gain"
                shown = "".join(f"{by_way.loc[w, 'mean']:17.1f} ({by_way.loc[w, 'min']:3.0f})" for w in WAYS)
                yield f"{f'{kind}, {size}':22s}{label:13s}{shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoos", nargs="+", type=Path)
    parser.add_argument("--evidence", choices=EVIDENCE, default="alone")
    parser.add_argument("--leave-out", choices=("family", "data_set"), default="family")
    parser.add_argument("--sets", type=int, default=40, help="sets of each kind drawn from each family")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    frame = read_zoos(given.zoos)
    rows = frame[frame["diverged"] == 0].reset_index(drop=True)
    parts, _ = parts_of(rows, given.leave_out)
    lines: list[dict[str, object]] = []
    for part in parts:
        fitted = fit(rows[part.fitted], given.evidence)
        for _, asked in rows[part.asked].groupby("family"):
            lines += list(of_family(fitted, asked.reset_index(drop=True), given.sets))
    if given.json:
        print(json.dumps(lines, indent=1))
        return
    families, words = rows["family"].nunique(), given.leave_out.replace("_", " ")
    print(
        f"{families} families, each {words} left out in turn; evidence {given.evidence}; percent: mean (worst family)"
    )
    print("\n".join(table(pd.DataFrame(lines))))


if __name__ == "__main__":
    main()
