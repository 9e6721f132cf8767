"""Diagnoses out of the store again, as they were answered: nothing is derived anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mdtree.advice import Advice
from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.nodes import Step
from mdtree.record import record_from_dict


def diagnosis_of(text: str) -> Diagnosis:
    """The diagnosis whose JSON this is.

    Parameters
    ----------
    text : str
        What `mdtree.Diagnosis.to_json` gave. All flags come back as the record's: the JSON does not tell which were
        the diagnosis's.

    Returns
    -------
    Diagnosis
        Its `to_json` gives `text` again.

    Raises
    ------
    InputError, KeyError, TypeError
        It is no diagnosis.
    """
    values = json.loads(text)
    return Diagnosis(
        record=record_from_dict(values),
        verdict=values["verdict"],
        confidence=values["confidence"],
        reason=values["reason"],
        ranking=tuple(_candidate(one) for one in values["ranking"]),
        path=tuple(_step(one) for one in values["path"]),
        flags=(),
        settle=tuple(values["settle"]),
        distance_from_zoo=values["distance_from_zoo"],
        diagnoser=values["diagnoser"],
        answers={one["question"]: one["answer"] for one in values["answers"]},
        leaves={one["label"]: one["weight"] for one in values["leaves"]},
    )


def _candidate(values: Mapping[str, Any]) -> Candidate:
    advice = values["advice"]
    return Candidate(
        failure=values["failure"],
        probability=values["probability"],
        room_points=values["room_points"],
        expected_gain_points=values["expected_gain_points"],
        expected_gain_standard_error=values["expected_gain_standard_error"],
        advice=advice and Advice(advice["parameter"], advice["from"], advice["to"], advice["step"], advice["text"]),
    )


def _step(values: Mapping[str, Any]) -> Step:
    return Step(
        feature=values["metric"],
        value=values["value"],
        standard_error=values["standard_error"],
        threshold=values["threshold"],
        side=values["side"],
        share_of_zoo=values["share_of_zoo"],
        straddles=values["straddles"],
        question=values.get("question", ""),
    )
