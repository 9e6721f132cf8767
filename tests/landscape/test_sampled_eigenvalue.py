"""The largest eigenvalue of a population from part of its samples: exact where all are used, honest where not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import digits_mlp, train
from dense_reference import dense_hessian
from small_networks import CLASSES, build, data_for, inputs_for

from landscape import ClassificationData, Execution, LandscapeError, Objective, Samples, Task, top_eigenvalues
from landscape.sampled_eigenvalue import _curvature, _second_order, sampled_top_eigenvalue
from landscape.sampling_error import SamplingPlan

DOUBLE = Execution(dtype="float64", batch_size=64)
POPULATION = 1200


def objective(name: str, samples: int, execution: Execution = DOUBLE) -> Objective:
    return Objective(build(name), data_for(name, samples), Task(CLASSES), execution=execution)


def fitted(name: str, samples: int) -> Samples:
    """Targets drawn from the network's own answers, so that the Hessian is that of a trained one."""
    inputs = inputs_for(name, samples)
    with torch.no_grad():
        p = build(name).eval()(inputs).softmax(1)
    return Samples(inputs, torch.multinomial(p, 1, generator=torch.Generator().manual_seed(1))[:, 0])


@pytest.mark.parametrize("samples", [37, 128])
def test_few_samples_are_all_used_and_leave_no_sampling_error(samples: int) -> None:
    data = data_for("mlp", samples)
    dense = torch.linalg.eigvalsh(dense_hessian(build("mlp"), data.inputs, data.targets))

    found = sampled_top_eigenvalue(objective("mlp", samples), SamplingPlan(samples, first=64), k=2)

    assert found.value == pytest.approx(float(dense[-1]), rel=1e-6)
    assert found.sampling_error == 0.0
    assert (found.samples, found.products) == (samples, found.found.products)
    assert found.found is found.first
    assert len(found.found.values) == 2


def test_a_population_that_precision_uses_up_is_used_whole_from_the_vector_at_hand() -> None:
    data = fitted("mlp", 300)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)
    exact = top_eigenvalues(target, 2, tolerance=1e-8).values

    found = sampled_top_eigenvalue(target, SamplingPlan(300, precision=1e-4, first=64), k=2)

    assert found.found.values == pytest.approx(exact, rel=1e-5)
    assert found.value == found.found.values[0]
    assert found.sampling_error == 0.0
    assert found.samples == 300
    assert found.first.run.from_random
    assert not found.found.run.from_random
    assert found.products > found.first.products + found.found.products


def test_samples_are_doubled_until_the_estimate_is_precise() -> None:
    data = fitted("mlp", POPULATION)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)
    used, errors = [], []
    for precision in (10.0, 0.1, 0.05):
        found = sampled_top_eigenvalue(target, SamplingPlan(10_000, precision, first=32))
        assert found.sampling_error <= precision * found.value or found.samples == POPULATION
        used.append(found.samples)
        errors.append(found.sampling_error)

    assert used[0] == 64
    assert used[0] < used[1] < used[2] <= POPULATION
    assert errors[0] > errors[1] > errors[2]


def test_the_samples_at_hand_are_the_limit() -> None:
    data = fitted("mlp", 200)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)

    found = sampled_top_eigenvalue(target, SamplingPlan(10_000, precision=1e-6, first=64))

    assert found.samples == 200
    assert found.sampling_error > 0


def test_the_cost_is_that_of_the_products() -> None:
    data = fitted("mlp", 400)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)
    target.check_second_derivative()
    before = target.sample_gradients

    found = sampled_top_eigenvalue(target, SamplingPlan(10_000, precision=10.0, first=100), least_products=20)

    assert found.first.products == 20
    assert found.products == 22
    assert target.sample_gradients - before == 2 * 100 * 22


def test_half_of_it_is_measured_on_samples_that_did_not_choose_the_vector() -> None:
    """The value is the mean of two dense quadratic forms along one vector, the top eigenvector of the first half."""
    data = fitted("tanh_mlp", 128)
    first, second = (data.at(torch.arange(start, start + 64)) for start in (0, 64))
    dense = [dense_hessian(build("tanh_mlp"), half.inputs, half.targets) for half in (first, second)]
    values, vectors = torch.linalg.eigh(dense[0])
    vector = vectors[:, -1]
    target = Objective(build("tanh_mlp"), data, Task(CLASSES), execution=DOUBLE)

    found = sampled_top_eigenvalue(target, SamplingPlan(10_000, precision=10.0, first=64), tolerance=1e-8)

    assert found.value == pytest.approx(float(values[-1] + vector @ dense[1] @ vector) / 2, rel=1e-6)


def test_the_error_is_made_of_the_spread_of_the_samples_and_of_what_is_of_second_order() -> None:
    data = fitted("mlp", 128)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)
    run = top_eigenvalues(target.at(0, 64), 1, least_products=500, most_products=500)  # the whole space
    values, vectors = torch.linalg.eigh(dense_hessian(build("mlp"), data.inputs[:64], data.targets[:64]))
    groups = [
        dense_hessian(build("mlp"), data.inputs[i : i + 4], data.targets[i : i + 4]) @ vectors[:, -1]
        for i in range(64, 128, 4)
    ]
    images = torch.stack(groups)
    along = images @ vectors
    noise = 4 * along.var(0) / 64
    gaps = values[-1] - values[:-1]
    expected = torch.minimum(noise[:-1] / gaps, noise[:-1].sqrt()).norm()

    other = _curvature(target, run, 64, 128)

    assert other.value == pytest.approx(float(along[:, -1].mean()))
    assert other.variance == pytest.approx(float(4 * along[:, -1].var()))
    assert _second_order(run, other, 64) == pytest.approx(float(expected), rel=1e-3)


def test_samples_of_a_small_population_say_more() -> None:
    """Both halves together are 128 samples without replacement: the variance s^2 / 128 - s^2 / N."""
    data = fitted("mlp", 128)
    target = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)
    small, large = (
        sampled_top_eigenvalue(target, SamplingPlan(available, precision=10.0, first=64)) for available in (160, 10**9)
    )
    parts = [_curvature(target, small.found, 0, 64), _curvature(target, small.found, 64, 128)]
    variance = sum(part.variance for part in parts) / 2

    assert large.value == small.value
    assert large.sampling_error**2 == pytest.approx(variance / 128 + _second_order(small.found, parts[1], 64) ** 2)
    assert large.sampling_error**2 - small.sampling_error**2 == pytest.approx(variance / 160)


def test_class_weights_weight_the_groups() -> None:
    data, task = fitted("mlp", 128), Task(CLASSES, class_weights=(1.0, 5.0, 0.2, 1.0))
    target = Objective(build("mlp"), data, task, execution=DOUBLE)
    run = top_eigenvalues(target.at(0, 64), 1)
    vector = run.vectors[0]

    found = _curvature(target, run, 64, 128)

    assert found.value == pytest.approx(float(vector @ target.at(64, 128).hessian_vector_product(vector)))


@pytest.mark.parametrize(("samples", "available"), [(50, 49), (3, 10)])
def test_samples_that_cannot_be_of_the_population_are_refused(samples: int, available: int) -> None:
    with pytest.raises(LandscapeError, match=f"{samples} samples of {available}"):
        sampled_top_eigenvalue(objective("mlp", samples), SamplingPlan(available))


def test_equal_seeds_give_equal_estimates() -> None:
    data = fitted("mlp", 200)
    one, other = (
        sampled_top_eigenvalue(
            Objective(build("mlp"), data, Task(CLASSES)), SamplingPlan(1000, precision=0.05, first=50, seed=3)
        )
        for _ in range(2)
    )
    assert (one.value, one.sampling_error) == (other.value, other.sampling_error)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [60, 300])
def test_the_error_is_what_it_says_and_the_bias_is_gone(digits: ClassificationData, steps: int) -> None:
    """Over random subsets of real data: the subset's own eigenvalue is biased up, the estimate is not."""
    model = train(digits_mlp, digits.train, 0, steps)
    whole = Objective(model, digits.train, Task(10))
    exact = top_eigenvalues(whole, 1).values[0]
    count = len(digits.train)
    found, naive = [], []
    for seed in range(80):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:160]
        part = whole.on(digits.train.at(order))
        found.append(sampled_top_eigenvalue(part, SamplingPlan(count, precision=10.0, first=80)))
        naive.append(found[-1].first.values[0])
        part.release()
    values = np.array([one.value for one in found])
    z = (values - exact) / np.array([one.sampling_error for one in found])

    assert 0.75 < z.std() < 1.3
    assert abs(z.mean()) < 0.4
    assert np.mean(naive) / exact - 1 > 0.03
    assert abs(values.mean() / exact - 1) < 0.5 * (np.mean(naive) / exact - 1)
