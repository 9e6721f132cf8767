"""Paths between networks: their ends, their barriers, BatchNorm along them, and what cannot be joined."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import digits_mlp
from small_networks import CLASSES, build, data_for, layer_norm_mlp, mlp
from torch import nn

from landscape import (
    BezierCurve,
    ClassificationData,
    Execution,
    LandscapeError,
    Objective,
    Path,
    Protocol,
    Samples,
    Task,
    barrier,
    fit_curve,
    linear_barrier_percent,
    linear_path,
)
from landscape.connectivity import Pair, pair_gradients, pair_of

SHORT = Protocol(curve_steps=40)


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.view(torch.int32)


def test_a_fitted_curve_ends_in_the_given_networks_bit_for_bit(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    first, second = (copy.deepcopy(model) for model in trained[:2])
    with torch.no_grad():
        first[0].bias[:2] = torch.tensor([-0.0, 0.0])
        second[0].bias[0] = 1e-42  # a denormal number

    curve = fit_curve(first, second, digits, SHORT)

    for t, model in ((0, first), (1, second)):
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        assert torch.equal(bits(curve.parameters(t)), bits(weights))


def test_a_bezier_curve_between_its_ends() -> None:
    a, m, b = torch.tensor([0.0]), torch.tensor([4.0]), torch.tensor([2.0])
    curve = BezierCurve(a, m, b)

    assert curve.parameters(0.5).item() == pytest.approx((0 + 2 * 4 + 2) / 4)
    assert curve.parameters(0.25).item() == pytest.approx(0.375 * 4 + 0.0625 * 2)
    curve.parameters(0).add_(1)
    assert a.item() == 0, "the ends are handed out as copies"


def test_barriers_by_hand() -> None:
    path = Path(
        t=(0.0, 0.125, 0.25, 0.5, 0.75, 1.0),
        error_percent=(1.0, 99.0, 4.0, 3.0, 2.0, 5.0),
        loss=(0.5, 9.0, 0.1, 0.2, 0.9, 0.3),
        loss_deviation=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        refreshed=False,
        end_shift_error_percent=(0.0, 0.0),
        end_shift_loss=(0.0, 0.0),
    )
    found = barrier(path)

    assert found.peak_percent == 4.0, "t = 1/8 does not count"
    assert found.barrier_percent == 1.0
    assert found.barrier_loss == pytest.approx(0.5)
    assert found.loss_deviation == 5.0
    assert linear_barrier_percent(path) == 99.0 - (1 + 0.125 * 4)


def test_what_is_compared_with_nan_has_no_largest() -> None:
    flat = (1.0,) * 5
    path = Path((0.0, 0.25, 0.5, 0.75, 1.0), flat, flat, flat, False, (0.0, 0.0), (0.0, 0.0))
    broken = replace(path, error_percent=(1.0, 5.0, math.nan, 2.0, 1.0))

    assert barrier(path).barrier_percent == linear_barrier_percent(path) == 0.0
    for height in (barrier, linear_barrier_percent):
        with pytest.raises(LandscapeError, match="not finite"):
            height(broken)


def test_a_line_from_a_network_to_itself_has_no_barrier(
    trained: list[nn.Module], digits: ClassificationData, residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    for model, data in ((trained[0], digits), (residual_nets[0], images)):
        assert linear_barrier_percent(linear_path(model, model, data)) == 0.0


def test_points_of_the_line_are_those_of_interpolated_networks(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    path = linear_path(trained[0], trained[1], digits, Protocol(linear_points=5))

    assert path.t == (0.0, 0.25, 0.5, 0.75, 1.0)
    for t, error, loss in zip(path.t, path.error_percent, path.loss, strict=True):
        between = digits_mlp()
        for p, a, b in zip(*(model.parameters() for model in (between, *trained[:2])), strict=True):
            p.data = (1 - t) * a.data + t * b.data
        logits = between(digits.train.inputs).detach()
        assert loss == pytest.approx(nn.functional.cross_entropy(logits, digits.train.targets).item(), rel=1e-4)
        wrong = (logits.argmax(1) != digits.train.targets).double().mean().item()
        assert error == pytest.approx(100 * wrong, abs=0.2)
    assert linear_barrier_percent(path) > 20


def test_training_lowers_the_barrier_of_the_straight_line(trained: list[nn.Module], digits: ClassificationData) -> None:
    pair = pair_of(trained[0], trained[1], digits)
    line = barrier(pair.linear_path())
    curve = barrier(pair.curve_path(pair.fit_curve()))

    assert line.barrier_percent > 20
    assert curve.barrier_percent < 2
    assert curve.barrier_loss < 0.1 * line.barrier_loss


def test_more_steps_lower_the_loss_along_the_curve(trained: list[nn.Module], digits: ClassificationData) -> None:
    losses = []
    for steps in (10, 100, 500):
        pair = pair_of(trained[0], trained[1], digits, Protocol(curve_steps=steps))
        losses.append(sum(pair.curve_path(pair.fit_curve()).loss))
    assert losses[0] > 2 * losses[1]
    assert losses[1] > 2 * losses[2]


def test_training_is_adam_on_the_middle_point_by_plain_autograd() -> None:
    """Against torch's Adam, each tensor's rate times its root mean square, differentiating the curve itself."""
    samples, models, steps, size = data_for("mlp"), [build("mlp", seed).double() for seed in (0, 1)], 6, 16
    protocol = Protocol(curve_steps=steps, curve_batch_size=size)
    data = ClassificationData(samples, None, CLASSES)
    curve = fit_curve(models[0], models[1], data, protocol, Execution(dtype="float64"))

    ends = [dict(model.named_parameters()) for model in models]
    middle = {n: ((ends[0][n] + ends[1][n]) / 2).detach().requires_grad_() for n in ends[0]}
    rms = {n: ((ends[0][n] ** 2 + ends[1][n] ** 2) / 2).mean().sqrt().item() for n in middle}
    groups = [{"params": [middle[n]], "lr": protocol.curve_learning_rate * rms[n]} for n in middle]
    adam = torch.optim.Adam(groups)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    samples = samples.subset(protocol.samples, protocol.seed)  # all of them, in the order they are measured in
    generator = torch.Generator().manual_seed(protocol.seed)
    times = (torch.randperm(steps, generator=generator) + torch.rand(steps, generator=generator)) / steps
    order = torch.cat([torch.randperm(len(samples), generator=generator) for _ in range(3)])
    for t, chosen in zip(times.tolist(), order.split(size), strict=False):
        point = {n: (1 - t) ** 2 * ends[0][n] + 2 * t * (1 - t) * middle[n] + t**2 * ends[1][n] for n in middle}
        logits = torch.func.functional_call(models[0], point, samples.inputs[chosen].double())
        adam.zero_grad()
        nn.functional.cross_entropy(logits, samples.targets[chosen]).backward()
        adam.step()
        cosine.step()

    expected = torch.cat([middle[n].detach().flatten() for n in middle])
    assert not torch.allclose(curve.middle, (curve.start + curve.end) / 2, rtol=0.01)
    assert torch.allclose(curve.middle, expected, atol=1e-5)


def test_without_batch_norm_the_ends_are_the_networks_own(trained: list[nn.Module], digits: ClassificationData) -> None:
    pair = pair_of(trained[0], trained[1], digits, SHORT)
    own = [Objective(model, digits.train, Task(10)).loss_and_error() for model in trained[:2]]

    for path in (pair.linear_path(), pair.curve_path(pair.fit_curve())):
        assert not path.refreshed
        assert (path.loss[0], path.loss[-1]) == tuple(found.loss for found in own)
        assert (path.error_percent[0], path.error_percent[-1]) == tuple(found.error_percent for found in own)
        assert path.end_shift_loss == path.end_shift_error_percent == (0.0, 0.0)


def test_batch_norm_is_refreshed_at_every_point_on_the_same_batches(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    """Against torch's own ``update_bn``."""
    protocol = Protocol(linear_points=3)
    path = linear_path(residual_nets[0], residual_nets[1], images, protocol)
    inputs, targets = images.train.inputs, images.train.targets
    taken = images.train.subset(protocol.samples, protocol.seed).subset(256, protocol.seed).inputs
    batches = taken.tensor_split(len(taken) // 128)

    assert path.refreshed
    for t, loss in zip(path.t, path.loss, strict=True):
        between = copy.deepcopy(residual_nets[0])
        for p, a, b in zip(*(model.parameters() for model in (between, *residual_nets)), strict=True):
            p.data = (1 - t) * a.data + t * b.data
        torch.optim.swa_utils.update_bn(batches, between)
        expected = nn.functional.cross_entropy(between.eval()(inputs), targets)
        assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_the_shift_that_refreshing_makes_at_the_ends_is_told(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    path = linear_path(*residual_nets, images)
    own = [Objective(model, images.train, Task(4)).loss_and_error() for model in residual_nets]

    for end, index in ((0, 0), (1, -1)):
        assert path.loss[index] - path.end_shift_loss[end] == pytest.approx(own[end].loss, rel=1e-12)
        shift = path.end_shift_error_percent[end]
        assert path.error_percent[index] - shift == pytest.approx(own[end].error_percent, rel=1e-12)
    assert any(shift != 0 for shift in path.end_shift_loss)


def test_a_curve_between_batch_norm_nets_is_trained(residual_nets: list[nn.Module], images: ClassificationData) -> None:
    pair = pair_of(*residual_nets, images, Protocol(curve_steps=200))
    line, curve = barrier(pair.linear_path()), barrier(pair.curve_path(pair.fit_curve()))
    assert curve.barrier_loss < 0.3 * line.barrier_loss


def test_all_points_of_all_paths_are_evaluated_on_the_same_part_of_the_samples(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    start = Objective(trained[0], digits.train, Task(10))
    pair = Pair(start, start.of(trained[1]), replace(SHORT, path_samples=200))
    part = digits.train.subset(200, SHORT.seed)
    own = [Objective(model, part, Task(10)).loss_and_error() for model in trained[:2]]
    line, curve = pair.linear_path(), pair.curve_path(pair.fit_curve())

    assert pair.path_samples == 200
    for path in (line, curve):
        assert (path.loss[0], path.loss[-1]) == tuple(found.loss for found in own)
        assert (path.error_percent[0], path.error_percent[-1]) == tuple(found.error_percent for found in own)
    between = copy.deepcopy(trained[0])
    for p, a, b in zip(*(model.parameters() for model in (between, *trained[:2])), strict=True):
        p.data = (a.data + b.data) / 2
    assert line.loss[4] == pytest.approx(Objective(between, part, Task(10)).loss_and_error().loss, rel=1e-5)


def test_the_curve_is_trained_on_all_samples_whatever_part_paths_are_evaluated_on(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    start = Objective(trained[0], digits.train, Task(10))
    middles = [Pair(start, start.of(trained[1]), replace(SHORT, path_samples=n)).fit_curve().middle for n in (64, 640)]
    assert torch.equal(*middles)


def test_batch_norm_is_refreshed_from_as_many_samples_as_asked(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    start = Objective(residual_nets[0], images.train, Task(4))
    pair = Pair(start, start.of(residual_nets[1]), Protocol(batch_norm_samples=64))
    few = images.train.subset(64, 0).inputs
    between = copy.deepcopy(residual_nets[0])
    for p, a, b in zip(*(model.parameters() for model in (between, *residual_nets)), strict=True):
        p.data = (a.data + b.data) / 2
    torch.optim.swa_utils.update_bn([few], between)
    expected = nn.functional.cross_entropy(between.eval()(images.train.inputs), images.train.targets).item()
    assert pair.linear_path().loss[4] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_cost_is_what_was_planned(
    trained: list[nn.Module],
    digits: ClassificationData,
    residual_nets: list[nn.Module],
    images: ClassificationData,
    batch_norm: bool,
) -> None:
    models, data, task = (residual_nets, images, Task(4)) if batch_norm else (trained, digits, Task(10))
    start = Objective(models[0], data.train, task)
    protocol = replace(SHORT, path_samples=100, batch_norm_samples=64)
    pair = Pair(start, start.of(models[1]), protocol)
    pair.linear_path()
    pair.curve_path(pair.fit_curve())

    planned = pair_gradients(protocol, len(data.train), batch_norm)
    assert pair.sample_gradients == pytest.approx(planned)
    inner, ends = 14, 4 if batch_norm else 2
    refreshing = 16 * 64 / 3 if batch_norm else 0
    assert planned == pytest.approx(40 * SHORT.curve_batch_size + (inner + ends) * 100 / 3 + refreshing)


def test_a_pair_costs_at_most_forty_thousand_sample_gradients_whatever_the_data() -> None:
    assert pair_gradients(Protocol(curve_steps=800, curve_batch_size=32), 10**6, batch_norm=True) <= 40_000


def test_paths_leave_both_networks_alone_and_repeat_to_the_bit(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    before = [copy.deepcopy(model.state_dict()) for model in residual_nets]
    random = torch.random.get_rng_state()

    curves = [fit_curve(*residual_nets, images, SHORT) for _ in range(2)]

    assert torch.equal(curves[0].middle, curves[1].middle)
    assert not torch.equal(curves[0].middle, fit_curve(*residual_nets, images, Protocol(curve_steps=40, seed=1)).middle)
    assert torch.equal(torch.random.get_rng_state(), random)
    for model, state in zip(residual_nets, before, strict=True):
        assert model.training
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_networks_of_other_architectures_are_named_by_their_differences() -> None:
    data = ClassificationData(data_for("mlp"), None, CLASSES)
    with pytest.raises(LandscapeError, match="another architecture") as caught:
        linear_path(mlp(), layer_norm_mlp(), data)
    message = str(caught.value)
    assert "2.weight (8, 8) and absent" in message
    assert "1.weight absent and (8,)" in message

    wide = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9), nn.Linear(9, CLASSES))
    with pytest.raises(LandscapeError, match=r"0\.weight \(8, 6\) and \(9, 6\).* and 3 more; expected"):
        linear_path(mlp(), wide, data)


def test_a_curve_from_a_network_to_itself_is_refused(trained: list[nn.Module], digits: ClassificationData) -> None:
    with pytest.raises(LandscapeError, match="same weights"):
        fit_curve(trained[0], copy.deepcopy(trained[0]), digits, SHORT)


def test_batch_norm_statistics_need_two_samples() -> None:
    one = data_for("batch_norm_resnet", samples=1)
    with pytest.raises(LandscapeError, match="refreshed from one sample"):
        linear_path(*(build("batch_norm_resnet", s) for s in (0, 1)), ClassificationData(one, None, CLASSES))


def test_batches_in_an_order_of_their_own_make_no_curve() -> None:
    data = data_for("mlp")
    batches = [(data.inputs[:20], data.targets[:20]), (data.inputs[20:], data.targets[20:])]
    start = Objective(build("mlp"), batches, Task(CLASSES))
    with pytest.raises(LandscapeError, match="Samples, for paths"):
        Pair(start, start.of(build("mlp", 1)), SHORT).fit_curve()


def test_a_mini_batch_larger_than_the_data_is_all_of_them() -> None:
    data = ClassificationData(Samples(data_for("mlp").inputs, data_for("mlp").targets), None, CLASSES)
    curve = fit_curve(build("mlp"), build("mlp", 1), data, Protocol(curve_steps=5, curve_batch_size=1000))
    assert bool(torch.isfinite(curve.middle).all())
