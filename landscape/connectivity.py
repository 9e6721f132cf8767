"""Paths between two trained networks: the straight line, a trained Bézier curve, and the barriers along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from landscape.alignment import match_weights, permuted
from landscape.curve_training import train_curve
from landscape.errors import LandscapeError
from landscape.inputs import Inputs, sample_count, take
from landscape.network import Network, evaluating
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
from landscape.permutations import permutation_groups
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

PATH_SAMPLES = 2048
BATCH_NORM_SAMPLES = 512
CHECKED_SAMPLES = 64
"""Samples on which a network with permuted hidden units must answer as before."""


class Pair:
    """Two networks of one architecture on the same training data, and the paths between them.

    Parameters
    ----------
    start, end : Objective
        Both on the same samples, with a task.
    protocol : Protocol
    path_samples : int
        Most samples on which points of a path are evaluated, the same for all points of all paths.
    batch_norm_samples : int
        Most samples from which BatchNorm statistics are refreshed at a point.

    Raises
    ------
    LandscapeError
        If the architectures differ, or statistics would have to be refreshed from a single sample.
    """

    def __init__(
        self,
        start: Objective,
        end: Objective,
        protocol: Protocol,
        path_samples: int = PATH_SAMPLES,
        batch_norm_samples: int = BATCH_NORM_SAMPLES,
    ) -> None:
        check_same_architecture(start.network, end.network)
        self.protocol = protocol
        self.start, self.end = start.network.flat.clone(), end.network.flat.clone()
        self.work = start.of(start.network.module)  # a third copy, whose parameters move along the path
        self._own_statistics = [statistics_of(objective.network) for objective in (start, end)]
        self._sampled = self.work
        if self.work.data is not None and len(self.work.data) > path_samples:
            self._sampled = self.work.on(self.work.data.subset(path_samples, protocol.seed))
        self._refreshing = self._refreshing_batches(batch_norm_samples) if self.work.network.batch_norms else []
        self._known_ends: tuple[list[LossAndError], list[LossAndError]] | None = None

    def _refreshing_batches(self, most: int) -> list[Inputs]:
        samples = self._samples().subset(most, self.protocol.seed)
        if len(samples) < 2:
            raise LandscapeError("BatchNorm statistics cannot be refreshed from one sample", "two or more samples")
        parts = max(1, len(samples) // self.protocol.curve_batch_size)
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

    def fit_curve(self, progress: Callable[[float], None] | None = None) -> BezierCurve:
        """Train the middle point of a curve between the two networks; see :func:`train_curve`.

        Raises
        ------
        LandscapeError
            If both networks have the same weights.
        """
        if torch.equal(self.start, self.end):
            raise same_weights()
        return train_curve(self.work, self._samples(), (self.start, self.end), self.protocol, progress)

    def curve_path(self, curve: BezierCurve) -> Path:
        """Error and loss along a curve."""
        return self._path(curve.parameters, self.protocol.curve_points)

    def linear_path(self) -> Path:
        """Error and loss along the straight line ``a + t (b - a)``."""
        return self._line_to(self.end)

    def aligned_linear_path(self) -> Path:
        """Error and loss along the straight line to the end with its hidden units in the start's order.

        They are matched by their weights (:func:`match_weights`), which takes no gradient. The end's function, and so
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
        network = self.work.network
        groups = permutation_groups(network.module)
        first, second = (dict(zip(network.names, network.split(flat), strict=True)) for flat in (self.start, self.end))
        moved = permuted(second, groups, match_weights(first, second, groups))
        aligned = torch.cat([moved[name].reshape(-1) for name in network.names])
        self._check_same_function(aligned)
        return aligned

    def _check_same_function(self, aligned: Tensor) -> None:
        """Compare the answers of the end and of its permuted copy on a few samples."""
        inputs, _ = next(self._sampled.batches())
        few = take(inputs, slice(CHECKED_SAMPLES))
        task, network, answers = self.work.require_task(), self.work.network, []
        with evaluating(), network.batch_statistics():
            for flat in (self.end, aligned):
                network.load(flat)
                answers.append(task.logits(network(few)).double())
        self.work.sample_gradients += 2 * len(answers[0]) / 3
        shift = float((answers[1] - answers[0]).abs().max())
        if not shift <= 1e-3 * (1 + float(answers[0].abs().max())):
            raise LandscapeError(
                f"permuting the hidden units moves the logits by {shift:.3g}",
                "a network whose permutation symmetries are understood",
            )

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


def pair_gradients(
    protocol: Protocol,
    samples: int,
    batch_norm: bool,
    path_samples: int = PATH_SAMPLES,
    batch_norm_samples: int = BATCH_NORM_SAMPLES,
) -> float:
    """Sample gradients that the curve, its path and the linear path of a pair take together.

    Parameters
    ----------
    protocol : Protocol
    samples : int
        Training samples measured.
    batch_norm : bool
        Whether the networks have BatchNorm statistics to refresh.
    path_samples, batch_norm_samples : int
        As in :class:`Pair`.
    """
    points = protocol.curve_points + protocol.linear_points - 2  # both paths have the ends in common
    forward = points * min(path_samples, samples)
    if batch_norm:
        forward += 2 * min(path_samples, samples) + points * min(batch_norm_samples, samples)
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
