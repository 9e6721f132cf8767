"""The metrics of a network and its siblings: connectivity, similarity, distance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from landscape.connectivity import NEAR_DISTANCE, Pair, Path, barrier, linear_barrier_percent
from landscape.ledger import Ledger
from landscape.objective import Objective
from landscape.protocol import PAIR_METRICS, Protocol
from landscape.similarity import disagreement, linear_cka, mixup, parameter_distance

PATH_METRICS = (
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_over_chance",
    "connectivity_barrier_loss",
)


def measure_siblings(
    ledger: Ledger, objective: Objective, siblings: Sequence[Objective], protocol: Protocol, chance: float
) -> None:
    """Pair metrics as means over the siblings, with their standard error (0 for a single one).

    The series ``curve`` and ``linear_path`` are those to the first sibling.

    Parameters
    ----------
    chance : float
        Error in percent of the best constant answer on the training samples.
    """
    if not siblings:
        ledger.skip(PAIR_METRICS, "needs a sibling: the same recipe trained again from another seed")
        return
    found: dict[str, list[float]] = {name: [] for name in PAIR_METRICS}
    for sibling in siblings:
        _distance(ledger, objective, sibling, found)
        if objective.task is None:
            continue
        _similarity(ledger, objective, sibling, protocol, found)
        _paths(ledger, objective, sibling, protocol, chance, found)
    for name, values in found.items():
        if len(values) == len(siblings):
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            ledger.put(name, statistics.fmean(values), error, 0 if name == "parameter_distance" else None)


def _distance(ledger: Ledger, objective: Objective, sibling: Objective, found: dict[str, list[float]]) -> None:
    distance = parameter_distance(objective.network.flat, sibling.network.flat)
    found["parameter_distance"].append(distance)
    if distance < NEAR_DISTANCE:
        ledger.flag("sibling_too_near")


def _similarity(
    ledger: Ledger, objective: Objective, sibling: Objective, protocol: Protocol, found: dict[str, list[float]]
) -> None:
    with ledger.stage("similarity", ("disagreement_percent", "cka")):
        first, second = objective.logits(), sibling.logits()
        found["disagreement_percent"].append(disagreement(first, second))
        found["cka"].append(linear_cka(first.softmax(1), second.softmax(1)))
    with ledger.stage("similarity on mixtures", ("cka_mixup",)):
        assert objective.data is not None  # a measurement is of samples
        mixed = mixup(objective.data.inputs, protocol.mixup_alpha, protocol.seed)
        outputs = [each.logits(mixed).softmax(1) for each in (objective, sibling)]
        found["cka_mixup"].append(linear_cka(*outputs))


def _paths(
    ledger: Ledger,
    objective: Objective,
    sibling: Objective,
    protocol: Protocol,
    chance: float,
    found: dict[str, list[float]],
) -> None:
    with ledger.stage("linear path", ("linear_barrier_percent", *PATH_METRICS)):
        pair = Pair(objective, sibling, protocol)
        line = pair.linear_path()
        ledger.series.setdefault("linear_path", _series(line))
        found["linear_barrier_percent"].append(linear_barrier_percent(line))
        with ledger.stage("curve", PATH_METRICS):
            path = pair.curve_path(pair.fit_curve(_within(ledger, "curve")))
            ledger.series.setdefault("curve", _series(path))
            height = barrier(path)
            found["connectivity_peak_percent"].append(height.peak_percent)
            found["connectivity_barrier_percent"].append(height.barrier_percent)
            found["connectivity_barrier_loss"].append(height.barrier_loss)
            if chance > 0:
                found["connectivity_barrier_over_chance"].append(height.barrier_percent / chance)
        objective.sample_gradients += pair.sample_gradients


def _within(ledger: Ledger, stage: str) -> Callable[[float], None]:
    return lambda share: ledger.progress(stage, share)


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
