"""The hostile collection over HTTP, against a real service and its worker: nothing runs, nothing is written elsewhere,
nobody dies, and every file gets its sentence."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_hostile import LARGE, HostileUpload, hostile_uploads
from service_started import StartedService, started

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
ASKS = re.compile(
    r"does not say which network it is|do not fit the network|does not say what it was trained on|not known here"
)
"""What is said of good weights of no network; a manifest's words among them are believed, and do not fit."""

TOO_LARGE = re.compile(r"of mlp; expected at most 1,000$|has more parameters than can be counted|GB of memory, and")
"""Of a manifest that names a vast network."""

OWN_WORDS = re.compile(r"site-packages|Traceback|line \d+, in|/tmp/|[0-9a-f]{32}")
"""What tells of the server and is nobody's business."""

CONFIGURATION = """
[limits]
waiting_jobs = 5000
waiting_jobs_per_owner = 5000
"""
DATA = {"incoming", "files", "work", "reports", "secret", "server.lock", "workers.lock"}


@dataclass(frozen=True)
class Prey:
    """A service that can write where it wants, and the folders where nothing must appear.

    Attributes
    ----------
    service : StartedService
    surroundings : Path
        Its current directory, home, cache and temporary folder lie in it.
    samples : Path
        The collection.
    """

    service: StartedService
    surroundings: Path
    samples: Path

    @property
    def marker(self) -> Path:
        """Every payload would create this."""
        return self.surroundings / "executed"

    def tree(self) -> set[str]:
        return {str(one.relative_to(self.surroundings)) for one in self.surroundings.rglob("*")}


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prey]:
    folder = tmp_path_factory.mktemp("prey")
    surroundings = folder / "surroundings"
    places = {name: surroundings / name for name in ("cwd", "home", "tmp", "cache")}
    for place in places.values():
        place.mkdir(parents=True)
    variables = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache", "MDTREE_CACHE": "cache"}
    environment = {name: str(places[value]) for name, value in variables.items()}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    with started(folder, CONFIGURATION, environment=environment, cwd=places["cwd"]) as service:
        yield Prey(service, surroundings, folder / "samples")


def sent(client: httpx.Client, upload: HostileUpload) -> str:
    """The id of the job that opens it."""
    with upload.path.open("rb") as content:
        stored = client.post("/v1/files", params={"name": upload.name}, content=content)
    assert stored.status_code == 201, upload.case.name
    job = client.post("/v1/jobs", json={"checkpoint": stored.json()["id"]})
    assert job.status_code == 202, upload.case.name
    return str(job.json()["id"])


def ended(client: httpx.Client, jobs: list[str], seconds: float) -> dict[str, Any]:
    """All jobs, at their ends."""
    until = time.monotonic() + seconds
    while client.get("/v1/jobs", params={"state": ["queued", "running"], "limit": 1}).json()["jobs"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    return {job: client.get(f"/v1/jobs/{job}").json() for job in jobs}


def check_sentence(upload: HostileUpload, job: dict[str, Any], prey: Prey) -> None:
    """It failed for what was sent, in one line fit for a terminal, that is the command line's and betrays nothing."""
    said = job["failure"]
    message = said["message"]
    blame = "resources" if "GB of memory" in message else "input"
    assert (job["state"], said["blame"], job["crashes"]) == ("failed", blame, 0), (upload.case.name, job)
    assert 10 < len(message) < 2000, upload.case.name
    assert not CONTROL.search(message), upload.case.name
    assert not OWN_WORDS.search(message), (upload.case.name, message)
    assert str(prey.service.data.parent) not in message
    if upload.whole:
        wanted = (ASKS, TOO_LARGE) if upload.case.opens else (re.compile(upload.case.sentence),)
        assert any(one.search(message) for one in wanted), (upload.case.name, message)


def check_nothing_happened(prey: Prey, before: set[str], workers: set[int]) -> None:
    """No code ran, nothing was written outside, the same processes serve, and no work is left."""
    assert not prey.marker.exists()
    assert prey.tree() == before
    names = {one.name for one in prey.service.data.iterdir()}
    assert {name for name in names if not name.startswith("mdtree.sqlite")} <= DATA
    assert not list((prey.service.data / "incoming").iterdir())
    assert not list((prey.service.data / "work").glob("*/*"))
    assert {process.pid for process in prey.service.process.workers()} == workers
    with prey.service.client() as client:
        assert client.get("/ready").status_code == 200


def send_all(prey: Prey, uploads: list[HostileUpload], seconds: float) -> None:
    before = prey.tree()
    with prey.service.client() as client, ThreadPoolExecutor(4) as threads:
        sent(client, uploads[0])
        ended(client, [], seconds)  # the worker is there
        workers = {process.pid for process in prey.service.process.workers()}
        jobs = list(threads.map(lambda upload: sent(client, upload), uploads))
        found = ended(client, jobs, seconds)
    for upload, job in zip(uploads, jobs, strict=True):
        check_sentence(upload, found[job], prey)
    check_nothing_happened(prey, before, workers)


@pytest.fixture(scope="module")
def collection(prey: Prey) -> list[HostileUpload]:
    prey.samples.mkdir()
    return list(hostile_uploads(prey.samples, prey.marker))


def test_the_collection_gets_its_sentences(prey: Prey, collection: list[HostileUpload]) -> None:
    uploads = [upload for upload in collection if 0 < upload.size < LARGE]
    assert len(uploads) > 250
    assert sum(upload.whole for upload in uploads) > 200
    send_all(prey, uploads, 120)


@pytest.mark.slow
def test_what_is_large_gets_its_sentence(prey: Prey, collection: list[HostileUpload]) -> None:
    """Bombs, and files that would fill the memory where they are believed."""
    uploads = [upload for upload in collection if upload.size >= LARGE]
    assert len(uploads) > 15
    send_all(prey, uploads, 240)


def test_what_is_empty_is_refused_at_once(prey: Prey, collection: list[HostileUpload]) -> None:
    (empty,) = [upload for upload in collection if upload.size == 0]
    with prey.service.client() as client, empty.path.open("rb") as content:
        answer = client.post("/v1/files", params={"name": empty.name}, content=content)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "body")
    assert "empty" in answer.json()["error"]["message"]


def test_the_payloads_would_be_seen(prey: Prey, collection: list[HostileUpload]) -> None:
    """The marker lies where the service may write, and its tree is the one that is compared."""
    assert os.access(prey.surroundings, os.W_OK)
    before = prey.tree()
    prey.marker.touch()
    try:
        assert prey.tree() - before == {"executed"}
    finally:
        prey.marker.unlink()
    assert any(str(prey.marker).encode() in upload.path.read_bytes() for upload in collection)
