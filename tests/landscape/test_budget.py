"""A measurement in a given time: what is kept, what is cut, and that it is said."""

from __future__ import annotations

import pytest
from conftest import digits_mlp
from torch import nn

from landscape import METRICS, ClassificationData, Execution, LandscapeError, Protocol, measure
from landscape.budget import Clock, cut_to_budget, sibling_gradients

PROTOCOL = Protocol()


def test_without_a_budget_nothing_is_cut() -> None:
    cut = cut_to_budget(PROTOCOL, 4096, Clock(), 1.0, pairs=1)

    assert (cut.samples, cut.first_samples, cut.flags) == (4096, 512, ())


def test_a_generous_budget_cuts_nothing() -> None:
    cut = cut_to_budget(PROTOCOL, 4096, Clock(1000.0), 1e-4, pairs=1)

    assert (cut.samples, cut.first_samples, cut.flags) == (4096, 512, ())


@pytest.mark.parametrize("gradients", [100_000, 20_000, 4_000, 500])
def test_what_is_left_fits_the_time_and_is_said(gradients: int) -> None:
    """At a millisecond a sample gradient."""
    cut = cut_to_budget(PROTOCOL, 4096, Clock(gradients / 1000), 0.001, pairs=0)

    expected = 2 * cut.samples + (2 * PROTOCOL.density_steps + 2) * cut.first_samples
    assert expected <= max(gradients, 64 * 44)  # no less than 64 samples are ever used
    said = [f"budget_cut_samples_to_{cut.samples}"] if cut.samples < 4096 else []
    if cut.hessian_samples < min(2048, cut.samples):
        said.append(f"budget_cut_hessian_samples_to_{cut.hessian_samples}")
    assert list(cut.flags) == said


def test_time_for_the_pair_is_set_aside_where_there_is_enough() -> None:
    alone = cut_to_budget(PROTOCOL, 4096, Clock(75.0), 0.001, pairs=0)
    paired = cut_to_budget(PROTOCOL, 4096, Clock(75.0), 0.001, pairs=1)

    assert sibling_gradients(PROTOCOL, 4096, batch_norm=True) < 60_000
    assert paired.first_samples < alone.first_samples


def test_a_measurement_keeps_to_its_time(trained: list[nn.Module], digits: ClassificationData) -> None:
    found = measure(trained[:2], digits, execution=Execution(budget_seconds=0.05), fresh=digits_mlp)

    assert found.cost.seconds < 0.5
    assert any(flag.startswith("budget_cut") for flag in found.flags)
    assert {*found.metrics, *(item.metric for item in found.not_measured)} == set(METRICS)
    assert "train_loss" in found.metrics
    assert any("time budget" in item.reason for item in found.not_measured)


def test_in_enough_time_the_numbers_are_those_without_a_budget(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    protocol = Protocol(curve_steps=30)
    free = measure(trained[:2], digits, protocol, fresh=digits_mlp)
    bounded = measure(trained[:2], digits, protocol, Execution(budget_seconds=600), fresh=digits_mlp)

    assert bounded.metrics == free.metrics
    assert bounded.flags == free.flags


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True])
def test_a_budget_is_a_positive_number(seconds: float) -> None:
    with pytest.raises(LandscapeError, match="budget_seconds"):
        Execution(budget_seconds=seconds)
