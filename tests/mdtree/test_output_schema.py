"""Everything that `--json` prints fits its schema, and the schema names everything that is printed."""

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
from synthetic_zoo import synthetic_zoo
from test_diagnoser import record_of, small_diagnoser

from mdtree.cli import main
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.errors import InputError
from mdtree.evaluation import evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.output_schema import SCHEMAS, output_schema
from mdtree.record import RECORD_METRICS, NotMeasured, record_from_dict
from mdtree.zoo import EVIDENCE, FAILURES, PAIR_METRICS, TEST_METRICS

ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT / "zoo_samples" / "checkpoints"


def plain(values):
    """As another program reads it."""
    return json.loads(json.dumps(values, allow_nan=False))


def validator(command):
    return jsonschema.Draft202012Validator(output_schema(command))


def wrong(command, values):
    """What a validator finds, one sentence each."""
    found = []
    for error in validator(command).iter_errors(values):
        found += [inner.message for inner in error.context] or [error.message]
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the command line prints, parsed."""

    def call(*words):
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        assert end.value.code == 0
        return json.loads(out.getvalue())

    return call


@pytest.fixture(scope="module")
def whole(printed):
    """A checkpoint with a sibling and test data, measured."""
    file = CHECKPOINTS / "model_too_small-1.pt"
    return printed("measure", file, "--sibling", file.with_suffix(".sibling.pt"), "--json")


def with_evidence(values, evidence):
    """The record as if a sibling, or test data, had not been there."""
    record = record_from_dict(values, "test")
    alone, untested = not evidence.startswith("sibling"), not evidence.endswith("_test")
    gone = [*(PAIR_METRICS if alone else ()), *(TEST_METRICS if untested else ())]
    return dataclasses.replace(
        record,
        metrics={name: m for name, m in record.metrics.items() if name not in gone},
        not_measured=tuple(NotMeasured(name, "not given") for name in gone),
    )


@pytest.mark.parametrize("command", SCHEMAS)
def test_schemas_are_schemas_and_say_their_version(command):
    schema = output_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:mdtree:{command}:1"


def test_another_command_has_none():
    with pytest.raises(InputError, match="no schema is kept for 'layers'"):
        output_schema("layers")


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_records_and_diagnoses_of_every_evidence_fit(whole, evidence):
    record = with_evidence(whole, evidence)
    assert record.evidence == evidence
    diagnosis = plain(diagnose_record(default_diagnoser(), record).to_dict())
    assert wrong("measure", plain(record.to_dict())) == []
    assert wrong("diagnose", diagnosis) == []
    assert wrong("measure", diagnosis) == [], "a diagnosis is a record and more"
    assert wrong("diagnose", plain(record.to_dict())) != []


def test_lists_and_undetermined_verdicts_fit(whole):
    lost = record_of(train_error_over_chance=0.97, train_error_percent=88.0, log_weight_growth=0.1)
    undetermined = plain(diagnose_record(small_diagnoser(), lost).to_dict())
    assert undetermined["verdict"] == "undetermined"
    assert wrong("diagnose", undetermined) == []
    missing = plain(diagnose_record(small_diagnoser(), record_of(train_error_percent=20.0)).to_dict())
    assert missing["path"][0]["side"] == "both"
    assert wrong("diagnose", [undetermined, missing]) == []
    assert wrong("measure", [whole, whole]) == []
    assert wrong("diagnose", [undetermined]) != [], "one checkpoint is no list"


def test_the_command_line_prints_what_fits(printed):
    files = [CHECKPOINTS / "healthy-1.pt", CHECKPOINTS / "temperature_too_high-1.pt"]
    assert wrong("diagnose", printed("diagnose", *files, "--json")) == []
    assert wrong("check", printed("check", files[0], "--json")) == []
    assert wrong("check", printed("check", files[1], "--model", "mlp?width=4", "--json")) == []


def test_scores_fit():
    zoo = synthetic_zoo()
    assert wrong("evaluate", plain(evaluate(fit_diagnoser(zoo, "synthetic"), zoo))) == []


def test_nothing_is_printed_that_no_schema_names(whole):
    """A new key comes into the schema with the change that prints it."""
    for command, values in (
        ("measure", whole),
        ("diagnose", plain(diagnose_record(default_diagnoser(), with_evidence(whole, "sibling_test")).to_dict())),
    ):
        one = output_schema(command)["$defs"]["checkpoint"]
        assert unnamed(one, values) == []


def unnamed(schema, values, where=""):
    """Keys of objects with named properties that are not among these."""
    found = []
    if isinstance(values, dict) and "properties" in schema and where not in ("/protocol", "/checkpoint/recipe_from"):
        found += [f"{where}/{key}" for key in values if key not in schema["properties"]]
        for key, inner in schema["properties"].items():
            found += unnamed(inner, values[key], f"{where}/{key}") if key in values else []
    if isinstance(values, list) and "items" in schema:
        for each in values:
            found += unnamed(schema["items"], each, f"{where}[]")
    for inner in schema.get("anyOf", ()):
        found += unnamed(inner, values, where) if isinstance(values, dict) else []
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.pop("verdict"),
        lambda v: v.update(verdict="small"),
        lambda v: v.update(schema_version=2),
        lambda v: v.update(confidence=1.2),
        lambda v: v["metrics"].update(sharpness={"value": 1.0, "standard_error": 0.0, "samples": 1}),
        lambda v: v["metrics"]["train_loss"].pop("standard_error"),
        lambda v: v["ranking"].pop(),
        lambda v: v["ranking"][0].update(probability="high"),
        lambda v: v["path"][0].update(side="up"),
        lambda v: v["path"][0].pop("threshold"),
        lambda v: v["cost"].pop("sample_gradients"),
        lambda v: v.update(evidence="both"),
    ],
)
def test_what_breaks_the_contract_does_not_fit(whole, spoil):
    values = plain(diagnose_record(default_diagnoser(), with_evidence(whole, "sibling_test")).to_dict())
    spoilt = copy.deepcopy(values)
    spoil(spoilt)
    assert wrong("diagnose", values) == []
    assert wrong("diagnose", spoilt) != []


def test_the_names_are_those_of_the_contract():
    """Taking one away or renaming it needs another schema version."""
    one = output_schema("diagnose")["$defs"]["checkpoint"]
    assert set(one["required"]) == {
        *("schema_version", "checkpoint", "recipe", "protocol", "execution", "evidence", "metrics", "not_measured"),
        *("series", "layers", "cost", "verdict", "confidence", "reason", "ranking", "path", "flags"),
        *("distance_from_zoo", "diagnoser"),
    }
    step = one["properties"]["path"]["items"]
    assert step["required"] == ["metric", "value", "standard_error", "threshold", "side", "share_of_zoo", "straddles"]
    cause = one["properties"]["ranking"]["items"]
    assert cause["properties"]["failure"]["enum"] == list(FAILURES)
    metrics = one["properties"]["metrics"]["propertyNames"]["enum"]
    signals = one["properties"]["signals"]["propertyNames"]["enum"]
    assert sorted([*metrics, *signals]) == sorted(RECORD_METRICS)


def test_mdtree_schema_prints_it(printed):
    assert printed("schema") == output_schema("diagnose")
    assert printed("schema", "measure") == output_schema("measure")
