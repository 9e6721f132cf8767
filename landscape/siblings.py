"""The metrics of a network and its siblings: connectivity, similarity, distance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from landscape.connectivity import NEAR_DISTANCE, Pair, Path, barrier, linear_barrier_percent
from landscape.inputs import Inputs
from landscape.ledger import Ledger
from landscape.measurement import Value
from landscape.objective import Objective
from landscape.protocol import PAIR_METRICS, Protocol
from landscape.similarity import Mixtures, StreamingCKA, different_answers, parameter_distance, percent_error

PATH_METRICS = (
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_over_chance",
    "connectivity_barrier_loss",
)


def measure_siblings(
    ledger: Ledger,
    objective: Objective,
    siblings: Sequence[Objective],
    protocol: Protocol,
    chance: float,
    available: int,
    middles: Sequence[Tensor | None] = (),
) -> None:
    """Pair metrics as means over the siblings, with the standard error of that mean.

    With one sibling the standard error is that of the samples, drawn without replacement from `available`: 0 where
    they are all of them. For ``disagreement_percent`` it is the binomial one; for ``cka`` and ``cka_mixup`` that of
    :class:`StreamingCKA`; for errors along a path the binomial one at the highest point, which the ends, measured on
    the same samples, make smaller rather than larger.

    The series ``curve`` and ``linear_path`` are those to the first sibling.

    Parameters
    ----------
    chance : float
        Error in percent of the best constant answer on the training samples.
    available : int
        Training samples there are.
    middles : sequence of Tensor (P,) or None
        Of the curve to each sibling the middle point, where it was trained elsewhere; empty: none was.
    """
    if not siblings:
        ledger.skip(PAIR_METRICS, "needs a sibling: the same recipe trained again from another seed")
        return
    family = _Family(ledger, objective, siblings, protocol, available)
    family.distances()
    if objective.task is not None:
        family.similarity()
        family.similarity_on_mixtures()
        for sibling, middle in zip(siblings, middles or [None] * len(siblings), strict=True):
            family.paths(sibling, chance, middle)
    family.put_means()


class _Family:
    """A network, its siblings, and what was found of each pair: values with their standard errors."""

    def __init__(
        self,
        ledger: Ledger,
        objective: Objective,
        siblings: Sequence[Objective],
        protocol: Protocol,
        available: int,
    ) -> None:
        self.ledger = ledger
        self.objective = objective
        self.siblings = siblings
        self.protocol = protocol
        self.available = available
        self.found: dict[str, list[Value]] = {name: [] for name in PAIR_METRICS}

    def keep(self, name: str, value: float, standard_error: float, samples: int) -> None:
        """A value of the next pair, with the error it has by itself."""
        self.found[name].append(Value(value, standard_error, samples))

    def correction(self, samples: int) -> float:
        """``sqrt(1 - n / N)``, by which samples without replacement err less than those of an endless population."""
        return math.sqrt(max(0.0, 1 - samples / self.available))

    def put_means(self) -> None:
        """What is known of every sibling goes into the ledger."""
        for name, found in self.found.items():
            if len(found) < len(self.siblings):
                continue  # the stage that failed has told its reason
            values = [each.value for each in found]
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else found[0].standard_error
            self.ledger.put(name, statistics.fmean(values), error, found[0].samples)

    def distances(self) -> None:
        """Distance of the weights."""
        for sibling in self.siblings:
            distance = parameter_distance(self.objective.network.flat, sibling.network.flat)
            self.keep("parameter_distance", distance, 0.0, samples=0)
            if distance < NEAR_DISTANCE:
                self.ledger.flag("sibling_too_near")

    def similarity(self) -> None:
        """CKA and disagreement on the training samples."""
        with self.ledger.stage("similarity", ("disagreement_percent", "cka")):
            samples, correction = self.objective.samples, self.correction(self.objective.samples)
            outputs, different = self._compare("similarity", (batch[0] for batch in self.objective.batches()))
            for count in different:
                percent = 100.0 * count / samples
                self.keep("disagreement_percent", percent, correction * percent_error(percent, samples), samples)
            for found in outputs.results():
                self.keep("cka", found.value, correction * found.standard_error, samples)

    def similarity_on_mixtures(self) -> None:
        """CKA on mixtures of the training samples."""
        with self.ledger.stage("similarity on mixtures", ("cka_mixup",)):
            data = self.objective.data
            assert data is not None  # a measurement is of samples
            mixtures = Mixtures(data.inputs, self.protocol.mixup_alpha, self.protocol.seed)
            batches = mixtures.chain().split(self.objective.execution.batch_size)
            outputs, _ = self._compare("similarity on mixtures", (mixtures.at(chosen) for chosen in batches))
            for found in outputs.results():
                # a larger set is mixed anew, so that what was measured is no part of it
                error = found.standard_error if len(data) < self.available else 0.0
                self.keep("cka_mixup", found.value, error, len(data))

    def _compare(self, stage: str, batches: Iterator[Inputs]) -> tuple[StreamingCKA, list[int]]:
        """One pass: CKA of the softmax outputs, and to how many samples each sibling gives another answer."""
        samples = self.objective.samples
        outputs, different = StreamingCKA(samples), [0] * len(self.siblings)
        for inputs in batches:
            logits = [each.logits(inputs) for each in (self.objective, *self.siblings)]
            outputs.add([each.softmax(1) for each in logits])
            for number, other in enumerate(logits[1:]):
                different[number] += different_answers(logits[0], other)
            self.ledger.progress(stage, outputs.seen / samples)
        return outputs, different

    def paths(self, sibling: Objective, chance: float, middle: Tensor | None) -> None:
        """Barriers along the straight line and along the curve, whose middle point may be known."""
        pair: Pair | None = None
        with self.ledger.stage("linear path", ("linear_barrier_percent", *PATH_METRICS)):
            pair = Pair(self.objective, sibling, self.protocol)
            self._straight_line(pair, sibling)
        if pair is None:
            return
        with self.ledger.stage("curve", PATH_METRICS):
            if middle is None:
                curve = pair.fit_curve(partial(self.ledger.progress, "curve"))
            else:
                curve = pair.fitted_curve(middle)
            self._curve(pair, sibling, pair.curve_path(curve), chance)
        self.objective.sample_gradients += pair.sample_gradients

    def _straight_line(self, pair: Pair, sibling: Objective) -> None:
        line = pair.linear_path()
        self._keep_series("linear_path", sibling, line)
        height = linear_barrier_percent(line)
        error = max(self._path_error(pair, percent) for percent in line.error_percent[1:-1])
        self.keep("linear_barrier_percent", height, error, pair.path_samples)

    def _curve(self, pair: Pair, sibling: Objective, curve: Path, chance: float) -> None:
        self._keep_series("curve", sibling, curve)
        height, samples = barrier(curve), pair.path_samples
        error = self._path_error(pair, height.peak_percent)
        self.keep("connectivity_peak_percent", height.peak_percent, error, samples)
        self.keep("connectivity_barrier_percent", height.barrier_percent, error, samples)
        loss_error = self.correction(samples) * height.loss_deviation / math.sqrt(samples)
        self.keep("connectivity_barrier_loss", height.barrier_loss, loss_error, samples)
        if chance > 0:
            over_chance = height.barrier_percent / chance
            self.keep("connectivity_barrier_over_chance", over_chance, error / chance, samples)

    def _path_error(self, pair: Pair, percent: float) -> float:
        return self.correction(pair.path_samples) * percent_error(percent, pair.path_samples)

    def _keep_series(self, name: str, sibling: Objective, path: Path) -> None:
        """For drawing, from the first sibling."""
        if sibling is self.siblings[0]:
            self.ledger.series[name] = _series(path)


def _series(path: Path) -> dict[str, Any]:
    return {
        "t": list(path.t),
        "error_percent": [_number(e) for e in path.error_percent],
        "loss": [_number(v) for v in path.loss],
        "batch_norm_refreshed": path.refreshed,
        "end_shift": {
            "error_percent": [_number(e) for e in path.end_shift_error_percent],
            "loss": [_number(v) for v in path.end_shift_loss],
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN
