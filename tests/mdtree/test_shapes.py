"""The paper's trees in our units: every answer, also on the edge of a threshold, is the paper's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mdtree.errors import InputError
from mdtree.tree import SHAPES, Shape, ShapeSplit, depth, from_dict, leaves, splits, to_dict, walk

LOW, HIGH, MODEL, DATA, OTHER = (
    "temperature_too_low",
    "temperature_too_high",
    "model_too_small",
    "too_little_data",
    "temperature",
)


def paper_temperature(x1, x2, x3, x4, t):
    if x1 <= t[0]:
        return LOW
    if x2 <= t[1]:
        return HIGH if x3 <= t[2] else LOW
    return HIGH


def paper_temperature_cka(x1, x2, x3, x4, t):
    if x1 <= t[0]:
        return LOW
    if x2 <= t[1]:
        return LOW if x4 <= t[2] else HIGH
    return HIGH


def paper_model_size(x1, x2, x3, x4, t):
    if x1 <= t[0]:
        return MODEL if x2 <= t[1] else OTHER
    return MODEL if x2 <= t[2] else OTHER


def paper_data(x1, x2, x3, x4, t):
    if x1 <= t[0]:
        if x2 <= t[1]:
            return DATA if x3 <= t[4] else OTHER
        return DATA if x3 <= t[2] else OTHER
    if x2 <= t[3]:
        return OTHER
    return DATA if x3 <= t[5] else OTHER


# (the paper's rule, its thresholds: train error, minus the peak, logarithm of the trace, CKA); thresholds on one metric
# differ so that a mix-up of two of them shows
PAPER = {
    "temperature": (paper_temperature, (0.5, -10.0, 7.0)),
    "temperature_cka": (paper_temperature_cka, (0.5, -10.0, 0.5)),
    "model_size": (paper_model_size, (0.5, -10.0, -20.0)),
    "data": (paper_data, (0.5, -10.0, 7.0, -20.0, 5.0, 6.0)),
}


def in_our_units(feature, t):
    return {"connectivity_peak_percent": -t, "hessian_trace": math.exp(t)}.get(feature, t)


def around(values):
    return sorted({v for t in values for v in (np.nextafter(t, -np.inf), t, np.nextafter(t, np.inf), t - 1, t + 1)})


@pytest.mark.parametrize("name", PAPER)
def test_a_shape_answers_as_the_paper_does_also_on_its_thresholds(name):
    rule, t = PAPER[name]
    shape = SHAPES[name]
    tree = shape.tree({s.name: in_our_units(s.feature, t[int(s.name[1:])]) for s in shape.splits()})
    rows = itertools.product(around([0.5]), around([10.0, 20.0]), (4.9, 5.0, 5.1, 6.0, 6.1, 7.0, 7.1), around([0.5]))
    answers = set()
    for error, peak, log_trace, cka in rows:
        values = {
            "train_error_percent": error,
            "connectivity_peak_percent": peak,
            "hessian_trace": math.exp(log_trace),
            "cka": cka,
        }
        ((leaf, _),) = walk(tree, values).leaves
        assert leaf.label == rule(error, -peak, log_trace, cka, t), values
        answers.add(leaf.index)
    assert answers == set(range(len(leaves(tree))))


@pytest.mark.parametrize("name", PAPER)
def test_starts_and_bounds_are_the_papers(name):
    starts = {
        "train_error_percent": (0.5, 0, 1),
        "connectivity_peak_percent": (10, 0, 30),
        "hessian_trace": (math.exp(7), math.exp(4), math.exp(9)),
        "cka": (0.5, 0.2, 0.8),
    }
    for split in SHAPES[name].splits():
        assert (split.start, split.low, split.high) == starts[split.feature]


def test_a_shape_knows_its_questions_and_answers():
    shape = SHAPES["data"]
    assert [s.name for s in shape.splits()] == ["t0", "t1", "t2", "t4", "t3", "t5"]
    assert shape.features() == ("train_error_percent", "connectivity_peak_percent", "hessian_trace")
    assert shape.labels() == (OTHER, DATA)
    assert shape.depth() == depth(shape.tree()) == 3
    assert [leaf.index for leaf in leaves(shape.tree())] == list(range(7))


def test_an_unfitted_tree_is_a_tree_like_any_other():
    tree = SHAPES["temperature"].tree({"t1": 5.0})
    assert from_dict(to_dict(tree)) == tree
    assert [s.threshold for s in splits(tree)] == [0.5, math.nextafter(5.0, 0), math.exp(7)]


def test_bounds_can_be_lifted_and_answers_renamed():
    free = SHAPES["model_size"].without_bounds().relabelled({OTHER: "optimizer"})
    assert all((s.low, s.high) == (-math.inf, math.inf) for s in free.splits())
    assert free.labels() == (MODEL, "optimizer")
    assert free.splits()[0].start == 0.5


def test_thresholds_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"no threshold t9; expected some of t0, t1, t2"):
        SHAPES["temperature"].tree({"t9": 1.0})
    with pytest.raises(InputError, match="threshold t0 is nan"):
        SHAPES["temperature"].tree({"t0": math.nan})
    with pytest.raises(InputError, match="a finite start between the bounds"):
        ShapeSplit("t0", "cka", "a", "b", start=2.0, low=0.0, high=1.0)
    with pytest.raises(InputError, match="names that differ"):
        Shape("twice", ShapeSplit("t0", "cka", "a", ShapeSplit("t0", "cka", "a", "b", start=0.5), start=0.4))
