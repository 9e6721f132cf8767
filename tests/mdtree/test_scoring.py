"""Figures worked out by hand, intervals that resample cells, folds that keep them whole, baselines."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from mdtree.errors import InputError
from mdtree.scoring import (
    BASELINES,
    STATISTICS,
    Answers,
    baseline_predictions,
    bootstrap_intervals,
    grouped_folds,
    score,
)

HOT, COLD, SMALL = "temperature_too_high", "temperature_too_low", "model_too_small"
TRUTH = [HOT, HOT, HOT, COLD, COLD, "healthy"]
PREDICTED = [HOT, HOT, COLD, COLD, "undetermined", "healthy"]
GAINS = {
    HOT: [3.0, 2.0, 4.0, -1.0, 0.0, -2.0],
    COLD: [-1.0, -1.0, -2.0, 1.0, 5.0, -1.0],
    SMALL: [1.0, 2.5, 1.0, math.nan, 0.0, -3.0],
}
#        best: 3, 2.5, 4, 1, 5, 0 = 15.5     chosen: 3, 2, -2, 1, 0, 0 = 4


def test_figures_are_those_worked_out_by_hand():
    scores = score(TRUTH, PREDICTED, GAINS)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.per_class == pytest.approx({HOT: 2 / 3, COLD: 1 / 2, "healthy": 1.0})
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.gain_captured == pytest.approx(4 / 15.5)
    assert scores.regret_points == pytest.approx(11.5 / 6)
    assert (scores.n, scores.n_ambiguous) == (6, 0)


def test_ambiguous_rows_count_for_gain_and_regret_only():
    ambiguous = [False, False, True, False, False, True]
    scores = score(TRUTH, PREDICTED, GAINS, ambiguous)
    assert scores.accuracy == pytest.approx(3 / 4)
    assert scores.per_class == pytest.approx({HOT: 1.0, COLD: 1 / 2})
    assert (scores.n, scores.n_ambiguous) == (6, 2)
    assert scores.gain_captured == pytest.approx(4 / 15.5)
    assert scores.regret_points == pytest.approx(11.5 / 6)


def test_undetermined_is_wrong_and_gains_nothing_even_if_the_truth_is_undetermined():
    scores = score(["undetermined", HOT], ["undetermined", HOT], {HOT: [1.0, 1.0], "undetermined": [9.0, 9.0]})
    assert scores.accuracy == 0.5
    assert scores.gain_captured == 0.5


def test_a_gain_that_is_not_known_is_none():
    """Censored directions count 0, for the best action and for the one chosen."""
    scores = score([HOT], [HOT], {HOT: [math.nan], COLD: [2.0]})
    assert (scores.gain_captured, scores.regret_points) == (0.0, 2.0)


def test_harm_is_not_clipped():
    scores = score([HOT, HOT], [COLD, HOT], {HOT: [1.0, 1.0], COLD: [-4.0, 0.0]})
    assert scores.gain_captured == -1.5
    assert scores.regret_points == 2.5


def test_no_change_beats_actions_that_all_harm():
    assert score(["healthy"], ["healthy"], {HOT: [-1.0], COLD: [-2.0]}).regret_points == 0.0


def test_what_has_nothing_to_stand_on_is_nan():
    scores = score([HOT], [HOT], ambiguous=[True])
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.balanced_accuracy)
    assert math.isnan(scores.gain_captured)
    assert math.isnan(scores.regret_points)
    assert scores.per_class == {}
    assert math.isnan(score(["healthy"], ["healthy"], {HOT: [-1.0]}).gain_captured)


def test_gains_may_be_a_table_with_its_own_index():
    table = pd.DataFrame(GAINS, index=[7, 3, 9, 1, 0, 2])
    assert score(TRUTH, PREDICTED, table) == score(np.array(TRUTH), np.array(PREDICTED), GAINS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([], []), "0 true labels and 0 answers"),
        (([HOT], [HOT, HOT]), "1 true labels and 2 answers"),
        (([HOT], [COLD], {HOT: [1.0]}), "no gains for the answer temperature_too_low"),
        (([HOT], [HOT], {HOT: [1.0, 2.0]}), "do not have 1 rows"),
        (([HOT], [HOT], None, [True, False]), "ambiguous has shape"),
    ],
)
def test_answers_that_cannot_be_scored_are_refused(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        score(*arguments)


def resampled_by_hand(answers, cells, n_resamples, seed):
    """The bootstrap with the rows of the drawn cells written out, one `score` a resample."""
    names = sorted(set(cells))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    figures = []
    for times in drawn:
        count = dict(zip(names, times, strict=True))
        rows = [i for i, cell in enumerate(cells) for _ in range(count[cell])]
        gains = {name: np.asarray(values)[rows] for name, values in answers.gains.items()}
        figures.append(
            dataclasses.asdict(
                score(
                    np.asarray(answers.truth)[rows],
                    np.asarray(answers.predicted)[rows],
                    gains,
                    np.asarray(answers.ambiguous)[rows],
                )
            )
        )
    return {name: np.array([f[name] for f in figures]) for name in STATISTICS}


def test_intervals_resample_whole_cells():
    answers = Answers(TRUTH * 3, PREDICTED * 3, {k: v * 3 for k, v in GAINS.items()}, [False] * 15 + [True] * 3)
    cells = list("aabbcc") * 2 + list("ddeeff")
    intervals = bootstrap_intervals(answers, cells, level=0.8, n_resamples=40, seed=3)
    by_hand = resampled_by_hand(answers, cells, 40, 3)
    for name in STATISTICS:
        low, high = np.quantile(by_hand[name][np.isfinite(by_hand[name])], [0.1, 0.9])
        assert (intervals[name].low, intervals[name].high) == pytest.approx((low, high))
        assert intervals[name].level == 0.8


def test_rows_of_one_cell_do_not_narrow_the_interval():
    """Hundred copies of a row in its cell carry no more than the row."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(30) < 0.7, HOT, COLD)
    answers = Answers(truth, [HOT] * 30)
    copied = Answers(np.repeat(truth, 100), [HOT] * 3000)
    once = bootstrap_intervals(answers, range(30), seed=1)["accuracy"]
    assert bootstrap_intervals(copied, np.repeat(np.arange(30), 100), seed=1)["accuracy"] == once
    assert once.low < np.mean(truth == HOT) < once.high


def test_one_cell_leaves_no_doubt_to_resample():
    interval = bootstrap_intervals(Answers(TRUTH, PREDICTED, GAINS), ["a"] * 6)["regret_points"]
    assert (interval.low, interval.high) == pytest.approx((11.5 / 6, 11.5 / 6))


def test_folds_keep_cells_whole_and_hold_out_every_row_once():
    cells = [f"cell{i // 3}" for i in range(30)]
    folds = grouped_folds(cells, 4, seed=0)
    assert np.sum(folds, axis=0).tolist() == [1] * 30
    for fold in folds:
        held = {cell for cell, out in zip(cells, fold, strict=True) if out}
        assert held.isdisjoint(cell for cell, out in zip(cells, fold, strict=True) if not out)
    assert sorted(int(fold.sum()) for fold in folds) == [6, 6, 9, 9]


def test_folds_depend_on_the_seed_and_not_on_the_order_of_rows():
    cells = np.array([f"cell{i}" for i in range(40)])
    order = np.random.default_rng(1).permutation(40)
    folds = np.array(grouped_folds(cells, 5, seed=0))
    np.testing.assert_array_equal(np.array(grouped_folds(cells[order], 5, seed=0)), folds[:, order])
    assert not np.array_equal(np.array(grouped_folds(cells, 5, seed=1)), folds)


@pytest.mark.parametrize("k", [0, 4])
def test_there_are_no_more_folds_than_cells(k):
    with pytest.raises(InputError, match=f"{k} folds of 3 cells; expected between 1 and 3"):
        grouped_folds(list("aabc"), k, seed=0)


def zoo(rng, n=200):
    """Width decides, and the train error shows it; batch size was not recorded."""
    width = rng.choice([4.0, 16.0, 64.0], n)
    table = pd.DataFrame(
        {
            "width": width,
            "parameter_count": 100 * width,
            "train_size": 640.0,
            "learning_rate": rng.choice([0.01, 0.1], n),
            "batch_size": np.nan,
            "label_noise": 0.0,
            "temperature": rng.choice([0.01, 0.1], n),
            "train_error_percent": 80 / width + rng.random(n),
            "train_loss": rng.random(n),
            "test_error_percent": rng.random(n),
            "test_loss": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            "connectivity_barrier_percent": width,
        }
    )
    return table, np.where(width < 10, SMALL, HOT)


def test_baselines_answer_from_what_they_may_see():
    train, labels = zoo(np.random.default_rng(0))
    test, truth = zoo(np.random.default_rng(1))
    assert np.mean(baseline_predictions("hyperparameters", train, labels, test) == truth) == 1
    assert np.mean(baseline_predictions("validation", train, labels, test) == truth) == 1
    assert set(baseline_predictions("majority", train, labels, test)) == {HOT}
    blind = test.assign(connectivity_barrier_percent=0.0, width=1.0, parameter_count=1.0)
    np.testing.assert_array_equal(baseline_predictions("validation", train, labels, blind), truth)
    blind = test.assign(connectivity_barrier_percent=0.0, train_error_percent=0.0)
    np.testing.assert_array_equal(baseline_predictions("hyperparameters", train, labels, blind), truth)


def test_fitted_baselines_weigh_labels_alike():
    train, _ = zoo(np.random.default_rng(2), 100)
    train[["width", "parameter_count", "learning_rate", "temperature"]] = 1.0
    train[["train_error_percent", "train_loss", "test_error_percent", "test_loss"]] = 1.0
    train.loc[:29, ["width", "train_error_percent"]] = 0.0
    labels = np.array([SMALL] * 10 + [HOT] * 20 + [HOT] * 70)  # a third of the narrow ones: a tenth of all
    for kind in ("hyperparameters", "validation"):
        answers = baseline_predictions(kind, train, labels, train)
        assert answers.tolist() == [SMALL] * 30 + [HOT] * 70
    assert set(baseline_predictions("majority", train, labels, train)) == {HOT}


def test_majority_among_equals_is_the_first_in_the_alphabet():
    table = pd.DataFrame(index=range(4))
    assert baseline_predictions("majority", table, [HOT, COLD, COLD, HOT], table).tolist() == [HOT] * 4


def test_baselines_that_cannot_be_fitted_are_refused():
    table, labels = zoo(np.random.default_rng(3), 20)
    with pytest.raises(InputError, match=f"baseline 'oracle'; expected one of {', '.join(BASELINES)}"):
        baseline_predictions("oracle", table, labels, table)
    with pytest.raises(InputError, match="lacks the columns label_noise"):
        baseline_predictions("hyperparameters", table.drop(columns="label_noise"), labels, table)
    with pytest.raises(InputError, match="3 labels for 20 training rows"):
        baseline_predictions("majority", table, labels[:3], table)
