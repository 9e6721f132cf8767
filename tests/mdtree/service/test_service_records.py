"""`/v1/records`: a measured record is diagnosed at once, to the byte as the command line does, whatever is sent."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from reported import HOSTILE, JUDGE, full_record, told
from service_http import Service, listening, record_body, refused, service_of, token_of

from mdtree.cli.measuring import diagnose_command
from mdtree.diagnoser import write_diagnoser
from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store
from mdtree.service.web.json_body import DEEPEST

ROOMY = Limits(disk_floor_bytes=0)

WRITABLE = [text for text in HOSTILE if text.isascii() or text.encode("utf-8", "replace").decode() == text]
"""Texts that UTF-8 knows."""


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    with service_of(store, tmp_path / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service


@pytest.fixture
def light(sqlite_url: str, tmp_path: Path) -> Iterator[Service]:
    """One on SQLite, for what no database decides."""
    store = Store(sqlite_url)
    limits = Limits(kept_jobs_per_owner=2, body_bytes=1_000_000, disk_floor_bytes=0)
    with service_of(store, tmp_path / "data", limits=limits) as service:
        yield service
    store.close()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for many tests that leave nothing in it."""
    folder = tmp_path_factory.mktemp("refusing")
    store = Store(f"sqlite:///{folder / 'service.sqlite'}")
    with service_of(store, folder / "data", limits=Limits(body_bytes=1_000_000, disk_floor_bytes=0)) as service:
        yield service
    store.close()


def by_command_line(folder: Path, body: bytes) -> bytes:
    """What `mdtree diagnose record.json --json` prints."""
    file = folder / "record.json"
    file.write_bytes(body)
    ran = CliRunner().invoke(diagnose_command, [str(file), "--json"])
    assert ran.exit_code == 0
    return ran.stdout_bytes


@pytest.mark.parametrize(
    "body",
    [
        record_body(),
        json.dumps(told("run7.pt").to_dict()).encode(),
        record_body(train_error_over_chance=0.99, log_weight_growth=0.0),
        json.dumps({**full_record().to_dict(), "extra": [1, {"a": None}]}, ensure_ascii=False).encode(),
    ],
    ids=["measured", "diagnosed", "at chance", "with more than a record has"],
)
def test_the_answer_is_the_command_lines_to_the_byte(service: Service, tmp_path: Path, body: bytes):
    expected = by_command_line(tmp_path, body)
    answer = service.alice.post("/v1/records", content=body)
    assert (answer.status_code, answer.content) == (201, expected)
    assert answer.headers["Content-Type"] == "application/json"
    kept = service.alice.get(f"{answer.headers['Location']}/result")
    assert (kept.status_code, kept.content) == (200, expected)


def test_any_text_in_a_record_comes_back_as_it_was(service: Service, tmp_path: Path):
    values = full_record().to_dict()
    values["layers"] = [{"name": text, text: text} for text in WRITABLE]
    values["checkpoint"]["notes"] = values["flags"] = WRITABLE
    values["recipe"] |= dict.fromkeys(WRITABLE, WRITABLE[0])
    body = json.dumps(values).encode()
    assert service.alice.post("/v1/records", content=body).content == by_command_line(tmp_path, body)


@pytest.mark.parametrize("path", [*WRITABLE[:7], "", "../../etc/passwd", "x" * 5000])
def test_the_name_of_a_record_is_harmless(refusing: Service, path: str):
    id = refusing.record(text=path)
    name = refusing.alice.get(f"/v1/jobs/{id}").json()["name"]
    assert re.fullmatch(r"[A-Za-z0-9_+@=][A-Za-z0-9._+@=-]{0,99}", name)
    refusing.alice.delete(f"/v1/jobs/{id}")


def test_an_answered_record_is_a_job_that_is_done(service: Service):
    answer = service.alice.post("/v1/records", content=record_body("runs/run7.pt"))
    diagnosis = answer.json()
    job = service.alice.get(answer.headers["Location"]).json()
    assert (job["kind"], job["state"], job["name"]) == ("record", "done", "run7.pt")
    assert job["created_at"] == job["started_at"] == job["finished_at"] < job["expires_at"]
    assert job["request"] is job["position"] is job["progress"] is job["failure"] is None
    assert job["links"]["result"] == f"/v1/jobs/{job['id']}/result"
    summary = job["summary"]
    assert (summary["verdict"], summary["confidence"]) == (diagnosis["verdict"], diagnosis["confidence"])
    measured = {**diagnosis["metrics"], **diagnosis["signals"]}
    assert {name: one["value"] for name, one in summary["metrics"].items()} == {
        name: one["value"] for name, one in measured.items()
    }


def test_an_answer_is_packed_for_those_who_take_that(light: Service):
    packed = light.alice.post("/v1/records", content=record_body(), headers={"Accept-Encoding": "br, gzip;q=0.5"})
    plain = light.alice.post("/v1/records", content=record_body(), headers={"Accept-Encoding": "gzip;q=0"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < len(packed.content) == int(plain.headers["Content-Length"])
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content


def test_a_record_that_is_sent_twice_is_kept_once(service: Service):
    headers = {"Idempotency-Key": "run7"}
    first, second = (service.alice.post("/v1/records", content=record_body(), headers=headers) for _ in range(2))
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(service.alice.get("/v1/jobs").json()["jobs"]) == 1
    other = service.alice.post("/v1/records", content=record_body("run8.pt"), headers=headers)
    refused(other, 422, "idempotency_key_reused")


def test_a_record_is_answered_again_as_at_first_by_another_diagnoser_too(light: Service, tmp_path: Path):
    write_diagnoser(replace(JUDGE, name="another"), tmp_path / "another.json")
    headers = {"Idempotency-Key": "run7"}
    first = light.alice.post("/v1/records", content=record_body(), headers=headers)
    with service_of(light.store, light.folder, diagnoser=tmp_path / "another.json", limits=ROOMY) as service:
        again = service.alice.post("/v1/records", content=record_body(), headers=headers)
        assert (again.status_code, again.content) == (201, first.content)
        fresh = service.alice.post("/v1/records", content=record_body())
        assert fresh.json()["diagnoser"]["name"] == "another"


def test_an_owner_keeps_no_more_records_than_his_quota(light: Service):
    kept = [light.record() for _ in range(2)]
    answer = light.alice.post("/v1/records", content=record_body())
    refused(answer, 429, "quota_exceeded")
    assert int(answer.headers["Retry-After"]) > 0
    light.alice.delete(f"/v1/jobs/{kept[0]}")
    assert light.record()


def with_rate(text: bytes) -> bytes:
    """A record whose learning rate is written so."""
    return record_body().replace(b'"learning_rate": 0.1', b'"learning_rate": ' + text)


Change = Callable[[dict[str, Any]], object]

NO_RECORDS: dict[str, Change | bytes] = {
    "nothing": b"",
    "half": record_body()[:-20],
    "not UTF-8": record_body().replace(b"run7", b"\xff\xfe"),
    "UTF-16": record_body().decode().encode("utf-16"),
    "a list": b"[" + record_body() + b"]",
    "a number": b"1",
    "a surrogate": record_body("\ud800"),
    "depth": b'{"metrics": ' + b"[" * 100_000,
    "depth that is parsed": with_rate(b"[" * DEEPEST + b"]" * DEEPEST),
    "NaN": with_rate(b"NaN"),
    "Infinity": with_rate(b"-Infinity"),
    "1e999": with_rate(b"1e999"),
    "a large integer": with_rate(b"9" * 400),
    "a larger integer": with_rate(b"9" * 5000),
    "no metrics": lambda record: record.pop("metrics"),
    "no checkpoint": lambda record: record.pop("checkpoint"),
    "another version": lambda record: record.update(schema_version=2),
    "a version that is true": lambda record: record.update(schema_version=True),
    "an unknown metric": lambda record: record["metrics"].update(happiness=record["metrics"]["train_loss"]),
    "a metric without value": lambda record: record["metrics"]["train_loss"].pop("value"),
    "a value as text": lambda record: record["metrics"]["train_loss"].update(value="0.5"),
    "a value as word": lambda record: record["metrics"]["train_loss"].update(value="nan"),
    "a value that is true": lambda record: record["metrics"]["train_loss"].update(value=True),
    "an error below zero": lambda record: record["metrics"]["train_loss"].update(standard_error=-1.0),
    "half a sample": lambda record: record["metrics"]["train_loss"].update(samples=0.5),
    "metrics as a list": lambda record: record.update(metrics=[]),
    "a checkpoint as a text": lambda record: record.update(checkpoint=""),
    "a path as an object": lambda record: record["checkpoint"].update(path={}),
    "a recipe as pairs": lambda record: record.update(recipe=[["learning_rate", 1]]),
    "layers as text": lambda record: record.update(layers="abc"),
    "flags as text": lambda record: record.update(flags="abc"),
    "a flag as an object": lambda record: record.update(flags=[{}]),
    "a cost as text": lambda record: record["cost"].update(seconds="1"),
    "a series as numbers": lambda record: record.update(series=[1, 2]),
}


@pytest.mark.parametrize("name", NO_RECORDS)
def test_what_is_no_record_is_refused_in_a_sentence(refusing: Service, name: str):
    change = NO_RECORDS[name]
    if isinstance(change, bytes):
        body = change
    else:
        values = full_record().to_dict()
        change(values)
        body = json.dumps(values).encode()
    assert "the record" in refused(refusing.alice.post("/v1/records", content=body), 422, "invalid")
    assert refusing.alice.get("/v1/jobs").json()["jobs"] == []


ODD: dict[str, Change] = {
    "a name given twice": lambda record: None,
    "a rate as text": lambda record: record["recipe"].update(learning_rate="fast", batch_size=None, width=[]),
    "a rate of zero": lambda record: record["recipe"].update(learning_rate=0, width=-1e300, train_size=1e308),
    "huge values": lambda record: [one.update(value=1e308) for one in record["metrics"].values()],
    "tiny values": lambda record: [one.update(value=-1e-320) for one in record["metrics"].values()],
    "huge errors": lambda record: [one.update(standard_error=1e308) for one in record["metrics"].values()],
    "no metric": lambda record: record.update(metrics={}, signals={}),
    "series of other things": lambda record: record.update(series={"curve": "x", "spectral_density": [1]}),
    "a protocol of numbers": lambda record: record.update(protocol={"seed": 2**64}, execution={}),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", ODD)
def test_odd_records_are_diagnosed_or_refused_as_the_command_line_does(refusing: Service, tmp_path: Path, name: str):
    values = full_record().to_dict()
    ODD[name](values)
    body = json.dumps(values).encode()
    body = body.replace(b'"flags"', b'"flags": [], "flags"') if name == "a name given twice" else body
    answer = refusing.alice.post("/v1/records", content=body)
    if answer.status_code == 201:
        assert answer.content == by_command_line(tmp_path, body)
        refusing.alice.delete(answer.headers["Location"])
        json.loads(answer.content, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    else:
        refused(answer, 422, "invalid")


def test_a_large_record_is_refused_before_it_is_parsed(light: Service):
    answer = light.alice.post("/v1/records", content=b" " * 1_000_001)
    assert "1,000,000 bytes" in refused(answer, 413, "too_large")


def test_the_server_imports_no_torch(tmp_path: Path):
    script = f"""
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from mdtree.service.web.app import create_app
from mdtree.service.settings import Limits, ServiceSettings
from mdtree.service.storage.store import Store
folder = Path({str(tmp_path)!r})
settings = ServiceSettings(folder, limits=Limits(disk_floor_bytes=0))
app = create_app(settings, Store(f"sqlite:///{{folder / 'service.sqlite'}}"))
client = TestClient(app)
answer = client.post("/v1/records", content=(folder / "record.json").read_bytes())
assert answer.status_code == 201, answer.text
assert client.get("/openapi.json").status_code == 200
print(*sorted({{"torch", "matplotlib"}} & set(sys.modules)))
"""
    (tmp_path / "record.json").write_bytes(record_body())
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.stderr, ran.stdout) == ("", "\n")


def test_a_record_is_answered_while_many_clients_are_slow(light: Service):
    """A slow body holds no thread and not the loop."""
    token = f"Authorization: Bearer {token_of('alice')}"
    head = f"POST /v1/records HTTP/1.1\r\nHost: a\r\n{token}\r\nContent-Length: 99\r\n\r\n"
    with listening(light) as (host, port):
        slow = [socket.create_connection((host, port)) for _ in range(60)]
        for connection in slow:
            connection.sendall(head.encode())
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {token_of('alice')}"}
        answer = httpx.post(f"http://{host}:{port}/v1/records", content=record_body(), headers=headers)
        assert answer.status_code == 201
        assert time.monotonic() - began < 5
        for connection in slow:
            connection.close()
