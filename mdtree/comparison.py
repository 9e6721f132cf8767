"""Several checkpoints side by side: the rows of the table, and small pictures of one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.plots import curve_data
from mdtree.record import Record
from mdtree.report_page import Cause, CheckpointPage
from mdtree.report_words import error_text, value_text, visible, words
from mdtree.zoo import FAILURES

MOST_SETTINGS = 6
"""Settings of the recipes that a table shows beside the verdicts."""

SHOWN_METRICS = ("train_error_percent", "test_error_percent")


@dataclass(frozen=True)
class ComparedRow:
    """One checkpoint of the table.

    Attributes
    ----------
    number : int
        Its number in the pictures, from 1.
    page : CheckpointPage
    settings : tuple of str
        Its values of the settings that differ.
    metrics : tuple of str
        Train and test error with their errors.
    shares : tuple of Cause
        The candidates in one order for all checkpoints.
    profile : tuple of (float, float)
        The trained curve to its sibling, t and train error, both as shares (0...1); empty without one.
    barrier : str
        How far the curve rises above its ends.
    """

    number: int
    page: CheckpointPage
    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    shares: tuple[Cause, ...]
    profile: tuple[tuple[float, float], ...]
    barrier: str


@dataclass(frozen=True)
class Comparison:
    """All checkpoints of a report.

    Attributes
    ----------
    settings : tuple of str
        Settings of the recipes that differ, at most six.
    metrics : tuple of str
    rows : tuple of ComparedRow
    counts : tuple of (verdict, number of checkpoints)
    """

    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    counts: tuple[tuple[str, int], ...]


def comparison(diagnoses: Sequence[Diagnosis], pages: Sequence[CheckpointPage]) -> Comparison:
    """Put the diagnoses and their pages side by side, in the order given."""
    settings = differing_settings([diagnosis.record for diagnosis in diagnoses])
    rows = []
    for number, (diagnosis, page) in enumerate(zip(diagnoses, pages, strict=True), start=1):
        profile, barrier = _profile(diagnosis.record)
        rows.append(
            ComparedRow(
                number=number,
                page=page,
                settings=tuple(_setting(diagnosis.record, name) for name in settings),
                metrics=tuple(_metric(diagnosis.record, name) for name in SHOWN_METRICS),
                shares=tuple(sorted(page.causes, key=lambda cause: FAILURES.index(cause.failure))),
                profile=profile,
                barrier=barrier,
            )
        )
    verdicts = [diagnosis.verdict for diagnosis in diagnoses]
    return Comparison(
        settings=tuple(visible(words(name), longest=40) for name in settings),
        metrics=tuple(words(name).replace(" percent", ", %") for name in SHOWN_METRICS),
        rows=tuple(rows),
        counts=tuple((name, verdicts.count(name)) for name in dict.fromkeys(verdicts)),
    )


def differing_settings(records: Sequence[Record]) -> list[str]:
    """Settings of the recipes that are not the same in all records, in the order met, at most six."""
    names = dict.fromkeys(name for record in records for name in record.recipe)
    told = {name: {_setting(record, name) for record in records} for name in names}
    return [name for name, values in told.items() if len(values) > 1][:MOST_SETTINGS]


def _setting(record: Record, name: str) -> str:
    value = record.recipe.get(name)
    return "" if value is None else visible(value_text(value), longest=40)


def _metric(record: Record, name: str) -> str:
    metric = record.metrics.get(name)
    return "" if metric is None else f"{metric.value:.1f} {error_text(metric.standard_error)}".strip()


def _profile(record: Record) -> tuple[tuple[tuple[float, float], ...], str]:
    try:
        curve = curve_data(record)
    except InputError:
        return (), ""
    points = zip(curve.curve_t.tolist(), curve.curve_error_percent.tolist(), strict=True)
    barrier = "" if curve.barrier_percent is None else f"barrier {curve.barrier_percent:+.1f} points"
    return tuple((t, min(max(error / 100.0, 0.0), 1.0)) for t, error in points), barrier
