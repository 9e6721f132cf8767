"""Several checkpoints of one task, diagnosed together. No torch here.

Each question of a composed verdict is asked twice: of the network's own measurements, as always, and of its positions
within the set (`mdtree.set_trees`). Where the two answers differ the surer tree decides. Where the recipes say that the
temperature was swept, positions alone tell hot from cold. Sets too alike to be ranked, and sets of fewer than eight,
are diagnosed one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mdtree.composition import probability
from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser, QuestionTree
from mdtree.diagnosis import Diagnosis
from mdtree.nodes import Node, leaves, walk
from mdtree.record import Metric, Record
from mdtree.set_trees import SMALLEST_SET, SetTrees, position_name, positions, spreads_enough

SET_OF = "set_of:"
TOO_ALIKE = "set_too_alike"
BY_SET = "decided_by_set:"

SWEEP = 10.0
"""Times the coldest temperature (learning rate over batch size) that the hottest must be for a set to be a sweep."""


def diagnose_set(diagnoser: Diagnoser, records: Sequence[Record]) -> list[Diagnosis]:
    """Diagnose records, those of one task together where there are eight or more.

    Records are of one task if data set, specification of the data, number of training images, architecture (its name,
    not its width), evidence and measuring protocol agree. A checkpoint given twice counts once.

    Parameters
    ----------
    diagnoser : Diagnoser
    records : sequence of Record

    Returns
    -------
    list of Diagnosis
        In the order of the records. Of a set, each carries the flag `set_of:N`; `decided_by_set:QUESTION` where the
        set's tree gave the answer to a question that was asked; `set_too_alike` where the set could be asked nothing.
    """
    found: list[Diagnosis | None] = [None] * len(records)
    for members in tasks_of(records):
        together = _diagnose_task(diagnoser, [records[number] for number in members])
        for number, diagnosis in zip(members, together, strict=True):
            found[number] = diagnosis
    return [diagnosis for diagnosis in found if diagnosis is not None]


def tasks_of(records: Sequence[Record]) -> list[list[int]]:
    """Numbers of the records of each task; one that does not name its data is a task of its own."""
    tasks: dict[tuple[Any, ...], list[int]] = {}
    for number, record in enumerate(records):
        about = record.checkpoint
        model = str(about.get("model", "")).partition("?")[0]
        key: tuple[Any, ...] = (
            str(about.get("data_set")),
            str(about.get("data")),
            str(record.recipe.get("train_size")),
            model,
            record.evidence,
            str(record.protocol.get("digest")),
        )
        named = bool(about.get("data_set")) and bool(model)
        tasks.setdefault(key if named else (number,), []).append(number)
    return list(tasks.values())


@dataclass(frozen=True)
class _Set:
    """The measurements of a set, and the questions that may be asked of it.

    Attributes
    ----------
    size : int
        Distinct networks.
    places : mapping of metric to ndarray, shape (records,)
        Positions.
    trees : mapping of question to Split or Leaf
        Those that may be asked, see `questions_of_set`.
    swept : bool
        Whether the recipes span temperatures.
    """

    size: int
    places: Mapping[str, np.ndarray]
    trees: Mapping[str, Node]
    swept: bool


def _diagnose_task(diagnoser: Diagnoser, records: Sequence[Record]) -> list[Diagnosis]:
    distinct = _distinct(records)
    set_trees: SetTrees | None = diagnoser.set_trees
    if set_trees is None or len(distinct) < SMALLEST_SET:
        return [diagnose_record(diagnoser, record) for record in records]
    together = _ranked(set_trees, records, distinct)
    return [_diagnose_member(diagnoser, together, record, number) for number, record in enumerate(records)]


def _distinct(records: Sequence[Record]) -> list[int]:
    """The first record of every checkpoint; those without a hash are all their own."""
    first: dict[str, int] = {}
    for number, record in enumerate(records):
        first.setdefault(str(record.checkpoint.get("sha256") or number), number)
    return list(first.values())


def _ranked(set_trees: SetTrees, records: Sequence[Record], distinct: Sequence[int]) -> _Set:
    values = {
        name: np.array([r.metrics[name].value if name in r.metrics else np.nan for r in records])
        for name in set_trees.scale
    }
    places = {}
    for name, column in values.items():
        found = dict(zip(column[list(distinct)].tolist(), positions(column[list(distinct)]).tolist(), strict=True))
        # a copy of a checkpoint stands where the checkpoint stands
        places[name] = np.array([found.get(value, np.nan) for value in column.tolist()])
    evidence = records[0].evidence
    ranked = {name: column[list(distinct)] for name, column in values.items()}
    trees = {q: by_evidence[evidence] for q, by_evidence in set_trees.trees.items() if evidence in by_evidence}
    swept = sweeps_temperature([_temperature(records[number]) for number in distinct])
    return _Set(len(distinct), places, questions_of_set(trees, ranked, set_trees.scale, swept), swept)


def _temperature(record: Record) -> float | None:
    """Learning rate over batch size; None where the recipe does not say."""
    rate, batch = record.recipe.get("learning_rate"), record.recipe.get("batch_size")
    if not isinstance(rate, int | float) or not isinstance(batch, int | float) or batch <= 0:
        return None
    return float(rate) / float(batch)


def sweeps_temperature(temperatures: Sequence[float | None]) -> bool:
    """Whether all temperatures are known and the hottest is `SWEEP` times the coldest or more."""
    known = [value for value in temperatures if value is not None and value > 0]
    return len(known) == len(temperatures) > 0 and max(known) >= SWEEP * min(known)


def questions_of_set(
    trees: Mapping[str, Node],
    values: Mapping[str, np.ndarray],
    scale: Mapping[str, tuple[float, ...]],
    swept: bool,
) -> dict[str, Node]:
    """The trees that may be asked: all of a sweep, else those whose metrics spread over a good part of the zoo.

    Parameters
    ----------
    trees : mapping of question to Split or Leaf
    values : mapping of metric to ndarray, shape (networks,)
    scale : mapping of metric to tuple of float
        As in `SetTrees`.
    swept : bool
    """
    return {question: tree for question, tree in trees.items() if swept or spreads_enough(tree, values, scale)}


def _diagnose_member(diagnoser: Diagnoser, together: _Set, record: Record, number: int) -> Diagnosis:
    measured = {name: metric.value for name, metric in record.metrics.items()}
    places = {position_name(name): float(column[number]) for name, column in together.places.items()}
    evidence = record.evidence
    single = diagnoser.nodes(evidence)
    decided = {
        question: tree
        for question, tree in together.trees.items()
        if question in single and decides(question, (tree, places), (single[question], measured), together.swept)
    }
    trees = {
        question: {**by_evidence, evidence: QuestionTree(decided[question])} if question in decided else by_evidence
        for question, by_evidence in diagnoser.trees.items()
    }
    ranked = {name: Metric(value, 0.0, together.size) for name, value in places.items() if not np.isnan(value)}
    seen = replace(record, metrics={**record.metrics, **ranked})
    diagnosis = diagnose_record(replace(diagnoser, trees=trees), seen, evidence)
    asked = {step.question for step in diagnosis.path}
    notes = [BY_SET + question for question in decided if question in asked] if together.trees else [TOO_ALIKE]
    return replace(diagnosis, record=record, flags=(f"{SET_OF}{together.size}", *notes, *diagnosis.flags))


def decides(
    question: str,
    of_set: tuple[Node, Mapping[str, float]],
    of_one: tuple[Node, Mapping[str, float]],
    swept: bool,
) -> bool:
    """Whether a set's tree answers a question in place of the network's own.

    It does where it answers otherwise and is surer; and always where it tells hot from cold in a sweep. How sure a tree
    is of an answer is its probability if all answers were equally frequent in the zoo.

    Parameters
    ----------
    question : str
    of_set, of_one : (Split or Leaf, mapping of str to float)
        A tree, and the values that it asks for.
    swept : bool
        See `sweeps_temperature`.
    """
    if swept and question == "temperature":
        return True
    labels = sorted({leaf.label for tree, _ in (of_set, of_one) for leaf in leaves(tree)})
    there, own = ({label: probability(tree, walk(tree, v), label) for label in labels} for tree, v in (of_set, of_one))
    other, before = max(labels, key=there.__getitem__), max(labels, key=own.__getitem__)
    return other != before and there[other] + own[other] > there[before] + own[before]
