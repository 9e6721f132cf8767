"""The rise of the loss under relative weight noise, against explicit loops over the same draws."""

from __future__ import annotations

import copy
import math
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from people_networks import CASES, SAMPLES, call, network, samples_of
from small_networks import CLASSES, data_for, mlp
from test_features import FailsLater, in_double, random
from torch import Tensor, nn
from torch.nn import functional

from landscape import ClassificationData, Execution, LandscapeError, Objective, Protocol, Samples, Task, measure
from landscape.weight_noise import weight_noise_loss

DOUBLE = Execution(dtype="float64", batch_size=16)


def rises_by_loops(model: nn.Module, samples: Samples, seed: int, draws: int, task: Task) -> list[float]:
    """Rise of the loss in each draw, one parameter tensor after the other."""
    generator = torch.Generator().manual_seed(seed)
    weights = None if task.class_weights is None else torch.tensor(task.class_weights, dtype=torch.float64)
    clean = copy.deepcopy(model).double().eval()
    losses = []
    for draw in range(draws + 1):
        twin = copy.deepcopy(clean)
        with torch.no_grad():
            if draw:
                noise = torch.randn(sum(p.numel() for p in twin.parameters()), generator=generator).double()
                for parameter in twin.parameters():
                    size = math.sqrt(fmean([w * w for w in parameter.flatten().tolist()]))
                    parameter.add_(0.4 * size * noise[: parameter.numel()].view(parameter.shape))
                    noise = noise[parameter.numel() :]
            logits = call(twin, in_double(samples.inputs))
            smoothing = task.label_smoothing
            losses.append(
                float(functional.cross_entropy(logits, samples.targets, weight=weights, label_smoothing=smoothing))
            )
    return [loss - losses[0] for loss in losses[1:]]


@pytest.mark.parametrize("name", CASES)
def test_rise_is_that_of_explicit_loops(name: str) -> None:
    task = Task(CASES[name].classes)
    found = weight_noise_loss(Objective(network(name), samples_of(name), task, execution=DOUBLE), seed=3)
    expected = rises_by_loops(network(name), samples_of(name), 3, 8, task)

    assert found.value == pytest.approx(fmean(expected), rel=1e-8)
    assert found.standard_error == pytest.approx(stdev(expected) / math.sqrt(8), rel=1e-8)


def test_rise_of_a_weighted_and_smoothed_loss() -> None:
    task = Task(CLASSES, label_smoothing=0.1, class_weights=(0.2, 1.0, 3.0, 0.0))
    found = weight_noise_loss(Objective(network("cnn"), samples_of("cnn"), task, execution=DOUBLE), seed=0, draws=5)

    assert found.value == pytest.approx(fmean(rises_by_loops(network("cnn"), samples_of("cnn"), 0, 5, task)), rel=1e-8)


def test_measured_value_is_the_rise_over_the_loss_of_chance() -> None:
    samples = samples_of("mlp")
    found = measure(
        [network("mlp")], ClassificationData(samples, None, CLASSES), Protocol(seed=5, density_probes=0)
    ).metrics["weight_noise_loss_over_chance"]
    expected = rises_by_loops(network("mlp"), samples, 5, 8, Task(CLASSES))
    shares = np.bincount(samples.targets.numpy()) / SAMPLES
    chance = -(shares * np.log(shares)).sum()

    assert found.value == pytest.approx(fmean(expected) / chance, rel=1e-4)
    assert found.standard_error == pytest.approx(stdev(expected) / math.sqrt(8) / chance, rel=1e-4)
    assert found.samples == SAMPLES


def value(model: nn.Module, samples: Samples, execution: Execution = DOUBLE, seed: int = 0) -> float:
    return weight_noise_loss(Objective(model, samples, Task(CLASSES), execution=execution), seed).value


def test_scale_of_a_convolution_before_batch_norm_makes_no_difference() -> None:
    """Weights three times as large, and the statistics with them, give the same function."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3, eps=1e-12), nn.ReLU(), nn.Flatten(), nn.Linear(48, CLASSES)
    )
    model(random(50, 1, 6, 6).float())
    larger = copy.deepcopy(model)
    with torch.no_grad():
        larger[0].weight.mul_(3)
        larger[1].running_mean.mul_(3)
        larger[1].running_var.mul_(9)

    assert value(larger, samples_of("cnn")) == pytest.approx(value(model, samples_of("cnn")), rel=1e-5)


def test_scale_between_layers_around_a_relu_makes_no_difference() -> None:
    model = network("mlp")
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved[0].weight.mul_(8)
        moved[0].bias.mul_(8)
        moved[2].weight.div_(8)

    assert value(moved, samples_of("mlp")) == pytest.approx(value(model, samples_of("mlp")), rel=1e-10)


def test_a_tensor_of_zeros_stays_zero() -> None:
    model = nn.Linear(6, CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    assert value(model, samples_of("mlp")) == 0.0


def test_standard_error_is_the_spread_over_seeds() -> None:
    objective = Objective(network("mlp"), samples_of("mlp"), Task(CLASSES))
    found = [weight_noise_loss(objective, seed, draws=24) for seed in range(100)]
    values = np.array([each.value for each in found])
    scores = (values - values.mean()) / np.array([each.standard_error for each in found])

    assert 0.8 < scores.std(ddof=1) < 1.25


@pytest.mark.parametrize("name", ["cnn", "batch_norm_resnet", "gru", "text_transformer"])
def test_seed_alone_decides_batches_and_precision_move_rounding_only(name: str) -> None:
    samples, whole = samples_of(name), Execution(batch_size=SAMPLES)
    base = value(network(name), samples, whole)

    assert value(network(name), samples, whole) == base
    assert value(network(name), samples, whole, seed=1) != base
    assert value(network(name), samples, Execution(batch_size=7)) == pytest.approx(base, rel=1e-4)
    assert value(network(name), samples, Execution(dtype="float64", batch_size=5)) == pytest.approx(base, rel=1e-4)


@pytest.mark.parametrize("fails", [False, True])
def test_weights_are_the_same_bytes_afterwards_also_after_a_failure(fails: bool) -> None:
    model = FailsLater(6 if fails else 0).train()  # the data are 3 batches: the call fails within the first draw
    before, generator = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    objective = Objective(model, samples_of("mlp"), Task(CLASSES), execution=Execution(batch_size=16))
    own, curvature = objective.network.flat.clone(), torch.ones(objective.parameter_count)
    if fails:
        with pytest.raises(LandscapeError, match="the sensor is gone"):
            weight_noise_loss(objective, 0)
    else:
        product = objective.hessian_vector_product(curvature)
        weight_noise_loss(objective, 0)
        assert torch.equal(objective.hessian_vector_product(curvature), product), "graphs kept from before still hold"

    assert torch.equal(objective.network.flat, own)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_running_statistics_stay_as_they_are() -> None:
    objective = Objective(network("batch_norm_resnet"), samples_of("batch_norm_resnet"), Task(CLASSES))
    before = copy.deepcopy(objective.network.module.state_dict())
    weight_noise_loss(objective, 0)

    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.network.module.state_dict().items())


def test_at_most_512_samples_are_disturbed_and_each_forward_pass_is_paid() -> None:
    inputs, targets = random(1300, 6), torch.arange(1300) % CLASSES
    objective = Objective(network("mlp"), Samples(inputs, targets), Task(CLASSES), execution=DOUBLE)
    found = weight_noise_loss(objective, 0)
    chosen = torch.tensor([1300 * n // 512 for n in range(512)])

    assert objective.sample_gradients == pytest.approx(9 * 512 / 3)
    expected = rises_by_loops(network("mlp"), Samples(inputs[chosen], targets[chosen]), 0, 8, Task(CLASSES))
    assert found.value == pytest.approx(fmean(expected), rel=1e-8)


class Overflowing(nn.Module):
    """Infinite logits as soon as its weights move."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.start = float(self.body[0].weight.detach().sum())

    def forward(self, x: Tensor) -> Tensor:
        moved = (self.body[0].weight.sum() - self.start).abs() > 1e-3
        return self.body(x) / (1 - moved.to(x))


def test_a_loss_that_overflows_is_not_measured_and_the_rest_is() -> None:
    data = ClassificationData(data_for("mlp"), None, CLASSES)
    found = measure([Overflowing()], data, Protocol(first_samples=16, density_probes=0))
    reasons = {item.metric: item.reason for item in found.not_measured}

    assert "not finite" in reasons["weight_noise_loss_over_chance"]
    assert math.isfinite(found.metrics["train_loss"].value)
    assert math.isfinite(found.metrics["hessian_trace"].value)
