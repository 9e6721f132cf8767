"""Several checkpoints of one task, diagnosed together by their positions within the set."""

import dataclasses
import importlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_zoo import synthetic_zoo

from mdtree.checkpoint_set import decides, diagnose_set, questions_of_set, sweeps_temperature, tasks_of
from mdtree.cli import measuring
from mdtree.composed_fit import component_labels
from mdtree.composition import composed_tree
from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser, LeafStatistics, NotTrainingGate, QuestionTree, StepGain
from mdtree.errors import InputError
from mdtree.nodes import Leaf, Split, leaves, walk
from mdtree.record import Metric, Record
from mdtree.set_fit import SetOptions, dealt_sets, fit_set_trees
from mdtree.set_trees import (
    SET_QUESTIONS,
    SetTrees,
    position_name,
    positions,
    set_trees_from_dict,
    set_trees_to_dict,
    spread,
    spreads_enough,
    zoo_scale,
)
from mdtree.zoo import DIRECTIONS, FAILURES

COLD, HOT = "temperature_too_low", "temperature_too_high"
SCALE = tuple(np.linspace(0.8, 2.0, 21).tolist())


@dataclasses.dataclass(frozen=True)
class WithSetTrees(Diagnoser):
    """A diagnoser that holds set trees."""

    set_trees: SetTrees | None = None


def side(feature, threshold, sure):
    """Cold up to a threshold, else hot, each with the given probability."""
    return Split(
        feature,
        threshold,
        Leaf(COLD, {COLD: 10.0 * sure, HOT: 10.0 * (1 - sure)}, 0),
        Leaf(HOT, {COLD: 10.0 * (1 - sure), HOT: 10.0 * sure}, 1),
    )


OF_ONE = side("log_weight_growth", 1.0, sure=0.8)
OF_SET = side(position_name("log_weight_growth"), 0.5, sure=0.9)


def statistics(failure):
    return LeafStatistics(
        counts=dict.fromkeys(FAILURES, 1.0),
        probability={f: 0.8 if f == failure else 0.05 for f in FAILURES},
        room_points=dict.fromkeys(DIRECTIONS, 5.0),
        steps=dict.fromkeys(DIRECTIONS, StepGain(4.0, 3.0, 0.5, 0.25, 0.05, 9)),
    )


def diagnoser(of_set=OF_SET):
    """A composed verdict that always comes down to the temperature: hot where the weights grew."""
    verdict = composed_tree(healthy=False)
    trees = {
        "verdict": QuestionTree(verdict, tuple(statistics(leaf.label) for leaf in leaves(verdict))),
        "temperature": QuestionTree(OF_ONE),
        "model_size": QuestionTree(Leaf("temperature", {"temperature": 1.0})),
        "data": QuestionTree(Leaf("temperature", {"temperature": 1.0})),
        "model_or_data": QuestionTree(Leaf("too_little_data", {"too_little_data": 1.0})),
    }
    return WithSetTrees(
        name="by hand",
        zoo={"families": ["a", "b"], "data_sets": ["digits"], "protocols": ["p"], "rows": 9, "cells": 3},
        trees={question: {"alone": tree} for question, tree in trees.items()},
        ranges={"log_weight_growth": (0.8, 2.0)},
        not_training=NotTrainingGate(0.9, None),
        set_trees=SetTrees({"temperature": {"alone": of_set}}, {"log_weight_growth": SCALE}),
    )


def record(growth, number=0, recipe=None, **about):
    checkpoint = {"path": f"run{number}.pt", "sha256": f"{number:064d}", "model": "mlp?width=8", "data_set": "digits"}
    return Record(
        checkpoint={**checkpoint, "data": "digits?train=160", **about},
        recipe=recipe or {},
        protocol={"digest": "p"},
        execution={},
        metrics={"log_weight_growth": Metric(growth, 0.0, 100)},
    )


def records(growths, rates=None):
    recipes = [{"learning_rate": r, "batch_size": 16} for r in rates] if rates is not None else [None] * len(growths)
    return [record(float(g), number, recipe) for number, (g, recipe) in enumerate(zip(growths, recipes, strict=True))]


def verdicts(found):
    return [diagnosis.verdict for diagnosis in found]


# positions and the spread of a set


def test_a_position_is_the_share_of_networks_below_with_ties_halved():
    assert positions(np.array([3.0, 1.0, 2.0, 2.0])).tolist() == [0.875, 0.125, 0.5, 0.5]
    assert positions(np.array([7.0, 7.0])).tolist() == [0.5, 0.5]
    with_gap = positions(np.array([5.0, np.nan, 1.0]))
    assert with_gap[[0, 2]].tolist() == [0.75, 0.25]
    assert np.isnan(with_gap[1])


def test_positions_do_not_know_the_scale_of_a_task():
    values = np.random.default_rng(0).lognormal(size=12)
    assert np.array_equal(positions(values), positions(1000 * values**3 + 5))


def test_the_spread_is_the_part_of_the_zoo_between_the_tenths_of_a_set():
    scale = zoo_scale(np.linspace(0.0, 10.0, 101))
    assert scale == tuple(np.linspace(0.0, 10.0, 21).tolist())
    assert spread(np.linspace(0.0, 10.0, 11), scale) == pytest.approx(0.8)
    assert spread(np.full(9, 4.0), scale) == 0.0
    assert spread(np.array([-50.0] * 5 + [50.0] * 5), scale) == pytest.approx(1.0)
    assert spread(np.full(9, np.nan), scale) == 0.0


def test_a_tree_may_be_asked_where_its_metrics_spread_on_average():
    tree = Split("cka_position", 0.5, OF_SET, Leaf(HOT, {HOT: 1.0}, 2))
    scale = {"cka": (0.0, 1.0), "log_weight_growth": (0.0, 1.0)}
    wide, narrow = np.linspace(0, 1, 11), np.full(11, 0.5)
    assert spreads_enough(tree, {"cka": wide, "log_weight_growth": wide}, scale)
    assert not spreads_enough(tree, {"cka": wide, "log_weight_growth": narrow}, scale)  # (0.8 + 0) / 2
    assert not spreads_enough(tree, {"cka": wide}, scale)
    assert not spreads_enough(Leaf(HOT, {HOT: 1.0}), {"cka": wide}, scale)
    trees = {"temperature": tree}
    assert questions_of_set(trees, {"cka": wide}, scale, swept=True) == trees
    assert questions_of_set(trees, {"cka": wide}, scale, swept=False) == {}


# the file


def test_set_trees_survive_their_json():
    trees = SetTrees({"temperature": {"alone": OF_SET}}, {"log_weight_growth": SCALE})
    assert set_trees_from_dict(json.loads(json.dumps(set_trees_to_dict(trees)))) == trees


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("scale"), "another form"),
        (lambda d: d["scale"].update(log_weight_growth=[2.0, 1.0]), "lowest first"),
        (lambda d: d["scale"].update(log_weight_growth=[0.0, float("inf")]), "lowest first"),
        (lambda d: d["scale"].clear(), "has a scale"),
        (lambda d: d["trees"]["temperature"]["alone"].update(feature="log_weight_growth"), "the position of"),
        (lambda d: d["trees"].update(healthy=d["trees"]["temperature"]), "'healthy'"),
        (lambda d: d["trees"]["temperature"].update(guess=d["trees"]["temperature"]["alone"]), "'guess'"),
    ],
)
def test_a_damaged_file_is_refused(damage, words):
    values = set_trees_to_dict(SetTrees({"temperature": {"alone": OF_SET}}, {"log_weight_growth": SCALE}))
    values = json.loads(json.dumps(values))
    damage(values)
    with pytest.raises(InputError, match=words):
        set_trees_from_dict(values)


# fitting


def two_families():
    """The zoo made of a formula twice; the second family's metrics are fifty times as large."""
    zoo = synthetic_zoo()
    other = zoo.assign(family="other")
    for name in ("log_weight_growth", "train_error_over_chance", "gradient_norm_squared_per_parameter"):
        other[name] = 50 * other[name]
    return pd.concat([zoo, other], ignore_index=True)


def test_sets_are_dealt_within_a_task():
    rows = two_families()
    options = SetOptions(size=16, draws=3)
    sets = list(dealt_sets(rows, options))
    assert {len(members) for members in sets} == {16}
    # 4 widths, 4 temperatures and 4 seeds a task; 4 amounts of data; 2 families
    assert len(sets) == 3 * 4 * 4 * 2
    for members in sets:
        assert len(set(members.tolist())) == 16
        assert rows.loc[members, ["family", "train_size"]].drop_duplicates().shape[0] == 1
    again = list(dealt_sets(rows, options))
    assert all(np.array_equal(a, b) for a, b in zip(sets, again, strict=True))
    few = rows.groupby(["family", "train_size"]).head(7)
    assert list(dealt_sets(few.reset_index(drop=True), options)) == []
    assert fit_set_trees(few) is None
    ten = rows[rows["family"] == "other"].groupby("train_size").head(10).reset_index(drop=True)
    assert [len(members) for members in dealt_sets(ten, SetOptions(size=16, draws=1))] == [10] * 4


def test_set_trees_tell_hot_from_cold_on_a_scale_they_have_not_seen():
    fitted = fit_set_trees(two_families())
    assert fitted is not None
    assert set(fitted.trees) <= set(SET_QUESTIONS)
    assert set(fitted.trees["temperature"]) == {"alone", "alone_test", "sibling", "sibling_test"}
    strange = synthetic_zoo(seed=5)
    task = strange[strange["train_size"] == 400].reset_index(drop=True)
    places = {position_name(n): positions(7 * task[n].to_numpy() + 100) for n in fitted.scale}
    labels = component_labels(task, "temperature")
    tree = fitted.trees["temperature"]["alone"]
    right = [
        walk(tree, {name: column[k] for name, column in places.items()}).leaves[0][0].label == labels[k]
        for k in range(len(task))
        if labels[k] in (COLD, HOT)
    ]
    assert len(right) >= 30
    assert np.mean(right) >= 0.9


# which checkpoints are a set


def test_checkpoints_of_one_task_may_differ_in_width_alone():
    same = [record(1.0, 0), record(1.0, 1, model="mlp?width=64")]
    assert tasks_of(same) == [[0, 1]]
    for other in (
        record(1.0, 2, data_set="mnist"),
        record(1.0, 2, data="digits?train=20"),
        record(1.0, 2, model="cnn?width=8"),
        record(1.0, 2, recipe={"train_size": 20}),
        record(1.0, 2, data_set=None),
    ):
        assert tasks_of([same[0], other, same[1]]) == [[0, 2], [1]]
    nameless = [record(1.0, k, data_set=None) for k in range(2)]
    assert tasks_of(nameless) == [[0], [1]]


def test_recipes_that_span_a_factor_of_ten_are_a_sweep():
    assert sweeps_temperature([0.01, 0.05, 0.1])
    assert not sweeps_temperature([0.011, 0.1])
    assert not sweeps_temperature([0.01, None, 0.1])
    assert not sweeps_temperature([0.0, 1.0, 0.5])
    assert not sweeps_temperature([])


# who decides


def test_the_surer_tree_decides_and_in_a_sweep_the_set():
    low, grown = {"log_weight_growth_position": 0.2}, {"log_weight_growth": 1.5}
    unsure = side(position_name("log_weight_growth"), 0.5, sure=0.7)
    assert decides("temperature", (OF_SET, low), (OF_ONE, grown), swept=False)
    assert not decides("temperature", (unsure, low), (OF_ONE, grown), swept=False)
    assert not decides("temperature", (OF_SET, low), (OF_ONE, {"log_weight_growth": 0.9}), swept=False)
    assert decides("temperature", (unsure, low), (OF_ONE, grown), swept=True)
    assert not decides("model_size", (unsure, low), (OF_ONE, grown), swept=True)


# diagnosing


def test_seven_checkpoints_are_diagnosed_one_by_one():
    seven = records(np.linspace(1.01, 1.99, 7))
    judge = diagnoser()
    assert diagnose_set(judge, seven) == [diagnose_record(judge, one) for one in seven]
    assert verdicts(diagnose_set(judge, seven)) == [HOT] * 7


def test_eight_checkpoints_are_a_set_and_say_so():
    found = diagnose_set(diagnoser(), records(np.linspace(1.99, 1.01, 8)))
    assert verdicts(found) == [HOT] * 4 + [COLD] * 4
    assert all(diagnosis.flags[0] == "set_of:8" for diagnosis in found)
    assert ["decided_by_set:temperature" in diagnosis.flags for diagnosis in found] == [False] * 4 + [True] * 4
    assert found[-1].path[-1].feature == "log_weight_growth_position"
    assert found[-1].path[-1].value == 0.0625
    # what was measured stays what was measured
    assert list(found[-1].record.metrics) == ["log_weight_growth"]


def test_a_question_that_was_not_asked_is_not_said_to_be_decided():
    small_or_little = Split(
        position_name("log_weight_growth"), 0.5,
        Leaf("model_too_small", {"model_too_small": 1.0}, 0), Leaf("too_little_data", {"too_little_data": 1.0}, 1),
    )  # fmt: skip
    trees = {"temperature": {"alone": OF_SET}, "model_or_data": {"alone": small_or_little}}
    unsure = {"too_little_data": 3.0, "model_too_small": 2.0}
    judge = diagnoser()
    judge = dataclasses.replace(
        judge,
        trees={**judge.trees, "model_or_data": {"alone": QuestionTree(Leaf("too_little_data", unsure))}},
        set_trees=SetTrees(trees, {"log_weight_growth": SCALE}),
    )
    found = diagnose_set(judge, records(np.linspace(1.01, 1.99, 8)))
    assert verdicts(found) == [COLD] * 4 + [HOT] * 4
    assert not any("decided_by_set:model_or_data" in diagnosis.flags for diagnosis in found)


def test_a_diagnoser_without_set_trees_diagnoses_one_by_one():
    eight = records(np.linspace(1.01, 1.99, 8))
    judge = dataclasses.replace(diagnoser(), set_trees=None)
    found = diagnose_set(judge, eight)
    assert verdicts(found) == [HOT] * 8
    assert not any(flag.startswith("set_of") for diagnosis in found for flag in diagnosis.flags)


def test_checkpoints_too_alike_keep_their_own_verdicts():
    found = diagnose_set(diagnoser(), records(np.linspace(1.4, 1.6, 10)))
    assert verdicts(found) == [HOT] * 10
    assert all(diagnosis.flags[:2] == ("set_of:10", "set_too_alike") for diagnosis in found)


def test_in_a_sweep_positions_alone_tell_hot_from_cold():
    unsure = side(position_name("log_weight_growth"), 0.5, sure=0.6)
    growths = np.linspace(1.4, 1.6, 8)
    rates = np.geomspace(0.01, 0.1, 8)
    found = diagnose_set(diagnoser(unsure), records(growths, rates))
    assert verdicts(found) == [COLD] * 4 + [HOT] * 4
    assert all("decided_by_set:temperature" in diagnosis.flags for diagnosis in found)
    narrow = diagnose_set(diagnoser(unsure), records(growths, np.geomspace(0.02, 0.1, 8)))
    assert verdicts(narrow) == [HOT] * 8


def test_a_checkpoint_given_twice_counts_once():
    eight = records(np.linspace(1.01, 1.99, 8))
    found = diagnose_set(diagnoser(), [*eight, eight[0], eight[7]])
    assert all(diagnosis.flags[0] == "set_of:8" for diagnosis in found)
    assert found[8] == found[0]
    assert found[9] == found[7]
    seven = diagnose_set(diagnoser(), [*eight[:7], eight[0]])
    assert not any(flag.startswith("set_of") for diagnosis in seven for flag in diagnosis.flags)


def test_two_tasks_are_two_sets_and_answers_keep_the_order():
    eight = records(np.linspace(1.01, 1.99, 8))
    strangers = [record(0.9, 20 + k, data_set="mnist") for k in range(3)]
    mixed = [eight[0], strangers[0], *eight[1:], *strangers[1:]]
    found = diagnose_set(diagnoser(), mixed)
    assert [d.record.checkpoint["path"] for d in found] == [r.checkpoint["path"] for r in mixed]
    flagged = [d.flags[0] == "set_of:8" if d.flags else False for d in found]
    assert flagged == [True, False] + [True] * 7 + [False] * 2


def test_the_command_takes_many_records(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "default_diagnoser", diagnoser)
    paths = []
    for one in records(np.linspace(1.01, 1.99, 8)):
        paths.append(tmp_path / f"{one.checkpoint['path']}.json")
        paths[-1].write_text(json.dumps(one.to_dict()))
    result = CliRunner().invoke(measuring.diagnose_command, [*map(str, paths), "--json"], standalone_mode=False)
    assert result.exception is None
    told = json.loads(result.output)
    assert [one["verdict"] for one in told] == [COLD] * 4 + [HOT] * 4
    assert all("set_of:8" in one["flags"] for one in told)


def test_the_program_takes_many_checkpoints(monkeypatch):
    room = importlib.import_module("mdtree.diagnose")
    measured = {one.checkpoint["path"]: one for one in records(np.linspace(1.01, 1.99, 8))}
    monkeypatch.setattr(room, "measure", lambda path, *_, **__: measured[path])
    found = room.diagnose_all(list(measured), diagnoser=diagnoser())
    assert found == diagnose_set(diagnoser(), list(measured.values()))
    assert found[0].flags[0] == "set_of:8"


def test_no_torch_is_needed():
    code = "import mdtree.checkpoint_set, mdtree.set_fit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
