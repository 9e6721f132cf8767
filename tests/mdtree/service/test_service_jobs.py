"""`/v1/jobs`: what is asked for waits in the queue exactly once, and is seen by its owner alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from service_http import Service, record_body, refused, service_of

from mdtree.service.jobs import Blame, DataRequest, Failure, JobRequest, Progress
from mdtree.service.registry import Registry
from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store

ID = "0" * 32


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    """One that registers a network and a data set, on each kind of database."""
    registry = Registry({"house-net": "package.module:net"}, {"house-data": "npz:data.npz"})
    limits = Limits(waiting_jobs_per_owner=10, disk_floor_bytes=0)
    with service_of(store, tmp_path / "data", registry=registry, limits=limits) as service:
        yield service


@pytest.fixture
def light(sqlite_url: str, tmp_path: Path) -> Iterator[Service]:
    """One on SQLite, for what no database decides."""
    store = Store(sqlite_url)
    limits = Limits(waiting_jobs_per_owner=3, disk_floor_bytes=0)
    with service_of(store, tmp_path / "data", limits=limits) as service:
        yield service
    store.close()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for many tests that leave no job in it."""
    folder = tmp_path_factory.mktemp("refusing")
    store = Store(f"sqlite:///{folder / 'service.sqlite'}")
    registry = Registry({"house-net": "package.module:net"}, {"house-data": "npz:data.npz"})
    limits = Limits(siblings=2, body_bytes=50_000, disk_floor_bytes=0)
    with service_of(store, folder / "data", registry=registry, limits=limits) as service:
        yield service
    store.close()


def test_a_job_waits_with_all_that_was_asked(service: Service):
    files = [service.upload(name=name) for name in ("run7.pt", "run8.pt", "start.pt", "data.npz")]
    asked = {
        "checkpoint": files[0],
        "siblings": [files[1]],
        "init": files[2],
        "data": {"file": files[3], "options": {"train": "160", "shape": "image"}},
        "architecture": "mlp?width=32",
        "weights": "model_ema",
        "data_checked": True,
        "precision": 0.05,
    }
    answer = service.alice.post("/v1/jobs", json=asked)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["name"], job["state"], job["position"]) == ("checkpoint", "run7.pt", "queued", 0)
    assert job["request"] == asked
    assert job["links"]["result"] is job["links"]["report"] is job["summary"] is job["failure"] is None
    assert service.alice.get(f"/v1/jobs/{job['id']}").json() == job
    assert service.claimed().job.request == JobRequest(
        checkpoint=files[0],
        siblings=(files[1],),
        init=files[2],
        data=DataRequest(file=files[3], options={"train": "160", "shape": "image"}),
        architecture="mlp?width=32",
        weights="model_ema",
        data_checked=True,
        precision=0.05,
    )


def test_a_job_may_name_what_the_operator_registered(service: Service):
    job = service.job(architecture="house-net", data={"name": "house-data"})
    assert job["request"]["data"] == {"name": "house-data"}
    assert service.claimed().job.request.data == DataRequest(name="house-data")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"architecture": "os:system"}, "house-net"),
        ({"architecture": "mlp:../../x"}, "house-net"),
        ({"architecture": "timm:resnet18"}, "groupnorm_cnn"),
        ({"data": {"name": "npz:/etc/passwd"}}, "house-data"),
        ({"data": {"name": "hf:mnist"}}, "digits"),
    ],
)
def test_no_other_network_and_no_other_data_can_be_named(refusing: Service, asked: dict[str, Any], said: str):
    answer = refusing.alice.post("/v1/jobs", json={"checkpoint": refusing.upload(), **asked})
    assert said in refused(answer, 422, "invalid")
    assert refusing.alice.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "checkpoint"),
        ({"checkpoint": "../../etc/passwd"}, "checkpoint"),
        ({"checkpoint": 5}, "checkpoint"),
        ({"checkpoint": ID, "model": "mlp"}, "model"),
        ({"checkpoint": ID, "siblings": ID}, "siblings"),
        ({"checkpoint": ID, "siblings": [ID] * 3}, "siblings"),
        ({"checkpoint": ID, "data": {"file": ID, "name": "digits"}}, "data"),
        ({"checkpoint": ID, "data": {"name": "digits", "options": {}}}, "data"),
        ({"checkpoint": ID, "data": {"file": ID, "options": {"train": "5&trust=1"}}}, "data"),
        ({"checkpoint": ID, "data": {"file": ID, "options": {"train": 5}}}, "data"),
        ({"checkpoint": ID, "architecture": "mlp\n"}, "architecture"),
        ({"checkpoint": ID, "weights": "a\x00b"}, "weights"),
        ({"checkpoint": ID, "data_checked": "yes"}, "data_checked"),
        ({"checkpoint": ID, "precision": 0}, "precision"),
        ({"checkpoint": ID, "precision": 1e9}, "precision"),
    ],
)
def test_what_is_not_as_declared_is_refused_by_its_name(refusing: Service, asked: dict[str, Any], field: str):
    answer = refusing.alice.post("/v1/jobs", json=asked)
    assert field in refused(answer, 422, "invalid")
    assert answer.json()["error"]["field"].split(".")[0] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 40_000,
        b'{"checkpoint": NaN}',
        b'{"checkpoint": ' + b"9" * 4999 + b"}",
        b'{"checkpoint": "\\ud800"}',
        b'{"checkpoint": "' + ID.encode() + b'", "precision": 1e999}',
    ],
)
def test_what_is_no_json_of_a_job_is_refused(refusing: Service, body: bytes):
    answer = refusing.alice.post("/v1/jobs", content=body)
    refused(answer, 422, "invalid")


def test_a_job_of_a_file_that_is_not_there_is_refused(service: Service):
    for asked in ({"checkpoint": ID}, {"checkpoint": service.upload(), "siblings": [ID]}):
        assert ID in refused(service.alice.post("/v1/jobs", json=asked), 422, "unknown_file")


def test_a_full_queue_refuses_until_a_job_leaves_it(light: Service):
    jobs = [light.job() for _ in range(3)]
    assert [job["position"] for job in jobs] == [0, 1, 2]
    answer = light.alice.post("/v1/jobs", json={"checkpoint": jobs[0]["request"]["checkpoint"]})
    refused(answer, 429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0
    assert light.job(owner="bob")
    light.alice.post(f"/v1/jobs/{jobs[0]['id']}/cancel")
    assert light.job()


def test_a_job_that_is_sent_twice_is_made_once(service: Service):
    asked = {"checkpoint": service.upload()}
    headers = {"Idempotency-Key": "train-17"}
    first = service.alice.post("/v1/jobs", json=asked, headers=headers)
    second = service.alice.post("/v1/jobs", json=asked, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    other = service.alice.post("/v1/jobs", json={**asked, "precision": 0.5}, headers=headers)
    refused(other, 422, "idempotency_key_reused")
    assert len(service.alice.get("/v1/jobs").json()["jobs"]) == 1


def test_a_key_is_its_owners_own_and_belongs_to_one_address(service: Service):
    headers = {"Idempotency-Key": "train-17"}
    for owner in ("alice", "bob"):
        asked = {"checkpoint": service.upload(owner=owner)}
        answer = getattr(service, owner).post("/v1/jobs", json=asked, headers=headers)
        assert "Idempotent-Replayed" not in answer.headers
    refused(service.alice.post("/v1/records", content=record_body(), headers=headers), 422, "idempotency_key_reused")


def test_a_body_above_the_limit_is_refused(refusing: Service):
    assert "50,000 bytes" in refused(refusing.alice.post("/v1/jobs", content=b" " * 50_001), 413, "too_large")
    assert "50,000 bytes" in refused(refusing.alice.post("/v1/jobs", content=iter([b" " * 50_001])), 413, "too_large")


def test_the_same_key_at_the_same_moment_makes_one_job(service: Service):
    asked = {"checkpoint": service.upload()}

    def send(_: int) -> str:
        answer = service.alice.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "train-17"})
        return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(16)))) == 1


def test_a_job_is_answered_again_after_its_upload_was_deleted(service: Service):
    asked = {"checkpoint": service.upload()}
    first = service.alice.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "k"}).json()
    service.alice.post(f"/v1/jobs/{first['id']}/cancel")
    service.alice.delete(f"/v1/files/{asked['checkpoint']}")
    again = service.alice.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, first["id"], "cancelled")


@pytest.mark.parametrize("key", ["", "two words", "x" * 129, "\xe9"])
def test_a_key_is_one_word(refusing: Service, key: str):
    headers = {"Idempotency-Key": key.encode("latin-1")}
    refused(refusing.alice.post("/v1/jobs", json={"checkpoint": ID}, headers=headers), 422, "invalid")


def test_a_waiting_job_is_cancelled_at_once(service: Service):
    job = service.job()
    answer = service.alice.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["position"]) == (200, "cancelled", None)
    assert answer.json()["expires_at"] > answer.json()["finished_at"]
    assert service.alice.post(f"/v1/jobs/{job['id']}/cancel").json() == answer.json()
    assert service.store.claim("worker-1") is None
    assert "cancelled" in refused(service.alice.get(f"/v1/jobs/{job['id']}/result"), 409, "job_cancelled")


def test_a_running_job_tells_its_progress_and_is_asked_to_end(service: Service):
    job = service.job()
    claim = service.claimed()
    service.store.progress(claim, Progress("measuring", "Hessian", 0.25))
    told = service.alice.get(f"/v1/jobs/{job['id']}").json()
    assert (told["state"], told["progress"]) == (
        "running",
        {"stage": "measuring", "text": "Hessian", "share": 0.25},
    )
    refused(service.alice.get(f"/v1/jobs/{job['id']}/result"), 409, "job_not_ended")
    refused(service.alice.delete(f"/v1/jobs/{job['id']}"), 409, "job_running")
    assert service.alice.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert service.store.progress(claim, Progress("measuring")).name == "CANCEL"


def test_a_failed_job_says_whose_fault_and_why(service: Service):
    job = service.job()
    failure = Failure(Blame.INPUT, "run7.pt is no checkpoint; expected a file that torch.save wrote")
    assert service.store.finish(service.claimed(), failure, timedelta(days=1))
    told = service.alice.get(f"/v1/jobs/{job['id']}").json()
    assert (told["state"], told["failure"]) == ("failed", {"blame": "input", "message": failure.message})
    for what in ("result", "report"):
        assert failure.message in refused(service.alice.get(f"/v1/jobs/{job['id']}/{what}"), 409, "job_failed")


def test_a_waiting_job_can_be_deleted(service: Service):
    job = service.job()
    assert service.alice.delete(f"/v1/jobs/{job['id']}").status_code == 204
    refused(service.alice.get(f"/v1/jobs/{job['id']}"), 404, "not_found")
    assert service.store.claim("worker-1") is None


def test_jobs_are_listed_page_by_page_newest_first(service: Service):
    made = [service.record(text=f"run{number}.pt") for number in range(5)]
    seen, query = [], "?limit=2"
    for expected in (2, 2, 1):
        page = service.alice.get(f"/v1/jobs{query}").json()
        assert len(page["jobs"]) == expected
        seen += [job["id"] for job in page["jobs"]]
        query = f"?limit=2&before={page['next']}"
    assert page["next"] is None
    assert seen == made[::-1]
    assert service.alice.get("/v1/jobs?limit=5").json()["next"] is None
    refused(service.alice.get(f"/v1/jobs?before={ID}"), 404, "not_found")


def test_jobs_are_listed_by_state_verdict_kind_and_name(service: Service):
    verdicts = {}
    for number in range(2):
        id = service.record(text=f"Run_{number}.pt")
        verdicts[id] = service.alice.get(f"/v1/jobs/{id}").json()["summary"]["verdict"]
    waiting = service.job()["id"]

    def listed(query: str) -> set[str]:
        return {job["id"] for job in service.alice.get(f"/v1/jobs?{query}").json()["jobs"]}

    verdict = next(iter(verdicts.values()))
    assert listed("state=queued") == {waiting}
    assert listed("state=queued&state=done") == {waiting, *verdicts}
    assert listed("kind=record") == set(verdicts)
    assert listed(f"verdict={verdict}") == {id for id, told in verdicts.items() if told == verdict}
    assert len(listed("name=run_1")) == 1
    assert listed("name=%25") == listed("name=%00") == listed("name=%F0%9F%98%80") == set()
    assert listed("") == {waiting, *verdicts}


@pytest.mark.parametrize("query", ["state=gone", "verdict=good", "kind=x", "limit=0", "limit=201", "before=x"])
def test_no_other_filter_is_taken(refusing: Service, query: str):
    assert query.split("=")[0] in refused(refusing.alice.get(f"/v1/jobs?{query}"), 422, "invalid")


def test_unknown_parameters_are_passed_over(refusing: Service):
    assert refusing.alice.get("/v1/jobs?colour=red").status_code == 200


def test_times_are_of_now_and_in_utc(light: Service):
    text = light.job()["created_at"]
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=1)
