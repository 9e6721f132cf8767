"""Traces by probes of small groups of samples: unbiased, with the error of samples and probes together."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest
import torch
from conftest import train
from dense_reference import dense_gauss_newton, dense_hessian
from small_networks import CLASSES, CURVED, SAMPLES, build, data_for, inputs_for
from torch import nn

from landscape import ClassificationData, Execution, Objective, Samples, Task, top_eigenvalues
from landscape.grouped_trace import grouped_trace
from landscape.sampling_error import Estimate, SamplingPlan

DOUBLE = Execution(dtype="float64", batch_size=16)


def gauss_newton(name: str) -> Estimate:
    return Estimate(float(dense_gauss_newton(build(name), inputs_for(name)).trace()), 0.0, 0.0)


@pytest.mark.parametrize("name", CURVED)
def test_a_census_comes_to_the_dense_residual_trace(name: str) -> None:
    data, offset = data_for(name), gauss_newton(name)
    dense = float(dense_hessian(build(name), data.inputs, data.targets).trace()) - offset.value
    objective = Objective(build(name), data, Task(CLASSES), execution=DOUBLE)

    scores = []
    for seed in range(25):
        found = grouped_trace(objective, SamplingPlan(SAMPLES, 0.15, SAMPLES, seed), residual=True, offset=offset)
        scores.append((found.estimate.value - dense) / found.estimate.standard_error)
        assert found.samples == SAMPLES

    assert 0.7 < stdev(scores) < 1.35
    assert abs(fmean(scores)) < 0.5


@pytest.fixture(scope="module")
def smooth(digits: ClassificationData) -> tuple[nn.Module, Samples, float]:
    """A tanh network, its population of 640 digits, and the trace of its Hessian over all of them."""
    model = train(lambda: nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)), digits.train, 0, 60)
    return model, digits.train, float(dense_hessian(model, digits.train.inputs, digits.train.targets).trace())


@pytest.mark.parametrize("deflated", [False, True])
def test_of_a_subset_the_error_is_that_of_samples_and_probes(
    smooth: tuple[nn.Module, Samples, float], deflated: bool
) -> None:
    model, everything, truth = smooth
    loss_fn = _mean_cross_entropy
    top = top_eigenvalues(Objective(model, everything, Task(10)), 5).vectors if deflated else None
    scores, errors = [], []
    for seed in range(60):
        objective = Objective(model, everything.subset(320, seed + 1), loss_fn=loss_fn)
        found = grouped_trace(objective, SamplingPlan(640, 0.05, 160, seed), deflation=top).estimate
        scores.append((found.value - truth) / found.standard_error)
        errors.append(found.standard_error / truth)

    assert 0.75 < stdev(scores) < 1.3
    assert abs(fmean(scores)) < 0.45
    assert fmean(errors) < 0.1


def _mean_cross_entropy(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_precision_is_asked_of_the_sum_with_the_offset(smooth: tuple[nn.Module, Samples, float]) -> None:
    model, everything, truth = smooth
    objective = Objective(model, everything, Task(10))
    plan = SamplingPlan(10_000, 0.02, 160)

    alone = grouped_trace(objective, plan, residual=True)
    beside = grouped_trace(objective, plan, residual=True, offset=Estimate(100 * truth, 0.0, 0.0))
    doubtful = grouped_trace(objective, plan, residual=True, offset=Estimate(100 * truth, 20 * truth, 0.0))

    assert alone.probes > 2
    assert beside.probes == 2  # beside so large a number any estimate will do
    assert doubtful.probes == 2  # and beside so large a doubt a better one would not help


def test_where_all_samples_are_used_up_probes_are_added() -> None:
    objective = Objective(build("tanh_mlp"), data_for("tanh_mlp"), Task(CLASSES), execution=DOUBLE)
    offset = gauss_newton("tanh_mlp")

    coarse = grouped_trace(objective, SamplingPlan(SAMPLES, 0.5, SAMPLES), residual=True, offset=offset)
    fine = grouped_trace(objective, SamplingPlan(SAMPLES, 0.1, SAMPLES), residual=True, offset=offset)

    assert fine.probes > coarse.probes
    assert fine.estimate.standard_error <= 0.1 * abs(fine.estimate.value + offset.value)
    assert fine.estimate.standard_error == fine.estimate.draw_error


def test_equal_seeds_give_equal_numbers_whatever_the_batch_size() -> None:
    plan = SamplingPlan(SAMPLES, 0.3, SAMPLES)
    values = [
        grouped_trace(
            Objective(
                build("tanh_mlp"),
                data_for("tanh_mlp"),
                Task(CLASSES),
                execution=Execution(dtype="float64", batch_size=n),
            ),
            plan,
        ).estimate.value
        for n in (16, 16, 7)
    ]

    assert values[0] == values[1]
    assert values[2] == pytest.approx(values[0], rel=1e-11)
