"""What a fitted diagnoser says of a record, and its JSON file."""

import copy
import dataclasses
import json
import subprocess
import sys

import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.diagnoser import diagnose_record, read_diagnoser, write_diagnoser
from mdtree.diagnoser_schema import (
    Diagnoser,
    LeafStatistics,
    NotTrainingGate,
    QuestionTree,
    StepGain,
    diagnoser_from_dict,
    diagnoser_to_dict,
)
from mdtree.errors import InputError
from mdtree.fitting import fit_diagnoser
from mdtree.nodes import Leaf, Split
from mdtree.record import Metric, Record
from mdtree.zoo import DIRECTIONS, FAILURES, size_free_metrics


def leaf_of(failure, share, gain=5.0):
    rest = (1 - share) / 4
    return LeafStatistics(
        counts={f: 10.0 * (f == failure) for f in FAILURES},
        probability={f: share if f == failure else rest for f in FAILURES},
        room_points=dict.fromkeys(DIRECTIONS, 7.0),
        steps=dict.fromkeys(DIRECTIONS, StepGain(4.0, gain, 0.5, 0.25, 0.05, 9)),
    )


def small_diagnoser():
    """Hot if the weights grew; else cold if the train error is above 10 %; else healthy."""
    tree = Split(
        "log_weight_growth",
        1.0,
        Split("train_error_percent", 10.0, Leaf("healthy", {}, 0), Leaf("temperature_too_low", {}, 1), 0.75),
        Leaf("temperature_too_high", {}, 2),
        0.5,
    )
    statistics = (leaf_of("healthy", 0.6), leaf_of("temperature_too_low", 0.8), leaf_of("temperature_too_high", 0.9))
    question = QuestionTree(tree, statistics)
    return Diagnoser(
        name="small",
        zoo={"families": ["f"], "data_sets": ["digits"], "protocols": ["p"], "rows": 30, "cells": 6},
        trees={"verdict": dict.fromkeys(("alone", "alone_test", "sibling", "sibling_test"), question)},
        ranges={"log_weight_growth": (0.0, 2.0), "train_error_percent": (0.0, 50.0)},
        not_training=NotTrainingGate(0.9, 1e-4),
    )


def record_of(recipe=None, data_set="digits", errors=None, **values):
    return Record(
        checkpoint={"path": "a.pt", "data_set": data_set},
        recipe=recipe or {"learning_rate": 0.2, "batch_size": 16},
        protocol={"digest": "p"},
        execution={},
        metrics={name: Metric(value, (errors or {}).get(name, 0.0), 100) for name, value in values.items()},
    )


def test_the_walk_decides_and_its_path_is_kept():
    found = diagnose_record(small_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=20.0))
    assert found.verdict == "temperature_too_low"
    assert found.confidence == pytest.approx(0.8)
    assert [(s.feature, s.side, s.share_of_zoo) for s in found.path] == [
        ("log_weight_growth", "left", 0.5),
        ("train_error_percent", "right", 0.25),
    ]
    assert found.reason == "unconverged"
    assert found.ranking[0].advice.text == "learning rate 0.2 → 0.8 (or batch size 16 → 4), or train longer"
    assert {c.failure for c in found.ranking} == set(FAILURES)
    assert sum(c.probability for c in found.ranking) == pytest.approx(1)
    assert found.flags == ()


def test_a_value_on_the_threshold_goes_left():
    found = diagnose_record(small_diagnoser(), record_of(log_weight_growth=1.0, train_error_percent=10.0))
    assert found.verdict == "healthy"


def test_a_missing_metric_goes_both_ways_with_the_zoos_weights():
    found = diagnose_record(small_diagnoser(), record_of(train_error_percent=20.0))
    assert found.path[0].side == "both"
    by_name = {c.failure: c.probability for c in found.ranking}
    assert by_name["temperature_too_high"] == pytest.approx(0.5 * 0.9 + 0.5 * 0.05)
    assert by_name["temperature_too_low"] == pytest.approx(0.5 * 0.8 + 0.5 * 0.025)
    assert found.verdict == "temperature_too_high"


def test_a_lead_under_the_margin_is_undetermined():
    small = small_diagnoser()
    level = dataclasses.replace(
        leaf_of("healthy", 0.4),
        probability={**dict.fromkeys(FAILURES, 0.08), "healthy": 0.4, "too_little_data": 0.36},
    )
    question = small.tree("verdict", "alone")
    tree = QuestionTree(question.tree, (level, *question.leaves[1:]))
    found = diagnose_record(
        dataclasses.replace(small, trees={"verdict": {"alone": tree}}),
        record_of(log_weight_growth=0.5, train_error_percent=2.0),
    )
    assert found.verdict == "undetermined"
    assert found.confidence == 0.4
    assert found.ranking[0].failure == "healthy"


def test_an_error_bar_over_a_threshold_is_flagged_and_the_other_side_told():
    found = diagnose_record(
        small_diagnoser(),
        record_of(errors={"log_weight_growth": 0.2}, log_weight_growth=0.9, train_error_percent=20.0),
    )
    assert found.flags == ("straddles:log_weight_growth",)
    assert found.settle == (
        "log_weight_growth is within its error of 1; beyond it the verdict is temperature_too_high",
    )
    sure = diagnose_record(
        small_diagnoser(),
        record_of(errors={"log_weight_growth": 0.05}, log_weight_growth=0.9, train_error_percent=20.0),
    )
    assert sure.flags == ()


@pytest.mark.parametrize(
    ("gradient", "verdict"), [(1e-6, "temperature_too_high"), (1e-2, "temperature_too_low"), (None, "undetermined")]
)
def test_a_network_that_does_not_train_is_told_by_its_gradient(gradient, verdict):
    values = {"train_error_over_chance": 0.97, "log_weight_growth": 0.5, "train_error_percent": 88.0}
    if gradient is not None:
        values["gradient_norm_squared_per_parameter"] = gradient
    found = diagnose_record(small_diagnoser(), record_of(**values))
    assert "not_training" in found.flags
    assert found.verdict == verdict
    assert found.reason == {"temperature_too_high": "instability", "temperature_too_low": "unconverged"}.get(verdict)
    assert next(c.probability for c in found.ranking if c.failure == "healthy") == 0


@pytest.mark.parametrize(("growth", "verdict"), [(0.0002, "temperature_too_low"), (-0.03, "temperature_too_high")])
def test_weights_that_never_moved_are_cold_however_small_their_gradient(growth, verdict):
    """A network with a large embedding has a small gradient a parameter at its start: it was called too hot."""
    values = {"train_error_over_chance": 0.97, "log_weight_growth": growth, "train_error_percent": 88.0}
    found = diagnose_record(small_diagnoser(), record_of(**values, gradient_norm_squared_per_parameter=1e-6))
    assert found.verdict == verdict
    if verdict == "undetermined":
        assert "a sibling" in found.settle[0]


def test_the_gain_is_a_share_of_the_test_error_where_it_is_known():
    values = {"log_weight_growth": 2.0, "train_error_percent": 20.0}
    unknown = diagnose_record(small_diagnoser(), record_of(**values)).ranking[0]
    assert (unknown.expected_gain_points, unknown.expected_gain_standard_error) == (5.0, 0.5)
    known = diagnose_record(small_diagnoser(), record_of(**values, test_error_percent=40.0)).ranking[0]
    assert known.expected_gain_points == pytest.approx(0.25 * 40)
    assert known.expected_gain_standard_error == pytest.approx(0.05 * 40)


def test_the_gain_never_exceeds_the_users_own_test_error():
    greedy = dataclasses.replace(leaf_of("temperature_too_high", 0.9), steps=dict.fromkeys(
        DIRECTIONS, StepGain(4.0, 50.0, 0.5, 1.2, 0.05, 9)))  # fmt: skip
    small = small_diagnoser()
    question = small.tree("verdict", "alone_test")
    greedy_tree = QuestionTree(question.tree, (*question.leaves[:2], greedy))
    diagnoser = dataclasses.replace(small, trees={"verdict": {"alone_test": greedy_tree}})
    found = diagnose_record(diagnoser, record_of(log_weight_growth=2.0, test_error_percent=3.0))
    assert found.ranking[0].expected_gain_points == 3.0


def test_an_error_never_rises_above_all():
    harmful = dataclasses.replace(leaf_of("temperature_too_high", 0.9), steps=dict.fromkeys(
        DIRECTIONS, StepGain(4.0, -50.0, 0.5, -1.2, 0.05, 9)))  # fmt: skip
    small = small_diagnoser()
    question = small.tree("verdict", "alone_test")
    tree = QuestionTree(question.tree, (*question.leaves[:2], harmful))
    diagnoser = dataclasses.replace(small, trees={"verdict": {"alone_test": tree}})
    found = diagnose_record(diagnoser, record_of(log_weight_growth=2.0, test_error_percent=60.0))
    assert found.ranking[0].expected_gain_points == -40.0


def test_another_task_is_marked():
    values = {"log_weight_growth": 2.0, "train_error_percent": 20.0}
    assert "foreign_task" in diagnose_record(small_diagnoser(), record_of(data_set="mine", **values)).flags


def test_without_reference_points_the_distance_is_measured_in_widths_of_the_zoos_range():
    found = diagnose_record(small_diagnoser(), record_of(log_weight_growth=5.0, train_error_percent=20.0))
    assert found.distance_from_zoo == {
        "overall": 0.5,
        "limit": 0.25,
        "outside": True,
        "metrics": {"log_weight_growth": 1.5, "train_error_percent": 0.0},
    }
    assert "outside_zoo" in found.flags
    inside = diagnose_record(small_diagnoser(), record_of(log_weight_growth=1.0, train_error_percent=20.0))
    assert (inside.distance_from_zoo["overall"], inside.distance_from_zoo["outside"]) == (0.0, False)
    assert "outside_zoo" not in inside.flags


def test_a_fitted_diagnoser_measures_the_distance_from_the_networks_it_keeps():
    """A network of the zoo is like it; one whose weights grew as none did is not. The verdict does not hang on it."""
    zoo = synthetic_zoo()
    fitted = fit_diagnoser(zoo, "synthetic")
    row = {name: float(zoo.iloc[0][name]) for name in size_free_metrics("alone")}
    like, unlike = record_of(**row), record_of(**{**row, "log_weight_growth": 60.0})
    for record, outside in ((like, False), (unlike, True)):
        found = diagnose_record(fitted, record)
        distance = found.distance_from_zoo
        assert distance["outside"] is outside
        assert (distance["overall"] > distance["limit"]) is outside
        assert ("outside_zoo" in found.flags) is outside
        assert distance["nearest"] == "synthetic"
        assert (distance["metrics"]["log_weight_growth"] > 0) is outside
        bare = diagnose_record(dataclasses.replace(fitted, reference=None), record)
        assert (bare.verdict, bare.confidence, bare.path) == (found.verdict, found.confidence, found.path)


def test_reasons_by_definition():
    def reason(**values):
        return diagnose_record(small_diagnoser(), record_of(**values)).reason

    assert reason(log_weight_growth=2.0, train_error_percent=20.0) is None
    assert reason(log_weight_growth=2.0, connectivity_barrier_over_chance=-0.01) == "noise_floor"
    assert reason(log_weight_growth=2.0, connectivity_barrier_over_chance=0.3) == "instability"
    assert reason(log_weight_growth=2.0, train_error_over_chance=0.6) == "instability"
    assert reason(log_weight_growth=2.0, train_error_over_chance=0.4) is None
    assert reason(log_weight_growth=0.0, train_error_percent=2.0) is None


def test_another_protocol_is_said():
    record = record_of(log_weight_growth=0.5, train_error_percent=20.0)
    other = Record(record.checkpoint, record.recipe, {"digest": "q"}, {}, record.metrics)
    assert diagnose_record(small_diagnoser(), other).flags == ("other_protocol",)


def test_json_round_trip(tmp_path):
    fitted = fit_diagnoser(synthetic_zoo(), "synthetic")
    write_diagnoser(fitted, tmp_path / "d.json")
    again = read_diagnoser(tmp_path / "d.json")
    assert diagnoser_to_dict(again) == diagnoser_to_dict(fitted)


def changed(path, value):
    values = copy.deepcopy(json.loads(json.dumps(diagnoser_to_dict(small_diagnoser()))))
    where = values
    for key in path[:-1]:
        where = where[key]
    if value is KeyError:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    return values


ROOT = ["trees", "verdict", "alone"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is not a diagnoser"),
        (changed(["schema_version"], 2), "schema version 2; expected version 1; fit it again"),
        (changed([*ROOT, "tree", "feature"], "colour"), "unknown name 'colour'"),
        (changed([*ROOT, "tree", "threshold"], float("inf")), "finite"),
        (changed([*ROOT, "tree", "left"], KeyError), "keys"),
        (changed([*ROOT, "leaves"], []), "0 leaf records for 3 leaves"),
        (changed([*ROOT, "leaves", 0, "probability", "healthy"], 0.9), "shares that sum to 1"),
        (changed([*ROOT, "leaves", 0, "steps", "data", "factor"], 1.0), "a factor above 1"),
        (changed(["trees", "colour"], {}), "unknown name 'colour'"),
        (changed(["ranges"], KeyError), "not a valid diagnoser"),
    ],
)
def test_what_is_no_diagnoser_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        diagnoser_from_dict(values, "d.json")


def test_deciding_starts_no_torch():
    code = "import sys, mdtree, mdtree.diagnoser, mdtree.report, mdtree.record; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
