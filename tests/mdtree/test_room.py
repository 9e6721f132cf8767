"""Rooms for improvement and labels on grids whose truth is known by construction."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mdtree.errors import InputError
from mdtree.room import cross_fitted_gains, is_healthy, label_zoo, labels, robust_winner, step_gains
from mdtree.zoo import DIRECTIONS, GAIN_COLUMN

WIDTHS, SIZES, RATES, SEEDS = (4, 8, 16), (100, 200, 400), (0.01, 0.1, 1.0), 4


def a_zoo(error, noise=0.0):
    """A grid with test error `error(width, size, rate)` plus seeded noise."""
    generator = np.random.default_rng(0)
    rows = []
    for (w, n, r), seed in itertools.product(itertools.product(WIDTHS, SIZES, RATES), range(SEEDS)):
        rows.append(
            {
                "family": "f",
                "data_set": "d",
                "architecture": "a",
                "cell": f"{w}-{n}-{r}",
                "seed": seed,
                "width": w,
                "train_size": n,
                "temperature": r,
                "temperature_axis": "learning_rate",
                "weight_decay": 0.0,
                "label_noise": 0.0,
                "optimizer": "sgd",
                "schedule": "constant",
                "protocol": "p",
                GAIN_COLUMN: error(w, n, r) + noise * generator.standard_normal(),
            }
        )
    return pd.DataFrame(rows)


def at(frame, w, n, r):
    rows = frame[(frame.width == w) & (frame.train_size == n) & (frame.temperature == r)]
    return rows.iloc[0]


def bowl(w, n, r):
    """Best at rate 0.1; width and data each help by a known number of points."""
    cold_or_hot = {0.01: 20.0, 0.1: 0.0, 1.0: 30.0}[r]
    return 5.0 + cold_or_hot + {4: 8.0, 8: 2.0, 16: 0.0}[w] + {100: 12.0, 200: 0.4, 400: 0.0}[n]


def test_rfi_is_what_the_best_cell_on_the_axis_gains():
    row = at(label_zoo(a_zoo(bowl)), 8, 100, 0.1)
    assert row.rfi_model_size_points == 2.0
    assert row.rfi_data_points == 12.0
    assert row.rfi_temperature_up_points == 0.0
    assert row.rfi_data_points_standard_error == 0.0
    assert row.label_verdict == "too_little_data"
    assert row.label_data == "too_little_data"


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        ((8, 200, 0.01), "censored"),
        ((4, 200, 0.1), "model_too_small"),
        ((8, 100, 0.1), "too_little_data"),
        ((4, 100, 0.1), "too_little_data"),
        ((8, 200, 0.1), "model_too_small"),
    ],
)
def test_the_verdict_is_the_direction_of_the_largest_room(cell, verdict):
    frame = label_zoo(a_zoo(bowl))
    # at the coldest rate the way back in helps beyond doubt, so nothing is censored there
    expected = "temperature_too_low" if verdict == "censored" else verdict
    assert at(frame, *cell).label_verdict == expected


def test_the_edge_of_the_grid_censors_the_direction_beyond_it():
    frame = label_zoo(a_zoo(bowl))
    widest = at(frame, 16, 100, 0.1)
    assert np.isnan(widest.rfi_model_size_points)
    assert widest.label_model_size == "censored"
    assert widest.label_verdict == "censored"
    assert widest.label_data == "too_little_data"
    most = at(frame, 8, 400, 1.0)
    assert most.label_data == "censored"
    assert most.label_temperature == "temperature_too_high"


def test_healthy_needs_every_room_under_a_point():
    def flat(w, n, r):
        return 5.0 + {0.01: 0.9, 0.1: 0.0, 1.0: 0.9}[r] + (0.9 if w == 4 else 0.0)

    frame = label_zoo(a_zoo(flat))
    assert at(frame, 4, 100, 0.1).label_verdict == "healthy"
    assert not is_healthy({"data": np.array([1.2, 1.2, 1.2])})
    # 1.2 points are room, unless the seeds scatter so much that 1.5 standard errors exceed them
    assert is_healthy({"data": np.array([-1.0, 1.2, 3.4])})


def test_too_close_to_call_is_ambiguous():
    three = np.ones(3)
    assert robust_winner({"a": 3.0 * three, "b": 2.4 * three}) == "a"
    assert robust_winner({"a": 3.0 * three, "b": 2.6 * three}) is None
    # the lead is paired by seed: common scatter does not blur it, the lead's own does
    scatter = np.array([0.0, 5.0, 10.0])
    assert robust_winner({"a": scatter + 1.0, "b": scatter}) == "a"
    assert robust_winner({"a": three + np.array([-3.0, 0.0, 6.0]), "b": three}) is None


def test_choosing_the_best_of_noisy_cells_brings_nothing():
    """The naive RFI of pure noise is the maximum of it; the cross-fitted one has mean zero."""
    errors = np.random.default_rng(1).standard_normal((2000, 8, 4))
    fitted = np.array([cross_fitted_gains(e).mean() for e in errors])
    naive = (errors[:, 0] - errors[np.arange(2000), errors.mean(-1).argmin(-1)]).mean(-1)
    assert abs(fitted.mean()) < 3 * fitted.std() / np.sqrt(2000)
    assert naive.mean() > 0.5


def test_a_rows_rooms_do_not_see_its_own_seed():
    frame = a_zoo(bowl, noise=1.0)
    before = label_zoo(frame)
    changed = frame.copy()
    own = changed.index[(changed.width == 8) & (changed.train_size == 100) & (changed.temperature == 0.1)][2]
    changed.loc[changed.seed == 2, GAIN_COLUMN] += np.arange((changed.seed == 2).sum())
    after = label_zoo(changed)
    rooms = [c for c in before if c.startswith("rfi_")]
    pd.testing.assert_series_equal(before.loc[own, rooms], after.loc[own, rooms])
    assert not np.allclose(
        before.loc[own - 1, rooms].astype(float), after.loc[own - 1, rooms].astype(float), equal_nan=True
    )


def test_the_order_of_the_rows_does_not_matter():
    frame = a_zoo(bowl, noise=1.0)
    shuffled = frame.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(label_zoo(frame), label_zoo(shuffled).sort_index())


def test_step_gains_interpolate_in_the_logarithm_of_the_axis():
    frame = a_zoo(bowl)
    gains = step_gains(frame, dict.fromkeys(DIRECTIONS, (2.0, np.sqrt(10.0), 10.0)))
    place = frame.index.get_loc(
        frame.index[(frame.width == 8) & (frame.train_size == 100) & (frame.temperature == 1.0)][0]
    )
    np.testing.assert_allclose(gains["temperature_down"][place], [30 * np.log10(2), 15.0, 30.0])
    np.testing.assert_allclose(gains["data"][place], [11.6, 11.6 + 0.4 * (np.log2(np.sqrt(10)) - 1), 12.0])
    assert np.isnan(gains["temperature_up"][place]).all()


def test_two_seeds_are_not_enough():
    frame = a_zoo(bowl)
    with pytest.raises(InputError, match="2 seeds per cell; expected at least 3"):
        label_zoo(frame[frame.seed < 2])


def test_means_over_seeds_are_not_labelled():
    """Their scatter is not known: no standard error, hence no robust label."""
    means = a_zoo(bowl).query("seed == 0").assign(seed=np.nan)
    with pytest.raises(InputError, match=r"holds means over seeds .* expected at least 3 seeds per cell"):
        label_zoo(means)


@pytest.mark.parametrize("seed", [np.nan, 7])
def test_step_gains_of_one_seed_per_cell_are_its_own(seed):
    """Setting the only seed aside left nothing to take the mean of."""
    every, one = a_zoo(bowl), a_zoo(bowl).query("seed == 0").assign(seed=seed)
    factors = dict.fromkeys(DIRECTIONS, (2.0, 10.0))
    expected, gains = step_gains(every, factors), step_gains(one, factors)
    for direction in DIRECTIONS:
        assert np.isfinite(gains[direction]).any()
        np.testing.assert_allclose(gains[direction], expected[direction][every.seed == 0])


def test_questions_about_size_and_data_are_asked_against_the_better_temperature():
    three = np.ones(3)
    answer = labels(
        {"temperature_up": 0 * three, "temperature_down": 6 * three, "model_size": 9 * three, "data": 2 * three}
    )
    assert answer == {
        "temperature": "temperature_too_high",
        "model_size": "model_too_small",
        "data": "temperature",
        "verdict": "model_too_small",
    }
