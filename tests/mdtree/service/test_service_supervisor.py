"""No job is lost and none ends twice, whichever process is killed; what is told to stop stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import service_workers
from service_workers import (
    Supervisor,
    asked,
    ended,
    eventually,
    gone,
    is_at,
    job_of,
    settings_in,
    supervised,
    workers_of,
)

from mdtree.errors import InputError
from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import State
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.work.recovery import await_old_workers, lock_worker


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    settings = settings_in(tmp_path)
    settings.data_dir.mkdir()
    return settings


@pytest.fixture
def embedded(settings: ServiceSettings) -> Iterator[Store]:
    store = Store(DataFolder(settings.data_dir).database)
    yield store
    store.close()


def running_child(worker: psutil.Process) -> psutil.Process:
    """The child that a worker is waiting for."""
    eventually(worker.children)
    [child] = worker.children()
    return child


@pytest.mark.slow
def test_a_worker_that_is_killed(store: Store, database_url: str, tmp_path: Path) -> None:
    """Its children end with it, its job is done again by the next one, and its work is removed."""
    settings = settings_in(tmp_path, database=database_url)
    settings.data_dir.mkdir()
    with supervised(settings, store) as supervisor:
        id = asked(settings, store)
        eventually(lambda: is_at(store, id, "measuring"))
        [worker] = workers_of()
        child = running_child(worker)
        held = {Path(file.path).name for file in child.open_files()}
        assert "workers.lock" in held
        assert not any("sqlite" in name for name in held)
        worker.kill()
        eventually(lambda: gone([worker, child]), 1.0)
        job = ended(store, id)
        assert (job.state, job.interruptions, job.crashes) == (State.DONE, 1, 0)
        assert (supervisor.restarts, supervisor.alive()) == (1, 1)
        assert len(list((settings.data_dir / "work").iterdir())) == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, service_workers.__file__, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_server_that_is_killed(settings: ServiceSettings, embedded: Store, server: subprocess.Popen[str]) -> None:
    """Nothing of it is left a moment later; the next one takes its jobs up, and removes what was half done."""
    assert server.stdout is not None
    assert server.stdout.readline() == "started\n"
    poison, good = (asked(settings, embedded, network) for network in ("sleeping", None))
    eventually(lambda: is_at(embedded, poison, "measuring"))
    [worker] = workers_of(server.pid)
    child = running_child(worker)
    with pytest.raises(InputError, match=f"is in use by process {server.pid}"):
        Supervisor(settings, embedded).start()
    server.kill()
    eventually(lambda: gone([worker, child]), 2.0)
    folder = DataFolder(settings.data_dir)
    (folder.incoming / "0123").write_bytes(b"half")
    (folder.files / "4567").mkdir()
    with supervised(settings, embedded):
        left = [path.name for place in (folder.incoming, folder.files) for path in place.iterdir()]
        assert not {"0123", "4567"} & set(left)
        assert len(left) == 2
        job = ended(embedded, good)  # which has had no setback comes first
        assert (job.state, job.interruptions) == (State.DONE, 0)
        job = job_of(embedded, poison)
        assert (job.interruptions, job.crashes) == (1, 0)
        assert job.state in (State.QUEUED, State.RUNNING)


def test_workers_of_an_earlier_server_are_awaited(settings: ServiceSettings, embedded: Store) -> None:
    folder = DataFolder(settings.data_dir)
    lock = lock_worker(folder)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"workers of an earlier server still use .* after 0 s; expected none"):
        await_old_workers(folder, 0.1)
    assert time.monotonic() - started < 5
    os.close(lock)
    await_old_workers(folder, 0.1)


@pytest.mark.slow
def test_a_stop_waits_for_the_job_at_hand(settings: ServiceSettings, embedded: Store) -> None:
    with supervised(settings, embedded, grace_seconds=20) as supervisor:
        first, second = (asked(settings, embedded, "slow") for _ in range(2))
        eventually(lambda: is_at(embedded, first, "measuring"))
    assert job_of(embedded, first).state is State.DONE
    assert job_of(embedded, second).state is State.QUEUED
    assert (supervisor.alive(), workers_of()) == (0, [])


@pytest.mark.slow
def test_a_stop_gives_back_what_takes_too_long(settings: ServiceSettings, embedded: Store) -> None:
    """Ctrl-C, which reaches every process of a terminal, ends neither worker nor child: the server handles it."""
    with supervised(settings, embedded, grace_seconds=0.2):
        id = asked(settings, embedded, "sleeping")
        eventually(lambda: is_at(embedded, id, "measuring"))
        [worker] = workers_of()
        child = running_child(worker)
        for process in (worker, child):
            process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert not gone([worker])
        assert not gone([child])
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert gone([worker, child])
    job = job_of(embedded, id)
    assert (job.state, job.interruptions, job.crashes, job.progress) == (State.QUEUED, 0, 0, None)
    assert list((settings.data_dir / "work").iterdir()) == []


def test_the_server_imports_no_torch() -> None:
    """It is to start fast and stay small: only its workers measure."""
    program = "import sys, mdtree.service.work.supervisor; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
