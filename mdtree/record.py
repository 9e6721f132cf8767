"""The measured record: what the measuring half hands to the deciding half. Plain data, no torch.

A record says what was measured on one checkpoint (and its siblings), by which protocol, at which cost, and what could
not be measured and why. It is written and read as JSON, and a saved one can be diagnosed and reported anywhere.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.zoo import METRICS, PAIR_METRICS, SIGNALS, TEST_METRICS

SCHEMA_VERSION = 1
RECORD_METRICS = (*METRICS[: -len(PAIR_METRICS)], "parameter_count", *PAIR_METRICS)
"""Every metric a record accounts for: measured, or listed with the reason why not."""

_SHARES = frozenset({"train_error_percent", "test_error_percent", "disagreement_percent"})


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes
    ----------
    value : float
        On its natural scale (no logarithms).
    standard_error : float
        Of the estimate, given the data it was measured on; 0 where the number is exact.
    samples : int
        Inputs it was measured on.
    """

    value: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class NotMeasured:
    """A metric that has no value, and why."""

    metric: str
    reason: str


@dataclass(frozen=True)
class Record:
    """Everything measured on one checkpoint.

    Attributes
    ----------
    checkpoint : dict
        `path`, `sha256`, `weights_from`, `model` and `data` (their specifications), `data_set` (its name), `siblings`.
    recipe : dict
        What is known of the training: `learning_rate`, `batch_size`, `width`, `train_size` ...
    protocol, execution : dict
        What is measured and how (with its `digest`), and on which device and precision.
    metrics : dict of str to Metric
        As JSON those of `mdtree.zoo.SIGNALS` stand apart, under `signals`.
    not_measured : tuple of NotMeasured
    series : dict
        Curves for drawing: `spectral_density`, `curve`, `linear_path`. They never reach a split.
    layers : tuple of dict
    flags : tuple of str
    cost : dict
        `seconds`, and `sample_gradients`: forward and backward of one sample count 1, a forward alone 1/3. `cached`
        is true where the numbers were kept from an earlier run.
    """

    checkpoint: Mapping[str, Any]
    recipe: Mapping[str, Any]
    protocol: Mapping[str, Any]
    execution: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    not_measured: tuple[NotMeasured, ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Mapping[str, Any], ...] = ()
    flags: tuple[str, ...] = ()
    cost: Mapping[str, float] = field(default_factory=lambda: {"seconds": 0.0, "sample_gradients": 0.0})

    @property
    def evidence(self) -> str:
        """Which measurements are at hand: `alone`, `alone_test`, `sibling` or `sibling_test`."""
        pair = any(name in self.metrics for name in PAIR_METRICS)
        test = any(name in self.metrics for name in TEST_METRICS)
        return ("sibling" if pair else "alone") + ("_test" if test else "")

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able values, names as in the file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "checkpoint": dict(self.checkpoint),
            "recipe": dict(self.recipe),
            "protocol": dict(self.protocol),
            "execution": dict(self.execution),
            "evidence": self.evidence,
            "metrics": {name: vars(m).copy() for name, m in self.metrics.items() if name not in SIGNALS},
            "signals": {name: vars(m).copy() for name, m in self.metrics.items() if name in SIGNALS},
            "not_measured": [{"metric": n.metric, "reason": n.reason} for n in self.not_measured],
            "series": dict(self.series),
            "layers": [dict(layer) for layer in self.layers],
            "flags": list(self.flags),
            "cost": dict(self.cost),
        }


def record_from_dict(values: Any, source: str = "the record") -> Record:
    """Check and rebuild a record.

    Parameters
    ----------
    values : object
        Parsed JSON.
    source : str
        How to call it in an error.

    Raises
    ------
    InputError
        Not a record, of another schema version, or a metric that is unknown or not finite.
    """
    if not isinstance(values, dict) or "metrics" not in values:
        raise InputError(f"{source} is not a measured record", "the JSON that `mdtree measure --json` prints")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{source} has schema version {values.get('schema_version')!r}",
            f"version {SCHEMA_VERSION}",
            "measure the checkpoint again",
        )
    try:
        found = {**values["metrics"], **values.get("signals", {})}
        metrics = {name: _metric(name, m, source) for name, m in found.items()}
        return Record(
            checkpoint=dict(values["checkpoint"]),
            recipe=dict(values["recipe"]),
            protocol=dict(values["protocol"]),
            execution=dict(values["execution"]),
            metrics={name: metrics[name] for name in RECORD_METRICS if name in metrics},
            not_measured=tuple(NotMeasured(n["metric"], n["reason"]) for n in values["not_measured"]),
            series=dict(values["series"]),
            layers=tuple(dict(layer) for layer in values["layers"]),
            flags=tuple(values.get("flags", ())),
            cost=_cost(values["cost"], source),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} is not a complete record ({type(error).__name__}: {error})") from error


def _cost(values: Mapping[str, Any], source: str) -> dict[str, float]:
    """What was spent, as numbers; ``cached`` says that it was spent earlier."""
    cost = {name: value if isinstance(value, bool) else float(value) for name, value in values.items()}
    if not all(math.isfinite(value) for value in cost.values()):
        raise InputError(f"{source}: a cost is not finite", "finite numbers")
    return cost


def _metric(name: str, values: Mapping[str, Any], source: str) -> Metric:
    if name not in RECORD_METRICS:
        raise InputError(f"{source} holds the unknown metric {name!r}", f"one of {', '.join(RECORD_METRICS)}")
    metric = Metric(float(values["value"]), float(values["standard_error"]), int(values["samples"]))
    if not math.isfinite(metric.value) or not metric.standard_error >= 0:
        raise InputError(f"{source}: {name} is {metric.value} ± {metric.standard_error}", "finite numbers")
    if name in _SHARES and not 0 <= metric.value <= 100:
        raise InputError(f"{source}: {name} is {metric.value}", "a number from 0 to 100")
    return metric


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse a JSON file of at most 64 MB.

    Raises
    ------
    InputError
        Missing, too large or not JSON.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if file.stat().st_size > 64_000_000:
        raise InputError(f"{file} holds {file.stat().st_size / 1e6:.0f} MB", "at most 64 MB of JSON")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({error})") from error


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read the record that `mdtree measure --json` (or `mdtree diagnose --json`) printed."""
    return record_from_dict(read_json(path), str(path))
