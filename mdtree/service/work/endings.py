"""How a child process ended, and what an error that ended it means."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from enum import StrEnum

from mdtree.errors import InputError, MDTreeError, ResourceError

LONGEST_MESSAGE = 2_000
LONGEST_TRACEBACK = 6_000

MEMORY_WORDS = ("allocate memory", "out of memory", "bad_alloc", "memory allocation of")
"""As torch, C++ and Rust say it."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class ServerFault(Exception):  # noqa: N818 -- it says whose
    """What fails by no fault of the client: its text is one sentence that a client may read; the cause is for logs."""


class End(StrEnum):
    """How a child ended."""

    RETURNED = "returned"
    REFUSED = "refused"
    """It raised an `InputError`."""
    SHORT = "short"
    """It raised a `ResourceError`."""
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_TIME = "out_of_time"
    FILE_TOO_LARGE = "file_too_large"
    DISK_FULL = "disk_full"
    FAULT = "fault"
    """It raised a `ServerFault`."""
    RAISED = "raised"
    """Anything else."""
    DIED = "died"
    """By a signal, or without a word."""
    STOPPED = "stopped"
    """The watch said so."""


@dataclass(frozen=True)
class Ending:
    """How a child ended, and what it took.

    Attributes
    ----------
    end : End
    message : str
        The sentence of an error of ours; the traceback of another one; both, on lines of their own, of a `ServerFault`;
        the signal and the last words of one that died.
    seconds : float
        On the clock.
    processor_seconds : float
    peak_bytes : int
        Of its resident memory, with what it shares with its parent.
    """

    end: End
    message: str
    seconds: float
    processor_seconds: float
    peak_bytes: int


def end_of_error(error: BaseException) -> tuple[End, str]:
    """What an error means; what it was raised for counts before what it was turned into."""
    causes = _causes(error)
    if any(isinstance(one, MemoryError) or _speaks_of_memory(one) for one in causes):
        return End.OUT_OF_MEMORY, ""
    numbers = {one.errno for one in causes if isinstance(one, OSError)}
    if errno.EFBIG in numbers:
        return End.FILE_TOO_LARGE, ""
    if numbers.intersection(_DISK_FULL):
        return End.DISK_FULL, ""
    if isinstance(error, ResourceError):
        return End.SHORT, str(error)[:LONGEST_MESSAGE]
    if isinstance(error, InputError):
        return End.REFUSED, str(error)[:LONGEST_MESSAGE]
    trace = "".join(traceback.format_exception(error, limit=-20))
    if isinstance(error, ServerFault):
        return End.FAULT, f"{' '.join(str(error).split())[:LONGEST_MESSAGE]}\n{trace}"[:LONGEST_TRACEBACK]
    return End.RAISED, trace[-LONGEST_TRACEBACK:]


def _speaks_of_memory(error: BaseException) -> bool:
    if isinstance(error, MDTreeError):
        return False
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(one in str(error).lower() for one in MEMORY_WORDS)


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what it was raised from, and so on."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and len(found) < 20:
        found.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return found
