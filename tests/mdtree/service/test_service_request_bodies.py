"""Requests whose bodies are too long, too short, packed, nested or ambiguous: refused with a reason."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator

import pytest
from service_raw import exchange
from service_started import BODY_BYTES, FILE_BYTES, HEAD_SECONDS, StartedService


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 2**14):
        yield b"4000\r\n" + b"x" * 2**14 + b"\r\n"
    yield b"0\r\n\r\n"


@pytest.mark.parametrize(("path", "limit"), [("/v1/files?name=large.pt", FILE_BYTES), ("/v1/records", BODY_BYTES)])
def test_a_body_above_the_limit_gets_413(abused_service: StartedService, path: str, limit: int) -> None:
    """By what it announces before a byte of it is sent; without an announcement when it passes the limit."""
    before = abused_service.stored()
    announced = exchange(
        abused_service.port, abused_service.head("POST", path, f"Content-Length: {limit + 1}"), seconds=3
    )
    assert announced.status == 413
    request = abused_service.head("POST", path, "Transfer-Encoding: chunked")
    streamed = exchange(abused_service.port, itertools.chain([request], chunks(4 * limit)), seconds=5)
    assert streamed.status == 413
    assert abused_service.stored() == before


def test_a_body_that_ends_early_is_no_upload(abused_service: StartedService) -> None:
    before = abused_service.stored()
    request = abused_service.head("POST", "/v1/files?name=short.pt", "Content-Length: 5000")
    found = exchange(abused_service.port, request + b"x" * 100, half_close=True)
    assert found.status in (400, None)
    assert abused_service.stored() == before


def test_what_follows_a_body_is_not_part_of_it(abused_service: StartedService) -> None:
    """And gets 400: it is no request, so the connection ends."""
    request = abused_service.head("POST", "/v1/files?name=long.pt", "Content-Length: 5")
    found = exchange(abused_service.port, request + b"12345" + b"and more of the same\r\n\r\n", seconds=3)
    assert (found.status, found.answers, found.closed) == (201, 2, True)
    assert '"size":5' in found.text
    assert "HTTP/1.1 400" in found.text


TWO_READINGS = {
    "two lengths": ("Content-Length: 5", "Content-Length: 6"),
    "a length and chunks": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "a negative length": ("Content-Length: -5",),
    "a length that is no number": ("Content-Length: 5x",),
    "a list of lengths": ("Content-Length: 5, 6",),
    "an unknown encoding": ("Transfer-Encoding: identity, chunked",),
    "chunks twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "a blank before the colon": ("Content-Length : 5",),
    "a header on two lines": ("X: 1\r\n Content-Length: 5", "Content-Length: 6\r\n\t7"),
}


@pytest.mark.parametrize("lines", TWO_READINGS.values(), ids=TWO_READINGS)
def test_a_request_that_two_readers_would_cut_differently_is_refused(
    abused_service: StartedService, lines: tuple[str, ...]
) -> None:
    before = abused_service.stored()
    body = b"0\r\n\r\nGET /v1/server HTTP/1.1\r\nHost: x\r\n\r\n"
    found = exchange(abused_service.port, abused_service.head("POST", "/v1/files?name=x.pt", *lines) + body, seconds=3)
    assert found.status in (400, 501)
    assert (found.answers, found.closed) == (1, True)
    assert abused_service.stored() == before


NO_HTTP = {
    "noise": b"\x00\xff" * 500 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "a bad chunk": b"POST /v1/records HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2**17,
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused(abused_service: StartedService, data: bytes) -> None:
    found = exchange(abused_service.port, data, seconds=HEAD_SECONDS + 2)
    assert found.status is None or 400 <= found.status < 500
    assert found.closed
    assert "Traceback" not in found.text


BODIES = {
    "deep lists": b"[" * 30_000,
    "deep lists that end": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a number of digits": b"9" * 60_000,
    "NaN": b'{"metrics": NaN}',
    "infinity": b'{"metrics": 1e999}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "a lone surrogate": b'{"checkpoint": "\\ud800"}',
    "a NUL": b'{"checkpoint": "\\u0000"}',
    "a list": b"[]",
    "nothing": b"",
    "a string": b'"x"',
    "many keys": json.dumps({f"k{n}": n for n in range(4000)}).encode(),
    "UTF-16": '{"checkpoint": "x"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/records", "/v1/links"])
def test_a_body_that_means_harm_gets_a_sentence(abused_service: StartedService, path: str, body: bytes) -> None:
    with abused_service.client() as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 413, 422)
        error = answer.json()["error"]
        assert error["code"]
        assert 10 < len(error["message"]) < 2000
        assert "\n" not in error["message"]


def test_a_packed_body_is_not_unpacked(abused_service: StartedService) -> None:
    """60 MB of zeros in 60 kB: stored as they come, or refused; never blown up."""
    bomb = gzip.compress(b"\0" * 60_000_000)
    assert len(bomb) < BODY_BYTES
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with abused_service.client() as client:
        stored = client.post("/v1/files", params={"name": "x.pt.gz"}, content=bomb, headers=packed)
        assert stored.status_code in (201, 415)
        if stored.status_code == 201:
            assert stored.json()["size"] == len(bomb)
        for path in ("/v1/records", "/v1/jobs"):
            assert client.post(path, content=bomb, headers=packed).status_code in (415, 422)


@pytest.mark.parametrize(
    "method", ["PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "HEAD", "OPTIONS", "X" * 500]
)
def test_other_methods_do_nothing(abused_service: StartedService, method: str) -> None:
    before = abused_service.stored()
    for path in ("/", "/v1/jobs", "/v1/files", f"/v1/jobs/{'0' * 32}", "/v1/server", "/health", "/nowhere"):
        found = exchange(abused_service.port, abused_service.head(method, path, "Connection: close"), seconds=3)
        assert found.status in ((200, 404, 405) if method in ("HEAD", "OPTIONS") else (400, 404, 405)), path
    assert abused_service.stored() == before


def test_no_connection_becomes_another_protocol(abused_service: StartedService) -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13")
    assert exchange(abused_service.port, abused_service.head("GET", "/v1/jobs", *lines), seconds=1).status != 101
