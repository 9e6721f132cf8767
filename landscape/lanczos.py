"""Lanczos iteration with full re-orthogonalisation, done twice, over any symmetric matrix known by its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from landscape.objective import Objective

GROWTH = 32
"""Rows by which the basis grows."""


@dataclass(frozen=True, eq=False)
class SymmetricOperator:
    """A symmetric matrix A known by its products.

    Parameters
    ----------
    product : callable
        ``v -> A v``, both of shape (P,).
    dimension : int
        P.
    dtype, device : torch.dtype, torch.device
        Of the vectors.
    """

    product: Callable[[Tensor], Tensor]
    dimension: int
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    @classmethod
    def hessian(cls, objective: Objective) -> SymmetricOperator:
        """The Hessian of an objective."""
        flat = objective.network.flat
        return cls(objective.hessian_vector_product, objective.parameter_count, flat.dtype, flat.device)

    @classmethod
    def residual(cls, objective: Objective) -> SymmetricOperator:
        """The Hessian of an objective less its Gauss-Newton matrix."""
        flat = objective.network.flat
        return cls(objective.residual_vector_product, objective.parameter_count, flat.dtype, flat.device)

    def random(self, generator: torch.Generator) -> Tensor:
        """A standard normal vector, drawn on the CPU so that every device sees the same."""
        return torch.randn(self.dimension, generator=generator, dtype=torch.float64).to(self.device, self.dtype)

    def signs(self, generator: torch.Generator) -> Tensor:
        """A vector of random signs, drawn on the CPU."""
        bits = torch.randint(2, (self.dimension,), generator=generator, dtype=torch.int8)
        return (2 * bits - 1).to(self.device, self.dtype)


class Lanczos:
    """``A Q = Q T + beta q e^T`` with orthonormal Q (P, m) and tridiagonal T, grown a product at a time.

    Products and basis have the operator's precision, T is float64. Where the Krylov space is exhausted (beta is
    rounding) a random vector orthogonal to the basis continues, so that eigenvalues of any multiplicity are found.

    Parameters
    ----------
    operator : SymmetricOperator
    generator : torch.Generator
        Draws the start vector.
    """

    def __init__(self, operator: SymmetricOperator, generator: torch.Generator) -> None:
        self.operator = operator
        self.generator = generator
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self._rows = torch.empty(0, operator.dimension, dtype=operator.dtype, device=operator.device)
        self._next: Tensor | None = None

    @property
    def steps(self) -> int:
        """Products taken, m."""
        return len(self.diagonal)

    @property
    def basis(self) -> Tensor:
        """Q transposed, shape (m, P)."""
        return self._rows[: self.steps]

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return self.steps >= self.operator.dimension

    def step(self) -> None:
        """One more product and one more basis vector."""
        vector = self._next if self._next is not None else self._fresh()
        self._append(vector)
        image = self.operator.product(vector)
        self.diagonal.append(float(torch.dot(vector.double(), image.double())))
        image = self._orthogonalise(image)
        beta = float(image.double().norm())
        scale = max(map(abs, self.diagonal + self.off_diagonal))
        if beta <= 50 * torch.finfo(image.dtype).eps * scale or self.exhausted:
            self.off_diagonal.append(0.0)
            self._next = None
        else:
            self.off_diagonal.append(beta)
            self._next = image / beta

    def ritz(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Ritz values in ascending order, the residual bound of each, and T's eigenvectors in columns.

        The bound is ``|beta e_m . s_i|`` = ``||A y_i - theta_i y_i||``: an eigenvalue of A lies within it of theta_i.
        """
        values, vectors = eigh_tridiagonal(np.array(self.diagonal), np.array(self.off_diagonal[:-1]))
        return values, np.abs(self.off_diagonal[-1] * vectors[-1]), vectors

    def _fresh(self) -> Tensor:
        vector = self.operator.random(self.generator)
        vector = self._orthogonalise(vector / vector.norm())
        return vector / vector.norm()

    def _orthogonalise(self, vector: Tensor) -> Tensor:
        for _ in range(2):  # once leaves what rounding brings back
            vector = vector - self.basis.mT @ (self.basis @ vector)
        return vector

    def _append(self, vector: Tensor) -> None:
        if self.steps == len(self._rows):
            grown = self._rows.new_empty(min(self.steps + GROWTH, self.operator.dimension), self.operator.dimension)
            grown[: self.steps] = self._rows
            self._rows = grown
        self._rows[self.steps] = vector
