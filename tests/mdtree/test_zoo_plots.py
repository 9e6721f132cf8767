"""What the heat maps show is computed apart from the drawing."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm
from synthetic_zoo import RATES, SIZES, WIDTHS, synthetic_zoo

from mdtree.errors import InputError
from mdtree.zoo import GAIN_COLUMN
from mdtree.zoo_plots import MOST_PANELS, colour_range, draw_heat_map, draw_heat_panel, heat_map_data


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_one_panel_for_each_amount_of_data_with_means_over_seeds(zoo):
    data = heat_map_data(zoo)
    assert (data.family, data.row_name, data.column_name, data.fixed) == ("synthetic", "width", "learning rate", "")
    assert [p.title for p in data.panels] == [f"{n} training samples" for n in SIZES]
    panel = data.panels[1]
    assert (panel.rows, panel.columns) == (WIDTHS, RATES)
    cell = zoo[(zoo["train_size"] == SIZES[1]) & (zoo["width"] == WIDTHS[2]) & (zoo["learning_rate"] == RATES[0])]
    assert panel.error[2, 0] == pytest.approx(cell[GAIN_COLUMN].mean(), rel=1e-12)
    assert panel.best == (2, 2, 2, 2)


def test_the_least_label_noise_is_shown_where_panels_are_too_many(zoo):
    both = pd.concat([zoo.assign(label_noise=0.2), zoo])
    data = heat_map_data(both)
    assert data.fixed == "label noise 0"
    assert len(data.panels) == len(SIZES)
    few = both[both["train_size"].isin(SIZES[:2])]
    data = heat_map_data(few)
    assert data.fixed == ""
    assert [p.title for p in data.panels] == [
        f"{n} training samples, label noise {e}" for e in ("0", "0.2") for n in SIZES[:2]
    ]


def test_many_amounts_of_data_are_thinned_and_keep_both_ends(zoo):
    one = zoo[zoo["train_size"] == SIZES[0]]
    frame = pd.concat([one.assign(train_size=n) for n in range(10, 110, 10)])
    titles = [p.title for p in heat_map_data(frame).panels]
    assert len(titles) == MOST_PANELS
    assert (titles[0], titles[-1]) == ("10 training samples", "100 training samples")


def test_a_grid_too_large_for_small_multiples_shows_its_ends_or_the_largest_alone(zoo):
    one = zoo[zoo["train_size"] == SIZES[0]]
    two_high = pd.concat([zoo.assign(temperature=zoo["temperature"] * f, learning_rate=f * zoo["learning_rate"],
                                     width=zoo["width"] * g) for f in (1, 2, 3) for g in (1, 3, 5)])  # fmt: skip
    assert [p.title for p in heat_map_data(two_high).panels] == ["50 training samples", "1600 training samples"]
    high = pd.concat([one.assign(width=w, train_size=n) for w in range(1, 16) for n in (50, 60)])
    wide = pd.concat([high.assign(temperature=t, learning_rate=t) for t in range(1, 11)])
    assert [p.title for p in heat_map_data(wide).panels] == ["60 training samples"]


def test_one_width_is_shown_over_the_amount_of_data(zoo):
    data = heat_map_data(zoo[zoo["width"] == WIDTHS[0]])
    assert data.row_name == "training samples"
    assert [(p.title, p.rows) for p in data.panels] == [("", SIZES)]


def test_batch_size_as_temperature_runs_from_large_to_small(zoo):
    frame = zoo.assign(temperature_axis="batch_size", batch_size=16 / zoo["temperature"], learning_rate=16.0)
    data = heat_map_data(frame)
    assert data.column_name == "batch size"
    assert data.panels[0].columns == (16000.0, 1600.0, 160.0, 16.0)


def test_two_batch_sizes_on_an_axis_of_rates_are_panels_of_their_own(zoo):
    few = zoo[zoo["train_size"].isin(SIZES[:2])]
    data = heat_map_data(pd.concat([few, few.assign(batch_size=32, temperature=few["temperature"] / 2)]))
    assert data.column_name == "learning rate"
    assert [p.title for p in data.panels][:3:2] == [f"50 training samples, batch size {b}" for b in (16, 32)]
    assert {p.columns for p in data.panels} == {RATES}


def test_a_table_that_does_not_say_the_rate_is_shown_over_temperature(zoo):
    data = heat_map_data(zoo.assign(learning_rate=np.nan))
    assert data.column_name == "temperature"
    assert data.panels[0].columns == RATES


def test_missing_and_diverged_cells(zoo):
    frame = zoo[~((zoo["width"] == WIDTHS[0]) & (zoo["learning_rate"] == RATES[0]))].copy()
    frame["diverged"] = ((frame["learning_rate"] == RATES[3]) & (frame["seed"] == 1)).astype(int)
    panel = heat_map_data(frame).panels[0]
    assert np.argwhere(np.isnan(panel.error)).tolist() == [[0, 0]]
    assert panel.diverged.sum(axis=0).tolist() == [0, 0, 0, len(WIDTHS)]
    figure = draw_heat_map(heat_map_data(frame))
    hatched = [patch for ax in figure.axes for patch in ax.patches if patch.get_hatch()]
    assert len(hatched) == len(WIDTHS) * len(SIZES)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["lowest in its row", "a seed diverged"]


def test_a_row_without_networks_has_no_best(zoo):
    frame = zoo.copy()
    frame.loc[frame["width"] == WIDTHS[1], GAIN_COLUMN] = np.nan
    data = heat_map_data(frame)
    assert data.panels[0].best == (2, None, 2, 2)
    assert draw_heat_panel(data.panels[0], LogNorm(1, 100)).patches


def test_the_drawing_holds_a_number_in_every_cell_and_a_frame_in_every_row(zoo):
    panel = heat_map_data(zoo).panels[0]
    ax = draw_heat_panel(panel, LogNorm(1, 100))
    assert [t.get_text() for t in ax.texts] == [f"{e:.1f}" for e in panel.error.ravel()]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.001", "0.01", "0.1", "1"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["4", "8", "16", "32"]
    frames = [p for p in ax.patches if p.get_linewidth() == 2]
    assert [round(p.get_x() + p.get_width() / 2) for p in frames] == list(panel.best)
    assert [round(p.get_y() + p.get_height() / 2) for p in frames] == [0, 1, 2, 3]


def test_all_panels_share_one_scale(zoo):
    data = heat_map_data(zoo)
    low, high = colour_range(data)
    assert low == min(p.error.min() for p in data.panels)
    assert high == max(p.error.max() for p in data.panels)
    equal = heat_map_data(zoo.assign(**{GAIN_COLUMN: 0.0}))
    assert colour_range(equal) == (0.1, 1.1)
    figure = draw_heat_map(data)
    assert len(figure.axes) == len(data.panels) + 1


def test_families_are_not_mixed(zoo):
    with pytest.raises(InputError, match="rows of 2 families; expected those of one"):
        heat_map_data(pd.concat([zoo, zoo.assign(family="second")]))
