"""A function in a child process that can take no more memory, time and space than it is given, and dies with us.

The child is made by fork, so that it finds everything imported, and hands back nothing but a line of JSON: what it
makes it writes to files. It gets no descriptor of its parent but those that it is to keep, cannot gain rights, is the
first that the system kills when memory is short, and is killed when its parent ends, however that happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mdtree.errors import InputError
from mdtree.service.work.endings import LONGEST_MESSAGE, LONGEST_TRACEBACK, MEMORY_WORDS, End, Ending, end_of_error
from mdtree.service.work.process_limits import Confines, confine

__all__ = ["Confines", "End", "Ending", "Report", "Watch", "confined"]

Report = Callable[[str, float], None]
"""Given to the function: says what is being done, and the share done (0...1)."""

Watch = Callable[[str, float], bool]
"""Asked by the parent while the child runs, with what the child said last: False ends it."""

_LONGEST_LINE = 64 * 2**10
_LONGEST_ERRORS = 4_000
_SAYS_EVERY_SECONDS = 0.1
_LOOKS_EVERY_SECONDS = 0.1
_OUT_OF_MEMORY = b'{"end": "out_of_memory", "message": ""}\n'


def confined(function: Callable[[Report], None], confines: Confines, watch: Watch) -> Ending:
    """Run a function in a child process and wait for its end.

    Parameters
    ----------
    function : callable
        What it returns is dropped; everything of the parent that it changes, it changes for itself alone.
    confines : Confines
    watch : callable
        Asked twice a second at most.

    Returns
    -------
    Ending

    Raises
    ------
    InputError
        This system has no fork.
    RuntimeError
        This process has other threads: a lock that one of them holds would be held for ever in the child.
    """
    _check_one_thread()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, started = os.getpid(), time.monotonic()
    child = os.fork()
    if child == 0:
        _run(function, confines, parent, writing)
    os.close(writing)
    channel = _Channel(reading)
    try:
        stopped = _watched(child, channel, started + confines.seconds, watch)
    finally:
        _kill(child)
        _, status, usage = os.wait4(child, 0)
        channel.drain()
        os.close(reading)
    end, message = (stopped, "") if stopped else _end_of(os.waitstatus_to_exitcode(status), channel, confines.errors)
    took = time.monotonic() - started
    return Ending(end, message, took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _check_one_thread() -> None:
    if not hasattr(os, "fork") or not sys.platform.startswith("linux"):
        raise InputError(f"the service cannot confine what it runs on {sys.platform}", "Linux")
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"a process with {threads} threads cannot be forked safely")


class _Channel:
    """The parent's end of the pipe: the last progress, and the last word. What is sent is no more trusted than the
    child: lines are bounded, and what is none of ours is passed over."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int = descriptor
        self.open = True
        self.said: tuple[str, float] = ("", 0.0)
        self.last_word: tuple[End, str] | None = None
        self._rest = b""
        os.set_blocking(descriptor, False)

    def wait(self, seconds: float) -> None:
        """Until something was said, or the time is over."""
        if not self.open:
            time.sleep(min(seconds, 0.005))
        elif select.select([self.descriptor], [], [], seconds)[0]:
            self._take()

    def drain(self) -> None:
        """Everything that was said before the end."""
        for _ in range(64):
            if not self.open or not select.select([self.descriptor], [], [], 0)[0]:
                return
            self._take()

    def _take(self) -> None:
        data = os.read(self.descriptor, _LONGEST_LINE)
        self.open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b"\xff"  # what follows up to the line's end makes no sense either
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self._understand(json.loads(line))

    def _understand(self, said: dict[str, Any]) -> None:
        message = str(said["message"])
        if "end" in said:
            self.last_word = (End(said["end"]), message[: max(LONGEST_MESSAGE, LONGEST_TRACEBACK)])
        else:
            self.said = (message[:200], min(1.0, max(0.0, float(said["share"]))))


def _watched(child: int, channel: _Channel, deadline: float, watch: Watch) -> End | None:
    """Wait for the child's end; why it is to be killed, or None where it ended by itself. It is not reaped yet."""
    asked = 0.0
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = time.monotonic()
        if now > deadline:
            return End.OUT_OF_TIME
        if now - asked >= 0.5:
            asked = now
            if not watch(*channel.said):
                return End.STOPPED
        channel.wait(min(_LOOKS_EVERY_SECONDS, deadline - now))
    return None


def _kill(child: int) -> None:
    """End the child and the processes it started, which are in its group; it may not have made that yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)


def _end_of(code: int, channel: _Channel, errors: Path) -> tuple[End, str]:
    if code == 0 and channel.last_word is not None:
        return channel.last_word
    words = _last_words(errors)
    if code == -signal.SIGXCPU:
        return End.OUT_OF_TIME, ""
    if code == -signal.SIGXFSZ:
        return End.FILE_TOO_LARGE, ""
    if code == -signal.SIGABRT and any(one in words for one in MEMORY_WORDS):
        return End.OUT_OF_MEMORY, ""
    by = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return End.DIED, f"{by}{': ' if words else ''}{words}"


def _last_words(errors: Path) -> str:
    """The end of what the child wrote to standard error."""
    try:
        with open(errors, "rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _LONGEST_ERRORS))
            return handle.read(_LONGEST_ERRORS).decode(errors="replace").strip()
    except OSError:
        return ""


def _run(function: Callable[[Report], None], confines: Confines, parent: int, writing: int) -> NoReturn:
    """The child, from its first to its last breath: none of its parent's code after the fork is ever reached."""
    code = 1
    try:
        confine(confines, parent, writing)
        _send(writing, _word_of(function, _Speaker(writing)))
        code = 0
    except MemoryError:
        os.write(writing, _OUT_OF_MEMORY)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _Speaker:
    def __init__(self, writing: int) -> None:
        self.writing = writing
        self.next = 0.0

    def __call__(self, text: str, share: float) -> None:
        now = time.monotonic()
        if now >= self.next:
            self.next = now + _SAYS_EVERY_SECONDS
            _send(self.writing, {"message": text[:200], "share": share})


def _send(writing: int, word: dict[str, Any]) -> None:
    data = json.dumps(word).encode() + b"\n"
    while data:
        data = data[os.write(writing, data) :]


def _word_of(function: Callable[[Report], None], say: Report) -> dict[str, Any]:
    try:
        function(say)
    except BaseException as error:
        end, message = end_of_error(error)
        return {"end": end.value, "message": message}
    return {"end": End.RETURNED.value, "message": ""}
