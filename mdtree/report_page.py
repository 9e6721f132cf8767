"""What the page of one checkpoint says, ready to be laid out: every text and number is read from the diagnosis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdtree.composition import QUESTION_TEXT
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.errors import InputError
from mdtree.nodes import Step
from mdtree.plots.gauge import Gauge, gauge_of
from mdtree.report_sources import opened_rows, provenance_rows, recipe_rows
from mdtree.report_words import (
    compared,
    cost_text,
    error_text,
    gain_text,
    like_text,
    name_of,
    notes,
    number_text,
    reasons,
    share_text,
    visible,
    what_to_try,
    words,
)


@dataclass(frozen=True)
class Cause:
    """One row of the ranking; `failure` names its colour and mark, `low` and `high` are the ends of 95 %, in points."""

    failure: str
    name: str
    probability: float
    room: str
    gain: str
    low: float | None
    high: float | None
    change: str


@dataclass(frozen=True)
class AskedStep:
    """One split of the path as shown; `ends` are the zoo's 1st and 99th percentile, the ends of the gauge."""

    metric: str
    value: str
    error: str
    relation: str
    threshold: str
    share: str
    straddles: bool
    gauge: Gauge | None
    ends: tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """A question of the path with its splits and, where it is known, its answer ("yes", "no", "62 % yes")."""

    question: str
    steps: tuple[AskedStep, ...]
    answer: str


@dataclass(frozen=True)
class Layer:
    """One layer of the network."""

    name: str
    shape: str
    parameters: str
    weight_norm: str
    gradient_norm: str


@dataclass(frozen=True)
class CheckpointPage:
    """Everything a page shows of one checkpoint but its pictures.

    Attributes
    ----------
    anchor : str
        Its id in the page.
    name, path : str
    verdict : str
        As in the diagnosis; `verdict_text` in words.
    confidence, reason, advice, expected, like : str
    outside : bool
        Whether it lies outside the zoo.
    causes, asked, notes, settle : tuple
    end : str
        The answer of the tree, where the verdict is another; the probabilities then are those of several ends.
    measured : tuple of (metric, value, error, samples)
    not_measured : tuple of (reason, metrics)
    layers : tuple of Layer
    opened, provenance : tuple of (label, text)
    recipe : tuple of (setting, value, source)
    distances : tuple of (metric, spreads outside the zoo's range, spreads from the nearest network)
    cost : str
    json : str
    """

    anchor: str
    name: str
    path: str
    verdict: str
    verdict_text: str
    confidence: str
    reason: str
    advice: str
    expected: str
    like: str
    outside: bool
    causes: tuple[Cause, ...]
    asked: tuple[Asked, ...]
    end: str
    notes: tuple[str, ...]
    settle: tuple[str, ...]
    measured: tuple[tuple[str, str, str, str], ...]
    not_measured: tuple[tuple[str, list[str]], ...]
    layers: tuple[Layer, ...]
    opened: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    recipe: tuple[tuple[str, str, str], ...]
    distances: tuple[tuple[str, str, str], ...]
    cost: str
    json: str


def checkpoint_pages(diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser) -> list[CheckpointPage]:
    """The pages of several diagnoses, numbered from 1.

    Raises
    ------
    InputError
        There is no diagnosis.
    """
    if not diagnoses:
        raise InputError("there is no diagnosis to report", "one or more")
    return [checkpoint_page(diagnosis, diagnoser, number) for number, diagnosis in enumerate(diagnoses, start=1)]


def checkpoint_page(diagnosis: Diagnosis, diagnoser: Diagnoser, number: int = 1) -> CheckpointPage:
    """The page of a diagnosis; `number` tells it from others on the same page."""
    record, best = diagnosis.record, diagnosis.ranking[0]
    told = diagnosis.verdict != "undetermined" and best.advice is not None
    return CheckpointPage(
        anchor=f"checkpoint-{number}",
        name=name_of(record),
        path=visible(record.checkpoint.get("path") or ""),
        verdict=diagnosis.verdict,
        verdict_text=words(diagnosis.verdict),
        confidence=f"{diagnosis.confidence:.0%}",
        reason=words(diagnosis.reason or ""),
        advice=what_to_try(diagnosis),
        expected=f"{gain_text(best)} points of test accuracy" if told else "",
        like=like_text(diagnosis),
        outside=bool(diagnosis.distance_from_zoo.get("outside")),
        causes=tuple(_cause(candidate) for candidate in diagnosis.ranking),
        asked=_asked(diagnosis, diagnoser),
        end=_end(diagnosis),
        notes=tuple(notes(diagnosis)),
        settle=tuple(visible(text) for text in diagnosis.settle),
        measured=tuple(
            (name, f"{m.value:.6g}", error_text(m.standard_error), f"{m.samples:,}" if m.samples else "")
            for name, m in record.metrics.items()
        ),
        not_measured=tuple(reasons(record)),
        layers=tuple(_layer(layer) for layer in record.layers),
        opened=tuple(opened_rows(record)),
        provenance=tuple(provenance_rows(diagnosis)),
        recipe=tuple(recipe_rows(record)),
        distances=tuple(_distances(diagnosis.distance_from_zoo)),
        cost=cost_text(record),
        json=json_text(diagnosis),
    )


def json_text(diagnosis: Diagnosis) -> str:
    """The diagnosis as `mdtree diagnose --json` prints it, with what cannot be seen escaped as JSON escapes it."""
    text = json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _cause(candidate: Candidate) -> Cause:
    gain, error = candidate.expected_gain_points, candidate.expected_gain_standard_error or 0.0
    known = candidate.advice is not None and gain is not None
    return Cause(
        failure=candidate.failure,
        name=words(candidate.failure),
        probability=candidate.probability,
        room="" if candidate.room_points is None else f"{candidate.room_points:.1f}",
        gain=gain_text(candidate) if candidate.advice else "",
        low=(gain or 0.0) - 1.96 * error if known else None,
        high=(gain or 0.0) + 1.96 * error if known else None,
        change=candidate.advice.text if candidate.advice else "",
    )


def _asked(diagnosis: Diagnosis, diagnoser: Diagnoser) -> tuple[Asked, ...]:
    return tuple(
        Asked(
            question=QUESTION_TEXT.get(question, words(question)).replace("\n", " "),
            steps=tuple(_step(step, diagnoser) for step in diagnosis.path if step.question == question),
            answer=_ANSWERS[diagnosis.answers[question]] if question in diagnosis.answers else "",
        )
        for question in dict.fromkeys(step.question for step in diagnosis.path)
    )


_ANSWERS = {True: "yes", False: "no", None: "partly yes, partly no: a metric is missing"}


def _end(diagnosis: Diagnosis) -> str:
    """What the tree answers where the path ends, unless that is the verdict."""
    if set(diagnosis.leaves) <= {diagnosis.verdict}:
        return ""
    return ", ".join(f"{words(label)} {weight:.0%}" for label, weight in diagnosis.leaves.items())


def _step(step: Step, diagnoser: Diagnoser) -> AskedStep:
    value, error, relation, threshold = compared(step)
    low, high = diagnoser.ranges.get(step.feature, (0.0, 0.0))
    return AskedStep(
        metric=step.feature,
        value=value,
        error=error,
        relation=relation,
        threshold=threshold,
        share=share_text(step),
        straddles=step.straddles,
        gauge=gauge_of(step, diagnoser),
        ends=(f"{low:.3g}", f"{high:.3g}"),
    )


def _layer(layer: Mapping[str, Any]) -> Layer:
    shape = layer.get("shape") or ()
    return Layer(
        name=visible(layer.get("name", "?"), longest=120),
        shape=visible(" × ".join(map(str, shape)) if isinstance(shape, list | tuple) else shape, longest=60),
        parameters=number_text(layer.get("parameters", ""), ","),
        weight_norm=number_text(layer.get("weight_norm", ""), ".4g"),
        gradient_norm=number_text(layer.get("gradient_norm", ""), ".4g"),
    )


def _distances(distance: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    nearest = distance.get("from_nearest") or {}
    return [
        (name, f"{outside:.2f}", f"{nearest[name]:+.2f}" if name in nearest else "")
        for name, outside in (distance.get("metrics") or {}).items()
    ]
