"""Three ways to a Hessian's trace and top eigenvalues, each as its library offers it, counted alike.

Every way runs on a trained network or, to be tuned, on a diagonal matrix with (nearly) the network's eigenvalues:
start vectors are Gaussian, which no rotation changes, so that the library's own code takes as many products and errs
as much on the one as on the other, in exact arithmetic.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hessian_models import BATCH_SIZE, TrainedNetwork
from numpy.typing import NDArray
from pyhessian import hessian
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from landscape import Execution, Objective, SymmetricOperator, top_eigenvalues, trace

try:
    curvlinops: Any = importlib.import_module("curvlinops")
except ImportError:  # an extra of its own: without it the two others are compared
    curvlinops = None

Settings = Mapping[str, Any]
Problem = TrainedNetwork | Tensor
"""A network, or the eigenvalues of a diagonal matrix, float32."""


@dataclass(frozen=True)
class Outcome:
    """What one call found.

    Parameters
    ----------
    values : tuple of float
        The trace, or eigenvalues in descending order.
    products : int
        Products with the Hessian.
    gradients : float
        Cost in gradients over all the data, where the library counts it; else NaN.
    """

    values: tuple[float, ...]
    products: int
    gradients: float = math.nan


Run = Callable[[Problem, Settings, int], Outcome]
"""``run(problem, settings, seed)``, from building the operator to the result."""


# ---- landscape ----


def _ours(problem: Problem) -> Objective | SymmetricOperator:
    if isinstance(problem, Tensor):
        return SymmetricOperator(lambda vector: problem * vector, len(problem), torch.float32)
    execution = Execution(batch_size=BATCH_SIZE)
    return Objective(problem.model, problem.samples, problem.task, execution=execution)


def our_trace(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """`landscape.trace`."""
    target = _ours(problem)
    found = trace(target, relative_error=settings["relative_error"], mode=settings["mode"], seed=seed)
    return Outcome((found.value,), found.probes, _gradients(target))


def our_eigenvalues(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """`landscape.top_eigenvalues`."""
    target = _ours(problem)
    found = top_eigenvalues(
        target,
        settings["k"],
        tolerance=settings["tolerance"],
        least_products=settings["least_products"],
        seed=seed,
    )
    return Outcome(found.values, found.products, _gradients(target))


def _gradients(target: Objective | SymmetricOperator) -> float:
    return target.sample_gradients / target.samples if isinstance(target, Objective) else math.nan


# ---- PyHessian ----


class _CountedHessian(hessian):
    """PyHessian's own class, its products counted."""

    products = 0

    def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
        self.products += 1
        return super().dataloader_hv_product(v)


class _DiagonalHessian(_CountedHessian):
    """The same over a diagonal matrix."""

    def __init__(self, spectrum: Tensor) -> None:
        self.spectrum = spectrum
        super().__init__(nn.ParameterList([nn.Parameter(torch.zeros_like(spectrum))]), None, dataloader=[], cuda=False)

    def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
        self.products += 1
        image = self.spectrum * v[0]
        return float(image @ v[0]), [image]


def _pyhessian(problem: Problem) -> _CountedHessian:
    if isinstance(problem, Tensor):
        return _DiagonalHessian(problem)
    problem.model.zero_grad(set_to_none=True)
    return _CountedHessian(problem.model, nn.CrossEntropyLoss(), dataloader=problem.batches(), cuda=False)


def pyhessian_trace(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """``hessian(...).trace``: Hutchinson's estimator; its own stop, which comes too early, never taken."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        computer = _pyhessian(problem)
        probes = computer.trace(maxIter=settings["probes"], tol=-math.inf)
    return Outcome((float(np.mean(probes)),), computer.products)


def pyhessian_eigenvalues(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """``hessian(...).eigenvalues``: power iteration with deflation, towards the largest magnitudes."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        computer = _pyhessian(problem)
        values, _ = computer.eigenvalues(maxIter=settings["max_iter"], tol=settings["tol"], top_n=settings["k"])
    return Outcome(tuple(sorted(map(float, values), reverse=True)), computer.products)


def pyhessian_one_batch(network: TrainedNetwork) -> Callable[[], object]:
    """PyHessian's other mode, all the data as one batch whose graph is kept: one product."""
    network.model.zero_grad(set_to_none=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        computer = hessian(network.model, nn.CrossEntropyLoss(), data=(network.inputs, network.targets), cuda=False)
        vector = [torch.ones_like(p) for p in computer.params]
    from pyhessian.hessian import hessian_vector_product

    return lambda: hessian_vector_product(computer.gradsH, computer.params, vector)


def pyhessian_product(network: TrainedNetwork) -> Callable[[], object]:
    """One product of PyHessian over the batches."""
    computer = _pyhessian(network)
    vector = [torch.ones_like(p) for p in computer.params]

    def product() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return computer.dataloader_hv_product(vector)

    return product


# ---- curvlinops ----


class _Columns:
    """An operator that takes a matrix a few columns at a time: as many as are fastest, and as memory holds."""

    def __init__(self, operator: Any, dimension: int, columns: int) -> None:
        self.operator = operator
        self.columns = columns
        self.shape = (dimension, dimension)
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.products = 0

    def __matmul__(self, matrix: Tensor) -> Tensor:
        self.products += matrix.shape[1]
        return torch.cat([self.operator @ part for part in matrix.split(self.columns, dim=1)], dim=1)

    def times(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """One product for SciPy."""
        self.products += 1
        return (self.operator @ torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))).detach().numpy()


class _Diagonal:
    def __init__(self, spectrum: Tensor) -> None:
        self.spectrum = spectrum

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.spectrum[:, None] * other if other.dim() == 2 else self.spectrum * other


def curvlinops_operator(problem: Problem, columns: int = 8) -> _Columns:
    """``HessianLinearOperator`` over the batches, without its check of determinism (two passes and products more)."""
    if isinstance(problem, Tensor):
        return _Columns(_Diagonal(problem), len(problem), columns)
    operator = curvlinops.HessianLinearOperator(
        problem.model,
        nn.CrossEntropyLoss(),
        list(problem.model.parameters()),
        problem.batches(),
        check_deterministic=False,
        num_data=len(problem.targets),
    )
    return _Columns(operator, problem.parameter_count, columns)


def curvlinops_trace(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """``xtrace``, ``hutchpp_trace`` or ``hutchinson_trace``; signs on a network, Gaussian on a diagonal matrix."""
    estimators = {
        "xtrace": curvlinops.xtrace,
        "hutch++": curvlinops.hutchpp_trace,
        "hutchinson": curvlinops.hutchinson_trace,
    }
    distribution = "normal" if isinstance(problem, Tensor) else "rademacher"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        operator = curvlinops_operator(problem, settings["columns"])
        value = estimators[settings["estimator"]](operator, settings["products"], distribution=distribution)
    return Outcome((float(value),), operator.products)


def curvlinops_eigenvalues(problem: Problem, settings: Settings, seed: int) -> Outcome:
    """``scipy.sparse.linalg.eigsh`` over ``HessianLinearOperator``."""
    operator = curvlinops_operator(problem)
    size = operator.shape[0]
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
    system = LinearOperator(operator.shape, matvec=operator.times, dtype=np.float32)
    ncv = min(settings["ncv"], size)
    try:
        values = eigsh(
            system, settings["k"], which="LA", v0=start, ncv=ncv, tol=settings["tol"], return_eigenvectors=False
        )
    except ArpackNoConvergence as failure:
        values = np.append(failure.eigenvalues, [math.nan] * (settings["k"] - len(failure.eigenvalues)))
    return Outcome(tuple(sorted(map(float, values), reverse=True)), operator.products)


RUNS: Mapping[str, Mapping[str, Run]] = {
    "trace": {"ours": our_trace, "pyhessian": pyhessian_trace, "curvlinops": curvlinops_trace},
    "top": {"ours": our_eigenvalues, "pyhessian": pyhessian_eigenvalues, "curvlinops": curvlinops_eigenvalues},
}
"""Each contender's way to each quantity."""


def contenders() -> tuple[str, ...]:
    """Those whose library is installed."""
    return ("ours", "pyhessian", "curvlinops") if curvlinops is not None else ("ours", "pyhessian")
