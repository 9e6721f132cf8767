"""The draws of the benchmark: by hand on a small grid, by their published sizes on the real tables."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from mdtree.benchmark_cases import CASES, SEEDS, clear_rows, draws, training_rows
from mdtree.errors import InputError
from mdtree.modeldiagnosis import read_public_table


def table(widths=(2, 4, 32, 64), sizes=(5000, 10000, 20000), batches=(16, 64)):
    """A grid whose rows are ambiguous about everything at the largest batch of the narrowest width."""
    rows = pd.DataFrame(itertools.product(widths, sizes, batches), columns=["width", "train_size", "batch_size"])
    unclear = (rows["width"] == min(widths)) & (rows["batch_size"] == max(batches))
    for question, label in (
        ("temperature", "temperature_too_low"),
        ("model_size", "model_too_small"),
        ("data", "too_little_data"),
    ):
        rows[f"label_{question}"] = np.where(unclear, "ambiguous", label)
    return rows


def only(case, train, test):
    """The draws that are the same for every seed, once."""
    made = list(draws(case, train, test))
    assert [draw.seed for draw in made] == list(SEEDS)
    for draw in made[1:]:
        pd.testing.assert_frame_equal(draw.training, made[0].training)
    return made[0]


def test_the_cases_are_the_seven_published_ones():
    assert [case.number for case in CASES] == [1, 2, 3, 4, 5, 6, 7]
    assert [case.question for case in CASES] == ["temperature"] * 3 + ["model_size"] * 2 + ["data"] * 2


def test_ambiguous_rows_are_in_neither_part():
    for case in CASES:
        for draw in draws(case, table(), table()):
            for rows in (draw.training, draw.test):
                assert not (rows[f"label_{case.question}"] == "ambiguous").any()
    assert len(only(CASES[1], table(), table()).test) == 24 - 3


def test_the_fixed_cases_take_what_their_words_say():
    train, test = table(), table()
    assert set(only(CASES[1], train, test).training["train_size"]) == {5000}
    assert len(only(CASES[1], train, test).training) == 8 - 1
    assert set(only(CASES[2], train, test).training["width"]) == {2}
    assert set(only(CASES[4], train, test).training["train_size"]) == {5000}
    seventh = only(CASES[6], train, test)
    assert set(seventh.training["width"]) == {32}
    assert set(seventh.test["width"]) == {32, 64}


@pytest.mark.parametrize("position", range(len(SEEDS)))
def test_the_random_draws_are_those_of_the_global_generator(position):
    seed, train = SEEDS[position], table()
    state = np.random.get_state()
    expected = {}
    np.random.seed(seed)
    pairs = np.random.choice(list(range(12)), size=8, replace=False)
    np.random.seed(seed)
    expected["size"] = set(np.random.choice([5000, 10000, 20000], size=1, replace=False))
    np.random.seed(seed)
    expected["width"] = set(np.random.choice([32, 64], size=1, replace=False))
    np.random.set_state(state)
    grid = [(size, width) for size in (5000, 10000, 20000) for width in (2, 4, 32, 64)]
    first, fourth, sixth = (list(draws(CASES[n], train, train))[position].training for n in (0, 3, 5))
    drawn = set(zip(first["train_size"], first["width"], strict=True))
    assert drawn == {grid[number] for number in pairs}
    assert set(fourth["train_size"]) == expected["size"]
    assert len(fourth) == 8 - 1
    assert set(sixth["width"]) == expected["width"]


def test_the_global_generator_and_the_tables_stay_as_they_were():
    train, before = table(), np.random.get_state()[1].copy()
    for case in CASES:
        list(draws(case, train, train))
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    pd.testing.assert_frame_equal(train, table())


def test_the_order_of_the_rows_changes_no_draw():
    train = table()
    for case in CASES:
        for one, other in zip(
            draws(case, train, train), draws(case, train.sample(frac=1, random_state=1), train), strict=True
        ):
            assert sorted(one.training.index) == sorted(other.training.index)


@pytest.mark.parametrize(
    ("case", "train", "complaint"),
    [
        (CASES[0], table(widths=(2, 4), sizes=(5000, 10000)), "case 1 cannot draw"),
        (CASES[1], table(sizes=(10000, 20000)), "case 2 draws no row; expected rows with at most 5,000"),
        (CASES[5], table(widths=(2, 4)), "no network is 32 wide"),
        (CASES[1], table().drop(columns="label_temperature"), "the table lacks label_temperature"),
        (CASES[1], table().assign(label_temperature="censored"), "every row is ambiguous about temperature"),
    ],
)
def test_a_table_the_case_cannot_be_drawn_from_is_refused(case, train, complaint):
    with pytest.raises(InputError, match=complaint):
        list(draws(case, train, table()))


def test_clear_rows_are_clear_about_all_questions_asked():
    rows = table()
    rows.loc[rows.index[-1], "label_data"] = "ambiguous"
    assert len(clear_rows(rows, "temperature")) == 21
    assert len(clear_rows(rows, "temperature", "data")) == 20


@pytest.fixture
def collections(mdtree_data):
    folder = mdtree_data / "modeldiagnosis"
    return [read_public_table(folder / f"dataframe_{name}_public.csv") for name in ("normal", "noise")]


@pytest.mark.parametrize(
    ("number", "training", "test"),
    [
        (1, {96}, 1560),
        (2, {156}, 1560),
        (3, {120}, 1560),
        (4, {166, 167}, 1649),
        (5, {167}, 1649),
        (6, {127, 128}, 634),
        (7, {127}, 634),
    ],
)
def test_the_public_tables_give_the_published_numbers_of_rows(collections, number, training, test):
    made = list(draws(CASES[number - 1], *collections))
    assert {len(draw.training) for draw in made} == training
    assert {len(draw.test) for draw in made} == {test}


def test_training_rows_of_a_case_can_be_drawn_alone():
    rows = clear_rows(table(), "model_size", "temperature")
    assert training_rows(CASES[3], rows, 42)["train_size"].nunique() == 1
