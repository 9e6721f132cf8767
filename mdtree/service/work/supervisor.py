"""The workers of a server: started, watched, started anew when they die, and told to stop."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from mdtree.errors import InputError
from mdtree.service.data_folder import DataFolder
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.storage.store_errors import StoreUnavailable
from mdtree.service.tokens import Tokens
from mdtree.service.work.recovery import await_old_workers, clear_away, lock_server, recover, remove_work
from mdtree.service.work.worker import CRASHED, run_worker

CLEARS_EVERY_SECONDS = 60.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_LIVED_LONG_SECONDS = 60.0
_LOOKS_EVERY_SECONDS = 0.5
_GIVING_BACK_SECONDS = 10.0
_DATABASE_PAUSE = 2.0

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # a worker forks, and may have no thread but its own: Arrow's allocator would start one
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # nothing is fetched
    "HF_HUB_OFFLINE": "1",
}
"""Of every worker: libraries read these when they are imported."""

_log = logging.getLogger("mdtree.service")


@dataclass
class _Slot:
    """The place of one worker: who has it, since when, and when the next may come."""

    name: str = ""
    process: SpawnProcess | None = None
    reports: Connection | None = None
    started: float = 0.0
    deaths: int = 0
    next_at: float = 0.0
    to_mourn: bool = False


class Supervisor:
    """Keeps `settings.workers` workers at work on one data directory.

    One thread starts them and lives until they have ended: the system kills a worker when the thread that made it ends,
    and so none outlives its server.

    Parameters
    ----------
    settings : ServiceSettings
    store : Store

    Attributes
    ----------
    restarts : int
        Workers started in place of dead ones.
    crashes : int
        Jobs that ended their own process.
    """

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.folder = DataFolder(settings.data_dir)
        self.restarts = 0
        self.crashes = 0
        self._slots = [_Slot() for _ in range(settings.workers)]
        self._started, self._stopping = threading.Event(), threading.Event()
        self._grace = 0.0
        self._locks: list[int] = []
        self._thread: threading.Thread | None = None
        self._clears_at = 0.0

    def start(self) -> None:
        """Claim the data directory, put it in order, and start the workers; returns while they import what they need.

        Raises
        ------
        InputError
            The system is not Linux, another server uses the directory, or workers of an earlier one do not end.
        """
        if not sys.platform.startswith("linux"):
            raise InputError(f"the service cannot confine what it runs on {sys.platform}", "Linux")
        self._locks.append(lock_server(self.folder))
        try:
            await_old_workers(self.folder)
            recover(self.settings, self.store)
        except BaseException:
            self._release()
            raise
        atexit.register(self._kill)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self._started.wait(_LONGEST_PAUSE)

    def stop(self, grace_seconds: float) -> None:
        """Let the workers finish their jobs, give back what is not done after `grace_seconds`, and end them."""
        self._grace = grace_seconds
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self._kill)
        self._release()

    def alive(self) -> int:
        """How many workers run."""
        return sum(slot.process is not None for slot in self._slots)

    def _release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                for slot in self._slots:
                    self._tend(slot)
                self._started.set()
                self._wait(_LOOKS_EVERY_SECONDS)
                self._clear_away()
            except StoreUnavailable as error:
                _log.warning("the database is awaited: %s (%s)", error, error.detail)
                self._stopping.wait(_DATABASE_PAUSE)
            except Exception:
                _log.exception("the supervisor goes on after an error")
                self._stopping.wait(_LOOKS_EVERY_SECONDS)
        try:
            self._end_workers()
        except Exception:
            _log.exception("the workers could not be ended as they should")
        self._kill()

    def _tend(self, slot: _Slot) -> None:
        """Bury a dead worker; start another when its time has come."""
        if slot.process is not None and slot.process.exitcode is not None:
            self._take_reports(slot)
            lived = time.monotonic() - slot.started
            slot.deaths = 1 if lived > _LIVED_LONG_SECONDS else slot.deaths + 1
            pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** (slot.deaths - 1))
            slot.next_at = time.monotonic() + pause
            _log.warning(
                "worker ended with %s; another starts in %.2g s",
                slot.process.exitcode,
                pause,
                extra={"worker": slot.name},
            )
            self._forget(slot)
            slot.to_mourn = True
        if slot.to_mourn:  # until the database answers
            self.store.interrupted([slot.name], self.settings.retention)
            remove_work(self.folder, slot.name)
            slot.to_mourn = False
        if slot.process is None and time.monotonic() >= slot.next_at and not self._stopping.is_set():
            self.restarts += slot.deaths > 0
            self._start(slot)

    def _start(self, slot: _Slot) -> None:
        context = multiprocessing.get_context("spawn")
        slot.reports, theirs = context.Pipe(duplex=False)
        slot.name = f"worker-{self._slots.index(slot) + 1}-{secrets.token_hex(4)}"
        given = replace(self.settings, tokens=Tokens())  # no business of theirs
        process = context.Process(target=run_worker, args=(given, slot.name, os.getpid(), theirs), name=slot.name)
        with worker_environment():
            process.start()
        theirs.close()
        slot.process, slot.started = process, time.monotonic()
        _log.info("worker started as process %s", process.pid, extra={"worker": slot.name})

    def _forget(self, slot: _Slot) -> None:
        if slot.process is not None:
            slot.process.join()
            slot.process.close()
        if slot.reports is not None:
            slot.reports.close()
        slot.process = slot.reports = None

    def _wait(self, seconds: float) -> None:
        """Until a worker ends or says something, or the time is over."""
        awaited: list[Connection | int] = []
        for slot in self._slots:
            if slot.process is not None and slot.reports is not None:
                awaited += [slot.process.sentinel, slot.reports]
        if not awaited:
            self._stopping.wait(min(seconds, _SHORTEST_PAUSE))
            return
        wait(awaited, seconds)
        for slot in self._slots:
            self._take_reports(slot)

    def _take_reports(self, slot: _Slot) -> None:
        try:
            while slot.reports is not None and slot.reports.poll():
                self.crashes += slot.reports.recv_bytes(len(CRASHED)) == CRASHED
        except (EOFError, OSError):
            pass  # it ended: the process tells

    def _clear_away(self) -> None:
        if time.monotonic() >= self._clears_at:
            self._clears_at = time.monotonic() + CLEARS_EVERY_SECONDS
            clear_away(self.settings, self.store)

    def _end_workers(self) -> None:
        self._signal(signal.SIGTERM)
        self._await_end(self._grace)
        self._signal(signal.SIGUSR1)
        self._await_end(_GIVING_BACK_SECONDS)
        left = [slot for slot in self._slots if slot.process is not None]
        killed = [slot.name for slot in left if slot.process is not None and slot.process.exitcode != 0]
        self._kill()
        for slot in left:
            self._take_reports(slot)
            self._forget(slot)
            remove_work(self.folder, slot.name)
        if killed:
            self.store.interrupted(killed, self.settings.retention)

    def _signal(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.pid is not None and slot.process.exitcode is None:
                os.kill(slot.process.pid, number)

    def _await_end(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        running = [slot.process for slot in self._slots if slot.process is not None and slot.process.exitcode is None]
        for process in running:
            process.join(max(0.0, until - time.monotonic()))


@contextmanager
def worker_environment() -> Iterator[None]:
    """The environment of workers, for as long as one is started: it is inherited."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
