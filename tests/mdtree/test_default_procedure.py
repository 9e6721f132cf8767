"""The default procedure: every row once as measured and once beside label noise, half each."""

import numpy as np
import pandas as pd
import pytest

from mdtree.chosen_shapes import chosen_shapes
from mdtree.default_procedure import fit_shape, fitted_thresholds
from mdtree.label_noise import with_label_noise
from mdtree.shape_search import balanced_worth
from mdtree.threshold_posterior import SHARPNESS, posterior_thresholds

SHAPE = chosen_shapes()["temperature"]


def rows(seed=0, n=60):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "train_error_percent": generator.uniform(0, 40, n) * (generator.random(n) < 0.7),
            "train_loss": generator.lognormal(-3, 2, n),
            "connectivity_peak_percent": generator.uniform(0, 60, n),
        }
    )
    table["connectivity_barrier_percent"] = table["connectivity_peak_percent"] - table["train_error_percent"]
    labels = np.where(table["connectivity_barrier_percent"] > 5, "temperature_too_low", "temperature_too_high")
    return table, labels


def test_thresholds_are_the_posterior_medians_of_both_kinds_of_rows():
    table, labels = rows()
    both = pd.concat([table, with_label_noise(table)])
    worth = {name: 0.5 * values for name, values in balanced_worth(np.tile(labels, 2), SHAPE.labels()).items()}
    columns = {name: both[name].to_numpy() for name in SHAPE.features()}
    expected = posterior_thresholds(SHAPE, columns, worth, sharpness=SHARPNESS)
    assert fit_shape(SHAPE, table, labels).thresholds_ == pytest.approx(dict(expected.thresholds))


def test_questions_are_told_with_what_the_rows_know_of_them():
    table, labels = rows(1, n=600)
    tree = fit_shape(SHAPE, table, labels)
    told = fitted_thresholds(SHAPE, tree)
    assert [question["feature"] for question in told] == [split.feature for split in SHAPE.splits()]
    for question in told:
        assert question["interval"][0] < question["threshold"] < question["interval"][1]
    barrier = next(q for q in told if q["feature"] == "connectivity_barrier_percent")
    assert barrier["identified"]
    assert 3 < barrier["threshold"] < 7


def test_rows_that_tell_nothing_leave_the_prior():
    table, labels = rows(2)
    told = fitted_thresholds(SHAPE, fit_shape(SHAPE, table.iloc[:1], labels[:1]))
    assert not any(question["identified"] for question in told)
