"""The record of one measurement: values with their errors, what could not be measured and why, and the cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from landscape.protocol import Execution, Protocol


@dataclass(frozen=True)
class Value:
    """A measured number.

    Parameters
    ----------
    value : float
        On its natural scale; always finite.
    standard_error : float
        Error of the estimator on the data given: 0 for what is computed exactly, the residual bound for an
        eigenvalue, the sampling error where only a subset of the training data was used, and the sampling error of
        the population for test metrics. Over several siblings: the standard error of their mean.
    samples : int
        Samples the value was computed from.
    """

    value: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class NotMeasured:
    """A metric without a value, and the reason in one line."""

    metric: str
    reason: str


@dataclass(frozen=True)
class Cost:
    """What the measurement cost: wall time, and sample gradients (forward + backward of one sample is 1)."""

    seconds: float
    sample_gradients: float


@dataclass(frozen=True)
class Measurement:
    """Everything measured on one network and its siblings; plain values throughout.

    Parameters
    ----------
    metrics : dict of str to Value
        The metrics that have a value.
    not_measured : tuple of NotMeasured
        The others, each with its reason; together the two hold every name of ``METRICS``.
    series : dict
        ``spectral_density``, ``curve`` and ``linear_path`` where measured: lists for drawing, never for deciding.
    layers : list of dict
        Per parameter tensor: name, shape, parameters, weight_norm, gradient_norm.
    flags : tuple of str
        What a reader must know about the values, for example ``sibling_too_near``.
    cost : Cost
    protocol : Protocol
    execution : Execution
    """

    metrics: dict[str, Value]
    not_measured: tuple[NotMeasured, ...]
    series: dict[str, Any]
    layers: list[dict[str, Any]]
    flags: tuple[str, ...]
    cost: Cost
    protocol: Protocol
    execution: Execution

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able values; the protocol carries its digest."""
        return {
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            "not_measured": [asdict(item) for item in self.not_measured],
            "series": self.series,
            "layers": self.layers,
            "flags": list(self.flags),
            "cost": asdict(self.cost),
            "protocol": {**self.protocol.to_dict(), "digest": self.protocol.digest()},
            "execution": self.execution.to_dict(),
        }
