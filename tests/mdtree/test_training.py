"""The two roads of training agree, and each follows its recipe."""

import numpy as np
import pytest
import torch
from torch import nn

from mdtree.errors import InputError
from mdtree.models import model_factory
from mdtree.training import Recipe, StackMember, batch_order, train_loop, train_stack


def make_model(seed, width=5):
    return model_factory(f"mlp?width={width}", num_classes=3, input_shape=(4,), seed=seed)()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def test_a_stack_trains_as_a_loop_does_up_to_rounding(data):
    x, y = data
    recipe = Recipe(0.05, batch_size=8, steps=40)
    members = [StackMember(seed, rate, y) for rate in (0.01, 0.05) for seed in (1, 2)]
    stacked = train_stack(make_model, members, x, recipe)
    for member, trained in zip(members, stacked, strict=True):
        alone = train_loop(make_model(member.seed), x, y, Recipe(member.learning_rate, 8, 40), member.seed)
        for name, value in alone.state.items():
            torch.testing.assert_close(trained.state[name], value, rtol=1e-4, atol=1e-5)
        assert not trained.diverged


def test_members_of_a_stack_do_not_disturb_each_other(data):
    x, y = data
    recipe = Recipe(0.05, batch_size=8, steps=30)
    quiet = train_stack(make_model, [StackMember(1, 0.05, y), StackMember(2, 0.05, y)], x, recipe)
    beside_a_wild_one = train_stack(make_model, [StackMember(1, 0.05, y), StackMember(2, 50.0, 2 - y)], x, recipe)
    for name, value in quiet[0].state.items():
        torch.testing.assert_close(beside_a_wild_one[0].state[name], value)


def test_training_fits_the_data_and_leaves_the_start_alone(data):
    x, y = data
    model = make_model(1, width=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = train_loop(model, x, y, Recipe(0.05, batch_size=10, steps=400), seed=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.load_state_dict(trained.state)
    assert (model(x).argmax(1) == y).double().mean() > 0.95


def test_equal_seeds_give_equal_bytes(data):
    x, y = data
    runs = [train_stack(make_model, [StackMember(1, 0.05, y)], x, Recipe(0.05, 8, 20)) for _ in range(2)]
    assert all(torch.equal(value, runs[1][0].state[name]) for name, value in runs[0][0].state.items())


def test_divergence_is_told(data):
    x, y = data
    assert train_loop(make_model(1), x, y, Recipe(1e20, 8, 20, schedule="constant"), 0).diverged


def test_every_epoch_sees_each_sample_at_most_once():
    order = batch_order(samples=50, batch_size=16, steps=7, seed=3)
    assert order.shape == (7, 16)
    for first in (0, 3):
        epoch = order[first : first + 3].ravel()
        assert len(set(epoch)) == 48
    assert not np.array_equal(order[:3], order[3:6])
    assert batch_order(samples=10, batch_size=16, steps=2, seed=0).shape == (2, 10)


def test_the_rate_is_constant_to_half_and_one_percent_at_the_end():
    recipe = Recipe(0.1, steps=1000)
    assert recipe.rate_factor(0) == recipe.rate_factor(499) == 1.0
    assert recipe.rate_factor(700) == pytest.approx(1 - 0.99 / 2)
    assert recipe.rate_factor(900) == pytest.approx(0.01)
    assert recipe.rate_factor(999) == 0.01
    assert Recipe(0.1, steps=10, schedule="constant").rate_factor(9) == 1.0


def test_a_stack_refuses_running_statistics(data):
    x, y = data
    with pytest.raises(InputError, match="BatchNorm"):
        train_stack(
            lambda seed: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), [StackMember(0, 0.1, y)], x, Recipe(0.1)
        )


@pytest.mark.parametrize("bad", [{"learning_rate": 0.0}, {"steps": 0}, {"schedule": "cosine"}])
def test_bad_recipes_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Recipe(**{"learning_rate": 0.1, **bad})
