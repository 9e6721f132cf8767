"""Curves between many pairs of networks trained at once, by the library's recipe and by variants of it.

All pairs share architecture and data. The library's own recipe (`landscape.curve_training`) is the variant of default
`optimizer`, `start`, `strata` and `aligned`; `check_against_library` holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.curve_training import relative_scales

POINTS = tuple(k / 8 for k in range(9))


@dataclass(frozen=True)
class Variant:
    """How a curve's middle point is trained.

    `epochs` of the training data replace `steps` where they are not 0. `learning_rate` is relative to each tensor's
    size for Adam and absolute for SGD. `start` is `chord` (middle of the chord), or `norm` and `norm2`: rescaled
    tensor by tensor until the middle point, or the curve's point at t = 1/2, has the size of the ends. `strata`
    values of t share each mini-batch. `aligned`: the second network's hidden units are matched to the first's before.
    No steps: the straight line.
    """

    steps: int
    batch: int = 128
    learning_rate: float = 0.1
    optimizer: str = "adam"
    start: str = "chord"
    strata: int = 1
    aligned: bool = False
    epochs: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        budget = f"{self.epochs}epochs" if self.epochs else f"{self.steps}"
        parts = [f"{budget}x{self.batch}", f"{self.learning_rate:g}", self.optimizer, self.start, f"t{self.strata}"]
        return "-".join([*parts, "aligned" if self.aligned else "plain", f"seed{self.seed}"])

    def steps_for(self, samples: int) -> int:
        size = min(self.batch, samples)
        return -(-self.epochs * samples // size) if self.epochs else self.steps


class Stack:
    """Pairs of networks, rows of `start` and `end` of shape (pairs, P), on the same data."""

    def __init__(self, template: nn.Module, start: Tensor, end: Tensor, inputs: Tensor, targets: Tensor) -> None:
        named = dict(template.named_parameters())
        self.names = list(named)
        self.shapes = [p.shape for p in named.values()]
        self.sizes = [p.numel() for p in named.values()]
        self.template = template.to("meta")
        self.start, self.end, self.inputs, self.targets = start, end, inputs, targets

    def _logits(self, flat: Tensor, batch: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(flat.split(self.sizes), self.shapes, strict=True)]
        return torch.func.functional_call(self.template, dict(zip(self.names, parts, strict=True)), (batch,))

    def point(self, middle: Tensor, t: float | Tensor) -> Tensor:
        return (1 - t) ** 2 * self.start + 2 * t * (1 - t) * middle + t**2 * self.end

    def _sizes_of(self, flat: Tensor) -> Tensor:
        """Root mean square of each tensor, at every parameter."""
        parts = [part.square().mean(1, keepdim=True).expand_as(part) for part in flat.split(self.sizes, 1)]
        return torch.cat(parts, 1).sqrt()

    def first_middle(self, start: str) -> Tensor:
        middle = (self.start + self.end) / 2
        if start == "chord":
            return middle
        ends = ((self._sizes_of(self.start).square() + self._sizes_of(self.end).square()) / 2).sqrt()
        grown = middle * ends / self._sizes_of(middle).clamp_min(1e-12)
        return grown if start == "norm" else 2 * grown - middle

    def fit(self, variant: Variant) -> Tensor:
        """The trained middle points, shape (pairs, P)."""
        samples, strata = len(self.inputs), variant.strata
        size, steps = min(variant.batch, samples), variant.steps_for(samples)
        generator = torch.Generator().manual_seed(variant.seed)
        if strata == 1:
            times = (torch.randperm(steps, generator=generator) + torch.rand(steps, generator=generator))[:, None]
        else:
            orders = [torch.randperm(steps, generator=generator) for _ in range(strata)]
            times = torch.stack(orders, 1) + torch.rand(steps, strata, generator=generator)
        times = (torch.arange(strata) + times / max(1, steps)) / strata
        epochs = -(-steps * size // samples)
        order = torch.cat([torch.randperm(samples, generator=generator) for _ in range(epochs)] or [torch.empty(0)])
        middle = self.first_middle(variant.start).clone().requires_grad_()
        pairs = zip(self.start, self.end, strict=True)
        optimizer = _Optimizer(variant, torch.stack([relative_scales(pair, self.sizes) for pair in pairs]), steps)
        for step in range(steps):
            chosen = order[step * size : (step + 1) * size]
            optimizer.update(middle, self._gradient(middle, times[step], chosen, strata))
        return middle.detach()

    def _gradient(self, middle: Tensor, times: Tensor, chosen: Tensor, strata: int) -> Tensor:
        """Gradient of the mean loss of a mini-batch cut into `strata` parts, each at its own t."""
        parts = chosen[: len(chosen) // strata * strata].view(strata, -1)
        weights = self.point(middle, times[:, None, None])
        logits = torch.vmap(torch.vmap(self._logits, in_dims=(0, None)))(weights, self.inputs[parts])
        targets = self.targets[parts][:, None].expand(logits.shape[:3])
        loss = nn.functional.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="sum") / parts.numel()
        return torch.autograd.grad(loss, middle)[0]

    @torch.no_grad()
    def along(self, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Errors (percent) and losses at POINTS of the curve, each of shape (pairs, points)."""
        errors, losses = [], []
        for t in POINTS:
            logits = torch.vmap(self._logits, in_dims=(0, None))(self.point(middle, t), self.inputs).double()
            targets = self.targets.expand(len(logits), -1)
            errors.append(100 * (logits.argmax(2) != targets).double().mean(1))
            losses.append(nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1))
        return torch.stack(errors, 1), torch.stack(losses, 1)


class _Optimizer:
    """Adam with steps in units of `scales`, or SGD with momentum 0.9; the rate falls along half a cosine."""

    def __init__(self, variant: Variant, scales: Tensor, steps: int) -> None:
        self.adam = variant.optimizer == "adam"
        self.learning_rate, self.scales, self.steps, self.step = variant.learning_rate, scales, steps, 0
        self.mean, self.square = torch.zeros_like(scales), torch.zeros_like(scales)

    @torch.no_grad()
    def update(self, values: Tensor, gradient: Tensor) -> None:
        rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        self.step += 1
        if not self.adam:
            values.sub_(self.mean.mul_(0.9).add_(gradient), alpha=rate)
            return
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = (self.square / (1 - 0.999**self.step)).sqrt_().add_(1e-8)
        values.addcdiv_(self.mean * self.scales, spread, value=-rate / (1 - 0.9**self.step))
