"""Many networks measured at once have the values each has by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from small_networks import CLASSES, build, data_for
from torch import Tensor, nn

from landscape import (
    METRICS,
    ClassificationData,
    Execution,
    LandscapeError,
    Measurement,
    Protocol,
    Samples,
    Task,
    measure,
    measure_many,
)
from landscape.connectivity import Pair
from landscape.curve_stack import CurveStack
from landscape.siblings import PATH_METRICS

QUICK = Protocol(curve_steps=20, density_steps=4, first_samples=16, fresh_instances=2, precision=1.0)
DOUBLE = Execution(dtype="float64")


def noisy(kind: str) -> ClassificationData:
    """Random labels, on 37 samples to train and 20 to test."""
    return ClassificationData(data_for(kind), data_for(kind, 20), CLASSES)


def ring(kind: str) -> list[list[nn.Module]]:
    """Each of four networks with the next; the third's weights are five times as large."""
    models = [build(kind, seed) for seed in range(4)]
    with torch.no_grad():
        for parameter in models[2].parameters():
            parameter.mul_(5)
    return [[model, models[(i + 1) % 4]] for i, model in enumerate(models)]


def known(measurement: Measurement, *left_out: str) -> dict[str, Any]:
    """Everything but seconds; `left_out` are metrics or series that may differ."""
    found = asdict(measurement)
    del found["cost"]["seconds"]
    for name in left_out:
        found["metrics"].pop(name, None)
        found["series"].pop(name, None)
    return found


def agree(many: Sequence[Measurement], alone: Sequence[Measurement]) -> None:
    """The curve to rounding, all else to the last bit."""
    for one, other in zip(many, alone, strict=True):
        assert known(one, "curve", *PATH_METRICS) == known(other, "curve", *PATH_METRICS)
        for name in PATH_METRICS:
            assert asdict(one.metrics[name]) == pytest.approx(asdict(other.metrics[name]), rel=1e-10, abs=1e-10), name
        curve, expected = one.series["curve"], other.series["curve"]
        assert curve["loss"] == pytest.approx(expected["loss"], rel=1e-10)
        assert curve["error_percent"] == expected["error_percent"]


def no_curve_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pair: Pair, progress: object = None) -> None:
        raise AssertionError("a curve was trained by itself")

    monkeypatch.setattr(Pair, "fit_curve", fail)


@pytest.mark.parametrize("kind", ["mlp", "layer_norm_mlp", "cnn"])
def test_each_group_is_measured_as_by_itself(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, data = ring(kind), noisy(kind)
    fresh = lambda: build(kind, torch.initial_seed())  # noqa: E731
    alone = [measure(group, data, QUICK, DOUBLE, fresh=fresh) for group in groups]
    no_curve_alone(monkeypatch)
    before = [[p.clone() for p in group[0].parameters()] for group in groups]
    state = torch.get_rng_state()
    many = measure_many(groups, data, QUICK, DOUBLE, fresh=fresh)

    assert set(many[0].metrics) == set(METRICS)
    agree(many, alone)
    assert torch.equal(torch.get_rng_state(), state)
    for group, parameters in zip(groups, before, strict=True):
        assert group[0].training
        assert all(torch.equal(a, b) for a, b in zip(group[0].parameters(), parameters, strict=True))


def test_groups_of_any_size_share_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = (build("tanh_mlp", seed) for seed in range(3))
    groups, data = [[a, b, c], [a], [c, a], [a, c]], noisy("mlp")
    alone = [measure(group, data, QUICK, DOUBLE, initial_norm_squared=9.0) for group in groups]
    no_curve_alone(monkeypatch)
    many = measure_many(groups, data, QUICK, DOUBLE, initial_norm_squared=9.0)

    agree([many[0], *many[2:]], [alone[0], *alone[2:]])
    assert known(many[1]) == known(alone[1])


@pytest.mark.parametrize("architecture", ["batch_norm_resnet", "recurrent", "row by row"])
def test_what_cannot_be_stacked_is_measured_one_by_one(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a stack was trained")

    monkeypatch.setattr(CurveStack, "train", fail)
    if architecture == "recurrent":
        data, models = noisy("mlp"), [Recurrent() for _ in range(3)]
    elif architecture == "row by row":
        data, models = noisy("cnn"), [row_by_row() for _ in range(3)]
    else:
        data, models = noisy(architecture), [build(architecture, seed) for seed in range(3)]
    groups = [models[:2], models[1:]]
    many = measure_many(groups, data, QUICK)

    assert [known(one) for one in many] == [known(measure(group, data, QUICK)) for group in groups]
    assert "connectivity_barrier_percent" in many[0].metrics


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.view(-1, 2, 3))[0][:, -1])


def row_by_row() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, CLASSES))


def test_a_curve_that_diverges_has_the_same_reason_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, data = ring("mlp"), noisy("mlp")
    with torch.no_grad():
        groups[0][1][-1].weight.mul_(1e37)  # finite logits, and squares of weights that are not
    alone = [measure(group, data, QUICK) for group in groups]
    broken = [i for i, one in enumerate(alone) if "connectivity_peak_percent" not in one.metrics]
    many = measure_many(groups, data, QUICK)

    assert broken == [0, 1], "as the sibling, and as the network under study"
    for i in broken:
        assert known(many[i]) == known(alone[i])
    reasons = {each.metric: each.reason for each in many[0].not_measured}
    assert reasons["connectivity_peak_percent"].startswith("the training of the curve gave weights that are not finite")
    for i in (2, 3):
        assert known(many[i], "curve", *PATH_METRICS) == known(alone[i], "curve", *PATH_METRICS)
        for name in PATH_METRICS:
            assert many[i].metrics[name].value == pytest.approx(alone[i].metrics[name].value, rel=1e-3, abs=1e-3)


def test_networks_of_another_architecture_are_trained_alone() -> None:
    data, squashed = noisy("mlp"), [build("mlp", 5), build("mlp", 6)]
    for model in squashed:
        model[1] = nn.Tanh()  # the same parameters, another function
    groups = [*ring("mlp")[:2], squashed, [build("layer_norm_mlp"), build("layer_norm_mlp", 1)]]
    alone = [measure(group, data, QUICK, DOUBLE) for group in groups]
    many = measure_many(groups, data, QUICK, DOUBLE)

    agree(many[:2], alone[:2])
    assert [known(one) for one in many[2:]] == [known(one) for one in alone[2:]]


def test_a_bare_loss_function_has_no_paths() -> None:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    groups, data = ring("mlp"), noisy("mlp")
    many = measure_many(groups, data, QUICK, task=loss)
    assert [known(one) for one in many] == [known(measure(group, data, QUICK, task=loss)) for group in groups]


def test_the_task_is_that_of_all_groups() -> None:
    groups, data = ring("mlp"), noisy("mlp")
    task = Task(CLASSES, label_smoothing=0.2, class_weights=(1.0, 2.0, 1.0, 0.5))
    alone = [measure(group, data, QUICK, DOUBLE, task=task) for group in groups]
    agree(measure_many(groups, data, QUICK, DOUBLE, task=task), alone)


def test_a_time_budget_is_each_groups_own(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, trained = ring("mlp"), []
    fit = Pair.fit_curve
    monkeypatch.setattr(Pair, "fit_curve", lambda pair, progress=None: trained.append(pair) or fit(pair, progress))
    many = measure_many(groups, noisy("mlp"), QUICK, Execution(budget_seconds=1000.0))

    assert len(trained) == 4
    assert all(one.execution.budget_seconds == 1000.0 for one in many)


def test_the_seconds_of_the_stack_are_shared_by_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    train = CurveStack.train

    def slow(stack: CurveStack, *given: Any) -> Tensor:
        time.sleep(0.9)
        return train(stack, *given)

    monkeypatch.setattr(CurveStack, "train", slow)
    a, b, c = (build("mlp", seed) for seed in range(3))
    many = measure_many([[a, b, c], [b, c], [c]], noisy("mlp"), replace(QUICK, curve_steps=1))

    assert many[0].cost.seconds > 0.6
    assert many[1].cost.seconds > 0.3
    assert many[2].cost.seconds < many[1].cost.seconds


def test_progress_tells_the_stack_first() -> None:
    told: list[tuple[str, float]] = []
    measure_many(ring("mlp"), noisy("mlp"), QUICK, progress=lambda stage, share: told.append((stage, share)))

    curves = [share for stage, share in told[:20] if stage == "curves"]
    assert curves == pytest.approx([k / 20 for k in range(1, 21)])
    assert [stage for stage, share in told if share == 0].count("loss and gradient") == 4


def test_one_pair_needs_no_stack() -> None:
    group, data = ring("mlp")[0], noisy("mlp")
    assert known(measure_many([group], data, QUICK)[0]) == known(measure(group, data, QUICK))
    assert measure_many([], data, QUICK) == []


def not_finite(kind: str) -> nn.Module:
    model = build(kind)
    with torch.no_grad():
        next(model.parameters())[0] = torch.nan
    return model


@pytest.mark.parametrize("kind", ["mlp", "batch_norm_resnet"])
def test_errors_name_the_group(kind: str) -> None:
    a, b, data = build(kind), build(kind, 1), noisy(kind)
    for groups, message in (
        ([[a, b], []], "group 1 is empty"),
        ([[a, b], [b, not_finite(kind)]], "group 1: sibling 1: NaN or infinite values in"),
        ([[a, b], [not_finite(kind), a]], "group 1: NaN or infinite values in"),
        ([[a, b], [b, b]], "group 1: the sibling has the same weights"),
        ([[a, b], [b, build("layer_norm_mlp")]], "group 1"),
    ):
        with pytest.raises(LandscapeError, match=message):
            measure_many(groups, data, QUICK)
    with pytest.raises(LandscapeError, match="initial_norm_squared is -1"):
        measure_many([[a, b]], data, QUICK, initial_norm_squared=-1)
    wrong = ClassificationData(Samples(data.train.inputs, data.train.targets + 7), None, CLASSES)
    with pytest.raises(LandscapeError, match="group 0: labels from 7 to 10"):
        measure_many([[a, b], [b, a]], wrong, QUICK)
