"""Lanczos iteration with full re-orthogonalisation, done twice, over any symmetric matrix known by its products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.krylov_basis import LEAST_VECTORS, Basis, dot, norm, parts_of
from landscape.objective import Objective

RANDOM_SHARE = 1.0
"""Length of the random part of a start vector over that of the given part."""


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
    gives : bool
        Whether each product is a new vector that its receiver may change; else it is copied.
    """

    product: Callable[[Tensor], Tensor]
    dimension: int
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"
    gives: bool = False

    @classmethod
    def hessian(cls, objective: Objective) -> SymmetricOperator:
        """The Hessian of an objective."""
        flat = objective.network.flat
        return cls(objective.hessian_vector_product, objective.parameter_count, flat.dtype, flat.device, True)

    @classmethod
    def residual(cls, objective: Objective) -> SymmetricOperator:
        """The Hessian of an objective less its Gauss-Newton matrix."""
        flat = objective.network.flat
        return cls(objective.residual_vector_product, objective.parameter_count, flat.dtype, flat.device, True)

    def random(self, generator: torch.Generator) -> Tensor:
        """A standard normal vector, drawn on the CPU so that every device sees the same."""
        vector = torch.empty(self.dimension, dtype=self.dtype, device=self.device)
        for part in parts_of(self.dimension):
            size = part.stop - part.start
            vector[part] = torch.randn(size, generator=generator, dtype=torch.float64).to(vector)
        return vector

    def signs(self, generator: torch.Generator) -> Tensor:
        """A vector of random signs, drawn on the CPU."""
        bits = torch.randint(2, (self.dimension,), generator=generator, dtype=torch.int8)
        return (2 * bits - 1).to(self.device, self.dtype)


class Lanczos:
    """``A Q = Q T + beta q e^T`` with orthonormal Q (P, m) and symmetric T, grown a product at a time.

    Products have the operator's precision, T is float64. Where the Krylov space is exhausted (beta is rounding) a
    random vector orthogonal to the basis continues, so that eigenvalues of any multiplicity are found. A full basis is
    compressed to the Ritz vectors of its largest values and of its smallest (thick restart, Wu and Simon, 2000).

    Parameters
    ----------
    operator : SymmetricOperator
    generator : torch.Generator
        Draws the start vector.
    start : Tensor, shape (s, P), optional
        Vectors near the leading eigenvectors: their normalised sum joins the random start vector.
    least_vectors, most_vectors : int
        Rows of the basis: see :class:`Basis`.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        generator: torch.Generator,
        *,
        start: Tensor | None = None,
        least_vectors: int = LEAST_VECTORS,
        most_vectors: int | None = None,
    ) -> None:
        self.operator = operator
        self.generator = generator
        self.steps = 0
        self.restarts = 0
        self.from_random = start is None
        self.basis = Basis(operator.dimension, operator.dtype, operator.device, least_vectors, most_vectors)
        self._projected = np.zeros((0, 0))
        self._couplings = np.zeros(0)  # of the vector to come with those of the basis
        self._start = np.zeros(0)  # coordinates of the start vector in the basis
        self._left: list[tuple[float, float]] = []
        self._next = self._first(start) if start is not None else None

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return len(self.basis) >= self.operator.dimension

    def step(self) -> None:
        """One more product and one more basis vector."""
        if len(self.basis) == self.basis.most:
            self._restart()
        vector = self._next if self._next is not None else self._fresh()
        m = len(self.basis)
        self.basis.append(vector)
        image = self.operator.product(vector)
        if not self.operator.gives:
            image = image.clone()
        projected = np.zeros((m + 1, m + 1))
        projected[:m, :m] = self._projected
        projected[m, :m] = projected[:m, m] = self._couplings
        projected[m, m] = dot(vector, image)
        self._projected = projected
        self._start = np.append(self._start, 0.0 if self.steps else 1.0)
        self.steps += 1
        self.basis.orthogonalise(image)
        beta = math.sqrt(dot(image, image))
        self._couplings = np.zeros(m + 1)
        if beta <= 50 * torch.finfo(image.dtype).eps * np.abs(projected).max() or self.exhausted:
            self._next = None
        else:
            self._couplings[m] = beta
            self._next = image.div_(beta)

    @property
    def closed(self) -> bool:
        """Whether the Krylov space is exhausted: every bound is 0, and a random vector comes next."""
        return self._next is None

    @property
    def finite(self) -> bool:
        """Whether every number so far is finite."""
        return bool(np.isfinite(self._projected).all() and np.isfinite(self._couplings).all())

    def ritz(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Ritz values in ascending order, the residual bound of each, and T's eigenvectors in columns.

        The bound is ``|beta e_m . s_i|`` = ``||A y_i - theta_i y_i||``: an eigenvalue of A lies within it of theta_i.
        """
        values, vectors = np.linalg.eigh(self._projected)
        return values, np.abs(self._couplings @ vectors), vectors

    def atoms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quadrature of the start vector's spectral measure: nodes, ascending, and weights that sum to 1.

        After a restart the values that left the basis stay where they were.
        """
        values, _, vectors = self.ritz()
        nodes = np.concatenate([values, [value for value, _ in self._left]])
        weights = np.concatenate([(self._start @ vectors) ** 2, [weight for _, weight in self._left]])
        order = np.argsort(nodes, kind="stable")
        return nodes[order], weights[order]

    def _restart(self) -> None:
        values, _, vectors = self.ritz()
        kept = [0, *range(len(values) - len(values) // 2, len(values))]
        weights = (self._start @ vectors) ** 2
        left = sorted(set(range(len(values))) - set(kept))
        self._left += [(float(values[i]), float(weights[i])) for i in left]
        self._start = self._start @ vectors[:, kept]
        self._couplings = self._couplings @ vectors[:, kept]
        self._projected = np.diag(values[kept])
        self.basis.compress(vectors[:, kept].T)
        self.restarts += 1

    def _first(self, start: Tensor) -> Tensor:
        """The normalised sum of the start vectors beside a random vector of the same length."""
        total = torch.zeros(self.operator.dimension, dtype=self.operator.dtype, device=self.operator.device)
        for row in start:
            total += row.to(total) / norm(row)
        total *= 1 / norm(total)
        total += RANDOM_SHARE * self._fresh()
        return total.div_(norm(total))

    def _fresh(self) -> Tensor:
        vector = self.operator.random(self.generator)
        vector *= 1 / norm(vector)
        self.basis.orthogonalise(vector)
        return vector.div_(norm(vector))
