"""The benchmark's methods: what each answers on small tables, the published figures on the real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.benchmark_cases import CASES, clear_rows, draws
from mdtree.benchmark_methods import METHODS, methods_for, tree_answers, zero_shot
from mdtree.errors import InputError
from mdtree.evaluation import action_gains
from mdtree.modeldiagnosis import read_public_table
from mdtree.tree import Leaf, Split
from mdtree.zoo import GAIN_COLUMN, LABEL_COLUMNS, RFI_COLUMNS

QUESTIONS = ("temperature", "model_size", "data")
FITTED = tuple(name for name in METHODS if name != "zero_shot")


def halves(question):
    """Synthetic rows for a question: every other one to fit on, the rest to answer."""
    rows = clear_rows(synthetic_zoo(), question)
    return rows.iloc[::2], rows.iloc[1::2]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", FITTED)
def test_a_method_answers_every_row_with_a_label_of_the_question(name, question):
    training, test = halves(question)
    answers = METHODS[name](question, training, test)
    assert answers.shape == (len(test),)
    assert answers.dtype.kind == "U"
    assert set(answers) <= set(action_gains(test, question))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", FITTED)
def test_the_labels_of_the_test_rows_are_not_read(name, question):
    training, test = halves(question)
    blind = test.drop(columns=[GAIN_COLUMN, *RFI_COLUMNS, *LABEL_COLUMNS])
    np.testing.assert_array_equal(METHODS[name](question, training, blind), METHODS[name](question, training, test))


@pytest.mark.parametrize("name", FITTED)
def test_equal_rows_give_equal_answers_again(name):
    training, test = halves("temperature")
    first, again = (METHODS[name]("temperature", training.copy(), test.copy()) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_methods_beat_the_majority_where_the_metrics_tell_the_cause():
    training, test = halves("temperature")
    truth = test["label_temperature"].to_numpy(dtype=str)
    hits = {name: np.mean(METHODS[name]("temperature", training, test) == truth) for name in FITTED}
    for name in ("hyperparameter", "validation", "ceiling"):
        assert hits[name] > hits["majority"] + 0.1


def test_the_zero_shot_tree_row_by_row():
    rows = pd.DataFrame(
        [
            (0.01, 5.0, 0.1),  # fitted, whatever else
            (0.02, 0.0, 0.1),  # connected
            (0.02, -3.0, 0.1),
            (0.02, 5.0, 0.5),  # apart but alike
            (0.02, 5.0, 0.49),  # apart and different
        ],
        columns=["train_loss", "connectivity_barrier_percent", "cka"],
    )
    low, high = "temperature_too_low", "temperature_too_high"
    assert zero_shot("temperature", rows[:0], rows).tolist() == [low, high, high, high, low]


def test_the_zero_shot_tree_is_absent_where_it_has_no_answer():
    assert set(methods_for("temperature")) == set(METHODS)
    assert set(methods_for("data")) == set(METHODS) - {"zero_shot"}
    with pytest.raises(InputError, match="no zero-shot tree answers data"):
        zero_shot("data", pd.DataFrame(), pd.DataFrame())


def test_a_paper_tree_needs_its_columns_and_a_question_it_knows():
    training, test = halves("temperature")
    with pytest.raises(InputError, match="no column hessian_trace"):
        METHODS["paper"]("temperature", training.drop(columns="hessian_trace"), test)
    with pytest.raises(InputError, match="no tree for the question 'verdict'"):
        METHODS["paper"]("verdict", training, test)


def test_tree_answers_takes_the_heavier_branch_where_a_metric_is_missing():
    tree = Split("x", 1.0, Leaf("a", index=0), Leaf("b", index=1), share_left=0.3)
    assert tree_answers(tree, pd.DataFrame({"x": [1.0, 2.0, np.nan]})).tolist() == ["a", "b", "b"]


@pytest.fixture
def collections(mdtree_data):
    folder = mdtree_data / "modeldiagnosis"
    return [read_public_table(folder / f"dataframe_{name}_public.csv") for name in ("normal", "noise")]


def accuracy_percent(name, case, train, test):
    truth = f"label_{case.question}"
    return 100 * np.mean([
        np.mean(METHODS[name](case.question, draw.training, draw.test) == draw.test[truth].to_numpy(dtype=str))
        for draw in draws(case, train, test)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("number", "published"), [(1, 87.70), (2, 75.89), (3, 82.56), (4, 74.10), (5, 78.16), (6, 76.66), (7, 76.34)]
)
def test_the_paper_method_reaches_the_published_figures(collections, number, published):
    assert accuracy_percent("paper", CASES[number - 1], *collections) == pytest.approx(published, abs=0.05)


def test_the_zero_shot_tree_has_its_known_figure(collections):
    assert accuracy_percent("zero_shot", CASES[0], *collections) == pytest.approx(89.94, abs=0.005)


@pytest.mark.parametrize("name", ["exact", "ceiling"])
@pytest.mark.parametrize("number", [1, 4, 6])
def test_the_other_methods_beat_the_majority_on_the_clean_collection(collections, name, number):
    """On the rest of the collection they are fitted on: the other one is kept for the figures that are reported."""
    case, clean = CASES[number - 1], collections[0]
    draw = next(draws(case, clean, clean))
    rest = draw.test.drop(index=draw.training.index)
    truth = rest[f"label_{case.question}"].to_numpy(dtype=str)
    hit = np.mean(METHODS[name](case.question, draw.training, rest) == truth)
    majority = np.mean(METHODS["majority"](case.question, draw.training, rest) == truth)
    assert hit > majority
