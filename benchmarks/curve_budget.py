"""What a curve between two networks must cost: how its barrier and the diagnosis move with the budget.

    python benchmarks/curve_budget.py [--work DIR] [--cifar10 DIR] [--quick] [--only digits|cifar]

Networks of the embedded digits zoo (fitted cells only) and small CIFAR-10 networks are trained again and joined by
curves trained in many ways. Whatever is done lies in the working folder, and a second start goes on from there; the
tables are written to `curve_budget.md` beside this file (`--quick`: printed only).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import curve_cifar
import numpy as np
import pandas as pd
import torch
from curve_digits import SPEC, path_metrics, run, some_blocks
from curve_stack import Variant
from curve_verdicts import CURVE, FEATURES, Comparison, compare, zoo_rows

from mdtree.files import write_atomically
from mdtree.grid_spec import Block

LONG = Variant(5000)
FIFTY_EPOCHS = Variant(0, epochs=50)
FORMER = Variant(500)
CHOSEN = Variant(800, 32, 0.1)
LINE, ALIGNED_LINE = Variant(0), Variant(0, aligned=True)
EXPLORED = [
    *(Variant(steps, batch) for steps in (50, 100, 200, 500) for batch in (32, 64, 128)),
    *(Variant(200, 64, rate) for rate in (0.03, 0.05, 0.2, 0.3, 0.5, 1.0)),
    *(Variant(200, 64, rate, optimizer="sgd") for rate in (0.03, 0.1, 0.3, 1.0)),
    *(Variant(200, 64, 0.3, start=start) for start in ("norm", "norm2")),
    Variant(200, 64, 0.3, aligned=True),
    *(Variant(200, 64, 0.3, strata=strata) for strata in (2, 4, 8)),
    *(Variant(400, 32, rate) for rate in (0.1, 0.2, 0.3)),
    *(Variant(800, 16, rate) for rate in (0.1, 0.2, 0.3)),
    *(Variant(400, 64, rate) for rate in (0.05, 0.1, 0.2)),
    Variant(400, 64, 0.1, aligned=True),
    *(Variant(800, 32, rate) for rate in (0.1, 0.2)),
    Variant(800, 32, 0.1, aligned=True),
]
JUDGED = [
    LONG,
    FIFTY_EPOCHS,
    Variant(0, epochs=50, seed=1),
    FORMER,
    Variant(500, seed=1),
    CHOSEN,
    Variant(800, 32, 0.1, seed=1),
    Variant(800, 32, 0.2),
    Variant(400, 32, 0.2),
    Variant(200, 64, 0.3),
    Variant(200, 64, 0.1),
    Variant(100, 64, 0.1),
    Variant(50, 64, 0.1),
    LINE,
    ALIGNED_LINE,
]


def described(variant: Variant) -> str:
    if variant.steps == variant.epochs == 0:
        return "straight line, aligned" if variant.aligned else "straight line"
    budget = f"{variant.epochs} epochs of {variant.batch}" if variant.epochs else f"{variant.steps} x {variant.batch}"
    extra = [f"start {variant.start}"] * (variant.start != "chord") + [f"{variant.strata} t a step"] * (
        variant.strata > 1
    )
    extra += ["aligned"] * variant.aligned + ["other seed"] * (variant.seed > 0)
    return ", ".join([budget, f"{variant.optimizer} {variant.learning_rate:g}", *extra])


def cost_of(variant: Variant) -> str:
    return f"{variant.epochs} n" if variant.epochs else f"{variant.steps * variant.batch:,}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown: the first column text, all others numbers."""
    ruler = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", ruler, *(f"| {' | '.join(row)} |" for row in rows)])


def values_table(reference: pd.DataFrame, found: Mapping[Variant, pd.DataFrame]) -> str:
    """How far peaks and barriers lie from the reference's."""
    rows = []
    barrier = reference["connectivity_barrier_percent"]
    for variant, metrics in found.items():
        own = metrics["connectivity_barrier_percent"]
        moved = own - barrier
        rank = float(barrier.corr(own, "spearman"))
        numbers = (moved.mean(), moved.abs().median(), moved.abs().mean(), moved.abs().quantile(0.95))
        loss = metrics["mean_loss"].mean()
        rows.append(
            (described(variant), cost_of(variant), *(f"{v:.1f}" for v in numbers), f"{rank:.3f}", f"{loss:.3f}")
        )
    rows.sort(key=lambda row: float(row[4]))
    head = ("training", "sample gradients", "bias", "median", "mean", "95 %", "rank correlation", "mean loss")
    return table(head, rows)


def with_sibling_exchanged(metrics: pd.DataFrame) -> pd.DataFrame:
    """The curve metrics of another pair of the same cell in place of a pair's own."""
    seeds = sorted(set(metrics.index.get_level_values("seed")))
    swapped = metrics.reset_index()
    swapped["seed"] = swapped["seed"].map(dict(zip(seeds, reversed(seeds), strict=True)))
    others = swapped.set_index(["cell", "seed"]).reindex(metrics.index)[list(CURVE)]
    return metrics.assign(**{name: others[name].fillna(metrics[name]) for name in CURVE})


def verdict_tables(reference: Variant, found: Mapping[Variant, pd.DataFrame]) -> str:
    """Agreement with the reference, by the metrics trees may ask for and by question."""
    line = found[LINE]["linear_barrier_percent"]  # whatever the curve, the straight line is the same
    tables = {variant: metrics.assign(linear_barrier_percent=line) for variant, metrics in found.items()}
    others = {described(variant): zoo_rows(metrics) for variant, metrics in tables.items() if variant != reference}
    others["curve of another pair of the cell"] = zoo_rows(with_sibling_exchanged(tables[reference]))
    rows = zoo_rows(tables[reference])
    blocks = []
    for name, features in FEATURES.items():
        kept = tuple(f for f in features if f not in CURVE)
        for question in ("verdict", "temperature"):
            compared = compare(rows, others, question, features)
            without = compare(rows, {}, question, kept)["reference"]
            blocks.append(_verdict_table(name, question, compared, without))
    return "\n\n".join(blocks)


def _verdict_table(name: str, question: str, compared: Mapping[str, Comparison], without: Comparison) -> str:
    def span(interval: tuple[float, float]) -> str:
        return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"

    lines = [
        (
            other,
            f"{100 * c.fed:.1f}",
            span(c.fed_interval),
            f"{100 * c.fed_accuracy:.1f}",
            f"{100 * c.refitted:.1f}",
            f"{100 * c.accuracy:.1f}",
            span(c.accuracy_interval),
        )
        for other, c in compared.items()
    ]
    lines.append(
        ("no curve metric at all", "", "", "", "", f"{100 * without.accuracy:.1f}", span(without.accuracy_interval))
    )
    head = ("training", "A: same", "95 %", "A: right", "B: same", "B: right", "95 %")
    title = f"Metrics: {name}. Question: {question}. {without.rows} rows, {without.labelled} labelled."
    return f"{title}\n\n{table(head, lines)}"


def gather(variants: list[Variant], blocks: list[Block], folder: Path) -> dict[Variant, pd.DataFrame]:
    run(variants, blocks, folder)
    return {variant: path_metrics(variant, blocks, folder) for variant in variants}


def digits_text(folder: Path, quick: bool) -> str:
    """The tables of the digits zoo."""
    quarter = [b for b in some_blocks() if not quick or (b.width, b.train_size) in ((4, 80), (16, 450))]
    explored = [variant for variant in EXPLORED if not quick or variant.steps * variant.batch <= 12_800]
    long = Variant(500) if quick else LONG
    found = gather([long, *explored], quarter, folder)
    text = [
        f"## Values, digits\n\n{len(found[long])} pairs of {len(quarter)} blocks, against {described(long)}. "
        "Points of training error.",
        values_table(found[long], found),
    ]
    if quick:
        return "\n\n".join(text)
    judged = gather(JUDGED, list(SPEC.blocks()), folder)
    for reference in (LONG, FIFTY_EPOCHS, FORMER):
        text += [f"## Diagnoses, digits, against {described(reference)}", verdict_tables(reference, judged)]
    text += ["## The straight line in place of the curve", line_table(judged)]
    return "\n\n".join(text)


def line_table(found: Mapping[Variant, pd.DataFrame]) -> str:
    """Correlation of barriers along straight lines with those along curves."""
    rows = []
    for curve in (LONG, FORMER, CHOSEN):
        barrier = found[curve]["connectivity_barrier_percent"]
        for line in (LINE, ALIGNED_LINE):
            own = found[line]["linear_barrier_percent"]
            correlations = (float(own.corr(barrier)), float(own.corr(barrier, "spearman")))
            rows.append((described(line), described(curve), *(f"{c:.2f}" for c in correlations)))
    rows = [(f"{line} / {curve}", a, b) for line, curve, a, b in rows]
    return table(("line / curve", "correlation", "rank correlation"), rows)


def cifar_text(folder: Path, directory: str, quick: bool) -> str:
    """The tables of the CIFAR-10 pairs."""
    found = curve_cifar.run(folder, directory, quick)
    long, chosen = curve_cifar.LONG, curve_cifar.CHOSEN

    def barriers(kind: str, name: str) -> np.ndarray:
        return np.array([f[kind][name]["barrier"] if f[kind][name] else np.nan for f in found])

    rows = []
    for name, (steps, batch, _, _) in curve_cifar.BUDGETS.items():
        moved = pd.Series(barriers("curves", name) - barriers("curves", long)).dropna()
        rank = pd.Series(barriers("curves", name)).corr(pd.Series(barriers("curves", long)), "spearman")
        numbers = (moved.mean(), moved.abs().median(), moved.abs().mean(), moved.abs().max())
        rows.append((name, str(len(moved)), f"{steps * batch:,}", *(f"{v:.1f}" for v in numbers), f"{rank:.3f}"))
    text = [
        f"## Values, CIFAR-10\n\n{len(found)} pairs, against {long}. Points of training error.",
        table(("Adam", "pairs", "sample gradients", "bias", "median", "mean", "largest", "rank correlation"), rows),
    ]
    rows = []
    for kind, label in (("path_samples", "samples a point"), ("refresh", "samples for BatchNorm")):
        for count in sorted({int(c) for f in found for c in f[kind]}):
            part = [f for f in found if str(count) in f[kind]]
            moved = np.array([f[kind][str(count)]["barrier"] - f["curves"][chosen]["barrier"] for f in part])
            if len(part):
                rows.append(
                    (f"{count} {label}", str(len(part)), f"{moved.mean():.2f}", f"{np.sqrt((moved**2).mean()):.2f}")
                )
    text += [
        f"## Fewer samples, CIFAR-10\n\nBarrier of one and the same curve ({chosen}) against all training samples.",
        table(("what", "pairs", "bias", "root mean square"), rows),
    ]
    aligned = [f for f in found if f["aligned_line"]]
    curve = pd.Series([f["curves"][long]["barrier"] for f in aligned])
    for kind, label in (("line", "straight line"), ("aligned_line", "aligned")):
        own = pd.Series([f[kind]["line_barrier"] for f in aligned])
        rank = own.corr(curve, "spearman")
        text.append(f"{label}: mean barrier {own.mean():.1f}, rank correlation with the curve's {rank:.2f}.")
    return "\n\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "curve_budget")
    parser.add_argument("--cifar10", default=os.path.join(os.environ.get("MDTREE_DATA", "data"), "cifar10"))
    parser.add_argument("--only", choices=("digits", "cifar"))
    parser.add_argument("--quick", action="store_true", help="a few blocks and budgets, printed only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = []
    if arguments.only != "cifar":
        parts.append(digits_text(arguments.work / "digits", arguments.quick))
    if arguments.only != "digits":
        parts.append(cifar_text(arguments.work / "cifar", arguments.cifar10, arguments.quick))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick and arguments.only is None:
        report = Path(__file__).with_suffix(".md")
        before = report.read_text(encoding="utf-8").split("\n## ")[0] if report.exists() else "# Curve budgets"
        write_atomically(report, f"{before.rstrip()}\n\n{text}".encode())


if __name__ == "__main__":
    main()
