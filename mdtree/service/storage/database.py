"""The database of a service: its connections, its transactions, and its errors in words."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from mdtree.errors import InputError, MDTreeError, ResourceError
from mdtree.service.storage import tables
from mdtree.service.storage.store_errors import StoreFull, StoreUnavailable

PATIENCE_SECONDS = 30
"""How long a transaction waits for another one, and for the database."""

_SCHEMA_LOCK = 7_106_020_214
"""Any number: under it PostgreSQL knows the lock of those who make the tables."""

_DISK_FULL = ("database or disk is full", "no space left on device")
_READ_ONLY = ("attempt to write a readonly database", "read-only transaction")
_SQLSTATE_DISK_FULL = "53100"
_SQLSTATES_BUSY = {"40P01", "53300", "57014"}  # a deadlock, too many connections, a statement that took too long


class Database:
    """Connections to one database, and its tables, made where they are missing.

    Safe for threads. Not for children made by fork: SQLite takes the locks of the parent for the child's own, even on
    connections that the child opens, and a connection to PostgreSQL has one end. A child made by fork is refused.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``, or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    InputError
        The address is none, the database cannot be reached or written, or a newer mdtree made its tables.
    ResourceError
        Its disk is full.
    """

    def __init__(self, url: str) -> None:
        self._url = _address(url)
        self._engine = _sqlite(self._url) if self._embedded else _postgresql(self._url)
        self._writers = self._engine.execution_options(writes=True)
        self._one_writer = threading.Lock()
        self._process = os.getpid()
        with _opening(self._url):
            self._prepare()

    @property
    def _embedded(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def check(self) -> None:
        """Ask the database for nothing.

        Raises
        ------
        StoreUnavailable
            It does not answer.
        """
        with self._reading() as connection:
            connection.execute(select(tables.schema.c.version)).one()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._refuse_forks()
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that may write.

        SQLite has one writer at a time and lets the others ask again and again; those of this process wait for a lock
        instead, which wakes them at once.
        """
        self._refuse_forks()
        turn = self._one_writer if self._embedded else nullcontext()
        with _translated(), turn, self._writers.begin() as connection:
            yield connection

    @contextmanager
    def _admitting(self) -> Iterator[Connection]:
        """A transaction that counts before it adds, or looks before it deletes: one at a time."""
        with self._writing() as connection:
            connection.execute(select(tables.schema.c.version).with_for_update())
            yield connection

    def _refuse_forks(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("a child made by fork cannot use the store of its parent; let the parent use it")

    def _prepare(self) -> None:
        if self._embedded:
            _use_wal(self._engine)
        with self._writers.begin() as connection:
            if not self._embedded:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
            tables.metadata.create_all(connection)
            # written, not only read: a database that takes no writes is found out now
            version = tables.schema.c.version
            found = connection.execute(update(tables.schema).values(version=version).returning(version)).scalar()
            if found is None:
                connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
            elif found > tables.SCHEMA_VERSION:
                raise InputError(
                    f"the database {_named(self._url)} has tables of version {found}",
                    f"version {tables.SCHEMA_VERSION} or older",
                    "install the mdtree that made it, or a newer one",
                )


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of a database in use, as errors of this project; those of this program stay what they are."""
    try:
        yield
    except NoConnectionFree as error:
        raise StoreUnavailable("the database is busy", mend="try again later", detail=str(error)) from error
    except (IntegrityError, DataError, ProgrammingError):
        raise
    except DBAPIError as error:
        raise _unavailable(error) from error


def _unavailable(error: DBAPIError) -> StoreUnavailable:
    words = _words(error)
    if _is_full(error):
        return StoreFull("the disk of the database is full", mend="try again when there is space", detail=words)
    if any(one in words for one in _READ_ONLY):
        mend = "give the service the right to write it"
        return StoreUnavailable("the database cannot be written to", mend=mend, detail=words)
    if getattr(error.orig, "sqlstate", None) in _SQLSTATES_BUSY or "database is locked" in words:
        return StoreUnavailable("the database is busy", mend="try again later", detail=words)
    return StoreUnavailable("the database does not answer", mend="try again later", detail=words)


@contextmanager
def _opening(url: URL) -> Iterator[None]:
    """Errors of a database that is opened: the operator gave its address, and reads what it says."""
    try:
        yield
    except MDTreeError:
        raise
    except DBAPIError as error:
        if _is_full(error):
            raise ResourceError(
                f"the disk of the database {_named(url)} is full", mend="free some space on it"
            ) from error
        raise InputError(
            f"the database {_named(url)} cannot be used: {_words(error)}",
            mend="check its address, and that this user may write to it",
        ) from error
    except SQLAlchemyError as error:
        raise InputError(f"the database {_named(url)} cannot be used: {error}", mend="check its address") from error


def _is_full(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state == _SQLSTATE_DISK_FULL or any(one in _words(error).lower() for one in _DISK_FULL)


def _words(error: DBAPIError) -> str:
    """What the database said, on one line."""
    return " ".join(str(error.orig).split()) or type(error.orig).__name__


def _named(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _address(text_of_url: str) -> URL:
    try:
        url = make_url(text_of_url)
    except ArgumentError:
        # the text is not repeated: a password may stand in it
        raise InputError(
            "the address of the database is not one", "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if url.drivername in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and (
        not url.database or ":memory:" in url.database or "memory" in url.query.values()
    ):
        raise InputError("a database in memory is given", "a file, which several processes can open")
    if url.drivername in {"sqlite", "postgresql+psycopg"}:
        return url
    raise InputError(
        f"a database of {url.drivername} is given", "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, pool_timeout=PATIENCE_SECONDS)

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _: object) -> None:
        connection.isolation_level = None  # Python begins no transactions of its own: `begin` below does
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(PATIENCE_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")  # what was accepted outlives a loss of power
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer takes its turn before it reads: otherwise what it read may be old when it writes
        options = connection.get_execution_options()
        if not options.get("no_transaction"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def _use_wal(engine: Engine) -> None:
    """Readers beside a writer. The switch is made once a database; others that make it at the same time are awaited."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with engine.connect().execution_options(no_transaction=True) as connection:
                mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
            break
        except DBAPIError as error:
            if "locked" not in _words(error) or time.monotonic() > until:
                raise
            time.sleep(0.05)
    if mode != "wal":
        raise InputError(
            f"the database {_named(engine.url)} lies where SQLite cannot share it between processes",
            mend="put the data folder on a local disk",
        )


def _postgresql(url: URL) -> Engine:
    wanted = {"connect_timeout": "10", "tcp_user_timeout": str(PATIENCE_SECONDS * 1000), "client_encoding": "utf8"}
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,  # the server may have been restarted since the last transaction
            pool_timeout=PATIENCE_SECONDS,
            isolation_level="READ COMMITTED",
            connect_args={name: value for name, value in wanted.items() if name not in url.query},
        )
    except (ImportError, NoSuchModuleError) as error:
        raise InputError(
            "psycopg, which speaks to PostgreSQL, is not installed", mend="pip install 'mdtree-diagnosis[postgresql]'"
        ) from error

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _: object) -> None:
        connection.autocommit = True
        connection.execute(f"SET statement_timeout = '{PATIENCE_SECONDS}s'")
        connection.autocommit = False

    return engine
