"""Curves between many pairs of small networks, their middle points trained together.

A small network leaves a processor idle: most of a step is spent between operations. Here one operation
(:func:`torch.vmap`) serves all pairs. Samples, points t, order of the mini-batches and optimiser are those of
:func:`landscape.curve_training.train_curve`, the same for every pair; only rounding tells the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.curve_training import RelativeAdam, curve_schedule, relative_scales
from landscape.inputs import Inputs, arguments, take, tensors
from landscape.network import Network, differentiable, evaluating
from landscape.objective import Objective
from landscape.protocol import Protocol
from landscape.task import Samples

STACKED_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.PReLU,
)
"""Of torch's own layers with parameters those that gain by a stack."""

MOST_PARAMETERS = 30_000
"""In one network: above, its own operations fill a core."""

MOST_ACTIVATIONS = 8_192
"""Numbers that a convolution takes or gives for one input: a stack of larger ones is slower than one by one."""

MOST_INPUTS = 4096
"""Numbers in one input: above, the activations of a stack take memory that a loop does not."""

STACK_PARAMETERS = 500_000
"""In all networks of one stack: above, its vectors leave the caches."""

STACK_INPUTS = 2_000_000
"""Numbers in the mini-batches of all networks of one stack."""

CHECKED_SAMPLES = 8
"""Samples on which a network's logits in the stack are held against its own."""

LOGIT_TOLERANCE = 1e-3
"""Relative to the largest logit of a network: above, the stack does not compute that network."""


def may_be_stacked(network: Network, samples: Samples) -> bool:
    """Whether networks of this architecture are trained in a stack: a rule on kinds and sizes alone, never on timing.

    Refused are buffers (running statistics are each network's own), layers of torch with parameters of other kinds than
    :data:`STACKED_KINDS`, more than 30,000 parameters, inputs of more than 4,096 numbers, and convolutions of more
    than 8,192 numbers an input, counted as channels × positions of the network's input / stride. See also
    :meth:`CurveStack.has_rows`.
    """
    numbers = _numbers(samples)
    if network.parameter_count > MOST_PARAMETERS or numbers > MOST_INPUTS:
        return False
    modules = list(network.module.modules())
    if any(True for _ in network.module.buffers()) or not all(_gains(module) for module in modules):
        return False
    convolutions = [module for module in modules if isinstance(module, nn.Conv1d | nn.Conv2d)]
    if not convolutions:
        return True
    positions = numbers // convolutions[0].in_channels
    most = max(max(each.in_channels, each.out_channels // math.prod(each.stride)) for each in convolutions)
    return most * positions <= MOST_ACTIVATIONS


def _numbers(samples: Samples) -> int:
    """In one input."""
    return sum(tensor[0].numel() for tensor in tensors(samples.inputs))


def _gains(module: nn.Module) -> bool:
    own = any(True for _ in module.parameters(recurse=False))
    foreign = not type(module).__module__.startswith("torch.nn.")
    return not own or foreign or isinstance(module, STACKED_KINDS)


class CurveStack:
    """Pairs of networks of one architecture on the same samples.

    Parameters
    ----------
    objective : Objective
        Of one of the networks, on samples and with a task; its weights are left alone, the others' functions must be
        its own but for the weights.
    protocol : Protocol
    """

    def __init__(self, objective: Objective, protocol: Protocol) -> None:
        self.objective = objective
        self.protocol = protocol
        self.task = objective.require_task()
        self.network = objective.network
        assert objective.data is not None  # a measurement is of samples
        self.samples = objective.data

    def _logits(self, weights: Tensor, inputs: Inputs) -> Tensor:
        """Logits of every network, shape (K, n, classes), from weights (K, P)."""
        network = self.network
        parts = [
            part.unflatten(1, shape)
            for part, shape in zip(weights.split(network.sizes, 1), network.shapes, strict=True)
        ]
        positional, named = arguments(inputs)

        def one(*values: Tensor) -> Tensor:
            state = dict(zip(network.names, values, strict=True))
            return self.task.logits(torch.func.functional_call(network.module, state, positional, named))

        return torch.vmap(one)(*parts)

    def has_rows(self) -> bool:
        """Whether a linear layer takes several rows a sample, as in a transformer: a stack of such is slower."""
        rows: list[bool] = []

        def look(_: nn.Module, given: tuple[Any, ...]) -> None:
            rows.append(any(isinstance(value, Tensor) and value.dim() > 2 for value in given))

        linear = [module for module in self.network.module.modules() if isinstance(module, nn.Linear)]
        handles = [module.register_forward_pre_hook(look) for module in linear]
        try:
            with evaluating():
                self.network(take(next(self.objective.batches())[0], slice(1)))
        finally:
            for handle in handles:
                handle.remove()
        return any(rows)

    def computes(self, networks: list[Network]) -> list[bool]:
        """Whether the stack's logits of each network are those of the network itself, to rounding.

        False for all where the networks cannot be vectorised: an operation depends on values, say.
        """
        inputs, targets = take(next(self.objective.batches()), slice(CHECKED_SAMPLES))
        try:
            weights = torch.stack([network.flat for network in networks])
            with evaluating():
                stacked = self._logits(weights, inputs)
            with differentiable():
                self._gradient(weights[:2].clone(), inputs, targets)
        except (RuntimeError, ValueError, TypeError):
            return [False] * len(networks)
        with evaluating():
            own = [self.task.logits(network(inputs)) for network in networks]
        return [_same(a, b) for a, b in zip(stacked, own, strict=True)]

    def train(self, starts: Tensor, ends: Tensor, progress: Callable[[float], None] | None = None) -> Tensor:
        """Middle points of the curves from `starts` to `ends`, all of shape (pairs, P).

        Those of a pair whose training fails are not finite; the others take no harm.

        Parameters
        ----------
        starts, ends : Tensor, shape (pairs, P)
        progress : callable, optional
            Told the share of the steps that is done.
        """
        inputs = _numbers(self.samples) * min(self.protocol.curve_batch_size, len(self.samples))
        size = max(1, min(STACK_PARAMETERS // starts.shape[1], STACK_INPUTS // max(1, inputs)))
        count = -(-len(starts) // size)  # as even as can be: a short rest costs as many steps
        parts = list(zip(starts.tensor_split(count), ends.tensor_split(count), strict=True))
        middles: list[Tensor] = []
        for number, (start, end) in enumerate(parts):
            middles.append(self._train(start, end, _part_of(progress, number, len(parts))))
        return torch.cat(middles)

    def _train(self, starts: Tensor, ends: Tensor, progress: Callable[[float], None]) -> Tensor:
        samples = self.samples
        middles = (starts + ends) / 2
        scales = torch.stack([relative_scales(pair, self.network.sizes) for pair in zip(starts, ends, strict=True)])
        steps = self.protocol.curve_steps
        adam = RelativeAdam(scales, self.protocol.curve_learning_rate, steps)
        with differentiable():
            for step, (t, chosen) in enumerate(curve_schedule(self.protocol, len(samples))):
                inputs, targets = self.network.place((take(samples.inputs, chosen), samples.targets[chosen]))
                weights = (1 - t) ** 2 * starts + 2 * t * (1 - t) * middles + t**2 * ends
                adam.update(middles, self._gradient(weights, inputs, targets) * (2 * t * (1 - t)))
                progress((step + 1) / steps)
        return middles

    def _gradient(self, weights: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
        """Of each network's mean loss over the mini-batch, shape (K, P)."""
        weights.requires_grad_()
        logits = self._logits(weights, inputs)
        repeated = targets.repeat(len(logits), *[1] * (targets.dim() - 1))
        normaliser = self.task.normaliser(targets) or 1.0  # classes of weight 0 alone: no gradient
        loss = self.task.losses(logits.flatten(0, 1), repeated).sum() / normaliser
        return torch.autograd.grad(loss, weights)[0]


def _same(stacked: Tensor, own: Tensor) -> bool:
    if stacked.shape != own.shape or not bool(torch.isfinite(own).all()):
        return False
    return bool((stacked - own).abs().max() <= LOGIT_TOLERANCE * own.abs().max())


def _part_of(progress: Callable[[float], None] | None, number: int, parts: int) -> Callable[[float], None]:
    """The progress of one of several equal parts."""
    if progress is None:
        return lambda share: None
    told = progress
    return lambda share: told((number + share) / parts)
