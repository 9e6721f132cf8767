"""Abstention: distances by hand, probabilities that mean what they say, and a curve that counts rows."""

import math

import numpy as np
import pandas as pd
import pytest

from mdtree.abstention import calibrate, distances, interval_of_share, reliability, risk_coverage
from mdtree.nodes import Leaf, Split, leaves
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit

PRIOR, LOG = GaussianPrior(0.0, 2.0, "linear"), GaussianPrior(1.0, 0.5)
SHAPE = Shape(
    "s",
    ShapeSplit("t0", "x", "low", ShapeSplit("t1", "y", "low", "high", start=1.0, prior=LOG), start=0.0, prior=PRIOR),
)


def test_the_distance_is_to_the_nearest_other_answer():
    tree = Split("x", 1.0, Leaf("low"), Split("y", math.e, Leaf("low"), Leaf("high")))
    columns = {"x": np.array([-3.0, 2.0, 9.0, 1.2]), "y": np.array([math.e**3, math.e**2, 1.0, 1.0])}
    # low, high behind x alone: |-3 - 1| / 2. high, low by x or by y: min(|2 - 1| / 2, |2 - 1| / 0.5).
    # low, high behind y: |0 - 1| / 0.5. low and close to x, but behind it waits the same answer: y again.
    assert distances(tree, SHAPE, columns, 4) == pytest.approx([2.0, 0.5, 2.0, 2.0])


def test_to_reach_another_answer_all_its_questions_must_be_met():
    tree = Split("x", 1.0, Leaf("low"), Split("y", math.e, Leaf("low"), Leaf("high")))
    columns = {"x": np.array([0.0]), "y": np.array([math.exp(-1.0)])}
    assert distances(tree, SHAPE, columns, 1) == pytest.approx([4.0])  # x by 0.5 and y by 4 at once


def test_the_other_answer_may_wait_on_the_left():
    shape = Shape(
        "m",
        ShapeSplit(
            "t0", "x", ShapeSplit("t1", "y", "low", "high", start=1.0, prior=LOG), "low", start=0.0, prior=PRIOR
        ),
    )
    tree = Split("x", 1.0, Split("y", math.e, Leaf("low"), Leaf("high")), Leaf("low"))
    columns = {"x": np.array([2.0, 2.0]), "y": np.array([math.exp(-1.0), math.e**3])}
    assert distances(tree, shape, columns, 2) == pytest.approx([4.0, 0.5])  # x by 0.5, and y by 4 or not at all


def noisy_table(seed, n=3000):
    """Labels whose chance of being wrong falls with the distance from x = 0."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 3, n)
    y = np.exp(generator.normal(3.0, 0.1, n))
    certain = 1 - 0.5 * np.exp(-np.abs(x))
    clear = np.where(x > 0, "high", "low")
    other = np.where(x > 0, "low", "high")
    return pd.DataFrame({"x": x, "y": y}), np.where(generator.random(n) < certain, clear, other), certain


def test_the_probability_of_being_right_is_calibrated_on_new_rows():
    rows, labels, _ = noisy_table(0)
    fitted = calibrate(SHAPE, rows, labels, np.arange(len(rows)) % 5, target=0.95)
    new, truth, certain = noisy_table(1)
    answer, leaf, probability = fitted.answers({name: new[name].to_numpy() for name in new}, len(new))
    assert np.abs(probability - certain)[np.abs(new["x"]) > 1].mean() < 0.03
    given = probability >= fitted.answer_from
    assert 0.4 < given.mean() < 0.95
    assert (answer == truth)[given].mean() == pytest.approx(0.95, abs=0.02)
    assert (answer == truth).mean() < 0.92
    assert {leaves(fitted.tree)[k].label for k in np.unique(leaf)} == {"low", "high"}


def test_a_target_out_of_reach_answers_only_the_surest_rows():
    rows, labels, _ = noisy_table(2, n=400)
    labels = np.random.default_rng(3).permutation(labels)
    fitted = calibrate(SHAPE, rows, labels, np.arange(400) % 4, target=1.01)
    assert fitted.answer_from == 1.0


def test_the_curve_counts_rows_equally_sure_together():
    coverage, risk = risk_coverage(np.array([0.9, 0.5, 0.9, 0.2]), np.array([True, False, False, True]))
    assert coverage == pytest.approx([0.5, 0.75, 1.0])
    assert risk == pytest.approx([0.5, 2 / 3, 0.5])


def test_bins_hold_every_row_once():
    probability = np.array([0.0, 0.55, 0.6, 0.97, 1.0])
    table = reliability(probability, np.array([False, True, True, True, True]), (0.0, 0.6, 0.9, 1.0))
    assert [row["n"] for row in table] == [2, 1, 2]
    assert table[0]["observed"] == 0.5
    assert table[2]["probability"] == pytest.approx(0.985)


def test_the_interval_of_a_share_is_that_of_jeffreys():
    # Brown, Cai, DasGupta (2001), n = 10: the interval for 5 of 10
    assert interval_of_share(5, 10) == pytest.approx((0.224, 0.776), abs=1e-3)
    assert interval_of_share(0, 10)[0] == 0.0
    assert interval_of_share(10, 10)[1] == 1.0
