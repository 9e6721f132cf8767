"""Uploads, jobs and answers for tests of the store."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from mdtree.service.jobs import Answer, Claim, Job, JobRequest, Kind, State, StoredFile
from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store

LIMITS = Limits()
DAY = timedelta(days=1)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """So many minutes after `START`."""
    return START + timedelta(minutes=minutes)


def upload(owner: str = "alice", name: str = "run7.pt", size: int = 1000, created_at: datetime = START) -> StoredFile:
    """An upload that is not stored yet."""
    return StoredFile(secrets.token_hex(16), owner, name, size, "0" * 64, created_at)


def job(request: JobRequest | None = None, *, owner: str = "alice", name: str = "run7.pt", minutes: float = 0) -> Job:
    """A job that is not stored yet: of a checkpoint with a request, of a record without one."""
    kind = Kind.CHECKPOINT if request else Kind.RECORD
    return Job(secrets.token_hex(16), owner, name, kind, State.QUEUED, at(minutes), request=request)


def stored_upload(store: Store, owner: str = "alice") -> str:
    """The id of an upload that is stored."""
    file = upload(owner)
    store.add_file(file, LIMITS)
    return file.id


def waiting(store: Store, *, owner: str = "alice", name: str = "run7.pt", minutes: float = 0) -> Job:
    """A job in the queue, with an upload of its own."""
    request = JobRequest(stored_upload(store, owner))
    return store.add_job(job(request, owner=owner, name=name, minutes=minutes), LIMITS)[0]


def claimed(store: Store, worker: str = "worker-0") -> Claim:
    """The next job, which is known to be there."""
    claim = store.claim(worker)
    assert claim is not None
    return claim


def answer(verdict: str = "healthy") -> Answer:
    """A diagnosis."""
    return Answer(f'{{"verdict": "{verdict}"}}', {"verdict": verdict, "metrics": {"train_loss": 0.25}})


def finished(store: Store, *, owner: str = "alice", name: str = "run7.pt", verdict: str = "healthy") -> Job:
    """A job that was measured; the queue is empty before and after."""
    id = waiting(store, owner=owner, name=name).id
    assert store.finish(claimed(store), answer(verdict), DAY)
    ended = store.job(owner, id)
    assert ended is not None
    return ended
