"""Eigenvalues and density against dense float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_reference import dense_hessian
from small_networks import ARCHITECTURES, CLASSES, build, data_for

from landscape import (
    ClassificationData,
    Eigenvalues,
    Execution,
    LandscapeError,
    Objective,
    SymmetricOperator,
    Task,
    krylov_basis,
    spectral_density,
    top_eigenvalues,
)
from landscape.krylov_basis import Basis
from landscape.lanczos import Lanczos

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
    assert found.products == 6


def test_a_flat_bulk_is_not_resolved_finer_than_the_protocol_needs() -> None:
    """Two eigenvalues above a bulk 50,000 times smaller: its own are brought to a millionth of 1."""
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


def test_at_least_six_products_even_where_the_first_bounds_are_small() -> None:
    assert top_eigenvalues(diagonal([1.0] + [0.0] * 99), 1).products == 6


def test_a_krylov_space_that_closes_early_is_not_believed() -> None:
    """Two distinct values close it after two products; only another random vector sees how often each is there."""
    found = top_eigenvalues(diagonal([5.0] * 2 + [1.0] * 60), 3, least_products=1)

    assert found.values == pytest.approx([5.0, 5.0, 1.0])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", ["mlp", "batch_norm_resnet", "tanh_mlp"])
def test_a_start_that_is_blind_to_the_top_finds_it_all_the_same(name: str, k: int) -> None:
    data = data_for(name)
    values, vectors = torch.linalg.eigh(dense_hessian(build(name), data.inputs, data.targets))
    blind = vectors.flip(1).mT[1:6]  # exact eigenvectors, orthogonal to the first

    for start in (blind, blind[:1]):
        for seed in range(5):
            found = top_eigenvalues(objective(name), k, seed=seed, start=start)
            assert found.values == pytest.approx(values.flip(0)[:k].tolist(), rel=1e-3)


def test_a_loose_tolerance_waits_for_the_value_that_follows() -> None:
    """From the exact second eigenvector: settled at once, wrong 37 times of 40 without a look at the next value."""
    exact = [1.0, 0.85, 0.7, *np.linspace(0.2, -0.05, 300)]
    start = torch.zeros(1, len(exact), dtype=torch.float64)
    start[0, 1] = 1.0
    runs = [
        top_eigenvalues(diagonal(exact), 1, start=start, seed=seed, tolerance=0.03, least_products=3)
        for seed in range(40)
    ]

    assert sum(run.values[0] < 0.99 for run in runs) <= 3
    assert np.mean([run.products for run in runs]) < 8
    certain = [top_eigenvalues(diagonal(exact), 1, start=start, seed=seed) for seed in range(40)]
    assert all(run.values[0] == pytest.approx(1.0, rel=1e-5) for run in certain)


def test_the_ritz_vector_of_half_the_data_saves_products(
    digits: ClassificationData, trained: list[torch.nn.Module]
) -> None:
    whole = Objective(trained[0], digits.train, Task(10))
    part = top_eigenvalues(whole.at(0, 320), 1)
    exact = top_eigenvalues(whole, 1, tolerance=1e-6).values[0]

    def runs(start: torch.Tensor | None) -> list[Eigenvalues]:
        return [
            top_eigenvalues(whole, 1, tolerance=1e-3, least_products=3, seed=seed, start=start) for seed in range(10)
        ]

    cold, warm = runs(None), runs(part.vectors)
    assert all(run.values[0] == pytest.approx(exact, rel=1e-4) for run in warm)
    assert np.mean([run.products for run in warm]) <= np.mean([run.products for run in cold]) - 1


@pytest.mark.parametrize("shape", [(0, 20), (1, 19), (20,)])
def test_a_start_of_another_length_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LandscapeError, match="start has the shape"):
        top_eigenvalues(diagonal([1.0] * 20), 1, start=torch.ones(shape))


def test_a_run_leaves_the_start_and_the_operators_own_vectors_alone() -> None:
    entries, start = torch.linspace(-1, 1, 30, dtype=torch.float64), torch.ones(2, 30, dtype=torch.float64)
    held: list[torch.Tensor] = []

    def product(vector: torch.Tensor) -> torch.Tensor:
        held.append(entries * vector)
        return held[-1]

    kept = []
    operator = SymmetricOperator(lambda v: kept.append(product(v).clone()) or held[-1], 30)  # type: ignore[func-returns-value]
    top_eigenvalues(operator, 1, start=start)

    assert torch.equal(start, torch.ones(2, 30, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(held, kept, strict=True))


def long_diagonal(size: int, dtype: torch.dtype) -> tuple[SymmetricOperator, list[float]]:
    """A spectrum as those of networks: a few leading values over a bulk with a tail on both sides."""
    bulk = torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.05
    leading = [10.0, 9.1, 7.0, 5.5, 5.0, 3.0, 2.0, -0.8]
    bulk[: len(leading)] = torch.tensor(leading)
    return SymmetricOperator(lambda v: bulk.to(v) * v, size, dtype), sorted(bulk.tolist(), reverse=True)


def test_a_restarted_run_finds_what_an_endless_one_finds() -> None:
    operator, exact = long_diagonal(2000, torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(krylov_basis, "BASIS_BYTES", 1)  # the least number of rows there is, in half precision
        found = top_eigenvalues(operator, 5, tolerance=1e-7)

    assert found.run.restarts > 0
    assert len(found.run.basis) <= 12
    assert found.converged
    assert found.values == pytest.approx(exact[:5], rel=1e-9)
    assert found.smallest == pytest.approx(-0.8, rel=1e-2)
    assert found.products <= top_eigenvalues(operator, 5, tolerance=1e-7).products + 8


def test_restarts_alone_cost_no_accuracy() -> None:
    operator, exact = long_diagonal(2000, torch.float64)
    run = Lanczos(operator, torch.Generator().manual_seed(0), least_vectors=12, most_vectors=12)
    for _ in range(60):
        run.step()
    values, bounds, vectors = run.ritz()
    top = run.basis.combine(vectors[:, ::-1][:, :3].T)

    assert values[::-1][:5] == pytest.approx(exact[:5], rel=1e-10)
    assert torch.allclose(top @ top.mT, torch.eye(3, dtype=torch.float64), atol=1e-12)
    residual = operator.product(top[0]) - values[-1] * top[0]
    assert float(residual.norm()) == pytest.approx(bounds[-1], abs=1e-12)
    assert values[0] == pytest.approx(exact[-1], rel=1e-10)


def test_a_basis_in_half_precision_stays_orthogonal_enough_for_float32() -> None:
    operator, exact = long_diagonal(60_000, torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(krylov_basis, "BASIS_BYTES", 31 * 60_000 * 4)  # too little for 32 rows of float32
        found = top_eigenvalues(operator, 5, least_products=40)
    whole = top_eigenvalues(operator, 5, least_products=40)

    assert found.run.basis.most == 62
    assert found.run.restarts == 0
    assert found.values == pytest.approx(exact[:5], rel=2e-6), "no copy of a value that had converged"
    assert found.values == pytest.approx(whole.values, rel=2e-6)
    gram = found.vectors @ found.vectors.mT
    assert torch.allclose(gram, torch.eye(5), atol=2e-6)


def test_a_basis_takes_the_rows_that_fit() -> None:
    def most(dimension: int, dtype: torch.dtype = torch.float32) -> int:
        return Basis(dimension, dtype, "meta", 12).most

    assert most(100) == 100
    assert most(1_000_000) == 33
    assert most(3_000_000) == 22  # in half precision
    assert most(50_000_000) == 12


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
    assert found.ritz_weights[0] == tuple(run.ritz()[2][0] ** 2)


def test_a_run_from_given_vectors_is_no_probe_of_the_density() -> None:
    target = objective("mlp")
    warm = top_eigenvalues(target, 1, start=torch.ones(1, target.parameter_count)).run

    with_it, without = (spectral_density(target, steps=6, probes=1, first=run) for run in (warm, None))

    assert with_it == without


def test_the_density_of_a_restarted_run_keeps_the_values_that_left_the_basis() -> None:
    operator, _ = long_diagonal(500, torch.float64)
    moments = []
    for most in (12, 100):
        run = Lanczos(operator, torch.Generator().manual_seed(0), least_vectors=12, most_vectors=most)
        for _ in range(24):
            run.step()
        nodes, weights = run.atoms()
        assert weights.sum() == pytest.approx(1.0)
        assert list(nodes) == sorted(nodes)
        moments.append([float(weights @ nodes**power) for power in (1, 2, 3)])

    assert moments[0] == pytest.approx(moments[1], rel=1e-6)


def test_density_of_a_zero_operator_is_a_peak_at_zero() -> None:
    found = spectral_density(diagonal([0.0] * 10), steps=5, probes=1)

    assert np.isfinite(found.density).all()
    assert found.eigenvalues[int(np.argmax(found.density))] == pytest.approx(0.0, abs=1e-10)
