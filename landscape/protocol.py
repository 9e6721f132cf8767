"""What is measured and how (:class:`Protocol`), and what it is measured on (:class:`Execution`). Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from landscape.errors import LandscapeError

ALONE_METRICS: tuple[str, ...] = (
    "train_error_percent",
    "train_loss",
    "train_error_over_chance",
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_smallest_eigenvalue",
    "hessian_trace",
    "hessian_top_eigenvalue_per_parameter",
    "hessian_trace_per_parameter",
    "gradient_norm_squared_per_parameter",
    "log_weight_growth",
    "train_loss_over_chance",
    "feature_rank_share",
    "idle_feature_share",
    "logit_spread",
    "weight_noise_loss_over_chance",
    "parameter_count",
)
"""Metrics of one network on its training data."""

TEST_METRICS: tuple[str, ...] = ("test_error_percent", "test_loss")
"""Metrics that need test data."""

PAIR_METRICS: tuple[str, ...] = (
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_over_chance",
    "connectivity_barrier_loss",
    "linear_barrier_percent",
    "cka",
    "cka_mixup",
    "disagreement_percent",
    "parameter_distance",
)
"""Metrics that need a sibling: the same recipe trained again from another seed."""

METRICS: tuple[str, ...] = ALONE_METRICS[:2] + TEST_METRICS + ALONE_METRICS[2:] + PAIR_METRICS
"""Every metric a measurement answers for, by a value or by the reason why there is none."""

BACKENDS = ("native", "pyhessian")
TRACE_MODES = ("auto", "exact", "stochastic")
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Protocol:
    """What is measured and how. Two values are comparable when their protocols are equal.

    Parameters
    ----------
    samples : int
        Most training samples used, and most test samples; a larger set is cut to a subset fixed by `seed`.
    seed : int
        Seed of the subset, of every random vector, of the curve's training and of the fresh instances.
    precision : float
        Standard error of the logarithm of the trace and of the top eigenvalue, data and estimator together, at which
        no more samples and draws are added.
    first_samples : int
        Samples on which the Hessian is measured first; doubled until `precision` is reached. A training set of at
        most twice as many is measured whole.
    eigenvalues : int
        How many of the algebraically largest Hessian eigenvalues are listed.
    eigenvalue_tolerance : float
        Residual bound of the largest eigenvalue, relative to it, at which Lanczos stops.
    density_steps, density_probes : int
        Lanczos steps and random start vectors of the spectral density; no probes, no density.
    curve_steps, curve_batch_size : int
        Adam steps that train the middle point of the Bézier curve, and samples a step.
    curve_learning_rate : float
        Size of the first Adam step, relative to the root mean square of each parameter tensor; it falls to zero
        along half a cosine.
    curve_points, linear_points : int
        Points t = 0, ..., 1 at which the curve and the straight line are evaluated. The curve's must hold the
        quarters, so `curve_points - 1` is a multiple of 4.
    path_samples, batch_norm_samples : int
        Most samples on which the points of a path are evaluated, and from which BatchNorm statistics are refreshed
        at each.
    mixup_alpha : float
        Both parameters of the Beta distribution from which mixup draws its weights.
    fresh_instances : int
        Untrained instances over which the expected squared norm at initialisation is averaged.
    backend : {"native", "pyhessian"}
        Who computes the Hessian's eigenvalue and trace.
    trace : {"auto", "exact", "stochastic"}
        Exact Gauss-Newton trace on all samples, sampled, or exact where the whole training set is measured and
        classes × samples is at most 20,000.
    """

    samples: int = 4096
    seed: int = 0
    precision: float = 0.1
    first_samples: int = 512
    eigenvalues: int = 5
    eigenvalue_tolerance: float = 1e-3
    density_steps: int = 20
    density_probes: int = 1
    curve_steps: int = 800
    curve_batch_size: int = 32
    curve_learning_rate: float = 0.1
    curve_points: int = 9
    linear_points: int = 9
    path_samples: int = 2048
    batch_norm_samples: int = 256
    mixup_alpha: float = 16.0
    fresh_instances: int = 8
    backend: str = "native"
    trace: str = "auto"

    def __post_init__(self) -> None:
        for name in ("samples", "eigenvalues", "density_steps", "curve_steps", "fresh_instances"):
            _check_integer(name, getattr(self, name), least=1)
        for name in ("seed", "density_probes"):
            _check_integer(name, getattr(self, name), least=0)
        _check_integer("first_samples", self.first_samples, least=16)
        for name in ("curve_batch_size", "path_samples", "batch_norm_samples"):
            _check_integer(name, getattr(self, name), least=2)
        _check_integer("linear_points", self.linear_points, least=3)
        _check_integer("curve_points", self.curve_points, least=5)
        if (self.curve_points - 1) % 4:
            raise LandscapeError(
                f"curve_points is {self.curve_points}", "4 k + 1 points, so that t = 1/4, 1/2, 3/4 are among them"
            )
        for name in ("precision", "eigenvalue_tolerance", "curve_learning_rate", "mixup_alpha"):
            _check_positive(name, getattr(self, name))
        _check_choice("backend", self.backend, BACKENDS)
        _check_choice("trace", self.trace, TRACE_MODES)

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name, as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """Rebuild from :meth:`to_dict`; absent fields take their defaults.

        A ``digest`` beside the fields, as saved records carry it, is checked.

        Raises
        ------
        LandscapeError
            If a key is not a field, a value is out of range, or the digest is another protocol's.
        """
        values = dict(values)
        digest = values.pop("digest", None)
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise LandscapeError(
                f"the protocol holds unknown keys: {', '.join(unknown)}", f"only {', '.join(sorted(known))}"
            )
        protocol = cls(**values)
        if digest is not None and digest != protocol.digest():
            raise LandscapeError(f"the protocol's digest is {digest}", f"{protocol.digest()}, which its values give")
        return protocol

    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON (sorted keys, no spaces).

        `precision` is left out: it says how exactly a value is known, not what it is; its standard error says the rest.
        """
        # a tolerance given as 1 and as 1.0 is the same protocol
        values = {
            field.name: float(getattr(self, field.name)) if field.type == "float" else getattr(self, field.name)
            for field in fields(self)
            if field.name != "precision"
        }
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Execution:
    """What the measurement runs on: it may move the last digits of a value, never its definition.

    Parameters
    ----------
    device : str
        A torch device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    dtype : {"float32", "float64"}
        Precision of the network's copy and of every product.
    batch_size : int
        Samples in one forward and backward pass: bounds the memory.
    threads : int
        Threads torch computes with while measuring, restored afterwards; 0 leaves them as they are.
    budget_seconds : float, optional
        Wall time after which the measurement ends with what it has; what was cut is flagged.
    """

    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int = 256
    threads: int = 1
    budget_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_choice("dtype", self.dtype, DTYPES)
        _check_integer("batch_size", self.batch_size, least=1)
        _check_integer("threads", self.threads, least=0)
        if self.budget_seconds is not None:
            _check_positive("budget_seconds", self.budget_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name, as plain JSON values."""
        return asdict(self)


def _check_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LandscapeError(f"{name} is {value!r}", f"an integer of at least {least}")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise LandscapeError(f"{name} is {value!r}", "a positive finite number")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise LandscapeError(f"{name} is {value!r}", f"one of {', '.join(choices)}")
