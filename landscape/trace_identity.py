"""Whether the trace of the Hessian is that of its Gauss-Newton matrix: a test of the network, not of its fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.gradient_graph import made_of_known_operations
from landscape.inputs import Inputs, sample_count, take
from landscape.network import Network, differentiable
from landscape.objective import Objective
from landscape.products import NO_SECOND_DERIVATIVE
from landscape.protocol import Execution
from landscape.task import Task

TESTED_SAMPLES = 8
"""Samples on which the identity is tested."""

IDENTITY_TOLERANCE = 1e-9
"""Curvature along one tensor, relative to slope × step, that counts as rounding in float64."""


def identity_holds(objective: Objective, seed: int = 0) -> bool:
    """Whether tr(H) = tr(G): no logit has curvature along any one parameter tensor.

    For each module one random direction v supported on its own parameters, and random coefficients c for the logits of
    a few samples: ``v . d^2 (c . z) v`` is 0 to rounding in float64, or each of its tensors is tried alone; where that
    is not 0 for one of them either, the identity does not hold. The coefficients stand for the residual of the loss, so
    that the answer belongs to the network and not to how well it is fitted; like a residual, those of a sample sum to
    0. Deterministic; the cost is about a backward pass a module on the samples tested.
    """
    task = objective.require_task()
    network = Network(objective.network.module, Execution(device=str(objective.network.device), dtype="float64"))
    generator = torch.Generator().manual_seed(seed)
    left = TESTED_SAMPLES
    for inputs, _ in objective.batches():
        part = network.place(take(inputs, slice(left)))
        objective.sample_gradients += sample_count(part) * (1 + len(network.parameters) / 2)
        if _has_curvature(network, task, part, generator):
            return False
        left -= sample_count(part)
        if left <= 0:
            break
    return True


def _has_curvature(network: Network, task: Task, inputs: Inputs, generator: torch.Generator) -> bool:
    with differentiable():
        logits = task.logits(network(inputs))
        random = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        scalar = ((random - random.mean(1, keepdim=True)) * logits).sum()
        gradients = torch.autograd.grad(
            scalar, network.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        places = [place for place, gradient in enumerate(gradients) if gradient.requires_grad]
        groups = [[p for p in module if p in places] for module in _modules(network)]
        curved = [g for g in groups if g and _curved(network, gradients, g, generator)]
        # of parameters used one after the other in one module the blocks between them do not vanish
        return any(_curved(network, gradients, [place], generator) for group in curved for place in group)


def _modules(network: Network) -> list[list[int]]:
    """Places of the parameters that each module owns: logits that are linear in each are so in both mostly."""
    places = {id(parameter): place for place, parameter in enumerate(network.parameters)}
    groups = []
    for module in network.module.modules():
        own = [places.pop(id(p)) for p in module.parameters(recurse=False) if id(p) in places]
        groups.append(own)
    return groups


def _curved(network: Network, gradients: Sequence[Tensor], places: list[int], generator: torch.Generator) -> bool:
    """Whether the scalar has curvature along a random direction of the parameters at these places."""
    parameters = [network.parameters[place] for place in places]
    directions = []
    for parameter in parameters:
        bits = torch.randint(2, parameter.shape, generator=generator, dtype=torch.int8)
        length = float(parameter.detach().norm()) or 1.0
        directions.append((2 * bits - 1).to(parameter) * (length / math.sqrt(parameter.numel())))
    slopes = [gradients[place] for place in places]
    images = torch.autograd.grad(
        slopes, parameters, directions, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    curvature = abs(sum(float((i * d).sum()) for i, d in zip(images, directions, strict=True)))
    size = sum(float(s.detach().norm() * d.norm()) for s, d in zip(slopes, directions, strict=True))
    return not curvature <= IDENTITY_TOLERANCE * size


def identity_or_none(objective: Objective, seed: int = 0) -> bool | None:
    """Whether the identity holds; None where products are differences of gradients.

    It is judged by double backward: where that cannot be trusted, neither can the verdict. A network made of torch's
    own operations alone needs no test for that.
    """
    if not objective.network.products_checked and not made_of_known_operations(_few_logits(objective)):
        objective.check_second_derivative()
    if objective.product_method == "finite_difference":
        return None
    try:
        return identity_holds(objective, seed)
    except RuntimeError as error:
        if not NO_SECOND_DERIVATIVE.search(str(error)):
            raise
    objective.check_second_derivative()
    return None if objective.product_method == "finite_difference" else False


def _few_logits(objective: Objective) -> Tensor:
    inputs, _ = next(objective.batches())
    with differentiable():
        return objective.require_task().logits(objective.network(take(inputs, slice(2))))
