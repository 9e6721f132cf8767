"""The metrics of one network, each function one stage that writes into the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.hessian import LEAST_PRODUCTS, Eigenvalues, spectral_density, top_eigenvalues, trace
from landscape.ledger import Ledger
from landscape.network import Network, seeded_global_state, unwrap
from landscape.objective import LossAndError, Objective
from landscape.protocol import Protocol
from landscape.pyhessian_backend import pyhessian_estimate

EIGENVALUE_METRICS = (
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_smallest_eigenvalue",
    "hessian_top_eigenvalue_per_parameter",
)
TRACE_METRICS = ("hessian_trace", "hessian_trace_per_parameter")


def put_loss(ledger: Ledger, which: str, found: LossAndError, correction: float) -> None:
    """Keep ``{which}_loss`` and ``{which}_error_percent``; `correction` scales the sampling error."""
    root = math.sqrt(found.samples)
    if found.error_percent is None or found.loss_deviation is None:
        ledger.put(f"{which}_loss", found.loss, samples=found.samples)
        return
    ledger.put(f"{which}_loss", found.loss, correction * found.loss_deviation / root, found.samples)
    share = found.error_percent / 100
    error = 100 * math.sqrt(share * (1 - share)) / root
    ledger.put(f"{which}_error_percent", found.error_percent, correction * error, found.samples)


def measure_training_loss(ledger: Ledger, objective: Objective, available: int, chance: float) -> None:
    """Error and loss on the training samples, once they are known to repeat.

    Parameters
    ----------
    available : int
        Training samples there are: where all are used the values have no error, else that of a sample drawn without
        replacement.
    chance : float
        Error in percent of the best constant answer; 0 where there is only one class.

    Raises
    ------
    LandscapeError
        If two evaluations differ.
    """
    ledger.progress("loss", 0.0)
    found = objective.check_determinism()
    ledger.put("parameter_count", objective.parameter_count, samples=0)
    put_loss(ledger, "train", found, math.sqrt(max(0.0, 1 - found.samples / available)))
    if found.error_percent is not None:
        if chance > 0:
            error = ledger.metrics["train_error_percent"]
            ledger.put("train_error_over_chance", error.value / chance, error.standard_error / chance)
        else:
            ledger.flag("single_class")
            ledger.skip(
                ("train_error_over_chance", "connectivity_barrier_over_chance"),
                "all training labels are of one class, so that chance makes no error",
            )
    ledger.progress("loss", 1.0)


def measure_gradient(ledger: Ledger, objective: Objective) -> None:
    """Squared norm of the full-batch gradient over P, and both norms of each parameter tensor."""
    network = objective.network
    with ledger.stage("gradient", ("gradient_norm_squared_per_parameter",)):
        gradient = objective.gradient().double()
        ledger.put("gradient_norm_squared_per_parameter", float(gradient.square().sum()) / len(gradient))
        norms = [float(part.norm()) for part in gradient.split(network.sizes)]
        for name, parameter, norm in zip(network.names, network.parameters, norms, strict=True):
            ledger.layers.append(
                {
                    "name": name,
                    "shape": list(parameter.shape),
                    "parameters": parameter.numel(),
                    "weight_norm": float(parameter.detach().double().norm()),
                    "gradient_norm": norm if math.isfinite(norm) else None,
                }
            )


def measure_hessian(ledger: Ledger, objective: Objective, protocol: Protocol) -> None:
    """Eigenvalues, spectral density and trace, by this package."""
    found = _eigenvalues(ledger, objective, protocol)
    if found is not None and protocol.density_probes:
        with ledger.stage("density", ()):
            density = spectral_density(
                objective,
                steps=protocol.density_steps,
                probes=protocol.density_probes,
                seed=protocol.seed,
                first=found.run,
            )
            ledger.series["spectral_density"] = {
                "eigenvalues": list(density.eigenvalues),
                "density": list(density.density),
                "ritz_values": [list(values) for values in density.ritz_values],
                "ritz_weights": [list(weights) for weights in density.ritz_weights],
                "width": density.width,
            }
    with ledger.stage("trace", TRACE_METRICS):
        estimate = trace(
            objective,
            relative_error=protocol.trace_relative_error,
            mode=protocol.trace,
            seed=protocol.seed,
            deflation=None if found is None else found.vectors,
        )
        _put_trace(ledger, objective, protocol, estimate.value, estimate.standard_error)
        if math.isfinite(estimate.value):
            ledger.series["trace"] = asdict(estimate)
    objective.release()


def _eigenvalues(ledger: Ledger, objective: Objective, protocol: Protocol) -> Eigenvalues | None:
    count = objective.parameter_count
    with ledger.stage("eigenvalues", EIGENVALUE_METRICS):
        found = top_eigenvalues(
            objective,
            protocol.eigenvalues,
            tolerance=protocol.eigenvalue_tolerance,
            seed=protocol.seed,
            # the same run serves as the density's first probe
            least_products=max(LEAST_PRODUCTS, protocol.density_steps if protocol.density_probes else 0),
        )
        ledger.put("hessian_top_eigenvalue", found.values[0], found.bounds[0])
        ledger.put("hessian_top_eigenvalue_per_parameter", found.values[0] / count, found.bounds[0] / count)
        ledger.put("hessian_top_eigenvalue_magnitude", *found.magnitude)
        ledger.put("hessian_smallest_eigenvalue", found.smallest, found.smallest_bound)
        if not found.converged:
            ledger.flag("eigenvalues_not_converged")
        ledger.series["top_eigenvalues"] = {
            "eigenvalues": list(found.values),
            "bounds": list(found.bounds),
            "products": found.products,
        }
        return found
    return None


def measure_hessian_by_pyhessian(ledger: Ledger, objective: Objective, protocol: Protocol) -> None:
    """Eigenvalue of largest magnitude and trace, by the PyHessian package."""
    with ledger.stage("pyhessian", (*EIGENVALUE_METRICS, *TRACE_METRICS)):
        found = pyhessian_estimate(objective, protocol)
        _put_trace(ledger, objective, protocol, found.trace, found.trace_standard_error)
        value, bound, count = found.eigenvalue, found.eigenvalue_bound, objective.parameter_count
        ledger.put("hessian_top_eigenvalue_magnitude", abs(value), bound)
        if value > 0:  # then the largest in magnitude is the largest
            ledger.put("hessian_top_eigenvalue", value, bound)
            ledger.put("hessian_top_eigenvalue_per_parameter", value / count, bound / count)
        ledger.skip(EIGENVALUE_METRICS, "PyHessian gives the eigenvalue of largest magnitude only")


def _put_trace(ledger: Ledger, objective: Objective, protocol: Protocol, value: float, error: float) -> None:
    count = objective.parameter_count
    ledger.put("hessian_trace", value, error)
    ledger.put("hessian_trace_per_parameter", value / count, error / count)
    if error > protocol.trace_relative_error * abs(value):
        ledger.flag("trace_precision_not_reached")
    if value < 0:
        ledger.flag("trace_negative")


def measure_weight_growth(
    ledger: Ledger,
    network: Network,
    protocol: Protocol,
    fresh: Callable[[], nn.Module] | None,
    initial_norm_squared: float | None,
) -> None:
    """``ln(||w||^2 / E||w_init||^2)`` over all parameters, biases included.

    The expectation is `initial_norm_squared`, or the mean over fresh instances, whose spread gives the error.
    """
    with ledger.stage("weight growth", ("log_weight_growth",)):
        error = 0.0
        if initial_norm_squared is None:
            if fresh is None:
                raise LandscapeError("the norm at initialisation is unknown", "a way to make an untrained network")
            seeds = range(protocol.seed, protocol.seed + protocol.fresh_instances)
            squares = torch.stack([_fresh_square(fresh, network, seed) for seed in seeds])
            initial_norm_squared = float(squares.mean())
            if len(squares) > 1:
                error = float(squares.std()) / math.sqrt(len(squares)) / initial_norm_squared
        square = float(network.flat.double().square().sum())
        if square == 0:
            raise LandscapeError("every weight is zero", "a network with weights")
        ledger.put("log_weight_growth", math.log(square / initial_norm_squared), error, samples=0)


def _fresh_square(fresh: Callable[[], nn.Module], network: Network, seed: int) -> Tensor:
    with seeded_global_state(seed), torch.no_grad():
        parameters = [p for p in unwrap(fresh()).parameters() if p.is_floating_point()]
        count = sum(p.numel() for p in parameters)
        if count != network.parameter_count:
            raise LandscapeError(
                f"the untrained network has {count} parameters", f"{network.parameter_count}, as the trained one has"
            )
        return torch.stack([p.detach().double().square().sum().cpu() for p in parameters]).sum()
