"""Products of the features of several networks on the same samples, apart for each group of samples.

The features of a network and of its siblings come as rows, side by side; a group is a run of consecutive rows. Asked
for are each group's contributions to ``||X_a^T X_b||_F^2`` of the centred features, ``<X_ag^T X_bg, X_a^T X_b>``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from landscape.errors import LandscapeError

BLOCK = 1024
"""Most rows multiplied at a time."""


class KeptFeatures:
    """The features themselves.

    Parameters
    ----------
    cuts : list of int
        Where the groups begin and end, from 0 to the number of rows.
    widths : list of int
        Columns of each network.
    """

    def __init__(self, cuts: list[int], widths: list[int]) -> None:
        self.cuts, self.widths = cuts, widths
        self.parts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Keep the next rows, float64 of shape (b, sum of the widths)."""
        self.parts.append(rows)

    def contributions(self) -> dict[tuple[int, int], Tensor]:
        """Of each group to ``||X_a^T X_b||^2``, shape (groups,), for each pair (a, b) of :func:`needed_products`.

        Raises
        ------
        LandscapeError
            If a network's features are constant.
        """
        features = torch.cat(self.parts).split(self.widths, dim=1)
        centred = [_centred(part.contiguous(), number) for number, part in enumerate(features)]
        sizes = [stop - start for start, stop in itertools.pairwise(self.cuts)]
        found = {}
        for a, b in needed_products(len(self.widths)):
            parts = _sample_contributions(centred[a], centred[b]).split(sizes)
            found[a, b] = torch.stack([part.sum() for part in parts])
        return found


def _sample_contributions(X: Tensor, Y: Tensor) -> Tensor:
    """Each sample's part of ``||X^T Y||^2``, shape (n,): by kernels where they are smaller than X^T Y."""
    if len(X) ** 2 < X.shape[1] * Y.shape[1]:
        return ((X @ X.mT) * (Y @ Y.mT)).sum(1)
    return ((X @ (X.mT @ Y)) * Y).sum(1)


def _centred(values: Tensor, number: int) -> Tensor:
    """Columns less their mean, scaled to unit norm: CKA does not see the scale, but squares of tiny numbers vanish."""
    centred = values - values.mean(0)
    norm = centred.norm()
    _check_spread(float(norm), float(values.norm()), number)
    return centred / norm


class ProductSums:
    """Sums over each group of the features and of their products, taken as they come; parameters as above.

    The first block's mean is subtracted and its size divided out, so that nothing is lost where the mean is large
    beside the spread, or the squares of the squares would underflow.
    """

    def __init__(self, cuts: list[int], widths: list[int]) -> None:
        self.cuts, self.widths = cuts, widths
        self.blocks = _blocks(cuts)
        self.wanted, self.group = next(self.blocks)
        self.waiting: list[Tensor] = []
        self.shift: list[Tensor] = []
        self.size: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Add the next rows, in blocks that do not depend on the batches, so that the same rows give the same bytes."""
        self.waiting.append(rows)
        while sum(map(len, self.waiting)) >= self.wanted > 0:
            together = torch.cat(self.waiting)
            self.waiting = [together[self.wanted :]]
            self._fold([part.contiguous() for part in together[: self.wanted].split(self.widths, dim=1)])
            self.wanted, self.group = next(self.blocks, (0, 0))

    def _fold(self, block: list[Tensor]) -> None:
        if not self.shift:
            self._start(block)
        block = [(part - m) / s for part, m, s in zip(block, self.shift, self.size, strict=True)]
        for total, part in zip(self.sums, block, strict=True):
            total[self.group] += part.sum(0)
        for (a, b), total in self.products.items():
            total[self.group].addmm_(block[a].mT, block[b])

    def _start(self, block: list[Tensor]) -> None:
        groups, like = len(self.cuts) - 1, block[0]
        self.shift = [part.mean(0) for part in block]
        self.size = [_size(part, m) for part, m in zip(block, self.shift, strict=True)]
        self.sums = [like.new_zeros(groups, width) for width in self.widths]
        self.products = {
            (a, b): like.new_zeros(groups, self.widths[a], self.widths[b]) for a, b in needed_products(len(block))
        }

    def contributions(self) -> dict[tuple[int, int], Tensor]:
        """As those of :class:`KeptFeatures`."""
        counts = torch.tensor(self.cuts).diff().to(self.sums[0])
        means = [total.sum(0) / counts.sum() for total in self.sums]
        centred = {}
        for (a, b), total in self.products.items():
            left = self.sums[a][:, :, None] - counts[:, None, None] * means[a][:, None]
            centred[a, b] = total - left * means[b] - means[a][:, None] * self.sums[b][:, None]
        for number, mean in enumerate(means):
            spread = max(0.0, float(centred[number, number].diagonal(dim1=1, dim2=2).sum()))
            offset = (mean + self.shift[number] / self.size[number]).square().sum() * counts.sum()
            _check_spread(math.sqrt(spread), math.sqrt(spread + float(offset)), number)
        return {pair: (parts * parts.sum(0)).sum((1, 2)) for pair, parts in centred.items()}


def _size(block: Tensor, mean: Tensor) -> Tensor:
    """Norm of the centred block, not much below that of the block: later rows may vary where the first do not."""
    size = torch.maximum((block - mean).norm(), 1e-8 * block.norm())
    return torch.where(size > 0, size, torch.ones_like(size))


def _blocks(cuts: list[int]) -> Iterator[tuple[int, int]]:
    """Size and group of one block after the other."""
    for group, (start, stop) in enumerate(itertools.pairwise(cuts)):
        for begin in range(start, stop, BLOCK):
            yield min(BLOCK, stop - begin), group


def needed_products(networks: int) -> list[tuple[int, int]]:
    """The pairs whose products are needed: the first network with every other, and each with itself."""
    return [(0, i) for i in range(1, networks)] + [(i, i) for i in range(networks)]


def _check_spread(spread: float, size: float, number: int) -> None:
    if not spread > 1e-12 * size:
        raise LandscapeError(f"{network_name(number)}'s features are constant over the samples", "features that vary")


def network_name(number: int) -> str:
    """How a message calls the network under study, number 0, and its siblings."""
    return f"the {('first', 'second', 'third')[number]} network" if number < 3 else f"network {number + 1}"
