"""`/v1/files`: uploads are stored whole or not at all, under names that no client chose."""

from __future__ import annotations

import os
import random
import resource
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from service_http import Service, eventually, listening, refused, service_of, token_of

from mdtree.service.settings import Limits
from mdtree.service.storage.store import Store

ID = "0" * 32


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    with service_of(store, tmp_path / "data", limits=Limits(disk_floor_bytes=0)) as service:
        yield service


@pytest.fixture
def small(sqlite_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with small limits."""
    store = Store(sqlite_url)
    limits = Limits(file_bytes=1000, stored_bytes_per_owner=1500, disk_floor_bytes=0)
    with service_of(store, tmp_path / "data", limits=limits) as service:
        yield service
    store.close()


def test_an_upload_is_stored_to_the_byte_and_told(service: Service):
    content = random.Random(1).randbytes(2_500_000)
    answer = service.alice.post("/v1/files?name=run7.pt", content=content)
    assert answer.status_code == 201
    told = answer.json()
    assert (told["name"], told["size"], told["sha256"]) == ("run7.pt", len(content), sha256(content).hexdigest())
    assert answer.headers["Location"] == f"/v1/files/{told['id']}"
    assert service.alice.get(answer.headers["Location"]).json() == told
    assert service.alice.get("/v1/files").json() == {"files": [told]}
    (path,) = service.stored()
    assert path == service.folder / "files" / told["id"] / "upload.pt"
    assert path.read_bytes() == content


def test_nobody_else_on_the_machine_reads_an_upload(service: Service):
    service.upload()
    (path,) = service.stored()
    assert (path.stat().st_mode & 0o077, path.parent.stat().st_mode & 0o077) == (0, 0)


@pytest.mark.parametrize(
    ("sent", "told", "stored"),
    [
        ("../../../etc/passwd", "passwd", "upload"),
        ("C:\\Users\\me\\run 7.pt", "run_7.pt", "upload.pt"),
        ("/", "unnamed", "upload"),
        (".hidden", "hidden", "upload"),
        ("\x00\x1b[31m\u202e.pt", "_31m_.pt", "upload.pt"),
        ("x" * 990 + ".npz", "x" * 96 + ".npz", "upload.npz"),
        ("a.pt/../b?train=5&x=1.npz", "b_train=5_x=1.npz", "upload.npz"),
    ],
)
def test_a_name_is_for_people_and_no_path(small: Service, sent: str, told: str, stored: str):
    answer = small.alice.post("/v1/files", params={"name": sent}, content=b"weights")
    assert answer.json()["name"] == told
    assert [path.name for path in small.stored()] == [stored]


def test_a_name_must_be_given(small: Service):
    assert "name" in refused(small.alice.post("/v1/files", content=b"weights"), 422, "invalid")


def test_a_file_that_is_announced_too_large_is_refused_before_it_is_read(small: Service):
    def parts() -> Iterator[bytes]:
        yield b"x" * 1001
        pytest.fail("more was read")

    answer = small.alice.post("/v1/files?name=a.pt", content=parts(), headers={"Content-Length": "1000000"})
    assert "1,000 bytes" in refused(answer, 413, "too_large")
    assert small.stored() == []


def test_a_file_that_turns_out_too_large_is_refused_and_removed(small: Service):
    answer = small.alice.post("/v1/files?name=a.pt", content=iter([b"x" * 600, b"x" * 600]))
    refused(answer, 413, "too_large")
    assert small.stored() == []
    assert small.alice.post("/v1/files?name=a.pt", content=iter([b"x" * 600, b"x" * 400])).status_code == 201


@pytest.mark.parametrize("said", [5, 9])
def test_a_body_of_another_length_than_announced_is_refused(small: Service, said: int):
    headers = {"Content-Length": str(said)}
    refused(small.alice.post("/v1/files?name=a.pt", content=b"weights", headers=headers), 400, "incomplete")
    refused(small.alice.post("/v1/records", content=b"weights", headers=headers), 400, "incomplete")
    assert small.stored() == []


def test_a_length_that_is_no_number_is_refused(small: Service):
    for said in ("-1", "1e3", "", "9" * 30, "\u0667".encode().decode("latin-1")):
        headers = {"Content-Length": said.encode("latin-1")}
        refused(small.alice.post("/v1/files?name=a.pt", content=b"weights", headers=headers), 400, "bad_request")


def test_an_empty_file_is_refused(small: Service):
    assert "empty" in refused(small.alice.post("/v1/files?name=a.pt", content=b""), 422, "invalid")
    assert small.stored() == []


@pytest.mark.parametrize("announced", [True, False])
def test_an_owner_stores_no_more_than_his_quota(small: Service, announced: bool):
    small.upload(b"x" * 1000)
    content = b"x" * 501 if announced else iter([b"x" * 501])
    answer = small.alice.post("/v1/files?name=b.pt", content=content)
    refused(answer, 429, "quota_exceeded")
    assert int(answer.headers["Retry-After"]) > 0
    assert len(small.stored()) == 1
    assert small.upload(b"x" * 500)
    assert small.upload(b"x" * 1000, owner="bob"), "the quota is each owner's own"


def test_nothing_is_accepted_below_the_floor_of_the_disk(sqlite_url: str, tmp_path: Path):
    store = Store(sqlite_url)
    with service_of(store, tmp_path / "data", limits=Limits(disk_floor_bytes=2**62)) as service:
        answer = service.alice.post("/v1/files?name=a.pt", content=b"weights")
        refused(answer, 507, "storage_full")
        assert int(answer.headers["Retry-After"]) > 0
        refused(service.alice.post("/v1/jobs", json={"checkpoint": ID}), 507, "storage_full")
        assert service.stored() == []
    store.close()


def test_the_floor_of_the_disk_is_watched_while_an_upload_comes(small: Service, monkeypatch: pytest.MonkeyPatch):
    def small_disk(_: object) -> SimpleNamespace:
        return SimpleNamespace(free=4_000_000 - sum(path.stat().st_size for path in small.stored()))

    with service_of(small.store, small.folder, limits=Limits(disk_floor_bytes=1_000_000)) as service:
        monkeypatch.setattr("mdtree.service.web.state.shutil.disk_usage", small_disk)
        answer = service.alice.post("/v1/files?name=a.pt", content=iter([b"x" * 500_000] * 10))
        refused(answer, 507, "storage_full")
        assert service.stored() == []
        assert service.upload(b"x" * 2_000_000)


def test_a_disk_that_fills_during_an_upload_is_told_and_leaves_nothing(small: Service):
    limits = Limits(disk_floor_bytes=0)
    with service_of(small.store, small.folder, limits=limits) as service:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
        try:
            answer = service.alice.post("/v1/files?name=a.pt", content=b"x" * 3_000_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        refused(answer, 507, "storage_full")
        assert service.stored() == []
        assert service.upload(b"x" * 3_000_000)


def test_a_data_folder_that_cannot_be_written_is_told(small: Service):
    (small.folder / "incoming").write_text("no folder")
    message = refused(small.alice.post("/v1/files?name=a.pt", content=b"weights"), 503, "storage_unavailable")
    assert str(small.folder) not in message


def test_files_of_another_owner_are_not_there(service: Service):
    id = service.upload()
    missing = service.bob.get(f"/v1/files/{ID}").json()
    for method in ("GET", "DELETE"):
        answer = service.bob.request(method, f"/v1/files/{id}")
        refused(answer, 404, "not_found")
        assert answer.json() == {"error": {**missing["error"], "message": missing["error"]["message"].replace(ID, id)}}
    assert service.bob.get("/v1/files").json() == {"files": []}
    refused(service.bob.post("/v1/jobs", json={"checkpoint": id}), 422, "unknown_file")
    assert service.alice.get(f"/v1/files/{id}").status_code == 200


def test_a_deleted_upload_is_gone(service: Service):
    id = service.upload()
    assert service.alice.delete(f"/v1/files/{id}").status_code == 204
    assert not (service.folder / "files" / id).exists()
    refused(service.alice.delete(f"/v1/files/{id}"), 404, "not_found")


def test_an_upload_that_a_job_waits_for_stays(service: Service):
    job = service.job()
    file = job["request"]["checkpoint"]
    refused(service.alice.delete(f"/v1/files/{file}"), 409, "file_in_use")
    assert (service.folder / "files" / file).exists()
    service.alice.post(f"/v1/jobs/{job['id']}/cancel")
    assert service.alice.delete(f"/v1/files/{file}").status_code == 204


def test_a_word_that_is_no_id_is_refused(small: Service):
    for word in ("..%2f..", "x" * 32, ID + "0", ID.upper() + "g"):
        assert small.alice.get(f"/v1/files/{word}").status_code in (404, 422)


def _head(token: str, length: str) -> bytes:
    return (
        f"POST /v1/files?name=a.pt HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("length", "sent"),
    [
        ("Content-Length: 1000", b"x" * 400),
        ("Transfer-Encoding: chunked", b"190\r\n" + b"x" * 400 + b"\r\n"),
        ("Transfer-Encoding: chunked", b"190\r\n" + b"x" * 400 + b"\r\nno length\r\n"),
    ],
)
def test_half_an_upload_vanishes_when_its_client_leaves(small: Service, length: str, sent: bytes):
    with listening(small) as (host, port), socket.create_connection((host, port)) as connection:
        connection.sendall(_head(token_of("alice"), length) + sent[:200])
        eventually(lambda: [path.parent.name for path in small.stored()] == ["incoming"])
        connection.sendall(sent[200:])
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        eventually(lambda: small.stored() == [])
    assert small.store.files("alice") == []


def test_an_upload_over_a_socket_is_stored_like_any_other(small: Service):
    with listening(small) as (host, port), socket.create_connection((host, port)) as connection:
        connection.sendall(_head(token_of("alice"), "Content-Length: 1000") + b"x" * 400)
        connection.sendall(b"x" * 600)
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    (path,) = small.stored()
    assert os.path.getsize(path) == 1000
