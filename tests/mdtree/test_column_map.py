"""Foreign metric tables by a column map, and what a table that is no full grid can answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_zoo import synthetic_zoo

from mdtree.cli.zoo_runs import label_command
from mdtree.column_map import read_column_map, read_mapped
from mdtree.errors import InputError
from mdtree.fitting import fit_diagnoser
from mdtree.room import label_zoo
from mdtree.supported_questions import YES, label_supported, supported_questions
from mdtree.zoo import LABEL_COLUMNS, read_zoo

MAP = """
[columns]
width = "channels"
train_size = "images"
learning_rate = "lr"
seed = "run"
train_error_percent = {column = "train_acc", factor = -100, offset = 100}
gain_test_error_percent = {column = "acc", factor = -1, offset = 100}
hessian_trace = {column = "log_trace", transform = "exp"}
connectivity_peak_percent = {column = "mode_conn", factor = -1}
[constants]
family = "ours"
batch_size = 128
"""


def foreign(frame: pd.DataFrame) -> pd.DataFrame:
    """A zoo as somebody else would keep it."""
    return pd.DataFrame(
        {
            "run": frame["seed"],
            "channels": frame["width"],
            "images": frame["train_size"],
            "lr": frame["learning_rate"],
            "train_acc": 1 - frame["train_error_percent"] / 100,
            "acc": 100 - frame["gain_test_error_percent"],
            "log_trace": np.log(frame["hessian_trace"]),
            "mode_conn": 0.0,
            "comment": "hello",
        }
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    foreign(synthetic_zoo()).to_csv(tmp_path / "theirs.csv", index=False)
    (tmp_path / "map.toml").write_text(MAP)
    return tmp_path / "theirs.csv", tmp_path / "map.toml"


def refusal(files: tuple[Path, Path], text: str) -> str:
    files[1].write_text(text)
    with pytest.raises(InputError) as caught:
        read_mapped(files[0], read_column_map(files[1]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_units_and_constants_are_mapped(files: tuple[Path, Path]) -> None:
    ours, zoo = read_mapped(files[0], read_column_map(files[1])), synthetic_zoo()
    for name in ("width", "train_size", "seed", "train_error_percent", "gain_test_error_percent", "hessian_trace"):
        np.testing.assert_allclose(ours[name], zoo[name].astype(float), rtol=1e-9, atol=1e-9, err_msg=name)
    assert set(ours["family"]) == {"ours"}
    np.testing.assert_allclose(ours["temperature"], zoo["learning_rate"] / 128)
    assert set(ours["temperature_axis"]) == {"learning_rate"}
    assert ours["cell"][0] == "width=4 train_size=50 temperature=7.8125e-06 learning_rate=0.001"
    assert ours["sibling_seed"].tolist()[:4] == [1, 2, 3, 0]
    assert not np.signbit(ours["connectivity_peak_percent"]).any()
    assert ours["cka"].isna().all()
    assert ours["parameter_count"].isna().all()


def test_labels_are_those_of_the_same_grid_and_trees_use_what_is_there(files: tuple[Path, Path]) -> None:
    output = files[0].with_name("zoo.csv")
    done = CliRunner().invoke(
        label_command, [str(files[0]), "--columns", str(files[1]), "-o", str(output), "--json"], catch_exceptions=False
    )
    assert json.loads(done.stdout)["questions"] == dict.fromkeys(("temperature", "model_size", "data", "verdict"), YES)
    table, zoo = read_zoo(output), synthetic_zoo()
    for name in LABEL_COLUMNS:
        assert table[name].tolist() == zoo[name].tolist()
    diagnoser = fit_diagnoser(table, "theirs")
    assert set(diagnoser.ranges) == {"train_error_percent", "hessian_trace", "connectivity_peak_percent"}
    assert set(diagnoser.trees["verdict"]) == {"alone", "alone_test", "sibling", "sibling_test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[columns", "map.toml is not TOML"),
        ("[filter]\nx = 1", "unknown key 'filter'; expected the sections [columns] and [constants]"),
        ("columns = 3", "columns = 3; expected a section [columns]"),
        (
            "[columns]\nwidht = 'channels'",
            "[columns]: unknown key 'widht'; expected a column of the zoo table: family,",
        ),
        ("[constants]\nlabel_verdict = 'healthy'", "[constants]: unknown key 'label_verdict'"),
        ("[columns]\nwidth = 3", "width = 3; expected a column's name, or {column = "),
        (
            "[columns]\nwidth = {column = 'channels', scale = 2}",
            "[columns], width: unknown key 'scale'; expected one of",
        ),
        ("[columns]\nwidth = {column = 'c', factor = 'two'}", "[columns], width: factor = 'two'; expected a finite"),
        ("[columns]\nwidth = {column = 'c', transform = 'log'}", "transform = 'log'; expected one of exp, exp10"),
        ("[columns]\nfamily = {column = 'c', factor = 2}", "family is text; expected no factor"),
        ("[constants]\nbatch_size = 'big'", "[constants]: batch_size = 'big'; expected a finite number"),
        (MAP + "width = 3", "names width both as a column and as a constant; expected one of them"),
        ("[columns]\nseed = 'run'\ntrain_loss = 'lr'", "maps neither gain_test_error_percent nor test_error_percent"),
        ("[columns]\nseed = 'run'\ngain_test_error_percent = 'acc'", "map.toml maps no metric"),
        (MAP.replace('"channels"', '"chanels"'), "theirs.csv has no column chanels; expected the columns that the map"),
        (
            MAP.replace('"channels"', '"comment"'),
            "theirs.csv, line 2, column comment: 'hello'; expected a number above 0",
        ),
        (MAP.replace('width = "channels"', ""), "line 66: seed 0 of cell 'train_size=50"),
        (MAP.replace('seed = "run"', ""), "no seed is mapped"),
    ],
)
def test_a_wrong_map_is_refused_in_one_line(files: tuple[Path, Path], text: str, message: str) -> None:
    assert message in refusal(files, text)


def test_an_empty_foreign_table_is_refused(files: tuple[Path, Path]) -> None:
    files[0].write_text("run,channels\n")
    assert "theirs.csv holds no rows; expected one row per network" in refusal(files, MAP)
    files[0].write_text("")
    assert "theirs.csv is empty" in refusal(files, MAP)


def test_a_full_grid_is_labelled_as_label_zoo_labels_it() -> None:
    zoo = synthetic_zoo()
    pd.testing.assert_frame_equal(label_supported(zoo), label_zoo(zoo))


def test_seeds_that_do_not_recur_are_paired_by_rank() -> None:
    zoo = synthetic_zoo()
    run_number = zoo.assign(seed=np.arange(len(zoo)))  # as trackers number runs: no number occurs twice
    labelled = label_supported(run_number)
    assert labelled["seed"].tolist() == list(range(len(zoo)))
    for name in LABEL_COLUMNS:
        assert labelled[name].tolist() == zoo[name].tolist()


def test_two_seeds_are_kept_without_labels_and_the_reason_is_told() -> None:
    labelled = label_supported(synthetic_zoo().query("seed < 2"))
    assert set(labelled["label_temperature"]) == {"censored"}
    assert labelled["rfi_data_points"].isna().all()
    said = supported_questions(labelled)
    assert said["temperature"] == "labels need 3 seeds in a cell, and there are 2 at most"


def test_one_axis_answers_its_own_question_and_says_what_it_cannot() -> None:
    zoo = synthetic_zoo()
    temperatures = label_supported(zoo.query("width == 32 and train_size == 1600"))
    said = supported_questions(temperatures)
    assert said["temperature"] == YES
    assert said["model_size"] == "width does not vary"
    assert said["data"] == "train size does not vary"
    widths = supported_questions(label_supported(zoo.query("learning_rate == 0.1 and train_size == 1600")))
    assert widths["temperature"] == "temperature does not vary"
    assert widths["model_size"] == "compared with a change of temperature, and temperature does not vary"


def test_a_verdict_is_among_the_causes_whose_axes_are_there() -> None:
    zoo = synthetic_zoo()
    temperatures = label_supported(zoo.query("width == 32 and train_size == 1600"))
    assert supported_questions(temperatures)["verdict"] == YES
    rate, verdict = temperatures["learning_rate"], temperatures["label_verdict"]
    assert set(verdict[rate == 0.001]) == {"temperature_too_low"}
    assert set(verdict[rate == 0.1]) == {"healthy"}
    assert set(verdict[rate == 1.0]) == {"temperature_too_high"}
    widths = label_supported(zoo.query("learning_rate == 0.1 and train_size == 1600"))
    assert set(widths.query("width == 4")["label_verdict"]) == {"model_too_small"}
    assert set(widths.query("width == 32")["label_verdict"]) == {"censored"}  # the grid ends here
    diagnoser = fit_diagnoser(temperatures, "one axis")
    assert diagnoser.zoo["not_told"] == ["model_too_small", "too_little_data"]


def test_two_cells_at_one_place_are_refused() -> None:
    zoo = synthetic_zoo()
    twice = pd.concat([zoo, zoo.assign(cell=zoo["cell"] + "-again", epochs=20)], ignore_index=True)
    with pytest.raises(InputError, match=r"'w4-n50-r0.001' and 'w4-n50-r0.001-again' stand at the same place"):
        label_supported(twice)
