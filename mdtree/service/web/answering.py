"""Records that are diagnosed at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.errors import InputError
from mdtree.output_schema import output_schema
from mdtree.record import Record, record_from_dict
from mdtree.service.display_names import display_name
from mdtree.service.jobs import Answer
from mdtree.service.summary import summary_of
from mdtree.service.web.json_body import parse_json
from mdtree.service.web.schema_check import check_schema

WHAT = "the record"

_WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What numbers and names of no real network make arithmetic and look-ups raise."""


@dataclass(frozen=True)
class AnsweredRecord:
    """A diagnosis, and what its checkpoint is called."""

    name: str
    answer: Answer


def answer_record(diagnoser: Diagnoser, body: bytes) -> AnsweredRecord:
    """Diagnose the JSON of `mdtree measure --json` or `mdtree diagnose --json`.

    Parameters
    ----------
    diagnoser : Diagnoser
    body : bytes
        One record; trusted in nothing.

    Returns
    -------
    AnsweredRecord
        Its `answer.diagnosis` is to the byte what `mdtree diagnose RECORD.json --json` prints, without its line end.

    Raises
    ------
    ApiError
        422: not JSON.
    InputError
        Not as `record_schema` says, or it cannot be diagnosed.
    """
    values = parse_json(body, WHAT)
    check_schema(values, record_schema(), WHAT)
    try:
        record = record_from_dict(values, WHAT)
        diagnosis = diagnose_record(diagnoser, record)
        # as `Diagnosis.to_json`, but for numbers that are none: they are no JSON
        text = json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        text.encode()
        return AnsweredRecord(_name(record), Answer(text, summary_of(diagnosis)))
    except InputError:
        raise
    except _WRONG as error:
        raise InputError(
            f"{WHAT} cannot be diagnosed ({type(error).__name__}: {error})", "what `mdtree measure --json` prints"
        ) from error


@cache
def record_schema() -> dict[str, Any]:
    """What a record must be: as `mdtree measure` prints it, but for the evidence set, which its metrics tell."""
    schema: dict[str, Any] = output_schema("measure")["$defs"]["checkpoint"]
    return {**schema, "required": [name for name in schema["required"] if name != "evidence"]}


def _name(record: Record) -> str:
    return display_name(str(record.checkpoint.get("path") or "record"))
