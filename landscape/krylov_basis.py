"""Orthonormal rows of a long matrix in bounded memory, and vectors handled a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROWTH = 8
"""Rows by which the basis grows."""

BASIS_BYTES = 2**27
"""Memory for the basis, where the least number of rows fits into it."""

LEAST_VECTORS = 8
"""Rows that the basis has room for, however long they are."""

GROWN = 32
"""Rows that must fit into `BASIS_BYTES`, or they are held in half precision."""

EXACT = 4096
"""Entries of a row in half precision whose rounding error is kept beside it."""

BLOCK = 2**18
"""Entries of a long vector that are handled at a time."""


class Basis:
    """Orthonormal rows (m, P) in bounded memory.

    Where `GROWN` rows are more than `BASIS_BYTES` they are held in half precision, scaled so that entries are near 1,
    and their `EXACT` worst entries are mended: what is left of the rounding is spread over many small entries, so that
    an inner product suffers by at most 2^-12 / sqrt(EXACT), and mostly by less than from a product in float32.

    Parameters
    ----------
    dimension : int
        P.
    dtype, device : torch.dtype, torch.device
        Of the vectors.
    least : int
        Rows there is room for, whatever their length.
    most : int, optional
        Rows there is room for. Default: as many as `BASIS_BYTES` hold.
    """

    def __init__(
        self,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device | str,
        least: int,
        most: int | None = None,
    ) -> None:
        self.dimension, self.dtype, self.device = dimension, dtype, device
        compact = GROWN * self.dimension * self.dtype.itemsize > BASIS_BYTES
        self._kind = torch.float16 if compact else self.dtype
        self._scale = self.dimension**0.5 if compact else 1.0
        fitting = BASIS_BYTES // (self.dimension * self._kind.itemsize)
        self.most = min(max(least, fitting if most is None else most), self.dimension)
        self._chunks: list[Tensor] = []  # of GROWTH rows each, so that growing copies nothing
        self._mended: list[tuple[Tensor, Tensor]] = []  # positions and rounding errors, where rows are compact
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, vector: Tensor) -> None:
        """One more row."""
        if self._used == GROWTH * len(self._chunks):
            rows = min(GROWTH, self.most - self._used)
            self._chunks.append(torch.empty(rows, self.dimension, dtype=self._kind, device=self.device))
        self._write(self._used, 1, lambda part: vector[part][None])
        self._used += 1

    def project(self, vector: Tensor) -> Tensor:
        """Inner products of the rows with a vector, shape (m,), float64."""
        along = torch.zeros(self._used, dtype=torch.float64, device=self.device)
        for part in parts_of(self.dimension):
            along += torch.cat([block @ vector[part] for block in self._blocks(part)])
        return along

    def orthogonalise(self, vector: Tensor) -> None:
        """Take the rows' part out of a vector, in place, twice: once leaves what rounding brings back."""
        for _ in range(2 if self._used else 0):
            pieces = self.project(vector).to(self.dtype).split(GROWTH)
            for part in parts_of(self.dimension):
                for block, piece in zip(self._blocks(part), pieces, strict=True):
                    vector[part] -= block.mT @ piece

    def combine(self, weights: NDArray[np.float64]) -> Tensor:
        """``weights @ rows`` for weights (n, m), shape (n, P)."""
        mix = self._matrix(weights)
        out = torch.empty(len(mix), self.dimension, dtype=self.dtype, device=self.device)
        for part in parts_of(self.dimension):
            out[:, part] = mix @ torch.cat(list(self._blocks(part)))
        return out

    def compress(self, weights: NDArray[np.float64]) -> None:
        """Replace the rows by ``weights @ rows``, in place."""
        mix = self._matrix(weights)
        self._write(0, len(mix), lambda part: mix @ torch.cat(list(self._blocks(part))))
        self._used = len(mix)

    def _matrix(self, weights: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(weights)).to(self.device, self.dtype)

    def _write(self, first: int, count: int, values: Callable[[slice], Tensor]) -> None:
        """Set rows from their entries in each range, which may be made of the rows as they still are."""
        worst: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(count)]
        for part in parts_of(self.dimension):
            for number, entries in enumerate(values(part)):
                row = self._chunks[(first + number) // GROWTH][(first + number) % GROWTH]
                row[part] = entries * self._scale
                if self._scale != 1:
                    error = entries - row[part].to(self.dtype) / self._scale
                    found = error.abs().topk(min(EXACT, len(error))).indices
                    worst[number].append((found + part.start, error[found]))
        if self._scale != 1:
            self._mended[first:] = [_largest(pairs) for pairs in worst]

    def _blocks(self, part: slice) -> Iterator[Tensor]:
        """Entries of the rows in a range, `GROWTH` rows at a time, in the operator's precision."""
        for first in range(0, self._used, GROWTH):
            block = self._chunks[first // GROWTH][: self._used - first, part]
            if self._scale != 1:
                block = block.to(self.dtype) / self._scale
                for row, (positions, errors) in zip(block, self._mended[first:], strict=False):
                    low, high = torch.searchsorted(positions, torch.tensor([part.start, part.stop], device=self.device))
                    row[positions[low:high] - part.start] += errors[low:high]
            yield block


def _largest(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Positions, ascending, and errors of the `EXACT` largest errors."""
    positions, errors = (torch.cat(column) for column in zip(*pairs, strict=True))
    kept = errors.abs().topk(min(EXACT, len(errors))).indices
    kept = kept[positions[kept].argsort()]
    return positions[kept], errors[kept]


def parts_of(length: int) -> list[slice]:
    """Consecutive slices of a long vector, so that what is computed of each needs little memory."""
    return [slice(i, min(i + BLOCK, length)) for i in range(0, length, BLOCK)]


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product in float64, without a copy of either vector."""
    return sum(float(torch.dot(a[part].double(), b[part].double())) for part in parts_of(len(a)))


def norm(a: Tensor) -> float:
    """Length of a vector; 1 for the zero vector."""
    return math.sqrt(dot(a, a)) or 1.0
