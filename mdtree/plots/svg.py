"""A drawing as an SVG that stands alone: text stays text, equal data give equal bytes, no id meets another's."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdtree.plots.style import FONTS, style

T = TypeVar("T")

_LOCK = threading.Lock()
"""matplotlib's settings are global: one picture at a time."""


def svg(draw: Callable[[T], Axes | Figure], data: T, dark: bool = False, title: str = "") -> str:
    """A drawing as one `<svg>` element on a transparent ground, to be put into a page as it is.

    Parameters
    ----------
    draw : callable
        One of this package's `draw_*`, called with the data alone; or anything that makes a figure of them.
    data : object
        What its `*_data` computed.
    dark : bool
        Drawn for a dark page.
    title : str
        What the picture shows, for those who hear the page; escaped here.

    Returns
    -------
    str
        Equal bytes for equal input and versions. Fonts are named, none is fetched; ids begin with a digest of the
        picture, so that several pictures can stand in one page.
    """
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "mdtree"}
    with _LOCK, style(dark), mpl.rc_context(settings), warnings.catch_warnings():
        # a name in a script that the font lacks is drawn by the reader's own
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = draw(data)
        figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
        assert figure is not None  # axes always are in one
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _alone(buffer.getvalue(), "".join(c if c.isprintable() else " " for c in title))


def _alone(text: str, title: str) -> str:
    text = text[text.index("<svg") :].rstrip() + "\n"
    text = re.sub(r" *<metadata>.*?</metadata>\n?", "", text, flags=re.DOTALL)
    text = text.replace(f"'{FONTS[0]}'", ", ".join(f"'{name}'" if " " in name else name for name in FONTS))
    # what matplotlib says of all elements would hold for the whole page
    text = re.sub(r' *<defs>\s*<style type="text/css">[^<]*</style>\s*</defs>\n?', "", text)
    text = _short(text)
    digest = hashlib.sha256((text + title).encode()).hexdigest()[:10]
    text = re.sub(r'\bid="', f'id="p{digest}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1p{digest}-", text)
    head, rest = text.split(">", 1)
    # as wide as its place, and never wider than it was drawn
    width = re.search(r'\bwidth="([\d.]+)pt"', head)
    head = re.sub(r' (width|height)="[\d.]+pt"', "", head)
    look = "stroke-linejoin: round; stroke-linecap: butt; width: 100%; height: auto"
    if width is not None:
        look += f"; max-width: {float(width[1]) * 4 / 3:.0f}px"
    head += f' style="{look}"'
    name = escape(title, quote=True)
    head += f' role="img" aria-label="{name}"' if title else ' aria-hidden="true"'
    return f"{head}>" + (f"\n <title>{escape(title)}</title>" if title else "") + rest


_ATTRIBUTE = re.compile(r'\b(d|x|y|transform)="([^"]*)"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_MARKS = re.compile(r"<g([^<>]*)>((?:\s*<use [^<>]*/>)+)(\s*)</g>")
_LOOK = re.compile(r' style="([^"]*)"')


def _short(text: str) -> str:
    """Hundredths of a point, and the look of a row of marks said once."""

    def rounded(found: re.Match[str]) -> str:
        return f'{found[1]}="' + _DECIMALS.sub(r"\1", found[2]) + '"'

    def said_once(found: re.Match[str]) -> str:
        looks = set(_LOOK.findall(found[2]))
        if len(looks) != 1:
            return found[0]
        return f'<g{found[1]} style="{looks.pop()}">{_LOOK.sub("", found[2])}{found[3]}</g>'

    return _MARKS.sub(said_once, _ATTRIBUTE.sub(rounded, text))
