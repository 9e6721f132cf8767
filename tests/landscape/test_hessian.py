"""Eigenvalues and density against dense float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_reference import dense_hessian
from small_networks import ARCHITECTURES, CLASSES, build, data_for

from landscape import Execution, LandscapeError, Objective, SymmetricOperator, Task, spectral_density, top_eigenvalues

DOUBLE = Execution(dtype="float64", batch_size=16)


def objective(name: str, execution: Execution = DOUBLE) -> Objective:
    return Objective(build(name), data_for(name), Task(CLASSES), execution=execution)


def dense_eigenvalues(name: str) -> np.ndarray:
    data = data_for(name)
    return torch.linalg.eigvalsh(dense_hessian(build(name), data.inputs, data.targets)).numpy()


def diagonal(values: list[float]) -> SymmetricOperator:
    entries = torch.tensor(values, dtype=torch.float64)
    return SymmetricOperator(lambda v: entries * v, len(values))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_top_five_and_both_ends_match_the_dense_hessian(name: str) -> None:
    dense = dense_eigenvalues(name)

    found = top_eigenvalues(objective(name), 5, tolerance=1e-8)

    assert found.converged
    assert found.values == pytest.approx(dense[::-1][:5], rel=1e-6)
    assert found.products < len(dense)
    smallest = top_eigenvalues(objective(name), 1, most_products=len(dense), least_products=len(dense)).smallest
    assert smallest == pytest.approx(dense[0], rel=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_at_the_protocols_tolerance_every_eigenvalue_lies_within_a_thousandth(name: str) -> None:
    dense = dense_eigenvalues(name)[::-1][:5]

    found = top_eigenvalues(objective(name, Execution(batch_size=16)), 5, tolerance=1e-3)

    assert found.values == pytest.approx(dense, rel=1e-3)
    assert all(bound <= 1e-3 * value for value, bound in zip(found.values, found.bounds, strict=True))


def test_ritz_vectors_are_orthonormal_eigenvectors() -> None:
    target = objective("mlp")
    found = top_eigenvalues(target, 3, tolerance=1e-8)

    gram = found.vectors @ found.vectors.mT
    assert torch.allclose(gram, torch.eye(3, dtype=torch.float64), atol=1e-12)
    for value, vector in zip(found.values, found.vectors, strict=True):
        assert torch.allclose(target.hessian_vector_product(vector), value * vector, atol=1e-7)


def test_largest_algebraic_and_largest_magnitude_are_told_apart() -> None:
    found = top_eigenvalues(diagonal([-2.83, 1.83, 0.5, 0.1, -0.2, 0.0, 0.3, 0.7, 0.9, 1.1]), 2)

    assert found.values == pytest.approx([1.83, 1.1])
    assert found.smallest == pytest.approx(-2.83)
    assert found.magnitude[0] == pytest.approx(2.83)


def test_fewer_dimensions_than_eigenvalues_asked_for() -> None:
    found = top_eigenvalues(diagonal([3.0, -1.0, 2.0]), 5)

    assert found.values == pytest.approx([3.0, 2.0, -1.0])
    assert found.converged


def test_repeated_eigenvalues_are_all_found() -> None:
    found = top_eigenvalues(diagonal([5.0] * 4 + [1.0] * 30), 5)

    assert found.values == pytest.approx([5.0, 5.0, 5.0, 5.0, 1.0])


def test_zero_operator() -> None:
    found = top_eigenvalues(diagonal([0.0] * 50), 5)

    assert found.values == (0.0,) * 5
    assert found.magnitude == (0.0, 0.0)
    assert found.converged
    assert found.products == 8


def test_a_flat_bulk_is_not_resolved_finer_than_the_protocol_needs() -> None:
    """Two eigenvalues above a bulk 50,000 times smaller: its own are brought to a thousandth of a thousandth of 1."""
    entries = torch.cat([torch.tensor([1.0, 0.5]), torch.linspace(-2e-5, 2e-5, 198)])
    found = top_eigenvalues(SymmetricOperator(lambda v: entries * v, 200, torch.float32), 5)

    assert found.converged
    assert found.products < 40
    assert found.values[:2] == pytest.approx([1.0, 0.5], rel=1e-6)
    assert found.values[2:] == pytest.approx([2e-5] * 3, abs=2e-6)


def test_giving_up_is_told_and_the_bounds_say_how_far_off() -> None:
    exact = np.linspace(0, 1, 500)
    found = top_eigenvalues(diagonal(list(exact)), 5, tolerance=1e-6, most_products=12)

    assert not found.converged
    assert found.bounds[0] > 1e-3
    assert np.abs(exact - found.values[0]).min() <= found.bounds[0]


def test_at_least_eight_products_even_where_the_first_bounds_are_small() -> None:
    assert top_eigenvalues(diagonal([1.0] + [0.0] * 99), 1).products == 8


def test_a_product_that_is_not_finite_is_refused() -> None:
    broken = SymmetricOperator(lambda v: v * float("nan"), 20)
    with pytest.raises(LandscapeError, match="not finite"):
        top_eigenvalues(broken, 1)


def test_density_matches_the_dense_spectrum() -> None:
    target = objective("mlp")
    dense = dense_eigenvalues("mlp")

    found = spectral_density(target, steps=30, probes=40, seed=3)

    width = found.eigenvalues[1] - found.eigenvalues[0]
    assert sum(found.density) * width == pytest.approx(1.0, abs=1e-3)
    assert [sum(weights) for weights in found.ritz_weights] == pytest.approx([1.0] * 40)
    moments = [
        np.mean([np.dot(w, np.power(v, k)) for v, w in zip(found.ritz_values, found.ritz_weights, strict=True)])
        for k in (1, 2)
    ]
    assert moments == pytest.approx([dense.mean(), (dense**2).mean()], rel=0.1)


def test_the_run_of_the_eigenvalues_serves_as_the_first_probe() -> None:
    target = objective("mlp")
    run = top_eigenvalues(target, 5, least_products=20).run
    before = target.sample_gradients

    found = spectral_density(target, steps=20, probes=2, first=run)

    assert target.sample_gradients - before == 20 * 2 * target.samples
    assert found.ritz_values[0] == tuple(run.ritz()[0])


def test_density_of_a_zero_operator_is_a_peak_at_zero() -> None:
    found = spectral_density(diagonal([0.0] * 10), steps=5, probes=1)

    assert np.isfinite(found.density).all()
    assert found.eigenvalues[int(np.argmax(found.density))] == pytest.approx(0.0, abs=1e-10)
