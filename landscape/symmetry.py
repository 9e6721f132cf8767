"""Whether double backward gives a symmetric matrix, as a Hessian is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscape.gradient_graph import GradientGraph
from landscape.network import Network

CHECKED_VECTORS = 3
"""Random vectors among which the matrix is tried."""


def antisymmetric_share(network: Network, value: Tensor) -> float:
    """About ``||H - H^T||_F / (sqrt(2) ||H||_F)`` of the second derivative H of a scalar, from three sign vectors.

    For random u and v, ``u . H v - v . H u`` has the size of ``||H - H^T||_F`` and ``||u|| ||H v|| / sqrt(P)`` that of
    ``||H||_F``. In a network with a right second derivative it is rounding: 1e-7 in float32.

    Raises
    ------
    RuntimeError
        If an operation has no second derivative.
    """
    graph = GradientGraph(value, network.parameters, 0.0)
    graph.check()
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(2, (network.parameter_count,), generator=generator, dtype=torch.int8)
    signs = (2 * bits - 1).to(network.flat)

    def vector(number: int) -> Tensor:
        return signs.roll(number)  # as good as independent, and drawn once

    images = [_product(network, graph, vector(number)) for number in range(CHECKED_VECTORS)]
    inner = torch.stack([torch.stack([_dot(vector(a), image) for image in images]) for a in range(CHECKED_VECTORS)])
    difference = float((inner - inner.mT).norm()) / math.sqrt(2 * CHECKED_VECTORS * (CHECKED_VECTORS - 1))
    lengths = [float(torch.linalg.vector_norm(image, dtype=torch.float64)) for image in images]
    size = math.sqrt(sum(length**2 for length in lengths) / CHECKED_VECTORS)  # ||u|| is sqrt(P)
    return difference / size if size else 0.0


def _product(network: Network, graph: GradientGraph, vector: Tensor) -> Tensor:
    total = torch.zeros_like(vector)
    parts = graph.apply(network.split(vector), batched=False, retain=True)
    for into, part in zip(network.split(total), parts, strict=True):
        if part is not None:
            into += part
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)
