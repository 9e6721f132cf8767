"""One pass for loss, error, gradient and Gauss-Newton trace: exact parts exactly, sampled parts within their error."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
import torch
from conftest import train
from dense_reference import dense_gauss_newton, dense_gradient
from small_networks import ARCHITECTURES, CLASSES, SAMPLES, build, data_for, inputs_for
from torch import nn

from landscape import ClassificationData, Execution, Objective, Samples, Task, first_order
from landscape.first_order import first_order_pass
from landscape.sampling_error import SamplingPlan

DOUBLE = Execution(dtype="float64", batch_size=16)
CENSUS = SamplingPlan(available=SAMPLES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_census_is_exact(name: str) -> None:
    model, data = build(name), data_for(name)
    objective = Objective(model, data, Task(CLASSES), execution=DOUBLE)

    found = first_order_pass(objective, CENSUS)

    gradient = dense_gradient(model, data.inputs, data.targets)
    expected = objective.loss_and_error()
    assert found.loss.loss == pytest.approx(expected.loss, rel=1e-13)
    assert found.loss.error_percent == expected.error_percent
    assert found.loss.loss_deviation == pytest.approx(expected.loss_deviation, rel=1e-10)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-9, atol=1e-12)
    assert found.norm_squared.value == pytest.approx(float(gradient.square().sum()), rel=1e-9)
    assert found.norm_squared.standard_error == 0
    assert found.exact
    assert found.gauss_newton is not None
    assert found.gauss_newton.value == pytest.approx(
        float(dense_gauss_newton(model, inputs_for(name)).trace()), rel=1e-9
    )
    assert found.gauss_newton.standard_error == 0


def test_the_batch_size_does_not_change_what_is_drawn() -> None:
    data = data_for("mlp")
    plan = SamplingPlan(available=SAMPLES)

    found = [
        first_order_pass(
            Objective(build("mlp"), data, Task(CLASSES), execution=Execution(dtype="float64", batch_size=size)),
            plan,
            "stochastic",
        ).gauss_newton
        for size in (5, 16, 64)
    ]

    for other in found[1:]:
        assert other.value == pytest.approx(found[0].value, rel=1e-12)
        assert other.standard_error == pytest.approx(found[0].standard_error, rel=1e-10)


def test_weighted_classes_and_smoothing_match_torch() -> None:
    model, data, weights = build("mlp"), data_for("mlp"), (1.0, 0.2, 3.0, 0.0)
    task = Task(CLASSES, label_smoothing=0.1, class_weights=weights)

    found = first_order_pass(Objective(model, data, task, execution=DOUBLE), CENSUS)

    loss = nn.CrossEntropyLoss(weight=torch.tensor(weights, dtype=torch.float64), label_smoothing=0.1)
    expected = loss(model.double().eval()(data.inputs.double()), data.targets)
    # torch smooths with the weights of all classes but divides by those of the labels: so does the task
    assert found.loss.loss == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(
        found.gradient, dense_gradient(model, data.inputs, data.targets, loss), rtol=1e-8, atol=1e-12
    )


@pytest.fixture(scope="module")
def underfit(digits: ClassificationData) -> tuple[nn.Module, Samples]:
    """A network trained for 25 steps, and all 1,797 digits as its population."""
    assert digits.test is not None
    everything = Samples(
        torch.cat([digits.train.inputs, digits.test.inputs]), torch.cat([digits.train.targets, digits.test.targets])
    )
    return train(lambda: nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)), everything, 0, 25), everything


def test_sampled_values_are_unbiased_and_their_errors_right(
    underfit: tuple[nn.Module, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_order, "GROUP", 64)
    model, everything = underfit
    whole = first_order_pass(Objective(model, everything, Task(10)), SamplingPlan(len(everything)), "exact")
    traces, norms, losses = [], [], []
    for seed in range(120):
        part = everything.subset(768, seed + 1)
        plan = SamplingPlan(len(everything), precision=1e-6, first=256, seed=seed)
        found = first_order_pass(Objective(model, part, Task(10)), plan)
        assert found.samples == 768
        traces.append((found.gauss_newton.value - whole.gauss_newton.value) / found.gauss_newton.standard_error)
        norms.append((found.norm_squared.value - whole.norm_squared.value) / found.norm_squared.standard_error)
        losses.append(found.loss.loss - whole.loss.loss)

    assert 0.8 < stdev(traces) < 1.25
    assert abs(fmean(traces)) < 0.3
    assert 0.8 < stdev(norms) < 1.25
    assert abs(fmean(norms)) < 0.3
    assert stdev(losses) == pytest.approx(
        whole.loss.loss_deviation / math.sqrt(768) * math.sqrt(1 - 768 / len(everything)), rel=0.2
    )


def test_the_plain_norm_of_a_subset_would_be_too_large(underfit: tuple[nn.Module, Samples]) -> None:
    """What the estimate takes away: the noise that sampling adds to the squared norm."""
    model, everything = underfit
    whole = first_order_pass(Objective(model, everything, Task(10)), SamplingPlan(len(everything)))
    excess = [
        float(
            first_order_pass(
                Objective(model, everything.subset(768, seed), Task(10)), SamplingPlan(len(everything), seed=seed)
            )
            .gradient.double()
            .square()
            .sum()
        )
        / whole.norm_squared.value
        for seed in range(1, 21)
    ]

    assert fmean(excess) > 1.01


def test_sampling_stops_when_the_trace_is_precise(underfit: tuple[nn.Module, Samples]) -> None:
    model, everything = underfit
    objective = Objective(model, everything, Task(10))

    coarse = first_order_pass(objective, SamplingPlan(10 * len(everything), precision=0.1, first=256))
    fine = first_order_pass(objective, SamplingPlan(10 * len(everything), precision=0.012, first=256))

    assert coarse.samples < fine.samples <= len(everything)
    assert coarse.gauss_newton.standard_error <= 0.1 * coarse.gauss_newton.value
    assert coarse.loss == fine.loss  # everything else is of all samples all the same


def test_outputs_that_are_not_finite_have_no_error_rate() -> None:
    data = data_for("mlp")
    data.inputs[3, 2] = float("nan")

    found = first_order_pass(Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE), CENSUS)

    assert math.isnan(found.loss.loss)
    assert found.loss.error_percent is not None
    assert math.isnan(found.loss.error_percent)


def test_the_cost_is_what_was_done() -> None:
    objective = Objective(build("mlp"), data_for("mlp"), Task(CLASSES), execution=DOUBLE)

    first_order_pass(objective, CENSUS, "stochastic")

    # forward and gradient, and two backward passes on the same graph
    assert objective.sample_gradients == pytest.approx(SAMPLES * (1 + 2 * 2 / 3))
