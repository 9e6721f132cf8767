"""Tasks on a Ray cluster that is already there.

As Ray tasks, not through Ray's joblib back end: that one gives results back only when all are there (it refuses
`return_as="generator_unordered"`), and one dead actor loses all of them.
"""

from __future__ import annotations

import importlib
import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mdtree.errors import InputError
from mdtree.remote_task import RemoteTask, WorkerWatch, raise_import, raise_lost

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 1.0


def run_on_ray(
    function: Callable[[T], R], tasks: Sequence[T], address: str, patience: float, retries: int
) -> Iterator[tuple[int, R]]:
    """`mdtree.backends.run_tasks` on the Ray cluster at `address`, one CPU a task.

    Ray itself runs the task of a dead worker elsewhere, `retries` times.
    """
    ray = _connect(address)
    watch = WorkerWatch(f"Ray at {address}", "ray start --address=HEAD:6379", patience)
    run = ray.remote(num_cpus=1, max_retries=retries, retry_exceptions=False)(_call)
    waiting = deque(range(len(tasks)))
    running: dict[Any, int] = {}
    lost: list[int] = []
    try:
        while waiting or running:
            processors = int(ray.cluster_resources().get("CPU", 0))
            watch.saw(processors)
            # twice what can run, so that no processor waits for this process
            while waiting and len(running) < 2 * processors:
                index = waiting.popleft()
                running[run.remote(RemoteTask(function, tasks[index]))] = index
            done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_SECONDS) if running else ([], [])
            for reference in done:
                index = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise_import(error.cause)
                    raise error.cause from error
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
                    lost.append(index)
                else:
                    yield index, result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()
    raise_lost([tasks[index] for index in sorted(lost)])


def _call(task: RemoteTask[T, R]) -> R:
    return task()


def _connect(address: str) -> Any:
    """The module `ray`, connected. Imported by name: it is no dependency of any extra."""
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise InputError("ray is not installed", "it for backend ray", "pip install ray") from error
    try:
        if (host_and_port := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)) is not None:
            # ask first: Ray itself goes on trying for minutes
            host, port = host_and_port.groups()
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster answers at {address}", "one, as auto or host:6379", "start one: `ray start --head`"
        ) from error
    return ray
