"""Scores of a diagnoser on a table: the rows that count, and baselines that never see them."""

import numpy as np
import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.errors import InputError
from mdtree.evaluation import action_gains, answers, evaluate
from mdtree.fitting import fit_diagnoser
from mdtree.zoo import EVIDENCE, QUESTIONS


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


@pytest.fixture(scope="module")
def fitted(zoo):
    return fit_diagnoser(zoo, "synthetic")


def test_every_question_and_evidence_is_scored_beside_baselines(zoo, fitted):
    result = evaluate(fitted, zoo)
    assert result["split"] == "held_out"
    assert set(result["questions"]) == set(QUESTIONS)
    for by_evidence in result["questions"].values():
        assert set(by_evidence) == set(EVIDENCE)
        for scores in by_evidence.values():
            assert set(scores["baselines"]) == {"majority", "hyperparameters", "validation"}
            low, high = scores["intervals"]["balanced_accuracy"]
            assert 0 <= low <= scores["balanced_accuracy"] <= high <= 1


def test_counts_say_what_was_left_out(zoo, fitted):
    held = zoo[zoo["split"] == "held_out"]
    scores = evaluate(fitted, zoo)["questions"]["verdict"]["alone"]
    assert scores["n_censored"] == (held["label_verdict"] == "censored").sum()
    assert scores["n_ambiguous"] == (held["label_verdict"] == "ambiguous").sum()
    assert scores["n"] + scores["n_censored"] == len(held)


def test_a_perfect_and_a_constant_answer(zoo):
    rows = zoo[zoo["label_verdict"] != "censored"]
    gains = action_gains(rows, "verdict")
    best = np.max([np.nan_to_num(g) for g in gains.values()], axis=0)
    chosen = np.array([np.nan_to_num(gains[label][i]) if label in gains else 0.0
                       for i, label in enumerate(rows["label_verdict"])])  # fmt: skip
    assert chosen.sum() / best.sum() > 0.99
    constant = np.nan_to_num(gains["too_little_data"]).sum() / best.sum()
    assert constant < 0.5


def test_all_rows_are_scored_with_baselines_cross_fitted(zoo, fitted):
    result = evaluate(fitted, zoo, "all")
    assert result["rows"].startswith(f"{len(zoo)} networks in 64 cells")
    assert result["questions"]["temperature"]["alone"]["baselines"]["majority"]["balanced_accuracy"] <= 0.5


def test_the_verdict_uses_only_the_metrics_of_its_evidence(zoo, fitted):
    rows = zoo[zoo["split"] == "held_out"]
    poisoned = rows.assign(disagreement_percent=1e9, test_error_percent=1e9, connectivity_barrier_over_chance=1e9)
    assert (answers(fitted, rows, "verdict", "alone") == answers(fitted, poisoned, "verdict", "alone")).all()


def test_no_rows_to_score(zoo, fitted):
    with pytest.raises(InputError, match="no held out rows"):
        evaluate(fitted, zoo[zoo["split"] == "fit"], "held_out")
