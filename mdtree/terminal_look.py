"""What a terminal, a pipe or a log file can show: its width, colours or none, and which characters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

WIDTH = 80
"""Columns of a log file, a pipe, and of a terminal that says nothing."""
NARROWEST, WIDEST = 60, 100

MARKS = {
    "temperature_too_high": "▲",
    "temperature_too_low": "▼",
    "model_too_small": "■",
    "too_little_data": "◆",
    "healthy": "●",
    "undetermined": "?",
}
"""A mark for every verdict, where colours are not seen: hot points up, cold down."""

INKS = {
    "temperature_too_high": "31",
    "temperature_too_low": "36",
    "model_too_small": "33",
    "too_little_data": "35",
    "healthy": "32",
}
"""Colours of the terminal's own palette, which suits its ground; they stand on marks and bars, never on words."""

BOLD, FAINT = "1", "2"

BLOCKS = "▏▎▍▌▋▊▉█"
"""An eighth of a character's width, two eighths ... all of it."""

_ASCII = str.maketrans(
    {
        "→": "->",
        "±": "+/-",
        "≤": "<=",
        "≈": "~",
        "×": "x",
        "÷": "/",
        "²": "^2",
        "…": "...",
        "·": ".",
        "▲": "^",
        "▼": "v",
        "■": "#",
        "◆": "*",
        "●": "o",
        "│": "|",
        "┃": "|",
        "├": "+",
        "└": "+",
        "─": "-",
        "━": "=",
        "┄": ".",
        **dict.fromkeys(BLOCKS[:4], "."),
        **dict.fromkeys(BLOCKS[4:], "="),
    }
)


@dataclass(frozen=True)
class Look:
    """How a text is to be set.

    Attributes
    ----------
    width : int
        Columns.
    colour : bool
        Whether ANSI codes may be written. Colour never says what words or marks do not.
    unicode : bool
        Whether other characters than ASCII may be written.
    """

    width: int = WIDTH
    colour: bool = False
    unicode: bool = True

    def text(self, text: str) -> str:
        """The text in characters that can be shown; others of a name are written as ``\\u....``."""
        if self.unicode:
            return text
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")

    def paint(self, text: str, *codes: str) -> str:
        """The text between the codes of a terminal, where these may be written."""
        known = [code for code in codes if code]
        return f"\x1b[{';'.join(known)}m{text}\x1b[0m" if self.colour and known and text.strip() else text

    def mark(self, verdict: str) -> str:
        """The mark of a verdict in its colour."""
        return self.paint(self.text(MARKS.get(verdict, "?")), BOLD, INKS.get(verdict, ""))


PLAIN = Look()


def look_of(stream: TextIO, environment: Mapping[str, str] | None = None) -> Look:
    """What a stream can show.

    Parameters
    ----------
    stream : text stream
        Standard output, as a rule.
    environment : mapping of str to str, optional
        `os.environ` by default. ``NO_COLOR`` (not empty) forbids colours, whatever else is said; ``FORCE_COLOR`` and
        ``CLICOLOR_FORCE`` (neither empty nor 0) ask for them in a pipe too; ``CLICOLOR=0`` and ``TERM=dumb`` forbid
        them where nothing forces them (https://no-color.org, https://bixense.com/clicolors).
    """
    known = os.environ if environment is None else environment
    terminal = stream.isatty()
    width = shutil.get_terminal_size((WIDTH, 24)).columns if terminal else WIDTH
    return Look(
        width=min(max(width, NARROWEST), WIDEST),
        colour=_is_coloured(known, terminal),
        unicode=_encodes(getattr(stream, "encoding", None) or "ascii"),
    )


def _is_coloured(known: Mapping[str, str], terminal: bool) -> bool:
    if known.get("NO_COLOR"):
        return False
    forced = [known[name] for name in ("FORCE_COLOR", "CLICOLOR_FORCE") if known.get(name)]
    if forced:
        return any(value not in ("0", "false") for value in forced)
    return terminal and known.get("CLICOLOR") != "0" and known.get("TERM") != "dumb"


def _encodes(encoding: str) -> bool:
    try:
        "".join(map(chr, _ASCII)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
