"""The loss on a plane through a network: against direct evaluation, and where it must be a quadratic exactly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from small_networks import CLASSES, build, data_for
from torch import Tensor, nn

from landscape import Execution, LandscapeError, Objective, Task, top_eigenvalues
from landscape.surface import filter_directions, loss_surface

DOUBLE = Execution(dtype="float64", batch_size=16)


class Point(nn.Module):
    """A network that is one vector of weights."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.reshape(1, -1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight


def bowl(curvatures: list[float], start: list[float]) -> Objective:
    """``L(w) = (w - 1)^T Q diag(curvatures) Q^T (w - 1) / 2`` with a fixed rotation Q."""
    size = len(curvatures)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(3)).double())[0]
    matrix = rotation @ torch.diag(torch.tensor(curvatures, dtype=torch.float64)) @ rotation.T

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        away = model.weight.reshape(-1) - 1
        return away @ matrix @ away / 2

    return Objective(Point(torch.tensor(start)), [torch.zeros(1)], loss_fn=loss, execution=DOUBLE)


def objective_of(name: str, model: nn.Module | None = None, execution: Execution = DOUBLE) -> Objective:
    return Objective(model or build(name), data_for(name), Task(CLASSES), execution=execution)


def test_the_surface_of_a_quadratic_along_eigenvectors_is_the_quadratic():
    objective = bowl([7.0, 3.0, 0.5, -1.0], [1.0, 1.0, 1.0, 1.0])  # stands at the minimum: no slope
    found = loss_surface(objective, "eigenvectors", span=0.7, points=5)
    assert found.eigenvalues == pytest.approx((7.0, 3.0), rel=1e-9)
    assert found.norms == pytest.approx((1.0, 1.0), rel=1e-12)
    assert abs(found.cosine) < 1e-9
    for j, y in enumerate(found.y):
        for i, x in enumerate(found.x):
            assert found.loss[j][i] == pytest.approx((7 * x**2 + 3 * y**2) / 2, rel=1e-9, abs=1e-12)
    assert found.error_percent is None
    assert found.x == pytest.approx((-0.7, -0.35, 0.0, 0.35, 0.7), rel=1e-12)


def test_along_any_directions_a_quadratic_stays_one():
    objective = bowl([7.0, 3.0, 0.5, -1.0], [0.3, -2.0, 1.5, 0.7])
    found = loss_surface(objective, points=7)
    for row in (*found.loss, *zip(*found.loss, strict=True)):
        second = [a - 2 * b + c for a, b, c in zip(row, row[1:], row[2:], strict=False)]
        assert second == pytest.approx([second[0]] * len(second), rel=1e-9)


def test_the_curvature_along_an_eigenvector_is_its_eigenvalue():
    objective = objective_of("tanh_mlp")
    step = 1e-3
    found = loss_surface(objective, "eigenvectors", span=step, points=3)
    (low, middle, high), column = found.loss[1], [row[1] for row in found.loss]
    assert (low - 2 * middle + high) / step**2 == pytest.approx(found.eigenvalues[0], rel=1e-4)
    assert (column[0] - 2 * column[1] + column[2]) / step**2 == pytest.approx(found.eigenvalues[1], rel=1e-4)
    assert found.eigenvalues == pytest.approx(top_eigenvalues(objective, 2).values, rel=1e-6)


def test_the_default_span_along_eigenvectors_rises_by_one():
    objective = bowl([8.0, 2.0], [1.0, 1.0])
    found = loss_surface(objective, "eigenvectors", points=3)
    assert found.x[-1] == pytest.approx(0.5)
    assert found.loss[1][2] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["mlp", "batch_norm_resnet"])
def test_every_point_is_the_loss_of_the_network_moved_there(name):
    model = build(name)
    objective = objective_of(name, model)
    found = loss_surface(objective, span=0.6, points=3, seed=5)
    u, v = filter_directions(objective.network, 5)
    samples = objective.data
    for j, y in enumerate(found.y):
        for i, x in enumerate(found.x):
            twin, moved = copy.deepcopy(model).double().eval(), 0
            with torch.no_grad():
                for parameter in twin.parameters():
                    part = slice(moved, moved + parameter.numel())
                    parameter += (x * u[part] + y * v[part]).view(parameter.shape)
                    moved += parameter.numel()
                logits = twin(samples.inputs.double())
            loss = nn.functional.cross_entropy(logits, samples.targets)
            error = 100 * (logits.argmax(1) != samples.targets).double().mean()
            assert found.loss[j][i] == pytest.approx(float(loss), rel=1e-12)
            assert found.error_percent[j][i] == pytest.approx(float(error), abs=1e-9)
    assert found.batch_norm_fixed is (name == "batch_norm_resnet")


def test_filters_of_a_direction_are_as_long_as_the_networks():
    objective = objective_of("batch_norm_resnet")
    network = objective.network
    u, v = (network.split(direction) for direction in filter_directions(network, 0))
    for weight, first, second in zip(network.split(network.flat), u, v, strict=True):
        if weight.dim() == 1:
            assert not first.any()
            assert not second.any()
        else:
            lengths = weight.flatten(1).norm(dim=1)
            assert torch.allclose(first.flatten(1).norm(dim=1), lengths)
            assert torch.allclose(second.flatten(1).norm(dim=1), lengths)
            assert not torch.allclose(first, second)


def test_rescaling_a_filter_before_batch_norm_leaves_the_surface_alone():
    model = build("batch_norm_resnet")
    for norm in (model.stem_norm, model.body_norm):
        norm.eps = 0.0
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.stem.weight *= 4.0
        scaled.stem_norm.running_mean *= 4.0
        scaled.stem_norm.running_var *= 16.0
    one, other = (loss_surface(objective_of("batch_norm_resnet", m), points=3) for m in (model, scaled))
    for row, again in zip(one.loss, other.loss, strict=True):
        assert row == pytest.approx(again, rel=1e-9)


def test_the_network_comes_back_and_its_own_loss_stands_in_the_middle():
    objective = objective_of("mlp", execution=Execution(batch_size=16))
    before, loss = objective.network.flat.clone(), objective.loss_and_error()
    found = loss_surface(objective, points=5)
    assert torch.equal(objective.network.flat, before)
    assert found.loss[2][2] == loss.loss
    assert found.error_percent[2][2] == loss.error_percent
    assert found.loss == loss_surface(objective, points=5).loss
    assert found.loss != loss_surface(objective, points=5, seed=1).loss


def test_the_cost_is_a_third_for_each_sample_and_point():
    objective = objective_of("mlp")
    found = loss_surface(objective, points=5)
    assert found.sample_gradients == pytest.approx(25 * objective.samples / 3)
    assert found.samples == objective.samples


def test_the_network_comes_back_when_a_point_fails():
    objective = objective_of("mlp")
    before = objective.network.flat.clone()

    def fails() -> None:
        raise RuntimeError("stop")

    objective.loss_and_error = fails  # type: ignore[method-assign,assignment]
    with pytest.raises(RuntimeError, match="stop"):
        loss_surface(objective, points=3)
    assert torch.equal(objective.network.flat, before)


def test_losses_that_are_not_finite_are_kept_as_they_are():
    def overflows(model: nn.Module, batch: Tensor) -> Tensor:
        return (1e6 * model.weight.square().sum() - 2e4).exp()

    objective = Objective(Point(torch.zeros(2) + 0.1), [torch.zeros(1)], loss_fn=overflows, execution=DOUBLE)
    found = loss_surface(objective, span=50.0, points=3)
    assert math.isinf(found.loss[0][0])
    assert math.isfinite(found.loss[1][1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"directions": "pca"}, "one of filter, eigenvectors"),
        ({"points": 4}, "an odd number"),
        ({"points": 1}, "an odd number"),
        ({"points": 1001}, "3 to 201"),
        ({"span": 0.0}, "above 0"),
        ({"span": math.inf}, "a finite number"),
    ],
)
def test_what_makes_no_surface_is_refused(given, said):
    with pytest.raises(LandscapeError, match=said):
        loss_surface(bowl([1.0, 1.0], [0.0, 0.5]), **given)


def test_networks_without_directions_are_refused():
    with pytest.raises(LandscapeError, match="no filter to scale"):
        loss_surface(bowl([1.0, 1.0], [0.0, 0.0]))
    with pytest.raises(LandscapeError, match="one parameter"):
        loss_surface(bowl([1.0], [0.5]), "eigenvectors")
    with pytest.raises(LandscapeError, match="give a span"):
        loss_surface(bowl([-1.0, -2.0], [0.5, 0.5]), "eigenvectors")
