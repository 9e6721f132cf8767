"""Paths between two trained networks: the straight line, a trained Bézier curve, and the barriers along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from landscape.alignment import aligned_parameters
from landscape.curve_training import check_middle, train_curve
from landscape.errors import LandscapeError
from landscape.inputs import Inputs, sample_count
from landscape.network import Network
from landscape.objective import LossAndError, Objective
from landscape.paths import (
    Barrier,
    BezierCurve,
    Path,
    Statistics,
    barrier,
    evaluate_points,
    linear_barrier_percent,
    refreshed,
    statistics_of,
)
from landscape.protocol import Execution, Protocol
from landscape.task import ClassificationData, Samples, Task

__all__ = [
    "NEAR_DISTANCE",
    "Barrier",
    "BezierCurve",
    "Pair",
    "Path",
    "barrier",
    "check_same_architecture",
    "fit_curve",
    "linear_barrier_percent",
    "linear_path",
    "pair_gradients",
    "pair_of",
    "same_weights",
]

NEAR_DISTANCE = 0.6
"""Relative parameter distance below which two networks are hardly two trainings from different initial weights.

Pairs from independent seeds lay at 0.81 (short training with LayerNorm, whose scales all start at 1) to 1.52;
from the same initial weights at 0.005 to 0.53, and checkpoints of one run at 0.02 to 0.29.
"""

BATCH_NORM_BATCH = 128
"""Samples in each batch over whose means and variances the refreshed statistics are averaged."""


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
        self.work = start.of(start.network.module)  # a third copy, whose parameters move along the path
        self._own_statistics = [statistics_of(objective.network) for objective in (start, end)]
        self._sampled = self.work
        if self.work.data is not None and len(self.work.data) > protocol.path_samples:
            self._sampled = self.work.on(self.work.data.subset(protocol.path_samples, protocol.seed))
        self._refreshing = self._refreshing_batches() if self.work.network.batch_norms else []
        self._known_ends: tuple[list[LossAndError], list[LossAndError]] | None = None

    def _refreshing_batches(self) -> list[Inputs]:
        samples = self._samples().subset(self.protocol.batch_norm_samples, self.protocol.seed)
        if len(samples) < 2:
            raise LandscapeError("BatchNorm statistics cannot be refreshed from one sample", "two or more samples")
        parts = max(1, len(samples) // BATCH_NORM_BATCH)
        cuts = torch.arange(len(samples)).tensor_split(parts)  # even parts: no rest of one sample
        return [self.work.network.place(samples.at(part).inputs) for part in cuts]

    def _samples(self) -> Samples:
        if self.work.data is None:
            raise LandscapeError("the data are batches in an order of their own", "Samples, for paths between networks")
        return self.work.data

    @property
    def path_samples(self) -> int:
        """Samples on which points of a path are evaluated."""
        return self._sampled.samples

    @property
    def sample_gradients(self) -> float:
        """Cost of the work along paths, in sample gradients."""
        return self.work.sample_gradients

    def fit_curve(self, progress: Callable[[float], None] | None = None, aligned: bool = False) -> BezierCurve:
        """Train the middle point of a curve between the two networks; see :func:`train_curve`.

        Parameters
        ----------
        progress : callable, optional
            Told the share of the steps that is done.
        aligned : bool
            Put the end's hidden units in the start's order before, as in :meth:`aligned_linear_path`: the curve is
            shorter and needs fewer steps, but can be had only where the permutation symmetries are understood.

        Raises
        ------
        LandscapeError
            If both networks have the same weights, or cannot be aligned.
        """
        if torch.equal(self.start, self.end):
            raise same_weights()
        end = self._aligned_end() if aligned else self.end
        return train_curve(self.work, self._samples(), (self.start, end), self.protocol, progress)

    def fitted_curve(self, middle: Tensor) -> BezierCurve:
        """The curve through a middle point that was trained elsewhere, as :meth:`fit_curve` does, at its cost.

        Raises
        ------
        LandscapeError
            If both networks have the same weights, or the middle point is not finite.
        """
        if torch.equal(self.start, self.end):
            raise same_weights()
        size = min(self.protocol.curve_batch_size, len(self._samples()))
        self.work.sample_gradients += self.protocol.curve_steps * size
        check_middle(middle)
        return BezierCurve(self.start, middle, self.end)

    def curve_path(self, curve: BezierCurve) -> Path:
        """Error and loss along a curve."""
        return self._path(curve.parameters, self.protocol.curve_points)

    def linear_path(self) -> Path:
        """Error and loss along the straight line ``a + t (b - a)``."""
        return self._line_to(self.end)

    def aligned_linear_path(self) -> Path:
        """Error and loss along the straight line to the end with its hidden units in the start's order.

        They are matched by their weights, see :func:`landscape.alignment.match_weights`. The end's function, and so
        its error and loss, are the same.

        Raises
        ------
        LandscapeError
            If the network's permutation symmetries are not understood.
        """
        return self._line_to(self._aligned_end())

    def _line_to(self, end: Tensor) -> Path:
        return self._path(lambda t: self.start + t * (end - self.start), self.protocol.linear_points)

    def _aligned_end(self) -> Tensor:
        return aligned_parameters(self._sampled, self.start, self.end)

    def _path(self, parameters: Callable[[float], Tensor], points: int) -> Path:
        times = tuple(k / (points - 1) for k in range(points))
        own, (first, last) = self._ends()
        inner = self._evaluate([partial(parameters, t) for t in times[1:-1]])
        found = [first, *inner, last]
        errors = [_known(point.error_percent) for point in found]
        own_errors = [_known(point.error_percent) for point in own]
        return Path(
            t=times,
            error_percent=tuple(errors),
            loss=tuple(point.loss for point in found),
            loss_deviation=tuple(_known(point.loss_deviation) for point in found),
            refreshed=bool(self._refreshing),
            end_shift_error_percent=(errors[0] - own_errors[0], errors[-1] - own_errors[1]),
            end_shift_loss=(first.loss - own[0].loss, last.loss - own[1].loss),
        )

    def _ends(self) -> tuple[list[LossAndError], list[LossAndError]]:
        """Both networks as they are, and as points of a path; evaluated once for all paths."""
        if self._known_ends is None:
            points = [lambda: self.start, lambda: self.end]
            own = evaluate_points(self._sampled, points, self._own_statistics)
            self._known_ends = own, self._evaluate(points) if self._refreshing else own
        return self._known_ends

    def _evaluate(self, points: Sequence[Callable[[], Tensor]]) -> list[LossAndError]:
        statistics: list[Statistics] = [[] for _ in points]
        if self._refreshing:
            statistics = refreshed(self.work.network, points, self._refreshing)
            self.work.sample_gradients += len(points) * sum(map(sample_count, self._refreshing)) / 3
        return evaluate_points(self._sampled, points, statistics)


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


def pair_gradients(protocol: Protocol, samples: int, batch_norm: bool) -> float:
    """Sample gradients that the curve, its path and the linear path of a pair take together.

    Parameters
    ----------
    protocol : Protocol
    samples : int
        Training samples measured.
    batch_norm : bool
        Whether the networks have BatchNorm statistics to refresh.
    """
    points = protocol.curve_points + protocol.linear_points - 2  # both paths have the ends in common
    forward = points * min(protocol.path_samples, samples)
    if batch_norm:
        forward += 2 * min(protocol.path_samples, samples) + points * min(protocol.batch_norm_samples, samples)
    return protocol.curve_steps * min(protocol.curve_batch_size, samples) + forward / 3


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
