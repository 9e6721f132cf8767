"""A worker: a process that takes one job after another and has children do what they ask for."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import Answer, Blame, Claim, Failure, Outcome, Progress
from mdtree.service.logs import log_as_json
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Standing, Store
from mdtree.service.storage.store_errors import StoreUnavailable
from mdtree.service.work.confinement import Confines, Report, confined
from mdtree.service.work.endings import End, Ending
from mdtree.service.work.outcomes import DEFECT, DISK_FULL, failure_of
from mdtree.service.work.process_limits import die_with_parent
from mdtree.service.work.recovery import lock_worker

if TYPE_CHECKING:
    from mdtree.service.work.children import Children

T = TypeVar("T")

LARGEST_ANSWER_BYTES = 64 * 2**20
POLL_SECONDS = 0.2
CRASHED = b"crashed"
"""What a worker tells its supervisor when a job ended its own process."""

_DATABASE_PATIENCE_SECONDS = 60.0

_log = logging.getLogger("mdtree.service")


class _Ended(Exception):  # noqa: N818 -- it carries how a job ended
    """A job is over, one way or another; None where nothing is to be said of it."""

    def __init__(self, record: Callable[[], object]) -> None:
        super().__init__()
        self.record = record


def run_worker(settings: ServiceSettings, name: str, server: int, reports: Connection) -> None:
    """Work until told to stop: SIGTERM after the job at hand, SIGUSR1 at once, giving that back.

    Parameters
    ----------
    settings : ServiceSettings
    name : str
        Of this worker; no other ever had it.
    server : int
        The process that started it, and whose end is its own.
    reports : Connection
        Where `CRASHED` is said.
    """
    die_with_parent(server)
    os.environ.pop("MDTREE_TOKEN", None)
    log_as_json()
    folder = DataFolder(settings.data_dir)
    worker = Worker(settings, name, reports, lock_worker(folder))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's to handle
    signal.signal(signal.SIGTERM, worker.stop_after_job)
    signal.signal(signal.SIGUSR1, worker.stop_now)
    os.nice(10)
    worker.run()


class Worker:
    """Takes jobs from the queue and sees to their end.

    Parameters
    ----------
    settings : ServiceSettings
    name : str
    reports : Connection
    lock : int
        The descriptor that this process and its children hold as long as they live.
    """

    def __init__(self, settings: ServiceSettings, name: str, reports: Connection, lock: int) -> None:
        self.settings, self.name = settings, name
        self.folder = DataFolder(settings.data_dir)
        self._reports, self._lock = reports, lock
        self._last_job = False
        self._now = False

    def stop_after_job(self, *_: object) -> None:
        """Take no more jobs."""
        self._last_job = True

    def stop_now(self, *_: object) -> None:
        """Give the job at hand back, and take no more."""
        self._last_job = self._now = True

    def run(self) -> None:
        """The loop."""
        from mdtree.service.work.children import Children  # torch, which takes a second

        store = Store(self.settings.database or self.folder.database)
        children = Children(self.settings)
        while not self._last_job:
            try:
                claim = store.claim(self.name)
            except StoreUnavailable as error:
                _log.warning("no job can be claimed: %s (%s)", error, error.detail, extra={"worker": self.name})
                time.sleep(1.0)
                continue
            if claim is None:
                time.sleep(POLL_SECONDS)
            else:
                self._work_on(claim, store, children)
        store.close()

    def _work_on(self, claim: Claim, store: Store, children: Children) -> None:
        job = _Running(self, claim, store)
        try:
            end = job.record_of(children)
        finally:
            shutil.rmtree(job.work, ignore_errors=True)
        _until_recorded(end)

    def crashed(self) -> None:
        """Tell the supervisor that a job ended its own process."""
        with contextlib.suppress(OSError):
            self._reports.send_bytes(CRASHED)

    @property
    def gives_back(self) -> bool:
        """Whether the job at hand is to be given back now."""
        return self._now

    @property
    def lock(self) -> int:
        """The descriptor that children are to keep."""
        return self._lock


class _Running:
    """One run of one job."""

    def __init__(self, worker: Worker, claim: Claim, store: Store) -> None:
        self.worker, self.claim, self.store = worker, claim, store
        self.settings, self.limits = worker.settings, worker.settings.limits
        self.work = worker.folder.work / worker.name / f"{claim.job.id}-{claim.token[:8]}"
        self._marks = {"job": claim.job.id, "worker": worker.name}
        self._stopped: Callable[[], object] | None = None

    def record_of(self, children: Children) -> Callable[[], object]:
        """Run the job; what records its end in the store."""
        try:
            self.work.mkdir(parents=True, mode=0o700)
            outcome: Outcome = self._outcome(children)
        except _Ended as ended:
            return ended.record
        except OSError as error:
            _log.exception("a job could not be worked on", extra=self._marks)
            outcome = DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else DEFECT
        except Exception:
            _log.exception("a job could not be worked on", extra=self._marks)
            outcome = DEFECT
        return partial(self.store.finish, self.claim, outcome, self.settings.retention)

    def _outcome(self, children: Children) -> Outcome:
        files = children.files_of(self.claim.job, self.store)
        if isinstance(files, Failure):
            return files
        limits, request = self.limits, self.claim.job.request
        assert request is not None  # a record is never queued
        most = 4 * children.largest(files) + limits.reading_memory_bytes
        failed = self._child("reading", children.reading(files, self.work), limits.reading_seconds, most, most)
        if failed is None:
            failed = self._child(
                "measuring",
                children.measuring(request, self.work),
                limits.measuring_seconds,
                limits.measuring_memory_bytes,
                4 * LARGEST_ANSWER_BYTES,
            )
        return failed or self._answer()

    def _answer(self) -> Outcome:
        texts = []
        for name in ("diagnosis.json", "summary.json"):
            file = self.work / name
            if file.stat().st_size > LARGEST_ANSWER_BYTES:
                return Failure(Blame.RESOURCES, "the diagnosis is too long for this server; send a smaller network")
            texts.append(file.read_text(encoding="utf-8"))
        return Answer(texts[0], json.loads(texts[1]))

    def _child(
        self, stage: str, function: Callable[[Report], None], seconds: float, memory: int, file: int
    ) -> Failure | None:
        """Have a child do it, in so much time, with so much memory and files so large; None where it did."""
        confines = Confines(
            seconds,
            # a graphics card's memory is mapped into the address space many times over
            memory if self.settings.device == "cpu" else None,
            file,
            self.work / f"{stage}.errors",
            processes=stage == "measuring",
            keeps=(self.worker.lock,),
        )
        ending = confined(function, confines, partial(self._watch, stage))
        _log.info(
            "%s: %s after %.2f s, %.0f MB",
            stage,
            ending.end,
            ending.seconds,
            ending.peak_bytes / 1e6,
            extra=self._marks,
        )
        if ending.end is End.RETURNED:
            return None
        self._raise_end(stage, ending)
        if ending.end in (End.RAISED, End.FAULT):
            _log.error("%s: %s", stage, ending.message, extra=self._marks)
        hidden = [self.work, self.settings.data_dir.absolute(), self.settings.data_dir, Path.home()]
        return failure_of(
            ending, stage, seconds, confines.memory_bytes, [str(one) for one in hidden if len(str(one)) > 1]
        )

    def _raise_end(self, stage: str, ending: Ending) -> None:
        """For the ends that are no outcome."""
        if ending.end is End.STOPPED:
            assert self._stopped is not None
            raise _Ended(self._stopped)
        if ending.end is End.DIED:
            _log.warning("%s: the process died: %s", stage, ending.message, extra=self._marks)
            self.worker.crashed()
            raise _Ended(partial(self.store.crashed, self.claim, self.settings.retention))

    def _watch(self, stage: str, text: str, share: float) -> bool:
        """Whether to go on; says how far the job is."""
        if self.worker.gives_back:
            self._stopped = partial(self.store.give_back, self.claim, retention=self.settings.retention)
            return False
        try:
            standing = self.store.progress(self.claim, Progress(stage, text, share))
        except StoreUnavailable as error:
            _log.warning("progress is not kept: %s (%s)", error, error.detail, extra=self._marks)
            return True
        if standing is Standing.CANCEL:
            self._stopped = partial(self.store.finish, self.claim, None, self.settings.retention)
        elif standing is Standing.LOST:
            self._stopped = _nothing
        return standing is Standing.GO_ON


def _nothing() -> None:
    """The job is somebody else's."""


def _until_recorded(record: Callable[[], T]) -> T:
    """Record an end, again and again while the database is away; a worker that gives up ends, and so its job waits."""
    until = time.monotonic() + _DATABASE_PATIENCE_SECONDS
    while True:
        try:
            return record()
        except StoreUnavailable as error:
            _log.warning("the end of a job is not recorded yet: %s (%s)", error, error.detail)
            if time.monotonic() > until:
                raise
            time.sleep(1.0)
