"""Tasks on a dask.distributed cluster that is already there.

The client is used directly: joblib's dask back end never hears of a task whose worker died too often (its call then
waits for ever) and counts the workers once, so that those that join later stand idle.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from mdtree.errors import InputError, ResourceError
from mdtree.remote_task import RemoteTask, WorkerWatch, log, raise_import, raise_lost

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 1.0


def run_on_dask(
    function: Callable[[T], R], tasks: Sequence[T], scheduler: str, patience: float, retries: int
) -> Iterator[tuple[int, R]]:
    """`mdtree.backends.run_tasks` on the workers of the scheduler at `scheduler`.

    The scheduler itself runs the tasks of a dead worker elsewhere, `distributed.scheduler.allowed-failures` times (3
    unless its configuration says otherwise). It blames every task the dead worker had been given, started or not; so
    the tasks it gives up are run once more at the end, one by one, and only those that fail alone are lost.
    """
    client = _connect(scheduler)
    # a scheduler that goes away is told in one line by the error, not in the client's traceback
    said_by_client = logging.getLogger("distributed.client")
    level = said_by_client.level
    said_by_client.setLevel(logging.CRITICAL)
    try:
        yield from _Run(client, function, tasks, scheduler, patience).results(retries)
    finally:
        # the results are there or the reason is known: trouble in parting changes neither
        with suppress(OSError, RuntimeError, AssertionError):
            client.close(timeout=CONNECT_SECONDS)
        said_by_client.setLevel(level)


def _connect(scheduler: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "dask.distributed is not installed", "it for backend dask", "pip install 'mdtree-diagnosis[dask]'"
        ) from error
    try:
        # A client that cannot connect stays behind half open and blocks when it is collected: so ask first, and in a
        # thread, for the caller may be in a notebook, whose loop is running.
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(lambda: asyncio.run(_kind_of_server(scheduler))).result()
        if found != "Scheduler":
            raise ValueError(f"a dask {found}")
        return Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {scheduler}",
            "one, as tcp://host:8786",
            "start one: `dask scheduler`, then `dask worker ADDRESS --nworkers 4 --nthreads 1`",
        ) from error


async def _kind_of_server(address: str) -> str:
    """`Scheduler` or `Worker`, whichever answers at an address."""
    from distributed import rpc
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    async with rpc(address, timeout=CONNECT_SECONDS, connection_args=arguments) as server:
        identity = await asyncio.wait_for(server.identity(), CONNECT_SECONDS)
    return str(identity["type"])


class _Run:
    """The tasks of one call on one client."""

    def __init__(
        self, client: Client, function: Callable[[T], R], tasks: Sequence[T], scheduler: str, patience: float
    ) -> None:
        from distributed import KilledWorker

        self._killed = KilledWorker
        self._client, self._function, self._tasks, self._scheduler = client, function, tasks, scheduler
        self._watch = WorkerWatch(
            f"the dask scheduler at {scheduler}", f"dask worker {scheduler} --nthreads 1", patience
        )
        self._finished: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        # the client forgets a task as soon as nobody holds its future
        self._futures: dict[int, Any] = {}

    def results(self, retries: int) -> Iterator[tuple[int, Any]]:
        self._say_threads()
        given_up: list[int] = []
        yield from self._round(range(len(self._tasks)), given_up)
        lost: list[int] = given_up if retries == 0 else []
        for index in sorted(given_up) if retries else ():
            log.warning("several workers died; %s is run once more, alone", self._tasks[index])
            yield from self._round([index], lost)
        raise_lost([self._tasks[index] for index in sorted(lost)])

    def _round(self, indices: Sequence[int], given_up: list[int]) -> Iterator[tuple[int, Any]]:
        for index in indices:
            self._submit(index)
        while self._futures:
            try:
                index, future = self._finished.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                self._watch.saw(len(self._threads()))
                continue
            try:
                result = future.result()
            except self._killed:
                del self._futures[index]
                given_up.append(index)
                continue
            except CancelledError as error:
                raise self._gone() from error
            except (ImportError, RuntimeError) as error:
                raise_import(error)
                raise
            del self._futures[index], future
            yield index, result

    def _submit(self, index: int) -> None:
        call = RemoteTask(self._function, self._tasks[index])
        future = self._client.submit(call, key=f"mdtree-{uuid.uuid4().hex}")
        self._futures[index] = future
        future.add_done_callback(lambda done: self._finished.put((index, done)))

    def _threads(self) -> dict[str, int]:
        """Threads of each worker there is, by address."""
        try:
            return dict(self._client.nthreads())
        except (OSError, RuntimeError) as error:
            raise self._gone() from error

    def _say_threads(self) -> None:
        if (most := max(self._threads().values(), default=1)) > 1:
            log.warning("a dask worker has %d threads, of which one is used: start it with --nthreads 1", most)

    def _gone(self) -> ResourceError:
        return ResourceError(
            f"the dask scheduler at {self._scheduler} went away",
            "one that stays until the end",
            "start it and run the same command again; what was finished is kept",
        )
