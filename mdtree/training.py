"""Train one configuration, or a stack of small ones at once, reproducibly.

Two roads to the same recipe. `train_loop` runs one network with `torch.optim`. `train_stack` runs many networks of
one architecture and one data size together: their parameters are stacked (`torch.func.stack_module_state`), the
forward is vectorised over them (`torch.vmap`) and one `torch.autograd.grad` of the summed loss serves them all; for
networks too small to fill a core this is many times faster (`trains_in_stack` says for which). The two do not agree
in the last bits, so which one is used is part of the zoo's specification.

On the CPU everything is float32 and equal seeds give equal bytes. On a CUDA device the forward runs in bfloat16 where
`torch.autocast` allows it; parameters, gradients of parameters, loss and optimizer state stay float32, and equal bytes
are not promised.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mdtree.augmentation import AUGMENTATIONS, augment, check_augmentation, draw
from mdtree.errors import InputError
from mdtree.stacking import (
    BETA1,
    BETA2,
    EPSILON,
    StackedOptimizer,
    cross_entropy,
    forward_precision,
    stacked_gradients,
    trains_in_stack,
)

__all__ = [
    "AUGMENTATIONS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Recipe",
    "StackMember",
    "Trained",
    "batch_order",
    "train_loop",
    "train_stack",
    "trains_in_stack",
]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "constant_then_linear", "cosine")

_CHECK_EVERY = 100  # updates between two looks for NaN: a look reads every parameter once


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on the cross-entropy.

    Attributes
    ----------
    learning_rate : float
    batch_size : int
    steps : int
        Parameter updates. A fixed number of steps makes "more data" mean more data, not longer training.
    momentum : float
        Of `sgd`; `adam` and `adamw` use betas 0.9 and 0.999 and epsilon 1e-8.
    weight_decay : float
        As in `torch.optim`: added to the gradient by `sgd` and `adam`, decoupled from it in `adamw`.
    schedule : str
        `constant`; `constant_then_linear`: constant for the first half, then linear to 1 % of the rate at 90 % of the
        steps, 1 % to the end; `cosine`: (1 + cos(π k / steps)) / 2 of the rate at update k.
    optimizer : str
        `sgd`, `adam` or `adamw`.
    augmentation : str
        `none`, `flip` (left to right, probability ½), `crop` (images shifted by up to an eighth of their size, zeros
        coming in) or `flip_crop`. Images only.

    Raises
    ------
    InputError
        A number is not positive (momentum and weight decay: negative), or a name is not known.
    """

    learning_rate: float
    batch_size: int = 16
    steps: int = 1500
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "constant_then_linear"
    optimizer: str = "sgd"
    augmentation: str = "none"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "steps"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)!r}", "a positive number")
        for name in ("momentum", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)!r}", "a number, not negative")
        choices = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "augmentation": AUGMENTATIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r}", f"one of {', '.join(known)}")

    def rate_factor(self, step: int) -> float:
        """The share of the learning rate used at update `step` (from 0)."""
        done = step / self.steps
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "constant" or done < 0.5:
            return 1.0
        return max(0.01, 1.0 - 0.99 * (done - 0.5) / 0.4)


@dataclass(frozen=True)
class Trained:
    """A trained network's state and whether it stayed finite.

    Attributes
    ----------
    state : dict of str to torch.Tensor
        The state dict, on the CPU. Training stops once a parameter is NaN, for it stays NaN: the state of a diverged
        network is that of whenever this was noticed.
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


def train_loop(
    model: nn.Module, inputs: Tensor, targets: Tensor, recipe: Recipe, seed: int, *, device: str | torch.device = "cpu"
) -> Trained:
    """Train a copy of one network.

    Parameters
    ----------
    model : torch.nn.Module
        Freshly initialised; left as it is.
    inputs : torch.Tensor, shape (n, ...)
    targets : torch.Tensor of int64, shape (n,)
    recipe : Recipe
    seed : int
        Of the order of the batches and of the augmentation.
    device : str or torch.device, optional
        Where it is trained; on `cuda` the forward runs in bfloat16.

    Raises
    ------
    InputError
        The recipe augments images and the inputs are none.
    """
    place = torch.device(device)
    model = copy.deepcopy(model).to(place).train()
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate_factor)
    batches = _Batches(inputs.to(place), [seed], recipe)
    targets = targets.to(place)
    for step in range(recipe.steps):
        x, batch = batches.at(step)
        optimizer.zero_grad(set_to_none=True)
        with forward_precision(place):
            out = model(x[0])
        cross_entropy(out, targets[batch[0]]).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _CHECK_EVERY == 0 and any(bool(p.isnan().any()) for p in model.parameters()):
            break
    return _trained({name: value.detach() for name, value in model.state_dict().items()})


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), rate, momentum=recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(model.parameters(), rate, betas=(BETA1, BETA2), eps=EPSILON, weight_decay=decay)


@dataclass(frozen=True)
class StackMember:
    """One network of a stack: how it starts (`seed` of initialisation and batches), its rate, its targets."""

    seed: int
    learning_rate: float
    targets: Tensor


def train_stack(
    make_model: Callable[[int], nn.Module],
    members: Sequence[StackMember],
    inputs: Tensor,
    recipe: Recipe,
    *,
    device: str | torch.device = "cpu",
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
    device : str or torch.device, optional
        As for `train_loop`.

    Returns
    -------
    list of Trained
        In the order of `members`.

    Raises
    ------
    InputError
        The architecture keeps running statistics, which a stack cannot hold, or the recipe augments images and the
        inputs are none.
    """
    place = torch.device(device)
    template = make_model(members[0].seed)
    if any(True for _ in template.buffers()):
        raise InputError("a network with buffers (BatchNorm?) in a stack", "parameters only", "set `stacked = false`")
    seeds = sorted({m.seed for m in members})
    starts = {seed: dict(make_model(seed).named_parameters()) for seed in seeds}
    names = list(starts[members[0].seed])
    parameters = [torch.stack([starts[m.seed][name].detach() for m in members]).to(place) for name in names]
    batches = _Batches(inputs.to(place), seeds, recipe)
    row = torch.tensor([seeds.index(m.seed) for m in members], device=place)
    targets = torch.stack([m.targets for m in members]).to(place)
    rates = torch.tensor([m.learning_rate for m in members], dtype=parameters[0].dtype, device=place)
    optimizer = StackedOptimizer(recipe.optimizer, parameters, rates, recipe.momentum, recipe.weight_decay)
    x, batch = batches.at(0)
    gradients = stacked_gradients(template, names, parameters, x[row], targets.gather(1, batch[row]))
    with torch.no_grad():
        for step in range(recipe.steps):
            x, batch = batches.at(step)
            wanted = targets.gather(1, batch[row])
            optimizer.step(gradients(parameters, x[row], wanted), recipe.rate_factor(step))
    stacked = [p.cpu() for p in parameters]
    return [_trained({name: p[i].clone() for name, p in zip(names, stacked, strict=True)}) for i in range(len(members))]


class _Batches:
    """The (augmented) inputs of every update, for several seeds at once."""

    def __init__(self, inputs: Tensor, seeds: Sequence[int], recipe: Recipe) -> None:
        check_augmentation(recipe.augmentation, inputs)
        self._inputs = inputs
        orders = [batch_order(len(inputs), recipe.batch_size, recipe.steps, seed) for seed in seeds]
        self._order = torch.from_numpy(np.stack(orders, axis=1)).to(inputs.device)
        self._flipped: Tensor | None = None
        if recipe.augmentation != "none":
            steps, _, size = self._order.shape
            image = (inputs.shape[2], inputs.shape[3])
            draws = [draw(recipe.augmentation, seed, steps, size, image) for seed in seeds]
            self._flipped = torch.stack([d.flipped for d in draws], dim=1).flatten(1).to(inputs.device)
            self._shifts = torch.stack([d.shifts for d in draws], dim=1).flatten(1, 2).to(inputs.device)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (seeds, batch, ...) and sample indices (seeds, batch) of one update."""
        batch = self._order[step]
        if self._flipped is None:
            return self._inputs[batch], batch
        images = augment(self._inputs[batch.flatten()], self._flipped[step], self._shifts[step])
        return images.unflatten(0, batch.shape), batch


def _trained(state: dict[str, Tensor]) -> Trained:
    on_cpu = {name: value.cpu() for name, value in state.items()}
    return Trained(on_cpu, any(not bool(torch.isfinite(value).all()) for value in on_cpu.values()))
