"""One task of a long build as it travels to a worker, and what is said of tasks that never come back."""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import mdtree
from mdtree.errors import InputError, ResourceError

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("mdtree")
_one_at_a_time = threading.Lock()


def versions() -> tuple[str, str]:
    """What decides the bytes of a result: the versions of mdtree and torch (without the build: `+cpu`)."""
    return mdtree.__version__, importlib.metadata.version("torch").partition("+")[0]


@dataclass(frozen=True)
class RemoteTask(Generic[T, R]):
    """A call of `function` on `task`, for a worker of a cluster.

    The number of torch threads and the global random state belong to a whole process, so two calls in one process
    would change each other's bytes: a worker with several threads runs them one after the other.

    Raises
    ------
    InputError
        When called where mdtree or torch is of another version than where it was made.
    """

    function: Callable[[T], R]
    task: T
    versions: tuple[str, str] = field(default_factory=versions)

    def __call__(self) -> R:
        if (here := versions()) != self.versions:
            raise InputError(
                "a worker with mdtree {} and torch {}".format(*here),
                "mdtree {} and torch {}, as where the build was started".format(*self.versions),
                "install the same versions on every machine",
            )
        with _one_at_a_time:
            return self.function(self.task)


def say_again(task: Any, attempt: int, retries: int) -> None:
    log.warning("a worker died; %s is run again (%d of %d)", task, attempt, retries)


def raise_lost(lost: Sequence[Any]) -> None:
    """Name the tasks that lost every worker they were given; nothing if there are none."""
    if lost:
        names = ", ".join(str(task) for task in lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        raise ResourceError(
            f"every worker died that was given {names}",
            "one that outlives its task",
            "all others are done; give workers more memory, or run fewer on a machine, and run the same command again",
        )


def raise_import(error: BaseException) -> None:
    """If a module missing on a worker is what `error` comes from, say so; nothing otherwise."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ModuleNotFoundError):
            raise InputError(
                f"the cluster cannot import {link.name}",
                "what started the build installed on every machine, the scheduler's too",
                "pip install mdtree-diagnosis there",
            ) from error
        link = link.__cause__ or link.__context__


class WorkerWatch:
    """Says while a cluster has no worker, and gives up after `patience` seconds of it.

    Parameters
    ----------
    cluster : str
        As named in messages.
    start_one : str
        The command that starts a worker.
    patience : float
        Seconds.
    """

    def __init__(self, cluster: str, start_one: str, patience: float) -> None:
        self._cluster, self._start_one, self._patience = cluster, start_one, patience
        self._since: float | None = None
        self._said = 0.0

    def saw(self, workers: int) -> None:
        """Take note of how many workers there are now."""
        now = time.monotonic()
        if workers:
            self._since = None
            return
        if self._since is None:
            self._since, self._said = now, -1.0
        waited = now - self._since
        if waited >= self._patience:
            raise ResourceError(
                f"{self._cluster} has had no worker for {waited:.0f} s",
                "at least one",
                f"start one ({self._start_one}) and run the same command again; what was finished is kept",
            )
        if self._said < 0 or waited - self._said >= 10:
            self._said = waited
            log.warning("%s has no worker; waiting (%.0f of %.0f s)", self._cluster, waited, self._patience)
