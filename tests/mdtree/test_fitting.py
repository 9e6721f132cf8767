"""Fitting a diagnoser: readable trees, honest leaf statistics, nothing held out is seen."""

import numpy as np
import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.diagnoser_schema import diagnoser_to_dict
from mdtree.errors import InputError
from mdtree.fitting import FitOptions, fit_diagnoser, fit_rows, folds_of, rethreshold
from mdtree.nodes import depth, leaves, splits
from mdtree.zoo import EVIDENCE, FAILURES, QUESTIONS, evidence_metrics


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


@pytest.fixture(scope="module")
def fitted(zoo):
    return fit_diagnoser(zoo, "synthetic")


def test_there_is_a_readable_tree_for_every_question_and_evidence(fitted):
    assert set(fitted.trees) == set(QUESTIONS)
    for question, evidence in ((q, e) for q in QUESTIONS for e in EVIDENCE):
        tree = fitted.trees[question][evidence].tree
        assert depth(tree) <= 4
        assert len(leaves(tree)) <= 8
        assert {s.feature for s in splits(tree)} <= set(evidence_metrics(evidence))


def test_what_is_measured_on_held_out_rows_changes_nothing(zoo, fitted):
    poisoned = zoo.copy()
    held = poisoned["split"] == "held_out"
    poisoned.loc[held, "hessian_trace"] = 1e9
    poisoned.loc[held, "label_verdict"] = "healthy"
    assert diagnoser_to_dict(fit_diagnoser(poisoned, "synthetic")) == diagnoser_to_dict(fitted)


def test_the_order_of_the_rows_changes_nothing(zoo, fitted):
    shuffled = zoo.sample(frac=1, random_state=1)
    assert diagnoser_to_dict(fit_diagnoser(shuffled, "synthetic")) == diagnoser_to_dict(fitted)


def test_every_labelled_row_is_counted_in_one_leaf(zoo, fitted):
    rows = fit_rows(zoo)
    for evidence in EVIDENCE:
        statistics = fitted.trees["verdict"][evidence].leaves
        for failure in FAILURES:
            total = sum(leaf.counts[failure] for leaf in statistics)
            assert total == pytest.approx((rows["label_verdict"] == failure).sum())
        for leaf in statistics:
            assert sum(leaf.probability.values()) == pytest.approx(1)


def test_leaf_counts_are_cross_fitted(zoo):
    """With labels drawn by lot a tree seems to learn; the counts its leaves report must not believe it."""
    rows = fit_rows(zoo).copy()
    inside, outside = [], []
    for trial in range(5):
        generator = np.random.default_rng(trial)
        rows["label_verdict"] = generator.choice(["model_too_small", "too_little_data"], len(rows))
        rows["cell"] = [f"c{i}" for i in range(len(rows))]
        rows["hessian_trace"] = generator.standard_normal(len(rows))
        question = fit_diagnoser(rows, "lot", FitOptions(min_samples_leaf=4)).trees["verdict"]["alone"]
        inside.append(sum(max(leaf.counts.values()) for leaf in leaves(question.tree)) / len(rows))
        own = [leaf.label for leaf in leaves(question.tree)]
        outside.append(sum(s.counts[label] for s, label in zip(question.leaves, own, strict=True)) / len(rows))
    assert np.mean(inside) > 0.62
    assert np.mean(outside) < np.mean(inside) - 0.05


def test_folds_keep_cells_whole(zoo):
    rows = fit_rows(zoo)
    folds = list(folds_of(rows, FitOptions()))
    assert np.sum(folds, axis=0).tolist() == [1] * len(rows)
    for held in folds:
        assert not set(rows["cell"][held]) & set(rows["cell"][~held])


def test_the_advised_step_gains_what_the_grid_says(fitted):
    """The networks that are only too hot lose 40 points by it; a tenth of the rate is the best step for them."""
    question = fitted.trees["verdict"]["alone"]
    hot = [s for leaf, s in zip(leaves(question.tree), question.leaves, strict=True) if "high" in leaf.label]
    step = hot[0].steps["temperature_down"]
    assert step.factor == 10.0
    assert step.gain_points == pytest.approx(39, abs=1.5)
    assert 0 < step.standard_error < 2
    assert hot[0].room_points["temperature_down"] == pytest.approx(39, abs=1.5)


def test_refitted_thresholds_keep_questions_and_answers(zoo, fitted):
    rows = fit_rows(zoo)
    rows = rows[~rows["label_verdict"].isin(["ambiguous", "censored"])]
    tree = fitted.trees["verdict"]["alone"].tree
    half = rows[rows["seed"] < 2]
    labels = half["label_verdict"].to_numpy(dtype=str)
    again = rethreshold(tree, half, labels, FitOptions(min_samples_leaf=2))
    assert [s.feature for s in splits(again)] == [s.feature for s in splits(tree)]
    assert [leaf.label for leaf in leaves(again)] == [leaf.label for leaf in leaves(tree)]
    assert [s.threshold for s in splits(again)] != [s.threshold for s in splits(tree)]


def test_what_cannot_be_fitted_is_refused(zoo):
    with pytest.raises(InputError, match="no rows to fit on"):
        fit_diagnoser(zoo[zoo["split"] == "held_out"], "none")
    with pytest.raises(InputError, match="fewer than two verdicts"):
        fit_diagnoser(zoo[zoo["label_verdict"] == "healthy"].assign(split="fit"), "one")
    with pytest.raises(InputError, match="a readable tree: depth 1 to 4"):
        FitOptions(max_depth=5)
