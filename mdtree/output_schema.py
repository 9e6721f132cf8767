"""JSON schemas (draft 2020-12) of what `--json` prints, from the names that the code itself uses. No torch here.

The version of a schema stays as long as nothing is taken away or renamed: new keys may come, so programs should pass
over those they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdtree.diagnoser import UNDETERMINED
from mdtree.diagnoser_schema import TREE_QUESTIONS
from mdtree.errors import InputError
from mdtree.record import RECORD_METRICS, SCHEMA_VERSION
from mdtree.zoo import EVIDENCE, FAILURES, QUESTIONS, SIGNALS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_FLAG: Schema = {"type": "boolean"}
_ERROR: Schema = {"type": "number", "minimum": 0}


def output_schema(command: str) -> Schema:
    """The schema of what a command prints with `--json`.

    Parameters
    ----------
    command : {"measure", "diagnose", "evaluate", "check"}

    Returns
    -------
    dict
        JSON-able. `measure` and `diagnose` print an object for one checkpoint, a list of objects, in the order given,
        for several.

    Raises
    ------
    InputError
        Another command.
    """
    if command not in _OF:
        raise InputError(f"no schema is kept for {command!r}", f"one of {', '.join(SCHEMAS)}")
    return {
        "$schema": DRAFT,
        "$id": f"urn:mdtree:{command}:{SCHEMA_VERSION}",
        "title": f"mdtree {command} --json, schema version {SCHEMA_VERSION}",
        **_OF[command](),
    }


def _measure() -> Schema:
    return _one_or_several(_object(_record(), optional=("signals", "flags")))


def _diagnose() -> Schema:
    return _one_or_several(_object({**_record(), **_diagnosis()}, optional=("signals", "settle", "answers", "leaves")))


def _one_or_several(one: Schema) -> Schema:
    several = {"type": "array", "items": {"$ref": "#/$defs/checkpoint"}, "minItems": 2}
    return {"$defs": {"checkpoint": one}, "anyOf": [{"$ref": "#/$defs/checkpoint"}, several]}


def _object(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _closed(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object without further keys: its names are the contract."""
    return {**_object(properties, optional), "additionalProperties": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _map_of(schema: Schema, names: Sequence[str] | None = None) -> Schema:
    inner: Schema = {"type": "object", "additionalProperties": schema}
    return inner if names is None else {**inner, "propertyNames": {"enum": list(names)}}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _record() -> dict[str, Schema]:
    metric = _object({"value": _NUMBER, "standard_error": _ERROR, "samples": _COUNT})
    metrics = [name for name in RECORD_METRICS if name not in SIGNALS]
    return {
        "schema_version": {"const": SCHEMA_VERSION},
        "checkpoint": _checkpoint(),
        "recipe": {"type": "object"},
        "protocol": {"type": "object", "properties": {"digest": _TEXT}},
        "execution": {"type": "object"},
        "evidence": {"enum": list(EVIDENCE)},
        "metrics": _map_of(metric, metrics),
        "signals": _map_of(metric, SIGNALS),
        "not_measured": _list_of(_object({"metric": {"enum": list(RECORD_METRICS)}, "reason": _TEXT})),
        "series": {"type": "object"},
        "layers": _list_of({"type": "object"}),
        "flags": _TEXTS,
        "cost": _object({"seconds": _ERROR, "sample_gradients": _ERROR, "cached": _FLAG}, optional=("cached",)),
    }


def _checkpoint() -> Schema:
    """Records of other programs, and of a network that was in memory, know less: nothing here must be there."""
    texts = ("path", "sha256", "framework", "layout", "weights_from", "model", "model_from", "data", "data_from")
    return _object(
        {
            **dict.fromkeys((*texts, "data_set", "normalisation", "fine_tuned_from"), _or_null(_TEXT)),
            **dict.fromkeys(("weights_there", "siblings", "notes", "file_notes"), _TEXTS),
            "class_counts": _list_of(_COUNT),
            "recipe_from": _map_of(_TEXT),
        },
        optional=(
            *texts, "data_set", "normalisation", "fine_tuned_from", "weights_there", "siblings", "notes", "file_notes",
            "class_counts", "recipe_from",
        ),
    )  # fmt: skip


def _diagnosis() -> dict[str, Schema]:
    advice = _closed(
        {"parameter": _TEXT, "from": _or_null(_NUMBER), "to": _or_null(_NUMBER), "step": _NUMBER, "text": _TEXT}
    )
    cause = _object(
        {
            "failure": {"enum": list(FAILURES)},
            "probability": _SHARE,
            "room_points": _or_null(_NUMBER),
            "expected_gain_points": _or_null(_NUMBER),
            "expected_gain_standard_error": _or_null(_ERROR),
            "advice": _or_null(advice),
        }
    )
    step = _object(
        {
            "metric": _TEXT,
            "value": _or_null(_NUMBER),
            "standard_error": _or_null(_ERROR),
            "threshold": _NUMBER,
            "side": {"enum": ["left", "right", "both"]},
            "share_of_zoo": _SHARE,
            "straddles": _FLAG,
            "question": {"enum": list(TREE_QUESTIONS)},
        },
        optional=("question",),
    )
    answer = _object({"question": {"enum": list(TREE_QUESTIONS)}, "answer": _or_null(_FLAG)})
    return {
        "verdict": {"enum": [*FAILURES, UNDETERMINED]},
        "confidence": _SHARE,
        "reason": {"enum": ["unconverged", "sharp", "noise_floor", "instability", None]},
        "ranking": {**_list_of(cause), "minItems": len(FAILURES), "maxItems": len(FAILURES)},
        "path": _list_of(step),
        "answers": _list_of(answer),
        "leaves": _list_of(_object({"label": {"enum": list(FAILURES)}, "weight": _SHARE})),
        "settle": _TEXTS,
        "distance_from_zoo": _object(
            {"overall": _ERROR, "limit": _ERROR, "outside": _FLAG, "metrics": _map_of(_NUMBER), "nearest": _TEXT,
             "from_nearest": _map_of(_NUMBER), "resembles": _TEXT},
            optional=("nearest", "from_nearest", "resembles"),
        ),
        "diagnoser": _object({"name": _TEXT, "evidence": {"enum": list(EVIDENCE)}, "zoo": {"type": "object"}}),
    }  # fmt: skip


def _evaluate() -> Schema:
    figure = _or_null(_NUMBER)
    interval = {"type": "array", "items": figure, "minItems": 2, "maxItems": 2}
    scores = {
        "accuracy": _or_null(_SHARE),
        "balanced_accuracy": _or_null(_SHARE),
        "per_class": _map_of(_or_null(_SHARE)),
        "gain_captured": figure,
        "regret_points": figure,
        **dict.fromkeys(("n", "n_ambiguous", "n_censored"), _COUNT),
        "intervals": _map_of(interval),
    }
    from mdtree.scoring import BASELINES  # and with it scikit-learn, for which no other command's schema waits

    baselines = _map_of(_object(scores), list(BASELINES))
    by_evidence = _map_of(_object({**scores, "baselines": baselines}), EVIDENCE)
    return _object(
        {
            "rows": _TEXT,
            "split": {"enum": ["held_out", "fit", "all"]},
            "questions": _map_of(by_evidence, QUESTIONS),
        }
    )


def _check() -> Schema:
    row = _object({"name": _TEXT, "value": {}, "source": _TEXT})
    opened = _object(
        {
            **dict.fromkeys(("path", "framework", "layout", "sha256", "weights_from"), _TEXT),
            **dict.fromkeys(("size", "tensors", "numbers"), _COUNT),
            "weights_there": _TEXTS,
            "fine_tuned_from": _or_null(_TEXT),
            "notes": _TEXTS,
        }
    )
    missing = _object({"what": _TEXT, "why": _TEXT, "add": _TEXT, "metrics": _TEXTS, "needed": _FLAG})
    found = _or_null({"type": "object"})
    return _object(
        {
            "ready": _FLAG,
            "opened": opened,
            "siblings": _list_of(opened),
            "recipe": _list_of(row),
            "recorded": _list_of(row),
            **dict.fromkeys(("network", "data", "plausible", "cost"), found),
            "evidence": {"enum": [*EVIDENCE, None]},
            "metrics": {"type": "array", "items": {"enum": list(RECORD_METRICS)}},
            "missing": _list_of(missing),
            "command": _or_null(_TEXT),
            "flags": _TEXTS,
            "notes": _TEXTS,
        }
    )


_OF: dict[str, Callable[[], Schema]] = {
    "diagnose": _diagnose,
    "measure": _measure,
    "evaluate": _evaluate,
    "check": _check,
}

SCHEMAS = tuple(_OF)
"""Commands whose output has a schema."""
