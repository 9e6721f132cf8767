"""Two-stage sampling errors: of the samples, of the draws on each, and of both."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
import torch

from landscape.sampling_error import log_error, ratio_estimate, signs, stages


def population(units: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = 0.5 + torch.rand(units, generator=generator, dtype=torch.float64)
    values = weights * (3 + (0.5 * torch.randn(units, generator=generator, dtype=torch.float64)).exp())
    return values, weights


@pytest.mark.parametrize("units", [40, 200, 360, 400])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_the_standard_error_is_that_of_sampling_without_replacement_and_of_the_draws(units: int, noise: float) -> None:
    values, weights = population()
    truth = float(values.sum() / weights.sum())
    generator = torch.Generator().manual_seed(4)
    scores, draw_scores = [], []
    for _ in range(400):
        chosen = torch.randperm(len(values), generator=generator)[:units]
        draws = values[chosen] + noise * torch.randn(2, units, generator=generator, dtype=torch.float64)
        found = ratio_estimate(draws, weights[chosen], units / len(values))
        on_these = float(values[chosen].sum() / weights[chosen].sum())
        if found.standard_error:
            scores.append((found.value - truth) / found.standard_error)
        if found.draw_error:
            draw_scores.append((found.value - on_these) / found.draw_error)

    if units == len(values) and not noise:
        assert not scores  # nothing was sampled
        return
    assert 0.85 < stdev(scores) < 1.15
    assert abs(fmean(scores)) < 0.25
    if noise:
        assert 0.85 < stdev(draw_scores) < 1.15


def test_an_exact_census_has_no_error() -> None:
    values, weights = population()

    found = ratio_estimate(values[None], weights, 1.0)

    assert found.value == pytest.approx(float(values.sum() / weights.sum()), rel=1e-14)
    assert found.standard_error == found.draw_error == 0


def test_the_error_of_a_logarithm() -> None:
    assert log_error(-4.0, 0.2) == 0.05
    assert log_error(0.0, 0.0) == 0
    assert log_error(0.0, 1.0) == math.inf


@pytest.mark.parametrize(
    ("first", "most", "expected"),
    [(512, 300, [300]), (512, 1024, [1024]), (512, 1025, [512, 1024, 1025]), (512, 4096, [512, 1024, 2048, 4096])],
)
def test_samples_double_and_small_sets_are_taken_whole(first: int, most: int, expected: list[int]) -> None:
    assert stages(first, most) == expected


def test_signs_follow_from_seed_and_place() -> None:
    a = signs((3, 1000), 1, 0)

    assert torch.equal(a, signs((3, 1000), 1, 0))
    assert sorted(a.unique().tolist()) == [-1, 1]
    assert abs(float(a.double().mean())) < 0.06
    for other in (signs((3, 1000), 2, 0), signs((3, 1000), 1, 16), signs((3, 1000), 0, 1)):
        assert abs(float((a.double() * other).mean())) < 0.06
