"""From a cause and a training recipe to the concrete next value to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Advice:
    """One change of the training configuration.

    Attributes
    ----------
    parameter : str
        `learning_rate`, `batch_size`, `width` or `train_size`.
    from_value, to_value : float or None
        The value in the recipe and the one to try; None where the recipe does not tell.
    step : float
        Factor by which the parameter changes.
    text : str
        The same in words.
    """

    parameter: str
    from_value: float | None
    to_value: float | None
    step: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "parameter": self.parameter,
            "from": self.from_value,
            "to": self.to_value,
            "step": self.step,
            "text": self.text,
        }


_PARAMETER = {
    "temperature_too_high": ("learning_rate", "learning rate"),
    "temperature_too_low": ("learning_rate", "learning rate"),
    "model_too_small": ("width", "width"),
    "too_little_data": ("train_size", "training samples"),
}


def advise(failure: str, factor: float, recipe: Mapping[str, Any], reason: str | None = None) -> Advice | None:
    """The change that treats a failure mode.

    Parameters
    ----------
    failure : str
        One of the failure modes; `healthy` needs no change.
    factor : float
        By how much to change, above 1. A temperature that is too high divides by it.
    recipe : mapping
        What is known of the training: `learning_rate`, `batch_size`, `width`, `train_size`.
    reason : str, optional
        The refinement of the verdict; an unconverged network may also simply be trained for longer.

    Returns
    -------
    Advice or None
    """
    if failure not in _PARAMETER:
        return None
    parameter, name = _PARAMETER[failure]
    step = 1.0 / factor if failure == "temperature_too_high" else factor
    old = _positive(recipe.get(parameter))
    if failure.startswith("temperature") and old is None and _positive(recipe.get("batch_size")) is not None:
        parameter, name, step, old = "batch_size", "batch size", 1.0 / step, _positive(recipe.get("batch_size"))
    whole = parameter != "learning_rate"
    new = None if old is None else _rounded(old * step, whole)
    if new is not None and new == old:
        new = None
    text = f"{name} {_plain(old)} → {_plain(new)}" if old is not None and new is not None else _relative(name, step)
    if failure.startswith("temperature") and parameter == "learning_rate":
        text += _other_handle(recipe, step)
    if reason == "unconverged":
        text += ", or train longer"
    return Advice(parameter, old, new, step, text)


def _other_handle(recipe: Mapping[str, Any], step: float) -> str:
    """The same temperature by way of the batch size: noise scales as learning rate / batch size."""
    batch = _positive(recipe.get("batch_size"))
    if batch is None:
        return f" (or batch size {_times(1.0 / step)})"
    new = _rounded(batch / step, whole=True)
    return f" (or batch size {_plain(batch)} → {_plain(new)})" if new != batch else ""


def _relative(name: str, step: float) -> str:
    return f"{name} {_times(step)}"


def _times(step: float) -> str:
    return f"× {step:.3g}" if step >= 1 else f"÷ {1 / step:.3g}"


def _positive(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON knows integers of any length
        return None
    return number if math.isfinite(number) and number > 0 else None


def _rounded(value: float, whole: bool) -> float:
    if whole:
        return float(max(1, round(value)))
    return float(f"{value:.2g}")


def _plain(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}".replace(",", " ") if value >= 10_000 else f"{value:g}"
