"""What a service finds when it starts is put in order, and what has had its time is cleared away."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import service_rows
from service_workers import OWNER, asked, job_of, send

from mdtree.errors import InputError
from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import State
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.work.recovery import clear_away, lock_server, recover

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[ServiceSettings]:
    settings = ServiceSettings(tmp_path / "data")
    lock = lock_server(DataFolder(settings.data_dir))
    yield settings
    os.close(lock)


@pytest.fixture
def folder(settings: ServiceSettings) -> DataFolder:
    return DataFolder(settings.data_dir)


@pytest.fixture
def embedded(folder: DataFolder) -> Iterator[Store]:
    store = Store(folder.database)
    yield store
    store.close()


def age(path: Path, by: timedelta) -> None:
    then = time.time() - by.total_seconds()
    os.utime(path, (then, then))


def test_a_data_directory_has_one_server(folder: DataFolder) -> None:
    assert {path.stat().st_mode & 0o777 for path in (folder.root, folder.files, folder.incoming)} == {0o700}
    with pytest.raises(InputError) as refused:
        lock_server(folder)
    assert str(refused.value) == (
        f"{folder.root} is in use by process {os.getpid()}; expected a data directory of its own for each server; "
        "end it first"
    )


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match="file/data cannot be used \\(not a directory\\); expected a data directory you"
    ):
        lock_server(DataFolder(tmp_path / "file" / "data"))


def test_what_a_killed_server_left_is_put_in_order(
    settings: ServiceSettings, folder: DataFolder, embedded: Store
) -> None:
    running, waiting = asked(settings, embedded), asked(settings, embedded)
    assert embedded.claim("worker-1") is not None
    (folder.incoming / "half").write_bytes(b"half")
    (folder.work / "worker-1" / "job").mkdir(parents=True)
    (folder.files / "nobodys").mkdir()
    (folder.files / "nobodys" / "upload.pt").write_bytes(b"whole, but without a row")
    assert recover(settings, embedded) == [running]
    assert [job_of(embedded, id).state for id in (running, waiting)] == [State.QUEUED] * 2
    assert [job_of(embedded, id).interruptions for id in (running, waiting)] == [1, 0]
    assert [*folder.incoming.iterdir(), *folder.work.iterdir()] == []
    assert {path.name for path in folder.files.iterdir()} == embedded.file_ids()
    assert recover(settings, embedded) == []


def test_ended_jobs_and_unused_uploads_have_their_time(
    settings: ServiceSettings, folder: DataFolder, embedded: Store
) -> None:
    id, needed = asked(settings, embedded), asked(settings, embedded)
    unused = send(settings, embedded)
    claim = service_rows.claimed(embedded)
    assert claim.job.id == id
    embedded.finish(claim, service_rows.answer(), settings.retention)
    folder.report(id).write_text("a page")
    now = datetime.now(UTC)
    clear_away(settings, embedded, now + settings.unused_upload - HOUR)
    assert len(embedded.file_ids()) == 3
    clear_away(settings, embedded, now + settings.unused_upload + HOUR)
    request = job_of(embedded, needed).request
    assert request is not None
    assert embedded.file_ids() == set(request.files) == {path.name for path in folder.files.iterdir()}
    assert not (folder.files / unused.id).exists()
    assert job_of(embedded, id).state is State.DONE
    clear_away(settings, embedded, now + settings.retention - HOUR)
    assert folder.report(id).exists()
    clear_away(settings, embedded, now + settings.retention + HOUR)
    assert embedded.job(OWNER, id) is None
    assert not folder.report(id).exists()
    assert job_of(embedded, needed).state is State.QUEUED


def test_what_is_just_being_uploaded_is_left_alone(
    settings: ServiceSettings, folder: DataFolder, embedded: Store
) -> None:
    """An upload has its folder a moment before its row, and grows for hours where the line is slow."""
    young, old = ([place / name for place in (folder.incoming, folder.files)] for name in ("young", "old"))
    for path in (*young, *old):
        path.write_bytes(b"part") if path.parent == folder.incoming else path.mkdir()
    for path in young:
        age(path, 20 * HOUR)
    for path in old:
        age(path, 2 * DAY)
    clear_away(settings, embedded)
    assert [path.exists() for path in (*young, *old)] == [True, True, False, False]
