"""A database that is away, full, read-only, newer, or none at all: one sentence, and work goes on when it is back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from service_postgresql import PostgreSQL
from service_rows import DAY, LIMITS, answer, claimed, finished, job, waiting
from sqlalchemy import Engine, event, make_url

from mdtree.errors import InputError, ResourceError
from mdtree.service.jobs import Progress
from mdtree.service.storage import database
from mdtree.service.storage.store import Standing, Store
from mdtree.service.storage.store_errors import StoreFull, StoreUnavailable


def written(store: Store) -> None:
    """Write something that takes more than the free part of a page."""
    store.add_answer(job(), answer("x" * 100_000), LIMITS)


def statement(url: str, words: str) -> None:
    """Run a statement beside the store, on either kind of database."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(words)
    else:
        with psycopg.connect(url) as session:
            session.execute(words)


@pytest.fixture
def on_connecting() -> Iterator[Callable[[str], None]]:
    """Have every new connection to SQLite run a statement first."""
    listeners = []

    def add(words: str) -> None:
        def listener(connection: sqlite3.Connection, _: object) -> None:
            connection.execute(words)

        event.listen(Engine, "connect", listener)
        listeners.append(listener)

    yield add
    for one in listeners:
        event.remove(Engine, "connect", one)


class TestAddresses:
    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
    def test_of_memory_are_refused(self, url: str) -> None:
        with pytest.raises(InputError, match="a database in memory is given; expected a file, which several processes"):
            Store(url)

    def test_of_other_databases_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"a database of mysql is given; expected sqlite:///FILE or postgresql://"):
            Store("mysql://host/name")
        with pytest.raises(InputError, match=r"a database of postgresql\+asyncpg is given"):
            Store("postgresql+asyncpg://host/name")

    def test_that_are_none_are_refused_without_repeating_them(self) -> None:
        with pytest.raises(InputError, match="the address of the database is not one") as refusal:
            Store("postgresql//me:hunter2@host")
        assert "hunter2" not in str(refusal.value)

    def test_of_postgresql_may_name_the_driver(self, postgresql_url: str) -> None:
        for scheme in ("postgresql+psycopg", "postgres"):
            with closing(Store(postgresql_url.replace("postgresql", scheme, 1))) as store:
                store.check()

    def test_that_nobody_answers_are_refused_without_the_password(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as refusal:
            Store(f"postgresql://me:hunter2@/name?host={tmp_path}")
        message = str(refusal.value)
        assert message.startswith("the database postgresql+psycopg://me:***@/name")
        assert message.endswith("check its address, and that this user may write to it")
        assert "hunter2" not in message
        assert "\n" not in message

    def test_of_a_folder_that_is_not_there_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be used: unable to open database file; check its address"):
            Store(f"sqlite:///{tmp_path}/missing/service.sqlite")

    def test_of_a_file_that_is_no_database_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "service.sqlite").write_text("to be or not to be" * 100)
        with pytest.raises(InputError, match="cannot be used: file is not a database"):
            Store(f"sqlite:///{tmp_path}/service.sqlite")


class TestOpening:
    def test_keeps_what_is_there(self, store: Store, database_url: str) -> None:
        ended = finished(store)
        store.close()
        with closing(Store(database_url)) as again:
            assert again.jobs("alice") == [ended]

    def test_a_newer_database_is_left_alone(self, store: Store, database_url: str) -> None:
        statement(database_url, "UPDATE mdtree_schema SET version = 2")
        with pytest.raises(InputError, match="has tables of version 2; expected version 1 or older"):
            Store(database_url)

    def test_many_at_once_make_the_tables_once(self, database_url: str) -> None:
        with ThreadPoolExecutor(8) as threads:
            stores = list(threads.map(Store, [database_url] * 8))
        for one in stores:
            one.check()  # raises where the version stands there twice
            one.close()

    def test_a_database_that_can_only_be_read_is_refused(self, store: Store, database_url: str) -> None:
        url = make_url(database_url)
        if database_url.startswith("sqlite"):
            read_only = f"sqlite:///file:{url.database}?mode=ro&uri=true"
        else:
            statement(database_url, f"ALTER DATABASE {url.database} SET default_transaction_read_only = on")
            read_only = database_url
        with pytest.raises(InputError, match=r"cannot be used: .*read-?only.*; check its address"):
            Store(read_only)


class TestFullDisk:
    def test_of_sqlite(self, sqlite_url: str, on_connecting: Callable[[str], None]) -> None:
        Store(sqlite_url).close()
        on_connecting("PRAGMA max_page_count = 60")
        with closing(Store(sqlite_url)) as store:
            sent = waiting(store)
            with pytest.raises(StoreFull, match=r"^the disk of the database is full; try again when there is space$"):
                written(store)
            assert [one.id for one in store.jobs("alice")] == [sent.id]  # nothing is half there
            assert store.finish(claimed(store), answer(), DAY)

    def test_of_sqlite_without_room_for_the_tables(self, sqlite_url: str, on_connecting: Callable[[str], None]) -> None:
        on_connecting("PRAGMA max_page_count = 2")
        with pytest.raises(ResourceError, match=r"the disk of the database .* is full; free some space on it"):
            Store(sqlite_url)

    def test_of_postgresql(self, postgresql_url: str) -> None:
        """A trigger says what a server says whose disk is full."""
        with closing(Store(postgresql_url)) as store:
            sent = waiting(store)
            statement(
                postgresql_url,
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;"
                "CREATE TRIGGER full_disk BEFORE INSERT ON mdtree_answers EXECUTE FUNCTION refuse()",
            )
            with pytest.raises(StoreFull):
                written(store)
            assert [one.id for one in store.jobs("alice")] == [sent.id]


class TestAway:
    def test_postgresql_that_ends_its_connections_is_back_by_itself(
        self, postgresql: PostgreSQL, postgresql_url: str
    ) -> None:
        name = make_url(postgresql_url).database
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        with closing(Store(postgresql_url)) as store:
            waiting(store)
            claim = claimed(store)
            postgresql.run(end)
            store.check()  # a new connection: nobody notices
            postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", end)
            deeds = (
                store.check,
                store.counts,
                lambda: store.claim("worker-1"),
                lambda: store.progress(claim, Progress("measuring")),
                lambda: store.finish(claim, answer(), DAY),
            )
            for deed in deeds:
                with pytest.raises(StoreUnavailable, match=r"^the database does not answer; try again later$") as away:
                    deed()
                assert "not currently accepting connections" in away.value.detail
            postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert store.progress(claim, Progress("measuring")) is Standing.GO_ON
            assert store.finish(claim, answer(), DAY)

    def test_postgresql_that_becomes_read_only(self, postgresql: PostgreSQL, postgresql_url: str) -> None:
        name = make_url(postgresql_url).database
        with closing(Store(postgresql_url)) as store:
            ended = finished(store)
            postgresql.run(
                f"ALTER DATABASE {name} SET default_transaction_read_only = on",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )
            with pytest.raises(StoreUnavailable, match="the database cannot be written to; give the service the right"):
                written(store)
            assert store.jobs("alice") == [ended]

    def test_sqlite_that_becomes_read_only(self, sqlite_url: str, on_connecting: Callable[[str], None]) -> None:
        with closing(Store(sqlite_url)) as store:
            ended = finished(store)
            store.close()
            on_connecting("PRAGMA query_only = ON")
            with pytest.raises(StoreUnavailable, match="the database cannot be written to; give the service the right"):
                written(store)
            assert store.jobs("alice") == [ended]

    def test_sqlite_that_somebody_else_keeps(self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.1)
        with (
            closing(Store(sqlite_url)) as store,
            closing(sqlite3.connect(make_url(sqlite_url).database or "")) as other,
        ):
            ended = finished(store)
            other.execute("BEGIN IMMEDIATE")
            assert store.jobs("alice") == [ended]  # readers wait for nobody
            with pytest.raises(StoreUnavailable, match=r"^the database is busy; try again later$"):
                written(store)
            other.rollback()
            written(store)


class TestFork:
    def test_a_child_cannot_use_the_connections_of_its_parent(self, store: Store) -> None:
        waiting(store)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for deed in (store.check, lambda: store.claim("child")):
                    try:
                        deed()
                    except RuntimeError as error:
                        os.write(write, f"{error}\n".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as told:
            assert (
                told.readlines()
                == ["a child made by fork cannot use the store of its parent; let the parent use it\n"] * 2
            )
        assert store.finish(claimed(store), answer(), DAY)  # nothing of it reached the database

    def test_the_parent_goes_on_whatever_becomes_of_its_children(self, store: Store) -> None:
        """A child that closes every descriptor it inherited, as those that read files of clients do."""
        waiting(store)
        claim = claimed(store)
        for closes in (True, False):
            child = os.fork()
            if child == 0:
                if closes:
                    os.closerange(3, 1024)
                os._exit(0)
            os.waitpid(child, 0)
            assert store.progress(claim, Progress("measuring")) is Standing.GO_ON
        assert store.finish(claim, answer(), DAY)
