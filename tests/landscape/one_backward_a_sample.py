"""Per-sample gradient norms as they are defined: a backward pass for each sample, in float64, by plain autograd."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from landscape import Execution, Task
from landscape.inputs import arguments, each_tensor, sample_count, take
from landscape.network import Network, differentiable
from landscape.per_sample import PerSampleNorms, SampleGradients

DOUBLE = Execution(dtype="float64")


def directions_for(samples: int, classes: int, rounds: int = 2) -> Tensor:
    """Cotangents (rounds, samples, classes)."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rounds, samples, classes, generator=generator, dtype=torch.float64)


def plain_squares(model: nn.Module, inputs: Any, directions: Tensor) -> Tensor:
    """Shape (rounds, samples)."""
    twin = copy.deepcopy(model).double().eval()
    parameters = list(twin.parameters())
    inputs = each_tensor(lambda t: t.double() if t.is_floating_point() else t, inputs)
    rows = []
    for n in range(sample_count(inputs)):
        positional, named = arguments(take(inputs, slice(n, n + 1)))
        logits = twin(*positional, **named)[0]
        for direction in directions[:, n]:
            gradients = torch.autograd.grad(logits, parameters, direction, retain_graph=True, allow_unused=True)
            rows.append(sum(g.square().sum() for g in gradients if g is not None))
    return torch.stack(rows).view(-1, len(directions)).mT


def measured(model: nn.Module, inputs: Any, directions: Tensor, route: str = "layers") -> tuple[SampleGradients, str]:
    """Logits, norms and summed gradient of the first round's cotangents, and the route taken."""
    network = Network(model, DOUBLE)
    norms = PerSampleNorms(network, Task(directions.shape[2]), route=route)
    with differentiable():
        found = norms.first_order(network.place(inputs), lambda _: directions, lambda _: directions[0])
    return found, norms.route
