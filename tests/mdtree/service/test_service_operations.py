"""Health, readiness and metrics: what a load balancer, an operator and Prometheus see."""

import logging
import shutil
import threading
import time
from dataclasses import replace
from hashlib import sha256

import pytest
from service_rows import finished, waiting
from starlette.testclient import TestClient

from mdtree import __version__
from mdtree.service.readiness import KEPT_SECONDS, Readiness
from mdtree.service.settings import Limits, ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.storage.store_errors import StoreUnavailable
from mdtree.service.telemetry import Telemetry
from mdtree.service.tokens import Tokens
from mdtree.service.web.app import create_app
from mdtree.service.web.operations import operations_router

TOKEN = "t" * 40


class Crew:
    """What a supervisor tells of its workers."""

    restarts, crashes = 3, 2

    def __init__(self, running=2):
        self.running = running

    def alive(self):
        return self.running


class Away(Store):
    """A store whose database has gone."""

    def check(self):
        raise StoreUnavailable("gone", detail="postgresql://secret-host")

    counts = stored_bytes = check


@pytest.fixture
def settings(tmp_path):
    return ServiceSettings(data_dir=tmp_path, limits=Limits(disk_floor_bytes=0), workers=2)


@pytest.fixture
def sqlite(sqlite_url):
    store = Store(sqlite_url)
    yield store
    store.close()


def readiness(settings, store, crew=None):
    return Readiness(settings, store, (crew or Crew()).alive)


# -- readiness --------------------------------------------------------------------------------------------------------


def test_it_is_ready_when_nothing_is_wrong(settings, sqlite):
    assert readiness(settings, sqlite).problems() == []
    assert readiness(settings, sqlite, Crew(running=1)).problems() == [], "one worker of two does the work"


def test_without_a_worker_it_is_not(settings, sqlite):
    assert readiness(settings, sqlite, Crew(running=0)).problems() == ["none of 2 workers runs"]


def test_without_its_database_it_is_not_and_does_not_say_where_that_is(settings, sqlite_url, caplog):
    store = Away(sqlite_url)
    assert readiness(settings, store).problems() == ["the database does not answer"]
    assert "the database does not answer" in caplog.text
    store.close()


def test_below_the_floor_of_the_disk_it_is_not(settings, sqlite):
    limits = Limits(disk_floor_bytes=2**62)
    (problem,) = readiness(replace(settings, limits=limits), sqlite).problems()
    assert f"fewer than the {2**62:,} that are kept free" in problem


def test_with_a_data_directory_that_is_gone_it_is_not(settings, sqlite, tmp_path):
    gone = tmp_path / "gone"
    (problem,) = readiness(replace(settings, data_dir=gone), sqlite).problems()
    assert problem == "the data directory cannot be written (No such file or directory)"


def test_everything_that_is_wrong_is_said(settings, sqlite_url, tmp_path):
    store = Away(sqlite_url)
    asked = readiness(replace(settings, data_dir=tmp_path / "gone"), store, Crew(running=0))
    asked.stopping = True
    assert len(asked.problems()) == 4
    assert asked.problems()[0] == "the server is stopping"
    store.close()


def test_nothing_is_left_of_looking(settings, sqlite, tmp_path):
    before = set(tmp_path.iterdir())
    readiness(settings, sqlite).problems()
    assert set(tmp_path.iterdir()) == before


def test_an_answer_serves_for_a_moment_and_no_longer(settings, sqlite):
    crew = Crew()
    asked = readiness(settings, sqlite, crew)
    assert asked.problems() == []
    crew.running = 0
    assert asked.problems() == []
    time.sleep(KEPT_SECONDS + 0.1)
    assert asked.problems() == ["none of 2 workers runs"]


def test_nobody_waits_beside_the_one_who_looks(settings, sqlite_url):
    looking, go_on = threading.Event(), threading.Event()

    class Slow(Store):
        def check(self):
            looking.set()
            go_on.wait(10)

    store = Slow(sqlite_url)
    asked = readiness(settings, store)
    first = threading.Thread(target=asked.problems)
    first.start()
    assert looking.wait(10)
    began = time.monotonic()
    assert asked.problems() == ["the database or the disk did not answer for 5 seconds"]
    assert time.monotonic() - began < 1
    go_on.set()
    first.join(10)
    assert asked.problems() == []
    store.close()


# -- routes -----------------------------------------------------------------------------------------------------------


def client_of(settings, store, problems=(), tokens=()):
    telemetry = Telemetry()
    telemetry.watch(store, Crew(), settings.data_dir)
    known = Tokens({sha256(token.encode()).hexdigest(): "alice" for token in tokens})
    settings = replace(settings, tokens=known)
    return TestClient(create_app(settings, store, ready=lambda: list(problems), telemetry=telemetry))


def test_health_and_readiness_need_no_token(settings, sqlite):
    client = client_of(settings, sqlite, tokens=[TOKEN])
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready", "problems": []}


def test_what_is_not_ready_says_why_and_when_to_come_back(settings, sqlite):
    answer = client_of(settings, sqlite, problems=["the disk is full"]).get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "problems": ["the disk is full"]}
    assert int(answer.headers["Retry-After"]) > 0


def test_a_process_lives_although_it_is_not_ready(settings, sqlite):
    assert client_of(settings, sqlite, problems=["the disk is full"]).get("/health").status_code == 200


@pytest.mark.parametrize("authorization", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer é"])
def test_metrics_need_a_token_where_there_are_any(settings, sqlite, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = client_of(settings, sqlite, tokens=[TOKEN]).get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_metrics_with_a_token_or_where_there_are_none(settings, sqlite):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client_of(settings, sqlite, tokens=[TOKEN]).get("/metrics", headers=headers).status_code == 200
    assert client_of(settings, sqlite).get("/metrics").headers["Content-Type"].startswith("text/plain; version=")


def values(text):
    """Samples by their names with labels."""
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")}


def test_metrics_tell_what_is_kept_and_what_works(settings, sqlite):
    finished(sqlite)
    waiting(sqlite)
    found = values(client_of(settings, sqlite).get("/metrics").text)
    jobs = {
        state: found[f'mdtree_jobs{{state="{state}"}}']
        for state in ("queued", "running", "done", "failed", "cancelled")
    }
    assert jobs == {"queued": 1, "running": 0, "done": 1, "failed": 0, "cancelled": 0}
    assert found["mdtree_stored_bytes"] == 2000
    assert found["mdtree_workers"] == 2
    assert found["mdtree_worker_restarts_total"] == 3
    assert found["mdtree_job_crashes_total"] == 2
    assert found["mdtree_database_up"] == 1
    assert found["mdtree_disk_free_bytes"] == pytest.approx(shutil.disk_usage(settings.data_dir).free, rel=0.1)
    assert found[f'mdtree_info{{version="{__version__}"}}'] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_metrics_survive_a_database_that_is_away(settings, sqlite_url, caplog):
    store = Away(sqlite_url)
    with caplog.at_level(logging.ERROR):
        found = values(client_of(settings, store).get("/metrics").text)
    assert found["mdtree_database_up"] == 0
    assert found["mdtree_workers"] == 2
    assert not [name for name in found if name.startswith("mdtree_jobs")]
    store.close()


def test_uploads_are_counted(settings, sqlite):
    client = client_of(settings, sqlite)
    assert client.post("/v1/files?name=a.pt", content=b"x" * 123).status_code == 201
    assert values(client.get("/metrics").text)["mdtree_upload_bytes_total"] == 123


def test_connections_that_a_limit_ended_are_counted():
    telemetry = Telemetry()
    telemetry.refused_connection("head_timeout")
    assert 'mdtree_refused_connections_total{reason="head_timeout"} 1.0' in telemetry.text().decode()


def test_two_services_in_one_process_do_not_share_them():
    first, second = Telemetry(), Telemetry()
    first.request("GET", "/health", 200, 0.01)
    assert "/health" in first.text().decode()
    assert "/health" not in second.text().decode()


def test_the_routes_are_in_the_document(settings, sqlite):
    paths = client_of(settings, sqlite).get("/openapi.json").json()["paths"]
    routes = operations_router(list, Telemetry()).routes
    assert {route.path for route in routes} == {"/health", "/ready", "/metrics"} <= set(paths)
    assert set(paths["/ready"]["get"]["responses"]) >= {"200", "503"}
    assert paths["/metrics"]["get"]["security"]
