"""The tables of the service, the same in SQLite and in PostgreSQL.

Times are whole microseconds since 1970-01-01 UTC, so that they compare as numbers in both databases. What no query
looks into (requests, summaries) is JSON text. Names start with ``mdtree_``, since a database may hold other tables.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

SCHEMA_VERSION = 1
"""Raised by every change of these tables."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Microseconds of a time; a time without a zone has none and is a mistake (TypeError)."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The time in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Words(TypeDecorator[str]):
    """Text that both databases take: PostgreSQL has no NUL, neither has halves of surrogate pairs; all are replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """The text with replacement characters where it must be."""
        return None if value is None else value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


metadata = MetaData()

schema = Table("mdtree_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))
"""One row. Transactions that count before they add lock it, so that two cannot both take the last place."""

files = Table(
    "mdtree_files",
    metadata,
    Column("id", Words, primary_key=True),
    Column("owner", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
    Index("mdtree_files_of_owner", "owner", "created_at"),
)

jobs = Table(
    "mdtree_jobs",
    metadata,
    Column("id", Words, primary_key=True),
    Column("owner", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("expires_at", UtcTime, index=True),
    Column("request", Words),
    Column("stage", Words),
    Column("progress_text", Words),
    Column("share", Double),
    Column("verdict", Words),
    Column("summary", Words),
    Column("blame", Words),
    Column("message", Words),
    Column("crashes", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    # while it runs: by whom, the token of the run, and whether its client wants it to end
    Column("worker", Words),
    Column("token", Words),
    Column("cancel_asked", Boolean, nullable=False),
    Index("mdtree_jobs_of_owner", "owner", "created_at", "id"),
    Index("mdtree_jobs_in_state", "state", "owner"),
)

answers = Table(
    "mdtree_answers",
    metadata,
    Column("job", Words, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("diagnosis", Words, nullable=False),
)

job_files = Table(
    "mdtree_job_files",
    metadata,
    Column("job", Words, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("file", Words, primary_key=True, index=True),
)
"""Which files a job names. No foreign key to the files: an ended job outlives them."""

idempotency_keys = Table(
    "mdtree_idempotency_keys",
    metadata,
    Column("owner", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("fingerprint", Words, nullable=False),
    Column("job", Words, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False, index=True),
)
