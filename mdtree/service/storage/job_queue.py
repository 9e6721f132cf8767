"""The queue: jobs are taken by workers, one worker each, and come to one end.

A worker holds a job by the token of its claim. Whoever comes with another token, because the job was given to somebody
else or has ended in the meantime, changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from mdtree.service.jobs import ENDS, Answer, Blame, Claim, Failure, Job, Outcome, Progress, State
from mdtree.service.storage import job_rows
from mdtree.service.storage.admission import RETENTION
from mdtree.service.storage.claim_order import in_claim_order
from mdtree.service.storage.database import Database
from mdtree.service.storage.idempotency import KEY_LIFETIME
from mdtree.service.storage.store_errors import RunningJob
from mdtree.service.storage.tables import answers, idempotency_keys, jobs

CRASHES = 2
"""A job fails when it has ended its own process this often."""

INTERRUPTIONS = 20
"""A job fails when so many workers or servers have ended under it, which is no longer chance."""

_CRASHED = Failure(
    Blame.CRASHED, "the process that worked on this job died twice; the same files will not be tried again"
)
_INTERRUPTED = Failure(
    Blame.CRASHED, f"the service was interrupted {INTERRUPTIONS} times while it worked on this job; send it again"
)
_NOBODYS: dict[str, Any] = {
    "worker": None,
    "token": None,
    "stage": None,
    "progress_text": None,
    "share": None,
}
_WAITING: dict[str, Any] = {**_NOBODYS, "state": State.QUEUED.value, "started_at": None}


class Standing(Enum):
    """What a worker is to do with the job it works on: go on; stop, its client wants it; stop, it is not its own."""

    GO_ON = "go on"
    CANCEL = "cancel"
    LOST = "lost"


class JobQueue(Database):
    """Claims, ends, cancellations, interruptions and expiry of jobs."""

    def claim(self, worker: str, *, now: datetime | None = None) -> Claim | None:
        """Take the next waiting job, for this worker alone; None where none waits (see `in_claim_order`)."""
        with self._reading() as connection:  # idle workers ask often: they are not to keep writers waiting
            if connection.execute(select(jobs.c.id).where(jobs.c.state == State.QUEUED.value).limit(1)).first() is None:
                return None
        next_one = in_claim_order(select(jobs.c.id)).limit(1).with_for_update(of=jobs, skip_locked=True)
        with self._writing() as connection:
            id = connection.execute(next_one).scalar_one_or_none()
            if id is None:
                return None
            token = secrets.token_hex(16)
            values = {
                **_NOBODYS,
                "state": State.RUNNING.value,
                "started_at": now or datetime.now(UTC),
                "worker": worker,
                "token": token,
            }
            return Claim(_set(connection, id, values), token)

    def progress(self, claim: Claim, progress: Progress) -> Standing:
        """Say how far a job is, and learn whether to go on."""
        with self._writing() as connection:
            row = _held(connection, claim)
            if row is None:
                return Standing.LOST
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(job_rows.progress_values(progress)))
            return Standing.CANCEL if row.cancel_asked else Standing.GO_ON

    def finish(
        self, claim: Claim, outcome: Outcome | None, retention: timedelta, *, now: datetime | None = None
    ) -> bool:
        """End a job with its outcome, None for a job that was cancelled.

        Returns
        -------
        bool
            False where the claim no longer holds the job: nothing was changed.
        """
        with self._writing() as connection:
            row = _held(connection, claim)
            if row is None:
                return False
            if outcome is None:
                values = _ended(State.CANCELLED, retention, now)
            elif isinstance(outcome, Failure):
                values = {**_ended(State.FAILED, retention, now), **job_rows.failure_values(outcome)}
            else:
                values = {**_ended(State.DONE, retention, now), **job_rows.answer_values(outcome)}
            if isinstance(outcome, Answer):
                connection.execute(insert(answers).values(job=row.id, diagnosis=outcome.diagnosis))
            _set(connection, row.id, values)
            return True

    def crashed(self, claim: Claim, retention: timedelta, *, now: datetime | None = None) -> Job:
        """Count that a job ended its own process: it waits again, or fails the second time.

        Returns
        -------
        Job
            As it stands then; unchanged where the claim no longer holds it.
        """
        with self._writing() as connection:
            row = _held(connection, claim)
            if row is None:
                found = connection.execute(select(jobs).where(jobs.c.id == claim.job.id)).one_or_none()
                return claim.job if found is None else job_rows.job(found)
            crashes = row.crashes + 1
            values = _set_back(row, _CRASHED if crashes >= CRASHES else None, retention, now)
            return _set(connection, row.id, {**values, "crashes": crashes})

    def give_back(self, claim: Claim, *, retention: timedelta = RETENTION, now: datetime | None = None) -> None:
        """Let a job wait again, without counting it; one that its client wants to end is cancelled."""
        with self._writing() as connection:
            row = _held(connection, claim)
            if row is not None:
                _set(connection, row.id, _set_back(row, None, retention, now))

    def interrupted(
        self, workers: Collection[str] | None, retention: timedelta, *, now: datetime | None = None
    ) -> list[str]:
        """Let the jobs of workers that are no more wait again; None for all workers.

        Returns
        -------
        list of str
            The ids of the jobs. One fails at its 20th interruption; one that its client wants to end is cancelled.
        """
        query = select(jobs).where(jobs.c.state == State.RUNNING.value).order_by(jobs.c.id).with_for_update()
        if workers is not None:
            query = query.where(jobs.c.worker.in_(list(workers)))
        with self._writing() as connection:
            rows = connection.execute(query).all()
            for row in rows:
                interruptions = row.interruptions + 1
                values = _set_back(row, _INTERRUPTED if interruptions >= INTERRUPTIONS else None, retention, now)
                _set(connection, row.id, {**values, "interruptions": interruptions})
        return [row.id for row in rows]

    def cancel(
        self, owner: str, id: str, *, retention: timedelta = RETENTION, now: datetime | None = None
    ) -> Job | None:
        """Cancel a waiting job; ask the worker of a running one to end it; leave an ended one as it is.

        Returns
        -------
        Job or None
            As it stands then; None where the owner has none of this id.
        """
        with self._writing() as connection:
            row = _locked(connection, owner, id)
            if row is None:
                return None
            if row.state == State.QUEUED.value:
                return _set(connection, id, _ended(State.CANCELLED, retention, now))
            if row.state == State.RUNNING.value:
                return _set(connection, id, {"cancel_asked": True})
            return job_rows.job(row)

    def delete_job(self, owner: str, id: str) -> bool:
        """Delete a job and its answer; a waiting one is thereby cancelled. False where the owner has none of this id.

        Raises
        ------
        RunningJob
            A worker is at it.
        """
        with self._writing() as connection:
            row = _locked(connection, owner, id)
            if row is None:
                return False
            if row.state == State.RUNNING.value:
                raise RunningJob("the job is running", "one that has ended", "cancel it first")
            connection.execute(delete(jobs).where(jobs.c.id == id))
            return True

    def expire(self, now: datetime) -> list[str]:
        """Delete ended jobs whose time has come, and forget old idempotency keys; returns the ids of the jobs."""
        old = delete(jobs).where(jobs.c.expires_at <= now, jobs.c.state.in_(sorted(ENDS))).returning(jobs.c.id)
        with self._writing() as connection:
            connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at <= now - KEY_LIFETIME))
            return list(connection.execute(old).scalars())

    def counts(self) -> dict[State, int]:
        """How many jobs of all owners are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._reading() as connection:
            found = {state: count for state, count in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in State}


def _held(connection: Connection, claim: Claim) -> Row[Any] | None:
    """The row of the job while this claim holds it, locked until the transaction ends."""
    query = select(jobs).where(
        jobs.c.id == claim.job.id, jobs.c.token == claim.token, jobs.c.state == State.RUNNING.value
    )
    return connection.execute(query.with_for_update()).one_or_none()


def _locked(connection: Connection, owner: str, id: str) -> Row[Any] | None:
    query = select(jobs).where(jobs.c.id == id, jobs.c.owner == owner)
    return connection.execute(query.with_for_update()).one_or_none()


def _set(connection: Connection, id: str, values: dict[str, Any]) -> Job:
    return job_rows.job(connection.execute(update(jobs).where(jobs.c.id == id).values(values).returning(jobs)).one())


def _ended(state: State, retention: timedelta, now: datetime | None) -> dict[str, Any]:
    now = now or datetime.now(UTC)
    return {**_NOBODYS, "state": state.value, "finished_at": now, "expires_at": now + retention}


def _set_back(row: Row[Any], failure: Failure | None, retention: timedelta, now: datetime | None) -> dict[str, Any]:
    """What becomes of a running job whose run came to nothing: cancelled if its client asked, failed, or waiting."""
    if row.cancel_asked:
        return _ended(State.CANCELLED, retention, now)
    if failure is not None:
        return {**_ended(State.FAILED, retention, now), **job_rows.failure_values(failure)}
    return _WAITING
