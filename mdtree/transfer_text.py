"""Transfers as tables for reading, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from mdtree.transfer_methods import AGREEING
from mdtree.zoo import EVIDENCE, QUESTIONS
from mdtree.zoo_transfer import Gap, Run, TransferResult

WORDS = {
    "data_set": "one data set left out, with all its families",
    "family": "one family left out",
    "architecture": "one architecture left out",
    "width": "fitted on the smallest two widths of a family, asked about its larger ones",
    "train_size": "fitted on the smallest amount of data of a family, asked about more",
    "cells": "fitted on 50 cells of a family, asked about all others",
}
"""Kind of transfer -> what is done in it."""

METHOD_WORDS = {
    "hyperparameters": "settings",
    "parameter_count": "parameters",
    AGREEING: "readings agree",
}
"""Methods whose names in tables differ: settings are width, amount of data, learning rate and temperature; parameters
their count alone; the temperature of one checkpoint, withheld where its readings do not lean to one side."""

LEGEND = """\
Shares in percent. Balanced: mean recall over the causes, over networks whose truth is clear; an
answer withheld counts as wrong. Gain: true gain of the advised changes over that of the best ones,
over all networks, ambiguous ones too. Answered: not `undetermined`; right: accuracy among these.
Mean and worst are over the parts left out, each part counting alike. Amb., cens.: share too close
to call, and share decided beyond the edge of the grid and not asked about. Brackets: 95 %
bootstrap intervals over cells. Fitted on all networks of the rest; asked about all of the part."""

LINE_WIDTH = 100
NAME_WIDTH = 24
CELL_WIDTH = 15


@dataclass(frozen=True)
class Summary:
    """A method on a question over all parts left out; shares 0...1, None where no part has the figure.

    Attributes
    ----------
    question, evidence, method : str
        `evidence` is empty where the method's answers do not depend on it.
    balanced_accuracy, worst : float or None
        Mean and least over parts.
    worst_part : str
        Where it is least.
    gain_captured, worst_gain, regret_points, coverage, accuracy_answered : float or None
        Means over parts, and the least gain.
    parts : int
    """

    question: str
    evidence: str
    method: str
    balanced_accuracy: float | None
    worst: float | None
    worst_part: str
    gain_captured: float | None
    worst_gain: float | None
    regret_points: float | None
    coverage: float | None
    accuracy_answered: float | None
    parts: int


def summarise(runs: Sequence[Run], default_method: str) -> list[Summary]:
    """Mean and worst over the parts of one kind of transfer, the default method first in every question.

    The baselines do not see the evidence: they stand once, on the rows of the evidence set that the fewest parts lack.
    """
    found = []
    for question in QUESTIONS:
        own = [run for run in runs if run.question == question]
        for evidence in EVIDENCE:
            here = [run for run in own if run.evidence == evidence and run.method == default_method]
            found += [_summary(here, question, evidence)] if here else []
        for method in dict.fromkeys(run.method for run in own if run.method != default_method):
            # `alone` asks for least: every part has it
            found.append(_summary(baseline_runs(own, method), question, ""))
    return found


def baseline_runs(runs: Sequence[Run], method: str) -> list[Run]:
    """One run of a method for each part: that of the first evidence set the part has."""
    first: dict[str, Run] = {}
    for run in sorted((r for r in runs if r.method == method), key=lambda r: EVIDENCE.index(r.evidence)):
        first.setdefault(run.left_out, run)
    return list(first.values())


def _summary(runs: Sequence[Run], question: str, evidence: str) -> Summary:
    def over(get: Callable[[Run], float | None], fold: Callable[[list[float]], float]) -> float | None:
        values = [value for value in map(get, runs) if value is not None]
        return float(fold(values)) if values else None

    scored = [run for run in runs if run.balanced_accuracy is not None]
    return Summary(
        question=question,
        evidence=evidence,
        method=runs[0].method,
        balanced_accuracy=over(lambda r: r.balanced_accuracy, np.mean),
        worst=over(lambda r: r.balanced_accuracy, min),
        worst_part=min(scored, key=lambda r: r.balanced_accuracy or 0.0).left_out if scored else "",
        gain_captured=over(lambda r: r.gain_captured, np.mean),
        worst_gain=over(lambda r: r.gain_captured, min),
        regret_points=over(lambda r: r.regret_points, np.mean),
        coverage=over(lambda r: r.coverage, np.mean),
        accuracy_answered=over(lambda r: r.accuracy_answered, np.mean),
        parts=len(runs),
    )


def transfer_text(result: TransferResult) -> str:
    """Summaries, then every part, then what was not run."""
    return "\n".join(_lines(result)).rstrip()


def _lines(result: TransferResult) -> Iterator[str]:
    for transfer in dict.fromkeys(run.transfer for run in result.runs):
        runs = [run for run in result.runs if run.transfer == transfer]
        count = len({run.left_out for run in runs})
        words = WORDS.get(transfer, transfer)
        yield f"{words[0].upper()}{words[1:]}: {count} {'part' if count == 1 else 'parts'}"
        yield ""
        yield from summary_lines(summarise(runs, result.default_method))
        for question in QUESTIONS:
            own = [run for run in runs if run.question == question]
            if own:
                yield ""
                yield from part_lines(own, question, result.default_method)
        yield ""
    yield LEGEND
    for line in gap_lines(result):
        yield ""
        yield from wrap(line, LINE_WIDTH, subsequent_indent="  ")


def summary_lines(summaries: Sequence[Summary]) -> Iterator[str]:
    """A line for every question, evidence set and method: mean and worst."""
    yield f"{'':<23}{'balanced accuracy':^47}{'gain captured':>14}"
    yield f"{'':<23}{'mean':>6}{'worst':>7}  {'where':<32}{'mean':>7}{'worst':>7}{'answered':>10}{'right':>6}"
    question = ""
    for line in summaries:
        if line.question != question:
            question = line.question
            yield _words(question)
        name = f"tree, {_words(line.evidence)}" if line.evidence else method_words(line.method)
        balanced, where = _percent(line.balanced_accuracy), _cut(line.worst_part, 32)
        yield (
            f"  {name:<21}{balanced:>6}{_percent(line.worst):>7}  {where:<32}"
            f"{_percent(line.gain_captured):>7}{_percent(line.worst_gain):>7}{_percent(line.coverage):>10}"
            f"{_percent(line.accuracy_answered):>6}"
        )


def part_lines(runs: Sequence[Run], question: str, default_method: str) -> Iterator[str]:
    """Lists of the parts of a question: the default method by evidence, the baselines, the default's gains.

    Where it withheld answers, how many it gave and how many of these are right.
    """
    parts = list(dict.fromkeys(run.left_out for run in runs))
    own = {(run.left_out, run.evidence): run for run in runs if run.method == default_method}
    names = list(dict.fromkeys(run.method for run in runs if run.method != default_method))
    rivals = {(run.left_out, name): run for name in names for run in baseline_runs(runs, name)}
    sizes = {run.left_out: run for method in (default_method, *names) for run in baseline_runs(runs, method)}
    evidence_words = [_words(evidence) for evidence in EVIDENCE]

    yield _part_line(f"{_words(question)}: balanced", ("n", "amb.", "cens."), evidence_words)
    for part in parts:
        yield _part_line(
            f"  {short_name(part)}", _counts(sizes[part]), [_balanced(own.get((part, e))) for e in EVIDENCE]
        )
    if names:
        yield _part_line("  baselines: balanced", (), [method_words(name) for name in names])
        for part in parts:
            yield _part_line(f"  {short_name(part)}", (), [_balanced(rivals.get((part, name))) for name in names])
    yield _part_line("  gain captured", (), evidence_words)
    for part in parts:
        yield _part_line(f"  {short_name(part)}", (), [_gain(own.get((part, e))) for e in EVIDENCE])
    if any(run.coverage < 1 for run in own.values()):
        yield _part_line("  answered / right", (), evidence_words)
        for part in parts:
            yield _part_line(f"  {short_name(part)}", (), [_answered(own.get((part, e))) for e in EVIDENCE])


def _part_line(name: str, counts: Sequence[str], cells: Sequence[str]) -> str:
    numbers = (
        "".join(count.rjust(width) for count, width in zip(counts, (5, 5, 6), strict=True)) if counts else " " * 16
    )
    return f"{_cut(name, NAME_WIDTH):<{NAME_WIDTH}}{numbers}" + "".join(cell.rjust(CELL_WIDTH) for cell in cells)


def _counts(run: Run) -> tuple[str, str, str]:
    total = run.n + run.n_censored + run.n_not_measured
    return str(run.n), _percent(run.n_ambiguous / run.n, 0), _percent(run.n_censored / total, 0)


def short_name(part: str) -> str:
    """A part without its scale: of which kind that is the heading says, where it begins the summary."""
    return part.partition(": ")[0]


def gap_lines(result: TransferResult) -> list[str]:
    """What was not run, and why: a line for every part and reason."""
    grouped: dict[tuple[str, str], list[Gap]] = {}
    for gap in result.gaps:
        grouped.setdefault((gap.left_out, gap.reason), []).append(gap)
    return [f"not run: {', '.join([part, *_concerned(gaps)])}: {reason}" for (part, reason), gaps in grouped.items()]


def _concerned(gaps: Sequence[Gap]) -> list[str]:
    """Questions, evidence sets (unless all) and methods of gaps that have one reason."""
    words = list(dict.fromkeys(_words(gap.question) for gap in gaps if gap.question))
    for names, all_of_them in (
        ([gap.evidence for gap in gaps if gap.evidence], EVIDENCE),
        ([gap.method for gap in gaps if gap.method], ()),
    ):
        distinct = tuple(dict.fromkeys(names))
        if distinct and distinct != all_of_them:
            words.append("(" + ", ".join(map(_words, distinct)) + ")")
    return words


def method_words(method: str) -> str:
    """What a method is called in tables."""
    return METHOD_WORDS.get(method, method)


def _balanced(run: Run | None) -> str:
    return "-" if run is None else _with_interval(run.balanced_accuracy, run.interval)


def _gain(run: Run | None) -> str:
    return "-" if run is None else _with_interval(run.gain_captured, run.gain_interval)


def _answered(run: Run | None) -> str:
    return "-" if run is None else f"{_percent(run.coverage)} / {_percent(run.accuracy_answered)}"


def _with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    if share is None or interval is None:
        return _percent(share)
    return f"{_percent(share)} [{_percent(interval[0], 0)} {_percent(interval[1], 0)}]"


def _percent(share: float | None, digits: int = 1) -> str:
    if share is None:
        return "-"
    text = f"{100 * share:.{digits}f}"
    return "100" if text == "100.0" else text


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _words(name: str) -> str:
    return name.replace("_", " ")
