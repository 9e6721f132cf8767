"""Which jobs are let in: once for each idempotency key, with files that exist, and within the quotas."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from mdtree.service.jobs import ENDS, Answer, Job, State
from mdtree.service.settings import Limits
from mdtree.service.storage import job_rows
from mdtree.service.storage.idempotency import KEY_LIFETIME, IdempotencyKey
from mdtree.service.storage.job_reading import JobReading, present_job
from mdtree.service.storage.store_errors import KeyReused, QueueFull, QuotaExceeded, UnknownFile
from mdtree.service.storage.tables import answers, files, idempotency_keys, job_files, jobs

RETENTION = timedelta(days=30)
"""How long an ended job is kept where nobody says."""


class Admission(JobReading):
    """New jobs. They are let in one after the other, so that no quota is passed by two at once."""

    def add_job(
        self, job: Job, limits: Limits, key: IdempotencyKey | None = None, *, now: datetime | None = None
    ) -> tuple[Job, bool]:
        """Let a job into the queue.

        Returns
        -------
        tuple of Job and bool
            The job as it stands, and True; or the job that came with the same key before, and False.

        Raises
        ------
        KeyReused, UnknownFile, QueueFull, QuotaExceeded
        """
        now = now or datetime.now(UTC)
        with self._admitting() as connection:
            earlier = _earlier(connection, job.owner, key, now)
            if earlier is None:
                _know_files(connection, job)
                _fits_queue(connection, job.owner, limits)
                _fits_kept(connection, job.owner, limits)
                _add(connection, replace(job, state=State.QUEUED))
                _remember(connection, job, key, now)
            return present_job(connection, job.owner, earlier or job.id), earlier is None

    def add_answer(
        self,
        job: Job,
        answer: Answer,
        limits: Limits,
        key: IdempotencyKey | None = None,
        *,
        now: datetime | None = None,
    ) -> tuple[Job, bool]:
        """Keep a record that was answered at once, as a job that is done.

        Times that the job leaves open are set: it started and ended when it was created, and expires `RETENTION` later.

        Returns
        -------
        tuple of Job and bool
            As of `add_job`.

        Raises
        ------
        KeyReused, QuotaExceeded
        """
        now = now or datetime.now(UTC)
        ended = replace(
            job,
            state=State.DONE,
            started_at=job.started_at or job.created_at,
            finished_at=job.finished_at or job.created_at,
            expires_at=job.expires_at or job.created_at + RETENTION,
        )
        with self._admitting() as connection:
            earlier = _earlier(connection, job.owner, key, now)
            if earlier is None:
                _fits_kept(connection, job.owner, limits)
                _add(connection, ended, answer)
                _remember(connection, job, key, now)
            return present_job(connection, job.owner, earlier or job.id), earlier is None


def _earlier(connection: Connection, owner: str, key: IdempotencyKey | None, now: datetime) -> str | None:
    """The job that came with this key, if one did and the key is still remembered."""
    if key is None:
        return None
    ours = (idempotency_keys.c.owner == owner, idempotency_keys.c.key == key.key)
    # locked: a deletion of the job, which takes the key with it, comes before or after this transaction
    row = connection.execute(select(idempotency_keys).where(*ours).with_for_update()).one_or_none()
    if row is None:
        return None
    if row.created_at <= now - KEY_LIFETIME:
        connection.execute(delete(idempotency_keys).where(*ours))
        return None
    if row.fingerprint != key.fingerprint:
        raise KeyReused(
            f"the idempotency key {key.key!r} came with another request before", mend="make a new key for a new request"
        )
    return str(row.job)


def _remember(connection: Connection, job: Job, key: IdempotencyKey | None, now: datetime) -> None:
    if key is not None:
        values = {"owner": job.owner, "key": key.key, "fingerprint": key.fingerprint}
        connection.execute(insert(idempotency_keys).values(**values, job=job.id, created_at=now))


def _know_files(connection: Connection, job: Job) -> None:
    named = dict.fromkeys(job.request.files) if job.request else {}
    known = set(
        connection.execute(select(files.c.id).where(files.c.owner == job.owner, files.c.id.in_(named))).scalars()
    )
    for one in named:
        if one not in known:
            raise UnknownFile(f"there is no file {one}", "the id of an uploaded file", "upload it, then send the job")


def _fits_queue(connection: Connection, owner: str, limits: Limits) -> None:
    waiting = select(func.count()).where(jobs.c.state == State.QUEUED.value)
    of_owner = connection.execute(waiting.where(jobs.c.owner == owner)).scalar_one()
    if of_owner >= limits.waiting_jobs_per_owner:
        raise QueueFull(
            f"{of_owner} of your jobs wait already",
            f"fewer than {limits.waiting_jobs_per_owner}",
            "send it again when some of them are done",
        )
    of_all = connection.execute(waiting).scalar_one()
    if of_all >= limits.waiting_jobs:
        raise QueueFull(f"{of_all} jobs wait already", f"fewer than {limits.waiting_jobs}", "send it again later")


def _fits_kept(connection: Connection, owner: str, limits: Limits) -> None:
    ended = select(func.count()).where(jobs.c.owner == owner, jobs.c.state.in_(sorted(ENDS)))
    kept = connection.execute(ended).scalar_one()
    if kept >= limits.kept_jobs_per_owner:
        raise QuotaExceeded(
            f"{kept} of your ended jobs are kept", f"fewer than {limits.kept_jobs_per_owner}", "delete some of them"
        )


def _add(connection: Connection, job: Job, answer: Answer | None = None) -> None:
    values = job_rows.job_values(job)
    if answer is not None:
        values |= job_rows.answer_values(answer)
    connection.execute(insert(jobs).values(values))
    if answer is not None:
        connection.execute(insert(answers).values(job=job.id, diagnosis=answer.diagnosis))
    named = dict.fromkeys(job.request.files) if job.request else {}
    if named:
        connection.execute(insert(job_files), [{"job": job.id, "file": one} for one in named])
