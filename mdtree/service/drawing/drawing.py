"""The process that draws: reports and the map of the zoo, one order after the other."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from mdtree.diagnoser import default_diagnoser, read_diagnoser
from mdtree.diagnoser_schema import Diagnoser
from mdtree.report_words import visible
from mdtree.service.logs import log_as_json

DRAWN, FAILED = b"+", b"-"
"""First byte of an answer: a page follows, or the sentence why there is none."""

_MEMORY_BYTES = 4 * 2**30
_NICENESS = 5
"""Below the server, which answers records meanwhile."""

_log = logging.getLogger("mdtree.service")


def order(what: str, diagnoses: Sequence[str]) -> bytes:
    """An order as it is sent: ``report`` with diagnoses as JSON, ``zoo_map`` or ``ready``."""
    return json.dumps([what, *diagnoses]).encode()


def draw_for_ever(channel: Connection, diagnoser: Path | None) -> None:
    """Draw what comes through the channel until its other end is gone, also by the death of the server."""
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    judge = read_diagnoser(diagnoser) if diagnoser else default_diagnoser()
    with contextlib.suppress(EOFError, OSError):
        channel.send_bytes(DRAWN)
        while True:
            what, *texts = json.loads(channel.recv_bytes())
            channel.send_bytes(_answer(what, texts, judge))


def _answer(what: str, texts: list[str], judge: Diagnoser) -> bytes:
    """A page; whatever a record holds, the process goes on."""
    try:
        return DRAWN + _DRAWINGS[what](texts, judge)
    except Exception as error:
        _log.warning("a page cannot be drawn", exc_info=error)
        return FAILED + visible(f"no page can be drawn of this ({type(error).__name__}: {error})").encode()


def _report(texts: list[str], judge: Diagnoser) -> bytes:
    # what draws takes a second to import
    from mdtree.html_report import html_report
    from mdtree.service.drawing.stored_diagnosis import diagnosis_of

    return html_report([diagnosis_of(text) for text in texts], judge).encode()


def _zoo_map(texts: list[str], judge: Diagnoser) -> bytes:
    from mdtree.service.drawing.zoo_map import zoo_map

    return json.dumps(zoo_map(judge), separators=(",", ":"), allow_nan=False).encode()


def _ready(texts: list[str], judge: Diagnoser) -> bytes:
    import mdtree.html_report  # noqa: F401  (for the first page, which then need not wait for it)

    return b""


_DRAWINGS = {"report": _report, "zoo_map": _zoo_map, "ready": _ready}


if __name__ == "__main__":
    log_as_json()
    draw_for_ever(Connection(int(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
