"""Changed configurations trained for real: fresh seeds, the recipe of the grid, nothing lost when it is interrupted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scripted_zoo import SPECIFICATION, scripted_spec

from mdtree import retraining
from mdtree.backends import Backend
from mdtree.configuration_change import changed_cell
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.grid_unit import network_seed
from mdtree.models import build_model
from mdtree.retraining import cost_of, group_trials, retrain
from mdtree.training import train_loop

HERE = Backend(workers=1)
SEEDS = (100, 101)


@pytest.fixture
def spec(tmp_path):
    return scripted_spec(tmp_path)


def three_cells(spec):
    """Two of one block, one of another width."""
    cold, best = spec.cells()[:2]
    return [cold, best, changed_cell(spec, best, "width", 9)]


def test_cells_of_one_block_train_in_one_stack(spec):
    trials = group_trials(spec, three_cells(spec), SEEDS)
    assert [(t.name, t.stacked, t.networks) for t in trials] == [
        ("w4-n100-e0-r0.01 w4-n100-e0-r0.1", True, 4),
        ("w9-n100-e0-r0.1", True, 2),
    ]
    cost = cost_of(trials)
    assert dataclasses.asdict(cost) == {"configurations": 3, "networks": 6, "stacked": 6, "updates": 6 * 60}


def test_what_a_stack_cannot_hold_trains_in_a_loop(spec):
    wide = changed_cell(spec, spec.cells()[1], "width", 400)  # 190,000 weights
    assert [t.stacked for t in group_trials(spec, [spec.cells()[1], wide], SEEDS)] == [True, False]


def test_the_error_is_that_of_the_recipe_from_the_fresh_seed_on_the_gain_half(spec, tmp_path):
    wide = changed_cell(spec, spec.cells()[1], "width", 400)
    errors = retrain(group_trials(spec, [wide], SEEDS[:1]), tmp_path / "t.csv", backend=HERE)
    data = load_data("digits?train=100&test=second_half")
    model = build_model("mlp?width=400", num_classes=10, input_shape=(64,), seed=network_seed(100))
    trained = train_loop(model, data.x_train, data.y_train, spec.recipe(wide), network_seed(100))
    model.load_state_dict(trained.state)
    wrong = (model.eval()(data.x_test).argmax(1) != data.y_test).double().mean()
    assert errors[wide.name].tolist() == [pytest.approx(100 * float(wrong), abs=1e-3)]


def test_a_change_that_helps_lowers_the_error(spec, tmp_path):
    """A rate ten times higher leaves the start behind; each configuration has a number per seed."""
    cold, best = (next(c for c in spec.cells() if c.name == f"w16-n400-e0-r{rate}") for rate in ("0.01", "0.1"))
    more = changed_cell(spec, best, "train_size", 800)
    errors = retrain(group_trials(spec, [cold, best, more], (100, 101, 102)), tmp_path / "t.csv", backend=HERE)
    assert {values.shape for values in errors.values()} == {(3,)}
    assert errors[best.name].mean() < errors[cold.name].mean() - 20
    assert len(set(errors[best.name])) == 3


def test_interrupted_it_goes_on_and_ends_in_the_same_bytes(spec, tmp_path, monkeypatch):
    trials = group_trials(spec, three_cells(spec), SEEDS)
    whole = retrain(trials, tmp_path / "whole.csv", backend=HERE)
    trained = []

    def counted(task):
        if len(trained) == 1:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(task.trials.name)
        return finish(task)

    finish = retraining.finish_trials
    monkeypatch.setattr(retraining, "finish_trials", counted)
    with pytest.raises(KeyboardInterrupt):
        retrain(trials, tmp_path / "cut.csv", backend=HERE)
    assert not (tmp_path / "cut.csv").exists()
    shares = []
    again = retrain(trials, tmp_path / "cut.csv", backend=HERE, progress=lambda what, share: shares.append(share))
    assert sorted(trained) == sorted([trials[0].name, trials[1].name, "stopped"])
    assert shares[0] == pytest.approx(shares[-1] - (1 - shares[0]))
    assert 0 < shares[0] < shares[-1] == 1
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "cut.csv.partial").exists()
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values)


def test_a_finished_table_is_read_and_nothing_is_trained(spec, tmp_path, monkeypatch):
    trials = group_trials(spec, three_cells(spec), SEEDS)
    first = retrain(trials, tmp_path / "t.csv", backend=HERE)
    monkeypatch.setattr(retraining, "finish_trials", None)
    second = retrain(trials[1:], tmp_path / "t.csv", backend=HERE)
    assert list(second) == ["w9-n100-e0-r0.1"]
    np.testing.assert_array_equal(second["w9-n100-e0-r0.1"], first["w9-n100-e0-r0.1"])


def test_processes_and_this_process_agree(spec, tmp_path):
    trials = group_trials(spec, three_cells(spec), SEEDS)
    retrain(trials, tmp_path / "here.csv", backend=HERE)
    retrain(trials, tmp_path / "there.csv", backend=Backend(workers=2))
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_diverged_network_answers_one_class(spec, tmp_path):
    hot = changed_cell(spec, spec.cells()[-1], "learning_rate", 1e30)
    errors = retrain(group_trials(spec, [hot], SEEDS), tmp_path / "t.csv", backend=HERE)
    assert np.all(errors[hot.name] > 80)
    assert pd.read_csv(tmp_path / "t.csv")["diverged"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "seeds", "count", "complaint"),
    [
        (SPECIFICATION.replace("steps = 60", "steps = 61"), SEEDS, 1, "holds trainings of another specification"),
        (SPECIFICATION, (100, 102), 1, "holds trainings of another specification, other seeds"),
        (SPECIFICATION, SEEDS, 2, "holds other trainings: 1 of 2 configurations are not there"),
    ],
)
def test_a_table_of_other_trainings_is_refused(spec, tmp_path, text, seeds, count, complaint):
    table = tmp_path / "t.csv"
    retrain(group_trials(spec, spec.cells()[:1], SEEDS), table, backend=HERE)
    before = table.read_bytes()
    other = scripted_spec(tmp_path, text)
    with pytest.raises(InputError, match=complaint):
        retrain(group_trials(other, other.cells()[:count], seeds), table, backend=HERE)
    assert table.read_bytes() == before


def test_a_file_that_is_no_such_table_is_refused(spec, tmp_path):
    file = tmp_path / "t.csv"
    for content in ("", "cell,seed\na,1\n", "\x00\xff"):
        file.write_text(content)
        with pytest.raises(InputError, match="is no table of trainings"):
            retrain(group_trials(spec, spec.cells()[:1], SEEDS), file, backend=HERE)
