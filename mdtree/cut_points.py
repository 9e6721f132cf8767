"""Where between two training values a threshold is put, and how many digits of it are kept."""

from __future__ import annotations

import math
from typing import Literal

from mdtree.errors import InputError

Midpoint = Literal["geometric", "arithmetic"]
MIDPOINTS: tuple[Midpoint, ...] = ("geometric", "arithmetic")

DIGITS = 6
"""Significant digits a threshold is rounded to where the interval allows it, and at least printed with."""


def check_midpoint(midpoint: str) -> None:
    """Refuse a midpoint rule that is not one of `MIDPOINTS`."""
    if midpoint not in MIDPOINTS:
        raise InputError(f"midpoint {midpoint!r}", f"one of {', '.join(MIDPOINTS)}")


def cut_point(low: float, high: float, midpoint: Midpoint = "geometric") -> float:
    """A threshold t with low <= t < high, near the middle and short to print.

    The middle is sqrt(low * high) where the rule is `"geometric"` and both ends are positive (loss-landscape metrics
    span decades, and the middle of their logarithms is then the middle), (low + high) / 2 otherwise. It is rounded to
    six significant digits, or to as many more as it takes to stay strictly inside; rounding happens here, once, so
    that the threshold that is printed is the threshold that decides.

    Parameters
    ----------
    low, high : float
        Finite ends of the interval in which every threshold splits the training rows alike, low <= high. Rows at
        `low` go left ("<= goes left"), rows at `high` go right.
    midpoint : {"geometric", "arithmetic"}
        The rule for the middle.

    Returns
    -------
    float
        The threshold; `low` itself where no other number lies between the two.
    """
    if midpoint == "geometric" and low > 0 and high > 0:
        middle = math.sqrt(low) * math.sqrt(high)
    else:
        middle = low / 2 + high / 2
    for digits in range(DIGITS, 18):
        rounded = float(f"{middle:.{digits}g}")
        if low < rounded < high:
            return rounded
    return low


def format_threshold(threshold: float) -> str:
    """The threshold with six significant digits if these are exact, else as short as reads back the same number."""
    short = f"{threshold:.{DIGITS}g}"
    return short if float(short) == threshold else repr(float(threshold))
