"""Where the tasks of a long build run: processes of this machine, or a cluster that is already there.

A task is a small picklable specification, never a tensor; its result comes back as soon as it is finished, and the
caller alone writes. A worker may die at any moment (killed, out of memory, its machine gone): what it had in hand is
run again elsewhere, what was finished stays finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import joblib

from mdtree.dask_cluster import run_on_dask
from mdtree.errors import InputError
from mdtree.ray_cluster import run_on_ray
from mdtree.worker_processes import run_on_processes

T = TypeVar("T")
R = TypeVar("R")

BACKENDS = ("loky", "dask", "ray")


@dataclass(frozen=True)
class Backend:
    """Where tasks run.

    Attributes
    ----------
    name : str
        `loky`: processes of this machine. `dask`: a dask.distributed cluster (extra `[dask]`). `ray`: a Ray cluster.
    workers : int
        Of `loky`: processes, each with one thread; -1 means one per core, 1 this very process. The others use
        what the cluster has.
    scheduler : str
        Address of the cluster: `tcp://host:8786` for dask; `auto` or `host:6379` for Ray.
    patience : float
        Seconds to wait while a cluster has no worker at all, at the start or later, before giving up.

    Raises
    ------
    InputError
        Unknown name, no workers, an address missing or superfluous.
    """

    name: str = "loky"
    workers: int = -1
    scheduler: str = ""
    patience: float = 60.0

    @property
    def processes(self) -> int | None:
        """Worker processes; None of a cluster, where it is not known."""
        if self.name != "loky":
            return None
        return int(joblib.cpu_count()) if self.workers == -1 else self.workers

    def __post_init__(self) -> None:
        if self.name not in BACKENDS:
            raise InputError(f"backend {self.name!r}", f"one of {', '.join(BACKENDS)}")
        if self.workers != -1 and self.workers < 1:
            raise InputError(f"workers = {self.workers}", "1 or more, or -1 for one per core")
        if self.name == "loky" and self.scheduler:
            raise InputError(f"scheduler {self.scheduler} for loky, which runs on this machine", "backend dask or ray")
        if self.name != "loky" and not self.scheduler:
            raise InputError(f"backend {self.name} without a scheduler", "the address of one")


def run_tasks(
    function: Callable[[T], R], tasks: Sequence[T], backend: Backend, *, retries: int = 3
) -> Iterator[tuple[int, R]]:
    """Run `function` on every task; give back the results as they finish.

    Parameters
    ----------
    function : callable
        At the top level of an importable module, on every worker. It sees to its own number of torch threads; two
        calls never run at once in one process.
    tasks : sequence
        Small and picklable; `str(task)` names one in messages.
    backend : Backend
    retries : int
        How often a task whose worker died is run again.

    Yields
    ------
    tuple of int and result
        Index of the task and what `function` gave, in the order of finishing.

    Raises
    ------
    InputError
        The cluster cannot be used: not reachable, not installed, other versions of mdtree or torch on a worker.
    ResourceError
        After all other tasks are done: the tasks that lost their worker `retries` + 1 times. At once: a cluster that
        went away, or has had no worker for `backend.patience` seconds.
    Exception
        What `function` raised, as itself and at once; the work in hand is dropped.
    """
    if not tasks:
        return iter(())
    if backend.name == "dask":
        return run_on_dask(function, tasks, backend.scheduler, backend.patience, retries)
    if backend.name == "ray":
        return run_on_ray(function, tasks, backend.scheduler, backend.patience, retries)
    if backend.workers == 1:
        return ((index, function(task)) for index, task in enumerate(tasks))
    return run_on_processes(function, tasks, min(backend.processes or 1, len(tasks)), retries)
