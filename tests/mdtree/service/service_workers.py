"""Uploads and jobs for tests of workers, networks that misbehave, and a server process that can be killed."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psutil

from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import ENDS, DataRequest, Job, JobRequest, Kind, State, StoredFile
from mdtree.service.registry import Registry
from mdtree.service.settings import Limits, ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.work.supervisor import Supervisor

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"
SAMPLE = SAMPLES / "model_too_small-1.pt"
OWNER = "alice"
LIMITS = Limits()

MISBEHAVING = """
import os, signal, time

slept = []

def slow():
    if not slept:
        slept.append(time.sleep(1.5))
    from mdtree.models import build_model
    return build_model("mlp?width=4&inputs=64&classes=10")

def sleeping(): time.sleep(600)
def crashing(): os.kill(os.getpid(), signal.SIGSEGV)
def hungry(): bytearray(3 * 2**30)
def leaving(): raise SystemExit(3)
def writing(file):
    with open(file, "wb") as handle:
        for _ in range(64): handle.write(bytes(2**26))
"""


def misbehaving(folder: Path) -> Registry:
    """Networks of the operator's: each does in its child what its name says; the slow one is the sample's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "misbehaving.py").write_text(MISBEHAVING)
    names = ("slow", "sleeping", "crashing", "hungry", "leaving")
    networks = {name: f"misbehaving:{name}" for name in names}
    return Registry({**networks, "writing": f"misbehaving:writing?file={folder / 'written'}"}, {}, folder)


def settings_in(folder: Path, **given: object) -> ServiceSettings:
    """A service in a folder, with one worker and misbehaving networks."""
    settings = ServiceSettings(folder / "data", registry=misbehaving(folder / "operator"))
    return replace(settings, **given)  # type: ignore[arg-type]


def send(settings: ServiceSettings, store: Store, file: Path = SAMPLE, name: str = "run7.pt") -> StoredFile:
    """An upload, as the server keeps it."""
    size, digest = file.stat().st_size, sha256(file.read_bytes()).hexdigest()
    stored = StoredFile(secrets.token_hex(16), OWNER, name, size, digest, datetime.now(UTC))
    place = DataFolder(settings.data_dir).upload(stored)
    place.parent.mkdir(parents=True)
    shutil.copy(file, place)
    store.add_file(stored, LIMITS)
    return stored


def ask(store: Store, request: JobRequest) -> str:
    """The id of a new job in the queue."""
    job = Job(
        secrets.token_hex(16), OWNER, "run7.pt", Kind.CHECKPOINT, State.QUEUED, datetime.now(UTC), request=request
    )
    return store.add_job(job, LIMITS)[0].id


def asked(settings: ServiceSettings, store: Store, network: str | None = None) -> str:
    """The id of a new job: the sample alone, or built by a registered network."""
    data = None if network is None else DataRequest(name="digits")
    return ask(store, JobRequest(send(settings, store).id, architecture=network, data=data))


def job_of(store: Store, id: str) -> Job:
    """A job that is known to be there."""
    job = store.job(OWNER, id)
    assert job is not None
    return job


def eventually(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)


def ended(store: Store, id: str) -> Job:
    """A job at its end."""
    eventually(lambda: job_of(store, id).state in ENDS)
    return job_of(store, id)


def is_at(store: Store, id: str, stage: str) -> bool:
    """Whether a job runs and says that it is at this stage."""
    job = job_of(store, id)
    return job.state is State.RUNNING and job.progress is not None and job.progress.stage == stage


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them ended; one that nobody has buried yet has."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def workers_of(server: int | None = None) -> list[psutil.Process]:
    """The workers of a server, which has other children beside them."""
    children = psutil.Process(server).children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


@contextmanager
def supervised(settings: ServiceSettings, store: Store, grace_seconds: float = 0.0) -> Iterator[Supervisor]:
    """A supervisor with its workers, in the process of the tests."""
    supervisor = Supervisor(settings, store)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop(grace_seconds)


def serve_in(folder: Path) -> None:
    """The server without its HTTP: for tests that kill it."""
    settings = settings_in(folder)
    store = Store(DataFolder(settings.data_dir).database)
    Supervisor(settings, store).start()
    print("started", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    serve_in(Path(sys.argv[1]))
