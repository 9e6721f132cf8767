"""The summary of a zoo: every figure against one counted by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import RATES, SEEDS, SIZES, WIDTHS, synthetic_zoo

from mdtree.build_status import build_record_file
from mdtree.errors import InputError
from mdtree.zoo import CAUSES, GAIN_COLUMN, QUESTIONS, write_zoo
from mdtree.zoo_summary import find_optima, summarise_family, summarise_tables, summary_values
from mdtree.zoo_summary_text import duration, family_text, label_rows, rate, summary_text

RECORD = {"units": 16, "networks": 256, "train_seconds": 30.0, "measure_seconds": 34.0, "wall_seconds": 20.0,
          "cores": 4, "trained": {"loop": 0, "stack": 256}}  # fmt: skip


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


def summary(frame):
    return summarise_family(frame, "synthetic", "zoo.csv", None)


def test_sizes_axes_and_settings(zoo):
    found = summary(zoo)
    assert (found.cells, found.networks, found.seeds) == (64, 64 * SEEDS, (SEEDS, SEEDS))
    assert found.axes["width"] == WIDTHS
    assert found.axes["train_size"] == SIZES
    assert found.axes["learning_rate"] == RATES
    assert found.axes["batch_size"] == (16.0,)
    assert found.settings["optimizer"] == ("sgd",)


def test_diverged_networks_are_counted(zoo):
    assert summary(zoo).diverged == 0
    assert summary(zoo.assign(diverged=(zoo["learning_rate"] == 1.0).astype(int))).diverged == 64


def test_each_cell_is_counted_once_by_the_label_of_most_of_its_networks(zoo):
    frame = zoo.copy()
    names = list(frame["cell"].unique())
    frame["label_verdict"] = "censored"
    for place, labels in enumerate(
        (["healthy"] * 4, ["healthy"] * 3 + ["ambiguous"], ["healthy"] * 2 + ["too_little_data"] * 2)
    ):
        frame.loc[frame["cell"] == names[place], "label_verdict"] = labels
    verdict = summary(frame).questions[-1]
    assert verdict.cells == {"ambiguous": 1, "censored": 61, "healthy": 2}
    assert verdict.share("healthy") == 2 / 64
    assert verdict.share("too_little_data") == 0.0


def test_shares_of_causes_are_among_cells_with_a_cause(zoo):
    frame = zoo.copy()
    names = list(frame["cell"].unique())
    frame["label_verdict"] = "healthy"
    frame.loc[frame["cell"].isin(names[:1]), "label_verdict"] = "model_too_small"
    frame.loc[frame["cell"].isin(names[1:20]), "label_verdict"] = "too_little_data"
    found = summary(frame)
    assert found.cause_shares == {
        "temperature_too_low": 0.0,
        "temperature_too_high": 0.0,
        "model_too_small": 1 / 20,
        "too_little_data": 19 / 20,
    }
    assert "Under 10 %, too few for a tree to learn: too low, too high, too small." in family_text(found)


def test_a_family_with_one_width_is_judged_by_the_questions_it_can_answer():
    zoo = synthetic_zoo()
    frame = zoo[zoo["width"] == WIDTHS[-1]].assign(label_verdict="censored", label_model_size="censored")
    found = summary(frame)
    assert found.cause_shares is None
    assert [q.question for q in found.questions if q.answerable] == ["temperature", "data"]
    assert "No verdict names a cause. The grid answers: temperature, data." in family_text(found)
    assert [trend.axis for trend in found.trends] == ["train_size"]


def test_where_the_best_temperatures_lie(zoo):
    # by the formula rate 0.1 is best everywhere, rate 1.0 the worst
    assert vars(find_optima(zoo)) == {"rows": 16, "inside": 16, "coldest": 0, "hottest": 0}
    frame = zoo.copy()
    frame.loc[(frame["width"] == 4) & (frame["learning_rate"] == 1.0), GAIN_COLUMN] = 0.0
    frame.loc[(frame["width"] == 8) & (frame["learning_rate"] == 0.001), GAIN_COLUMN] = 0.0
    assert vars(find_optima(frame)) == {"rows": 16, "inside": 8, "coldest": 4, "hottest": 4}
    assert "inside the axis in 8 of 16 rows (4 at the cold end, 4 at the hot end)" in family_text(summary(frame))
    assert find_optima(zoo[zoo["learning_rate"] > 0.01]).rows == 0


def test_gains_in_width_and_data_at_the_best_temperature(zoo):
    width, data = summary(zoo).trends
    assert width.values == WIDTHS
    # 25, 6, 0, 0 points for the width; 15, 8, 0, 0 for the data; 4 at the optimum; 0.3 points of noise per network
    assert width.errors == pytest.approx((34.75, 15.75, 9.75, 9.75), abs=0.3)
    assert data.errors == pytest.approx((26.75, 19.75, 11.75, 11.75), abs=0.3)
    assert width.steps_down == int((np.diff(width.errors) < 0).sum()) >= 2


def test_a_size_that_a_width_lacks_is_left_out_of_its_trend(zoo):
    lame = zoo[~((zoo["train_size"] == 50) & (zoo["width"] == 32))]
    width, _ = summary(lame).trends
    assert width.errors[0] == pytest.approx(25 + 4 + 8 / 3, abs=0.3)


def test_several_tables_and_the_record_of_a_build(zoo, tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    write_zoo(zoo, one)
    write_zoo(zoo.assign(family="second"), other)
    build_record_file(one).write_text(json.dumps(RECORD))
    first, second = summarise_tables([one, other])
    assert first.build.networks_per_second == 12.8
    assert first.build.networks_per_worker_second == 4.0
    assert second.build is None
    text = summary_text([first, second])
    assert max(map(len, text.splitlines())) <= 120
    assert "build                20 s on 4 cores, 13 networks/s; 256 trained in a stack" in text
    assert "training 30 s and measuring 34 s over all workers: 4 networks/s for each" in text
    with pytest.raises(InputError, match=r"family synthetic stands in .*one\.csv and in .*one\.csv"):
        summarise_tables([one, one])


def test_a_table_of_two_families_gives_both_and_claims_no_record(zoo, tmp_path):
    table = tmp_path / "both.csv"
    write_zoo(pd.concat([zoo, zoo.assign(family="second")]), table)
    build_record_file(table).write_text(json.dumps(RECORD))
    found = summarise_tables([table])
    assert [s.family for s in found] == ["synthetic", "second"]
    assert [s.build for s in found] == [None, None]
    assert found[0].questions == found[1].questions


def test_means_over_seeds_are_summarised_without_halves(zoo):
    frame = zoo[zoo["seed"] == 0].assign(seed=np.nan)
    found = summary(frame)
    assert (found.cells, found.seeds, found.agreement) == (64, (0, 0), None)
    assert "Means over seeds: how far labels repeat" in family_text(found)


def test_plain_values_hold_what_the_text_says(zoo):
    values = json.loads(json.dumps(summary_values(summary(zoo))))
    assert set(values["questions"]) == set(QUESTIONS)
    verdict = values["questions"]["verdict"]
    assert sum(verdict["cells"].values()) == 64
    assert verdict["ambiguous_share"] == verdict["cells"].get("ambiguous", 0) / 64
    assert set(verdict["agreement"]) == {"cells", "agree", "abstain"}
    assert set(values["cause_shares"]) == set(CAUSES.values())
    assert values["trends"]["width"]["values"] == list(WIDTHS)
    assert values["agreement"] == {"sizes": [2, 2], "splits": 3}
    row = label_rows(summary(zoo).questions)[-1]
    assert row[0] == "verdict"
    assert row[1:5] == tuple(str(verdict["cells"].get(cause) or "") for cause in CAUSES.values())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.0, "0 s"), (2.34, "2.3 s"), (59.4, "59 s"), (90, "2 min"), (7260, "2 h 01 min")],
)
def test_durations_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_rates_have_two_digits():
    assert [rate(r) for r in (None, 0.1234, 4.68, 123.4)] == ["-", "0.12", "4.7", "123"]
