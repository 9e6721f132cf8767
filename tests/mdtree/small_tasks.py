"""Tasks for the tests of back ends: importable by workers, and fast."""

import os
import signal
import time
from pathlib import Path

from mdtree.errors import InputError


def square(x):
    return x * x


def one_thread_environment(_):
    return os.environ.get("OMP_NUM_THREADS"), os.getpid()


def refuse_two(x):
    time.sleep(0.05)
    if x == 2:
        raise InputError("x = 2", "another number", "change it")
    return x


def kill_worker_at_three(x):
    time.sleep(0.05)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note_start(task):
    """Leave a file `index-attempt`, which holds the process, in a folder; then take a while."""
    folder, index, seconds = task
    attempt = len(list(Path(folder).glob(f"{index}-*")))
    written = Path(folder) / f".{index}-{attempt}"
    written.write_text(str(os.getpid()))
    written.rename(Path(folder) / f"{index}-{attempt}")
    time.sleep(seconds)
    return index


def starts(folder):
    """What `note_start` left: (index, attempt) -> process."""
    notes = {}
    for file in Path(folder).glob("[0-9]*"):
        index, attempt = file.name.split("-")
        notes[int(index), int(attempt)] = int(file.read_text())
    return notes


def when(_):
    """The time at the beginning and at the end, and the process."""
    begin = time.monotonic()
    time.sleep(0.1)
    return begin, time.monotonic(), os.getpid()
