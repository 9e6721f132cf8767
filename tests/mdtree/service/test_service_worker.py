"""A worker brings every job to its right end, whatever its children do, and is itself none the worse for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import service_workers
from service_workers import OWNER, SAMPLE, ask, asked, ended, eventually, is_at, job_of, send, supervised, workers_of

from mdtree.diagnose import diagnose
from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import Blame, DataRequest, Failure, JobRequest, Progress, State
from mdtree.service.settings import GIB, Limits, ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.work.supervisor import Supervisor

LIMITS = Limits(measuring_seconds=3, measuring_memory_bytes=2 * GIB)


@dataclass(frozen=True)
class Service:
    """One with a worker at work."""

    settings: ServiceSettings
    store: Store
    supervisor: Supervisor

    def failure(self, network: str) -> Failure:
        """How a job with a misbehaving network failed."""
        job = ended(self.store, asked(self.settings, self.store, network))
        assert (job.state, job.summary) == (State.FAILED, None)
        assert job.failure is not None
        return job.failure


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = service_workers.settings_in(tmp_path_factory.mktemp("service"), limits=LIMITS)
    settings.data_dir.mkdir()
    store = Store(DataFolder(settings.data_dir).database)
    with supervised(settings, store) as supervisor:
        yield Service(settings, store, supervisor)
    store.close()


def test_a_job_that_is_measured(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ended(service.store, asked(service.settings, service.store))
    assert (job.state, job.failure, job.crashes, job.interruptions) == (State.DONE, None, 0, 0)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.expires_at == job.finished_at + service.settings.retention
    (tmp_path / "run7.pt").write_bytes(SAMPLE.read_bytes())
    monkeypatch.chdir(tmp_path)
    expected, found = diagnose("run7.pt").to_dict(), json.loads(service.store.diagnosis(OWNER, job.id) or "")
    for each in (expected, found):
        assert each["cost"].pop("seconds") > 0
    assert found == json.loads(json.dumps(expected))
    assert job.summary is not None
    assert job.summary["verdict"] == expected["verdict"]
    [worker] = service.settings.data_dir.joinpath("work").iterdir()
    assert list(worker.iterdir()) == []


def test_a_job_that_takes_too_much_memory(service: Service) -> None:
    assert service.failure("hungry") == Failure(
        Blame.RESOURCES,
        "measuring takes more memory than this server allows (2.0 GiB); send a smaller network or fewer samples",
    )


def test_a_job_that_takes_too_long(service: Service) -> None:
    assert service.failure("sleeping") == Failure(
        Blame.RESOURCES,
        "measuring takes longer than this server allows (3 s); send a smaller network or fewer samples",
    )


def test_a_job_that_takes_too_much_space(service: Service) -> None:
    assert service.failure("writing") == Failure(
        Blame.RESOURCES,
        "measuring takes more space than this server allows; send smaller files or fewer samples",
    )
    written = service.settings.registry.directory
    assert written is not None
    (written / "written").unlink()


def test_a_job_that_ends_its_process_is_tried_twice(service: Service) -> None:
    crashes = service.supervisor.crashes
    job = ended(service.store, asked(service.settings, service.store, "crashing"))
    assert (job.state, job.crashes) == (State.FAILED, 2)
    assert job.failure is not None
    assert job.failure.blame is Blame.CRASHED
    eventually(lambda: service.supervisor.crashes == crashes + 2)
    assert service.supervisor.restarts == 0


def test_a_network_of_the_operators_that_fails_is_the_servers_fault(service: Service) -> None:
    assert service.failure("leaving") == Failure(
        Blame.SERVER, "the network leaving, registered on this server, cannot be built"
    )


def test_a_running_job_that_is_cancelled(service: Service) -> None:
    id = asked(service.settings, service.store, "sleeping")
    eventually(lambda: is_at(service.store, id, "measuring"))
    service.store.cancel(OWNER, id)
    job = ended(service.store, id)
    assert (job.state, job.failure, job.progress) == (State.CANCELLED, None, None)


def test_what_a_client_sent_wrong_is_said_in_its_words(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(SAMPLE.read_bytes()[:-100])
    damaged = send(service.settings, service.store, tmp_path / "x.pt", "damaged.pt")
    good = send(service.settings, service.store)
    wrong_data = DataRequest(name="digits?shape=image")
    for request, sentence in (
        (JobRequest(damaged.id), "damaged.pt is truncated"),
        (JobRequest(good.id, (damaged.id,)), "damaged.pt is truncated"),
        (JobRequest(good.id, data=wrong_data, architecture="cnn?width=2"), "the weights in run7.pt do not fit the net"),
    ):
        job = ended(service.store, ask(service.store, request))
        assert job.failure is not None
        assert job.failure.blame is Blame.INPUT
        assert job.failure.message.startswith(sentence)
        assert str(service.settings.data_dir) not in job.failure.message
        assert "--" not in job.failure.message


def test_progress_is_kept_while_a_job_runs(service: Service) -> None:
    id, seen = asked(service.settings, service.store), list[Progress]()

    def look() -> bool:
        job = job_of(service.store, id)
        seen.extend([job.progress] if job.progress else [])
        return job.state is State.DONE

    eventually(look)
    assert [stage for stage in ("reading", "measuring") if stage in {each.stage for each in seen}] != []
    assert all(0 <= each.share <= 1 for each in seen)


def test_a_worker_does_not_grow_with_its_jobs(service: Service) -> None:
    """Its children do the work. It keeps one thread, and gives way to the server."""
    [worker] = workers_of()
    ended(service.store, asked(service.settings, service.store, "leaving"))
    before = worker.memory_info().rss
    ids = [asked(service.settings, service.store, "leaving") for _ in range(10)]
    assert all(ended(service.store, id).failure for id in ids)
    assert worker.memory_info().rss < before + 2**21
    assert worker.num_threads() == 1
    assert worker.nice() == psutil.Process().nice() + 10
