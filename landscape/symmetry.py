"""Whether double backward gives a symmetric matrix, as a Hessian is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscape.network import Network

CHECKED_VECTORS = 3
"""Random vectors among which the matrix is tried."""


def antisymmetric_share(network: Network, value: Tensor) -> float:
    """About ``||H - H^T||_F / (sqrt(2) ||H||_F)`` of the second derivative H of a scalar, from three sign vectors.

    For random u and v, ``u . H v - v . H u`` has the size of ``||H - H^T||_F`` and ``||u|| ||H v|| / sqrt(P)`` that of
    ``||H||_F``. In a network with a right second derivative it is rounding: 1e-7 in float32.
    """
    gradients = torch.autograd.grad(value, network.parameters, create_graph=True, allow_unused=True)
    found = [(place, g) for place, g in enumerate(gradients) if g is not None and g.requires_grad]
    if not found:
        return 0.0  # linear in every parameter
    generator, count = torch.Generator().manual_seed(0), network.parameter_count
    bits = torch.randint(2, (count,), generator=generator, dtype=torch.int8)
    signs = (2 * bits - 1).to(network.flat)
    vectors = [signs.roll(turn) for turn in range(CHECKED_VECTORS)]  # as good as independent, and drawn once
    images = []
    for vector in vectors:
        parts = network.split(vector)
        images.append(network.gradient([g for _, g in found], [parts[place] for place, _ in found], retain_graph=True))
    inner = torch.stack([torch.stack([_dot(a, b) for b in images]) for a in vectors])
    difference = float((inner - inner.mT).norm()) / math.sqrt(2 * CHECKED_VECTORS * (CHECKED_VECTORS - 1))
    lengths = [float(torch.linalg.vector_norm(image, dtype=torch.float64)) for image in images]
    size = math.sqrt(sum(length**2 for length in lengths) / CHECKED_VECTORS)  # ||u|| is sqrt(P)
    return difference / size if size else 0.0


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)
