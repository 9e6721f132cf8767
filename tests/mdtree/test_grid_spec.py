"""A grid unfolded: blocks and cells in a fixed order, cut into units, the held-out ones drawn beforehand."""

from dataclasses import replace

import pytest

from landscape.protocol import Protocol
from mdtree.grid_spec import Budget, ZooSpec, units_of, updates_per_epoch

SPEC = ZooSpec(
    family="small",
    seeds=3,
    data_name="digits",
    data_seed=7,
    train_sizes=(50, 100),
    label_noises=(0.0, 0.1),
    architectures=("mlp",),
    widths=(4, 8),
    learning_rates=(0.01, 0.1),
    batch_sizes=(16,),
    budgets=(Budget(steps=20),),
    optimizers=("sgd",),
    momentum=0.9,
    weight_decays=(5e-4,),
    schedules=("constant",),
    augmentations=("none",),
    held_out_share=0.25,
    held_out_seed=1,
    pretraining=None,
    protocol=Protocol(),
)


def test_the_grid_is_unfolded_in_a_fixed_order():
    names = [block.name for block in SPEC.blocks()]
    assert names[:5] == ["w4-n50-e0", "w4-n50-e0.1", "w4-n100-e0", "w4-n100-e0.1", "w8-n50-e0"]
    assert [cell.name for cell in SPEC.cells()[:3]] == ["w4-n50-e0-r0.01", "w4-n50-e0-r0.1", "w4-n50-e0.1-r0.01"]


def test_a_block_says_its_network_and_data_as_diagnose_is_given_them():
    first = next(SPEC.blocks())
    assert (first.model_spec, first.data_spec) == ("mlp?width=4", "digits?train=50&label_noise=0&seed=7")
    other = next(replace(SPEC, architectures=("mlp?depth=3",), data_name="cifar10?size=8").blocks())
    assert other.model_spec == "mlp?depth=3&width=4"
    assert other.data_spec == "cifar10?size=8&train=50&label_noise=0&seed=7"


def test_only_axes_that_vary_stand_in_a_cells_name():
    spec = replace(SPEC, weight_decays=(1e-3, 1e-2), schedules=("constant", "cosine"), batch_sizes=(8, 32))
    names = [cell.name for cell in spec.cells()]
    assert names[0] == "w4-n50-e0-d0.001-constant-b8-r0.01"
    assert len(set(names)) == len(names) == 2 * 2 * 2 * 2 * 2 * 4


@pytest.mark.parametrize(
    ("rates", "batches", "axis"),
    [
        ((0.1, 0.2), (16,), "learning_rate"),
        ((0.1,), (8, 16), "batch_size"),
        ((0.1, 0.2), (8, 16), "learning_rate"),
        ((0.1,), (16,), "learning_rate"),
    ],
)
def test_the_temperature_axis_is_what_has_several_values(rates, batches, axis):
    assert replace(SPEC, learning_rates=rates, batch_sizes=batches).temperature_axis == axis


def test_a_batch_beyond_the_data_is_no_cell_of_a_batch_size_axis():
    spec = replace(SPEC, learning_rates=(0.1,), batch_sizes=(16, 64))
    sizes = {block.train_size: [cell.batch_size for cell in spec.cells_of(block)] for block in spec.blocks()}
    assert sizes == {50: [16], 100: [16, 64]}


def test_fixed_epochs_make_more_updates_of_smaller_batches():
    assert Budget(epochs=4).steps_for(100, 16) == 24  # six whole batches an epoch
    assert Budget(epochs=4).steps_for(100, 50) == 8
    assert Budget(epochs=0.01).steps_for(100, 50) == 1
    assert Budget(steps=30).steps_for(100, 50) == 30
    assert updates_per_epoch(10, 16) == 1
    assert (str(Budget(epochs=2.5)), str(Budget(steps=30))) == ("2.5 epochs", "30 steps")


def test_a_stack_is_a_block_at_one_batch_size_and_a_loop_one_cell():
    spec = replace(SPEC, batch_sizes=(8, 32))
    block = next(spec.blocks())
    stacks, loops = units_of(spec, block, True), units_of(spec, block, False)
    assert [unit.name for unit in stacks] == ["w4-n50-e0-b8", "w4-n50-e0-b32"]
    assert [unit.networks for unit in stacks] == [6, 6]
    assert [unit.name for unit in loops] == [cell.name for cell in spec.cells_of(block)]
    assert {unit.way for unit in stacks} == {"stack"}
    assert {unit.way for unit in loops} == {"loop"}
    assert units_of(SPEC, next(SPEC.blocks()), True)[0].name == "w4-n50-e0"


def test_held_out_cells_are_drawn_from_the_seed_alone():
    held = SPEC.held_out_cells()
    assert held < {cell.name for cell in SPEC.cells()}
    assert len(held) == 4
    assert replace(SPEC).held_out_cells() == held
    assert replace(SPEC, held_out_seed=2).held_out_cells() != held


def test_two_specifications_differ_in_their_plain_values():
    assert replace(SPEC).to_dict() == SPEC.to_dict()
    assert replace(SPEC, budgets=(Budget(epochs=3),)).to_dict() != SPEC.to_dict()
    assert replace(SPEC, protocol=Protocol(curve_steps=7)).to_dict() != SPEC.to_dict()
