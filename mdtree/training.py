"""Train one configuration, or a stack of small ones at once, reproducibly.

Two roads to the same recipe. `train_loop` runs one network with `torch.optim`. `train_stack` runs many networks of
one architecture and one data size together: their parameters are stacked (`torch.func.stack_module_state`), the
forward is vectorised over them (`torch.vmap`) and one `torch.autograd.grad` of the summed loss serves them all; for
networks too small to fill a core this is several times faster. The two do not agree in the last bits, so which one is
used is part of the zoo's specification.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mdtree.errors import InputError

SCHEDULES = ("constant", "constant_then_linear")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: stochastic gradient descent with momentum on the cross-entropy.

    Attributes
    ----------
    learning_rate : float
    batch_size : int
    steps : int
        Parameter updates. A fixed number of steps makes "more data" mean more data, not longer training.
    momentum, weight_decay : float
        As in `torch.optim.SGD` (weight decay is added to the gradient).
    schedule : str
        `constant`, or `constant_then_linear`: constant for the first half, then linear to 1 % of the rate at 90 % of
        the steps, 1 % to the end.
    """

    learning_rate: float
    batch_size: int = 16
    steps: int = 1500
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "constant_then_linear"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "steps"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)!r}", "a positive number")
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule {self.schedule!r}", f"one of {', '.join(SCHEDULES)}")

    def rate_factor(self, step: int) -> float:
        """The share of the learning rate used at update `step` (from 0)."""
        done = step / self.steps
        if self.schedule == "constant" or done < 0.5:
            return 1.0
        return max(0.01, 1.0 - 0.99 * (done - 0.5) / 0.4)


@dataclass(frozen=True)
class Trained:
    """A trained network's state and whether it stayed finite.

    Attributes
    ----------
    state : dict of str to torch.Tensor
        The state dict, on the CPU.
    diverged : bool
        Some parameter is NaN or infinite.
    """

    state: dict[str, Tensor]
    diverged: bool


def batch_order(samples: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Sample indices of every update: shuffled epochs, an incomplete last batch dropped.

    Returns
    -------
    numpy.ndarray of int64, shape (steps, min(batch_size, samples))
    """
    generator = np.random.default_rng([seed, samples, batch_size])
    size = min(batch_size, samples)
    per_epoch = samples // size
    epochs = -(-steps // per_epoch)
    order = np.concatenate([generator.permutation(samples)[: per_epoch * size] for _ in range(epochs)])
    return order.reshape(-1, size)[:steps]


def train_loop(model: nn.Module, inputs: Tensor, targets: Tensor, recipe: Recipe, seed: int) -> Trained:
    """Train a copy of one network.

    Parameters
    ----------
    model : torch.nn.Module
        Freshly initialised; left as it is.
    inputs : torch.Tensor, shape (n, ...)
    targets : torch.Tensor of int64, shape (n,)
    recipe : Recipe
    seed : int
        Of the order of the batches.
    """
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate_factor)
    for batch in torch.from_numpy(batch_order(len(inputs), recipe.batch_size, recipe.steps, seed)):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return _trained({name: value.detach() for name, value in model.state_dict().items()})


@dataclass(frozen=True)
class StackMember:
    """One network of a stack: how it starts (`seed` of initialisation and batch order), its rate, its targets."""

    seed: int
    learning_rate: float
    targets: Tensor


def train_stack(
    make_model: Callable[[int], nn.Module], members: Sequence[StackMember], inputs: Tensor, recipe: Recipe
) -> list[Trained]:
    """Train many networks of one architecture on the same inputs at once.

    Parameters
    ----------
    make_model : callable
        Seed -> freshly initialised network. It must have no buffers that training changes (BatchNorm statistics).
    members : sequence of StackMember
        Targets may differ between members (label noise); inputs do not.
    inputs : torch.Tensor, shape (n, ...)
    recipe : Recipe
        Its `learning_rate` is replaced by each member's own.

    Returns
    -------
    list of Trained
        In the order of `members`.

    Raises
    ------
    InputError
        The architecture keeps running statistics, which a stack cannot hold.
    """
    template = make_model(members[0].seed)
    if any(True for _ in template.buffers()):
        raise InputError("a network with buffers (BatchNorm?) in a stack", "parameters only", "set `stacked = false`")
    starts = {seed: dict(make_model(seed).named_parameters()) for seed in sorted({m.seed for m in members})}
    names = list(starts[members[0].seed])
    parameters = [torch.stack([starts[m.seed][name].detach() for m in members]).requires_grad_() for name in names]
    template = template.to("meta").train()

    def logits(values: tuple[Tensor, ...], batch: Tensor) -> Tensor:
        return torch.func.functional_call(template, dict(zip(names, values, strict=True)), (batch,))

    forward = torch.vmap(logits)
    order, row = _orders(members, len(inputs), recipe)
    targets = torch.stack([m.targets for m in members])
    member = torch.arange(len(members)).unsqueeze(1)
    rates = torch.tensor([m.learning_rate for m in members], dtype=torch.float32)
    rates_like = [rates.view(-1, *[1] * (p.dim() - 1)) for p in parameters]
    velocities = [torch.zeros_like(p) for p in parameters]
    for step in range(recipe.steps):
        batch = order[:, step][row]
        out = forward(tuple(parameters), inputs[batch])
        # the mean over each member's own batch, summed over members: the gradients do not mix
        loss = nn.functional.cross_entropy(out.flatten(0, 1), targets[member, batch].flatten(), reduction="sum")
        gradients = torch.autograd.grad(loss / batch.shape[1], parameters)
        factor = recipe.rate_factor(step)
        with torch.no_grad():
            for p, velocity, gradient, rate in zip(parameters, velocities, gradients, rates_like, strict=True):
                velocity.mul_(recipe.momentum).add_(gradient.add(p, alpha=recipe.weight_decay))
                p.sub_(velocity * (rate * factor))
    return [
        _trained({name: p.detach()[i].clone() for name, p in zip(names, parameters, strict=True)})
        for i in range(len(members))
    ]


def _orders(members: Sequence[StackMember], samples: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Batch orders of the distinct seeds (seeds, steps, batch) and each member's row in them."""
    seeds = sorted({m.seed for m in members})
    order = np.stack([batch_order(samples, recipe.batch_size, recipe.steps, seed) for seed in seeds])
    return torch.from_numpy(order), torch.tensor([seeds.index(m.seed) for m in members])


def _trained(state: dict[str, Tensor]) -> Trained:
    return Trained(state, any(not bool(torch.isfinite(value).all()) for value in state.values()))
