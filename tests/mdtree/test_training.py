"""The two roads of training agree, and each follows its recipe."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mdtree import stacking, training
from mdtree.augmentation import AUGMENTATIONS
from mdtree.errors import InputError
from mdtree.models import build_model, model_factory
from mdtree.training import (
    OPTIMIZERS,
    SCHEDULES,
    Recipe,
    StackMember,
    batch_order,
    train_loop,
    train_stack,
    trains_in_stack,
)


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


def double_model(seed):
    return make_model(seed).double()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_stacked_optimizer_is_that_of_torch(data, optimizer, schedule):
    x, y = data[0].double(), data[1]
    recipe = Recipe(0.01, 8, 40, momentum=0.8, weight_decay=0.1, schedule=schedule, optimizer=optimizer)
    members = [StackMember(seed, rate, y) for rate in (0.003, 0.03) for seed in (1, 2)]
    for member, trained in zip(members, train_stack(double_model, members, x, recipe), strict=True):
        alone = train_loop(
            double_model(member.seed), x, y, replace(recipe, learning_rate=member.learning_rate), member.seed
        )
        for name, value in alone.state.items():
            torch.testing.assert_close(trained.state[name], value, rtol=1e-9, atol=1e-11)


def test_the_optimizers_follow_their_first_step():
    """From zero momentum: SGD moves by rate · (g + λw), Adam by the rate in the sign of that, AdamW decays apart."""
    x, y = torch.tensor([[1.0, -2.0]]), torch.tensor([0])
    model = nn.Linear(2, 2)
    nn.functional.cross_entropy(model(x), y).backward()
    w, g = model.weight.detach(), model.weight.grad
    wanted = {
        "sgd": w - 0.1 * (g + 0.5 * w),
        "adam": w - 0.1 * (g + 0.5 * w).sign(),
        "adamw": w * (1 - 0.1 * 0.5) - 0.1 * g.sign(),
    }
    for optimizer, after in wanted.items():
        recipe = Recipe(0.1, 1, 1, weight_decay=0.5, optimizer=optimizer)
        alone = train_loop(model, x, y, recipe, 0)
        stacked = train_stack(lambda _: model, [StackMember(0, 0.1, y)], x, recipe)[0]
        for trained in (alone, stacked):
            torch.testing.assert_close(trained.state["weight"], after, rtol=1e-5, atol=1e-6)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 1, 8, 8, generator=generator), torch.randint(3, (30,), generator=generator)


def make_picture_model(seed):
    return build_model("cnn?width=2", num_classes=3, input_shape=(1, 8, 8), seed=seed)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_member_of_a_stack_sees_the_pictures_it_would_see_alone(pictures, augmentation):
    x, y = pictures
    recipe = Recipe(0.05, 4, 15, augmentation=augmentation)
    together = training._Batches(x, [3, 7], recipe)
    for row, seed in enumerate((3, 7)):
        alone = training._Batches(x, [seed], recipe)
        for step in range(recipe.steps):
            for of_both, of_one in zip(together.at(step), alone.at(step), strict=True):
                assert torch.equal(of_both[row], of_one[0])
    members = [StackMember(seed, 0.05, y) for seed in (3, 7)]
    for member, trained in zip(members, train_stack(make_picture_model, members, x, recipe), strict=True):
        alone = train_loop(make_picture_model(member.seed), x, y, recipe, member.seed)
        for name, value in alone.state.items():
            torch.testing.assert_close(trained.state[name], value, rtol=1e-4, atol=1e-5)


def test_augmentation_changes_the_pictures_and_not_their_order(pictures):
    plain, changed = (training._Batches(pictures[0], [3], Recipe(0.1, 8, 3, augmentation=a)) for a in ("none", "flip"))
    for step in range(3):
        (x, batch), (y, same_batch) = plain.at(step), changed.at(step)
        assert torch.equal(batch, same_batch)
        kept = (x == y).flatten(2).all(2)[0]
        mirrored = (x.flip(4) == y).flatten(2).all(2)[0]
        assert (kept | mirrored).all()
        assert kept.any()
        assert mirrored.any()


def test_vectors_cannot_be_augmented(data):
    x, y = data
    recipe = Recipe(0.1, 8, 3, augmentation="flip")
    with pytest.raises(InputError, match="expected images"):
        train_loop(make_model(1), x, y, recipe, 0)
    with pytest.raises(InputError, match="expected images"):
        train_stack(make_model, [StackMember(1, 0.1, y)], x, recipe)


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


def test_a_network_that_became_nan_is_trained_no_further(data):
    x, y = data
    calls = []
    model = make_model(1)
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    hot = Recipe(1e20, 8, 1000, schedule="constant")
    assert train_loop(model, x, y, hot, 0).diverged
    assert len(calls) == 100
    calls.clear()
    assert not train_loop(model, x, y, Recipe(0.01, 8, 300), 0).diverged
    assert len(calls) == 300


def test_a_diverged_member_is_marked_and_the_others_are_not(data):
    x, y = data
    members = [StackMember(1, 0.05, y), StackMember(2, 1e20, y)]
    recipe = Recipe(0.05, 8, 20, schedule="constant")
    assert [trained.diverged for trained in train_stack(make_model, members, x, recipe)] == [False, True]


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


def test_the_cosine_falls_from_the_full_rate_to_nothing():
    recipe = Recipe(0.1, steps=100, schedule="cosine")
    assert [recipe.rate_factor(k) for k in (0, 25, 50)] == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5])
    assert 0 < recipe.rate_factor(99) < 1e-3


def test_training_leaves_the_random_state_and_the_model_in_their_mode(data):
    x, y = data
    model = make_model(1).eval()
    before = torch.get_rng_state()
    train_loop(model, x, y, Recipe(0.05, 8, 5), 0)
    train_stack(make_model, [StackMember(1, 0.05, y)], x, Recipe(0.05, 8, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_states_are_of_single_precision_and_their_own(data):
    x, y = data
    states = [
        t.state for t in train_stack(make_model, [StackMember(s, 0.05, y) for s in (1, 2)], x, Recipe(0.05, 8, 5))
    ]
    for value in states[0].values():
        assert value.dtype == torch.float32
        assert value.device.type == "cpu"
        assert value.untyped_storage().nbytes() == 4 * value.numel()


def test_half_precision_is_for_the_forward_on_cuda_only():
    with stacking.forward_precision(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = nn.Linear(4, 3)(torch.ones(2, 4))
    assert logits.dtype == torch.bfloat16
    assert stacking.cross_entropy(logits, torch.tensor([0, 1])).dtype == torch.float32


def test_recorded_gradients_in_half_precision_are_single_and_close(data, monkeypatch):
    """What a CUDA device records, with the CPU's bfloat16 in its place."""
    x, y = data
    names = [name for name, _ in make_model(1).named_parameters()]
    parameters = [
        torch.stack([dict(make_model(seed).named_parameters())[n].detach() for seed in (1, 2)]) for n in names
    ]
    inputs, targets = x[:20].view(2, 10, 4), y[:20].view(2, 10)
    exact = stacking.stacked_gradients(make_model(1), names, parameters, inputs, targets)
    monkeypatch.setattr(
        stacking, "forward_precision", lambda device: torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)
    )
    rough = stacking.stacked_gradients(make_model(1), names, parameters, inputs, targets)
    for single, half in zip(exact(parameters, inputs, targets), rough(parameters, inputs, targets), strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(single, half)
        torch.testing.assert_close(half, single, rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("network", "shape", "stacked"),
    [
        ("mlp?width=32", (64,), True),
        ("layernorm_mlp?width=8&depth=4", (64,), True),
        ("mlp?width=256", (64,), True),
        ("mlp?width=300", (64,), False),
        ("cnn?width=4", (1, 8, 8), True),
        ("groupnorm_cnn?width=4", (1, 8, 8), True),
        ("groupnorm_cnn?width=16", (1, 8, 8), True),
        ("cnn?width=33", (1, 8, 8), False),
        ("cnn?width=4", (1, 28, 28), True),
        ("cnn?width=5", (1, 28, 28), False),
        ("resnet18?width=2", (3, 8, 8), False),
    ],
)
def test_small_plain_networks_train_in_a_stack(network, shape, stacked):
    assert trains_in_stack(build_model(network, num_classes=3, input_shape=shape, seed=0)) is stacked


def test_unknown_layers_buffers_dropout_and_frozen_weights_train_in_a_loop():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    frozen = nn.Linear(4, 3)
    frozen.weight.requires_grad_(False)
    for odd in (
        Doubled(),
        nn.BatchNorm1d(4),
        nn.Dropout(0.1),
        nn.GRU(4, 4),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
    ):
        assert not trains_in_stack(nn.Sequential(odd, nn.Linear(4, 3)))
    assert not trains_in_stack(nn.Sequential(frozen))
    assert trains_in_stack(nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.GELU()), nn.Linear(4, 3)))


def test_a_stack_refuses_running_statistics(data):
    x, y = data
    with pytest.raises(InputError, match="BatchNorm"):
        train_stack(
            lambda seed: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), [StackMember(0, 0.1, y)], x, Recipe(0.1)
        )


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0.0},
        {"steps": 0},
        {"momentum": -0.1},
        {"weight_decay": float("nan")},
        {"schedule": "linear"},
        {"optimizer": "rmsprop"},
        {"augmentation": "mixup"},
    ],
)
def test_bad_recipes_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Recipe(**{"learning_rate": 0.1, **bad})
