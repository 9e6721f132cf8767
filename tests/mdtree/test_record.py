"""The measured record goes through JSON unchanged and is checked on the way back."""

import copy
import json

import pytest

from mdtree.errors import InputError
from mdtree.record import Metric, NotMeasured, Record, read_record, record_from_dict

RECORD = Record(
    checkpoint={"path": "a.pt", "data_set": "digits"},
    recipe={"learning_rate": 0.1},
    protocol={"samples": 4096, "digest": "abc"},
    execution={"device": "cpu"},
    metrics={"train_error_percent": Metric(12.5, 0.0, 160), "hessian_trace": Metric(3.0, 0.25, 160)},
    not_measured=(NotMeasured("cka", "no sibling was given"),),
    series={"curve": {"t": [0.0, 1.0]}},
    layers=({"name": "w"},),
    flags=("sibling_too_near",),
    cost={"seconds": 1.0, "sample_gradients": 20.0},
)


def test_json_round_trip(tmp_path):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(RECORD.to_dict()))
    assert read_record(file) == RECORD


@pytest.mark.parametrize(
    ("names", "evidence"),
    [
        (("train_loss",), "alone"),
        (("train_loss", "test_loss"), "alone_test"),
        (("train_loss", "cka"), "sibling"),
        (("cka", "test_error_percent"), "sibling_test"),
    ],
)
def test_evidence_is_what_was_measured(names, evidence):
    record = Record({}, {}, {}, {}, {name: Metric(1.0, 0.0, 1) for name in names})
    assert record.evidence == evidence
    assert record.to_dict()["evidence"] == evidence


def changed(path, value):
    values = copy.deepcopy(RECORD.to_dict())
    where = values
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is not a measured record"),
        ({}, "is not a measured record"),
        (changed(["schema_version"], 99), "schema version 99; expected version 1"),
        (changed(["metrics", "hessian_trace", "value"], float("nan")), "hessian_trace is nan"),
        (changed(["metrics", "hessian_trace", "standard_error"], -1.0), "expected finite numbers"),
        (changed(["metrics", "train_error_percent", "value"], 100.5), "100.5; expected a number from 0 to 100"),
        (changed(["metrics", "colour"], {"value": 1, "standard_error": 0, "samples": 1}), "unknown metric 'colour'"),
        (changed(["metrics"], {"train_loss": {"value": "high", "standard_error": 0, "samples": 1}}), "not a complete"),
        (changed(["cost"], None), "not a complete record"),
    ],
)
def test_what_is_no_record_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        record_from_dict(values)


def test_files_that_are_no_json(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_record(tmp_path / "none.json")
    file = tmp_path / "text.json"
    file.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_record(file)
