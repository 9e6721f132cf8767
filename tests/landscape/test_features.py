"""What the last layer reads: which tensor that is, its rank, its idle units, and the spread of the logits."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import people_networks
import pytest
import torch
from people_networks import CASES, SAMPLES, call, network, samples_of
from small_networks import CLASSES, build, data_for, mlp
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landscape import (
    ClassificationData,
    Execution,
    LandscapeError,
    Objective,
    Protocol,
    Samples,
    Task,
    feature_rank_share,
    idle_feature_share,
    last_features,
    logit_spread,
    measure,
)
from landscape.features import with_error

DOUBLE = Execution(dtype="float64", batch_size=16)
SMALL = Protocol(first_samples=16, density_probes=0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decaying(samples: int, features: int) -> Tensor:
    """Correlated features of very different variances, far from zero."""
    mixing = random(features, features, seed=1) / math.sqrt(features)
    return (random(samples, features) * torch.logspace(0, -2, features)) @ mixing + 5 * random(features, seed=2)


def rank_by_svd(values: Tensor) -> float:
    rows = values.numpy()
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = singular**2 / (singular**2).sum()
    return float(np.exp(-sum(p * np.log(p) for p in shares if p > 0)) / rows.shape[1])


def objective_of(name: str, execution: Execution = DOUBLE) -> Objective:
    return Objective(network(name), samples_of(name), Task(CASES[name].classes), execution=execution)


# --- the statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "features"), [(200, 12), (40, 40), (12, 200), (2, 5), (50, 1)])
def test_rank_is_that_of_the_singular_values(samples: int, features: int) -> None:
    values = decaying(samples, features)

    assert feature_rank_share(values) == pytest.approx(rank_by_svd(values), rel=1e-9)


def test_rank_counts_directions_of_equal_size() -> None:
    """Four directions, each +1 and -1 of its own pair of samples, in a space of ten."""
    directions = torch.linalg.qr(random(10, 10)).Q[:4]

    assert feature_rank_share(torch.cat([directions, -directions])) == pytest.approx(4 / 10, rel=1e-12)


def test_rank_sees_neither_shift_nor_scale_nor_rotation() -> None:
    values = decaying(60, 9)
    rotation = torch.linalg.qr(random(9, 9)).Q

    for other in (values + 100 * random(9, seed=5), 1e-5 * values, 1e5 * values, values @ rotation):
        assert feature_rank_share(other) == pytest.approx(feature_rank_share(values), rel=1e-8)


def test_more_features_than_samples_and_fewer_agree() -> None:
    """The same samples laid into a space of more dimensions: the same rank, over another number of features."""
    values = decaying(30, 8)
    wide = values @ torch.linalg.qr(random(100, 8)).Q.mT

    assert wide.shape == (30, 100)
    assert 100 * feature_rank_share(wide) == pytest.approx(8 * feature_rank_share(values), rel=1e-9)


def test_many_features_cost_no_matrix_of_their_own() -> None:
    """A flattened map of 512 x 7 x 7 has 25,088 features, whose covariance would take 5 GB."""
    sizes = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            sizes.extend(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
            return found

    values = random(24, 2000)
    with Watching():
        with_error(feature_rank_share, values, share=0.5)
    assert max(sizes) == values.numel()


def test_idle_features_are_counted_exactly() -> None:
    values = random(50, 20)
    values[:, 3] = 0.0
    values[:, 7] = 0.1  # a mean that is not a sum of powers of two: rounding leaves a variance of 1e-34
    values[:, 11] = 1e-4 * values[:, 11]  # a hundredth of the threshold
    values[:, 13] = 1e-2 * values[:, 13]  # a hundred times it

    assert idle_feature_share(values) == 3 / 20


@pytest.mark.parametrize("rounding", [0.0, 1e-16, 1e-7])
def test_features_that_do_not_vary_have_no_rank_and_are_all_idle(rounding: float) -> None:
    """Also where rounding, in float64 or float32, makes them differ."""
    values = torch.linspace(-3, 3, 10, dtype=torch.float64).repeat(40, 1) * (1 + rounding * random(40, 10))

    assert feature_rank_share(values) == 0.0
    assert idle_feature_share(values) == 1.0


def test_logit_spread_sees_no_constant_of_a_sample() -> None:
    logits = random(30, 5)
    expected = math.sqrt(np.mean([(z - np.mean(row)) ** 2 for row in logits.numpy() for z in row]))

    assert logit_spread(logits) == pytest.approx(expected, rel=1e-12)
    assert logit_spread(logits + 50 * random(30, 1, seed=3)) == pytest.approx(expected, rel=1e-12)
    assert logit_spread(-3 * logits) == pytest.approx(3 * expected, rel=1e-12)


# --- their standard error ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def population() -> tuple[Tensor, Tensor]:
    """Features and logits of 4,000 samples of a ReLU layer; rare ones switch some units on."""
    hidden = torch.relu(random(4000, 6) @ random(6, 16, seed=1) - torch.linspace(0, 6, 16))
    return hidden, hidden @ random(16, 4, seed=2)


@pytest.mark.parametrize("statistic", [feature_rank_share, logit_spread])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_standard_error_is_the_spread_over_subsets(
    population: tuple[Tensor, Tensor], statistic: Callable[[Tensor], float], share: float
) -> None:
    """Of subsets drawn without replacement; the more of the population they are, the less they differ.

    In the mean over subsets; a single one from eight groups is itself known to a quarter, so that scores follow
    Student's t with 7 degrees of freedom, of standard deviation 1.18.
    """
    rows = population[statistic is logit_spread]
    found = []
    for seed in range(300):
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: int(share * len(rows))]
        found.append(with_error(statistic, rows[chosen], share))
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "standard_error"))

    assert math.sqrt(np.mean(errors**2)) == pytest.approx(values.std(ddof=1), rel=0.1)
    assert 0.8 < ((values - values.mean()) / errors).std(ddof=1) < 1.35


def test_standard_error_is_the_jackknife_over_eight_groups() -> None:
    rows = decaying(43, 5)
    left = [rank_by_svd(torch.stack([row for n, row in enumerate(rows) if n % 8 != group])) for group in range(8)]
    expected = math.sqrt((1 - 0.25) * 7 / 8 * sum((value - np.mean(left)) ** 2 for value in left))

    assert with_error(feature_rank_share, rows, 0.25).standard_error == pytest.approx(expected, rel=1e-6)
    assert with_error(feature_rank_share, rows, 1.0).standard_error == 0.0
    assert with_error(logit_spread, rows[:1], 0.25).standard_error == math.inf


# --- which tensor is read ------------------------------------------------------------------------------------------


def last_layer(model: nn.Module) -> nn.Module:
    """The layer whose output the logits are, by its name in these networks."""
    while isinstance(model, nn.Sequential):
        model = model[-1]
    name = next((name for name in ("head", "output") if hasattr(model, name)), None)
    return model if name is None else last_layer(getattr(model, name))


@pytest.mark.parametrize("name", CASES)
def test_features_are_what_the_last_layer_reads(name: str) -> None:
    """Of perceptrons, convolutional and recurrent networks and transformers; of inputs by position and by name."""
    model, samples = network(name).double().eval(), samples_of(name)
    read: list[Tensor] = []
    last_layer(model).register_forward_hook(lambda module, inputs, output: read.append(inputs[0].detach()))
    with torch.no_grad():
        logits = call(model, in_double(samples.inputs))
    found = last_features(objective_of(name))

    assert found.values.dtype == found.logits.dtype == torch.float64
    assert found.values.shape == (SAMPLES, last_layer(model).in_features)
    torch.testing.assert_close(found.values, read[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-12)


def in_double(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: in_double(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(in_double(value) for value in inputs)
    return inputs.double() if inputs.is_floating_point() else inputs


def features_of(model: nn.Module, inputs: Any, classes: int = CLASSES, count: int = 20) -> Tensor:
    """Features of so many samples, in batches of 16."""
    data = Samples(inputs, torch.arange(count) % classes)
    return last_features(Objective(model, data, Task(classes), execution=DOUBLE)).values


class ReadOut(nn.Module):
    """Any function of the inputs as a network, whose layers it may call."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.layers)


def test_a_linear_model_reads_its_inputs() -> None:
    inputs = random(20, 7)
    torch.testing.assert_close(features_of(nn.Linear(7, CLASSES), inputs), inputs)


def test_a_convolution_as_the_head_reads_the_mean_over_places() -> None:
    body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
    model = nn.Sequential(body, nn.Conv2d(6, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = random(20, 1, 5, 5)

    expected = copy.deepcopy(body).double()(images).mean((2, 3)).detach()
    torch.testing.assert_close(features_of(model, images), expected)


def test_a_head_over_tokens_reads_their_mean() -> None:
    model = ReadOut(lambda x, head: head(x).mean(1), head=nn.Linear(6, CLASSES))
    tokens = random(20, 5, 6)

    torch.testing.assert_close(features_of(model, tokens), tokens.mean(1))


def test_a_head_called_by_name_is_found() -> None:
    model = ReadOut(lambda x, body, head: head(input=body(x)), body=nn.Linear(7, 5), head=nn.Linear(5, CLASSES))

    assert features_of(model, random(20, 7)).shape == (20, 5)


def test_a_layer_called_after_the_head_is_no_head() -> None:
    """A projection trained beside the classifier, as for contrastive losses, has no output for each class."""

    def both(x: Tensor, head: nn.Module, projection: nn.Module) -> Tensor:
        logits = head(x)
        projection(logits)
        return logits

    model = ReadOut(both, head=nn.Linear(7, CLASSES), projection=nn.Linear(CLASSES, 9))
    inputs = random(20, 7)
    torch.testing.assert_close(features_of(model, inputs), inputs)


def test_without_a_layer_as_wide_as_the_classes_the_last_one_is_read() -> None:
    model = ReadOut(lambda x, body: body(x)[:, :CLASSES], body=nn.Linear(7, 9))
    inputs = random(20, 7)

    torch.testing.assert_close(features_of(model, inputs), inputs)


def test_one_logit_serves_two_classes() -> None:
    """A hidden layer of two units, as wide as the classes, is not the head; the other class has the logit 0."""
    model = nn.Sequential(nn.Linear(7, 2), nn.Tanh(), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    data = Samples(random(20, 7), torch.arange(20) % 2)
    found = last_features(Objective(model, data, Task(2), execution=DOUBLE))

    assert found.values.shape == (20, 3)
    assert logit_spread(found.logits) == pytest.approx(float((found.logits[:, 1] / 2).square().mean().sqrt()))


class OwnWeights(nn.Module):
    """Two layers written out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 8))
        self.second = nn.Parameter(torch.randn(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.first) @ self.second


def frames_first(x: Tensor, convolution: nn.Module) -> Tensor:
    """Three frames a sample, read one by one."""
    return convolution(x.reshape(-1, 1, 2)).reshape(len(x), 3, CLASSES, -1).mean((1, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OwnWeights(), "calls no linear layer and no convolution"),
        (ReadOut(lambda x, head: head(x.reshape(-1, 3)).reshape(-1, 2, CLASSES).mean(1), head=nn.Linear(3, CLASSES)),
         r"reads a tensor of shape \(32, 3\) for 16 samples"),
        (ReadOut(frames_first, convolution=nn.Conv1d(1, CLASSES, 1)), r"shape \(48, 1, 2\) for 16 samples"),
        (ReadOut(lambda x, head: torch.stack([head(row) for row in x]), head=nn.Linear(6, CLASSES)),
         r"shape \(6,\) for 16 samples"),
    ],
)  # fmt: skip
def test_where_no_features_can_be_read_it_is_said(model: nn.Module, message: str) -> None:
    with pytest.raises(LandscapeError, match=message):
        features_of(model, random(20, 6))


def test_a_network_without_any_layer_is_measured_but_for_its_features() -> None:
    found = measure([OwnWeights()], ClassificationData(data_for("mlp"), data_for("mlp"), CLASSES), SMALL)
    reasons = {item.metric: item.reason for item in found.not_measured}

    for name in ("feature_rank_share", "idle_feature_share", "logit_spread"):
        assert "calls no linear layer and no convolution" in reasons[name]
    for name in ("train_loss_over_chance", "weight_noise_loss_over_chance", "hessian_trace", "test_loss"):
        assert math.isfinite(found.metrics[name].value), name


def test_a_loss_function_alone_has_no_features() -> None:
    objective = Objective(mlp(), data_for("mlp"), loss_fn=lambda model, batch: model(batch[0]).square().mean())

    with pytest.raises(LandscapeError, match="only a loss function is known"):
        last_features(objective)


# --- dead units ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [0, 3, 8])
def test_dead_units_of_a_network_are_counted(dead: int) -> None:
    """A unit whose bias lies far below zero answers 0 to every sample."""
    model = build("mlp")
    with torch.no_grad():
        model[2].bias[:dead] = -1e3
        model[2].bias[dead:] = 1e1  # the others never stop
    found = measure([model], ClassificationData(data_for("mlp"), None, CLASSES), SMALL)

    assert found.metrics["idle_feature_share"].value == dead / 8
    if dead == 8:
        assert found.metrics["feature_rank_share"].value == 0.0
        assert found.metrics["weight_noise_loss_over_chance"].value > 0


def test_units_that_died_in_an_earlier_layer_leave_nothing_that_varies() -> None:
    """The last layer then reads the same numbers, none of them 0, of every sample."""
    model = build("mlp")
    with torch.no_grad():
        model[0].bias.fill_(-1e3)
        model[2].bias.copy_(torch.linspace(0.1, 0.9, 8))
    found = measure([model], ClassificationData(data_for("mlp"), None, CLASSES), SMALL, Execution(batch_size=5))

    assert found.metrics["feature_rank_share"].value == 0.0
    assert found.metrics["idle_feature_share"].value == 1.0


# --- the surroundings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "batch_norm_resnet", "text_transformer", "gru", "output_object"])
def test_batches_move_rounding_only_and_equal_ones_nothing(name: str) -> None:
    whole, again = (last_features(objective_of(name, Execution(batch_size=SAMPLES))) for _ in range(2))
    parts = last_features(objective_of(name, Execution(batch_size=7)))

    assert torch.equal(whole.values, again.values)
    assert torch.equal(whole.logits, again.logits)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-5, atol=1e-6)


def test_samples_are_taken_at_even_distances_and_paid_for() -> None:
    inputs = random(1300, 7)
    objective = Objective(
        nn.Linear(7, CLASSES), Samples(inputs, torch.arange(1300) % CLASSES), Task(CLASSES), execution=DOUBLE
    )
    found = last_features(objective)

    torch.testing.assert_close(found.values, inputs[[1300 * n // 512 for n in range(512)]])
    assert objective.sample_gradients == pytest.approx(512 / 3)
    torch.testing.assert_close(last_features(objective, 10).values, inputs[::130])


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_hooks_with_kwargs) for module in model.modules())


class FailsLater(nn.Module):
    """Fails on the call of the given number."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.body = mlp()
        self.left = call

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("the sensor is gone")
        return self.body(x)


@pytest.mark.parametrize("fails", [False, True])
def test_model_and_hooks_are_as_before_also_after_a_failure(fails: bool) -> None:
    model = FailsLater(3 if fails else 0).train()
    before, generator = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    objective = Objective(model, people_networks.samples_of("mlp"), Task(CLASSES), execution=DOUBLE)  # the first call
    own = objective.network.flat.clone()
    if fails:
        with pytest.raises(LandscapeError, match="the sensor is gone"):
            last_features(objective)
    else:
        last_features(objective)
    gc.collect()

    assert hooks_of(model) == hooks_of(objective.network.module) == 0
    assert torch.equal(objective.network.flat, own)
    assert not objective.network.module.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(broken: float) -> None:
    inputs = random(20, 7)
    inputs[17, 2] = broken

    with pytest.raises(LandscapeError, match="a feature or a logit is not finite"):
        features_of(nn.Linear(7, CLASSES), inputs)
