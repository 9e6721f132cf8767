"""Paths between two trained networks: the straight line, a trained Bézier curve, and the barriers along them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.inputs import Inputs
from landscape.network import Network, differentiable
from landscape.objective import Objective
from landscape.protocol import Execution, Protocol
from landscape.task import ClassificationData, Samples, Task

NEAR_DISTANCE = 0.6
"""Relative parameter distance below which two networks are hardly two trainings from different initial weights.

Pairs from independent seeds lay at 0.81 (short training with LayerNorm, whose scales all start at 1) to 1.52;
from the same initial weights at 0.005 to 0.53, and checkpoints of one run at 0.02 to 0.29.
"""


@dataclass(frozen=True, eq=False)
class BezierCurve:
    """``w(t) = (1-t)^2 a + 2 t (1-t) m + t^2 b``, a quadratic Bézier curve in parameter space.

    Parameters
    ----------
    start, middle, end : Tensor, shape (P,)
        The given networks' parameters, and the point between them that is trained.
    """

    start: Tensor
    middle: Tensor
    end: Tensor

    def parameters(self, t: float) -> Tensor:
        """w(t), shape (P,); at t = 0 and 1 the given networks' bit for bit."""
        if t in (0.0, 1.0):  # not by the formula: a + 0 m turns -0.0 into 0.0
            return (self.start if t == 0.0 else self.end).clone()
        return (1 - t) ** 2 * self.start + 2 * t * (1 - t) * self.middle + t**2 * self.end


@dataclass(frozen=True)
class Path:
    """Training error and loss at points of a path.

    Parameters
    ----------
    t : tuple of float
        From 0 to 1.
    error_percent, loss : tuples of float
        At each point; in networks with BatchNorm with statistics refreshed there, the ends included.
    refreshed : bool
        Whether there were BatchNorm statistics to refresh.
    end_shift_error_percent, end_shift_loss : pairs of float
        Refreshed less own statistics, at both ends; 0 without BatchNorm.
    """

    t: tuple[float, ...]
    error_percent: tuple[float, ...]
    loss: tuple[float, ...]
    refreshed: bool
    end_shift_error_percent: tuple[float, float]
    end_shift_loss: tuple[float, float]


@dataclass(frozen=True)
class Barrier:
    """How much a path rises above its ends.

    Parameters
    ----------
    peak_percent : float
        Largest training error at t = 1/4, 1/2, 3/4.
    barrier_percent : float
        The peak less the mean of the two ends' errors.
    barrier_loss : float
        The same with losses.
    """

    peak_percent: float
    barrier_percent: float
    barrier_loss: float


class Pair:
    """Two networks of one architecture on the same training data, and the paths between them.

    Parameters
    ----------
    start, end : Objective
        Both on the same samples, with a task.
    protocol : Protocol

    Raises
    ------
    LandscapeError
        If the architectures differ, or statistics would have to be refreshed from a single sample.
    """

    def __init__(self, start: Objective, end: Objective, protocol: Protocol) -> None:
        check_same_architecture(start.network, end.network)
        self.protocol = protocol
        self.start, self.end = start.network.flat.clone(), end.network.flat.clone()
        self.own = start.loss_and_error(), end.loss_and_error()
        self.work = start.of(start.network.module)  # a third copy, whose parameters move along the path
        self._statistics: list[Inputs] = []
        if self.work.network.batch_norms:
            samples = self._samples()
            if len(samples) < 2:
                raise LandscapeError("BatchNorm statistics cannot be refreshed from one sample", "two or more samples")
            parts = max(1, len(samples) // protocol.curve_batch_size)
            cuts = torch.arange(len(samples)).tensor_split(parts)  # even parts: no rest of one sample
            self._statistics = [samples.at(part).inputs for part in cuts]

    def _samples(self) -> Samples:
        if self.work.data is None:
            raise LandscapeError("the data are batches in an order of their own", "Samples, for paths between networks")
        return self.work.data

    @property
    def sample_gradients(self) -> float:
        """Cost of the work along paths, in sample gradients."""
        return self.work.sample_gradients

    def fit_curve(self, progress: Callable[[float], None] | None = None) -> BezierCurve:
        """Train the middle point, from the middle of the chord, to the least mean training loss along the curve.

        Minimises ``E_t L(w(t))``, t uniform and stratified over the steps, by Adam on mini-batches. The step of each
        parameter tensor is relative to its root mean square in the two networks, so that one learning rate fits
        every width and layer; it falls to zero along half a cosine. BatchNorm layers use batch statistics.

        Raises
        ------
        LandscapeError
            If both networks have the same weights.
        """
        if torch.equal(self.start, self.end):
            raise same_weights()
        protocol, data, network = self.protocol, self._samples(), self.work.network
        generator = torch.Generator().manual_seed(protocol.seed)
        steps, size = protocol.curve_steps, min(protocol.curve_batch_size, len(data))
        times = (torch.randperm(steps, generator=generator) + torch.rand(steps, generator=generator)) / steps
        epochs = -(-steps * size // len(data))
        order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(epochs)])
        curve = BezierCurve(self.start, (self.start + self.end) / 2, self.end)
        adam = _RelativeAdam(self._scales(), protocol.curve_learning_rate, steps)
        with differentiable(), network.batch_statistics():
            for step, t in enumerate(times.tolist()):
                batch = data.at(order[step * size : (step + 1) * size])
                network.load(curve.parameters(t))
                gradient = self._mini_batch_gradient(batch.inputs, batch.targets)
                adam.update(curve.middle, gradient * (2 * t * (1 - t)))
                if progress is not None:
                    progress((step + 1) / steps)
        self.work.sample_gradients += steps * size
        return curve

    def _mini_batch_gradient(self, inputs: Inputs, targets: Tensor) -> Tensor:
        network, task = self.work.network, self.work.require_task()
        logits = task.logits(network(network.place(inputs)))
        labels = network.place(targets)
        return network.gradient(task.losses(logits, labels).sum() / task.normaliser(labels))

    def _scales(self) -> Tensor:
        """Root mean square of each tensor in both networks, at least a tenth of that of all, for each parameter."""
        squares = (self.start.square() + self.end.square()) / 2
        parts = [part.mean().expand(part.numel()) for part in squares.split(self.work.network.sizes)]
        return torch.cat(parts).clamp_min(0.01 * float(squares.mean())).sqrt()

    def curve_path(self, curve: BezierCurve) -> Path:
        """Error and loss along a curve."""
        return self._path(curve.parameters, self.protocol.curve_points)

    def linear_path(self) -> Path:
        """Error and loss along the straight line ``a + t (b - a)``."""

        def parameters(t: float) -> Tensor:
            if t in (0.0, 1.0):
                return self.start if t == 0.0 else self.end
            return self.start + t * (self.end - self.start)

        return self._path(parameters, self.protocol.linear_points)

    def _path(self, parameters: Callable[[float], Tensor], points: int) -> Path:
        times = tuple(k / (points - 1) for k in range(points))
        errors, losses = [], []
        for t in times:
            self.work.network.load(parameters(t))
            if self._statistics:
                self.work.network.refresh_batch_norm(self._statistics)
                self.work.sample_gradients += self.work.samples / 3
            point = self.work.loss_and_error()
            errors.append(_known(point.error_percent))
            losses.append(point.loss)
        first, last = self.own
        return Path(
            t=times,
            error_percent=tuple(errors),
            loss=tuple(losses),
            refreshed=bool(self._statistics),
            end_shift_error_percent=(errors[0] - _known(first.error_percent), errors[-1] - _known(last.error_percent)),
            end_shift_loss=(losses[0] - first.loss, losses[-1] - last.loss),
        )


class _RelativeAdam:
    """Adam (Kingma and Ba, 2015) on one vector, its steps in units of `scales`, falling along half a cosine."""

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


def fit_curve(
    model_a: nn.Module,
    model_b: nn.Module,
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    task: Task | None = None,
) -> BezierCurve:
    """The Bézier curve between two trained networks (Garipov et al., 2018); see :meth:`Pair.fit_curve`."""
    return pair_of(model_a, model_b, data, protocol, execution, task).fit_curve()


def linear_path(
    model_a: nn.Module,
    model_b: nn.Module,
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    task: Task | None = None,
) -> Path:
    """Training error and loss along the straight line between two networks; see :meth:`Pair.linear_path`."""
    return pair_of(model_a, model_b, data, protocol, execution, task).linear_path()


def pair_of(
    model_a: nn.Module,
    model_b: nn.Module,
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    task: Task | None = None,
) -> Pair:
    """A :class:`Pair` from two models and the training data that the protocol takes."""
    protocol = protocol or Protocol()
    samples = data.train.subset(protocol.samples, protocol.seed)
    start = Objective(model_a, samples, task or Task(data.num_classes), execution=execution)
    return Pair(start, start.of(model_b), protocol)


def barrier(path: Path) -> Barrier:
    """Peak and barriers of a path from its points t = 1/4, 1/2, 3/4 and its ends."""
    inner = [path.t.index(t) for t in (0.25, 0.5, 0.75)]
    peak = max(path.error_percent[i] for i in inner)
    loss = max(path.loss[i] for i in inner)
    return Barrier(
        peak_percent=peak,
        barrier_percent=peak - (path.error_percent[0] + path.error_percent[-1]) / 2,
        barrier_loss=loss - (path.loss[0] + path.loss[-1]) / 2,
    )


def linear_barrier_percent(path: Path) -> float:
    """Largest training error at an inner point above the straight line between the ends' errors, in percent.

    Negative where every inner point lies below; exactly 0 for a network with itself.
    """
    first, last = path.error_percent[0], path.error_percent[-1]
    inner = zip(path.t[1:-1], path.error_percent[1:-1], strict=True)
    return max(error - (first + t * (last - first)) for t, error in inner)


def same_weights() -> LandscapeError:
    """The error for a sibling that is the network itself."""
    return LandscapeError(
        "the sibling has the same weights as the network",
        "another training of the same recipe",
        "train it again from another seed",
    )


def check_same_architecture(first: Network, second: Network) -> None:
    """Raise LandscapeError, naming up to five differences, unless both have the same parameters by name and shape."""
    a, b = (dict(zip(n.names, n.shapes, strict=True)) for n in (first, second))
    differences = [
        f"{name} {a.get(name, 'absent')} and {b.get(name, 'absent')}"
        for name in {**a, **b}
        if a.get(name) != b.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise LandscapeError(
            f"the sibling has another architecture: {', '.join(differences[:5])}{more}",
            "the same parameters by name and shape",
            "train the same recipe again from another seed",
        )


def _known(error: float | None) -> float:
    assert error is not None  # an objective with a task always has one
    return error
