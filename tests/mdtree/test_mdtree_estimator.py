"""The estimator: scikit-learn's conventions, CART's choices, names, weights and missing metrics."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from mdtree.errors import InputError
from mdtree.growth import GrowthRules, TrainingRows, grow
from mdtree.shapes import Shape, ShapeSplit
from mdtree.tree import SHAPES, GaussianPrior, Leaf, MDTree, Split, depth, leaves, splits, text, walk


def exceptions(estimator):
    if estimator.min_samples_leaf == 1:
        return {}
    reason = "min_samples_leaf counts rows, so a row of weight 2 is not two rows (as in scikit-learn's own trees)"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks([MDTree(), MDTree(min_samples_leaf=1), MDTree(starts=2)], expected_failed_checks=exceptions)
def test_scikit_learn_conventions(estimator, check):
    if getattr(check, "func", check).__name__ == "check_array_api_input":
        # it skips itself unless SciPy's array API is switched on; the trees take NumPy arrays and say so
        assert not estimator.__sklearn_tags__().array_api_support
        return
    check(estimator)


def noisy(rng, n=400, d=6, classes=3):
    X = rng.normal(size=(n, d))
    y = (X[:, 1] > 0).astype(int) + (X[:, 4] + 0.3 * X[:, 0] > 0.5) + rng.integers(0, 2, n) * (rng.random(n) < 0.2)
    return X, np.minimum(y, classes - 1)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("criterion", ["gini", "entropy"])
def test_a_grown_tree_asks_what_cart_asks(seed, criterion):
    """Against scikit-learn's best-first tree under the same limits; uneven weights leave no ties to be broken."""
    rng = np.random.default_rng(seed)
    X, y = noisy(rng)
    weight = rng.exponential(size=len(y))
    limits = {"max_depth": 4, "min_samples_leaf": 7, "criterion": criterion}
    ours = MDTree(max_leaves=8, midpoint="arithmetic", merge_leaves=False, class_weight="balanced", **limits)
    # scikit-learn's "balanced" ignores sample weights, ours does not: give it our factors
    ours.fit(X, y, weight)
    factors = dict(enumerate(ours.class_weight_))
    theirs = DecisionTreeClassifier(max_leaf_nodes=8, random_state=0, class_weight=factors, **limits)
    theirs.fit(X, y, weight)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    assert sorted(s.threshold for s in splits(ours.tree_)) == pytest.approx(
        sorted(t for t in theirs.tree_.threshold if t != -2), rel=1e-5, abs=1e-6
    )


def test_the_tree_stays_readable():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    assert len(leaves(MDTree(merge_leaves=False).fit(X, y).tree_)) == 8
    assert depth(MDTree(max_depth=2, min_samples_leaf=1).fit(X, y).tree_) == 2
    assert MDTree(max_depth=0).fit(X, y).tree_.label == str(np.argmax(np.bincount(y)))
    tree = MDTree(min_samples_leaf=20, merge_leaves=False).fit(X, y).tree_
    assert 20 <= min(sum(leaf.counts.values()) for leaf in leaves(tree)) < 40


def test_leaves_with_the_same_label_become_one():
    x = np.arange(40.0)[:, None]
    y = np.array(["a"] * 18 + ["b"] * 2 + ["a"] * 20)  # the b are a minority on every side of every cut
    grown = MDTree(max_depth=1, merge_leaves=False).fit(x, y)
    assert [leaf.label for leaf in leaves(grown.tree_)] == ["a", "a"]
    assert MDTree(max_depth=1).fit(x, y).tree_ == Leaf("a", {"a": 38.0, "b": 2.0}, 0)


def test_thresholds_lie_in_the_geometric_middle_rounded():
    X, y = np.array([[0.01], [0.02], [7.0], [50.0]]), ["cold", "cold", "hot", "hot"]
    assert MDTree(min_samples_leaf=1).fit(X, y).tree_.threshold == 0.374166
    assert MDTree(min_samples_leaf=1, midpoint="arithmetic").fit(X, y).tree_.threshold == 3.51
    assert MDTree(min_samples_leaf=1).fit(X - 0.02, y).tree_.threshold == 3.49  # 0 has no geometric middle


@pytest.mark.parametrize("seed", range(3))
def test_a_power_of_a_positive_metric_changes_no_answer(seed):
    rng = np.random.default_rng(seed)
    X, y = noisy(rng)
    X, new = np.exp(X), np.exp(rng.normal(size=(200, 6)))
    np.testing.assert_array_equal(MDTree().fit(X, y).predict(new), MDTree().fit(X**3, y).predict(new**3))


def test_between_equal_questions_the_first_metric_is_asked():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    tree = MDTree(min_samples_leaf=1, feature_names=["p", "q"]).fit(np.column_stack([x, x]), list("aabb")).tree_
    assert isinstance(tree, Split)
    assert tree.feature == "p"


def test_rows_of_weight_zero_count_as_absent():
    rng = np.random.default_rng(1)
    X, y = noisy(rng)
    weight = (rng.random(len(y)) < 0.5).astype(float)
    assert MDTree().fit(X, y, weight).tree_ == MDTree().fit(X[weight > 0], y[weight > 0]).tree_


def test_class_weights_move_answers_but_not_counts():
    x, y = np.zeros((10, 1)), ["rare"] * 2 + ["common"] * 8
    plain, balanced = MDTree().fit(x, y), MDTree(class_weight="balanced").fit(x, y)
    assert plain.tree_.counts == balanced.tree_.counts == {"common": 8.0, "rare": 2.0}
    np.testing.assert_allclose(plain.predict_proba(x[:1]), [[0.8, 0.2]])
    np.testing.assert_allclose(balanced.predict_proba(x[:1]), [[0.5, 0.5]])
    assert MDTree(class_weight={"rare": 5}).fit(x, y).predict(x[:1]) == ["rare"]
    # with weights, balance is one of weights: 2 * 4 against 8 * 1
    weighted = MDTree(class_weight="balanced").fit(x, y, [4.0] * 2 + [1.0] * 8)
    np.testing.assert_allclose(weighted.class_weight_, [1.0, 1.0])


def test_a_row_without_the_metric_counts_on_both_sides():
    """Six rows answer the question, 4 left and 2 right; the seventh is divided 2 : 1."""
    x = np.array([1, 1, 1, 1, 9, 9, math.nan])[:, None]
    tree = MDTree(min_samples_leaf=1).fit(x, list("aaaabba"))
    root = tree.tree_
    assert isinstance(root, Split)
    assert (root.threshold, root.share_left) == (3.0, pytest.approx(2 / 3))
    assert [leaf.counts["a"] for leaf in leaves(root)] == pytest.approx([4 + 2 / 3, 1 / 3])
    # left: all a; right: 2 b and a third of an a
    np.testing.assert_allclose(tree.predict_proba([[math.nan]]), [[2 / 3 + (1 / 3) * (1 / 7), (1 / 3) * (6 / 7)]])
    assert tree.apply([[math.nan], [9.0]]).tolist() == [0, 1]


def test_a_metric_that_is_never_there_is_never_asked():
    X, y = noisy(np.random.default_rng(2))
    with_hole = np.column_stack([np.full(len(y), math.nan), X])
    names = [split.feature for split in splits(MDTree().fit(with_hole, y).tree_)]
    assert names
    assert "x0" not in names


@pytest.mark.parametrize("shape", [None, "temperature"])
def test_answers_are_those_of_the_walk(shape):
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.exponential(size=(120, 3)), columns=list(SHAPES["temperature"].features()))
    y = rng.choice(SHAPES["temperature"].labels(), 120)
    tree = MDTree(shape).fit(X, y)
    X = X.mask(rng.random(X.shape) < 0.2)
    for row, answer, shares, leaf in zip(
        X.to_dict("records"), tree.predict(X), tree.predict_proba(X), tree.apply(X), strict=True
    ):
        walked = walk(tree.tree_, row)
        heaviest = max(walked.leaves, key=lambda pair: pair[1])[0]
        if len(walked.leaves) == 1:
            assert (heaviest.label, heaviest.index) == (answer, leaf)
        mixed = dict.fromkeys(tree.classes_, 0.0)
        for end, weight in walked.leaves:
            for name in tree.classes_:
                mixed[name] += weight * end.counts[name] / sum(end.counts.values())
        assert shares == pytest.approx([mixed[name] for name in tree.classes_])


def test_a_shape_is_named_fitted_and_keeps_its_answers():
    """Every leaf but the first holds one row or two, and the thresholds between them are found."""
    X = pd.DataFrame(
        {
            "cka": [0.9] * 6,  # not asked for, ignored
            "hessian_trace": np.exp([8.0, 8, 8, 5, 5, 8]),
            "connectivity_peak_percent": [0.0, 0, 3, 25, 25, 25],
            "train_error_percent": [0.0, 0.0, 30, 30, 30, 30],
        }
    )
    y = ["temperature_too_low"] * 2 + ["temperature_too_high"] * 3 + ["temperature_too_low"]
    tree = MDTree("temperature").fit(X, y)
    assert tree.score(X, y) == 1
    assert tree.classes_.tolist() == ["temperature_too_high", "temperature_too_low"]
    assert tree.thresholds_.keys() == {"t0", "t1", "t2"}
    assert [s.threshold for s in splits(tree.tree_)] == list(tree.thresholds_.values())
    np.testing.assert_array_equal(MDTree(SHAPES["temperature"]).fit(X, y).predict(X), y)
    # the shape's answers are classes also where the sample holds only one of them
    one = MDTree("temperature").fit(X.iloc[:2], y[:2])
    assert one.classes_.tolist() == ["temperature_too_high", "temperature_too_low"]
    assert one.predict(X.iloc[:2]).tolist() == y[:2]
    np.testing.assert_allclose(one.predict_proba(X).sum(axis=1), 1.0)


def test_an_answer_of_a_shape_stands_against_its_training_rows():
    """Errors above every permitted t0 and no barrier at all: hot by its shape, whatever the labels say."""
    X = pd.DataFrame({name: [0.0, 0.0] for name in SHAPES["temperature"].features()}).assign(train_error_percent=50.0)
    tree = MDTree("temperature").fit(X, ["temperature_too_low"] * 2)
    assert tree.predict(X).tolist() == ["temperature_too_high"] * 2
    np.testing.assert_allclose(tree.predict_proba(X), [[0, 1], [0, 1]])


def test_an_empty_leaf_of_a_shape_trusts_its_label():
    X = pd.DataFrame({name: [0.5, 0.6] for name in SHAPES["temperature"].features()})
    tree = MDTree("temperature").fit(X, ["temperature_too_low"] * 2)
    hot = X.assign(train_error_percent=50.0, connectivity_peak_percent=0.0)
    assert tree.predict(hot).tolist() == ["temperature_too_high"] * 2
    np.testing.assert_allclose(tree.predict_proba(hot), [[1, 0], [1, 0]])


def test_class_weights_and_priors_reach_the_thresholds():
    X = pd.DataFrame({name: np.full(9, 0.5) for name in SHAPES["temperature"].features()})
    X["train_error_percent"] = [0.1, 0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9]
    y = ["temperature_too_low", *["temperature_too_high"] * 4, *["temperature_too_low"] * 4]
    X["connectivity_peak_percent"] = [0.0] * 9  # below every cut: hot unless the error is small
    low, high = "temperature_too_low", "temperature_too_high"
    assert MDTree("temperature", class_weight={low: 1, high: 9}).fit(X, y).thresholds_["t0"] < 0.2
    assert MDTree("temperature", class_weight={low: 9, high: 1}).fit(X, y).thresholds_["t0"] >= 0.9
    firm = GaussianPrior(0.5, 0.1, strength=1e3)
    assert 0.2 <= MDTree("temperature", prior={"t0": firm}).fit(X, y).thresholds_["t0"] < 0.9


def test_names_come_from_the_table_or_are_given():
    X, y = np.array([[1.0], [2.0]]), ["a", "b"]
    stump = MDTree(min_samples_leaf=1)
    assert stump.fit(X, y).tree_.feature == "x0"
    assert clone(stump).set_params(feature_names=["cka"]).fit(X, y).tree_.feature == "cka"
    assert stump.fit(pd.DataFrame(X, columns=["cka"]), y).tree_.feature == "cka"
    assert "cka <= 1.41421?" in text(stump.tree_)


def test_a_search_may_choose_between_shapes():
    rng = np.random.default_rng(4)
    X = pd.DataFrame(rng.exponential(size=(60, 4)), columns=[*SHAPES["temperature"].features(), "cka"])
    y = rng.choice(SHAPES["temperature"].labels(), 60)
    search = GridSearchCV(MDTree(), {"shape": ["temperature", SHAPES["temperature_cka"], None]}, cv=3).fit(X, y)
    assert 0 < search.best_score_ < 1


def test_a_zoo_of_three_thousand_rows_takes_a_moment():
    rng = np.random.default_rng(5)
    X, y = np.exp(rng.normal(size=(3000, 25))), rng.choice(list("abcde"), 3000)
    start = time.perf_counter()
    MDTree(class_weight="balanced").fit(X, y)
    assert time.perf_counter() - start < 2  # measured: 0.055 s


def test_equal_input_gives_equal_trees_in_any_order_of_rows():
    rng = np.random.default_rng(6)
    X, y = noisy(rng)
    order = rng.permutation(len(y))
    assert MDTree().fit(X, y).tree_ == MDTree().fit(X[order], y[order]).tree_


XY = np.arange(12.0).reshape(6, 2), list("aabbab")


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        (MDTree(shape="depth"), "shape 'depth'; expected a Shape, None or one of temperature, temperature_cka"),
        (MDTree(shape="temperature"), "holds none of the answers of shape temperature"),
        (MDTree(max_depth=17), "max_depth=17; expected a whole number of at least 0 and at most 16"),
        (MDTree(max_leaves=0), "max_leaves=0"),
        (MDTree(min_samples_leaf=0.1), "min_samples_leaf=0.1"),
        (MDTree(criterion="mse"), "criterion 'mse'"),
        (MDTree(midpoint="middle"), "midpoint 'middle'"),
        (MDTree(class_weight="fair"), "class_weight 'fair'"),
        (MDTree(class_weight={"a": -1.0}), "factors of 0 or more"),
        (MDTree(feature_names=["p"]), "2 different names"),
        (MDTree(feature_names=["p", "p"]), "2 different names"),
        (MDTree(prior={"t0": GaussianPrior(1, 1)}), "a prior without a shape"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(tree, complaint):
    with pytest.raises(InputError, match=complaint):
        tree.fit(*XY)


def test_a_shape_needs_its_metrics_measured():
    X = pd.DataFrame({name: [1.0, math.nan] for name in SHAPES["temperature"].features()})
    y = list(SHAPES["temperature"].labels())
    with pytest.raises(InputError, match="column train_error_percent, row 1: nan"):
        MDTree("temperature").fit(X, y)
    with pytest.raises(InputError, match="no column hessian_trace"):
        MDTree("temperature").fit(X.drop(columns="hessian_trace"), y)
    with pytest.raises(InputError, match=r"feature_names \['p', 'q', 'r'\]; expected the columns of X"):
        MDTree("temperature", feature_names=["p", "q", "r"]).fit(X, y)


@pytest.mark.parametrize(
    ("weight", "complaint"), [([1.0], "shape"), ([-1.0] + [1.0] * 5, "negative"), ([0.0] * 6, "every")]
)
def test_weights_that_make_no_sense_are_refused(weight, complaint):
    with pytest.raises(InputError, match=complaint):
        MDTree().fit(*XY, sample_weight=weight)


def test_an_unfitted_tree_says_so():
    with pytest.raises(NotFittedError):
        MDTree().predict([[1.0]])


def test_growth_uses_label_weights_for_the_choice_and_plain_weights_for_the_record():
    rows = TrainingRows(
        X=np.array([[1.0], [1.0], [2.0], [2.0]]),
        codes=np.array([0, 0, 0, 1]),
        weight=np.ones(4),
        label_weight=np.array([1.0, 5.0]),
        features=("x",),
        labels=("a", "b"),
    )
    root = grow(rows, GrowthRules(min_samples_leaf=1))
    assert isinstance(root, Split)
    assert root.share_left == 0.5
    assert root.right == Leaf("b", {"a": 1.0, "b": 1.0}, 1)


GAINS = {"a": np.array([1.0, 1.0, 0.2, 0.2, 0.0, 0.0]), "b": np.array([0.0, 0.0, 0.9, 0.9, 1.0, 1.0])}
POLICY_X, POLICY_Y = np.arange(6.0)[:, None], np.array(["a", "a", "a", "a", "b", "b"])


def test_gains_make_a_policy_tree_that_answers_with_its_leaves():
    tree = MDTree(max_depth=1, max_leaves=2, min_samples_leaf=1, starts=3).fit(POLICY_X, POLICY_Y, gains=GAINS)
    assert 1 < tree.tree_.threshold < 2
    assert tree.predict(POLICY_X).tolist() == ["a", "a", "b", "b", "b", "b"]
    assert tree.predict_proba(np.array([[3.0]]))[0, 0] == 0.5  # half of the rows there are labelled a all the same


def test_rows_without_weight_take_their_gains_with_them():
    weight = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    tree = MDTree(max_depth=1, max_leaves=2, min_samples_leaf=1, starts=1)
    gains = {"a": np.array([1.0, 1.0, 5.0, 5.0, 0.0, 0.0]), "b": np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])}
    tree.fit(POLICY_X, POLICY_Y, sample_weight=weight, gains=gains)
    assert tree.predict(np.array([[0.0], [5.0]])).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("tree", "gains", "message"),
    [
        (MDTree(starts=1), {"c": np.ones(6)}, "labels of y"),
        (MDTree(starts=1), {"a": np.ones(5)}, "6 rows"),
        (MDTree(starts=1), {"a": np.full(6, np.nan)}, "finite"),
        (MDTree(), GAINS, "not refined"),
    ],
)
def test_gains_that_do_not_fit_are_refused(tree, gains, message):
    with pytest.raises(InputError, match=message):
        tree.fit(POLICY_X, POLICY_Y, gains=gains)


def test_the_posterior_wants_priors_with_a_distribution():
    shape = Shape("s", ShapeSplit("t0", "x0", "a", "b", start=0.0))
    with pytest.raises(InputError, match="GaussianPrior"):
        MDTree(shape=shape, sharpness=0.5, prior={"t0": lambda t: -t}).fit(POLICY_X, POLICY_Y)
