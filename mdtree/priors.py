"""Priors over single thresholds, in the units of the score they are added to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from mdtree.errors import InputError


class LogDensity(Protocol):
    """A prior over one threshold, up to a constant, in the units of the score (weight of correct rows)."""

    def __call__(self, thresholds: np.ndarray) -> np.ndarray:
        """Log-density at each threshold; -inf forbids it, NaN and +inf are refused."""
        ...


@dataclass(frozen=True)
class GaussianPrior:
    """Normal log-density -strength * (z(t) - z(centre))^2 / (2 spread^2), z the logarithm or the identity.

    Attributes
    ----------
    centre : float
        Most likely threshold, in the metric's unit.
    spread : float
        Standard deviation on the scale, > 0: natural-logarithm units or the metric's unit.
    scale : {"log", "linear"}
        On the log scale a threshold of 0 or less has density zero.
    strength : float
        Weight of correct rows that one unit of log-density outweighs, >= 0.
    """

    centre: float
    spread: float
    scale: Literal["log", "linear"] = "log"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.scale not in ("log", "linear"):
            raise InputError(f"prior scale {self.scale!r}", "log or linear")
        if not (0 < self.spread < math.inf and 0 <= self.strength < math.inf and math.isfinite(self.centre)):
            raise InputError(f"{self}", "a finite centre, a positive spread and a strength of 0 or more")
        if self.scale == "log" and self.centre <= 0:
            raise InputError(f"prior centre {self.centre} on the log scale", "a positive centre", "use scale linear")

    def __call__(self, thresholds: np.ndarray) -> np.ndarray:
        t = np.asarray(thresholds, dtype=float)
        if self.scale == "linear":
            z = t - self.centre
        else:
            z = np.full(t.shape, -math.inf)
            np.log(t, out=z, where=t > 0)
            z -= math.log(self.centre)
        return -0.5 * self.strength * (z / self.spread) ** 2 if self.strength else np.zeros(t.shape)
