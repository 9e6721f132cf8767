"""What a measurement has found so far: values, reasons, series, flags."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from landscape.errors import LandscapeError
from landscape.failures import first_line, out_of_memory
from landscape.measurement import NotMeasured, Value
from landscape.protocol import METRICS

Progress = Callable[[str, float], None]
"""Told a stage's name and the share of that stage that is done."""


class Ledger:
    """Values and reasons, kept so that every metric ends with one or the other.

    Parameters
    ----------
    samples : int
        Training samples, of which a value is computed unless said otherwise.
    progress : Progress, optional
    """

    def __init__(self, samples: int, progress: Progress | None = None) -> None:
        self.samples = samples
        self.progress = progress or _silent
        self.metrics: dict[str, Value] = {}
        self.series: dict[str, Any] = {}
        self.layers: list[dict[str, Any]] = []
        self._reasons: dict[str, str] = {}
        self._flags: dict[str, None] = {}  # a set in the order they were raised

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags, each once."""
        return tuple(self._flags)

    @property
    def not_measured(self) -> tuple[NotMeasured, ...]:
        """Every metric without a value, with its reason."""
        missing = [name for name in METRICS if name not in self.metrics]
        return tuple(NotMeasured(name, self._reasons[name]) for name in missing)

    def flag(self, name: str, instead_of: str | None = None) -> None:
        """Raise a flag, in the place of those that begin with `instead_of`."""
        if instead_of is not None:
            self._flags = {flag: None for flag in self._flags if not flag.startswith(instead_of)}
        self._flags[name] = None

    def put(self, name: str, value: float, standard_error: float = 0.0, samples: int | None = None) -> None:
        """Keep a value, unless it or its error is not finite: then that is the reason why there is none."""
        if math.isfinite(value) and math.isfinite(standard_error):
            count = self.samples if samples is None else samples
            self.metrics[name] = Value(float(value), float(standard_error), count)
        else:
            self.skip([name], f"not finite: {value} with standard error {standard_error}")

    def skip(self, names: Sequence[str], reason: str) -> None:
        """Give the reason for every name that has neither value nor reason yet."""
        for name in names:
            if name not in self.metrics:
                self._reasons.setdefault(name, reason)

    @contextmanager
    def stage(self, name: str, metrics: Sequence[str]) -> Iterator[None]:
        """Work for `metrics`; where it fails on its own account they have a reason, and the rest goes on.

        Running out of memory is not the work's own account, and is raised.
        """
        self.progress(name, 0.0)
        try:
            yield
        except LandscapeError as error:
            self.skip(metrics, str(error))
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self.skip(metrics, f"{type(error).__name__}: {first_line(error)}")
        self.progress(name, 1.0)


def _silent(stage: str, share: float) -> None:
    return None
