"""The databases that the service is tested with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import service_postgresql
from service_started import StartedService, assert_serves, started

from mdtree.service.storage.store import Store


@pytest.fixture(scope="session")
def postgresql() -> Iterator[service_postgresql.PostgreSQL]:
    """A running PostgreSQL server; skipped where it is not installed, a failure on continuous integration."""
    programs = service_postgresql.programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: continuous integration tests with it")
        pytest.skip(service_postgresql.NOT_INSTALLED)
    with service_postgresql.running(programs) as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of a fresh SQLite database."""
    return f"sqlite:///{tmp_path / 'service.sqlite'}"


@pytest.fixture
def postgresql_url(postgresql: service_postgresql.PostgreSQL) -> Iterator[str]:
    """The address of a fresh database of a PostgreSQL server."""
    with postgresql.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a fresh database of each kind: what uses it runs twice."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty store, on each kind of database."""
    store = Store(database_url)
    yield store
    store.close()


@pytest.fixture(scope="session")
def _abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedService]:
    with started(tmp_path_factory.mktemp("abused")) as service:
        yield service


@pytest.fixture
def abused_service(_abused: StartedService) -> Iterator[StartedService]:
    """A running service with tokens and small limits, shared by tests that treat it badly; it must serve afterwards."""
    yield _abused
    assert_serves(_abused)
