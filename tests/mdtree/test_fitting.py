"""Fitting a diagnoser: readable trees, honest leaf statistics, nothing held out is seen."""

import numpy as np
import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.diagnoser_schema import diagnoser_to_dict
from mdtree.errors import InputError
from mdtree.fitting import FitOptions, fit_diagnoser, fit_rows, folds_of, rethreshold
from mdtree.nodes import depth, leaf_weights, leaves, splits
from mdtree.zoo import EVIDENCE, FAILURES, QUESTIONS, size_free_metrics


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
        assert {s.feature for s in splits(tree)} <= set(size_free_metrics(evidence))


def test_metrics_that_grow_with_the_network_are_asked_for_only_where_there_are_no_others(zoo):
    """A table made elsewhere may hold little else."""
    bare = zoo.assign(**{name: np.nan for name in size_free_metrics("sibling_test")})
    tree = fit_diagnoser(bare, "bare").trees["verdict"]["alone"].tree
    asked = {s.feature for s in splits(tree)}
    assert asked == {"hessian_trace", "train_error_percent"}
    one = bare.assign(log_weight_growth=zoo["log_weight_growth"])
    asked = {s.feature for s in splits(fit_diagnoser(one, "one").trees["verdict"]["alone"].tree)}
    assert asked == {"hessian_trace", "train_error_percent", "log_weight_growth"}
    two = one.assign(gradient_norm_squared_per_parameter=zoo["gradient_norm_squared_per_parameter"])
    asked = {s.feature for s in splits(fit_diagnoser(two, "two").trees["verdict"]["alone"].tree)}
    assert asked == {"log_weight_growth", "gradient_norm_squared_per_parameter"}


def test_what_is_measured_on_held_out_rows_changes_nothing(zoo, fitted):
    poisoned = zoo.copy()
    held = poisoned["split"] == "held_out"
    poisoned.loc[held, "gradient_norm_squared_per_parameter"] = 1e9
    poisoned.loc[held, "label_verdict"] = "healthy"
    assert diagnoser_to_dict(fit_diagnoser(poisoned, "synthetic")) == diagnoser_to_dict(fitted)


def test_the_order_of_the_rows_changes_nothing(zoo, fitted):
    """Only which networks are kept as reference points is drawn from the rows as they come."""
    again = diagnoser_to_dict(fit_diagnoser(zoo.sample(frac=1, random_state=1), "synthetic"))
    before = diagnoser_to_dict(fitted)
    points = [values["reference"].pop("points") for values in (again, before)]
    assert again == before
    assert [len(lines) for lines in points[0].values()] == [len(lines) for lines in points[1].values()]


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
        rows["hessian_trace_per_parameter"] = generator.standard_normal(len(rows))
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
    """Of networks whose every metric is three times as large, the thresholds follow and the rest stays."""
    rows = fit_rows(zoo)
    rows = rows[~rows["label_verdict"].isin(["ambiguous", "censored"])]
    tree = fitted.trees["verdict"]["alone"].tree
    asked = sorted({s.feature for s in splits(tree)})
    larger = rows[rows["seed"] < 2].copy()
    larger[asked] *= 3.0
    labels = larger["label_verdict"].to_numpy(dtype=str)
    again = rethreshold(tree, larger, labels, FitOptions(min_samples_leaf=2))
    assert [s.feature for s in splits(again)] == [s.feature for s in splits(tree)]
    assert [leaf.label for leaf in leaves(again)] == [leaf.label for leaf in leaves(tree)]
    assert [s.threshold for s in splits(again)] != [s.threshold for s in splits(tree)]

    def right(node, frame):
        reached = leaf_weights(node, {name: frame[name].to_numpy(dtype=float) for name in asked}, len(frame))
        return np.mean(
            np.array([leaf.label for leaf in leaves(node)])[reached.argmax(axis=1)] == frame["label_verdict"]
        )

    assert right(again, larger) > right(tree, larger) + 0.2
    assert right(again, larger) > right(tree, rows) - 0.05


def test_what_cannot_be_fitted_is_refused(zoo):
    with pytest.raises(InputError, match="no rows to fit on"):
        fit_diagnoser(zoo[zoo["split"] == "held_out"], "none")
    with pytest.raises(InputError, match="fewer than two verdicts"):
        fit_diagnoser(zoo[zoo["label_verdict"] == "healthy"].assign(split="fit"), "one")
    with pytest.raises(InputError, match="a readable tree: depth 1 to 4"):
        FitOptions(max_depth=5)
