"""Spectra of layers: WeightWatcher's numbers, closed forms, which layers are read, and what is not read and why."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from landscape.errors import LandscapeError
from landscape.power_law import fit_power_law
from landscape.spectra import layer_spectra


def uniform(shape, seed):
    """Numbers in (0, 1) that are the same everywhere: splitmix64 of a counter."""
    z = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53).reshape(shape)


def heavy(*shape, seed):
    """Independent weights of Student's t with 2 degrees of freedom."""
    u = uniform(shape, seed)
    return torch.tensor((2 * u - 1) / np.sqrt(2 * u * (1 - u)), dtype=torch.float32)


def logistic(*shape, seed):
    u = uniform(shape, seed)
    return torch.tensor(np.log(u / (1 - u)) * 0.1, dtype=torch.float32)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one(weight):
    return layer_spectra({"weight": weight})[0]


# WeightWatcher 0.7.7 with torch 2.13.0 and its default settings, on an nn.Linear, nn.Conv2d or nn.Embedding with the
# weights given: alpha, sigma, D, xmin, num_pl_spikes, stable_rank, spectral_norm, norm, alpha_weighted
WEIGHTWATCHER = {
    "mlp.0": (2.53567151618856, 0.313467635599014, 0.115213756156093, 586.852079115734, 24, 13.375897783455,
        2952.10911132375, 39487.1097186727, 8.79911589720108),
    "mlp.1": (4.18550512674822, 0.883500159441856, 0.151307967877867, 3.49415796441777, 13, 14.3918173678894,
        7.24816476131884, 104.314263497272, 3.60048894243517),
    "mlp.2": (3.74638281728737, 1.22821973433839, 0.134081550441032, 271.834234555509, 5, 4.3514236753239,
        731.680996227181, 3183.85400976753, 10.7308458823712),
    "cnn.0": (1.95290801840814, 0.18688063771239, 0.161206812605901, 8.91058114391332, 26, 5.64406728454426,
        155.858135374972, 879.673802899948, 4.28219897628453),
    "cnn.1": (2.24531705286936, 0.174379266743342, 0.0843093892484292, 83.826169852807, 51, 8.97327269862181,
        1944.37201244498, 17447.3802952369, 7.38435238272319),
    "cnn.2": (5.69226695844509, 1.00039467687226, 0.12631744101101, 0.71142096872343, 22, 35.8495211681881,
        1.19662471481488, 42.8984230441332, 0.44375756777431),
    "cnn.3": (1.74684562138205, 0.16297507582998, 0.167023796600112, 34.7828281099196, 21, 7.07363220279223,
        570.075899257105, 4032.5072390208, 4.81418893662076),
    "cnn.4": (1.89955148797859, 0.232263195466479, 0.0826646427633705, 4.84371528392332, 15, 1.55718448865142,
        430.54498663344, 670.437974852224, 5.00345383050467),
    "vit.q": (3.17010384214483, 0.767247571329797, 0.176676434495815, 393.621416301507, 8, 6.36692498996317,
        1170.5566743602, 7452.84654215216, 9.72712268100056),
    "vit.k": (2.40194316611376, 0.404706132172168, 0.116265049203182, 144.975800719871, 12, 6.0258779439076,
        817.405018153654, 4925.5828701315, 6.99550886844411),
    "vit.v": (1.88707731780705, 0.256077164113957, 0.0751144238572374, 212.991167645495, 12, 1.15273395325016,
        47751.4140484897, 55044.6762894007, 8.82960879769123),
    "vit.out": (5.46215079162671, 1.82166543247358, 0.167482773003103, 2.24737314567577, 6, 8.21383418858375,
        4.0134509026778, 32.9658202386172, 3.296506073134),
    "vit.up": (2.78018376587439, 0.475774124099926, 0.0751801597970514, 690.539411370431, 14, 2.26724899757315,
        15743.2674436682, 35693.9073301826, 11.6686950303764),
    "vit.down": (4.93016674424576, 1.1345414138752, 0.134526909379099, 4.80645239002977, 12, 14.2999546488003,
        9.02843165369021, 129.106163197563, 4.7113280544816),
    "vit.embedding": (2.40244782192949, 0.362110470550518, 0.163234039659737, 317.558805062307, 15, 7.36273941379413,
        1805.99941405792, 13297.1030671733, 7.82409411694978),
}  # fmt: skip
ATTENTION = heavy(96, 32, seed=8)
WEIGHTS = {
    "mlp.0": heavy(64, 100, seed=1),
    "mlp.1": logistic(48, 64, seed=2),
    "mlp.2": heavy(24, 24, seed=14),
    "cnn.0": heavy(16, 3, 3, 3, seed=4),
    "cnn.1": heavy(32, 16, 3, 3, seed=5),
    "cnn.2": logistic(12, 24, 3, 3, seed=6),  # more inputs than outputs
    "cnn.3": heavy(40, 32, 1, 1, seed=7),
    "cnn.4": heavy(4, 1, 5, 5, seed=15),  # one eigenvalue a matrix
    "vit.q": ATTENTION[:32],
    "vit.k": ATTENTION[32:64],
    "vit.v": ATTENTION[64:],
    "vit.out": logistic(32, 32, seed=9),
    "vit.up": heavy(128, 32, seed=10),
    "vit.down": logistic(32, 128, seed=11),
    "vit.embedding": heavy(50, 32, seed=12),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_values_are_those_of_weightwatcher(name):
    spectrum = one(WEIGHTS[name])
    scale = 0.5 if spectrum.kind == "conv" else 1.0  # WeightWatcher's norms are of W / sqrt(2), squared
    ours = (
        spectrum.alpha,
        spectrum.alpha_standard_error,
        spectrum.ks_distance,
        spectrum.xmin,
        spectrum.tail,
        spectrum.stable_rank,
        scale * spectrum.spectral_norm**2,
        scale * spectrum.frobenius_norm**2,
        spectrum.alpha_weighted,
    )
    assert ours == pytest.approx(WEIGHTWATCHER[name], rel=1e-10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mlp.2", "only 5 eigenvalues in the tail"),
        ("mlp.1", "noise of this shape has α down to 2.5"),  # 4.19 ± 0.88
        ("cnn.1", "α is within two standard errors of 2"),  # 2.25 ± 0.17
        ("cnn.3", "α is within two standard errors of 2"),  # 1.75 ± 0.16
        ("cnn.2", "α is within two standard errors of 6"),  # 5.69 ± 1.00
    ],
)
def test_a_fit_that_cannot_carry_a_reading_is_uncertain_and_says_why(name, reason):
    spectrum = one(WEIGHTS[name])
    assert (spectrum.reading, spectrum.reason) == ("uncertain", reason)


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 256), (64, 64, 3, 3)])
def test_noise_is_hardly_ever_read_as_trained(shape):
    readings = [one(noise(*shape, seed=seed)).reading for seed in range(20)]
    assert sum(reading in ("well trained", "over-trained") for reading in readings) <= 3


def test_a_long_spectrum_of_noise_reads_under_trained_and_a_strong_tail_does_not():
    assert one(noise(600, 1200)).reading == "under-trained"
    basis = torch.linalg.qr(noise(300, 300).double()).Q
    for alpha, reading in ((1.5, "over-trained"), (3.0, "well trained"), (12.0, "under-trained")):
        quantiles = (torch.arange(300) + 0.5) / 300
        eigenvalues = (1 - quantiles.double()) ** (-1 / (alpha - 1))
        spectrum = one(basis * eigenvalues.sqrt())
        assert spectrum.alpha == pytest.approx(alpha, rel=0.1)
        assert spectrum.reading == reading, spectrum


def test_norms_and_ranks_of_known_singular_values():
    left, right = torch.linalg.qr(noise(20, 12).double()).Q, torch.linalg.qr(noise(12, 12, seed=1).double()).Q
    singular = torch.exp(torch.arange(12, dtype=torch.float64) / 2)
    singular[0] = 0
    spectrum = one(left * singular @ right.T)
    total, top = float(singular.square().sum()), math.exp(11)
    assert (spectrum.rank_bound, spectrum.rank, spectrum.shape) == (12, 11, (20, 12))
    assert spectrum.spectral_norm == pytest.approx(math.exp(5.5), rel=1e-12)
    assert spectrum.frobenius_norm == pytest.approx(math.sqrt(total), rel=1e-12)
    assert spectrum.stable_rank == pytest.approx(total / top, rel=1e-12)
    assert spectrum.alpha_hill == pytest.approx(1 + 5 / 15, rel=1e-9)
    assert spectrum.alpha_weighted == pytest.approx(spectrum.alpha * math.log10(top), rel=1e-12)


@pytest.mark.parametrize("kernel", [(3,), (2, 3), (2, 2, 2)])
def test_a_convolution_is_cut_into_a_matrix_for_each_kernel_position(kernel):
    weight = noise(8, 6, *kernel).double()
    spectrum = one(weight)
    flat = weight.reshape(8, 6, -1).numpy()
    pooled = np.concatenate([np.linalg.svd(flat[:, :, i], compute_uv=False) for i in range(flat.shape[2])])
    fit = fit_power_law(np.square(pooled) / 2)
    assert spectrum.kind == "conv"
    assert spectrum.rank_bound == len(pooled)
    assert (spectrum.alpha, spectrum.xmin, spectrum.ks_distance) == pytest.approx((fit.alpha, fit.xmin, fit.distance))
    assert spectrum.spectral_norm == pytest.approx(pooled.max(), rel=1e-12)
    assert spectrum.frobenius_norm == pytest.approx(float(weight.norm()), rel=1e-12)
    assert spectrum.stable_rank == pytest.approx(float(weight.square().sum()) / pooled.max() ** 2, rel=1e-12)


def test_scaling_the_weights_changes_norms_and_nothing_else():
    weight = heavy(30, 40, seed=1)
    a, b = one(weight), one(weight * 2**-20)  # eigenvalues far below 1e-5
    for name in ("alpha", "alpha_standard_error", "ks_distance", "alpha_hill", "stable_rank"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-10), name
    assert (b.tail, b.rank, b.reading) == (a.tail, a.rank, a.reading)
    assert b.spectral_norm == pytest.approx(2**-20 * a.spectral_norm, rel=1e-12)
    assert b.xmin == pytest.approx(2**-40 * a.xmin, rel=1e-10)


class EveryKind(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(30, 12)
        self.position = nn.Parameter(torch.zeros(1, 7, 12))
        self.attention = nn.MultiheadAttention(12, 2)
        self.crossed = nn.MultiheadAttention(12, 2, kdim=14, vdim=16)
        self.norm = nn.LayerNorm((4, 12))
        self.mix = nn.Conv1d(12, 12, 3)
        self.up = nn.ConvTranspose2d(12, 10, 2)
        self.head = nn.Linear(12, 30, bias=False)
        self.head.weight = self.tokens.weight


def test_the_layers_of_a_module_in_its_order():
    spectra = layer_spectra(EveryKind())
    assert [(s.name, s.parameter, s.kind, s.shape) for s in spectra] == [
        ("tokens", "tokens.weight", "embedding", (30, 12)),
        ("attention.in_proj_weight[q]", "attention.in_proj_weight", "attention", (12, 12)),
        ("attention.in_proj_weight[k]", "attention.in_proj_weight", "attention", (12, 12)),
        ("attention.in_proj_weight[v]", "attention.in_proj_weight", "attention", (12, 12)),
        ("attention.out_proj", "attention.out_proj.weight", "linear", (12, 12)),
        ("crossed.q_proj_weight", "crossed.q_proj_weight", "attention", (12, 12)),
        ("crossed.k_proj_weight", "crossed.k_proj_weight", "attention", (12, 14)),
        ("crossed.v_proj_weight", "crossed.v_proj_weight", "attention", (12, 16)),
        ("crossed.out_proj", "crossed.out_proj.weight", "linear", (12, 12)),
        ("mix", "mix.weight", "conv", (12, 12, 3)),
        ("up", "up.weight", "conv", (12, 10, 2, 2)),
    ]


def test_a_state_dict_gives_what_its_module_gives():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 20), nn.Linear(20, 12))
    assert layer_spectra(model.state_dict()) == layer_spectra(model) == layer_spectra(nn.DataParallel(model))
    assert [s.name for s in layer_spectra(model)] == ["0", "3", "4"]
    assert [s.name for s in layer_spectra(nn.Linear(20, 12))] == ["weight"]


def test_the_thirds_of_a_fused_projection_are_read_apart():
    weight = heavy(36, 12, seed=5)
    fused = layer_spectra({"in_proj_weight": weight})
    apart = [one(weight[12 * i : 12 * i + 12]) for i in range(3)]
    assert [s.alpha for s in fused] == [s.alpha for s in apart]
    assert len({s.alpha for s in fused}) == 3


def test_a_parametrised_layer_is_read_as_used_and_the_caller_keeps_its_module():
    model = nn.Sequential(spectral_norm(nn.Linear(20, 16))).train()
    model[0].weight.sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient = model[0].parametrizations.weight.original.grad.clone()
    (spectrum,) = layer_spectra(model)
    assert spectrum.parameter == "0.weight"
    assert spectrum.spectral_norm == pytest.approx(1, rel=0.2)
    assert spectrum.spectral_norm != pytest.approx(one(before["0.parametrizations.weight.original"]).spectral_norm)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].parametrizations.weight.original.grad, gradient)
    assert model.training


def broken(value):
    weight = noise(20, 20)
    weight[3, 4] = value
    return weight


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (noise(9, 40), "9 eigenvalues, too few for an exponent"),
        (noise(30, 1, 3, 3), "9 eigenvalues, too few"),
        (noise(40, 4).double() @ noise(4, 30).double(), "4 eigenvalues, too few"),
        (noise(40, 4) @ noise(4, 30), "4 eigenvalues, too few"),
        (torch.linalg.qr(noise(40, 30)).Q, "all eigenvalues are equal up to rounding"),
        (torch.zeros(20, 20), "all weights are zero"),
        (torch.zeros(0, 20), "the layer has no weights"),
        (torch.zeros(20, 20, device="meta"), "the weights have no data"),
        (broken(math.nan), "1 of 400 weights are NaN or infinite"),
        (broken(-math.inf), "1 of 400 weights are NaN or infinite"),
        (noise(20, 20).double() * 1e200, "too large or too small to be squared"),
    ],
)
def test_a_layer_without_an_exponent_says_why(weight, reason):
    spectrum = one(weight)
    assert reason in spectrum.reason
    missing = (spectrum.alpha, spectrum.alpha_standard_error, spectrum.alpha_hill, spectrum.alpha_weighted)
    assert missing == (None,) * 4
    assert (spectrum.tail, spectrum.xmin, spectrum.ks_distance, spectrum.reading) == (None,) * 4


def test_low_rank_layers_keep_their_norms():
    spectrum = one(noise(40, 4) @ noise(4, 30))
    assert (spectrum.rank, spectrum.rank_bound) == (4, 30)
    assert 1 <= spectrum.stable_rank <= 4
    assert one(torch.zeros(20, 20)).spectral_norm == 0
    assert one(broken(math.nan)).spectral_norm is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_number_types_are_read_exactly(dtype):
    weight = noise(30, 20).to(dtype) * (1 + 1j if dtype.is_complex else 1)
    expected = np.linalg.svd(weight.to(torch.complex128).numpy(), compute_uv=False)
    spectrum = one(weight)
    assert spectrum.spectral_norm == pytest.approx(expected[0], rel=1e-12)
    assert spectrum.rank == 20


def test_what_is_no_layer_is_left_out_and_nothing_to_read_is_an_error():
    state = {
        "norm.weight": torch.ones(5),
        "norm.num_batches_tracked": torch.tensor(3),
        "mask": torch.ones(4, 4),
        "table.weight": torch.ones(4, 4, dtype=torch.int8),
        "lstm.weight_ih_l0": torch.ones(8, 4),
        "layer._extra_state": b"",
    }
    with pytest.raises(LandscapeError, match="no weights of a linear"):
        layer_spectra(state)
    assert [s.name for s in layer_spectra({**state, "head.weight": noise(12, 12)})] == ["head"]
    with pytest.raises(LandscapeError, match="the lazy layer 0 has no weights"):
        layer_spectra(nn.Sequential(nn.LazyLinear(3)))


def test_the_number_of_threads_is_the_callers_afterwards():
    before, during = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        layer_spectra({"weight": noise(12, 12)}, progress=lambda *_: during.append(torch.get_num_threads()))
        assert (during, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_progress_tells_the_share_of_the_work_done():
    calls = []
    layer_spectra({"a.weight": noise(10, 10), "b.weight": noise(30, 10)}, progress=lambda *call: calls.append(call))
    assert calls == [("a", 0.0), ("b", 0.25)]
