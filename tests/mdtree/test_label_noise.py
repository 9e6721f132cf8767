"""Label noise on measurements: by hand, and harmless where there is nothing to change."""

import math

import pandas as pd
import pytest

from mdtree.label_noise import beside_label_noise, with_label_noise

ROWS = pd.DataFrame(
    {
        "train_error_percent": [0.0, 45.0],
        "train_loss": [0.001, 1.2],
        "connectivity_peak_percent": [3.0, 54.0],
        "connectivity_barrier_percent": [3.0, 9.0],
        "connectivity_barrier_over_chance": [3 / 90, 0.1],
        "train_error_over_chance": [0.0, 0.5],
        "cka": [0.9, 0.4],
        "hessian_trace": [10.0, 200.0],
    }
)


def test_a_network_that_fails_fails_on_the_wrong_labels_too():
    noisy = with_label_noise(ROWS).loc[1]
    assert noisy["train_error_percent"] == pytest.approx(45 + 10 * (1 - 45 / 90))
    assert noisy["connectivity_peak_percent"] == pytest.approx(54 + 10 * (1 - 54 / 90))
    assert noisy["connectivity_barrier_percent"] == pytest.approx(58 - 50)
    assert noisy["connectivity_barrier_over_chance"] == pytest.approx(8 / 90)
    assert noisy["train_error_over_chance"] == pytest.approx(50 / 90)
    assert noisy["train_loss"] == pytest.approx(1.2 + 0.1 * math.log(10))
    assert noisy["cka"] == 0.4
    assert noisy["hessian_trace"] == 200.0


def test_a_network_that_interpolates_learns_them_in_a_sharper_minimum():
    changed, before = with_label_noise(ROWS).loc[0], ROWS.loc[0]
    assert changed["hessian_trace"] == pytest.approx(20.0)
    same = before.index.difference(["hessian_trace"])
    pd.testing.assert_series_equal(changed[same], before[same])


def test_twice_the_wrong_labels_sharpen_twice_over():
    assert with_label_noise(ROWS, share=0.2).loc[0, "hessian_trace"] == pytest.approx(40.0)
    pd.testing.assert_frame_equal(with_label_noise(ROWS, share=0.0), ROWS)


def test_at_chance_more_wrong_labels_change_no_error():
    lost = pd.DataFrame({"train_error_percent": [50.0], "train_loss": [0.7]})
    assert with_label_noise(lost, share=0.3, classes=2)["train_error_percent"].tolist() == [50.0]


def test_metrics_that_were_not_measured_stay_away():
    alone = ROWS[["train_error_percent", "train_error_over_chance"]]
    assert list(with_label_noise(alone)) == list(alone)
    pd.testing.assert_frame_equal(with_label_noise(ROWS[["cka"]]), ROWS[["cka"]])


def test_both_stand_below_each_other_and_the_table_is_left_as_it_was():
    before = ROWS.copy()
    both = beside_label_noise(ROWS, share=0.2)
    pd.testing.assert_frame_equal(ROWS, before)
    pd.testing.assert_frame_equal(both.iloc[:2], ROWS)
    pd.testing.assert_frame_equal(both.iloc[2:].reset_index(drop=True), with_label_noise(ROWS, share=0.2))
