"""How alike networks are: linear CKA of their outputs, disagreement of their answers, distance of their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.feature_products import KeptFeatures, ProductSums, needed_products, network_name
from landscape.inputs import Inputs, each_tensor, tensors

LEAST_SAMPLES = 4
"""With fewer, centred features of any two networks are nearly parallel."""

GROUPS = 32
"""Groups of samples, of eight or more, from whose spread the standard error follows; 32 tell it to an eighth."""


@dataclass(frozen=True)
class CKA:
    """Linear CKA, and the standard error it has where its samples stand for a far larger population."""

    value: float
    standard_error: float


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
    found = StreamingCKA(X.shape[0] if X.dim() else 0)
    found.add([X, Y])
    return found.results()[0].value


class StreamingCKA:
    """Linear CKA of a network's features with those of each of its siblings, from batches of any size, in float64.

    Kept are, per group of consecutive samples, the sums of ``x``, ``x x^T``, ``y y^T`` and ``x y^T``, x and y less
    the mean of the first samples; or, while that takes less memory, the features themselves. The same samples give
    the same bytes however they are cut into batches.

    The value is that of :func:`linear_cka`. Its bias for the population falls as 1/n: on outputs of few classes it
    is a small part of the standard error from a few hundred samples on, and no unbiased form (Song et al., 2012) is
    needed. The standard error is that of the jackknife over the groups, linearised: with ``C_g`` a group's part of
    ``X^T Y``, ``a_g = <C_g, X^T Y>`` and A their sum, b_g, B and c_g, C likewise for ``X^T X`` and ``Y^T Y``, leaving
    a group out takes ``2 a_g / sqrt(B C) - value (b_g / B + c_g / C)`` from the value A / sqrt(B C).

    Parameters
    ----------
    samples : int
        How many there will be.
    """

    def __init__(self, samples: int) -> None:
        groups = max(2, min(GROUPS, samples // 8))
        self.samples = samples
        self.seen = 0
        self._cuts = [samples * g // groups for g in range(groups + 1)]
        self._widths: list[int] = []
        self._store: KeptFeatures | ProductSums | None = None

    def add(self, features: Sequence[Tensor]) -> None:
        """Add the next samples: their features (b, q_i) in the network and in each sibling.

        Raises
        ------
        LandscapeError
            If they are not as many samples or columns as they should be, or not finite.
        """
        widths = self._widths or [part.shape[-1] if part.dim() else 0 for part in features]
        count = features[0].shape[0] if features[0].dim() else 0
        if [tuple(part.shape) for part in features] != [(count, width) for width in widths]:
            shapes = " and ".join(str(tuple(part.shape)) for part in features)
            raise LandscapeError(f"features of shapes {shapes}", "(n, p) and (n, q), the columns as before")
        rows = [part.double() for part in features]
        for number, part in enumerate(rows):
            if not bool(torch.isfinite(part).all()):
                raise LandscapeError(f"{network_name(number)}'s features are not finite", "finite outputs")
        if self._store is None:
            self._widths = widths
            sums = (len(self._cuts) - 1) * sum(widths[a] * widths[b] for a, b in needed_products(len(widths)))
            kind = ProductSums if sums < self.samples * sum(widths) else KeptFeatures
            self._store = kind(self._cuts, widths)
        self.seen += count
        self._store.add(torch.cat(rows, dim=1))

    def results(self) -> list[CKA]:
        """The network's CKA with each sibling.

        Raises
        ------
        LandscapeError
            If the samples are fewer than 4 or not those announced, or a network's features are constant.
        """
        if self.samples < LEAST_SAMPLES:
            raise LandscapeError(f"CKA of {self.samples} samples", f"at least {LEAST_SAMPLES}")
        if self.seen != self.samples or self._store is None:
            raise LandscapeError(f"features of {self.seen} samples", f"{self.samples}, as announced")
        parts = self._store.contributions()
        return [_ratio(parts[0, i], parts[0, 0], parts[i, i]) for i in range(1, len(self._widths))]


def _ratio(cross: Tensor, first: Tensor, second: Tensor) -> CKA:
    """From every group's contributions to ``||X^T Y||^2``, ``||X^T X||^2`` and ``||Y^T Y||^2``, shape (groups,)."""
    scale = (first.sum() * second.sum()).sqrt()
    value = cross.sum() / scale
    influence = 2 * cross / scale - value * (first / first.sum() + second / second.sum())
    groups = len(influence)
    return CKA(float(value), float((influence.square().sum() * groups / (groups - 1)).sqrt()))


class Mixtures:
    """``l x_n + (1 - l) x_pi(n)`` with a random permutation pi and l ~ Beta(alpha, alpha) for each sample.

    Mixed when they are asked for, the same bits in every cut. A tensor that stands alone in a mapping or tuple is
    given back in one.

    Raises
    ------
    LandscapeError
        If the inputs are not one floating tensor: token or category numbers have no mixture.
    """

    def __init__(self, inputs: Inputs, alpha: float, seed: int) -> None:
        held = tensors(inputs)
        if len(held) != 1:
            raise LandscapeError("inputs of several tensors cannot be mixed", "one floating tensor")
        if not held[0].is_floating_point():
            raise LandscapeError(f"inputs of type {held[0].dtype} cannot be mixed", "floating inputs")
        generator = np.random.default_rng(seed)
        self._given = inputs
        self.inputs = held[0]
        self.partner = torch.from_numpy(generator.permutation(len(self.inputs))).to(self.inputs.device)
        self.weight = torch.from_numpy(generator.beta(alpha, alpha, len(self.inputs))).to(self.inputs)

    def at(self, chosen: Tensor) -> Any:
        """The mixtures of the given numbers, held as the inputs are."""
        weight = self.weight[chosen].reshape(-1, *[1] * (self.inputs.dim() - 1))
        own = self.inputs[chosen]
        mixed = own + (1 - weight) * (self.inputs[self.partner[chosen]] - own)  # of equal inputs exactly that input
        return each_tensor(lambda _: mixed, self._given)

    def chain(self) -> Tensor:
        """All numbers along the cycles of pi: a mixture shares a sample with its neighbours and no others.

        Groups of neighbours are then nearly independent, as a standard error from groups asks for.
        """
        partner, seen, order = self.partner.tolist(), set[int](), []
        for number in range(len(partner)):
            while number not in seen:
                seen.add(number)
                order.append(number)
                number = partner[number]
        return torch.tensor(order, device=self.partner.device)


def mixup(inputs: Inputs, alpha: float, seed: int) -> Any:
    """All the :class:`Mixtures` of the inputs, in the order of the samples."""
    mixtures = Mixtures(inputs, alpha, seed)
    return mixtures.at(torch.arange(len(mixtures.inputs), device=mixtures.inputs.device))


def disagreement(logits_a: Tensor, logits_b: Tensor) -> float:
    """Share of samples, in percent, to which the two networks give different answers."""
    if logits_a.shape != logits_b.shape:
        raise LandscapeError(
            f"logits of shapes {tuple(logits_a.shape)} and {tuple(logits_b.shape)}", "the same shape twice"
        )
    for number, logits in enumerate((logits_a, logits_b)):
        if bool(logits.isnan().any()):
            raise LandscapeError(f"{network_name(number)}'s logits are not numbers", "finite outputs")
    return 100.0 * different_answers(logits_a, logits_b) / len(logits_a)


def different_answers(logits_a: Tensor, logits_b: Tensor) -> int:
    """How many samples the two networks answer differently."""
    return int((logits_a.argmax(1) != logits_b.argmax(1)).sum())


def percent_error(percent: float, samples: int) -> float:
    """Standard error in points of a share in percent, ``100 sqrt(p (1 - p) / n)``, of n samples."""
    share = percent / 100
    return 100.0 * math.sqrt(share * (1 - share) / samples)


def parameter_distance(a: Tensor, b: Tensor) -> float:
    """``||a - b|| / sqrt((||a||^2 + ||b||^2) / 2)``: 0 for equal weights, about 1.4 for independent ones.

    Not invariant: permuting units or rescaling layers around ReLU changes it and not the function.
    """
    a, b = a.double().flatten(), b.double().flatten()
    size = float(((a.square().sum() + b.square().sum()) / 2).sqrt())
    return float((a - b).norm()) / size if size else 0.0
