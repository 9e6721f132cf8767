"""Transfers as tables for reading, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mdtree.zoo import EVIDENCE, QUESTIONS
from mdtree.zoo_transfer import Run, TransferResult

WORDS = {
    "data_set": "one data set left out, with all its families",
    "family": "one family left out",
    "architecture": "one architecture left out",
    "width": "fitted on the smallest two widths of a family, asked about its larger ones",
    "train_size": "fitted on the smallest amount of data of a family, asked about more",
    "cells": "fitted on 50 cells of a family, asked about all others",
}
"""Kind of transfer -> what is done in it."""

METHOD_WORDS = {"parameter_count": "parameter count", "validation": "errors and losses"}

LEGEND = """\
Shares in percent. Balanced: mean recall over the causes, over networks whose truth is clear; an answer withheld counts
as wrong. Gain: of the best single change's true gain what the advised change gains, over all networks, ambiguous ones
too. Answered: not `undetermined`; right: accuracy among these. Mean and worst are over the parts left out, each part
counting alike. Amb., cens.: share of networks too close to call, and share decided beyond the edge of the grid (not
asked about). Brackets: 95 % bootstrap intervals over cells."""


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
    yield from (f"\n{line}" if not number else line for number, line in enumerate(gap_lines(result)))


def summary_lines(summaries: Sequence[Summary]) -> Iterator[str]:
    """A line for every question, evidence set and method: mean and worst."""
    yield f"{'':<29}{'balanced accuracy':^46}{'gain':^13}"
    yield f"{'question, evidence':<25}{'mean':>6} {'worst':>6} {'where':<35}{'mean':>6} {'worst':>6} {'answ.':>6}{'right':>7}"
    question = ""
    for line in summaries:
        if line.question != question:
            question = line.question
            yield _words(question)
        name = f"tree, {_words(line.evidence)}" if line.evidence else METHOD_WORDS.get(line.method, line.method)
        yield (
            f"  {name:<23}{_percent(line.balanced_accuracy):>6} {_percent(line.worst):>6} {_cut(line.worst_part, 34):<35}"
            f"{_percent(line.gain_captured):>6} {_percent(line.worst_gain):>6} {_percent(line.coverage):>6}"
            f"{_percent(line.accuracy_answered):>7}"
        )


def part_lines(runs: Sequence[Run], question: str, default_method: str) -> Iterator[str]:
    """Two lists of the parts of a question: the default method by evidence, and the baselines with the gains."""
    parts = list(dict.fromkeys(run.left_out for run in runs))
    width = min(30, max(len(part) for part in parts))
    own = {(run.left_out, run.evidence): run for run in runs if run.method == default_method}
    size = {run.left_out: run for run in reversed(baseline_runs(runs, runs[0].method))}
    yield f"{_words(question)}, balanced accuracy".ljust(width + 2) + f"{'n':>6}{'amb.':>5}{'cens.':>6}" + "".join(
        f"{_words(evidence):>14}" for evidence in EVIDENCE
    )
    for part in parts:
        run = size[part]
        asked = run.n + run.n_censored + run.n_not_measured
        shares = f"{run.n:>6}{_percent(run.n_ambiguous / run.n, 0):>5}{_percent(run.n_censored / asked, 0):>6}"
        yield f"  {_cut(part, width):<{width}}{shares}" + "".join(
            f"{_with_interval(own.get((part, evidence))):>14}" for evidence in EVIDENCE
        )
    names = list(dict.fromkeys(run.method for run in runs if run.method != default_method))
    rivals = {(run.left_out, name): run for name in names for run in baseline_runs(runs, name)}
    heads = [METHOD_WORDS.get(name, name)[:15] for name in names]
    yield " " * (width + 2) + "".join(f"{head:>16}" for head in heads)
    for part in parts:
        cells = [_with_interval(rivals.get((part, name))) for name in names]
        yield f"  {_cut(part, width):<{width}}" + "".join(f"{cell:>16}" for cell in cells)


def gap_lines(result: TransferResult) -> list[str]:
    """What was not run, and why, equal reasons together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for gap in result.gaps:
        what = ", ".join(_words(word) for word in (gap.question, gap.evidence, gap.method) if word)
        grouped.setdefault((gap.left_out, gap.method and gap.method, gap.reason), []).append(what)
    return [
        f"not run: {left_out}{'; ' if any(what) else ''}{' / '.join(filter(None, what))}: {reason}"
        for (left_out, _, reason), what in grouped.items()
    ]


def _with_interval(run: Run | None) -> str:
    if run is None or run.balanced_accuracy is None:
        return "-"
    if run.interval is None:
        return _percent(run.balanced_accuracy)
    return f"{_percent(run.balanced_accuracy)} [{_percent(run.interval[0], 0)} {_percent(run.interval[1], 0)}]"


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _words(name: str) -> str:
    return name.replace("_", " ")
