"""What lies along a path between two networks: the curve, loss and error at its points, and the barriers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.inputs import Inputs
from landscape.network import Network, evaluating
from landscape.objective import LossAndError, Objective

Statistics = list[tuple[Tensor, Tensor]]
"""Running mean and variance of every BatchNorm layer."""


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
    """Training error and loss at points of a path, all on the same samples.

    Parameters
    ----------
    t : tuple of float
        From 0 to 1.
    error_percent, loss, loss_deviation : tuples of float
        At each point, the last the standard deviation of the loss over the samples; in networks with BatchNorm with
        statistics refreshed there, the ends included.
    refreshed : bool
        Whether there were BatchNorm statistics to refresh.
    end_shift_error_percent, end_shift_loss : pairs of float
        Refreshed less own statistics, at both ends; 0 without BatchNorm.
    """

    t: tuple[float, ...]
    error_percent: tuple[float, ...]
    loss: tuple[float, ...]
    loss_deviation: tuple[float, ...]
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
    loss_deviation : float
        Standard deviation of the loss over the samples where it peaks.
    """

    peak_percent: float
    barrier_percent: float
    barrier_loss: float
    loss_deviation: float


def barrier(path: Path) -> Barrier:
    """Peak and barriers of a path from its points t = 1/4, 1/2, 3/4 and its ends.

    Raises
    ------
    LandscapeError
        If an error or loss is not finite: what is compared with NaN has no largest.
    """
    _require_finite(path.error_percent + path.loss)
    inner = [path.t.index(t) for t in (0.25, 0.5, 0.75)]
    peak = max(path.error_percent[i] for i in inner)
    highest = max(inner, key=lambda i: path.loss[i])
    return Barrier(
        peak_percent=peak,
        barrier_percent=peak - (path.error_percent[0] + path.error_percent[-1]) / 2,
        barrier_loss=path.loss[highest] - (path.loss[0] + path.loss[-1]) / 2,
        loss_deviation=path.loss_deviation[highest],
    )


def linear_barrier_percent(path: Path) -> float:
    """Largest training error at an inner point above the straight line between the ends' errors, in percent.

    Negative where every inner point lies below; exactly 0 for a network with itself.

    Raises
    ------
    LandscapeError
        If an error is not finite.
    """
    _require_finite(path.error_percent)
    first, last = path.error_percent[0], path.error_percent[-1]
    inner = zip(path.t[1:-1], path.error_percent[1:-1], strict=True)
    return max(error - (first + t * (last - first)) for t, error in inner)


def _require_finite(values: tuple[float, ...]) -> None:
    if not all(map(math.isfinite, values)):
        raise LandscapeError("outputs along the path are not finite", "finite outputs")


def statistics_of(network: Network) -> Statistics:
    """Copies of a network's BatchNorm statistics."""
    return [(mean.clone(), variance.clone()) for mean, variance in _running(network)]


def refreshed(network: Network, points: Sequence[Callable[[], Tensor]], batches: list[Inputs]) -> list[Statistics]:
    """BatchNorm statistics at each point: averages over the same batches of inputs."""
    found = []
    for point in points:
        network.load(point())
        network.refresh_batch_norm(batches)
        found.append(statistics_of(network))
    return found


def evaluate_points(
    objective: Objective, points: Sequence[Callable[[], Tensor]], statistics: Sequence[Statistics]
) -> list[LossAndError]:
    """Loss and error at many points of parameter space; each batch of data is placed once and seen by all of them.

    Parameters
    ----------
    objective : Objective
        With a task. Its network is moved, and left at the last point.
    points : sequence of callables that return a Tensor of shape (P,)
        Made anew for each batch, so that only one is held at a time.
    statistics : sequence of Statistics
        Of the BatchNorm layers at each point; empty lists where there are none.
    """
    network, task = objective.network, objective.require_task()
    losses: list[list[Tensor]] = [[] for _ in points]
    wrong, finite = [0] * len(points), [True] * len(points)
    with evaluating():
        for batch in objective.batches():
            labels = task.labels(batch[1])
            for k, (point, norms) in enumerate(zip(points, statistics, strict=True)):
                network.load(point())
                _set_statistics(network, norms)
                logits = objective.evaluate(batch).double()
                losses[k].append(task.losses(logits, batch[1]))
                wrong[k] += int((logits.argmax(1) != labels).sum())
                finite[k] = finite[k] and bool(torch.isfinite(logits).all())
    objective.sample_gradients += len(points) * objective.samples / 3
    return [
        objective.loss_of(torch.cat(parts), 100.0 * wrong[k] / objective.samples if finite[k] else float("nan"))
        for k, parts in enumerate(losses)
    ]


def _set_statistics(network: Network, statistics: Statistics) -> None:
    for (mean, variance), (new_mean, new_variance) in zip(_running(network), statistics, strict=True):
        mean.copy_(new_mean)
        variance.copy_(new_variance)


def _running(network: Network) -> Iterator[tuple[Tensor, Tensor]]:
    for norm in network.batch_norms:
        assert norm.running_mean is not None  # a network without running statistics is refused
        assert norm.running_var is not None
        yield norm.running_mean, norm.running_var
