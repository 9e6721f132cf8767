"""Rows of uploaded files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select

from mdtree.service.jobs import State, StoredFile
from mdtree.service.settings import Limits
from mdtree.service.storage import job_rows
from mdtree.service.storage.database import Database
from mdtree.service.storage.store_errors import FileInUse, QuotaExceeded
from mdtree.service.storage.tables import files, job_files, jobs

_LIVE = (State.QUEUED.value, State.RUNNING.value)


class FileStore(Database):
    """Uploads: whose they are, and whether a job still needs them."""

    def add_file(self, file: StoredFile, limits: Limits) -> None:
        """Keep a row for an upload.

        Raises
        ------
        QuotaExceeded
            The owner's uploads would take more than `limits.stored_bytes_per_owner`.
        """
        with self._admitting() as connection:
            stored = _stored_bytes(connection, file.owner)
            if stored + file.size > limits.stored_bytes_per_owner:
                raise QuotaExceeded(
                    f"{file.name} has {file.size} bytes, beside {stored} bytes of earlier uploads",
                    f"{limits.stored_bytes_per_owner} bytes at most of one client",
                    "delete uploads that are no longer needed",
                )
            connection.execute(insert(files).values(asdict(file)))

    def file(self, owner: str, id: str) -> StoredFile | None:
        """The upload of this owner; None where he has none of this id."""
        with self._reading() as connection:
            row = connection.execute(select(files).where(files.c.id == id, files.c.owner == owner)).one_or_none()
        return None if row is None else job_rows.stored_file(row)

    def files(self, owner: str) -> list[StoredFile]:
        """The uploads of this owner, newest first."""
        query = select(files).where(files.c.owner == owner).order_by(files.c.created_at.desc(), files.c.id.desc())
        with self._reading() as connection:
            return [job_rows.stored_file(row) for row in connection.execute(query)]

    def delete_file(self, owner: str, id: str) -> bool:
        """Forget an upload of this owner; False where he has none of this id.

        Raises
        ------
        FileInUse
            A job that waits or runs names it.
        """
        with self._admitting() as connection:
            row = connection.execute(
                select(files.c.name, _needed().label("needed")).where(files.c.id == id, files.c.owner == owner)
            ).one_or_none()
            if row is None:
                return False
            if row.needed:
                raise FileInUse(f"a job that has not ended uses {row.name}", mend="cancel the job, or wait for its end")
            connection.execute(delete(files).where(files.c.id == id))
        return True

    def unused_files(self, before: datetime) -> list[StoredFile]:
        """Uploads made before this time that no waiting or running job names."""
        query = select(files).where(files.c.created_at < before, ~_needed()).order_by(files.c.created_at)
        with self._reading() as connection:
            return [job_rows.stored_file(row) for row in connection.execute(query)]

    def drop_files(self, ids: Iterable[str]) -> list[str]:
        """Forget these uploads, but those that a waiting or running job names by now.

        Returns
        -------
        list of str
            The ids that were forgotten: their bytes may go.
        """
        dropped = []
        with self._admitting() as connection:
            for id in ids:
                if connection.execute(delete(files).where(files.c.id == id, ~_needed())).rowcount:
                    dropped.append(id)
        return dropped

    def file_ids(self) -> set[str]:
        """The ids of all uploads of all owners."""
        with self._reading() as connection:
            return set(connection.execute(select(files.c.id)).scalars())

    def stored_bytes(self, owner: str | None = None) -> int:
        """Of all uploads of this owner; of all owners without one."""
        with self._reading() as connection:
            return _stored_bytes(connection, owner)


def _stored_bytes(connection: Connection, owner: str | None) -> int:
    query = select(func.coalesce(func.sum(files.c.size), 0))
    return int(connection.execute(query if owner is None else query.where(files.c.owner == owner)).scalar_one())


def _needed() -> ColumnElement[bool]:
    """Whether a job that has not ended names the file of the row."""
    naming = select(job_files.c.job).join(jobs, jobs.c.id == job_files.c.job)
    return exists(naming.where(job_files.c.file == files.c.id, jobs.c.state.in_(_LIVE)))
