"""CKA from batches and at once, mixtures, disagreement, distance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from statistics import fmean, stdev

import pytest
import torch
from conftest import digits_mlp, train
from torch import Tensor

from landscape import ClassificationData, LandscapeError, disagreement, linear_cka, mixup, parameter_distance
from landscape.similarity import CKA, Mixtures, StreamingCKA, percent_error

TRIALS = 250


def features(columns: int, samples: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(samples, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def family(samples: int, *columns: int) -> list[Tensor]:
    """Features of a network and its siblings, alike in part, with columns of different size."""
    shared = features(max(columns), samples, seed=99)
    return [
        (features(width, samples, seed) + shared[:, :width]) * torch.linspace(0.1, 3, width, dtype=torch.float64)
        for seed, width in enumerate(columns)
    ]


def two_pass_cka(X: Tensor, Y: Tensor) -> float:
    X, Y = (values.double() - values.double().mean(0) for values in (X, Y))
    return float((Y.mT @ X).norm() ** 2 / ((X.mT @ X).norm() * (Y.mT @ Y).norm()))


def streamed(parts: list[Tensor], batch: int) -> list[CKA]:
    found = StreamingCKA(len(parts[0]))
    for rows in zip(*(part.split(batch) for part in parts), strict=True):
        found.add(list(rows))
    return found.results()


def test_cka_of_features_with_themselves_is_one() -> None:
    X = features(7)
    assert linear_cka(X, X) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("samples", [50, 2000])
def test_cka_is_invariant_to_rotation_scale_shift_and_the_order_of_columns(samples: int) -> None:
    X, Y = family(samples, 7, 5)
    rotation = torch.linalg.qr(features(7, samples=7, seed=2)).Q
    expected = linear_cka(X, Y)

    assert 0.05 < expected < 0.95
    assert linear_cka(3e-9 * X @ rotation + 5, Y) == pytest.approx(expected, rel=1e-6)
    assert linear_cka(1e-100 * X, Y) == pytest.approx(expected, rel=1e-12)
    assert linear_cka(X.flip(1), Y) == pytest.approx(expected, rel=1e-12)
    assert linear_cka(X.flip(0), Y.flip(0)) == pytest.approx(expected, rel=1e-12)
    assert linear_cka(X.flip(0), Y) != pytest.approx(expected, rel=0.01)
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


# many samples of few columns are kept as sums, fewer as they are; those wider than long meet in kernels
SHAPES = {"sums": (5000, 3, 4, 2), "features": (60, 7, 5, 9), "kernels": (20, 40, 30, 500)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batches_give_the_cka_of_all_samples_at_once(shape: tuple[int, ...]) -> None:
    parts = family(*shape)
    for found, other in zip(streamed(parts, 17), parts[1:], strict=True):
        assert found.value == pytest.approx(two_pass_cka(parts[0], other), rel=1e-12)
        assert found.value == pytest.approx(linear_cka(parts[0], other), rel=1e-12)
        assert 0.01 < found.value < 0.99


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_same_bytes_however_the_samples_are_cut(shape: tuple[int, ...]) -> None:
    parts = family(*shape)
    expected = streamed(parts, 5000)
    for batch in (1, 7, 64, 1024):
        assert streamed(parts, batch) == expected


@pytest.mark.parametrize("samples", [60, 5000])
def test_a_mean_a_million_times_the_spread_costs_no_digits(samples: int) -> None:
    small = [(64 * part).round() / 64 for part in family(samples, 3, 4)]
    large = [part.float() + 2**17 for part in small]  # exactly

    assert torch.equal(large[0].double() - 2**17, small[0])
    assert streamed(large, 100)[0].value == pytest.approx(two_pass_cka(*small), rel=1e-9)
    shifted = [part + 1e6 * part.std() for part in family(samples, 3, 4)]
    assert streamed(shifted, 100)[0].value == pytest.approx(two_pass_cka(*family(samples, 3, 4)), rel=1e-9)


def test_samples_that_vary_only_later_are_not_taken_for_constant() -> None:
    X, Y = family(3000, 3, 4)
    X[:1500] = 0.25
    Y[:1500] = torch.tensor([1.0, 1e-100, 0.0, 0.0])
    Y[:1500:2, 1] = 2e-100
    assert streamed([X, Y], 64)[0].value == pytest.approx(two_pass_cka(X, Y), rel=1e-12)


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (features(3, 3), features(3, 3), "CKA of 3 samples; expected at least 4"),
        (torch.ones(9, 3), features(3, 9), "the first network's features are constant"),
        (features(3, 9), torch.full((9, 3), 1e20), "the second network's features are constant"),
        (torch.full((5000, 3), 0.1), features(3, 5000), "the first network's features are constant"),
        (features(3, 9) / 0, features(3, 9), "the first network's features are not finite"),
        (features(3, 9), features(3, 9).log(), "the second network's features are not finite"),
        (features(3, 9), features(3, 8), "features of shapes"),
        (features(3, 9), features(3, 9)[:, 0], "features of shapes"),
    ],
)
def test_cka_is_refused_rather_than_nan(X: Tensor, Y: Tensor, message: str) -> None:
    with pytest.raises(LandscapeError, match=message):
        linear_cka(X, Y)


def test_of_several_siblings_the_one_to_blame_is_named() -> None:
    parts = family(40, 3, 3, 3, 3)
    parts[2] = torch.ones(40, 3)
    with pytest.raises(LandscapeError, match="the third network's features are constant"):
        streamed(parts, 8)
    parts[3][39, 1] = math.nan
    with pytest.raises(LandscapeError, match="network 4's features are not finite"):
        streamed(parts, 8)


def test_batches_that_do_not_fit_together_are_refused() -> None:
    found = StreamingCKA(20)
    found.add(family(8, 3, 4))
    with pytest.raises(LandscapeError, match="the columns as before"):
        found.add(family(8, 4, 4))
    with pytest.raises(LandscapeError, match="features of 8 samples; expected 20"):
        found.results()


@pytest.mark.parametrize(("samples", "groups"), [(5000, 32), (100, 12)])
def test_the_standard_error_is_that_of_the_jackknife(samples: int, groups: int) -> None:
    parts = family(samples, 3, 4, 2)
    cuts = [samples * g // groups for g in range(groups + 1)]
    for found, other in zip(streamed(parts, 100), parts[1:], strict=True):
        left_out = [
            two_pass_cka(*(torch.cat([part[:start], part[stop:]]) for part in (parts[0], other)))
            for start, stop in itertools.pairwise(cuts)
        ]
        jackknife = math.sqrt((groups - 1) ** 2 / groups) * stdev(left_out)
        assert found.standard_error == pytest.approx(jackknife, rel=0.01 if samples == 5000 else 0.15)


@pytest.fixture(scope="module")
def population(digits: ClassificationData) -> Tensor:
    assert digits.test is not None
    return torch.cat([digits.train.inputs, digits.test.inputs])


Outputs = Callable[[Tensor], list[Tensor]]


@pytest.fixture(scope="module")
def outputs(digits: ClassificationData) -> Outputs:
    """Softmax outputs of two short trainings, which do not yet agree everywhere."""
    models = [train(digits_mlp, digits.train, seed, steps=100).eval() for seed in range(2)]
    return lambda inputs: [model(inputs).detach().double().softmax(1) for model in models]


def subsets(size: int, most: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(TRIALS):
        yield torch.randperm(most, generator=generator)[:size]


@pytest.mark.parametrize("size", [256, 600])  # kept as features and as sums
def test_cka_of_subsets_scatters_by_its_standard_error(population: Tensor, outputs: Outputs, size: int) -> None:
    probabilities = outputs(population)
    whole, finite = linear_cka(*probabilities), math.sqrt(1 - size / len(population))
    found = [streamed([p[chosen] for p in probabilities], size)[0] for chosen in subsets(size, len(population))]
    scores = [(each.value - whole) / (finite * each.standard_error) for each in found]

    assert 0.5 < whole < 0.98
    assert abs(fmean(scores)) < 0.4  # the plain estimate leans a little towards 1
    assert 0.8 < stdev(scores) < 1.25


def test_cka_of_mixtures_of_subsets_scatters_by_its_standard_error(population: Tensor, outputs: Outputs) -> None:
    def mixed(inputs: Tensor, seed: int) -> CKA:
        mixtures = Mixtures(inputs, 16.0, seed)
        return streamed(outputs(mixtures.at(mixtures.chain())), len(inputs))[0]

    whole = fmean(mixed(population, seed).value for seed in range(1000, 1040))
    found = [mixed(population[chosen], seed) for seed, chosen in enumerate(subsets(256, len(population)))]
    scores = [(each.value - whole) / each.standard_error for each in found]

    assert abs(fmean(scores)) < 0.8
    assert 0.8 < stdev(scores) < 1.25


def test_disagreement_of_subsets_scatters_by_its_standard_error(population: Tensor, outputs: Outputs) -> None:
    a, b = outputs(population)
    whole, finite = disagreement(a, b), math.sqrt(1 - 200 / len(population))
    found = [disagreement(a[chosen], b[chosen]) for chosen in subsets(200, len(population))]
    scores = [(percent - whole) / (finite * percent_error(percent, 200)) for percent in found]

    assert 2 < whole < 30
    assert abs(fmean(scores)) < 0.3
    assert 0.8 < stdev(scores) < 1.25


def test_the_error_of_a_share() -> None:
    assert percent_error(20.0, 100) == pytest.approx(4.0)
    assert percent_error(0.0, 100) == percent_error(100.0, 100) == 0.0


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


@pytest.mark.parametrize("batch", [1, 3, 16, 37])
def test_mixtures_are_the_same_bits_in_every_cut(batch: int) -> None:
    inputs = torch.randn(37, 2, 5, 5)
    mixtures = Mixtures(inputs, 16.0, seed=4)
    order = mixtures.chain()
    parts = torch.cat([mixtures.at(chosen) for chosen in order.split(batch)])

    assert sorted(order.tolist()) == list(range(37))
    assert torch.equal(parts, mixup(inputs, 16.0, seed=4)[order])


def test_a_mixture_shares_its_samples_with_its_neighbours_in_the_chain_alone() -> None:
    mixtures = Mixtures(torch.zeros(500, 1), 16.0, seed=0)
    order, partner = mixtures.chain().tolist(), mixtures.partner.tolist()
    following = sum(partner[a] == b for a, b in itertools.pairwise(order))
    cycles = 500 - following  # each cycle is cut open once

    assert cycles < 20


def test_integers_have_no_mixture() -> None:
    with pytest.raises(LandscapeError, match=r"inputs of type torch\.int64 cannot be mixed"):
        mixup(torch.arange(6)[:, None], 16.0, seed=0)


def test_inputs_of_several_tensors_have_no_mixture() -> None:
    with pytest.raises(LandscapeError, match="inputs of several tensors cannot be mixed; expected one floating tensor"):
        mixup((torch.zeros(6, 2), torch.zeros(6, 3)), 16.0, seed=0)


def test_disagreement_counts_different_answers() -> None:
    a = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 1.0]])
    assert disagreement(a, a) == 0.0
    assert disagreement(a, a.flip(1)) == 100.0
    assert disagreement(a, torch.tensor([[9.0, 1.0], [0.0, 1.0], [3.0, 1.0], [2.0, 1.0]])) == 25.0
    with pytest.raises(LandscapeError, match="the same shape twice"):
        disagreement(a, a[:2])
    with pytest.raises(LandscapeError, match="the second network's logits are not numbers"):
        disagreement(a, a * math.nan)


def test_distance_is_relative_to_the_size_of_both() -> None:
    a = torch.tensor([3.0, 4.0])
    assert parameter_distance(a, a) == 0.0
    assert parameter_distance(a, torch.tensor([-4.0, 3.0])) == pytest.approx(math.sqrt(2))
    assert parameter_distance(a, -a) == pytest.approx(2.0)
    assert parameter_distance(a, 3 * a) == pytest.approx(10 / math.sqrt((25 + 225) / 2))
    assert parameter_distance(10 * a, -10 * a) == parameter_distance(a, -a)
    assert parameter_distance(0 * a, 0 * a) == 0.0
