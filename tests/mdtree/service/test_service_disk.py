"""A disk that is full or cannot be written: clear answers, nothing lost, and all is well when the space is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_http import record_body
from service_small_disk import SmallDisk, small_disk
from service_started import benchmark_module, started

SAMPLE = Path(__file__).parents[3] / "zoo_samples" / "checkpoints" / "temperature_too_high-1.pt"
FLOOR = 2**22
CONFIGURATION = f"[limits]\ndisk_floor_bytes = {FLOOR}\n"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class OnSmallDisk:
    """A service whose data directory is all there is on its disk."""

    disk: SmallDisk
    client: httpx.Client

    def upload(self, content: Any = None) -> httpx.Response:
        body = SAMPLE.read_bytes() if content is None else content
        return self.client.post("/v1/files", params={"name": "run7.pt"}, content=body)

    def job(self) -> httpx.Response:
        return self.client.post("/v1/jobs", json={"checkpoint": self.upload().json()["id"]})

    def ended(self, job: str, seconds: float = 60) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while (found := self.client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < until, found
            time.sleep(0.1)
        return dict(found)

    def await_ready(self) -> None:
        until = time.monotonic() + 10
        # on a connection of its own: one whose body was refused is closed when too much of it comes all the same
        while (ready := httpx.get(f"{self.client.base_url}/ready", trust_env=False)).status_code != 200:
            assert time.monotonic() < until, ready.text
            time.sleep(0.2)

    def half(self) -> list[Path]:
        """What is left of uploads that were refused: they are removed right after the answer."""
        until = time.monotonic() + 5
        while (left := list((self.disk.seen / "incoming").iterdir())) and time.monotonic() < until:
            time.sleep(0.05)
        return left


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSmallDisk]:
    folder = tmp_path_factory.mktemp("disk")
    with (
        small_disk(folder / "data") as disk,
        started(folder, CONFIGURATION, before=disk.inside, data_dir=disk.place, expects_errors=True) as running,
        running.client() as client,
    ):
        yield OnSmallDisk(disk, client)


def check_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert int(answer.headers["Retry-After"]) > 0
    assert "/" not in answer.json()["error"]["message"]


def test_an_upload_that_does_not_fit_leaves_nothing(service: OnSmallDisk) -> None:
    """By what it announces, or when it has eaten the space above the floor."""
    for content in (b"x" * 2**25, iter([b"x" * 2**20] * 32)):
        with httpx.Client(base_url=service.client.base_url, headers=service.client.headers, trust_env=False) as other:
            check_refused(OnSmallDisk(service.disk, other).upload(content), 507, "storage_full")
    assert service.half() == []
    service.await_ready()


def test_below_the_floor_nothing_is_taken_and_everything_shown(service: OnSmallDisk) -> None:
    file = service.upload().json()["id"]
    job = service.job().json()["id"]
    assert service.ended(job)["state"] == "done"
    service.disk.fill(leave=FLOOR // 2)
    try:
        check_refused(service.upload(), 507, "storage_full")
        check_refused(service.client.post("/v1/jobs", json={"checkpoint": file}), 507, "storage_full")
        check_refused(service.client.post("/v1/records", content=record_body()), 507, "storage_full")
        time.sleep(1.1)  # an answer of /ready is kept for a second
        ready = service.client.get("/ready")
        assert (ready.status_code, "of the disk are free" in ready.text) == (503, True)
        assert service.client.get("/health").status_code == 200
        assert service.client.get(f"/v1/jobs/{job}/result").status_code == 200
    finally:
        service.disk.empty()
    service.await_ready()
    assert service.job().status_code == 202


def test_a_disk_that_fills_up_under_jobs_loses_none(service: OnSmallDisk) -> None:
    """Not a byte is free: each accepted job ends, or fails with the reason; none is lost, and the next is done."""
    jobs = [service.job().json()["id"] for _ in range(4)]
    service.disk.fill()
    time.sleep(3)
    answer = service.upload()
    service.disk.empty()
    check_refused(answer, 507, "storage_full")
    found = [service.ended(job) for job in jobs]
    for one in found:
        assert one["state"] == "done" or "disk is full" in one["failure"]["message"], one
    service.await_ready()
    assert service.ended(service.job().json()["id"])["state"] == "done"
    assert service.half() == []


def test_folders_that_cannot_be_written_get_a_clear_answer(service: OnSmallDisk) -> None:
    """As after an error of the disk, when the system lets nobody write to it any more."""
    for folder in ("incoming", "files"):
        service.disk.freeze(folder)
    try:
        check_refused(service.upload(), 503, "storage_unavailable")
        assert service.client.get("/v1/jobs").status_code == 200
    finally:
        for folder in ("incoming", "files"):
            service.disk.thaw(folder)
    assert service.upload().status_code == 201


@pytest.mark.parametrize(
    ("options", "code", "sentence"), [("ro", 2, "ead-only file system"), ("size=4k", 3, "is full")]
)
def test_it_does_not_start_where_it_cannot_write(tmp_path: Path, options: str, code: int, sentence: str) -> None:
    """One line that says why, and no traceback."""
    with small_disk(tmp_path / "data") as disk:
        if options == "ro":
            disk.run("mount", "-o", "remount,ro", disk.place)
        else:
            disk.fill()
        process = benchmark_module("service_process").ServiceProcess(
            tmp_path / "service", before=disk.inside, data_dir=disk.place
        )
        try:
            assert process.launch().wait(30) == code
        finally:
            process.end_all()
        (line,) = process.log.read_text(encoding="utf-8").splitlines()
        assert line.startswith("mdtree: ")
        assert sentence in line
