"""Posterior thresholds: against integration by brute force, and what priors and rows each decide."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from mdtree.errors import InputError
from mdtree.nodes import splits
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit
from mdtree.threshold_posterior import posterior_thresholds, right_answers
from mdtree.tree import MDTree


def question(name, feature, left, right, prior):
    return ShapeSplit(name, feature, left, right, start=prior.centre, prior=prior)


LINEAR, LOG = GaussianPrior(0.3, 0.8, "linear"), GaussianPrior(2.0, 0.7)
CHAIN = Shape("chain", question("t0", "u", "a", question("t1", "v", "b", "a", LOG), LINEAR))
BOTH = Shape(
    "both", question("t0", "u", question("t1", "v", "a", "b", LOG), question("t2", "u", "b", "c", LINEAR), LINEAR)
)


def rows(seed, n=14):
    generator = np.random.default_rng(seed)
    columns = {"u": generator.normal(0, 1, n).round(1), "v": generator.lognormal(0.5, 1, n).round(1) + 0.1}
    return columns, generator.choice(["a", "b", "c"], n), generator.uniform(0.2, 2.0, n)


def by_brute_force(shape, columns, worth, sharpness, points=321):
    """Every threshold on a fine grid of its prior's quantiles: root by all the others summed out, then given it."""
    names = [split.name for split in shape.splits()]
    grid = norm.ppf((np.arange(points) + 0.5) / points)  # equal prior mass each
    values = {}
    for split in shape.splits():
        z = split.prior.centre + grid * split.prior.spread
        values[split.name] = (
            z if split.prior.scale == "linear" else split.prior.centre * np.exp(grid * split.prior.spread)
        )

    def score(node, members):
        """Log-weight over this node's threshold grid, everything below summed out, and its children's conditionals."""
        total = np.zeros(points)
        for child, is_left in ((node.left, True), (node.right, False)):
            for k, cut in enumerate(values[node.name]):
                inside = members & ((columns[node.feature] <= cut) == is_left)
                if isinstance(child, str):
                    total[k] += sharpness * worth[child][inside].sum()
                else:
                    below = score(child, inside)
                    total[k] += below.max() + math.log(np.exp(below - below.max()).mean())
        return total

    found = {}

    def read(node, members):
        if isinstance(node, str):
            return
        log = score(node, members)
        cumulative = np.cumsum(np.exp(log - log.max()))
        quantiles = [values[node.name][np.searchsorted(cumulative, q * cumulative[-1])] for q in (0.5, 0.05, 0.95)]
        found[node.name] = quantiles
        left = columns[node.feature] <= quantiles[0]
        read(node.left, members & left)
        read(node.right, members & ~left)

    read(shape.root, np.ones(len(next(iter(columns.values()))), dtype=bool))
    return {name: found[name] for name in names}


@pytest.mark.parametrize("shape", [CHAIN, BOTH], ids=lambda s: s.name)
@pytest.mark.parametrize("seed", range(4))
def test_medians_and_intervals_are_those_of_integration_by_brute_force(shape, seed):
    columns, labels, weight = rows(seed)
    worth = right_answers(labels, weight, shape.labels())
    fit = posterior_thresholds(shape, columns, worth, sharpness=0.8)
    expected = by_brute_force(shape, columns, worth, 0.8)
    for split in shape.splits():

        def scaled(value, prior=split.prior):
            return (math.log(value) if prior.scale == "log" else value) / prior.spread

        median, low, high = (scaled(value) for value in expected[split.name])
        assert scaled(fit.thresholds[split.name]) == pytest.approx(median, abs=0.03)
        # the brute-force grid is coarse in the tails
        assert [scaled(end) for end in fit.intervals[split.name]] == pytest.approx([low, high], abs=0.1)


def test_three_questions_in_a_row_agree_with_brute_force():
    inner = question("t2", "u", "b", "c", LINEAR)
    shape = Shape("deep", question("t0", "v", "a", question("t1", "u", "c", inner, LINEAR), LOG))
    columns, labels, weight = rows(11, n=9)
    worth = right_answers(labels, weight, shape.labels())
    fit = posterior_thresholds(shape, columns, worth, sharpness=0.5)
    expected = by_brute_force(shape, columns, worth, 0.5, points=61)
    assert fit.thresholds["t1"] == pytest.approx(expected["t1"][0], abs=0.1)
    assert fit.thresholds["t2"] == pytest.approx(expected["t2"][0], abs=0.1)


def test_without_rows_that_tell_the_prior_stands_and_says_so():
    columns = {"u": np.array([-1.0, 0.0, 1.0]), "v": np.array([1.0, 2.0, 3.0])}
    worth = {answer: np.zeros(3) for answer in ("a", "b", "c")}
    fit = posterior_thresholds(BOTH, columns, worth, sharpness=1.0)
    assert fit.thresholds == pytest.approx({"t0": 0.3, "t1": 2.0, "t2": 0.3}, rel=1e-6)
    assert not any(fit.identified.values())
    assert fit.intervals["t0"] == pytest.approx((0.3 - 1.6449 * 0.8, 0.3 + 1.6449 * 0.8), abs=1e-3)


def test_many_clear_rows_overrule_the_prior():
    generator = np.random.default_rng(0)
    u = generator.uniform(-3, 3, 400)
    shape = Shape("one", question("t0", "u", "a", "b", GaussianPrior(-2.0, 0.5, "linear")))
    labels = np.where(u <= 1.5, "a", "b")
    fit = posterior_thresholds(shape, {"u": u}, right_answers(labels, np.ones(400), ("a", "b")), sharpness=0.5)
    assert fit.thresholds["t0"] == pytest.approx(1.5, abs=0.1)
    assert fit.identified["t0"]


def test_the_order_of_the_rows_does_not_matter():
    columns, labels, weight = rows(3, n=60)
    order = np.random.default_rng(1).permutation(60)
    straight = posterior_thresholds(BOTH, columns, right_answers(labels, weight, BOTH.labels()), sharpness=0.3)
    shuffled = posterior_thresholds(
        BOTH,
        {name: values[order] for name, values in columns.items()},
        right_answers(labels[order], weight[order], BOTH.labels()),
        sharpness=0.3,
    )
    assert straight.thresholds == pytest.approx(shuffled.thresholds, rel=1e-9)


def test_far_in_a_tail_of_the_prior_the_threshold_still_lies_between_the_rows():
    u = np.concatenate([np.linspace(29, 30, 50), np.linspace(31, 32, 50)])
    shape = Shape("one", question("t0", "u", "a", "b", GaussianPrior(0.0, 1.0, "linear")))
    worth = right_answers(np.where(u < 30.5, "a", "b"), np.full(100, 100.0), ("a", "b"))
    assert 30 <= posterior_thresholds(shape, {"u": u}, worth, sharpness=50.0).thresholds["t0"] <= 31


def test_values_of_zero_on_a_logarithmic_scale_go_left():
    v = np.array([0.0, 0.0, 1.0, 5.0])
    shape = Shape("one", question("t0", "v", "a", "b", GaussianPrior(1.0, 1.0)))
    worth = right_answers(np.array(["a", "a", "b", "b"]), np.full(4, 9.0), ("a", "b"))
    fit = posterior_thresholds(shape, {"v": v}, worth, sharpness=1.0)
    assert 0 < fit.thresholds["t0"] < 1


def test_the_estimator_uses_class_weights_and_keeps_intervals():
    columns, labels, _ = rows(5, n=80)
    X = np.column_stack([columns["u"], columns["v"]])
    tree = MDTree(shape=CHAIN, sharpness=0.5, class_weight={"a": 1.0, "b": 3.0}, feature_names=("u", "v"))
    keep = labels != "c"
    tree.fit(X[keep], labels[keep])
    weight = np.where(labels[keep] == "b", 3.0, 1.0)
    expected = posterior_thresholds(
        CHAIN,
        {name: values[keep] for name, values in columns.items()},
        right_answers(labels[keep], weight, CHAIN.labels()),
        sharpness=0.5,
    )
    assert tree.thresholds_ == expected.thresholds
    assert tree.threshold_intervals_ == expected.intervals
    assert [split.threshold for split in splits(tree.tree_)] == list(expected.thresholds.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharpness": 0.0}, "sharpness"),
        ({"columns": {"u": np.zeros(2)}}, "no column v"),
        ({"columns": {"u": np.array([0.0, math.nan]), "v": np.ones(2)}}, "finite"),
        ({"worth": {"a": np.ones(2)}}, "no worth"),
        ({"prior": {"t9": LOG}}, "t9"),
        ({"shape": Shape("bare", ShapeSplit("t0", "u", "a", "b", start=0.0))}, "no prior"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    given = {"shape": CHAIN, "columns": {"u": np.zeros(2), "v": np.ones(2)}, "sharpness": 1.0,
             "worth": {"a": np.ones(2), "b": np.ones(2)}} | change  # fmt: skip
    with pytest.raises(InputError, match=message):
        posterior_thresholds(
            given["shape"], given["columns"], given["worth"], sharpness=given["sharpness"], prior=given.get("prior")
        )


def test_a_shape_of_more_than_four_questions_in_a_row_is_refused():
    node = "a"
    for number in range(5):
        node = question(f"t{number}", "u", node, "b", LINEAR)
    with pytest.raises(InputError, match="in a row"):
        posterior_thresholds(Shape("deep", node), {"u": np.zeros(1)}, {"a": np.ones(1), "b": np.ones(1)}, sharpness=1.0)


def test_few_cut_points_are_spread_evenly_by_rank():
    generator = np.random.default_rng(7)
    u = generator.normal(size=500)
    shape = Shape("one", question("t0", "u", "a", "b", GaussianPrior(0.0, 1.0, "linear")))
    worth = right_answers(np.where(u <= 0.4, "a", "b"), np.ones(500), ("a", "b"))
    found = [
        posterior_thresholds(shape, {"u": u}, worth, sharpness=0.5, max_cuts=cuts).thresholds["t0"]
        for cuts in (20, 60, 500)
    ]
    assert found == pytest.approx([found[2]] * 3, abs=0.25)
