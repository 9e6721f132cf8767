"""The exact fitter against trying everything, and its rules for ties, bounds and priors."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from mdtree.best_prefix import BestPrefix, best_prefixes
from mdtree.errors import InputError
from mdtree.tree import SHAPES, GaussianPrior, Shape, ShapeSplit, fit_thresholds, populated, splits, text, walk

LABELS = ("a", "b", "c")


def split(name, feature, left, right, **bounds):
    return ShapeSplit(name, feature, left, right, start=1.0, **bounds)


def random_shape(rng, max_depth):
    """A random shape of at most so many questions in a row, over three metrics and three answers."""
    names = (f"t{number}" for number in itertools.count())

    def node(level):
        if level == max_depth or (level > 0 and rng.random() < 0.25):
            return str(rng.choice(LABELS))
        bounds = {"low": 0.5, "high": 2.0} if rng.random() < 0.3 else {}
        return split(next(names), f"x{rng.integers(3)}", node(level + 1), node(level + 1), **bounds)

    return Shape("random", node(0))


def candidates(split_, column):
    """One threshold in every gap between (and beyond) the training values that holds a number within the bounds."""
    values = [-math.inf, *np.unique(column), math.inf]
    found = []
    for low, high in itertools.pairwise(values):
        low, high = max(low, split_.low, -1e3), min(high, split_.high, 1e3)
        if low < high or (low == high and low == split_.high):
            found.append(low if low == high else (low + high) / 2)
    return found


def brute_force(node, columns, labels, weight, rows):
    """Best score of a shape by trying every threshold of every question on every set of rows."""
    if isinstance(node, str):
        return float(weight[rows & (labels == node)].sum())
    column = columns[node.feature]
    return max(
        brute_force(node.left, columns, labels, weight, rows & (column <= t))
        + brute_force(node.right, columns, labels, weight, rows & (column > t))
        for t in candidates(node, column)
    )


def walked_score(tree, columns, labels, weight):
    score = 0.0
    for i, label in enumerate(labels):
        ((leaf, _),) = walk(tree, {name: column[i] for name, column in columns.items()}).leaves
        score += weight[i] * (leaf.label == label)
    return score


@pytest.mark.parametrize("seed", range(200))
def test_the_search_finds_what_trying_everything_finds(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 13))
    shape = random_shape(rng, max_depth=1 + seed % 3)
    levels = int(rng.integers(2, 8))  # few levels: many equal values
    columns = {f"x{i}": rng.integers(0, levels, n) / 2 for i in range(3)}
    labels = rng.choice(LABELS, n)
    weight = rng.integers(0, 4, n) + 1.0 if seed % 2 else rng.exponential(size=n)
    fit = fit_thresholds(shape, columns, labels, weight)
    everything = brute_force(shape.root, columns, labels, weight, np.ones(n, dtype=bool))
    assert fit.score == pytest.approx(everything, abs=1e-9)
    assert walked_score(fit.tree, columns, labels, weight) == pytest.approx(everything, abs=1e-9)
    for s in shape.splits():
        assert s.low <= fit.thresholds[s.name] <= s.high


@pytest.mark.parametrize("seed", range(20))
def test_with_a_prior_the_score_is_hits_plus_log_density(seed):
    """Brute force over the product of all gaps' middles, which are unit steps here."""
    rng = np.random.default_rng(seed)
    n = 8
    columns = {f"x{i}": rng.integers(1, 5, n).astype(float) for i in range(3)}
    labels = rng.choice(LABELS[:2], n)
    shape = Shape("three", split("t0", "x0", "a", split("t1", "x1", split("t2", "x2", "b", "a"), "b")))
    prior = {
        "t0": GaussianPrior(2.0, 0.7, scale="linear", strength=1.5),
        "t1": GaussianPrior(3.0, 0.5, scale="log"),
        "t2": lambda t: np.where(t > 3.2, -math.inf, 0.0),
    }
    fit = fit_thresholds(shape, columns, labels, prior=prior, midpoint="arithmetic")

    def middles(column):
        v = np.unique(column)
        ends = (v[0] - (v[1] - v[0]), *v, v[-1] + (v[-1] - v[-2])) if v.size > 1 else (v[0] - 1, v[0], v[0] + 1)
        return [(a + b) / 2 for a, b in itertools.pairwise(ends)]

    best = -math.inf
    for cuts in itertools.product(*(middles(columns[f"x{i}"]) for i in range(3))):
        thresholds = {f"t{i}": cut for i, cut in enumerate(cuts)}
        bonus = sum(float(np.sum(prior[name](np.array([t])))) for name, t in thresholds.items())
        best = max(best, bonus + walked_score(shape.tree_at(thresholds), columns, labels, np.ones(n)))
    assert fit.score == pytest.approx(best, abs=1e-9)
    again = sum(float(prior[name](np.array([t]))[0]) for name, t in fit.thresholds.items())
    assert walked_score(fit.tree, columns, labels, np.ones(n)) + again == pytest.approx(best, abs=1e-4)


def test_a_tie_is_cut_in_the_middle_of_its_longest_run():
    """Answers a | b. Rows 1 and 2 are a, 100 and 200 are b: every cut in (2, 100) is best, its middle is sqrt(200)."""
    shape = Shape("one", split("t", "x", "a", "b"))
    x, y = np.array([1.0, 2.0, 100.0, 200.0]), ["a", "a", "b", "b"]
    assert fit_thresholds(shape, {"x": x}, y).thresholds == {"t": 14.1421}
    assert fit_thresholds(shape, {"x": x}, y, midpoint="arithmetic").thresholds == {"t": 51.0}
    # a row of another label between them changes nothing, so the two gaps beside it are one run
    x, y = np.array([1.0, 2.0, 3.0, 100.0]), ["a", "a", "c", "b"]
    assert fit_thresholds(shape, {"x": x}, y).thresholds == {"t": 14.1421}
    # best below 2 (one gap) and from 4 on (three gaps: below 8, below 16, beyond): the longer run counts
    x, y = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), ["a", "b", "a", "c", "c"]
    assert fit_thresholds(shape, {"x": x}, y).thresholds == {"t": pytest.approx(math.sqrt(4 * 32), rel=1e-5)}


def test_sums_that_differ_by_rounding_are_ties():
    """Passing x = 3 trades 0.8 + 1.6 for 2.4: every threshold is as good, so the middle of all gaps is 3."""
    x, y, weight = np.array([1.0, 3.0, 3.0, 3.0, 9.0]), list("cabbc"), np.array([1.0, 2.4, 0.8, 1.6, 1.0])
    assert fit_thresholds(Shape("one", split("t", "x", "a", "b")), {"x": x}, y, weight).thresholds == {"t": 3.0}


def test_a_tie_is_resolved_from_the_first_question_down():
    """Which thresholds of the first question still reach the best score, given that the second may help?"""
    shape = Shape("two", split("t0", "x0", "a", split("t1", "x1", "b", "a")))
    x0, x1 = np.array([1.0, 2.0, 3.0, 4.0]), np.array([8.0, 7.0, 1.0, 2.0])
    fit = fit_thresholds(shape, {"x0": x0, "x1": x1}, ["a", "a", "b", "b"], midpoint="arithmetic")
    # t0: below 1 and between 1 and 2 x1 can still rescue the row, up to 3 all is well: the run spans (0, 3)
    assert fit.thresholds["t0"] == 1.5
    # t1 then must part {7} from {1, 2}
    assert fit.thresholds["t1"] == 4.5
    assert fit.score == 4


def test_outermost_gaps_reach_to_the_bounds_or_as_far_as_their_neighbours():
    x = {"x": np.array([4.0, 8.0])}
    free, bound = Shape("free", split("t", "x", "a", "b")), Shape("bound", split("t", "x", "a", "b", low=1.0, high=9.0))
    assert fit_thresholds(free, x, ["a", "a"]).thresholds == {"t": pytest.approx(math.sqrt(8 * 16), rel=1e-5)}
    assert fit_thresholds(free, x, ["b", "b"]).thresholds == {"t": pytest.approx(math.sqrt(2 * 4), rel=1e-5)}
    assert fit_thresholds(bound, x, ["a", "a"]).thresholds == {"t": pytest.approx(math.sqrt(8 * 9), rel=1e-5)}
    assert fit_thresholds(bound, x, ["b", "b"]).thresholds == {"t": 2.0}
    assert fit_thresholds(free, {"x": np.array([3.0])}, ["a"]).thresholds == {
        "t": pytest.approx(math.sqrt(18), rel=1e-5)
    }


def test_bounds_hold_where_a_better_threshold_lies_beyond_them():
    shape = Shape("one", split("t", "x", "a", "b", low=0.5, high=1.5))
    fit = fit_thresholds(shape, {"x": np.array([1.0, 2.0, 3.0])}, ["a", "a", "b"], midpoint="arithmetic")
    assert fit.thresholds == {"t": 1.25}
    assert fit.score == 2


def test_bounds_that_pin_a_threshold_leave_it_there():
    shape = Shape("one", split("t", "x", "a", "b", low=1.0, high=1.0))
    assert fit_thresholds(shape, {"x": np.array([1.0, 2.0])}, ["b", "a"]).thresholds == {"t": 1.0}


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(5)
    columns = {name: rng.exponential(size=60) for name in SHAPES["data"].features()}
    labels, weight = rng.choice(SHAPES["data"].labels(), 60), rng.exponential(size=60)
    first = fit_thresholds(SHAPES["data"], columns, labels, weight)
    order = rng.permutation(60)
    again = fit_thresholds(SHAPES["data"], {k: v[order] for k, v in columns.items()}, labels[order], weight[order])
    assert again.tree == first.tree


def test_rescaling_a_positive_metric_rescales_its_threshold_only():
    """Geometric middles: the fit on a power of a metric is the power of the fit."""
    rng = np.random.default_rng(6)
    x = np.exp(rng.normal(size=40) * 3)
    labels = np.where(x * np.exp(rng.normal(size=40)) > 1, "b", "a")
    shape = Shape("one", split("t", "x", "a", "b"))
    t = fit_thresholds(shape, {"x": x}, labels).thresholds["t"]
    assert fit_thresholds(shape, {"x": x**2}, labels).thresholds["t"] == pytest.approx(
        t**2, rel=2e-5
    )  # six digits each


def test_a_good_paper_shape_is_found_again():
    """Rows made by a tree are fitted without error, and the printed tree is the tree."""
    rng = np.random.default_rng(7)
    columns = {
        "train_error_percent": rng.exponential(0.6, 300),
        "connectivity_peak_percent": rng.uniform(0, 30, 300),
        "hessian_trace": np.exp(rng.uniform(4, 9, 300)),
    }
    shape = SHAPES["data"]
    made = shape.tree({"t1": 12.0, "t2": math.exp(5), "t4": math.exp(8)})
    row = [{name: column[i] for name, column in columns.items()} for i in range(300)]
    labels = np.array([walk(made, values).leaves[0][0].label for values in row])
    fit = fit_thresholds(shape, columns, labels)
    assert fit.score == 300
    assert fit.thresholds["t1"] == pytest.approx(12.0, abs=0.5)
    assert fit.thresholds["t4"] == pytest.approx(math.exp(8), rel=0.1)
    assert "train_error_percent" in text(populated(fit.tree, columns, labels, np.ones(300)))
    assert all(s.threshold == float(f"{s.threshold:.6g}") for s in splits(fit.tree))


def test_several_hundred_rows_take_a_moment_only():
    rng = np.random.default_rng(8)
    columns = {name: rng.exponential(size=400) for name in SHAPES["data"].features()}
    labels = rng.choice(SHAPES["data"].labels(), 400)
    start = time.perf_counter()
    fit_thresholds(SHAPES["data"].without_bounds(), columns, labels)
    assert time.perf_counter() - start < 5  # measured: 0.06 s; the naive search takes hours


def test_lanes_beyond_one_batch_agree_with_those_within(monkeypatch):
    rng = np.random.default_rng(9)
    columns = {name: rng.exponential(size=50) for name in SHAPES["temperature"].features()}
    labels = rng.choice(SHAPES["temperature"].labels(), 50)
    whole = fit_thresholds(SHAPES["temperature"].without_bounds(), columns, labels)
    monkeypatch.setattr("mdtree.threshold_search._LANES", 7)
    assert fit_thresholds(SHAPES["temperature"].without_bounds(), columns, labels) == whole


@pytest.mark.parametrize("positions", [1, 2, 3, 5, 8])
def test_best_prefix_follows_additions(positions):
    rng = np.random.default_rng(positions)
    bonus = rng.normal(size=positions + 1)
    bonus[rng.integers(1, positions + 1)] = -math.inf
    kept, values = BestPrefix(bonus, 2), np.zeros((positions, 2))
    for _ in range(20):
        position, value = int(rng.integers(positions)), rng.normal(size=2)
        kept.add(position, value)
        values[position] += value
        prefix = np.vstack([np.zeros(2), np.cumsum(values, axis=0)])
        np.testing.assert_allclose(kept.best, (bonus[:, None] + prefix).max(axis=0), atol=1e-12)


@pytest.mark.parametrize("dense_numbers", [0, 2000])
def test_the_best_prefix_after_each_addition_is_told_either_way(monkeypatch, dense_numbers):
    monkeypatch.setattr("mdtree.best_prefix._DENSE_NUMBERS", dense_numbers)
    rng = np.random.default_rng(3)
    bonus = np.array([-math.inf, 0.5, 0.0, -math.inf, 1.0, -2.0])
    positions, added = rng.integers(5, size=12), rng.normal(size=(12, 3))
    history = best_prefixes(bonus, positions, added)
    values = np.zeros((5, 3))
    for number in range(13):
        if number:
            values[positions[number - 1]] += added[number - 1]
        prefix = np.vstack([np.zeros(3), np.cumsum(values, axis=0)])
        np.testing.assert_allclose(history[number], (bonus[:, None] + prefix).max(axis=0), atol=1e-12)


def test_no_additions_leave_the_best_bonus():
    nothing = best_prefixes(np.array([0.0, 2.0]), np.zeros(0, dtype=int), np.zeros((0, 4)))
    np.testing.assert_array_equal(nothing, np.full((1, 4), 2.0))


ONE = Shape("one", split("t", "x", "a", "b"))
DEEP = Shape("deep", split("0", "x", "a", split("1", "x", "a", split("2", "x", "a", split("3", "x", "a", "b")))))
X = {"x": np.array([1.0, 2.0])}


@pytest.mark.parametrize(
    ("shape", "columns", "labels", "options", "complaint"),
    [
        (DEEP, X, "ab", {}, "asks 4 questions in a row; expected at most 3"),
        (ONE, {"x": np.array([1.0, math.nan])}, "ab", {}, "column x, row 1: nan"),
        (ONE, {"x": np.array([1.0, math.inf])}, "ab", {}, "column x, row 1: inf"),
        (ONE, {"y": np.ones(2)}, "ab", {}, "no column x"),
        (ONE, X, "abc", {}, "3 values, one per label"),
        (ONE, X, "ab", {"weight": np.array([1.0, -1.0])}, "one finite weight >= 0"),
        (ONE, X, "ab", {"weight": np.zeros(2)}, "not all of them 0"),
        (ONE, X, "ab", {"prior": {"u": GaussianPrior(1, 1)}}, "prior for u"),
        (ONE, X, "ab", {"prior": {"t": lambda t: t * math.nan}}, "the prior of threshold t gave"),
        (ONE, X, "ab", {"prior": {"t": lambda t: t * 0 - math.inf}}, "threshold t has no permitted value"),
        (ONE, X, "ab", {"midpoint": "harmonic"}, "midpoint 'harmonic'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(shape, columns, labels, options, complaint):
    with pytest.raises(InputError, match=complaint):
        fit_thresholds(shape, columns, list(labels), **options)


@pytest.mark.parametrize(
    "arguments", [{"spread": 0.0}, {"strength": -1.0}, {"centre": math.nan}, {"centre": 0.0}, {"scale": "sqrt"}]
)
def test_a_prior_that_is_no_density_is_refused(arguments):
    with pytest.raises(InputError):
        GaussianPrior(**{"centre": 1.0, "spread": 1.0, **arguments})


def test_a_gaussian_prior_is_a_normal_log_density():
    t = np.array([0.0, 1.0, math.e])
    np.testing.assert_allclose(GaussianPrior(1.0, 0.5)(t), [-math.inf, 0.0, -2.0])
    np.testing.assert_allclose(GaussianPrior(1.0, 0.5, "linear", strength=3.0)(t)[:2], [-6.0, 0.0])
    np.testing.assert_array_equal(GaussianPrior(1.0, 0.5, strength=0.0)(t), np.zeros(3))
