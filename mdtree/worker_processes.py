"""Tasks on processes of this machine: joblib's loky workers, one pool a process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mdtree.remote_task import raise_lost, say_again

T = TypeVar("T")
R = TypeVar("R")

_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def run_on_processes(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, retries: int
) -> Iterator[tuple[int, R]]:
    """`mdtree.backends.run_tasks` on `workers` processes.

    A pool that loses a process drops what all its others have in hand and does not tell whose task it was. With one
    pool a process a death is exactly one task's, and the others go on.
    """
    pools = [_one_process() for _ in range(workers)]
    free = list(range(workers))
    waiting = deque(range(len(tasks)))
    running: dict[Future[R], tuple[int, int]] = {}
    deaths: Counter[int] = Counter()
    try:
        while waiting or running:
            while free and waiting:
                pool, index = free.pop(), waiting.popleft()
                running[pools[pool].submit(function, tasks[index])] = (pool, index)
            done: list[tuple[int, R]] = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, index = running.pop(future)
                free.append(pool)
                try:
                    done.append((index, future.result()))
                except TerminatedWorkerError:
                    pools[pool].shutdown(kill_workers=True)
                    pools[pool] = _one_process()
                    deaths[index] += 1
                    if deaths[index] <= retries:
                        waiting.append(index)
                        say_again(tasks[index], deaths[index], retries)
            yield from done
    finally:
        for executor in pools:
            executor.shutdown(kill_workers=True)
    raise_lost([tasks[index] for index in sorted(deaths) if deaths[index] > retries])


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, timeout=None, initializer=_start_worker, initargs=(os.getpid(),), env=_ONE_THREAD)


def _start_worker(coordinator: int) -> None:
    """Ctrl-C is the coordinator's to handle; without a coordinator nobody waits for the work in hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == coordinator:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
