"""The verdict composed of questions: its fixed tree, the walk through it, and what withholds a temperature."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
from composed_diagnoser import (
    COLD,
    ENOUGH,
    HEALTHY,
    HOT,
    LITTLE,
    P_COLD_SIDE,
    P_HOT_SIDE,
    SICK,
    SMALL,
    TREES,
    VERDICTS,
    by_hand,
    composed_diagnoser,
    leaf_of,
)

from mdtree.composition import (
    ANSWERS,
    COMPONENTS,
    READING_METRICS,
    READINGS,
    composed_leaf_weights,
    composed_tree,
    is_composed,
    lean,
    probability,
    question_of,
    walk_composed,
)
from mdtree.diagnoser import diagnose_record, read_diagnoser, readings_disagree, walk_verdict, write_diagnoser
from mdtree.diagnoser_schema import Diagnoser, QuestionTree, diagnoser_from_dict, diagnoser_to_dict
from mdtree.errors import InputError
from mdtree.nodes import Leaf, Split, depth, leaf_weights, leaves, splits, walk
from mdtree.record import Metric, Record
from mdtree.zoo import EVIDENCE, FAILURES, size_free_metrics

VERDICT = composed_tree(healthy=True)
HOT_VALUES = {**SICK, **ENOUGH, "log_weight_growth": 3.0, "idle_feature_share": 0.5}
LEANING_HOT = {**HOT_VALUES, "weight_noise_loss_over_chance": 0.5}


def weights(found):
    """Weight of every leaf of the verdict, those not reached with 0."""
    reached = {leaf.index: weight for leaf, weight in found.walk.leaves}
    return [reached.get(number, 0.0) for number in range(len(VERDICTS))]


def asked_by(found):
    """The questions whose answers were asked for, each once."""
    return list(dict.fromkeys(question_of(step.feature) for step in found.above))


def record_of(errors=None, **values):
    metrics = {name: Metric(value, (errors or {}).get(name, 0.0), 100) for name, value in values.items()}
    return Record({"path": "a.pt", "data_set": "digits"}, {"learning_rate": 0.2}, {"digest": "p"}, {}, metrics)


# --- the tree that asks the answers --------------------------------------------------------------------------------


def test_the_composed_tree_asks_five_answers_and_ends_in_seven_leaves():
    assert tuple(leaf.label for leaf in leaves(VERDICT)) == VERDICTS
    assert [leaf.index for leaf in leaves(VERDICT)] == list(range(7))
    assert depth(VERDICT) == 4
    assert [(split.feature, split.threshold) for split in splits(VERDICT)] == [
        ("answer_healthy", 0.5),
        ("answer_model_size", 0.5),
        ("answer_data", 0.5),
        ("answer_temperature", 0.5),
        ("answer_data", 0.5),
        ("answer_model_or_data", 0.5),
    ]
    assert is_composed(VERDICT)
    assert not any(is_composed(tree) for tree in TREES.values())


def test_without_a_healthy_network_to_learn_from_nothing_is_called_healthy():
    tree = composed_tree(healthy=False)
    assert tuple(leaf.label for leaf in leaves(tree)) == VERDICTS[:-1]
    assert depth(tree) == 3
    assert tree == VERDICT.left
    trees = {question: node for question, node in TREES.items() if question != "healthy"}
    found = walk_composed(tree, trees, HOT_VALUES)
    assert asked_by(found) == ["model_size", "data", "temperature"]
    assert [leaf.label for leaf, _ in found.walk.leaves] == [HOT]


def test_every_answer_belongs_to_a_question_of_the_verdict():
    assert tuple(question_of(answer) for answer in ANSWERS) == COMPONENTS
    assert ("temperature", *READING_METRICS) == READINGS


def test_the_two_further_readings_have_no_metric_in_common_and_travel():
    growth, gradient = (set(names) for names in READING_METRICS.values())
    assert not growth & gradient
    assert growth | gradient <= set(size_free_metrics("alone"))


# --- the walk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "verdict", "asked"),
    [
        ({"train_error_over_chance": 0.05}, 6, ["healthy"]),
        ({"log_weight_growth": 0.5}, 0, ["healthy", "model_size", "data", "temperature"]),
        ({"log_weight_growth": 3.0}, 1, ["healthy", "model_size", "data", "temperature"]),
        ({"logit_spread": 5.0}, 2, ["healthy", "model_size", "data"]),
        ({"train_loss_over_chance": 0.7}, 2, ["healthy", "model_size", "data"]),
        ({"feature_rank_share": 0.8}, 3, ["healthy", "model_size", "data"]),
        ({"feature_rank_share": 0.8, "logit_spread": 5.0, "cka": 0.95}, 4, [*COMPONENTS[:3], "model_or_data"]),
        ({"feature_rank_share": 0.8, "logit_spread": 5.0, "cka": 0.5}, 5, [*COMPONENTS[:3], "model_or_data"]),
    ],
)
def test_each_verdict_is_reached_by_its_answers_and_asks_no_other_question(changed, verdict, asked):
    values = {**SICK, **ENOUGH, "log_weight_growth": 3.0, "cka": 0.5, **changed}
    found = walk_composed(VERDICT, TREES, values)
    assert [(leaf.index, leaf.label, weight) for leaf, weight in found.walk.leaves] == [
        (verdict, VERDICTS[verdict], 1.0)
    ]
    assert asked_by(found) == asked
    assert list(dict.fromkeys(step.question for step in found.walk.path)) == asked


def test_the_path_holds_the_steps_of_the_questions_own_trees():
    errors = {"log_weight_growth": 1.5, "logit_spread": 0.1}
    found = walk_composed(VERDICT, TREES, HOT_VALUES, errors)
    expected = [
        dataclasses.replace(step, question=question)
        for question in ("healthy", "model_size", "data", "temperature")
        for step in walk(TREES[question], HOT_VALUES, errors).path
    ]
    assert list(found.walk.path) == expected
    assert [(s.question, s.feature, s.value, s.side, s.share_of_zoo, s.straddles) for s in found.walk.path] == [
        ("healthy", "train_error_over_chance", 0.4, "right", 0.75, False),
        ("model_size", "feature_rank_share", 0.2, "left", 0.75, False),
        ("data", "logit_spread", 1.0, "left", 0.625, False),
        ("data", "train_loss_over_chance", 0.1, "left", 0.5, False),
        ("temperature", "log_weight_growth", 3.0, "right", 0.625, True),
    ]
    assert [(step.feature, step.value, step.side) for step in found.above] == [
        ("answer_healthy", 0.0, "left"),
        ("answer_model_size", 0.0, "left"),
        ("answer_data", 0.0, "left"),
        ("answer_temperature", 1.0, "right"),
    ]


def test_a_metric_missing_in_one_question_divides_the_verdict_by_that_questions_weights():
    values = {name: value for name, value in HOT_VALUES.items() if name != "logit_spread"}
    found = walk_composed(VERDICT, TREES, values)
    # the data question's tree: 0.625 go left, and say temperature there
    assert weights(found) == pytest.approx([0, 0.625, 0.375, 0, 0, 0, 0], abs=1e-12)
    without_growth = {name: value for name, value in values.items() if name != "log_weight_growth"}
    found = walk_composed(VERDICT, TREES, without_growth)
    assert weights(found) == pytest.approx([0.625 * 0.375, 0.625 * 0.625, 0.375, 0, 0, 0, 0], abs=1e-12)


def test_a_metric_missing_below_answers_that_agree_divides_nothing():
    """The data question says too little data on both sides of its second split as well as on the right."""
    always = Split("train_loss_over_chance", 0.3, Leaf(LITTLE, {}, 0), Leaf(LITTLE, {}, 1), 0.25)
    data = Split("logit_spread", 2.0, always, Leaf(LITTLE, {}, 2), 0.05)
    found = walk_composed(VERDICT, {**TREES, "data": data}, {**SICK, "feature_rank_share": 0.2})
    assert [(leaf.label, weight) for leaf, weight in found.walk.leaves] == [(LITTLE, 1.0)]
    assert asked_by(found) == ["healthy", "model_size", "data"]


def test_the_last_bits_of_a_sum_of_shares_divide_nothing():
    """0.05 · 0.05 + 0.05 · 0.95 + 0.95 · 0.25 + 0.95 · 0.75 is not 1 in floating point."""
    low = Split("train_loss_over_chance", 0.3, Leaf(LITTLE, {}, 0), Leaf(LITTLE, {}, 1), 0.05)
    high = Split("train_loss_over_chance", 0.3, Leaf(LITTLE, {}, 2), Leaf(LITTLE, {}, 3), 0.25)
    data = Split("logit_spread", 2.0, low, high, 0.05)
    values = {**SICK, "feature_rank_share": 0.2}
    assert sum(weight for _, weight in walk(data, values).leaves) != 1.0
    found = walk_composed(VERDICT, {**TREES, "data": data}, values)
    assert [(leaf.label, weight) for leaf, weight in found.walk.leaves] == [(LITTLE, 1.0)]


def test_a_divided_verdict_asks_every_question_on_its_ways():
    found = walk_composed(VERDICT, TREES, {})
    assert set(asked_by(found)) == set(COMPONENTS)
    assert weights(found) == pytest.approx(by_hand({}), abs=1e-12)
    assert all(step.side == "both" for step in found.walk.path)


def random_rows(n, share_missing, seed):
    """Values on both sides of every threshold, some missing."""
    generator = np.random.default_rng(seed)
    thresholds = {split.feature: split.threshold for tree in TREES.values() for split in splits(tree)}
    columns = {}
    for name, threshold in thresholds.items():
        values = threshold * generator.choice([0.5, 1.0, 1.5], n)
        columns[name] = np.where(generator.random(n) < share_missing, math.nan, values)
    return columns


@pytest.mark.parametrize("share_missing", [0.0, 0.3])
def test_walk_table_and_hand_agree_row_by_row(share_missing):
    n = 300
    columns = random_rows(n, share_missing, seed=0)
    table = composed_leaf_weights(VERDICT, TREES, columns, n)
    assert table.shape == (n, 7)
    assert table.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-12)
    seen = set()
    for number in range(n):
        values = {name: float(column[number]) for name, column in columns.items()}
        found = weights(walk_composed(VERDICT, TREES, values))
        expected = by_hand(values)
        assert found == pytest.approx(expected, abs=1e-12)
        assert table[number] == pytest.approx(expected, abs=1e-12)
        assert sum(found) == pytest.approx(1, abs=1e-12)
        seen |= {leaf for leaf, weight in enumerate(found) if weight > 0}
    assert seen == set(range(7))


def test_a_column_that_is_not_there_is_missing_in_every_row():
    table = composed_leaf_weights(VERDICT, TREES, {}, 2)
    assert table == pytest.approx(np.array([by_hand({}), by_hand({})]), abs=1e-12)


# --- the readings of the temperature --------------------------------------------------------------------------------


def test_the_probability_of_a_leaf_takes_labels_as_equally_frequent():
    tree = TREES["temperature"]
    assert probability(tree, walk(tree, {"log_weight_growth": 0.0}), HOT) == pytest.approx(P_COLD_SIDE)
    assert probability(tree, walk(tree, {"log_weight_growth": 2.0}), HOT) == pytest.approx(P_HOT_SIDE)
    assert pytest.approx(2 / 11) == P_COLD_SIDE
    assert pytest.approx(10 / 13) == P_HOT_SIDE
    for value in (0.0, 2.0, math.nan):
        walked = walk(tree, {"log_weight_growth": value})
        assert probability(tree, walked, HOT) + probability(tree, walked, COLD) == pytest.approx(1)
    divided = walk(tree, {})
    assert probability(tree, divided, HOT) == pytest.approx(0.375 * P_COLD_SIDE + 0.625 * P_HOT_SIDE)


def test_a_leaf_without_counts_is_as_sure_as_its_label():
    tree = Split("cka", 0.5, Leaf(COLD, {}, 0), Leaf(HOT, {COLD: 0.0, HOT: 0.0}, 1), 0.25)
    assert probability(tree, walk(tree, {"cka": 0.0}), HOT) == 0.0
    assert probability(tree, walk(tree, {"cka": 1.0}), HOT) == 1.0
    assert probability(tree, walk(tree, {}), HOT) == 0.75


def test_the_lean_is_the_mean_of_three_readings_less_one_half():
    assert lean(TREES, LEANING_HOT) == pytest.approx(P_HOT_SIDE - 0.5)
    two_of_three = {**LEANING_HOT, "weight_noise_loss_over_chance": 0.0}
    assert lean(TREES, two_of_three) == pytest.approx((2 * P_HOT_SIDE + P_COLD_SIDE) / 3 - 0.5)
    all_cold = {"log_weight_growth": 0.0, "idle_feature_share": 0.0, "weight_noise_loss_over_chance": 0.0}
    assert lean(TREES, all_cold) == pytest.approx(P_COLD_SIDE - 0.5)


@pytest.mark.parametrize("reading", READINGS)
def test_without_one_of_the_readings_there_is_no_lean(reading):
    assert lean({question: tree for question, tree in TREES.items() if question != reading}, LEANING_HOT) is None


def test_readings_must_lean_to_the_side_that_is_blamed():
    diagnoser = composed_diagnoser()
    hot = LEANING_HOT
    cold = {**hot, "log_weight_growth": 0.0, "idle_feature_share": 0.0, "weight_noise_loss_over_chance": 0.0}
    between = {**hot, "weight_noise_loss_over_chance": 0.0}  # leans by 0.074: not far enough for either
    blamed = {
        name: (readings_disagree(diagnoser, "alone", HOT, values), readings_disagree(diagnoser, "alone", COLD, values))
        for name, values in (("hot", hot), ("cold", cold), ("between", between))
    }
    assert blamed == {"hot": (False, True), "cold": (True, False), "between": (True, True)}
    for verdict in (SMALL, LITTLE, HEALTHY, "undetermined"):
        assert not readings_disagree(diagnoser, "alone", verdict, between)


@pytest.mark.parametrize(("hot_of_100", "withheld"), [(64, True), (66, False)])
def test_the_readings_must_lean_by_fifteen_hundredths(hot_of_100, withheld):
    """All three lean by 0.14, or by 0.16."""
    sure = Leaf(HOT, {COLD: 100.0 - hot_of_100, HOT: float(hot_of_100)}, 1)
    unsure = Leaf(COLD, {COLD: float(hot_of_100), HOT: 100.0 - hot_of_100}, 0)
    same = QuestionTree(Split("log_weight_growth", 1.0, unsure, sure))
    diagnoser = composed_diagnoser()
    trees = {**diagnoser.trees, **{reading: {"alone": same} for reading in READINGS}}
    diagnoser = dataclasses.replace(diagnoser, trees=trees)
    assert readings_disagree(diagnoser, "alone", HOT, {"log_weight_growth": 2.0}) is withheld
    assert readings_disagree(diagnoser, "alone", COLD, {"log_weight_growth": 0.0}) is withheld


# --- the diagnosis -------------------------------------------------------------------------------------------------


def test_a_diagnosis_walks_the_questions_and_says_which_asked_for_what():
    found = diagnose_record(composed_diagnoser(), record_of(**LEANING_HOT))
    assert (found.verdict, found.confidence, found.flags) == (HOT, 0.8, ())
    expected = ["healthy", "model_size", "data", "data", "temperature"]
    assert [step.question for step in found.path] == expected
    assert [step["question"] for step in json.loads(json.dumps(found.to_dict()))["path"]] == expected


def test_readings_that_disagree_leave_the_temperature_undetermined():
    between = {**LEANING_HOT, "weight_noise_loss_over_chance": 0.0}
    found = diagnose_record(composed_diagnoser(), record_of(**between))
    assert found.verdict == "undetermined"
    assert found.flags == ("readings_disagree",)
    assert found.settle == (
        "a sibling: the same training from another seed (--sibling)",
        "test data (a data set with a test part)",
    )
    # what the leaf knows is still told
    assert found.ranking[0].failure == HOT
    assert found.ranking[0].probability == pytest.approx(0.8)


def test_readings_have_no_say_in_other_verdicts():
    values = {**LEANING_HOT, "weight_noise_loss_over_chance": 0.0, "logit_spread": 5.0}
    found = diagnose_record(composed_diagnoser(), record_of(**values))
    assert (found.verdict, found.flags) == (LITTLE, ())


def test_a_network_that_does_not_train_is_told_by_its_gradient_whatever_the_readings_say():
    values = {**LEANING_HOT, "weight_noise_loss_over_chance": 0.0, "train_error_over_chance": 0.97}
    found = diagnose_record(composed_diagnoser(), record_of(**values, gradient_norm_squared_per_parameter=1e-6))
    assert (found.verdict, found.flags) == (HOT, ("not_training",))


def test_leaves_reached_in_part_mix_what_they_know():
    values = {name: value for name, value in LEANING_HOT.items() if name != "logit_spread"}
    found = diagnose_record(composed_diagnoser(), record_of(**values))
    by_name = {candidate.failure: candidate.probability for candidate in found.ranking}
    assert by_name[HOT] == pytest.approx(0.625 * 0.8 + 0.375 * 0.05)
    assert by_name[LITTLE] == pytest.approx(0.625 * 0.05 + 0.375 * 0.8)
    assert found.verdict == HOT


def test_an_error_bar_over_a_questions_threshold_is_flagged_and_the_other_side_told():
    record = record_of(errors={"feature_rank_share": 0.2, "log_weight_growth": 0.1}, **LEANING_HOT)
    found = diagnose_record(composed_diagnoser(), record)
    assert found.flags == ("straddles:feature_rank_share",)
    assert found.settle == ("feature_rank_share is within its error of 0.5; beyond it the verdict is model_too_small",)


def test_a_verdict_tree_of_its_own_is_walked_as_it_is():
    """Its steps name no question, and JSON says nothing of one."""
    small = composed_diagnoser()
    tree = Split("log_weight_growth", 1.0, Leaf(COLD, {}, 0), Leaf(HOT, {}, 1), 0.5)
    single = Diagnoser(
        "single", small.zoo, {"verdict": {"alone": QuestionTree(tree, (leaf_of(COLD), leaf_of(HOT)))}}, {},
        small.not_training,
    )  # fmt: skip
    found = diagnose_record(single, record_of(**HOT_VALUES))
    assert found.verdict == HOT
    assert walk_verdict(single, "alone", HOT_VALUES) == walk(tree, HOT_VALUES)
    assert [set(step) & {"question"} for step in found.to_dict()["path"]] == [set()]


# --- the file ------------------------------------------------------------------------------------------------------


def test_a_composed_diagnoser_comes_back_from_its_file(tmp_path):
    diagnoser = composed_diagnoser()
    write_diagnoser(diagnoser, tmp_path / "d.json")
    again = read_diagnoser(tmp_path / "d.json")
    assert again == diagnoser
    assert diagnose_record(again, record_of(**LEANING_HOT)) == diagnose_record(diagnoser, record_of(**LEANING_HOT))


def as_json():
    return copy.deepcopy(json.loads(json.dumps(diagnoser_to_dict(composed_diagnoser()))))


@pytest.mark.parametrize("question", COMPONENTS)
def test_a_composed_verdict_needs_the_tree_of_every_question_it_asks(question):
    gone, elsewhere = as_json(), as_json()
    del gone["trees"][question]
    elsewhere["trees"][question] = {"sibling": elsewhere["trees"][question]["alone"]}
    for values in (gone, elsewhere):
        with pytest.raises(InputError) as error:
            diagnoser_from_dict(values, "d.json")
        assert str(error.value) == (
            f"d.json: the diagnoser by hand has no tree for question {question!r} with evidence 'alone'"
        )


def test_a_verdict_without_the_healthy_question_needs_no_tree_for_it():
    values = as_json()
    verdict = values["trees"]["verdict"]["alone"]
    verdict["tree"], verdict["leaves"] = verdict["tree"]["left"], verdict["leaves"][:-1]
    del values["trees"]["healthy"]
    found = diagnose_record(diagnoser_from_dict(values, "d.json"), record_of(**LEANING_HOT))
    assert found.verdict == HOT


@pytest.mark.parametrize(
    ("change", "words"), [({"feature": "cka"}, "asks cka <= 0.5"), ({"threshold": 0.3}, "asks answer_healthy <= 0.3")]
)
def test_a_composed_verdict_asks_questions_alone_and_cuts_them_at_a_half(change, words):
    mixed = as_json()
    mixed["trees"]["verdict"]["alone"]["tree"].update(change)
    expected = r"; expected questions alone, whose answers are yes \(1\) or no \(0\), cut at 0\.5$"
    with pytest.raises(InputError, match=rf"^d\.json: a composed verdict that {words}{expected}"):
        diagnoser_from_dict(mixed, "d.json")
    nested = as_json()
    nested["trees"]["data"]["alone"]["tree"]["feature"] = "answer_temperature"
    with pytest.raises(InputError, match=r"^d\.json: unknown name 'answer_temperature'; expected one of"):
        diagnoser_from_dict(nested, "d.json")


def test_answers_are_what_the_questions_trees_may_say():
    """The two tables of leaf weights are one walk: of a question alone, and of the verdict that asks it."""
    columns = random_rows(50, 0.2, seed=1)
    table = composed_leaf_weights(VERDICT, TREES, columns, 50)
    healthy = leaf_weights(TREES["healthy"], columns, 50)[:, 0]
    assert table[:, 6] == pytest.approx(healthy, abs=1e-12)
    assert set(VERDICTS) == set(FAILURES)
    assert set(composed_diagnoser().nodes("alone")) - {"verdict"} == set(TREES)
    assert all(composed_diagnoser().nodes(evidence) == {} for evidence in EVIDENCE if evidence != "alone")


def test_a_diagnosis_tells_the_answers_and_the_leaf():
    hot = diagnose_record(composed_diagnoser(), record_of(**HOT_VALUES), "alone")
    assert hot.answers == {"healthy": False, "model_size": False, "data": False, "temperature": True}
    assert hot.leaves == {HOT: 1.0}
    known = {name: value for name, value in HOT_VALUES.items() if name != "log_weight_growth"}
    torn = diagnose_record(composed_diagnoser(), record_of(**known), "alone")
    assert torn.answers == {**hot.answers, "temperature": None}
    assert torn.leaves == pytest.approx({COLD: 0.375, HOT: 0.625})
