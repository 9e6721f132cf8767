"""One writer at a time in a folder, by a lock that the operating system lets go of when its holder ends, however."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from mdtree.errors import InputError

LOCK_NAME = "lock"
_PATIENCE_SECONDS = 0.5
"""How long a lock is tried for: whoever only looks whether somebody holds it does so for an instant."""


class WriterLock:
    """The right to write in a folder; the folder is made if it is not there.

    Child processes that run another program (joblib's workers) do not inherit the lock: it ends with its holder.

    Parameters
    ----------
    folder : path
    purpose : path
        What is being written, for the message.

    Raises
    ------
    InputError
        Another process holds the lock (it is named), or the folder cannot be written to or locked.
    """

    def __init__(self, folder: Path, purpose: Path) -> None:
        self._descriptor: int | None = _acquire(folder, purpose)

    def release(self) -> None:
        """Let go of the lock; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_holder(folder: Path) -> str | None:
    """Who holds the lock of a folder ("process 123 on host h (started ...)"); None where nobody does.

    A shared lock is asked for, for an instant: writers try longer than that, so none is turned away by a look.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(descriptor)
    finally:
        os.close(descriptor)
    return None


def _acquire(folder: Path, purpose: Path) -> int:
    """A file descriptor that holds the lock."""
    last_try = time.monotonic() + _PATIENCE_SECONDS
    while True:
        descriptor = _opened(folder)
        held_by = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held_by = _signature(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise InputError(
                f"{folder} cannot be locked ({_reason(error)})",
                "a file system with locks",
                "write on a local disk and copy the table",
            ) from error
        if held_by is None and _is_still_there(descriptor, folder / LOCK_NAME):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)
        if held_by is not None and time.monotonic() > last_try:
            raise InputError(
                f"{purpose} is being built by {held_by}",
                "one builder at a time",
                "wait for it or end it, or choose another output file",
            )
        time.sleep(0.02)


def _opened(folder: Path) -> int:
    for attempt in range(10):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            # between the two lines the holder may have finished and removed the folder
            if not isinstance(error, FileNotFoundError) or attempt == 9:
                raise InputError(
                    f"{folder} cannot be written ({_reason(error)})", "a path in a folder you may write to"
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _is_still_there(descriptor: int, file: Path) -> bool:
    """Whether the locked file is the one that others find by its name, not one that was removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Say in the lock who holds it. For messages only: the lock itself decides, so a full disk does not matter here."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"process {os.getpid()} on host {socket.gethostname()} (started {now})"
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _signature(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
