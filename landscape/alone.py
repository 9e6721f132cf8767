"""The metrics of one network, each function one stage that writes into the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.finiteness import not_finite
from landscape.first_order import FirstOrder, first_order_pass
from landscape.gauss_newton import sampled_trace
from landscape.hessian import LEAST_PRODUCTS, spectral_density
from landscape.ledger import Ledger
from landscape.network import Network, seeded_global_state, unwrap
from landscape.objective import LossAndError, Objective
from landscape.protocol import Protocol
from landscape.pyhessian_backend import pyhessian_estimate
from landscape.sampled_eigenvalue import SampledEigenvalue, sampled_top_eigenvalue
from landscape.sampling_error import SamplingPlan, log_error

EIGENVALUE_METRICS = (
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_smallest_eigenvalue",
    "hessian_top_eigenvalue_per_parameter",
)
REPEATED_SAMPLES = 64
"""Samples evaluated twice: what is random in the network shows on any."""

TRACE_METRICS = ("hessian_trace", "hessian_trace_per_parameter")
TRAINING_METRICS = (
    "train_error_percent",
    "train_loss",
    "train_error_over_chance",
    "gradient_norm_squared_per_parameter",
    *EIGENVALUE_METRICS,
    *TRACE_METRICS,
)


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


def measure_first_order(
    ledger: Ledger, objective: Objective, plan: SamplingPlan, trace: str, chance: float
) -> FirstOrder | None:
    """Error, loss and gradient on the training samples, once they are known to repeat, and the Gauss-Newton trace.

    Parameters
    ----------
    plan : SamplingPlan
        Where all available samples are used the values have no error, else that of a sample drawn without replacement.
    trace : str
        As in the protocol.
    chance : float
        Error in percent of the best constant answer; 0 where there is only one class.

    Raises
    ------
    LandscapeError
        If two evaluations of the first samples differ.
    """
    objective.at(0, min(REPEATED_SAMPLES, objective.samples)).check_determinism()
    ledger.put("parameter_count", objective.parameter_count, samples=0)
    found: FirstOrder | None = None
    with ledger.stage("loss and gradient", ("gradient_norm_squared_per_parameter", *TRACE_METRICS)):
        found = first_order_pass(objective, plan, trace)
    loss = objective.loss_and_error() if found is None else found.loss
    if not math.isfinite(loss.loss):
        ledger.skip(TRAINING_METRICS, not_finite(objective) or f"the loss is {loss.loss}")
    put_loss(ledger, "train", loss, math.sqrt(max(0.0, 1 - plan.share(loss.samples))))
    if loss.error_percent is not None:
        _put_error_over_chance(ledger, chance)
    if found is not None:
        _put_gradient(ledger, objective, found)
    return found


def _put_error_over_chance(ledger: Ledger, chance: float) -> None:
    if chance > 0:
        if "train_error_percent" in ledger.metrics:
            error = ledger.metrics["train_error_percent"]
            ledger.put("train_error_over_chance", error.value / chance, error.standard_error / chance)
        else:
            ledger.skip(("train_error_over_chance",), "needs train_error_percent, which is not finite")
    else:
        ledger.flag("single_class")
        ledger.skip(
            ("train_error_over_chance", "connectivity_barrier_over_chance"),
            "all training labels are of one class, so that chance makes no error",
        )


def put_loss_over_chance(ledger: Ledger, chance_loss: float) -> None:
    """``train_loss`` over `chance_loss`, the loss in nats of the best constant answer."""
    if chance_loss <= 0:
        ledger.skip(("train_loss_over_chance",), "all training labels are of one class, so that chance costs no loss")
    elif "train_loss" in ledger.metrics:
        loss = ledger.metrics["train_loss"]
        ledger.put("train_loss_over_chance", loss.value / chance_loss, loss.standard_error / chance_loss)
    else:
        ledger.skip(("train_loss_over_chance",), "needs train_loss, which is not finite")


def _put_gradient(ledger: Ledger, objective: Objective, found: FirstOrder) -> None:
    """Squared norm of the gradient over P, and both norms of each parameter tensor."""
    network, count = objective.network, objective.parameter_count
    value, error = found.norm_squared.value, found.norm_squared.standard_error
    if value < error:
        ledger.flag("gradient_below_noise")
        value = error  # what a gradient that hides in the sampling noise may well have
    ledger.put("gradient_norm_squared_per_parameter", value / count, error / count)
    norms = [float(part.double().norm()) for part in found.gradient.split(network.sizes)]
    ledger.layers = [
        {
            "name": name,
            "shape": list(parameter.shape),
            "parameters": parameter.numel(),
            "weight_norm": float(parameter.detach().double().norm()),
            "gradient_norm": norm if math.isfinite(norm) else None,
        }
        for name, parameter, norm in zip(network.names, network.parameters, norms, strict=True)
    ]


def measure_hessian(
    ledger: Ledger,
    objective: Objective,
    protocol: Protocol,
    plan: SamplingPlan,
    first: FirstOrder | None,
    most: int,
) -> None:
    """Eigenvalues, spectral density and trace, by this package.

    Parameters
    ----------
    plan : SamplingPlan
    first : FirstOrder, optional
        The pass that gave the Gauss-Newton trace; without it the trace has its reason already.
    most : int
        Most samples for the eigenvalues.
    """
    found = _eigenvalues(ledger, objective, protocol, plan, most)
    if found is not None and protocol.density_probes:
        with ledger.stage("density", ()):
            part = objective.at(0, _first_samples(found, plan))
            density = spectral_density(
                part,
                steps=protocol.density_steps,
                probes=protocol.density_probes,
                seed=protocol.seed,
                first=found.first.run,
            )
            part.release()
            ledger.series["spectral_density"] = {
                "eigenvalues": list(density.eigenvalues),
                "density": list(density.density),
                "ritz_values": [list(values) for values in density.ritz_values],
                "ritz_weights": [list(weights) for weights in density.ritz_weights],
                "width": density.width,
            }
    if first is None:
        return
    deflation = None if found is None or objective.task is not None else _leading(found, protocol.eigenvalues)
    found = None  # frees the vectors of the run
    with ledger.stage("trace", TRACE_METRICS):
        estimate = sampled_trace(objective, plan, first if objective.task is not None else None, deflation=deflation)
        _put_trace(ledger, objective, protocol, estimate.value, estimate.standard_error, estimate.samples)
        if math.isfinite(estimate.value):
            ledger.series["trace"] = asdict(estimate)
    if objective.product_method == "finite_difference":
        ledger.flag("finite_difference_products")


def _eigenvalues(
    ledger: Ledger, objective: Objective, protocol: Protocol, plan: SamplingPlan, most: int
) -> SampledEigenvalue | None:
    with ledger.stage("eigenvalues", EIGENVALUE_METRICS):
        found = sampled_top_eigenvalue(
            objective if most >= objective.samples else objective.at(0, most),
            plan,
            tolerance=protocol.eigenvalue_tolerance,
            # the same run serves as the density's first probe
            least_products=max(LEAST_PRODUCTS, protocol.density_steps if protocol.density_probes else 0),
        )
        samples = _first_samples(found, plan)
        _put_eigenvalues(ledger, objective, found, samples)
        if not (found.first.converged and found.found.converged):
            ledger.flag("eigenvalues_not_converged")
        if log_error(found.value, found.sampling_error) > plan.precision:
            ledger.flag("eigenvalue_precision_not_reached")
        values, bounds, _ = found.first.run.ritz()
        listed = slice(None, -1 - min(protocol.eigenvalues, len(values)), -1)
        ledger.series["top_eigenvalues"] = {
            "eigenvalues": values[listed].tolist(),
            "bounds": bounds[listed].tolist(),
            "products": found.products,
            "samples": samples,
        }
        return found
    return None


def _leading(found: SampledEigenvalue, k: int) -> Tensor:
    """The Ritz vectors of the k largest Ritz values of the first run, shape (k, P)."""
    _, _, vectors = found.first.run.ritz()
    return found.first.run.basis.combine(vectors[:, -k:].T)


def _put_eigenvalues(ledger: Ledger, objective: Objective, found: SampledEigenvalue, samples: int) -> None:
    """The top eigenvalue with its sampling error and bound; the other end as the first samples have it."""
    count, ends = objective.parameter_count, found.first
    error = math.hypot(found.bound, found.sampling_error)
    ledger.put("hessian_top_eigenvalue", found.value, error, found.samples)
    ledger.put("hessian_top_eigenvalue_per_parameter", found.value / count, error / count, found.samples)
    ledger.put("hessian_smallest_eigenvalue", ends.smallest, ends.smallest_bound, samples)
    if -ends.smallest > ends.values[0]:
        ledger.put("hessian_top_eigenvalue_magnitude", -ends.smallest, ends.smallest_bound, samples)
    else:
        ledger.put("hessian_top_eigenvalue_magnitude", abs(found.value), error, found.samples)


def _first_samples(found: SampledEigenvalue, plan: SamplingPlan) -> int:
    """Samples of the first run."""
    return found.samples if found.samples == plan.available <= 2 * plan.first else min(plan.first, found.samples // 2)


def measure_hessian_by_pyhessian(ledger: Ledger, objective: Objective, protocol: Protocol) -> None:
    """Eigenvalue of largest magnitude and trace, by the PyHessian package."""
    with ledger.stage("pyhessian", (*EIGENVALUE_METRICS, *TRACE_METRICS)):
        found = pyhessian_estimate(objective, protocol)
        _put_trace(ledger, objective, protocol, found.trace, found.trace_standard_error, objective.samples)
        value, bound, count = found.eigenvalue, found.eigenvalue_bound, objective.parameter_count
        ledger.put("hessian_top_eigenvalue_magnitude", abs(value), bound)
        if value > 0:  # then the largest in magnitude is the largest
            ledger.put("hessian_top_eigenvalue", value, bound)
            ledger.put("hessian_top_eigenvalue_per_parameter", value / count, bound / count)
        ledger.skip(EIGENVALUE_METRICS, "PyHessian gives the eigenvalue of largest magnitude only")


def _put_trace(
    ledger: Ledger, objective: Objective, protocol: Protocol, value: float, error: float, samples: int
) -> None:
    count = objective.parameter_count
    ledger.put("hessian_trace", value, error, samples)
    ledger.put("hessian_trace_per_parameter", value / count, error / count, samples)
    if error > protocol.precision * abs(value):
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
