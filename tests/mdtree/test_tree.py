"""Trees as data: a walk to follow by hand, a text that decides alike, JSON that is read with suspicion."""

from __future__ import annotations

import copy
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdtree.cut_points import cut_point, format_threshold
from mdtree.errors import InputError
from mdtree.tree import (
    Leaf,
    Split,
    Step,
    depth,
    from_dict,
    leaf_weights,
    leaves,
    populated,
    splits,
    text,
    to_dict,
    walk,
)

COLD = Leaf("temperature_too_low", {"temperature_too_low": 30.0, "temperature_too_high": 2.0}, 0)
HOT = Leaf("temperature_too_high", {"temperature_too_low": 1.0, "temperature_too_high": 40.0}, 1)
SHARP = Leaf("temperature_too_low", {"temperature_too_low": 27.0, "temperature_too_high": 0.0}, 2)
TREE = Split(
    "train_error_percent", 0.5, COLD, Split("connectivity_barrier_percent", 2.0, HOT, SHARP, share_left=0.5), 0.25
)


def test_a_value_equal_to_the_threshold_goes_left():
    assert walk(TREE, {"train_error_percent": 0.5}).leaves == ((COLD, 1.0),)
    above = math.nextafter(0.5, 1)
    assert walk(TREE, {"train_error_percent": above, "connectivity_barrier_percent": 2.0}).leaves == ((HOT, 1.0),)


def test_the_path_holds_every_question_asked_in_order():
    walked = walk(
        TREE,
        {"train_error_percent": 4.0, "connectivity_barrier_percent": 1.0, "cka": 0.9},
        {"train_error_percent": 0.2, "connectivity_barrier_percent": 0.6},
    )
    assert walked.leaves == ((HOT, 1.0),)
    assert walked.path == (
        Step("train_error_percent", 4.0, 0.2, 0.5, "right", 0.75, straddles=False),
        Step("connectivity_barrier_percent", 1.0, 0.6, 2.0, "left", 0.5, straddles=True),
    )


@pytest.mark.parametrize("missing", [{}, {"train_error_percent": math.nan}, {"train_error_percent": None}])
def test_a_missing_metric_sends_the_walk_down_both_branches(missing):
    walked = walk(TREE, {**missing, "connectivity_barrier_percent": 3.0}, {"train_error_percent": 0.1})
    assert walked.leaves == ((COLD, 0.25), (SHARP, 0.75))
    assert walked.path[0] == Step("train_error_percent", None, None, 0.5, "both", 1.0, straddles=False)
    assert [step.side for step in walked.path] == ["both", "right"]


def test_with_nothing_known_every_leaf_has_its_share():
    reached = {leaf.index: weight for leaf, weight in walk(TREE, {}).leaves}
    assert reached == {0: 0.25, 1: 0.375, 2: 0.375}


def test_a_branch_no_training_row_took_is_not_entered_without_a_reason():
    assert walk(Split("cka", 0.5, COLD, HOT, share_left=1.0), {}).leaves == ((COLD, 1.0),)
    assert walk(Split("cka", 0.5, COLD, HOT, share_left=0.0), {}).leaves == ((HOT, 1.0),)


@pytest.mark.parametrize(
    ("value", "error", "straddles"),
    [(1.0, 0.5 / 1.96 + 1e-9, True), (1.0, 0.5 / 1.96 - 1e-9, False), (0.5, 0.0, False), (0.4, math.nan, False)],
)
def test_a_value_straddles_within_1_96_standard_errors(value, error, straddles):
    assert walk(TREE, {"train_error_percent": value}, {"train_error_percent": error}).path[0].straddles is straddles


def test_leaves_and_splits_come_in_reading_order():
    assert leaves(TREE) == (COLD, HOT, SHARP)
    assert [split.feature for split in splits(TREE)] == ["train_error_percent", "connectivity_barrier_percent"]
    assert (depth(TREE), depth(COLD)) == (2, 0)


numbers = st.one_of(st.none(), st.just(math.nan), st.floats(-5, 5), st.sampled_from([0.5, 2.0]))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_many_rows_at_once_are_walked_like_one(rows):
    names = ("train_error_percent", "connectivity_barrier_percent")
    columns = {name: np.array([math.nan if row[i] is None else row[i] for row in rows]) for i, name in enumerate(names)}
    weights = leaf_weights(TREE, columns, len(rows))
    for row, got in zip(rows, weights, strict=True):
        want = np.zeros(3)
        for leaf, weight in walk(TREE, dict(zip(names, row, strict=True))).leaves:
            want[leaf.index] = weight
        np.testing.assert_allclose(got, want, atol=1e-15)


def test_an_absent_column_is_a_missing_metric():
    np.testing.assert_allclose(
        leaf_weights(TREE, {"connectivity_barrier_percent": np.array([3.0])}, 1), [[0.25, 0, 0.75]]
    )


def test_counts_and_shares_are_taken_from_the_rows_given():
    columns = {
        "train_error_percent": np.array([0.1, 0.5, 1.0, 2.0]),
        "connectivity_barrier_percent": np.array([9.0, 9.0, 2.0, 1.0]),
    }
    filled = populated(TREE, columns, ["a", "b", "b", "b"], np.array([1.0, 2.0, 3.0, 4.0]))
    assert [leaf.counts for leaf in leaves(filled)] == [{"a": 1, "b": 2}, {"a": 0, "b": 7}, {"a": 0, "b": 0}]
    assert [split.share_left for split in splits(filled)] == pytest.approx([0.3, 1.0])
    assert [leaf.label for leaf in leaves(filled)] == [leaf.label for leaf in leaves(TREE)]


def test_a_split_no_row_reached_divides_evenly():
    columns = {"train_error_percent": np.array([0.1]), "connectivity_barrier_percent": np.array([9.0])}
    assert [s.share_left for s in splits(populated(TREE, columns, ["a"], np.ones(1)))] == [1.0, 0.5]


def test_the_text_shows_questions_answers_and_counts():
    assert text(TREE).splitlines() == [
        "train_error_percent <= 0.5?",
        "yes: temperature_too_low  [leaf 0: temperature_too_low 30, temperature_too_high 2]",
        "no:  connectivity_barrier_percent <= 2?",
        "  yes: temperature_too_high  [leaf 1: temperature_too_low 1, temperature_too_high 40]",
        "  no:  temperature_too_low  [leaf 2: temperature_too_low 27]",
    ]
    assert text(Leaf("healthy")) == "healthy  [leaf 0: no training rows]"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_printed_threshold_is_the_one_that_decides(threshold):
    printed = re.search(r"<= (\S+)\?", text(Split("cka", threshold, COLD, HOT)))
    assert printed is not None
    assert float(printed[1]) == threshold


def test_thresholds_print_with_six_digits_where_these_are_exact():
    assert [format_threshold(t) for t in (0.5, 1234.5, 1234567.0, 0.1 + 0.2)] == [
        "0.5",
        "1234.5",
        "1234567.0",
        "0.30000000000000004",
    ]


@pytest.mark.parametrize(
    ("low", "high", "midpoint", "expected"),
    [
        (0.01, 100.0, "geometric", 1.0),
        (0.01, 100.0, "arithmetic", 50.005),
        (0.0, 1.0, "geometric", 0.5),  # no geometric middle at zero
        (-3.0, 1.0, "geometric", -1.0),
        (1.0, 2.0, "geometric", 1.41421),
        (1e308, 1.7e308, "arithmetic", 1.35e308),
    ],
)
def test_a_cut_lies_in_the_middle_of_its_gap(low, high, midpoint, expected):
    assert cut_point(low, high, midpoint) == expected


def test_a_cut_takes_as_many_digits_as_its_gap_needs():
    assert cut_point(1.00000001, 1.00000003) == 1.00000002
    assert cut_point(1.0, 1.0000001) == 1.00000005
    assert cut_point(0.9999999, 1.0) == 0.99999995
    low, high = 1.0, math.nextafter(1.0, 2)
    assert cut_point(low, high) == low


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_cut_keeps_its_gap_apart(a, b):
    low, high = min(a, b), max(a, b)
    if low < high:
        for midpoint in ("geometric", "arithmetic"):
            assert low <= cut_point(low, high, midpoint) < high


def test_json_gives_the_same_tree_back():
    data = to_dict(TREE)
    assert from_dict(data) == TREE
    assert data["right"]["left"] == {"label": "temperature_too_high", "counts": dict(HOT.counts), "index": 1}


def broken(change):
    data = copy.deepcopy(to_dict(TREE))
    change(data)
    return data


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "tree is list"),
        (broken(lambda d: d.update(threshold=math.nan)), "tree.threshold is nan"),
        (broken(lambda d: d.update(threshold=10**400)), "tree.threshold is inf"),
        (broken(lambda d: d.update(threshold="0.5")), "tree.threshold is '0.5'"),
        (broken(lambda d: d.update(threshold=True)), "tree.threshold is True"),
        (broken(lambda d: d.update(share_left=1.5)), "tree.share_left is 1.5"),
        (broken(lambda d: d["right"].update(feature="")), "tree.right.feature is ''"),
        (broken(lambda d: d["right"].pop("left")), "tree.right has the keys"),
        (broken(lambda d: d.update(note="hi")), "tree has the keys"),
        (broken(lambda d: d["left"]["counts"].update(healthy=-1)), "tree.left.counts holds a negative"),
        (broken(lambda d: d["left"].update(counts=[1])), "tree.left.counts is list"),
        (broken(lambda d: d["left"].update(index=1)), "numbered [1, 1, 2]"),
        (broken(lambda d: d["left"].update(index=0.0)), "tree.left.index is 0.0"),
        (broken(lambda d: d["left"].update(label=7)), "tree.left.label is 7"),
    ],
)
def test_json_that_is_no_tree_is_refused_where_it_goes_wrong(data, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        from_dict(data)


def test_a_tree_nested_without_end_is_refused():
    data = {"label": "a", "counts": {}, "index": 0}
    for _ in range(17):
        leaf = {"label": "a", "counts": {}, "index": 0}
        data = {"feature": "cka", "threshold": 0.0, "share_left": 0.5, "left": leaf, "right": data}
    with pytest.raises(InputError, match="nested too deep"):
        from_dict(data)


def test_deciding_needs_no_torch():
    code = "import sys, mdtree.tree, mdtree.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
