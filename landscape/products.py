"""Products of a vector with the second derivative of a sum over micro-batches, by double backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from landscape.network import Network

RETAINED_BYTES = 2**28
"""Graphs are kept between products where all of them together are estimated to take less than this."""

GRAPH_GROWTH = 3
"""Bytes of the graph of a gradient over the bytes that its forward pass saves."""


class SecondDerivative:
    """``v -> sum over batches of d^2 scalar(batch) / dw^2 v`` at the network's parameters.

    The graphs of the gradients are kept for the next product where they fit, and rebuilt for each product (bounded
    memory) where they do not. Either way the arithmetic is the same.

    Parameters
    ----------
    network : Network
    batches : callable
        A fresh walk over the micro-batches.
    scalar : callable
        This batch's part of the function, as a scalar tensor.
    """

    def __init__(self, network: Network, batches: Callable[[], Iterator[Any]], scalar: Callable[[Any], Tensor]) -> None:
        self.network = network
        self.batches = batches
        self.scalar = scalar
        self._kept: list[tuple[Tensor, ...]] = []
        self._keep: bool | None = None

    def __call__(self, vector: Tensor) -> Tensor:
        """The product, shape (P,)."""
        if self._keep is None:
            self._keep = self._graph_bytes() < RETAINED_BYTES
        parts = self.network.split(vector.to(self.network.flat))
        total = torch.zeros_like(self.network.flat)
        for gradients in self._gradients():
            pairs = [(g, v) for g, v in zip(gradients, parts, strict=True) if g.requires_grad]
            if not pairs:  # the function is linear in the parameters
                continue
            outputs, directions = zip(*pairs, strict=True)
            total += self.network.gradient(outputs, grad_outputs=directions, retain_graph=self._keep)
        return total

    def release(self) -> None:
        """Free the kept graphs."""
        self._kept = []

    def _gradients(self) -> Iterator[tuple[Tensor, ...]]:
        if self._kept:
            yield from self._kept
            return
        kept = []
        for batch in self.batches():
            gradients = torch.autograd.grad(
                self.scalar(batch),
                self.network.parameters,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            if self._keep:
                kept.append(gradients)
            yield gradients
        self._kept = kept

    def _graph_bytes(self) -> int:
        """Estimate from what the forward pass of the first batch saves, its parameters left out."""
        seen = {p.untyped_storage().data_ptr() for p in self.network.parameters}
        size = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal size
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                size += storage.nbytes()
            return tensor

        count = sum(1 for _ in self.batches())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.scalar(next(self.batches()))
        return GRAPH_GROWTH * size * count
