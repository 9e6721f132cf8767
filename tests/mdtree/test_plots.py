"""What is drawn is computed apart from the drawing, and the drawing accepts an axis."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_diagnoser import record_of, small_diagnoser

from mdtree.diagnoser import diagnose_record
from mdtree.errors import InputError
from mdtree.plots import (
    curve_data,
    decision_path_data,
    draw_curve,
    draw_decision_path,
    draw_ranking,
    draw_spectrum,
    ranking_data,
    spectrum_data,
)


@pytest.fixture
def diagnosis():
    return diagnose_record(small_diagnoser(), record_of(log_weight_growth=0.5, train_error_percent=20.0))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_the_drawn_path_is_the_walked_one(diagnosis):
    nodes = decision_path_data(diagnosis, small_diagnoser())
    assert [n.taken for n in nodes] == [True, True, False, True, False]
    assert [n.label for n in nodes] == [None, None, "healthy", "temperature_too_low", "temperature_too_high"]
    assert [n.parent for n in nodes] == [None, 0, 1, 1, 0]
    assert [n.x for n in nodes] == [1.25, 0.5, 0.0, 1.0, 2.0]
    assert [n.y for n in nodes] == [0.0, -1.0, -2.0, -2.0, -1.0]
    assert "here 0.5" in nodes[0].text
    assert "≤ 10 ?" in nodes[1].text
    assert nodes[3].text == "temperature too low\n80%"


def test_a_missing_metric_marks_both_branches():
    nodes = decision_path_data(
        diagnose_record(small_diagnoser(), record_of(train_error_percent=20.0)), small_diagnoser()
    )
    assert [n.taken for n in nodes] == [True, True, False, True, True]
    assert "not measured" in nodes[0].text


def test_every_drawing_takes_an_axis(diagnosis):
    _, axes = plt.subplots(1, 4)
    assert draw_decision_path(decision_path_data(diagnosis, small_diagnoser()), ax=axes[0]) is axes[0]
    assert draw_ranking(ranking_data(diagnosis), ax=axes[1]) is axes[1]
    path = {"curve_t": np.array([0, 0.5, 1]), "curve_error_percent": np.array([1, 3, 2.0])}
    path |= {"linear_t": np.array([0, 1.0]), "linear_error_percent": np.array([1, 2.0])}
    assert draw_curve(path, ax=axes[2]).lines[1].get_ydata().tolist() == [1, 3, 2]
    spectrum = {"eigenvalues": np.array([0.0, 1.0]), "density": np.array([1.0, 0.0])}
    assert draw_spectrum(spectrum, ax=axes[3]).get_yscale() == "log"
    assert [text.get_text() for text in axes[0].texts].count("yes") == 2
    assert len(axes[1].patches) == 5


def test_series_that_were_not_measured_are_said():
    record = record_of(train_error_percent=1.0)
    with pytest.raises(InputError, match="no curve; expected one measured with --sibling"):
        curve_data(record)
    with pytest.raises(InputError, match="no spectral density"):
        spectrum_data(record)
