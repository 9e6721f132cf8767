"""Logs as lines of JSON on standard error: one object an event, whatever a client wrote."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

LONGEST = 2000
LONGEST_TRACEBACK = 8000

FIELDS = ("request_id", "method", "route", "status", "seconds", "owner", "bytes_in", "bytes_out", "job", "worker")
"""What an event may say beside time, level, logger and message; nothing else of it is written."""


class JsonLines(logging.Formatter):
    """An event as a JSON object of ASCII characters: no text in it can end the line or steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; long texts are cut."""
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LONGEST],
        }
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                event[field] = value[:LONGEST] if isinstance(value, str) else value
        if record.exc_info:
            # its end says what happened
            event["traceback"] = self.formatException(record.exc_info)[-LONGEST_TRACEBACK:]
        return json.dumps(event, default=str)


def log_as_json(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Let everything this process logs be written so; called once when a server or a worker starts.

    Parameters
    ----------
    stream : text stream, optional
        Standard error by default.
    level : int
        Of this package; others say warnings and worse.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mdtree").setLevel(level)
    # a warning for each malformed request would be written by whoever sends them; they are counted instead
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.captureWarnings(True)
