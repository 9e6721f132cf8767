"""What a process may take, set by itself for itself and for good: Linux alone has all of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CPU_BEYOND_SECONDS = 5
_OPEN_FILES = 1024


@dataclass(frozen=True)
class Confines:
    """What a child may take.

    Attributes
    ----------
    seconds : float
        On the clock. Its parent ends it then; should that be stopped itself, the system does, by time of the processor.
    memory_bytes : int or None
        Address space beyond what it is born with; None where that says nothing, as beside a graphics card's.
    file_bytes : int
        The largest file it may write.
    errors : Path
        Where its standard error goes.
    processes : bool
        Whether it may start threads and processes (the system counts them by user, and does not for its superuser).
    keeps : tuple of int
        Descriptors of its parent that stay open in it.
    """

    seconds: float
    memory_bytes: int | None
    file_bytes: int
    errors: Path
    processes: bool = True
    keeps: tuple[int, ...] = ()


def confine(confines: Confines, parent: int, channel: int) -> None:
    """Called first in a child: sever it from its parent, and limit it. The order matters.

    Parameters
    ----------
    confines : Confines
    parent : int
        The process that has to be alive.
    channel : int
        The descriptor that the child speaks through.
    """
    os.setsid()
    die_with_parent(parent)
    gc.freeze()  # nothing of the parent's is ever collected here, and its pages stay shared
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # whoever ends a whole group of processes means the parent
    _redirect(confines.errors)
    _close_but({0, 1, 2, channel, *confines.keeps})
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    with contextlib.suppress(OSError):  # a wish, and no limit: where it is not granted the limits hold all the same
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(confines)


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _redirect(errors: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (nothing, 1), (said, 2)):
        os.dup2(source, target)


def _close_but(kept: set[int]) -> None:
    for text in os.listdir("/proc/self/fd"):
        if int(text) not in kept:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(int(text))


def _limit(confines: Confines) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_FSIZE: confines.file_bytes,
        resource.RLIMIT_CPU: int(confines.seconds) + _CPU_BEYOND_SECONDS,
    }
    if not confines.processes:
        limits[resource.RLIMIT_NPROC] = 0
    if confines.memory_bytes is not None:
        limits[resource.RLIMIT_AS] = _address_space() + confines.memory_bytes
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        within = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (within, within))


def _address_space() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
