"""How alike two networks are: linear CKA of their outputs, disagreement of their answers, distance of their weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.inputs import Inputs

LEAST_SAMPLES = 4
"""With fewer, centred features of any two networks are nearly parallel."""


def linear_cka(X: Tensor, Y: Tensor) -> float:
    """Linear centred kernel alignment, ``||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)`` of centred columns.

    1 for equal representations; invariant to rotation, isotropic scale and shift of either (Kornblith et al., 2019).

    Parameters
    ----------
    X, Y : Tensor, shapes (n, p) and (n, q)
        Features of the same n samples; summed in float64.

    Raises
    ------
    LandscapeError
        If n is below 4, the numbers of samples differ, or a side is constant or not finite.
    """
    if X.dim() != 2 or Y.dim() != 2 or len(X) != len(Y):
        raise LandscapeError(f"features of shapes {tuple(X.shape)} and {tuple(Y.shape)}", "(n, p) and (n, q)")
    if len(X) < LEAST_SAMPLES:
        raise LandscapeError(f"CKA of {len(X)} samples", f"at least {LEAST_SAMPLES}")
    a, b = _centred(X, "first"), _centred(Y, "second")
    return float((b.mT @ a).square().sum() / ((a.mT @ a).norm() * (b.mT @ b).norm()))


def _centred(features: Tensor, which: str) -> Tensor:
    """Columns less their mean, scaled to unit norm: CKA does not see the scale, but squares of tiny numbers vanish."""
    values = features.double()
    if not bool(torch.isfinite(values).all()):
        raise LandscapeError(f"the {which} network's features are not finite", "finite outputs")
    centred = values - values.mean(0)
    norm = centred.norm()
    if not float(norm) > 1e-12 * float(values.norm()):
        raise LandscapeError(f"the {which} network's features are constant over the samples", "features that vary")
    return centred / norm


def mixup(inputs: Inputs, alpha: float, seed: int) -> Tensor:
    """``l x_n + (1 - l) x_pi(n)`` with a random permutation pi and l ~ Beta(alpha, alpha) for each sample.

    Raises
    ------
    LandscapeError
        If the inputs are not one floating tensor: token or category numbers have no mixture.
    """
    if not isinstance(inputs, Tensor):
        raise LandscapeError("inputs of several tensors cannot be mixed", "one floating tensor")
    if not inputs.is_floating_point():
        raise LandscapeError(f"inputs of type {inputs.dtype} cannot be mixed", "floating inputs")
    generator = np.random.default_rng(seed)
    partner = torch.from_numpy(generator.permutation(len(inputs))).to(inputs.device)
    weight = torch.from_numpy(generator.beta(alpha, alpha, len(inputs))).to(inputs)
    weight = weight.reshape(-1, *[1] * (inputs.dim() - 1))
    return weight * inputs + (1 - weight) * inputs[partner]


def disagreement(logits_a: Tensor, logits_b: Tensor) -> float:
    """Share of samples, in percent, to which the two networks give different answers."""
    if logits_a.shape != logits_b.shape:
        raise LandscapeError(
            f"logits of shapes {tuple(logits_a.shape)} and {tuple(logits_b.shape)}", "the same shape twice"
        )
    return 100.0 * float((logits_a.argmax(1) != logits_b.argmax(1)).double().mean())


def parameter_distance(a: Tensor, b: Tensor) -> float:
    """``||a - b|| / sqrt((||a||^2 + ||b||^2) / 2)``: 0 for equal weights, about 1.4 for independent ones.

    Not invariant: permuting units or rescaling layers around ReLU changes it and not the function.
    """
    a, b = a.double().flatten(), b.double().flatten()
    size = float(((a.square().sum() + b.square().sum()) / 2).sqrt())
    return float((a - b).norm()) / size if size else 0.0
