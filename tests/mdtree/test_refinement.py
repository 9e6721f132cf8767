"""Refining a tree as a whole: never worse, better where greed fails, and honest about missing metrics."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_wine

from mdtree.growth import GrowthRules, TrainingRows, grow
from mdtree.nodes import Leaf, Split, depth, leaf_weights, leaves, splits
from mdtree.refinement import _best_cut, grow_refined, refine, right_weight


def rows_of(X, y, label_weight=None):
    names, codes = np.unique(np.asarray(y, dtype=str), return_inverse=True)
    return TrainingRows(
        np.asarray(X, dtype=float),
        codes,
        np.ones(len(codes)),
        np.ones(len(names)) if label_weight is None else np.asarray(label_weight, dtype=float),
        tuple(f"m{i}" for i in range(np.shape(X)[1])),
        tuple(names.tolist()),
    )


def noisy_rows(seed, missing=0.0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((150, 5))
    y = np.where(X[:, 0] * X[:, 1] > 0, "a", np.where(X[:, 2] > 0.3, "b", "c"))
    y = np.where(generator.random(150) < 0.15, generator.choice(["a", "b", "c"], 150), y)
    X[generator.random(X.shape) < missing] = np.nan
    return rows_of(X, y, generator.random(3) + 0.5)


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(10))
def test_refining_never_answers_less_rightly_and_keeps_the_rules(seed, missing):
    data, rules = noisy_rows(seed, missing), GrowthRules(max_depth=3, max_leaves=6, merge_leaves=False)
    grown = grow(data, rules)
    refined = refine(grown, data, rules)
    assert right_weight(refined, data) >= right_weight(grown, data) * (1 - 1e-9)
    assert depth(refined) <= 3
    assert len(leaves(refined)) <= 6


def test_it_finds_the_exclusive_or_that_greed_cannot_see():
    generator = np.random.default_rng(2)
    X = generator.uniform(-1, 1, (400, 2))
    data = rows_of(X, np.where((X[:, 0] > 0) ^ (X[:, 1] > 0), "odd", "even"))
    rules = GrowthRules(max_depth=2, max_leaves=4)
    assert right_weight(grow(data, rules), data) < 320
    assert right_weight(grow_refined(data, rules, starts=8), data) > 390


def test_the_score_counts_weighted_right_answers():
    data = rows_of([[0.0], [1.0], [2.0], [np.nan]], ["a", "a", "b", "b"], [1.0, 3.0])
    tree = Split("m0", 0.5, Leaf("a", {}, 0), Leaf("b", {}, 1), share_left=0.25)
    # right: row 0 (weight 1), row 2 (weight 3), three quarters of row 3 (weight 3)
    assert right_weight(tree, data) == pytest.approx(1 + 3 + 0.75 * 3)


def test_with_thresholds_only_questions_and_answers_stay():
    data, other = noisy_rows(0), noisy_rows(1)
    tree = grow(data, GrowthRules(merge_leaves=False))
    moved = refine(tree, other, GrowthRules(), thresholds_only=True)
    assert [s.feature for s in splits(moved)] == [s.feature for s in splits(tree)]
    assert [leaf.label for leaf in leaves(moved)] == [leaf.label for leaf in leaves(tree)]
    assert [s.threshold for s in splits(moved)] != [s.threshold for s in splits(tree)]
    assert right_weight(moved, other) > right_weight(tree, other)


def test_counts_and_shares_are_those_of_the_rows():
    data = noisy_rows(3, missing=0.1)
    tree = grow_refined(data, GrowthRules(), starts=3)
    columns = {name: data.X[:, i] for i, name in enumerate(data.features)}
    reached = leaf_weights(tree, columns, len(data.codes))
    for leaf in leaves(tree):
        for code, label in enumerate(data.labels):
            assert leaf.counts[label] == pytest.approx(reached[data.codes == code, leaf.index].sum())
    known = ~np.isnan(columns[tree.feature])
    assert tree.share_left == pytest.approx((columns[tree.feature][known] <= tree.threshold).mean())


def test_sums_of_nothing_do_not_end_the_search():
    """Rounding once made them -1e-17, and then no cut was as good as the best."""
    found = _best_cut(np.arange(20.0), np.ones(20), np.zeros(20), np.full(20, -1e-17), GrowthRules())
    assert found is not None
    assert found[0] == pytest.approx(0.0, abs=1e-15)


def test_branches_without_rows_and_equal_neighbours_go():
    data = rows_of([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"])
    tree = Split(
        "m0",
        1.5,
        Split("m0", -5.0, Leaf("b", {}, 0), Leaf("a", {}, 1)),
        Split("m0", 2.5, Leaf("b", {}, 2), Leaf("b", {}, 3)),
    )
    refined = refine(tree, data, GrowthRules(min_samples_leaf=1))
    assert refined == Split("m0", 1.5, Leaf("a", {"a": 2.0, "b": 0.0}, 0), Leaf("b", {"a": 0.0, "b": 2.0}, 1), 0.5)


def test_more_starts_are_never_worse_and_equal_seeds_give_equal_trees():
    wine = load_wine()
    data = rows_of(wine.data, wine.target)
    rules = GrowthRules(max_depth=2, max_leaves=3)
    scores = [right_weight(grow_refined(data, rules, starts), data) for starts in (1, 4, 12)]
    assert scores == sorted(scores)
    assert grow_refined(data, rules, 12, seed=5) == grow_refined(data, rules, 12, seed=5)


def test_gains_are_followed_where_they_disagree_with_the_labels():
    """Rows 5 to 8 are labelled a, but b is worth more to them."""
    data = rows_of([[float(x)] for x in range(20)], ["a"] * 9 + ["b"] * 11)
    gains = np.zeros((20, 2))
    gains[:9, 0], gains[9:, 1] = 0.1, 1.0
    gains[5:9, 1] = 0.5
    valued = dataclasses.replace(data, gains=gains)
    rules = GrowthRules(max_depth=1, max_leaves=2, min_samples_leaf=1)
    assert 8 < grow_refined(data, rules, starts=2).threshold < 9
    by_gain = grow_refined(valued, dataclasses.replace(rules, criterion="worth"), starts=2)
    assert 4 < by_gain.threshold < 5
    assert right_weight(by_gain, valued) == pytest.approx(5 * 0.1 + 4 * 0.5 + 11 * 1.0)


def test_a_leaf_gives_the_answer_that_is_worth_most_even_if_no_row_has_it_as_label():
    data = rows_of([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "c", "b"])
    gains = np.array([[1.0, 3.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 4.0]])
    tree = Split("m0", 1.5, Leaf("a", {}, 0), Leaf("b", {}, 1))
    refined = refine(tree, dataclasses.replace(data, gains=gains), GrowthRules(min_samples_leaf=1))
    assert [leaf.label for leaf in leaves(refined)] == ["b", "c"]
