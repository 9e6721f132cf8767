"""What a picture of transfers draws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from transfer_zoos import QUICK, family, together

from mdtree.transfer_plots import draw_panel, draw_transfers, transfer_panels
from mdtree.zoo import QUESTIONS
from mdtree.zoo_transfer import run_transfer


@pytest.fixture(scope="module")
def result():
    narrow = family("narrow", 2)
    narrow = narrow[narrow["width"] == 8].assign(label_model_size="censored", rfi_model_size_points=float("nan"))
    return run_transfer(together(narrow, family("a"), family("b", 1)), "family", methods=QUICK)


def test_a_panel_has_a_line_for_every_part_and_a_series_for_every_method(result):
    panels = transfer_panels(result)
    assert [(panel.transfer, panel.question) for panel in panels] == [("family", question) for question in QUESTIONS]
    assert all(panel.parts == ("narrow", "a", "b") for panel in panels)
    assert [s.name for s in panels[0].series] == [
        "majority", "settings", "parameters", "tree, alone", "tree, sibling test",
    ]  # fmt: skip


def test_values_are_percent_at_the_place_of_their_part(result):
    size = transfer_panels(result)[1]
    (alone,) = [series for series in size.series if series.evidence == "alone"]
    assert alone.places.tolist() == [1, 2]  # the narrow family has one width and no such question
    for place, value, low, high in zip(alone.places, alone.balanced_accuracy, alone.low, alone.high, strict=True):
        (run,) = [
            r
            for r in result.runs
            if (r.left_out, r.question, r.evidence, r.method) == (size.parts[place], "model_size", "alone", "default")
        ]
        assert (value, low, high) == pytest.approx((100 * run.balanced_accuracy, *(100 * v for v in run.interval)))


def test_the_drawing_shows_the_values(result):
    panel = transfer_panels(result)[0]
    _, ax = plt.subplots()
    draw_panel(panel, ax)
    drawn = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    for series in panel.series:
        assert np.array_equal(drawn[series.name], series.balanced_accuracy)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(panel.parts)
    assert ax.get_ylim() == (2.5, -0.5)
    plt.close(ax.figure)


def test_kinds_stand_below_each_other_with_one_legend(result):
    scale = run_transfer(together(family("a")), "scale", methods=QUICK)
    figure = draw_transfers([result, scale])
    assert [row.get_suptitle() for row in figure.subfigs] == [
        "a family left out", "wider networks left out", "more data left out", "all but 50 cells left out",
    ]  # fmt: skip
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "majority", "settings", "parameters", "tree, alone", "tree, sibling test",
    ]  # fmt: skip
    plt.close(figure)
