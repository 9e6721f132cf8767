"""Whether products come from a symmetric matrix, as those of a Hessian must."""

from __future__ import annotations

import math

import torch

from landscape.products import SecondDerivative

CHECKED_VECTORS = 4
"""Random vectors among which the matrix is tried."""


def antisymmetric_share(products: SecondDerivative) -> float:
    """About ``||H - H^T||_F / (sqrt(2) ||H||_F)``, from four random vectors.

    For random u and v, ``u . H v - v . H u`` has the size of ``||H - H^T||_F`` and ``||u|| ||H v|| / sqrt(P)`` that of
    ``||H||_F``.
    """
    network, count = products.network, products.network.parameter_count
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(CHECKED_VECTORS, count, generator=generator, dtype=torch.float64).to(network.flat)
    images = products.products(vectors, batched=False)
    inner = vectors.double() @ images.double().mT
    difference = float((inner - inner.mT).norm()) / math.sqrt(2 * CHECKED_VECTORS * (CHECKED_VECTORS - 1))
    size = float(vectors.norm() * images.norm()) / CHECKED_VECTORS / math.sqrt(count)
    return difference / size if size else 0.0
