"""What a service finds when it starts, after whatever end the last one had, and what it clears away as time goes by."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mdtree.errors import InputError
from mdtree.service.data_folder import DataFolder
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store

ABANDONED = timedelta(hours=24)
"""An upload that has not grown for so long, in a folder that its row or its end never reached, is nobody's."""

_ASKS_EVERY_SECONDS = 0.02

_log = logging.getLogger("mdtree.service")


def lock_server(folder: DataFolder) -> int:
    """Claim a data directory for this process.

    Returns
    -------
    int
        The descriptor that holds the claim; the system lets go of it when this process ends, however.

    Raises
    ------
    InputError
        Another server uses it, or it cannot be made or locked.
    """
    for path in (folder.root, folder.incoming, folder.files, folder.work, folder.reports):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(path, error) from error
    descriptor = _opened(folder.server_lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 100, 0).decode("ascii", "replace") or "another process"
        os.close(descriptor)
        raise InputError(
            f"{folder.root} is in use by {holder}", "a data directory of its own for each server", "end it first"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise _unusable(folder.server_lock, error) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
    return descriptor


def lock_worker(folder: DataFolder) -> int:
    """Let others see that workers are at work here: a descriptor that a worker and all its children hold."""
    descriptor = _opened(folder.workers_lock)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def await_old_workers(folder: DataFolder, patience_seconds: float = 30.0) -> None:
    """Wait until no worker of an earlier server is left, nor a child of one: they are killed when their server ends.

    Raises
    ------
    InputError
        They are still there when the time is over.
    """
    descriptor = _opened(folder.workers_lock)
    until = time.monotonic() + patience_seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise InputError(
                        f"workers of an earlier server still use {folder.root} after {patience_seconds:.0f} s",
                        "none",
                        f"find them with: fuser {folder.workers_lock}",
                    ) from error
            time.sleep(_ASKS_EVERY_SECONDS)
    finally:
        os.close(descriptor)


def recover(settings: ServiceSettings, store: Store) -> list[str]:
    """Put everything in order before the first worker starts: nothing else may use the data directory.

    Jobs that were running wait again; half uploads, the work of ended workers and uploads without a row are removed.

    Returns
    -------
    list of str
        The ids of the jobs that had been running.
    """
    folder = DataFolder(settings.data_dir)
    jobs = store.interrupted(None, settings.retention)
    for place in (folder.incoming, folder.work):
        for path in _inside(place):
            _remove(path)
    _remove_unknown_files(folder, store, older_than=None)
    if jobs:
        _log.info("%d jobs were interrupted and wait again", len(jobs))
    return jobs


def clear_away(settings: ServiceSettings, store: Store, now: datetime | None = None) -> None:
    """Delete what has had its time: jobs, uploads that no job uses, pages, and what is nobody's. Done now and then."""
    now, folder = now or datetime.now(UTC), DataFolder(settings.data_dir)
    for job in store.expire(now):
        folder.report(job).unlink(missing_ok=True)
    unused = [file.id for file in store.unused_files(now - settings.unused_upload)]
    for id in store.drop_files(unused):
        _remove(folder.files / id)
    _remove_unknown_files(folder, store, older_than=now - ABANDONED)
    for place, age in ((folder.incoming, ABANDONED), (folder.reports, settings.retention)):
        for path in _inside(place):
            if _older(path, now - age):
                _remove(path)


def _remove_unknown_files(folder: DataFolder, store: Store, older_than: datetime | None) -> None:
    """Uploads without a row. One that is just being added has its folder first: the folders are listed first."""
    found = [path for path in _inside(folder.files) if older_than is None or _older(path, older_than)]
    known = store.file_ids()
    for path in found:
        if path.name not in known:
            _remove(path)


def remove_work(folder: DataFolder, worker: str) -> None:
    """Remove what a worker that is no more was working with."""
    _remove(folder.work / worker)


def _inside(place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except FileNotFoundError:
        return []


def _older(path: Path, than: datetime) -> bool:
    try:
        return path.stat().st_mtime < than.timestamp()
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be used ({(error.strerror or str(error)).lower()})", "a data directory you may write to"
    )
