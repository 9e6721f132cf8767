"""Exact trace and eigenvalues of a trained network's Hessian in float64, and its whole spectrum approximately.

Products, eigenvalues and the checks of the trace share no code with the package: plain autograd and SciPy's ARPACK.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from hessian_models import TrainedNetwork, plain_loss
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from landscape import Execution, Objective, Samples, trace

Floats = NDArray[np.float64]

LANCZOS_STEPS = 80
"""Products from which the spectrum is read: its two ends have converged by then."""

TOLERANCE = 1e-10
"""Relative precision of the reference eigenvalues."""

CHECKED_SAMPLES = 32
"""Samples on which the exact trace is checked by slow means."""

COLUMNS = 10_000
"""Parameters up to which that check adds up the Hessian's diagonal; above, per-sample gradients class by class."""

KEPT = 1000
"""Eigenvalues at each end of the spectrum that stand for themselves; those between are thinned to as many."""


class PlainHessian:
    """``v -> H v`` by double backward through graphs that are kept.

    Parameters
    ----------
    network : TrainedNetwork
    dtype : torch.dtype
    samples : int, optional
        Only so many of the first.
    """

    def __init__(self, network: TrainedNetwork, dtype: torch.dtype, samples: int | None = None) -> None:
        twin = copy.deepcopy(network.model).to(dtype).eval()
        self.parameters = list(twin.parameters())
        self.dtype = dtype
        self.dimension = network.parameter_count
        inputs, targets = network.inputs[:samples].to(dtype), network.targets[:samples]
        self._gradients = [
            torch.autograd.grad(plain_loss(twin, x, y, len(targets)), self.parameters, create_graph=True)
            for x, y in zip(inputs.split(250), targets.split(250), strict=True)
        ]

    def __call__(self, vector: Tensor) -> Tensor:
        """The product, shape (P,)."""
        parts = vector.to(self.dtype).split([p.numel() for p in self.parameters])
        shaped = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        total = torch.zeros(self.dimension, dtype=self.dtype)
        for gradients in self._gradients:
            images = torch.autograd.grad(
                gradients, self.parameters, shaped, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            total += torch.cat([image.reshape(-1) for image in images])
        return total

    def times(self, vector: Floats) -> Floats:
        """The product for SciPy."""
        return self(torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))).numpy()


@dataclass(frozen=True, eq=False)
class Reference:
    """What every contender is measured against.

    Parameters
    ----------
    trace : float
    eigenvalues : tuple of float
        The five algebraically largest, descending.
    magnitudes : tuple of float
        The five of largest magnitude with their signs, by descending magnitude: what power iteration looks for.
    trace_check : float
        Relative difference between the package's exact trace and a slow one, on a few samples.
    spectrum : Floats
        Stand-in for the whole spectrum, thinned (see :func:`read_spectrum`).
    """

    trace: float
    eigenvalues: tuple[float, ...]
    magnitudes: tuple[float, ...]
    trace_check: float
    spectrum: Floats


def reference(network: TrainedNetwork) -> Reference:
    """Compute it: Lanczos in float32 for the spectrum, then ARPACK in float64 from its vectors."""
    values, bounds, weights, start = lanczos(PlainHessian(network, torch.float32), LANCZOS_STEPS)
    hessian = PlainHessian(network, torch.float64)
    exact = exact_trace(network, network.samples)
    operator = LinearOperator((hessian.dimension,) * 2, matvec=hessian.times, dtype=np.float64)
    top = eigsh(operator, 5, which="LA", v0=start, ncv=12, tol=TOLERANCE, return_eigenvectors=False)
    few = Samples(network.inputs[:CHECKED_SAMPLES], network.targets[:CHECKED_SAMPLES])
    return Reference(
        trace=exact,
        eigenvalues=tuple(sorted(map(float, top), reverse=True)),
        magnitudes=by_magnitude(top, values, bounds),
        trace_check=exact_trace(network, few) / slow_trace(network, CHECKED_SAMPLES) - 1,
        spectrum=read_spectrum(values, bounds, weights, hessian.dimension),
    )


def by_magnitude(top: Floats, values: Floats, bounds: Floats) -> tuple[float, ...]:
    """The eigenvalues of largest magnitude: of the exact ones and of the converged Ritz values below zero."""
    negative = values[(bounds <= 1e-4 * np.abs(values).max()) & (values < 0)]
    return tuple(map(float, sorted([*top, *negative], key=abs, reverse=True)[: len(top)]))


def exact_trace(network: TrainedNetwork, samples: Samples) -> float:
    """The package's exact trace, in float64."""
    objective = Objective(network.model, samples, network.task, execution=Execution(dtype="float64"))
    found = trace(objective, mode="exact")
    if not found.exact:
        raise SystemExit(f"{network.spec.name}: no exact trace, the Gauss-Newton identity does not hold")
    return found.value


def slow_trace(network: TrainedNetwork, samples: int) -> float:
    """Trace of the Hessian on the first samples: the sum of its diagonal or, for large networks, class by class.

    The latter is the trace of the Gauss-Newton matrix, ``1/n sum_n sum_c p_nc ||J_n^T (e_c - p_n)||^2``: one plain
    backward pass for each class of each sample.
    """
    if network.parameter_count <= COLUMNS:
        hessian = PlainHessian(network, torch.float64, samples)
        columns = torch.eye(hessian.dimension, dtype=torch.float64)
        return float(sum(hessian(column)[i] for i, column in enumerate(columns)))
    twin = copy.deepcopy(network.model).double().eval()
    parameters = list(twin.parameters())
    total = 0.0
    for index in range(samples):
        logits = twin(network.inputs[index : index + 1].double())[0]
        p = logits.detach().softmax(0)
        for label, share in enumerate(p):
            direction = -p
            direction[label] += 1
            gradients = torch.autograd.grad(logits, parameters, direction, retain_graph=True)
            total += float(share) * sum(float(g.square().sum()) for g in gradients)
    return total / samples


def lanczos(hessian: PlainHessian, steps: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Ritz values, their residual bounds, their weights in a random start vector, and the sum of the top five vectors.

    Full re-orthogonalisation, done twice, in float64; the products are in the precision of `hessian`.
    """
    steps = min(steps, hessian.dimension)
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(hessian.dimension, generator=generator, dtype=torch.float64)
    basis = torch.empty(steps, hessian.dimension, dtype=torch.float64)
    diagonal, off_diagonal = [], []
    for step in range(steps):
        basis[step] = vector / vector.norm()
        vector = hessian(basis[step]).double()
        diagonal.append(float(basis[step] @ vector))
        done = basis[: step + 1]
        for _ in range(2):
            vector = vector - done.T @ (done @ vector)
        off_diagonal.append(float(vector.norm()))
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off_diagonal[:-1]))
    start = torch.from_numpy(np.ascontiguousarray(vectors[:, -5:].sum(1))) @ basis
    return values, np.abs(off_diagonal[-1] * vectors[-1]), vectors[0] ** 2, start.numpy()


def read_spectrum(values: Floats, bounds: Floats, weights: Floats, dimension: int) -> Floats:
    """A spectrum of at most 3 `KEPT` eigenvalues that costs iterative methods what the true one costs them.

    Converged Ritz values stand for themselves; the rest of the P eigenvalues are spread over the other Ritz values
    by their weights (stochastic Lanczos quadrature) and joined by straight lines. Those in the middle, small, are then
    thinned: their spread is enlarged so that the Frobenius norm stays, and their mean goes. The trace goes with it,
    so that errors of a trace are differences to the sum of this spectrum, in units of the true trace.
    """
    sure = bounds <= 0.02 * np.abs(values)
    rest = dimension - int(sure.sum())
    if rest <= 0 or sure.all():
        return np.sort(values)
    share = weights[~sure] / weights[~sure].sum()
    middle = np.interp((np.arange(rest) + 0.5) / rest, np.cumsum(share) - share / 2, values[~sure])
    spectrum = np.sort(np.concatenate([values[sure], middle]))
    if len(spectrum) <= 3 * KEPT:
        return spectrum
    bulk = spectrum[KEPT:-KEPT]
    chosen = bulk[np.linspace(0, len(bulk) - 1, KEPT).astype(int)]
    chosen = (chosen - chosen.mean()) * np.sqrt(
        np.square(bulk - bulk.mean()).sum() / np.square(chosen - chosen.mean()).sum()
    )
    return np.sort(np.concatenate([spectrum[:KEPT], chosen, spectrum[-KEPT:]]))
