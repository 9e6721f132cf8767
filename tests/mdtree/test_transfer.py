"""Transfers: what is fitted never shares a value of the axis with what is scored, and edges are left out."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mdtree.transfer import cause_gains, interior, largest_cause, off_grid, question_transfers, verdict_transfers

SIZES = tuple(5000 * k for k in range(1, 11))
WIDTHS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
BATCHES = (16, 64, 256, 1024)


@pytest.fixture(scope="module")
def table():
    rows = pd.DataFrame(itertools.product(SIZES, WIDTHS, BATCHES), columns=["train_size", "width", "batch_size"])
    rows["temperature"] = 1 / rows["batch_size"]
    generator = np.random.default_rng(0)
    for direction in ("temperature_up", "temperature_down", "model_size", "data"):
        rows[f"rfi_{direction}_points"] = generator.uniform(0, 10, len(rows))
    return rows


def test_the_interior_is_where_every_change_has_a_known_gain(table):
    inside = table[interior(table)]
    assert set(inside["width"]) == set(WIDTHS) - {128}
    assert set(inside["train_size"]) == set(SIZES) - {50000}
    assert set(inside["batch_size"]) == {64, 256}


def test_off_the_grid_means_beyond_the_corner_and_at_no_edge(table):
    data, width, both = off_grid(table)
    assert set(table["train_size"][data.fitted]) == {5000, 10000}
    assert set(table["train_size"][data.scored]) == set(SIZES[2:-1])
    assert set(table["width"][width.fitted]) == {2, 3, 4, 6, 8, 11}
    assert set(table["width"][width.scored]) == {16, 23, 32, 45, 64, 91}
    assert both.fitted.sum() == 2 * 6 * len(BATCHES)
    assert set(zip(table["train_size"][both.scored], table["width"][both.scored], strict=True)) == set(
        itertools.product(SIZES[2:-1], (16, 23, 32, 45, 64, 91))
    )
    assert all(set(table["batch_size"][t.scored]) == {64, 256} for t in (data, width, both))


@pytest.mark.parametrize(("question", "count"), [("temperature", 43), ("model_size", 10), ("data", 13)])
def test_a_question_is_scored_on_all_it_was_not_fitted_on(table, question, count):
    transfers = question_transfers(table, question)
    assert len(transfers) == count
    assert all(np.array_equal(t.scored, ~t.fitted) for t in transfers)


def test_the_draws_of_a_question_are_whole_columns_of_the_grid(table):
    for transfer in question_transfers(table, "temperature")[:20]:
        drawn = table[transfer.fitted].groupby(["train_size", "width"]).size()
        assert list(drawn) == [len(BATCHES)] * 8


def test_verdict_transfers_share_no_value_of_their_axis(table):
    transfers = verdict_transfers(table)
    assert len(transfers) == 14 + len(SIZES) + len(WIDTHS)
    for transfer in transfers:
        assert transfer.scored.any()
        shared = [
            set(table[axis][transfer.fitted]) & set(table[axis][transfer.scored]) for axis in ("train_size", "width")
        ]
        assert not all(shared)
        assert not np.any(transfer.fitted & transfer.scored)
    assert all(not np.any(t.scored & ~interior(table)) for t in transfers[:14])


def test_the_largest_cause_is_the_one_that_gains_most(table):
    gains = cause_gains(table)
    named = largest_cause(table)
    best = np.max(list(gains.values()), axis=0)
    assert all(gains[cause][row] == best[row] for row, cause in enumerate(named))
    assert set(gains) == {"temperature_too_low", "temperature_too_high", "model_too_small", "too_little_data"}
