"""Training the middle point of a Bézier curve between two networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.network import differentiable
from landscape.objective import Objective
from landscape.paths import BezierCurve
from landscape.protocol import Protocol
from landscape.task import Samples


def train_curve(
    objective: Objective,
    samples: Samples,
    ends: tuple[Tensor, Tensor],
    protocol: Protocol,
    progress: Callable[[float], None] | None = None,
) -> BezierCurve:
    """Train the middle point, from the middle of the chord, to the least mean training loss along the curve.

    Minimises ``E_t L(w(t))``, t uniform and stratified over the steps, by Adam on mini-batches. The step of each
    parameter tensor is relative to its root mean square in the two networks, so that one learning rate fits every
    width and layer; it falls to zero along half a cosine. BatchNorm layers use batch statistics.

    Parameters
    ----------
    objective : Objective
        With a task. Its network is moved.
    samples : Samples
        From which the mini-batches are drawn, epoch after epoch without replacement.
    ends : pair of Tensor, shape (P,)
    protocol : Protocol
        Its ``curve_steps``, ``curve_batch_size``, ``curve_learning_rate`` and ``seed``.
    progress : callable, optional
        Told the share of the steps that is done.

    Raises
    ------
    LandscapeError
        If the weights do not stay finite.
    """
    start, end = ends
    network = objective.network
    steps, size = protocol.curve_steps, min(protocol.curve_batch_size, len(samples))
    curve = BezierCurve(start, (start + end) / 2, end)
    adam = RelativeAdam(relative_scales(ends, network.sizes), protocol.curve_learning_rate, steps)
    with differentiable(), network.batch_statistics():
        for step, (t, chosen) in enumerate(curve_schedule(protocol, len(samples))):
            batch = samples.at(chosen)
            network.load(curve.parameters(t))
            gradient = _mini_batch_gradient(objective, batch)
            adam.update(curve.middle, gradient * (2 * t * (1 - t)))
            if progress is not None:
                progress((step + 1) / steps)
    objective.sample_gradients += steps * size
    check_middle(curve.middle)
    return curve


def curve_schedule(protocol: Protocol, samples: int) -> Iterator[tuple[float, Tensor]]:
    """The point t and the numbers of the samples of every step.

    The points are stratified over the steps, in random order; the samples come epoch after epoch without replacement.
    """
    generator = torch.Generator().manual_seed(protocol.seed)
    steps, size = protocol.curve_steps, min(protocol.curve_batch_size, samples)
    times = (torch.randperm(steps, generator=generator) + torch.rand(steps, generator=generator)) / steps
    epochs = -(-steps * size // samples)
    order = torch.cat([torch.randperm(samples, generator=generator) for _ in range(epochs)])
    for step, t in enumerate(times.tolist()):
        yield t, order[step * size : (step + 1) * size]


def check_middle(middle: Tensor) -> None:
    """Raise LandscapeError unless the trained middle point is finite."""
    if not bool(torch.isfinite(middle).all()):
        raise LandscapeError("the training of the curve gave weights that are not finite", "finite gradients")


def _mini_batch_gradient(objective: Objective, batch: Samples) -> Tensor:
    """Of the mean loss; in parts no larger than the batch size, but where BatchNorm needs the batch whole."""
    network, task = objective.network, objective.require_task()
    size = len(batch) if network.batch_norms else objective.execution.batch_size
    normaliser = task.normaliser(batch.targets) or 1.0  # classes of weight 0 alone: no gradient
    parts = []
    for inputs, targets in batch.batches(size):
        logits = task.logits(network(network.place(inputs)))
        parts.append(network.gradient(task.losses(logits, network.place(targets)).sum() / normaliser))
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def relative_scales(ends: tuple[Tensor, Tensor], sizes: list[int]) -> Tensor:
    """Root mean square of each tensor in both networks, at least a tenth of that of all, for each parameter."""
    squares = (ends[0].square() + ends[1].square()) / 2
    parts = [part.mean().expand(part.numel()) for part in squares.split(sizes)]
    return torch.cat(parts).clamp_min(0.01 * float(squares.mean())).sqrt()


class RelativeAdam:
    """Adam (Kingma and Ba, 2015) on vectors, its steps in units of `scales`, falling along half a cosine."""

    def __init__(self, scales: Tensor, learning_rate: float, steps: int) -> None:
        self.scales = scales
        self.learning_rate = learning_rate
        self.steps = steps
        self.step = 0
        self.mean = torch.zeros_like(scales)
        self.square = torch.zeros_like(scales)

    def update(self, values: Tensor, gradient: Tensor) -> None:
        """One step, in place."""
        rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        self.step += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = (self.square / (1 - 0.999**self.step)).sqrt_().add_(1e-8)
        values.addcdiv_(self.mean * self.scales, spread, value=-rate / (1 - 0.9**self.step))
