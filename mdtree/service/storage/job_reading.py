"""Jobs as their owners look at them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, tuple_

from mdtree.service.jobs import Job, Kind, State
from mdtree.service.storage import job_rows
from mdtree.service.storage.claim_order import in_claim_order
from mdtree.service.storage.database import Database
from mdtree.service.storage.store_errors import UnknownJob
from mdtree.service.storage.tables import Words, answers, jobs


class JobReading(Database):
    """One job, the list of jobs, and the answer of one."""

    def job(self, owner: str, id: str) -> Job | None:
        """The job of this owner; None where he has none of this id."""
        with self._reading() as connection:
            row = connection.execute(_of(owner, id)).one_or_none()
            return None if row is None else _jobs(connection, [row])[0]

    def jobs(
        self,
        owner: str,
        *,
        states: Collection[State] = (),
        verdicts: Collection[str] = (),
        name: str = "",
        kind: Kind | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Job]:
        """The jobs of this owner, newest first.

        Parameters
        ----------
        owner : str
        states, verdicts : collections
            Only jobs with one of these; empty for all.
        name : str
            A part of their names, in letters of any case.
        kind : Kind or None
        limit : int
            How many at most: a page.
        before : str or None
            The id of the last job of the page before: jobs that arrived since then move no others to another page.

        Raises
        ------
        UnknownJob
            `before` is no job of this owner, or was deleted since.
        """
        query = select(jobs).where(jobs.c.owner == owner)
        if states:
            query = query.where(jobs.c.state.in_([State(one).value for one in states]))
        if verdicts:
            query = query.where(jobs.c.verdict.in_(list(verdicts)))
        if name:
            query = query.where(func.lower(jobs.c.name, type_=Words()).contains(name.lower(), autoescape=True))
        if kind is not None:
            query = query.where(jobs.c.kind == kind.value)
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        with self._reading() as connection:
            if before is not None:
                query = query.where(_older(connection, owner, before))
            return _jobs(connection, connection.execute(query).all())

    def diagnosis(self, owner: str, id: str) -> str | None:
        """The text of the answer of this owner's job; None where there is none."""
        query = select(answers.c.diagnosis).join(jobs, jobs.c.id == answers.c.job)
        with self._reading() as connection:
            return connection.execute(query.where(jobs.c.id == id, jobs.c.owner == owner)).scalar_one_or_none()


def present_job(connection: Connection, owner: str, id: str) -> Job:
    """A job that is known to be there, as it stands within a transaction."""
    return _jobs(connection, [connection.execute(_of(owner, id)).one()])[0]


def _of(owner: str, id: str) -> Select[Any]:
    return select(jobs).where(jobs.c.id == id, jobs.c.owner == owner)


def _older(connection: Connection, owner: str, before: str) -> Any:
    last = connection.execute(_of(owner, before)).one_or_none()
    if last is None:
        raise UnknownJob(
            f"there is no job {before} to go on after", "the id of the last job of a page", "start at the first page"
        )
    key = (jobs.c.created_at, jobs.c.id)
    return tuple_(*key) < tuple_(last.created_at, last.id, types=[column.type for column in key])


def _jobs(connection: Connection, rows: Iterable[Row[Any]]) -> list[Job]:
    """Jobs of rows; those that wait know how many are before them."""
    rows = list(rows)
    position: dict[str, int] = {}
    if any(row.state == State.QUEUED.value for row in rows):
        queued = connection.execute(in_claim_order(select(jobs.c.id))).scalars()
        position = {id: before for before, id in enumerate(queued)}
    return [job_rows.job(row, position.get(row.id) if row.state == State.QUEUED.value else None) for row in rows]
