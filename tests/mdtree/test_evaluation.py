"""Scores of a diagnoser on a table: the rows that count, and baselines that never see them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from composed_diagnoser import SICK, composed_diagnoser
from synthetic_zoo import synthetic_zoo

from mdtree.composition import lean
from mdtree.diagnoser_schema import QuestionTree
from mdtree.errors import InputError
from mdtree.evaluation import action_gains, answers, evaluate, temperature_where_readings_agree
from mdtree.fitting import fit_diagnoser
from mdtree.nodes import Leaf, Split
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


def test_a_missing_metric_gives_the_label_with_most_of_the_weight_not_the_heaviest_leaf():
    hot, cold = "temperature_too_high", "temperature_too_low"
    both_hot = Split("cka", 0.5, Leaf(hot, {}, 1), Leaf(hot, {}, 2), 0.5)
    tree = Split("log_weight_growth", 1.0, Leaf(cold, {}, 0), both_hot, 0.4)
    diagnoser = composed_diagnoser()
    diagnoser = replace(diagnoser, trees={**diagnoser.trees, "temperature": {"sibling": QuestionTree(tree)}})
    rows = pd.DataFrame({"log_weight_growth": [np.nan, np.nan, 0.5, 2.0], "cka": [np.nan, 0.2, np.nan, np.nan]})
    assert answers(diagnoser, rows, "temperature", "sibling").tolist() == [hot, hot, cold, hot]


def test_a_temperature_is_withheld_by_the_rule_of_a_diagnosis():
    """Whatever the verdict of a network is, its temperature is told where the readings lean to one side."""
    diagnoser = composed_diagnoser()
    generator = np.random.default_rng(0)
    metrics = ("log_weight_growth", "idle_feature_share", "weight_noise_loss_over_chance")
    rows = pd.DataFrame({**SICK, **{name: generator.choice([0.0, 5.0, np.nan], 60) for name in metrics}})
    plain = answers(diagnoser, rows, "temperature", "alone")
    said = temperature_where_readings_agree(diagnoser, rows, "alone")
    expected = []
    for answer, line in zip(plain, rows.to_dict("records"), strict=True):
        leaning = lean(diagnoser.nodes("alone"), {k: v for k, v in line.items() if v == v})
        side = leaning if answer == "temperature_too_high" else -leaning
        expected.append(answer if side > 0.15 else "undetermined")
    assert said.tolist() == expected
    assert set(said) == {"temperature_too_low", "temperature_too_high", "undetermined"}


def test_no_rows_to_score(zoo, fitted):
    with pytest.raises(InputError, match="no held out rows"):
        evaluate(fitted, zoo[zoo["split"] == "fit"], "held_out")
