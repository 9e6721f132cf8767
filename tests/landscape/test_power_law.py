"""The fit of a power law: the published formula in a slow loop, samples of known exponent, and the law of noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from landscape.errors import LandscapeError
from landscape.power_law import fit_power_law, hill_exponent, random_alpha, random_eigenvalues


def slow_fit(values):
    """Clauset, Shalizi and Newman (2009), one candidate after the other."""
    best = None
    for xmin in sorted(set(values))[:-1]:
        tail = sorted(x for x in values if x >= xmin)
        n = len(tail)
        alpha = 1 + n / sum(math.log(x / xmin) for x in tail)
        distance = max(abs((1 - (x / xmin) ** (1 - alpha)) - j / n) for j, x in enumerate(tail))
        if best is None or distance < best[0]:
            best = (distance, alpha, xmin, n)
    return best


@pytest.mark.parametrize("size", [10, 37, 700])
def test_the_fast_scan_is_the_published_formula(size):
    values = np.random.default_rng(size).lognormal(sigma=2, size=size)
    fit = fit_power_law(values)
    assert (fit.distance, fit.alpha, fit.xmin, fit.tail) == pytest.approx(slow_fit(values.tolist()), rel=1e-12)
    assert fit.standard_error == pytest.approx((fit.alpha - 1) / math.sqrt(fit.tail), rel=1e-14)


def test_equal_values_enter_the_tail_together():
    values = np.repeat([1.0, 2.0, 3.0, 5.0, 8.0, 30.0], [9, 6, 4, 3, 2, 2])
    fit = fit_power_law(values)
    assert (fit.distance, fit.alpha, fit.xmin, fit.tail) == pytest.approx(slow_fit(values.tolist()), rel=1e-12)
    assert fit.tail == (values >= fit.xmin).sum()


@pytest.mark.parametrize("alpha", [2.5, 4.0])
def test_the_standard_error_covers_the_exponent_of_pareto_samples(alpha):
    generator = np.random.default_rng(1)
    samples = (1 - generator.random((200, 200))) ** (-1 / (alpha - 1))
    fits = [fit_power_law(sample) for sample in samples]
    z = np.array([(fit.alpha - alpha) / fit.standard_error for fit in fits])
    assert 0.8 < z.std() < 1.25
    assert abs(z.mean()) < 0.35  # the choice of xmin pulls alpha up a little


def test_an_exponent_does_not_depend_on_the_scale():
    values = np.random.default_rng(0).lognormal(size=200)
    small, large = fit_power_law(values * 1e-290), fit_power_law(values * 1e290)
    assert small.alpha == pytest.approx(large.alpha, rel=1e-10)
    assert small.xmin * 1e290 == pytest.approx(large.xmin * 1e-290, rel=1e-10)


def test_the_hill_exponent_is_that_of_the_larger_half():
    values = np.exp(np.arange(11.0))  # 5 largest: 5 + 4 + 3 + 2 + 1 above the sixth in logarithms
    assert hill_exponent(values[::-1]) == pytest.approx(1 + 5 / 15, rel=1e-14)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(1.0, 10.0), "10 values or more"),
        (np.arange(12.0), "not all positive"),
        (np.append(np.ones(11), np.inf), "finite"),
        (np.append(np.ones(11), np.nan), "finite"),
        (np.ones(12), "all equal"),
    ],
)
def test_what_has_no_power_law_is_refused(values, message):
    for fit in (fit_power_law, hill_exponent):
        with pytest.raises(LandscapeError, match=message):
            fit(values)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (40, 12)])
def test_random_eigenvalues_have_the_law_of_a_random_matrix(rows, columns):
    generator = np.random.default_rng(0)
    ours = np.log([random_eigenvalues(rows, columns, generator) for _ in range(4000)])
    svd = np.linalg.svd(generator.standard_normal((4000, rows, columns)), compute_uv=False)[:, ::-1]
    theirs = 2 * np.log(svd)
    errors = np.sqrt((ours.var(0) + theirs.var(0)) / 4000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * errors).all()
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.1)


def test_the_law_of_noise_is_that_of_random_matrices():
    """The smallest of 19 draws: a twentieth of all random matrices have a smaller exponent."""
    generator = torch.Generator().manual_seed(0)
    for matrices, n, m in ((1, 40, 16), (4, 12, 12)):
        draws = torch.randn(400, matrices, n, m, generator=generator, dtype=torch.float64)
        pooled = torch.linalg.svdvals(draws).flatten(1).square().numpy()
        alphas = [fit_power_law(values).alpha for values in pooled]
        assert 0.005 < np.mean(np.array(alphas) < random_alpha(matrices, n, m)) < 0.16
        assert random_alpha(matrices, m, n) == random_alpha(matrices, n, m)
