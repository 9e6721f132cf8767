"""The diagnoser: fitted trees as data, and the diagnosis they make of a measured record. No torch here.

One tree per question and evidence set. A tree's leaves carry what the reference zoo knows of the networks that end
there: how often each cause was the true one, how much room each direction held, and what the advised step brought.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from mdtree.advice import advise
from mdtree.composition import LEAN, ComposedWalk, is_composed, lean, question_of, walk_composed
from mdtree.cut_points import format_threshold
from mdtree.diagnoser_schema import Diagnoser, LeafStatistics, QuestionTree, diagnoser_from_dict, diagnoser_to_dict
from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.distance import PUBLIC_TABLE, distance_from_zoo
from mdtree.files import write_atomically
from mdtree.nodes import Walk, walk
from mdtree.record import Metric, Record, read_json
from mdtree.zoo import CAUSES, FAILURES

UNDETERMINED = "undetermined"
MARGIN = 0.05
"""A verdict needs this lead in probability over the runner-up; below it the diagnosis is `undetermined`."""


def diagnose_record(diagnoser: Diagnoser, record: Record, evidence: str | None = None) -> Diagnosis:
    """Walk the verdict tree of the record's evidence set and say what its leaf knows.

    Parameters
    ----------
    diagnoser : Diagnoser
    record : Record
    evidence : str, optional
        Which tree to walk; by default the one for the metrics the record holds.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        The diagnoser has no verdict tree for this evidence.
    """
    evidence = evidence or record.evidence
    question = diagnoser.tree("verdict", evidence)
    values = {name: metric.value for name, metric in record.metrics.items()}
    errors = {name: metric.standard_error for name, metric in record.metrics.items()}
    composed = _walked(diagnoser, evidence, values, errors)
    walked = composed.walk
    statistics = _mixed(question, walked)
    probabilities = dict(statistics.probability)
    flags, settle = _straddles(diagnoser, evidence, values, errors)
    gate = _not_training(diagnoser, record.metrics)
    if gate is not None:
        flags.insert(0, "not_training")
        probabilities = _shifted(probabilities, gate)
    verdict, confidence = _verdict(probabilities)
    if gate == UNDETERMINED:
        verdict = UNDETERMINED
    if gate is None and readings_disagree(diagnoser, evidence, verdict, values):
        verdict = UNDETERMINED
        flags.append("readings_disagree")
    reason = _reason(verdict, record.metrics, trains=gate is None)
    distance = distance_from_zoo(diagnoser, record.metrics)
    flags += _warnings(diagnoser, record, distance)
    if verdict == UNDETERMINED:
        settle += _what_would_settle(evidence)
    return Diagnosis(
        record=record,
        verdict=verdict,
        confidence=confidence,
        reason=reason,
        ranking=_ranking(diagnoser, statistics, probabilities, record, verdict, reason),
        path=walked.path,
        flags=tuple(flags),
        settle=tuple(settle),
        distance_from_zoo=distance,
        diagnoser={"name": diagnoser.name, "evidence": evidence, "zoo": dict(diagnoser.zoo)},
        answers={question_of(step.feature): _ANSWERS[step.side] for step in composed.above},
        leaves=_labels(walked),
    )


_ANSWERS: dict[str, bool | None] = {"left": False, "right": True, "both": None}


def _labels(walked: Walk) -> dict[str, float]:
    """Label of the leaf reached; of several leaves (a metric was missing), each label's weight."""
    labels: dict[str, float] = {}
    for leaf, weight in walked.leaves:
        labels[leaf.label] = labels.get(leaf.label, 0.0) + weight
    return labels


def walk_verdict(
    diagnoser: Diagnoser, evidence: str, values: Mapping[str, float], errors: Mapping[str, float] | None = None
) -> Walk:
    """The walk to the verdict: through its own tree, or through those of the questions it is composed of."""
    return _walked(diagnoser, evidence, values, errors).walk


def _walked(
    diagnoser: Diagnoser, evidence: str, values: Mapping[str, float], errors: Mapping[str, float] | None
) -> ComposedWalk:
    """The same with the answers to the questions, where it is composed of some."""
    tree = diagnoser.tree("verdict", evidence).tree
    if not is_composed(tree):
        return ComposedWalk(walk(tree, values, errors), ())
    return walk_composed(tree, diagnoser.nodes(evidence), values, errors)


def readings_disagree(diagnoser: Diagnoser, evidence: str, verdict: str, values: Mapping[str, float]) -> bool:
    """Whether `verdict` blames a temperature to whose side the mean of the readings does not lean."""
    sides = {"temperature_too_high": 1.0, "temperature_too_low": -1.0}
    leaning = lean(diagnoser.nodes(evidence), values) if verdict in sides else None
    return leaning is not None and sides[verdict] * leaning <= LEAN


def _verdict(probabilities: Mapping[str, float]) -> tuple[str, float]:
    first, second = sorted(probabilities.values(), reverse=True)[:2]
    best = max(FAILURES, key=lambda name: probabilities[name])
    return (best if first - second >= MARGIN else UNDETERMINED), first


def _mixed(question: QuestionTree, walked: Walk) -> LeafStatistics:
    """The statistics of the leaf reached; of several leaves (a metric was missing), their weighted mean."""
    parts = [(question.leaves[leaf.index], weight) for leaf, weight in walked.leaves]
    if len(parts) == 1:
        return parts[0][0]
    heaviest = max(parts, key=lambda part: part[1])[0]
    return replace(
        heaviest,
        counts={f: sum(w * s.counts[f] for s, w in parts) for f in FAILURES},
        probability={f: sum(w * s.probability[f] for s, w in parts) for f in FAILURES},
        room_points={d: sum(w * s.room_points[d] for s, w in parts) for d in CAUSES},
    )


def _straddles(
    diagnoser: Diagnoser, evidence: str, values: Mapping[str, float], errors: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    """Flags for measured values whose error bar holds the threshold, and what the other side would have said."""
    flags: list[str] = []
    settle: list[str] = []
    question = diagnoser.tree("verdict", evidence)
    walked = walk_verdict(diagnoser, evidence, values, errors)
    here = _verdict(_mixed(question, walked).probability)[0]
    for step in walked.path:
        if not step.straddles or step.value is None:
            continue
        other = math.nextafter(step.threshold, math.inf) if step.side == "left" else step.threshold
        changed = walk_verdict(diagnoser, evidence, {**values, step.feature: other}, errors)
        there = _verdict(_mixed(question, changed).probability)[0]
        if f"straddles:{step.feature}" not in flags:
            flags.append(f"straddles:{step.feature}")
        if there != here:
            threshold = format_threshold(step.threshold)
            settle.append(f"{step.feature} is within its error of {threshold}; beyond it the verdict is {there}")
    return flags, settle


UNMOVED = 0.005
"""Growth of the weights below which a network at chance has not left its start: of the 1,272 networks of the reference
zoos that are at chance because the temperature was too high none grew or shrank by less than 0.009."""


def _not_training(diagnoser: Diagnoser, metrics: Mapping[str, Metric]) -> str | None:
    """The gate for networks near chance on their own training data: a cause, `undetermined`, or None if it trains.

    A network whose weights have not moved never left its start, whatever its gradient. Else the gradient tells: one
    that hardly left it still has one; one that was thrown out of reach has none left.
    """
    gate = diagnoser.not_training
    error = metrics.get("train_error_over_chance")
    if error is None or error.value < gate.error_over_chance:
        return None
    growth = metrics.get("log_weight_growth")
    if growth is not None and abs(growth.value) < UNMOVED:
        return "temperature_too_low"
    gradient = metrics.get("gradient_norm_squared_per_parameter")
    if gradient is None or gate.gradient_threshold is None:
        return UNDETERMINED
    return "temperature_too_high" if gradient.value <= gate.gradient_threshold else "temperature_too_low"


def _shifted(probabilities: Mapping[str, float], gate: str) -> dict[str, float]:
    """Take `healthy` out (a network at chance is not), and let the gate's direction win over its opposite."""
    shifted = {**probabilities, "healthy": 0.0}
    opposite = {
        "temperature_too_high": "temperature_too_low",
        "temperature_too_low": "temperature_too_high",
    }.get(gate)
    if opposite:
        shifted[gate] += shifted[opposite]
        shifted[opposite] = 0.0
    total = sum(shifted.values())
    return {name: value / total for name, value in shifted.items()} if total > 0 else dict(probabilities)


INTERPOLATES_PERCENT = 1.0
"""Train error below which a network counts as fitting its training data."""

HALF_TRAINED = 0.5
"""Train error over chance below which a network learned more of its training data than it missed."""


def _reason(verdict: str, metrics: Mapping[str, Metric], trains: bool) -> str | None:
    """Two kinds of cold and two kinds of hot, by definition rather than by fit.

    Cold and still in error on its own data: not converged; cold and interpolating: a sharp minimum. Hot and left with
    most of its training error, or parted from its sibling by a barrier: it was thrown about. Hot, half trained and
    connected to its sibling: the noise of the gradient keeps it from settling; this needs a sibling to tell.
    """
    if not trains:
        return {"temperature_too_low": "unconverged", "temperature_too_high": "instability"}.get(verdict)
    share = metrics.get("train_error_over_chance")
    if verdict == "temperature_too_high" and share is not None and share.value >= HALF_TRAINED:
        return "instability"
    error = metrics.get("train_error_percent")
    if verdict == "temperature_too_low" and error is not None:
        return "sharp" if error.value < INTERPOLATES_PERCENT else "unconverged"
    barrier = metrics.get("connectivity_barrier_over_chance")
    if verdict == "temperature_too_high" and barrier is not None:
        return "noise_floor" if barrier.value <= 0 else "instability"
    return None


def _is_foreign(diagnoser: Diagnoser, record: Record) -> bool:
    return record.checkpoint.get("data_set") not in diagnoser.zoo["data_sets"]


def _warnings(diagnoser: Diagnoser, record: Record, distance: Mapping[str, Any]) -> list[str]:
    flags = []
    if record.protocol.get("digest") not in diagnoser.zoo["protocols"]:
        flags.append("other_protocol")
    if _is_foreign(diagnoser, record):
        flags.append("foreign_task")
    if distance["outside"]:
        flags.append("outside_zoo")
    if distance.get("resembles") == PUBLIC_TABLE:
        flags.append("resembles_public_table")
    return flags + [f"not_told:{cause}" for cause in diagnoser.zoo.get("not_told", ())]


def _what_would_settle(evidence: str) -> list[str]:
    wanted = []
    if not evidence.startswith("sibling"):
        wanted.append("a sibling: the same training from another seed (--sibling)")
    if not evidence.endswith("_test"):
        wanted.append("test data (a data set with a test part)")
    return wanted or ["a second sibling, or a run with the advised change"]


def _ranking(
    diagnoser: Diagnoser,
    statistics: LeafStatistics,
    probabilities: Mapping[str, float],
    record: Record,
    verdict: str,
    reason: str | None,
) -> tuple[Candidate, ...]:
    test_error = record.metrics.get("test_error_percent")
    ceiling = test_error.value if test_error else math.inf  # the error can fall to 0 and rise to 100 percent
    candidates = [Candidate("healthy", probabilities["healthy"], None, 0.0, 0.0, None)]
    for direction, failure in CAUSES.items():
        step = statistics.steps[direction]
        gain, error = step.gain_points, step.standard_error
        if test_error is not None:
            # what a step removes is a share of the error there is: truer than the leaf's mean in points, which mixes
            # networks with much to lose and with little, and the only form that travels to another task
            gain, error = step.gain_share * ceiling, step.gain_share_standard_error * ceiling
        candidates.append(
            Candidate(
                failure,
                probabilities[failure],
                statistics.room_points[direction],
                min(max(gain, ceiling - 100.0), ceiling) if test_error else gain,
                error,
                advise(failure, step.factor, record.recipe, reason if failure == verdict else None),
            )
        )
    return tuple(sorted(candidates, key=lambda c: (-c.probability, FAILURES.index(c.failure))))


def read_diagnoser(path: str | os.PathLike[str]) -> Diagnoser:
    """Read a diagnoser's JSON file, trusting nothing.

    Raises
    ------
    InputError
        Missing, not JSON, of another schema version, or not a valid diagnoser.
    """
    return diagnoser_from_dict(read_json(path), str(path))


def write_diagnoser(diagnoser: Diagnoser, path: str | os.PathLike[str]) -> None:
    """Write a diagnoser as JSON, all or nothing."""
    text = json.dumps(diagnoser_to_dict(diagnoser), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def default_diagnoser() -> Diagnoser:
    """The diagnoser fitted on all reference zoos, `zoo_samples/*.csv`."""
    text = (files("mdtree") / "data_files" / "reference.json").read_text(encoding="utf-8")
    return diagnoser_from_dict(json.loads(text), "the embedded diagnoser")
