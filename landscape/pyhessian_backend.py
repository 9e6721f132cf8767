"""The largest-magnitude eigenvalue and the trace as the PyHessian package computes them."""

from __future__ import annotations

import math
import statistics
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.failures import first_line
from landscape.gauss_newton import LEAST_PROBES, MOST_PROBES
from landscape.inputs import Inputs, arguments, sample_count
from landscape.network import Network, differentiable, seeded_global_state
from landscape.objective import Objective
from landscape.protocol import Protocol

MOST_ITERATIONS = 100
"""Power iterations PyHessian may take; its own default."""


@dataclass(frozen=True)
class PyHessianEstimate:
    """What PyHessian offers.

    Parameters
    ----------
    eigenvalue : float
        Of largest magnitude, with its sign.
    eigenvalue_bound : float
        Residual ``||H v - lambda v||`` of the vector found.
    trace, trace_standard_error : float
        Mean of Hutchinson's probes and its standard error.
    """

    eigenvalue: float
    eigenvalue_bound: float
    trace: float
    trace_standard_error: float


def pyhessian_estimate(objective: Objective, protocol: Protocol) -> PyHessianEstimate:
    """Power iteration and Hutchinson's estimator of the installed ``pyhessian`` on a fresh copy of the network.

    PyHessian adds to the gradients it finds, so that a second build on one model doubles every eigenvalue, and it
    leaves the model in evaluation mode with gradients set: hence the copy. Its own rule stops the trace 5 to 12 % off,
    so probes are added until their standard error is under the protocol's.

    Raises
    ------
    LandscapeError
        If the package is missing, fails on the network (it needs every parameter to be used), or a result is not
        finite.
    """
    try:
        from pyhessian import hessian
    except ImportError as missing:
        raise LandscapeError("pyhessian is not installed", "it, or backend='native'") from missing
    task, normaliser = objective.require_task(), objective.normaliser
    network = Network(objective.network.module, objective.execution)

    def criterion(output: Tensor, targets: Tensor) -> Tensor:
        # PyHessian weights each batch by its share of the samples
        share = len(targets) / objective.samples
        objective.sample_gradients += 2 * len(targets)
        return task.losses(task.logits(output), targets).sum() / (normaliser * share)

    with differentiable(), seeded_global_state(protocol.seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        module, batches = _packed(network.module, list(objective.batches()))
        computer = hessian(module, criterion, dataloader=batches, cuda=network.device.type == "cuda")
        try:
            values, vectors = computer.eigenvalues(maxIter=MOST_ITERATIONS, tol=protocol.eigenvalue_tolerance)
        except (TypeError, AttributeError, AssertionError) as failure:
            raise LandscapeError(
                f"PyHessian fails on this network ({first_line(failure)}): is a parameter not used?", "backend='native'"
            ) from failure
        _, image = computer.dataloader_hv_product(vectors[0])
        gaps = [(h - values[0] * v).double().square().sum() for h, v in zip(image, vectors[0], strict=True)]
        probes: list[float] = []
        while True:
            # a tolerance below every possible change: the package's own stop is never taken
            probes += computer.trace(maxIter=max(LEAST_PROBES, len(probes)), tol=-math.inf)
            trace, error = statistics.fmean(probes), statistics.stdev(probes) / math.sqrt(len(probes))
            if not error > protocol.precision * abs(trace) or len(probes) >= MOST_PROBES:
                break
        network.module.zero_grad()
    estimate = PyHessianEstimate(float(values[0]), float(torch.stack(gaps).sum().sqrt()), trace, error)
    if not all(map(math.isfinite, (estimate.eigenvalue, estimate.eigenvalue_bound, trace, error))):
        raise LandscapeError("PyHessian returned a value that is not finite", "finite logits and loss")
    return estimate


def _packed(module: nn.Module, batches: list[Any]) -> tuple[nn.Module, list[Any]]:
    """A module and batches as PyHessian takes them: called with one thing, which has a size."""
    if isinstance(batches[0][0], Tensor):
        return module, batches
    return _Unpacking(module), [(_Packed(inputs), targets) for inputs, targets in batches]


@dataclass(frozen=True)
class _Packed:
    """Several inputs as PyHessian asks one tensor: how many, and on the device, where they are already."""

    inputs: Inputs

    def size(self, dimension: int) -> int:
        return sample_count(self.inputs)

    def to(self, device: Any) -> _Packed:
        return self


class _Unpacking(nn.Module):
    """A module called with packed inputs; its parameters in their order."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, packed: _Packed) -> Any:
        positional, named = arguments(packed.inputs)
        return self.inner(*positional, **named)
