"""Numbers as pictures write them: short, and never on the other side of what they are compared with."""

from __future__ import annotations


def measured(value: float, threshold: float, digits: int = 4) -> str:
    """A value with four digits, or as many more as it takes to read on its own side of the threshold."""
    for count in range(digits, 18):
        text = f"{value:.{count}g}"
        if (float(text) <= threshold) == (value <= threshold):
            return text
    return repr(float(value))


def with_error(value: float, error: float | None, threshold: float) -> str:
    """`0.44 ± 0.0063`: `measured`, and two digits of the error where there is one worth writing."""
    text = measured(value, threshold)
    return f"{text} ± {error:.2g}" if error and error > 1e-4 * abs(value) else text
