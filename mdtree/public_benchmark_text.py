"""The public benchmark's figures as tables for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FIGURES = (
    ("accuracy", "share of right answers, percent", 100.0, 2),
    ("balanced_accuracy", "mean over the two labels, percent", 100.0, 2),
    ("std", "spread of the accuracy over seeds, points", 100.0, 2),
    ("clear_accuracy", "accuracy where the two rooms differ by a point or more, percent", 100.0, 2),
    ("regret_points", "regret, points of test accuracy", 1.0, 3),
    ("gain_captured", "gain captured, percent", 100.0, 1),
)
ONE_STEP = ("one", "random", "best", "one_unclipped", "best_unclipped")


def benchmark_text(result: Mapping[str, Any]) -> str:
    """Every table, with the number of rows and the share that was dropped beside the accuracies."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    cases: Mapping[str, Mapping[str, Mapping[str, float]]] = result["cases"]
    first = {number: next(iter(methods.values())) for number, methods in cases.items() if methods}
    yield f"Default method: {result['default_method']}; seeds {', '.join(map(str, result['seeds']))}"
    yield "Rows asked: " + ", ".join(
        f"case {number} {figures['n']} ({figures['dropped_share']:.1%} ties dropped)"
        for number, figures in first.items()
    )
    names = list(dict.fromkeys(name for methods in cases.values() for name in methods))
    for key, words, factor, digits in FIGURES:
        yield f"\n{words[0].upper()}{words[1:]}"
        cells = [[_number(cases[number].get(name, {}).get(key), factor, digits) for number in cases] for name in names]
        yield from _table([f"case {number}" for number in cases], names, cells)
    yield "\nThresholds of the default tree (first draw), with 90 % intervals"
    for number, questions in result["thresholds"].items():
        for place, question in enumerate(questions):
            lead = f"case {number}" if place == 0 else ""
            low, high = question["interval"]
            told = "" if question["identified"] else "; mostly the prior: the rows hardly tell"
            yield f"  {lead:<8}{question['feature']} <= {question['threshold']:.3g} ({low:.3g} to {high:.3g}{told})"
    for task, methods in result["one_step"].items():
        yield f"\nOne-step change, task {task}: points of test accuracy"
        cells = [[_number(figures[key], 1.0, 3) for key in ONE_STEP] for figures in methods.values()]
        yield from _table([key.replace("_", " ") for key in ONE_STEP], list(methods), cells)
    yield "\nVerdict over the four causes: gain captured / accuracy, percent"
    settings = result["verdict"]
    names = list(next(iter(settings.values()))["methods"])
    cells = [
        [
            f"{100 * s['methods'][n]['gain_captured']:.1f} / {100 * s['methods'][n]['accuracy']:.0f}"
            for s in settings.values()
        ]
        for n in names
    ]
    yield from _table([f"{name} ({s['n_fitted']} -> {s['n']})" for name, s in settings.items()], names, cells)
    yield "\nAbstention, tuned on the clean collection"
    for question, found in result["abstention"].items():
        accuracy = "-" if found["accuracy"] is None else f"{found['accuracy']:.1%}"
        yield (
            f"  {question}: answers {found['coverage']:.1%} of {found['n']} rows, {accuracy} right "
            f"(all rows: {found['accuracy_of_all']:.1%}); 95 % right is reached up to {found['coverage_at_95']:.1%}"
        )


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"


def _table(header: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(head), *(len(row[k]) for row in cells)) for k, head in enumerate(header)]
    lead = max(len(name) for name in names)
    yield "  " + " " * lead + "".join(f"  {head:>{width}}" for head, width in zip(header, widths, strict=True))
    for name, row in zip(names, cells, strict=True):
        yield f"  {name:<{lead}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
