"""One look for all pictures: colours with marks and hatches that hold in grey, fonts, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, NullLocator

from mdtree.specification import shown

COLOURS = {
    "temperature_too_high": "#d55e00",
    "temperature_too_low": "#0072b2",
    "model_too_small": "#e69f00",
    "too_little_data": "#cc79a7",
    "healthy": "#009e73",
    "undetermined": "#767676",
}
"""A colour for every verdict (Okabe and Ito, 2008: told apart with any kind of colour vision)."""

_ON_DARK = {"temperature_too_low": "#56b4e9", "healthy": "#2bc493", "temperature_too_high": "#f07f2e",
            "undetermined": "#9a9a9a"}  # fmt: skip

MARKERS = {
    "temperature_too_high": "^",
    "temperature_too_low": "v",
    "model_too_small": "s",
    "too_little_data": "D",
    "healthy": "o",
    "undetermined": "X",
}
"""A mark for every verdict, where colours are not seen: hot points up, cold down."""

HATCHES = {
    "temperature_too_high": "////",
    "temperature_too_low": "\\\\\\\\",
    "model_too_small": "||||",
    "too_little_data": "xxxx",
    "healthy": "",
    "undetermined": "----",
}
"""A hatch for every verdict, for areas."""

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#767676")
_LINES_ON_DARK = ("#56b4e9", "#f07f2e", "#2bc493", "#cc79a7", "#e69f00", "#9a9a9a")
LINE_MARKERS = ("o", "D", "s", "^", "v", "X")

FONTS = ("DejaVu Sans", "Segoe UI", "Helvetica", "Arial", "sans-serif")


@dataclass(frozen=True)
class Ink:
    """Colours of what is no data: `text`, fainter text, rules, the ground and panels on it."""

    text: str
    faint: str
    rule: str
    ground: str
    panel: str


LIGHT = Ink(text="#1f2328", faint="#656d76", rule="#d3d9df", ground="#ffffff", panel="#f4f6f8")
DARK = Ink(text="#e6eaef", faint="#9aa5b1", rule="#3b434c", ground="#14181d", panel="#20262d")


@contextmanager
def style(dark: bool = False) -> Iterator[None]:
    """The look of the project's pictures, for what is drawn inside; matplotlib's settings are as before afterwards.

    Parameters
    ----------
    dark : bool
        Light ink on a dark ground.
    """
    with mpl.rc_context(_settings(DARK if dark else LIGHT)):
        yield


def _settings(ink: Ink) -> Any:
    return {
        "font.family": list(FONTS[:1]),
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "text.color": ink.text,
        "axes.labelcolor": ink.text,
        "axes.titlecolor": ink.text,
        "xtick.color": ink.faint,
        "ytick.color": ink.faint,
        "xtick.labelcolor": ink.text,
        "ytick.labelcolor": ink.text,
        "axes.edgecolor": ink.faint,
        "figure.facecolor": ink.ground,
        "axes.facecolor": ink.ground,
        "savefig.facecolor": ink.ground,
        "grid.color": ink.rule,
        "hatch.linewidth": 0.6,
    }


def is_dark() -> bool:
    """Whether the ink in use is light, so that the ground must be dark."""
    return brightness(mpl.rcParams["text.color"]) > 0.5


def ink() -> Ink:
    """The ink that suits the settings in use."""
    return DARK if is_dark() else LIGHT


def colour(verdict: str) -> str:
    """The colour of a verdict on the ground in use; unknown names are grey."""
    plain = COLOURS.get(verdict, COLOURS["undetermined"])
    return _ON_DARK.get(verdict, plain) if is_dark() else plain


def line_colour(number: int) -> str:
    """The colour of the n-th line of a picture, counted from 0; after six they begin anew."""
    return (_LINES_ON_DARK if is_dark() else LINES)[number % len(LINES)]


def brightness(name: str) -> float:
    """Relative luminance of a colour, 0 (black) to 1 (white), as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(name)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_on(face: str) -> str:
    """Black or white ink, whichever has more contrast with an area of this colour."""
    return "#ffffff" if 1.05 / (brightness(face) + 0.05) >= (brightness(face) + 0.05) / 0.05 else "#000000"


def mixed(name: str, ground: str, share: float) -> str:
    """`share` of a colour, the rest of it the ground: a tint without transparency."""
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(to_rgb(name), to_rgb(ground), strict=True))
    return to_hex((red, green, blue))


def new_axes(width: float, height: float) -> Axes:
    """One panel in a figure of its own (inches), which pyplot knows nothing of: nothing to close."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a true minus where it is below 0."""
    return f"{value:+.{digits}f}".replace("-", "−")


def words(name: str) -> str:
    """A name of the project for people: `model_too_small` is "model too small"."""
    return name.replace("_", " ")


def plain(name: str, longest: int = 60) -> str:
    """A name out of a file, fit to be drawn: one line, no control characters, no formula, shortened in the middle."""
    text = shown(name)
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text.replace("$", r"\$")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decades(axis: Axis) -> None:
    """Label a logarithmic axis at powers of ten, as text (10⁻³): a formula would be typeset as one, at length."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))


def power_of_ten(value: float) -> str:
    """`10⁻³`; from a hundredth to a hundred the number itself."""
    exponent = math.log10(value) if value > 0 else 0.0
    if value <= 0 or exponent != round(exponent) or -2 <= exponent <= 2:
        return f"{value:g}"
    return "10" + str(round(exponent)).translate(_RAISED)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a line of text in points."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=FONTS[0], size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])
