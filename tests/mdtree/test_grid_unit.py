"""One unit of a zoo: which networks it holds, from where they start, and what its rows say."""

from dataclasses import replace

import pytest
import torch
from test_grid_spec import SPEC
from torch import nn

from landscape.protocol import Protocol
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.grid_spec import Budget, Pretraining, units_of
from mdtree.grid_unit import UnitTask, finish_unit, fresh, last_linear, measured_rows, network_seed, train_unit
from mdtree.training import Trained, train_loop

SMALL = replace(
    SPEC,
    train_sizes=(40,),
    label_noises=(0.0,),
    widths=(4,),
    budgets=(Budget(steps=15),),
    protocol=Protocol(curve_steps=5),
)


def the_unit(spec, stacked=True):
    return units_of(spec, next(spec.blocks()), stacked)[0]


def test_a_loop_trains_each_network_from_its_own_seed():
    spec = replace(SMALL, optimizers=("adamw",), schedules=("cosine",))
    unit = the_unit(spec, stacked=False)
    data = load_data(unit.block.data_spec)
    trained = train_unit(unit)
    assert list(trained) == [(unit.cells[0].name, seed) for seed in range(3)]
    seed = network_seed(1)
    recipe = spec.recipe(unit.cells[0])
    assert (recipe.optimizer, recipe.schedule, recipe.steps) == ("adamw", "cosine", 15)
    by_hand = train_loop(fresh(unit.block, data, seed), data.x_train, data.y_train, recipe, seed)
    for name, value in trained[unit.cells[0].name, 1].state.items():
        assert value.equal(by_hand.state[name])


def test_stack_and_loop_are_the_same_training_up_to_rounding():
    stack = train_unit(the_unit(SMALL))
    loops = {
        key: value for unit in units_of(SMALL, next(SMALL.blocks()), False) for key, value in train_unit(unit).items()
    }
    assert stack.keys() == loops.keys()
    for key, network in stack.items():
        for name, value in network.state.items():
            torch.testing.assert_close(value, loops[key].state[name], rtol=1e-4, atol=1e-5)


TUNED = replace(
    SMALL,
    data_name="digits?only=5,6,7,8,9",
    widths=(16,),
    pretraining=Pretraining("digits?only=0,1,2,3,4&train=60", 0.05, 8, 60),
    budgets=(Budget(steps=1),),
    learning_rates=(1e-30,),
    weight_decays=(0.0,),
)


def test_fine_tuning_starts_from_one_pre_trained_network_with_a_new_last_layer():
    """At a rate of nothing what is trained is what was started from."""
    networks = list(train_unit(the_unit(TUNED, stacked=False)).values())
    first, second = networks[0].state, networks[1].state
    untrained = fresh(next(TUNED.blocks()), load_data("digits?only=5,6,7,8,9&train=40"), network_seed(0)).state_dict()
    for name, value in first.items():
        if name.startswith("output"):
            assert value.equal(untrained[name])
            assert not value.equal(second[name])
        else:
            assert value.equal(second[name])
            assert not value.equal(untrained[name])
    old = load_data("digits?only=0,1,2,3,4&train=60")
    hidden = {name: value for name, value in first.items() if not name.startswith("output")}
    model = fresh(next(TUNED.blocks()), old, 0)
    model.load_state_dict(hidden, strict=False)
    features = nn.Sequential(*list(model)[:-1])(old.x_train).detach()
    means = torch.stack([features[old.y_train == label].mean(0) for label in range(5)])
    nearest = torch.cdist(features, means).argmin(1)
    assert (nearest == old.y_train).float().mean() > 0.9  # it tells the classes it was trained on apart


def test_pre_training_on_inputs_of_another_shape_is_refused():
    wrong = replace(TUNED.pretraining, data_spec="digits?shape=image&train=60")
    with pytest.raises(InputError, match=r"\[pretraining\] data has inputs of shape \(1, 8, 8\); expected \(64,\)"):
        train_unit(the_unit(replace(TUNED, pretraining=wrong), stacked=False))


def test_the_last_linear_layer():
    assert last_linear(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2), nn.ReLU()))) == "2.0"
    with pytest.raises(InputError, match="without a linear layer was to be fine-tuned"):
        last_linear(nn.Sequential(nn.Conv2d(1, 2, 3)))


def test_the_neighbour_of_a_diverged_network_has_no_pair_metrics():
    unit = the_unit(replace(SMALL, learning_rates=(0.05,)))
    trained = train_unit(unit)
    cell = unit.cells[0].name
    broken = {name: torch.full_like(value, torch.nan) for name, value in trained[cell, 1].state.items()}
    rows = measured_rows(unit, {**trained, (cell, 1): Trained(broken, True)})
    assert [row["diverged"] for row in rows] == [0, 1, 0]
    has_pair = [row["cka"] == row["cka"] for row in rows]
    has_trace = [row["hessian_trace"] == row["hessian_trace"] for row in rows]
    assert (has_trace, has_pair) == ([True, False, True], [False, False, True])
    assert [row["sibling_seed"] for row in rows] == [1, 2, 0]


def test_a_finished_unit_tells_what_it_took_and_leaves_the_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        result = finish_unit(UnitTask(the_unit(SMALL)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (result.facts["networks"], result.facts["diverged"], result.facts["trained"]) == (6, 0, "stack")
    assert result.facts["train_seconds"] > 0 < result.facts["measure_seconds"]
    assert result.rows["trained"].eq("stack").all()
    assert result.rows["steps"].eq(15).all()
    assert result.rows["epochs"].eq(15 / 2).all()  # two whole batches of 16 in 40 samples
