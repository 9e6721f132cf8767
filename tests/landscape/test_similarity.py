"""CKA, mixtures, disagreement, distance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from landscape import LandscapeError, disagreement, linear_cka, mixup, parameter_distance


def features(columns: int, samples: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(samples, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cka_of_features_with_themselves_is_one() -> None:
    X = features(7)
    assert linear_cka(X, X) == pytest.approx(1.0, abs=1e-12)


def test_cka_is_invariant_to_rotation_scale_and_shift() -> None:
    X, Y = features(7), features(5, seed=1) + features(7)[:, :5]
    rotation = torch.linalg.qr(features(7, samples=7, seed=2)).Q
    expected = linear_cka(X, Y)

    assert 0.05 < expected < 0.95
    assert linear_cka(3e-9 * X @ rotation + 5, Y) == pytest.approx(expected, rel=1e-6)
    assert linear_cka(X @ torch.diag(torch.arange(1.0, 8.0, dtype=torch.float64)), Y) != pytest.approx(
        expected, rel=0.01
    )


def test_cka_is_the_alignment_of_centred_kernels() -> None:
    X, Y = features(7), features(5, seed=1)
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50
    K, L = centre @ X @ X.mT @ centre, centre @ Y @ Y.mT @ centre
    assert linear_cka(X, Y) == pytest.approx(float((K * L).sum() / (K.norm() * L.norm())), rel=1e-12)


def test_float32_features_are_summed_in_float64() -> None:
    X = (features(4, samples=20_000) * 1e-3 + 100).float()
    assert linear_cka(X, X.double()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (features(3, 3), features(3, 3), "at least 4"),
        (torch.ones(9, 3), features(3, 9), "the first network's features are constant"),
        (features(3, 9), torch.full((9, 3), 1e20), "the second network's features are constant"),
        (features(3, 9) / 0, features(3, 9), "not finite"),
        (features(3, 9), features(3, 8), "features of shapes"),
    ],
)
def test_cka_is_refused_rather_than_nan(X: Tensor, Y: Tensor, message: str) -> None:
    with pytest.raises(LandscapeError, match=message):
        linear_cka(X, Y)


def test_mixtures_lie_between_their_parents_and_repeat() -> None:
    X = torch.eye(200)
    mixed = mixup(X, 16.0, seed=4)

    assert torch.equal(mixed, mixup(X, 16.0, seed=4))
    assert not torch.equal(mixed, mixup(X, 16.0, seed=5))
    assert torch.allclose(mixed.sum(1), torch.ones(200))
    weights = mixed.diagonal()[mixed.diagonal() < 1]  # those mixed with another sample
    assert float(weights.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(weights.std()) == pytest.approx(math.sqrt(1 / (4 * 33)), rel=0.15)  # of Beta(16, 16)
    assert torch.equal(X, torch.eye(200))


def test_integers_have_no_mixture() -> None:
    with pytest.raises(LandscapeError, match=r"inputs of type torch\.int64 cannot be mixed"):
        mixup(torch.arange(6)[:, None], 16.0, seed=0)


def test_disagreement_counts_different_answers() -> None:
    a = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 1.0]])
    assert disagreement(a, a) == 0.0
    assert disagreement(a, a.flip(1)) == 100.0
    assert disagreement(a, torch.tensor([[9.0, 1.0], [0.0, 1.0], [3.0, 1.0], [2.0, 1.0]])) == 25.0
    with pytest.raises(LandscapeError, match="the same shape twice"):
        disagreement(a, a[:2])


def test_distance_is_relative_to_the_size_of_both() -> None:
    a = torch.tensor([3.0, 4.0])
    assert parameter_distance(a, a) == 0.0
    assert parameter_distance(a, torch.tensor([-4.0, 3.0])) == pytest.approx(math.sqrt(2))
    assert parameter_distance(a, -a) == pytest.approx(2.0)
    assert parameter_distance(a, 3 * a) == pytest.approx(10 / math.sqrt((25 + 225) / 2))
    assert parameter_distance(10 * a, -10 * a) == parameter_distance(a, -a)
    assert parameter_distance(0 * a, 0 * a) == 0.0
