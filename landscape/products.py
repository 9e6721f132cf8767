"""Products of vectors with the second derivative of a sum over micro-batches.

By double backward; where a layer has no second derivative, by central differences of gradients.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from landscape.failures import out_of_memory
from landscape.gradient_graph import Footprint, GradientGraph, saved_bytes
from landscape.inputs import sample_count, take, tensors
from landscape.network import Network

FLOOR = 2**26
"""Bytes of graphs allowed on top of what the forward pass of one micro-batch saves."""

PROBED = (4, 8)
"""Samples in the two small graphs from whose sizes that of any other follows."""

STEP = {torch.float32: 5e-5, torch.float64: 1e-7}
"""Length of a difference step relative to ||w||.

Far below the textbook's eps^(1/3): along a sharp direction the softmax bends within a hundredth of ||w||. On trained
networks the product with the top eigenvector was off by 1e-4 to 1e-3 of the eigenvalue at 1e-4 ||w||, by 2 to 9 % at
1e-3, in float32; rounding takes over below 3e-5. In float64 the least error, about 1e-9, lies near 1e-7.
"""

NO_SECOND_DERIVATIVE = re.compile(
    r"derivative for \S+ is not implemented|differentiate twice|not (currently )?support double.?backward"
    r"|double.?backwards? (is |are )?(not |un)(supported|implemented)",
    re.IGNORECASE,
)
"""What torch says of an operation that can be differentiated once only."""


@dataclass
class _Known:
    """What the products of one network have taught, shared by all objectives on it."""

    footprints: dict[tuple[torch.Size, ...], Footprint] = field(default_factory=dict)
    twice_differentiable: bool = True


_KNOWN: WeakKeyDictionary[Network, _Known] = WeakKeyDictionary()


class SecondDerivative:
    """``v -> sum over batches of d^2 scalar(batch) / dw^2 v`` at the network's parameters.

    The graph of a gradient holds about three times what a forward pass saves. A batch is therefore cut into pieces
    whose graph takes at most `memory_bytes`, and graphs are kept for the next product only where all of them together
    stay within that; else they are rebuilt for each product. The graph of a few samples tells the size.

    An operation without a second derivative (EmbeddingBag, recurrent layers of cuDNN, a custom function marked
    ``once_differentiable``) is found at the first product; from then on the product is the central difference
    ``(g(w + h u) - g(w - h u)) / 2h ||v||``, u = v / ||v||, h = ``STEP`` ||w||, on whole batches.

    Parameters
    ----------
    network : Network
    batches : callable
        A fresh walk over the micro-batches.
    scalar : callable
        This batch's part of the function, as a scalar tensor. Summed over the pieces of a batch it is the batch's.
    memory_bytes : int, optional
        Most bytes in graphs at a time. Default: what the forward pass of one micro-batch saves, which a training step
        holds too, and 64 MiB.
    divisible : bool
        Whether `scalar` may be asked for pieces of a batch. Batches whose tensors differ in length never are cut.
    freeze : callable, optional
        ``batch -> (() -> scalar)``, for a `scalar` with factors that count as constant though they depend on w: takes
        them at the present w, so that differences leave them alone.
    """

    def __init__(
        self,
        network: Network,
        batches: Callable[[], Iterator[Any]],
        scalar: Callable[[Any], Tensor],
        *,
        memory_bytes: int | None = None,
        divisible: bool = True,
        freeze: Callable[[Any], Callable[[], Tensor]] | None = None,
    ) -> None:
        self.network = network
        self.batches = batches
        self.scalar = scalar
        self.memory_bytes = memory_bytes
        self.divisible = divisible
        self.freeze = freeze
        self._known = _KNOWN.setdefault(network, _Known())
        self._kept: list[GradientGraph] = []
        self._keeps, self._complete = True, False
        self._limit = 0.0
        self._vectorises = True

    @property
    def method(self) -> str:
        """``double_backward``, or ``finite_difference`` once a layer turned out to have no second derivative."""
        return "double_backward" if self._known.twice_differentiable else "finite_difference"

    def __call__(self, vector: Tensor) -> Tensor:
        """The product, shape (P,)."""
        return self.products(vector[None], batched=False)[0]

    def products(self, vectors: Tensor, *, batched: bool | None = None) -> Tensor:
        """Products with the rows of a matrix, both of shape (k, P); every graph is built once for all of them.

        Parameters
        ----------
        vectors : Tensor, shape (k, P)
        batched : bool, optional
            Differentiate along the rows at once (``is_grads_batched``), as many as the memory takes; where an
            operation does not allow it, one after the other. Default: on a GPU. Eight rows at once took, on one core,
            0.35 of the time on an MLP of 1,500 parameters, 0.7 on attention, 0.8 to 0.9 on convolutions.
        """
        vectors = vectors.to(self.network.flat)
        if self._known.twice_differentiable:
            batched = self.network.device.type == "cuda" if batched is None else batched
            try:
                return self._double_backward(vectors, batched)
            except RuntimeError as error:
                if not NO_SECOND_DERIVATIVE.search(str(error)):
                    raise
                self._known.twice_differentiable = False
        self.release()
        return torch.stack([self._difference(vector) for vector in vectors])

    def distrust(self) -> None:
        """Take differences of gradients from now on, in every objective on this network."""
        self._known.twice_differentiable = False
        self.release()

    def release(self) -> None:
        """Free the kept graphs."""
        self._kept = []
        self._complete = False

    def _double_backward(self, vectors: Tensor, batched: bool) -> Tensor:
        totals = torch.zeros_like(vectors)
        for graph, kept in self._graphs():
            done = 0
            while done < len(vectors):
                rows = min(self._rows(graph), len(vectors) - done) if batched and self._vectorises else 1
                block, last = slice(done, done + rows), done + rows == len(vectors)
                if self._add(totals[block], graph, vectors[block], retain=kept or not last):
                    done += rows
        return totals

    def _rows(self, graph: GradientGraph) -> int:
        return max(1, int(self._limit // max(1.0, graph.size)))

    def _add(self, totals: Tensor, graph: GradientGraph, vectors: Tensor, *, retain: bool) -> bool:
        """Add the products with some rows; False where they cannot be taken at once."""
        sizes, batched = self.network.sizes, len(vectors) > 1
        parts = [
            part.view(-1, *shape) for part, shape in zip(vectors.split(sizes, 1), self.network.shapes, strict=True)
        ]
        directions = parts if batched else [part[0] for part in parts]
        try:
            images = graph.apply(directions, batched=batched, retain=retain or batched)
        except RuntimeError as error:
            if not batched or out_of_memory(error) or NO_SECOND_DERIVATIVE.search(str(error)):
                raise
            self._vectorises = False
            return False
        for total, image in zip(totals.split(sizes, 1), images, strict=True):
            if image is not None:
                total += image.reshape(total.shape)
        return True

    def _graphs(self) -> Iterator[tuple[GradientGraph, bool]]:
        """Every graph, and whether it stays for the next product."""
        if self._complete:
            yield from ((graph, True) for graph in self._kept)
            return
        self._kept, used, keep = [], 0.0, self._keeps
        for piece, size in self._pieces():
            used += size
            if keep and used > self._limit:
                keep = self._keeps = False
                self._kept = []
            graph = GradientGraph(self.scalar(piece), self.network.parameters, size)
            if keep:
                self._kept.append(graph)
            yield graph, keep
        self._complete = keep

    def _pieces(self) -> Iterator[tuple[Any, float]]:
        """The batches, cut where their graphs would be too large, and the bytes that each one's graph takes."""
        for number, batch in enumerate(self.batches()):
            samples, footprint = sample_count(batch), self._footprint(batch)
            if number == 0:
                allowed = footprint.forward * samples + FLOOR
                self._limit = self.memory_bytes if self.memory_bytes is not None else allowed
            most = max(1, int((self._limit - footprint.fixed) // max(1.0, footprint.gradient)))
            if samples <= most or not self._divides(batch):
                yield batch, footprint.graph(samples)
                continue
            size = math.ceil(samples / math.ceil(samples / most))
            for start in range(0, samples, size):
                piece = take(batch, slice(start, start + size))
                yield piece, footprint.graph(min(size, samples - start))

    def _divides(self, batch: Any) -> bool:
        return self.divisible and len({len(tensor) if tensor.dim() else -1 for tensor in tensors(batch)}) == 1

    def _footprint(self, batch: Any) -> Footprint:
        """Measured once for each shape of samples, on few of them where the batch can be cut."""
        shape = tuple(tensor.shape[1:] for tensor in tensors(batch))
        known = self._known.footprints
        if shape not in known:
            samples = sample_count(batch)
            if samples > PROBED[1] and self._divides(batch):
                small, large = (
                    saved_bytes(partial(self.scalar, take(batch, slice(n))), batch, self.network.parameters)
                    for n in PROBED
                )
                forward, gradient = ((b - a) / (PROBED[1] - PROBED[0]) for a, b in zip(small, large, strict=True))
                known[shape] = Footprint(forward, gradient, max(0.0, large[1] - gradient * PROBED[1]))
            else:
                forward, gradient = saved_bytes(partial(self.scalar, batch), batch, self.network.parameters)
                known[shape] = Footprint(forward / samples, gradient / samples, 0.0)
        return known[shape]

    def _difference(self, vector: Tensor) -> Tensor:
        flat = self.network.flat
        length, total = float(vector.double().norm()), torch.zeros_like(flat)
        if not 0 < length < math.inf:
            return total + length  # 0, or not finite
        start = flat.clone()
        step = STEP[flat.dtype] * (float(start.double().norm()) or 1.0)
        offset = vector * (step / length)
        try:
            for batch in self.batches():
                scalar = self.freeze(batch) if self.freeze is not None else partial(self.scalar, batch)
                for sign in (1.0, -1.0):
                    self.network.load(start + sign * offset)
                    total += sign * self.network.gradient(scalar())
                self.network.load(start)
        finally:
            self.network.load(start)
        return total * (length / (2 * step))
