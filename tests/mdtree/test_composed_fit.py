"""Fitting a composed verdict on several families: what weighs how much, and what its leaves may know."""

import json

import numpy as np
import pandas as pd
import pytest
from transfer_zoos import family, together, turned_round

from mdtree.composed_fit import (
    can_compose,
    component_labels,
    family_folds,
    family_weights,
    fit_components,
    fit_composed,
)
from mdtree.composition import (
    COMPONENTS,
    READING_METRICS,
    READINGS,
    composed_leaf_weights,
    composed_tree,
    is_composed,
)
from mdtree.diagnoser import diagnose_record, read_diagnoser, write_diagnoser
from mdtree.diagnoser_schema import diagnoser_from_dict, diagnoser_to_dict
from mdtree.evaluation import answers
from mdtree.fitting import fit_diagnoser, fit_rows
from mdtree.leaf_statistics import FACTORS, leaf_statistics
from mdtree.nodes import depth, leaf_weights, leaves, splits
from mdtree.record import Metric, Record
from mdtree.room import step_gains
from mdtree.zoo import EVIDENCE, FAILURES, METRICS, PAIR_METRICS, QUESTIONS, SIZE_BOUND, size_free_metrics

COLD, HOT, SMALL, LITTLE = "temperature_too_low", "temperature_too_high", "model_too_small", "too_little_data"
LIMITS, FOLDS = (4, 8), (5, 0)


def telling(frame):
    """A model too small shows in a metric that travels, as it does in the one that does not."""
    return frame.assign(hessian_trace_per_parameter=frame["hessian_trace"] / 1000)


@pytest.fixture(scope="module")
def zoo():
    return telling(together(family("a", 0), family("b", 1), family("c", 2)))


@pytest.fixture(scope="module")
def fitted(zoo):
    return fit_diagnoser(zoo, "three")


def columns_of(rows):
    return {name: rows[name].to_numpy(dtype=float) for name in METRICS}


def gains_of(rows):
    return step_gains(rows, FACTORS)


# --- weights, folds and labels -------------------------------------------------------------------------------------


def test_a_family_weighs_as_the_root_of_its_networks():
    weight = family_weights(np.array(["a", "b", "a", "a", "a"]))
    assert weight == pytest.approx([5 / 6, 5 / 3, 5 / 6, 5 / 6, 5 / 6])
    assert weight.mean() == pytest.approx(1)
    assert family_weights(np.array(["a", "b", "a", "b"])) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("n_families", [2, 8, 11])
def test_folds_leave_out_whole_families_and_each_once(n_families):
    names = [f"family {k % n_families}" for k in range(60)]
    folds = list(family_folds(pd.DataFrame({"family": names}), seed=0))
    assert len(folds) == min(n_families, 8)
    assert np.sum(folds, axis=0).tolist() == [1] * 60
    for held in folds:
        inside = {name for name, out in zip(names, held, strict=True) if out}
        outside = {name for name, out in zip(names, held, strict=True) if not out}
        assert inside
        assert not inside & outside


def test_every_question_has_its_own_true_answers():
    rows = pd.DataFrame(
        {
            "label_verdict": ["healthy", COLD, SMALL, LITTLE, "ambiguous", "censored"],
            "label_temperature": [COLD, COLD, "ambiguous", HOT, HOT, "censored"],
            "label_model_size": ["ambiguous", "temperature", SMALL, "temperature", "censored", SMALL],
            "label_data": ["temperature", "temperature", LITTLE, LITTLE, "ambiguous", LITTLE],
        }
    )
    assert component_labels(rows, "healthy").tolist() == ["healthy", *["not_healthy"] * 3, "ambiguous", "censored"]
    assert component_labels(rows, "model_or_data").tolist() == ["ambiguous"] * 2 + [SMALL, LITTLE] + ["ambiguous"] * 2
    for question in ("model_size", "data"):
        assert component_labels(rows, question).tolist() == rows[f"label_{question}"].tolist()
    for reading in READINGS:
        assert component_labels(rows, reading).tolist() == rows["label_temperature"].tolist()


def test_a_verdict_is_composed_of_several_families_and_both_answers_to_every_question(zoo):
    assert can_compose(zoo)
    assert can_compose(zoo[zoo["family"] != "c"])
    assert not can_compose(zoo[zoo["family"] == "a"])
    for question in ("temperature", "model_size", "data"):
        assert not can_compose(zoo.assign(**{f"label_{question}": "censored"})), question
    assert not can_compose(zoo[zoo["label_verdict"] != SMALL])  # nothing to tell model from data
    assert can_compose(zoo[zoo["label_verdict"] != "healthy"])


def asking(tree):
    """What a tree asks and answers, without what it knows of the networks it was fitted on."""
    return [(s.feature, s.threshold) for s in splits(tree)], [(leaf.label, leaf.index) for leaf in leaves(tree)]


# --- the trees of the questions ------------------------------------------------------------------------------------


def test_a_zoo_of_several_families_is_fitted_question_by_question(fitted):
    assert set(fitted.trees) == {*COMPONENTS, *READINGS, "verdict"}
    for question, by_evidence in fitted.trees.items():
        assert set(by_evidence) == set(EVIDENCE), question
        for tree in by_evidence.values():
            assert is_composed(tree.tree) == (question == "verdict")
            assert depth(tree.tree) <= 4
            assert len(leaves(tree.tree)) <= 8
    for evidence in EVIDENCE:
        verdict = fitted.tree("verdict", evidence)
        assert asking(verdict.tree) == asking(composed_tree(healthy=True))
        assert len(verdict.leaves) == 7


def test_a_zoo_of_one_family_keeps_a_verdict_tree_of_its_own(zoo):
    alone = fit_diagnoser(zoo[zoo["family"] == "a"], "one")
    assert set(alone.trees) == set(QUESTIONS)
    assert not any(is_composed(tree.tree) for tree in alone.trees["verdict"].values())


def test_questions_ask_only_metrics_that_travel(zoo):
    """One that does not would tell every answer at once."""
    kinds = {name: number for number, name in enumerate(sorted(set(zoo["label_verdict"])))}
    traitor = zoo["label_verdict"].map(kinds).to_numpy(dtype=float)
    frame = zoo.assign(**dict.fromkeys(SIZE_BOUND, traitor))
    for evidence in EVIDENCE:
        trees = fit_components(frame, evidence, *LIMITS)
        for question, tree in trees.items():
            asked = {split.feature for split in splits(tree)}
            assert asked, question
            assert asked <= set(READING_METRICS.get(question, size_free_metrics(evidence))), question


def test_the_questions_are_told_by_what_the_formula_makes_them_cost(zoo):
    """Growth is hot, the gradient cold, the curvature small, and only a sibling knows of the data."""
    trees = fit_components(zoo, "sibling", *LIMITS)
    asked = {question: {split.feature for split in splits(tree)} for question, tree in trees.items()}
    assert "hessian_trace_per_parameter" in asked["model_size"]
    assert "disagreement_percent" in asked["data"]
    assert "gradient_norm_squared_per_parameter" in asked["temperature"]
    assert "log_weight_growth" in asked["temperature_by_growth"]
    assert asked["temperature_by_gradient"] == {"gradient_norm_squared_per_parameter"}
    for tree in fit_components(zoo, "alone", *LIMITS).values():
        assert not {split.feature for split in splits(tree)} & set(PAIR_METRICS)


def test_leaves_count_networks_by_the_weight_of_their_family(zoo):
    """Of a hundred networks of one family and four of another, these weigh a sixth."""
    rows = pd.concat([zoo[zoo["family"] == "a"], zoo[zoo["family"] == "b"].iloc[::4]], ignore_index=True)
    for question, tree in fit_components(rows, "alone", *LIMITS).items():
        labels = component_labels(rows, question)
        known = ~np.isin(labels, ["ambiguous", "censored"])
        weight = family_weights(rows.loc[known, "family"].to_numpy(dtype=str))
        for label in set(labels[known]):
            counted = sum(leaf.counts[label] for leaf in leaves(tree))
            assert counted == pytest.approx(weight[labels[known] == label].sum(), rel=1e-5), (question, label)


def drawn(healthy, sick_beside, sick_elsewhere):
    """Two families alike; healthy networks lie at a train error of 0, sick ones there and at 1."""
    one = pd.DataFrame(
        {
            "train_error_over_chance": [0.0] * (healthy + sick_beside) + [1.0] * sick_elsewhere,
            "label_verdict": ["healthy"] * healthy + [COLD] * (sick_beside + sick_elsewhere),
            "label_temperature": COLD,
            "label_model_size": "ambiguous",
            "label_data": "ambiguous",
        }
    )
    return together(one.assign(family="a"), one.assign(family="b"))


@pytest.mark.parametrize(("sick_beside", "answer"), [(5, "healthy"), (20, "not_healthy")])
def test_a_sick_network_taken_for_healthy_weighs_ten_times_the_opposite(sick_beside, answer):
    """Were causes as frequent, the healthy part would weigh 1 against 0.05 or 0.2: twenty times, or five."""
    tree = fit_components(drawn(100, sick_beside, 100 - sick_beside), "alone", *LIMITS)["healthy"]
    assert tree.feature == "train_error_over_chance"
    assert tree.left.label == answer
    assert tree.right.label == "not_healthy"


def test_a_question_without_two_answers_has_no_tree(zoo):
    sick = zoo[zoo["label_verdict"] != "healthy"]
    assert set(fit_components(sick, "alone", *LIMITS)) == {*COMPONENTS, *READINGS} - {"healthy"}
    verdict = fit_diagnoser(sick, "sick").tree("verdict", "alone")
    assert asking(verdict.tree) == asking(composed_tree(healthy=False))
    assert len(verdict.leaves) == 6


def test_a_reading_without_its_metrics_has_no_tree(zoo):
    without = zoo.assign(**dict.fromkeys(READING_METRICS["temperature_by_gradient"], np.nan))
    found = fit_components(without, "alone", *LIMITS)
    assert set(found) == {*COMPONENTS, *READINGS} - {"temperature_by_gradient"}


def test_leaves_hold_a_handful_of_cells(zoo):
    """An eighth of a question's networks, and sixty where there are more."""
    many = together(*(telling(family(name, seed)) for seed, name in enumerate("abcdef")))
    for rows in (zoo, many):
        for question, tree in fit_components(rows, "sibling", *LIMITS).items():
            known = ~np.isin(component_labels(rows, question), ["ambiguous", "censored"])
            part = rows[known]
            held = leaf_weights(tree, columns_of(part), len(part)).sum(axis=0)
            assert held.min() >= min(60, known.sum() // 8), question


# --- what the leaves know ------------------------------------------------------------------------------------------


def odd_one_out():
    """Family c has the signs of hot and cold in exchange."""
    return telling(together(family("a", 0), family("b", 1), turned_round(family("c", 2)))).assign(split="fit")


def test_leaves_know_of_a_family_only_what_trees_without_it_say():
    """Trees of all three learn the exception; left out it is read the wrong way round, and the leaves say so."""
    rows = odd_one_out()
    found = fit_composed(rows, "sibling", gains_of(rows), LIMITS, FOLDS)
    verdict = found["verdict"]
    of_leaf = np.array([leaf.label for leaf in leaves(verdict.tree)])
    trees = {question: tree.tree for question, tree in found.items() if question != "verdict"}
    reached = composed_leaf_weights(verdict.tree, trees, columns_of(rows), len(rows))
    said, truth = of_leaf[reached.argmax(axis=1)], rows["label_verdict"].to_numpy(dtype=str)
    hot, cold = (int(((truth == label) & (rows["family"] == "c")).sum()) for label in (HOT, COLD))
    assert ((said == COLD) & (truth == HOT)).sum() < 0.25 * hot
    assert ((said == HOT) & (truth == COLD)).sum() < 0.5 * cold

    known = {label: s for label, s in zip(of_leaf, verdict.leaves, strict=True) if label in (HOT, COLD)}
    assert known[COLD].counts[HOT] >= hot
    assert known[HOT].counts[COLD] > 0.75 * cold


def test_the_verdict_tree_holds_the_counts_of_its_leaves_and_the_share_of_every_no(zoo):
    rows = zoo.assign(split="fit")
    found = fit_composed(rows, "alone", gains_of(rows), LIMITS, FOLDS)["verdict"]
    for leaf, statistics in zip(leaves(found.tree), found.leaves, strict=True):
        assert leaf.counts == pytest.approx(statistics.counts, abs=1e-3)
    reached = np.zeros(7)
    for name in "abc":
        held = rows["family"] == name
        trees = fit_components(rows[~held], "alone", *LIMITS)
        reached += composed_leaf_weights(found.tree, trees, columns_of(rows[held]), held.sum()).sum(axis=0)
    assert found.tree.share_left == pytest.approx(reached[:6].sum() / len(rows), abs=1e-8)
    assert found.tree.left.share_left == pytest.approx(reached[:3].sum() / reached[:6].sum(), abs=1e-8)
    assert found.tree.left.left.left.share_left == pytest.approx(reached[0] / reached[:2].sum(), abs=1e-8)


@pytest.mark.parametrize("names", ["abc", "ab"])
def test_leaf_statistics_are_those_of_every_family_left_out_in_turn(names):
    rows = odd_one_out()
    rows = rows[rows["family"].isin(list(names))].reset_index(drop=True)
    gains = gains_of(rows)
    found = fit_composed(rows, "alone", gains, LIMITS, FOLDS)["verdict"]
    reached = np.zeros((len(rows), 7))
    for name in names:
        held = (rows["family"] == name).to_numpy()
        trees = fit_components(rows[~held], "alone", *LIMITS)
        reached[held] = composed_leaf_weights(found.tree, trees, columns_of(rows[held]), held.sum())
    weight = family_weights(rows["family"].to_numpy(dtype=str))
    assert found.leaves == leaf_statistics(reached * weight[:, None], rows, gains, FOLDS, balance=0.5)


def test_a_question_only_one_family_can_answer_keeps_its_tree_where_that_family_is_left_out(zoo):
    rows = zoo[(zoo["family"] == "a") | (zoo["label_verdict"] != "healthy")].reset_index(drop=True)
    found = fit_composed(rows, "alone", gains_of(rows), LIMITS, FOLDS)["verdict"]
    counted = sum(sum(leaf.counts.values()) for leaf in found.leaves)
    labelled = ~rows["label_verdict"].isin(["ambiguous", "censored"])
    weight = family_weights(rows["family"].to_numpy(dtype=str))
    assert counted == pytest.approx(weight[labelled].sum(), rel=1e-5)


def test_networks_without_a_sibling_are_divided_and_counted_once(zoo):
    frame = zoo.assign(split="fit")
    frame.loc[frame["family"] == "b", list(PAIR_METRICS)] = np.nan
    verdict = fit_composed(frame, "sibling", gains_of(frame), LIMITS, FOLDS)["verdict"]
    for failure in FAILURES:
        counted = sum(leaf.counts[failure] for leaf in verdict.leaves)
        assert counted == pytest.approx((frame["label_verdict"] == failure).sum(), rel=1e-5)


def test_probabilities_take_a_cause_as_the_root_of_its_frequency(zoo, fitted):
    rows = fit_rows(zoo)
    totals = {failure: int((rows["label_verdict"] == failure).sum()) for failure in FAILURES}
    scale = np.mean(list(totals.values()))
    assert len(set(totals.values())) > 1
    for leaf in fitted.tree("verdict", "sibling").leaves:
        share = {f: leaf.counts[f] * np.sqrt(scale / totals[f]) + 0.5 for f in FAILURES}
        for failure in FAILURES:
            assert leaf.probability[failure] == pytest.approx(share[failure] / sum(share.values()), rel=1e-5)


def test_the_advised_step_gains_what_the_grid_says(fitted):
    """The networks that are only too hot lose 40 points by it; a tenth of the rate is the best step for them."""
    verdict = fitted.tree("verdict", "sibling")
    by_label = {leaf.label: s for leaf, s in zip(leaves(verdict.tree), verdict.leaves, strict=True)}
    step = by_label[HOT].steps["temperature_down"]
    assert step.factor == 10.0
    assert step.gain_points == pytest.approx(39, abs=1.5)
    assert 0 < step.standard_error < 2
    assert by_label[HOT].room_points["temperature_down"] == pytest.approx(39, abs=1.5)


# --- the diagnoser -------------------------------------------------------------------------------------------------


def as_text(diagnoser):
    return json.dumps(diagnoser_to_dict(diagnoser), indent=1)


def test_the_same_table_fits_to_the_same_bytes(zoo, fitted, tmp_path):
    assert as_text(fit_diagnoser(zoo.copy(), "three")) == as_text(fitted)
    write_diagnoser(fitted, tmp_path / "d.json")
    assert as_text(read_diagnoser(tmp_path / "d.json")) == as_text(fitted)
    assert diagnoser_from_dict(json.loads(as_text(fitted)), "d.json") == fitted


def test_the_order_of_tables_and_rows_changes_no_tree(zoo, fitted):
    """Sums of the families' weights are kept to six digits: their last bits hang on the order."""
    again, before = (diagnoser_to_dict(d) for d in (fit_diagnoser(zoo.sample(frac=1, random_state=1), "three"), fitted))
    for part in ("zoo", "trees", "ranges", "not_training"):
        assert json.dumps(again[part]) == json.dumps(before[part])


def test_what_is_measured_on_held_out_rows_changes_nothing(zoo, fitted):
    poisoned = zoo.copy()
    held = poisoned["split"] == "held_out"
    assert held.any()
    poisoned.loc[held, "log_weight_growth"] = 1e9
    poisoned.loc[held, "label_verdict"] = "healthy"
    assert as_text(fit_diagnoser(poisoned, "three")) == as_text(fitted)


def test_a_family_not_seen_is_answered_as_a_record_of_its_metrics_is(fitted):
    """The table's verdicts are the diagnoses, and nearly all are right: the formula is the same everywhere."""
    asked = telling(family("d", 3))
    clear = asked[~asked["label_verdict"].isin(["ambiguous", "censored"])]
    said = answers(fitted, clear, "verdict", "sibling")
    assert np.mean(said == clear["label_verdict"]) > 0.8
    row = clear.iloc[0]
    metrics = {name: Metric(float(row[name]), 0.0, 1) for name in size_free_metrics("sibling")}
    record = Record(checkpoint={}, recipe={}, protocol={}, execution={}, metrics=metrics)
    assert diagnose_record(fitted, record, evidence="sibling").verdict == said[0]
