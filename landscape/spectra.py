"""What the weights of each layer say without data: heavy-tailed exponent, stable rank and norms of the spectrum."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from landscape.errors import LandscapeError
from landscape.network import unwrap
from landscape.power_law import LEAST_VALUES, PowerLawFit, fit_power_law, hill_exponent, random_alpha

Kind = Literal["linear", "conv", "attention", "embedding"]
Reading = Literal["under-trained", "well trained", "over-trained", "uncertain"]

UNDER_TRAINED_ABOVE, OVER_TRAINED_BELOW = 6.0, 2.0
MOST_COMPARED_WITH_NOISE = 1024
"""Spectra longer than this have an alpha above 5 if they are noise, and are read without comparing them."""

_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_READ = (nn.Linear, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, *_CONV)
_CONV_SCALE = math.sqrt(0.5)


@dataclass(frozen=True)
class LayerSpectrum:
    """The spectrum of one weight matrix, or of the matrices a convolution is cut into.

    Eigenvalues are the squared singular values, without division by a dimension, of a matrix W; those of a convolution
    belong to ``W / sqrt(2)`` (see `layer_spectra`). What a layer cannot give is None, and `reason` says why.

    Parameters
    ----------
    name : str
        The layer; of the fused input projection of attention with ``[q]``, ``[k]`` or ``[v]``.
    parameter : str
        The tensor the weights stand in, as a state dict names it.
    kind : {"linear", "conv", "attention", "embedding"}
        Of a state dict judged by name and shape alone: embeddings pass for linear.
    shape : tuple of int
        Of the weights.
    rank_bound : int
        Number of singular values: smaller dimension times the number of matrices.
    rank : int or None
        Those above rounding, ``max(N, M) * eps`` of the largest (eps of float32, of float64 for weights of float64);
        the exponents are fitted to their squares.
    alpha, alpha_standard_error : float or None
        Exponent of the eigenvalue density and its error (see `fit_power_law`).
    xmin, ks_distance, tail : float, float, int, or None
        Where the tail begins, how far the fit is from it, how many eigenvalues are in it.
    alpha_hill : float or None
        Exponent of the larger half of the eigenvalues (see `hill_exponent`).
    alpha_weighted : float or None
        ``alpha * log10(largest eigenvalue)``: unlike alpha it depends on the scale of the weights.
    random_alpha : float or None
        What noise of this shape stays above in 19 cases of 20 (see `landscape.power_law.random_alpha`); None for more
        than 1024 eigenvalues.
    spectral_norm : float or None
        Largest singular value of W, of a convolution that of its largest matrix: not the norm of the convolution as an
        operator on images.
    frobenius_norm : float or None
        Root of the sum of squared weights.
    stable_rank : float or None
        ``(frobenius_norm / spectral_norm)^2``, from 1 to `rank_bound`.
    reading : str or None
        "under-trained" (alpha above 6), "well trained" (2 to 6), "over-trained" (below 2; also called
        over-regularised) by two standard errors, else "uncertain"; also "uncertain" with fewer than 10 eigenvalues in
        the tail, and where noise of this shape has an alpha as low. A rule of thumb seen in good published networks
        (Martin and Mahoney, 2021, JMLR 22:165; Martin, Peng and Mahoney, 2021, Nature Communications 12:4122), not a
        test.
    reason : str or None
        Why a value is missing or the reading uncertain.
    """

    name: str
    parameter: str
    kind: Kind
    shape: tuple[int, ...]
    rank_bound: int
    rank: int | None = None
    alpha: float | None = None
    alpha_standard_error: float | None = None
    xmin: float | None = None
    ks_distance: float | None = None
    tail: int | None = None
    alpha_hill: float | None = None
    alpha_weighted: float | None = None
    random_alpha: float | None = None
    spectral_norm: float | None = None
    frobenius_norm: float | None = None
    stable_rank: float | None = None
    reading: Reading | None = None
    reason: str | None = None


def layer_spectra(
    weights: Mapping[str, Tensor] | nn.Module, *, progress: Callable[[str, float], None] | None = None
) -> tuple[LayerSpectrum, ...]:
    """Spectra of every linear, convolutional, attention and embedding layer, from the weights alone.

    A convolution (out, in, k, k') is cut into its k k' matrices (out, in), one a kernel position, each divided by
    sqrt(2), and their eigenvalues are pooled: WeightWatcher's definition for 2-d kernels, used here for 1-d, 3-d and
    transposed ones too. Groups are not told apart: the matrices are (out, in / groups), as stored.

    With twenty eigenvalues or more, exponents are those of WeightWatcher 0.7.7 with its default settings, but for two
    things: it drops eigenvalues below 1e-5 whatever the scale of the weights (here: below rounding), and rounds weights
    of float64 to float32. Below twenty it fits by another rule.

    Singular values are exact, in float64 on one thread of the CPU: O(N M^2) time for a matrix (N, M), N >= M; half a
    second for 1024×1024 and 5 s for 4096×4096 on a server.

    Parameters
    ----------
    weights : mapping of str to Tensor, or nn.Module
        A state dict: tensors named ``weight`` or ``..._weight`` with two to five dimensions are read. Of a module the
        weights as used, parametrised or not, and shared ones once. Nothing is changed.
    progress : function of (str, float), optional
        Called with a layer's name and the share of the work before it (0...1).

    Returns
    -------
    tuple of LayerSpectrum
        In the order of the mapping or of the module.

    Raises
    ------
    LandscapeError
        If there is no layer to read, or a lazy one without weights.
    """
    found = list(_of_module(unwrap(weights)) if isinstance(weights, nn.Module) else _of_state(weights))
    if not found:
        raise LandscapeError(
            "no weights of a linear, convolutional, attention or embedding layer",
            "tensors of two to five dimensions named weight or ..._weight",
        )
    costs = [_cost(weight) for *_, weight in found]
    spectra = []
    with _one_thread():
        for i, (name, parameter, kind, weight) in enumerate(found):
            if progress is not None:
                progress(name, sum(costs[:i]) / max(1, sum(costs)))
            spectra.append(_spectrum(name, parameter, kind, weight))
    return tuple(spectra)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Equal bytes on any number of cores; and on a busy machine the threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_module(model: nn.Module) -> Iterator[tuple[str, str, Kind, Tensor]]:
    seen: dict[int, Tensor] = {}  # holds what it names: a number is given anew once its object is gone
    for name, module in model.named_modules():
        parts = _ATTENTION if isinstance(module, nn.MultiheadAttention) else ("weight",)
        if not isinstance(module, _READ):
            continue
        if parametrize.is_parametrized(module):
            # a parametrisation may update its buffers (power iteration) when asked in training mode
            module = copy.deepcopy(module).eval()
        for part in parts:
            weight = getattr(module, part, None)
            if isinstance(weight, nn.parameter.UninitializedParameter):
                raise LandscapeError(f"the lazy layer {name} has no weights", "a network that has seen its first batch")
            if not isinstance(weight, Tensor) or id(weight) in seen:
                continue
            seen[id(weight)] = weight
            for layer, parameter, kind, matrix in _of_state({f"{name}.{part}" if name else part: weight.detach()}):
                yield layer, parameter, "embedding" if "Embedding" in type(module).__name__ else kind, matrix


def _of_state(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Kind, Tensor]]:
    for parameter, weight in state.items():
        layer, _, last = parameter.rpartition(".")
        named = last == "weight" or last.endswith("_weight")
        if not (named and isinstance(weight, Tensor) and 2 <= weight.dim() <= 5):
            continue
        if not (weight.is_floating_point() or weight.is_complex()):
            continue
        if last == "in_proj_weight" and weight.dim() == 2 and len(weight) % 3 == 0:
            for part, matrix in zip("qkv", weight.chunk(3), strict=True):
                yield f"{parameter}[{part}]", parameter, "attention", matrix
        elif last in _ATTENTION:
            yield parameter, parameter, "attention", weight
        else:
            name = layer if layer and last == "weight" else parameter
            yield name, parameter, "linear" if weight.dim() == 2 else "conv", weight


def _matrices(weight: Tensor) -> Tensor:
    """The weights as (matrices, N, M) in double precision."""
    stacked = weight.flatten(2).movedim(2, 0) if weight.dim() > 2 else weight[None]
    return stacked.detach().cpu().to(torch.complex128 if weight.is_complex() else torch.float64)


def _cost(weight: Tensor) -> int:
    return weight.numel() * min(weight.shape[:2])


def _spectrum(name: str, parameter: str, kind: Kind, weight: Tensor) -> LayerSpectrum:
    n, m = weight.shape[:2]
    bound = math.prod(weight.shape[2:]) * min(n, m)
    spectrum = LayerSpectrum(name, parameter, kind, tuple(weight.shape), bound)
    if weight.is_meta or not weight.numel():
        return replace(spectrum, reason="the weights have no data" if weight.numel() else "the layer has no weights")
    matrices = _matrices(weight)
    infinite = int((~torch.isfinite(matrices)).sum())
    if infinite:
        return replace(spectrum, reason=f"{infinite:,} of {weight.numel():,} weights are NaN or infinite")
    if not bool(matrices.any()):
        return replace(spectrum, rank=0, spectral_norm=0.0, frobenius_norm=0.0, reason="all weights are zero")
    singular = np.sort(torch.linalg.svdvals(matrices).flatten().numpy())
    rounding = max(n, m) * torch.finfo(torch.float64 if weight.dtype == torch.float64 else torch.float32).eps
    kept = singular[singular > rounding * singular[-1]]
    measured = replace(
        spectrum,
        rank=len(kept),
        spectral_norm=float(singular[-1]),
        frobenius_norm=float(singular[-1] * np.linalg.norm(singular / singular[-1])),
        stable_rank=float(np.square(singular / singular[-1]).sum()),
    )
    if len(kept) < LEAST_VALUES:
        count = f"{len(kept)} eigenvalue{'' if len(kept) == 1 else 's'}"
        return replace(measured, reason=f"{count}, too few for an exponent (fewer than {LEAST_VALUES})")
    if math.log(kept[-1] / kept[0]) <= rounding:
        return replace(measured, reason="all eigenvalues are equal up to rounding: there is no tail")
    if not (kept[0] > 1e-150 and kept[-1] < 1e150):
        return replace(measured, reason="the weights are too large or too small to be squared")
    return _with_exponents(measured, np.square(kept * _CONV_SCALE if weight.dim() > 2 else kept))


def _with_exponents(spectrum: LayerSpectrum, eigenvalues: NDArray[np.float64]) -> LayerSpectrum:
    fit = fit_power_law(eigenvalues)
    try:
        hill = hill_exponent(eigenvalues)
    except LandscapeError:  # the larger half are equal
        hill = None
    noise = None
    if spectrum.rank_bound <= MOST_COMPARED_WITH_NOISE:
        noise = random_alpha(math.prod(spectrum.shape[2:]), *spectrum.shape[:2])
    reading, reason = _read(fit, noise)
    return replace(
        spectrum,
        alpha=fit.alpha,
        alpha_standard_error=fit.standard_error,
        xmin=fit.xmin,
        ks_distance=fit.distance,
        tail=fit.tail,
        alpha_hill=hill,
        alpha_weighted=fit.alpha * math.log10(float(eigenvalues[-1])),
        random_alpha=noise,
        reading=reading,
        reason=reason,
    )


def _read(fit: PowerLawFit, noise: float | None) -> tuple[Reading, str | None]:
    """The rule of thumb where the fit can carry it, else why not."""
    low, high = fit.alpha - 2 * fit.standard_error, fit.alpha + 2 * fit.standard_error
    if fit.tail < LEAST_VALUES:
        return "uncertain", f"only {fit.tail} eigenvalues in the tail"
    if low > UNDER_TRAINED_ABOVE:
        return "under-trained", None
    for border in (UNDER_TRAINED_ABOVE, OVER_TRAINED_BELOW):
        if low <= border <= high:
            return "uncertain", f"α is within two standard errors of {border:g}"
    if noise is not None and fit.alpha >= noise:
        return "uncertain", f"noise of this shape has α down to {noise:.1f}"
    return ("over-trained" if high < OVER_TRAINED_BELOW else "well trained"), None
