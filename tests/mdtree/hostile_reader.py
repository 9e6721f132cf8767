"""Runs the command line on one file after another, each under its own measure of time and memory.

Started as a process of its own by `Reader`: a file that kills or hangs the process is then known by name, and what
the file costs stands apart from what torch costs.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LIMIT = 10.0
"""Seconds of the processor for one file: how busy the machine is besides says nothing of the reader."""

LONGEST_WAIT = 60.0
"""Seconds on the clock after which a process is taken to hang."""


@dataclass(frozen=True)
class Reading:
    """What the command line did with one file.

    Parameters
    ----------
    code : int or None
        Exit code; None if the process died or was ended after `LONGEST_WAIT`.
    error, output : str
        What it wrote to standard error and standard output.
    seconds : float
        Of the processor, until it was done.
    bytes_more : int
        Peak of the resident memory above what the process held before its first file.
    """

    code: int | None
    error: str
    output: str
    seconds: float
    bytes_more: int


class Reader:
    """A process that reads one file after another, and is started anew when one ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, *words: str) -> Reading:
        """Run `mdtree` with these words."""
        if self.process is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "1"}
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            self._answer(60.0)  # it has imported what it needs
        assert self.process.stdin is not None
        started = time.monotonic()
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = self._answer(LONGEST_WAIT)
        if answer is None:
            self.close()
            return Reading(None, "killed", "", time.monotonic() - started, 0)
        return Reading(**json.loads(answer))

    def _answer(self, seconds: float) -> str | None:
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return (self.process.stdout.readline() or None) if selector.select(seconds) else None

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def memory(name: str) -> int:
    """A line of /proc/self/status in bytes: ``VmRSS`` now, ``VmHWM`` the peak since `forget_the_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_the_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def one_file(words: list[str], base: int, error: IO[bytes], output: IO[bytes]) -> Reading:
    from mdtree.cli import main

    for stream in (error, output):
        stream.seek(0)
        stream.truncate()
    forget_the_peak()
    started, code = time.process_time(), 0
    try:
        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    seconds, peak = time.process_time() - started, memory("VmHWM")
    return Reading(code, _text(error), _text(output), seconds, max(0, peak - base))


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def serve() -> None:
    """Answer every line of words on standard input with a line of what came of them, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile() as error, tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        os.dup2(error.fileno(), 2)
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401

        one_file(["layers", "missing"], 0, error, output)
        base = memory("VmRSS")
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            reading = one_file(json.loads(line), base, error, output)
            print(json.dumps(reading.__dict__), file=answers, flush=True)


if __name__ == "__main__":
    serve()
