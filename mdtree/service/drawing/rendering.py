"""Pages and the map of the zoo are drawn in one process beside the server, which is replaced if it dies or hangs."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from mdtree.errors import MDTreeError
from mdtree.service.drawing.drawing import DRAWN, order

LONGEST_SECONDS = 60.0
"""For one page, and for the start of the process."""

MOST_WAITING = 8
"""Pages that are waited for at the same time, the one being drawn among them."""

_log = logging.getLogger("mdtree.service")


class BusyError(MDTreeError):
    """As many pages are waited for as may be."""


class EndedError(MDTreeError):
    """The process that draws took longer than its time, or ended; the next page gets a new one."""


class NotDrawnError(MDTreeError):
    """What a page is to show is too odd to be drawn."""


class Renderer:
    """Draws, one page after the other, in a process of its own.

    The process is started when it is first needed, or by `start`. It gets text and gives back bytes: nothing that is
    sent between the two is unpickled. It ends with the server, however that ends.

    Parameters
    ----------
    diagnoser : Path or None
        Stands behind the pages; None for the embedded one.
    seconds : float
        For one page.
    waiting : int
        Callers at the same time.
    """

    def __init__(
        self, diagnoser: Path | None = None, seconds: float = LONGEST_SECONDS, waiting: int = MOST_WAITING
    ) -> None:
        self._diagnoser = diagnoser
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(waiting)
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._map: bytes | None = None
        self._closed = False

    def report(self, diagnoses: Sequence[str]) -> bytes:
        """The page of one diagnosis, or the comparison of several, out of their JSON; to be called in a thread.

        Raises
        ------
        BusyError
            Too many pages are waited for.
        EndedError
            It took longer than its time, or ended the process.
        NotDrawnError
            It cannot be drawn.
        """
        return self._drawn(order("report", diagnoses))

    def zoo_map(self) -> bytes:
        """The background of the phase diagram as JSON (see `mdtree.service.drawing.zoo_map`); errors as of `report`."""
        if self._map is None:
            self._map = self._drawn(order("zoo_map", ()))
        return self._map

    def start(self) -> None:
        """Start the process and wait until it can draw, so that the first page does not wait for imports."""
        self._closed = False
        try:
            self._drawn(order("ready", ()))
        except MDTreeError as error:
            if not self._closed:
                _log.warning("the process that draws pages is not ready: %s", error)

    def close(self) -> None:
        """End the process; nothing is drawn until the next `start`."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        with self._turn:
            self._stop()

    def _drawn(self, message: bytes) -> bytes:
        if not self._places.acquire(blocking=False):
            raise BusyError("too many pages are being drawn", "", "try again in a moment")
        try:
            with self._turn:
                return self._answer(message)
        finally:
            self._places.release()

    def _answer(self, message: bytes) -> bytes:
        if self._closed:
            raise BusyError("the server is stopping", "", "try again in a moment")
        deadline = time.monotonic() + self._seconds
        try:
            channel = self._running(deadline)
            channel.send_bytes(message)
            answer = self._received(channel, deadline)
        except EndedError:
            self._stop()
            raise
        except (OSError, EOFError) as error:
            # gone between two pages, or by this one
            self._stop()
            raise EndedError("the process that draws pages ended", "", "try again") from error
        if answer[:1] != DRAWN:
            raise NotDrawnError(answer[1:].decode())
        return answer[1:]

    def _received(self, channel: Connection, deadline: float) -> bytes:
        if not channel.poll(max(0.0, deadline - time.monotonic())):
            raise EndedError(f"the page took more than {self._seconds:g} s to draw", "", "compare fewer jobs")
        return channel.recv_bytes()

    def _running(self, deadline: float) -> Connection:
        """The process, started if there is none or the last one ended."""
        if self._process is not None and self._channel is not None and self._process.poll() is None:
            return self._channel
        self._stop()
        ours, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-m", "mdtree.service.drawing.drawing", str(theirs.fileno())]
            command += [str(self._diagnoser)] if self._diagnoser else []
            # in a session of its own: a terminal's Ctrl-C is for the server, which then ends it
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._channel = ours
        # it says when it listens: what is sent before would wait, without end, for a process that hangs
        self._received(ours, deadline)
        return ours

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
