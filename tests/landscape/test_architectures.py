"""The engine on the networks people have: derivatives against dense float64 ones, then the whole measurement."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import people_networks
import pytest
import torch
from people_networks import CASES, CLASSES, SAMPLES, TOKENS, call, network, samples_of
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import (
    METRICS,
    ClassificationData,
    Execution,
    Measurement,
    Objective,
    Protocol,
    Samples,
    Task,
    measure,
    top_eigenvalues,
    trace,
)

TWICE_DIFFERENTIABLE = tuple(name for name, case in CASES.items() if case.twice_differentiable)
DOUBLE = Execution(dtype="float64", batch_size=16)
QUICK = Protocol(curve_steps=12, curve_batch_size=16, density_probes=1, fresh_instances=2)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Loss, gradient (P,) and Hessian (P, P), in float64."""

    loss: float
    gradient: Tensor
    hessian: Tensor

    @functools.cached_property
    def spectrum(self) -> Tensor:
        """Eigenvalues, descending."""
        return torch.linalg.eigvalsh(self.hessian).flip(0)


def double(inputs: Any) -> Any:
    """Floating tensors in float64, in tuples and dicts."""
    if isinstance(inputs, dict):
        return {key: double(item) for key, item in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(double(item) for item in inputs)
    return inputs.double() if inputs.is_floating_point() else inputs


def derivatives(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Derivatives:
    """Of ``loss(model)``, by plain autograd, a row at a time: shares no code with the package."""
    twin = copy.deepcopy(model).double().eval().requires_grad_(True)
    parameters = list(twin.parameters())

    def row(value: Tensor, keep: bool) -> Tensor:
        parts = torch.autograd.grad(
            value, parameters, create_graph=keep, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts])

    with sdpa_kernel(SDPBackend.MATH):
        value = loss(twin)
        gradient = row(value, keep=True)
        zeros = torch.zeros(len(gradient), dtype=torch.float64)
        hessian = torch.stack([row(entry, keep=False) if entry.requires_grad else zeros for entry in gradient])
    assert torch.allclose(hessian, hessian.mT, rtol=1e-9, atol=1e-11), "torch's own second derivative is wrong"
    return Derivatives(float(value.detach()), gradient.detach(), hessian)


@functools.cache
def reference(name: str) -> Derivatives:
    """Of the cross-entropy of a case."""
    samples = samples_of(name)
    inputs = double(samples.inputs)
    model = people_networks.sound(network(name))
    return derivatives(model, lambda twin: functional.cross_entropy(call(twin, inputs), samples.targets))


def vector_like(gradient: Tensor) -> Tensor:
    return torch.randn(len(gradient), generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def check_derivatives(objective: Objective, expected: Derivatives) -> None:
    """Loss, gradient and Hessian products to rounding, the top of the spectrum to its tolerance."""
    vector = vector_like(expected.gradient)
    found = top_eigenvalues(objective, 3, tolerance=1e-8)

    assert objective.loss_and_error().loss == pytest.approx(expected.loss, rel=1e-10)
    assert torch.allclose(objective.gradient(), expected.gradient, rtol=1e-8, atol=1e-11)
    assert torch.allclose(objective.hessian_vector_product(vector), expected.hessian @ vector, rtol=1e-7, atol=1e-10)
    assert found.values == pytest.approx(expected.spectrum[:3].tolist(), rel=1e-6)


def check_trace(objective: Objective, expected: Derivatives, exact: bool) -> None:
    estimate = trace(objective, relative_error=0.1, mode="auto")
    true = float(expected.hessian.trace())

    if exact:
        assert estimate.standard_error == 0
    # four standard errors: a wrong estimator is far outside, chance is inside but for 1 in 16,000
    assert abs(estimate.value - true) <= 4 * estimate.standard_error + 1e-8 * abs(true)
    # not relative to the trace, in which large eigenvalues of both signs may cancel
    assert estimate.standard_error <= 0.1 * float(expected.spectrum.abs().sum())


@pytest.mark.parametrize("name", TWICE_DIFFERENTIABLE)
def test_derivatives_are_the_dense_ones_on_uneven_batches(name: str) -> None:
    objective = Objective(network(name), samples_of(name), Task(CASES[name].classes), execution=DOUBLE)

    assert [len(targets) for _, targets in objective.batches()] == [16, 16, 5]
    check_derivatives(objective, reference(name))
    check_trace(objective, reference(name), CASES[name].exact_trace)


@pytest.mark.parametrize("name", CASES)
def test_per_sample_gradients_are_those_of_one_sample_at_a_time(name: str) -> None:
    model, samples = network(name), samples_of(name)
    objective = Objective(model, samples, Task(CASES[name].classes), execution=DOUBLE)
    twin = copy.deepcopy(model).double().eval()
    expected = []
    for n in range(SAMPLES):
        one = samples.at(torch.tensor([n]))
        with sdpa_kernel(SDPBackend.MATH):
            loss = functional.cross_entropy(call(twin, double(one.inputs)), one.targets)
            parts = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True, materialize_grads=True)
        expected.append(sum(float(part.square().sum()) for part in parts))

    assert objective.per_sample_gradient_squares().tolist() == pytest.approx(expected, rel=1e-8)


def measured(name: str, execution: Execution | None = None, protocol: Protocol = QUICK) -> Measurement:
    """A network and its sibling, with test data and fresh instances."""
    samples = samples_of(name)
    data = ClassificationData(samples, samples.at(torch.arange(0, SAMPLES, 2)), CASES[name].classes)
    return measure([network(name), network(name, 1)], data, protocol, execution, fresh=CASES[name].make)


def reasons(found: Measurement) -> dict[str, str]:
    return {item.metric: item.reason for item in found.not_measured}


@pytest.mark.parametrize("name", CASES)
def test_every_metric_of_a_pair_has_a_value_or_its_reason(name: str) -> None:
    found = measured(name)
    missing = reasons(found)

    assert set(found.metrics) | set(missing) == set(METRICS)
    assert set(found.metrics) & set(missing) == set()
    for metric, item in found.metrics.items():
        assert math.isfinite(item.value), metric
        assert 0 <= item.standard_error < math.inf, metric
    assert set(missing) == (set() if CASES[name].mixable else {"cka_mixup"})
    assert all("cannot be mixed" in reason for reason in missing.values())
    assert [(layer["name"], tuple(layer["shape"])) for layer in found.layers] == [
        (parameter_name, tuple(parameter.shape)) for parameter_name, parameter in network(name).named_parameters()
    ]


@pytest.mark.parametrize("name", TWICE_DIFFERENTIABLE)
def test_measured_values_are_the_dense_ones(name: str) -> None:
    found, expected = measured(name), reference(name)
    model, samples = network(name).double().eval(), samples_of(name)
    with torch.no_grad():
        wrong = call(model, double(samples.inputs)).argmax(1) != samples.targets
    count = len(expected.gradient)
    value = {metric: item.value for metric, item in found.metrics.items()}

    assert value["parameter_count"] == count
    assert value["train_error_percent"] == pytest.approx(100 * wrong.double().mean().item())
    assert value["train_loss"] == pytest.approx(expected.loss, rel=1e-5)
    squares = float(expected.gradient.square().sum()) / count
    assert value["gradient_norm_squared_per_parameter"] == pytest.approx(squares, rel=1e-3)
    assert value["hessian_top_eigenvalue"] == pytest.approx(float(expected.spectrum[0]), rel=3e-3)
    assert value["hessian_top_eigenvalue_magnitude"] == pytest.approx(float(expected.spectrum.abs().max()), rel=3e-2)
    estimate, true = found.metrics["hessian_trace"], float(expected.hessian.trace())
    assert abs(estimate.value - true) <= 4 * estimate.standard_error + 1e-3 * abs(true)
    for metric in ("hessian_top_eigenvalue", "hessian_trace"):
        assert value[f"{metric}_per_parameter"] == pytest.approx(value[metric] / count, rel=1e-9)


@pytest.mark.parametrize("name", ["cnn", "batch_norm_resnet", "positional_inputs"])
def test_batch_size_moves_rounding_only_and_precision_the_last_digits(name: str) -> None:
    whole = measured(name, Execution(dtype="float64", batch_size=SAMPLES))

    for execution, tolerance in (
        (Execution(dtype="float64", batch_size=1), 1e-7),
        (Execution(dtype="float64", batch_size=7), 1e-7),
        (Execution(dtype="float32", batch_size=7), 5e-3),
    ):
        found = measured(name, execution)
        assert reasons(found) == reasons(whole)
        for metric, item in whole.metrics.items():
            if metric != "hessian_smallest_eigenvalue":  # not iterated to tolerance
                assert found.metrics[metric].value == pytest.approx(item.value, rel=tolerance, abs=1e-7), metric


@pytest.mark.parametrize("name", ["lstm", "vision_transformer", "text_transformer", "tied_weights"])
def test_derivatives_at_every_batch_size_in_both_precisions(name: str) -> None:
    expected, task = reference(name), Task(CASES[name].classes)
    vector = vector_like(expected.gradient)
    image = expected.hessian @ vector

    for size in (1, 7, SAMPLES):
        for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-4)):
            objective = Objective(network(name), samples_of(name), task, execution=Execution("cpu", dtype, size))
            assert objective.loss_and_error().loss == pytest.approx(expected.loss, rel=1e-5)
            for found, true in (
                (objective.gradient(), expected.gradient),
                (objective.hessian_vector_product(vector), image),
            ):
                assert float((found.double() - true).norm()) <= tolerance * float(true.norm())
            top = top_eigenvalues(objective, 1, tolerance=1e-3).values[0]
            assert top == pytest.approx(float(expected.spectrum[0]), rel=1e-3)


def hard() -> Tensor:
    return samples_of("mlp").targets


def soft() -> Tensor:
    return torch.rand(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(3)).double().pow(2).softmax(1)


WEIGHTS = (0.2, 1.0, 3.0, 0.0)


@pytest.mark.parametrize("name", ["mlp", "layer_norm_mlp"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("targets", [hard, soft])
def test_every_cross_entropy_of_torch(
    name: str, weights: tuple[float, ...] | None, smoothing: float, targets: Callable[[], Tensor]
) -> None:
    inputs, labels = samples_of(name).inputs, targets()
    task = Task(CLASSES, label_smoothing=smoothing, class_weights=weights)
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)

    def loss(model: nn.Module) -> Tensor:
        return functional.cross_entropy(model(inputs.double()), labels, weight=tensor, label_smoothing=smoothing)

    objective = Objective(network(name), Samples(inputs, labels), task, execution=DOUBLE)
    expected = derivatives(network(name), loss)
    check_derivatives(objective, expected)
    check_trace(objective, expected, exact=name == "mlp")


class Loader:
    """Batches of a language-model loader, walked anew for every pass."""

    def __init__(self, samples: Samples, size: int) -> None:
        self.samples = samples
        self.size = size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for inputs, targets in self.samples.batches(self.size):
            yield {**inputs, "labels": targets}


def test_batches_of_a_language_model_loader() -> None:
    loader = Loader(samples_of("output_object"), 15)
    objective = Objective(network("output_object"), loader, Task(CLASSES), execution=DOUBLE)

    assert objective.samples == SAMPLES
    check_derivatives(objective, reference("output_object"))
    check_trace(objective, reference("output_object"), exact=False)


def test_a_models_own_loss_as_the_loss_function() -> None:
    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(**batch).loss

    loader = Loader(samples_of("output_object"), 15)
    objective = Objective(network("output_object"), loader, loss_fn=loss_fn, execution=DOUBLE)

    check_derivatives(objective, reference("output_object"))
    check_trace(objective, reference("output_object"), exact=False)


def test_a_loss_that_is_no_cross_entropy() -> None:
    """An autoencoder: no labels, no classes, batches of one tensor."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))
    inputs = people_networks.inputs_of("mlp")

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        return functional.mse_loss(model(batch), batch)

    objective = Objective(model, list(inputs.split(15)), loss_fn=loss_fn, execution=DOUBLE)
    expected = derivatives(model, lambda twin: loss_fn(twin, inputs.double()))
    check_derivatives(objective, expected)
    check_trace(objective, expected, exact=False)


def check_by_other_means(name: str) -> None:
    """Products and the measured top of the spectrum, where double backward does not serve, to one per cent."""
    expected, found = reference(name), measured(name)
    objective = Objective(network(name), samples_of(name), Task(CLASSES), execution=Execution())
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        vector = torch.randn(len(expected.gradient), generator=generator, dtype=torch.float64)
        true = expected.hessian @ vector
        assert float((objective.hessian_vector_product(vector).double() - true).norm()) < 1e-2 * float(true.norm())
    assert found.metrics["hessian_top_eigenvalue"].value == pytest.approx(float(expected.spectrum[0]), rel=1e-2)
    assert found.metrics["hessian_smallest_eigenvalue"].value == pytest.approx(float(expected.spectrum[-1]), rel=0.05)
    estimate, true_trace = found.metrics["hessian_trace"], float(expected.hessian.trace())
    assert abs(estimate.value - true_trace) <= 4 * estimate.standard_error + 1e-2 * abs(true_trace)


def test_a_layer_without_second_derivative_is_measured_by_differences_and_says_so() -> None:
    check_by_other_means("embedding_bag")
    assert "finite_difference_products" in measured("embedding_bag").flags
    assert "finite_difference_products" not in measured("gru").flags


def test_a_layer_whose_second_derivative_torch_gets_wrong_is_measured_rightly() -> None:
    """Double backward through weight norm takes the norm for a constant: its Hessian is not even symmetric."""
    check_by_other_means("weight_norm_mlp")


def test_a_tied_weight_counts_once() -> None:
    found = measured("tied_weights")
    assert found.metrics["parameter_count"].value == TOKENS * 6 + (6 * 6 + 6) + TOKENS
    assert sum(layer["shape"] == [TOKENS, 6] for layer in found.layers) == 1
