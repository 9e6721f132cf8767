"""Clients that send or read slowly, or not at all: they are ended, and nobody else waits for them."""

from __future__ import annotations

import itertools
import resource
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from service_raw import connected, exchange
from service_started import HEAD_SECONDS, StartedService


def dripping(data: bytes, pause: float) -> Iterator[bytes]:
    """One byte after another."""
    for byte in data:
        yield bytes([byte])
        time.sleep(pause)


def test_a_head_that_comes_byte_by_byte_is_ended(abused_service: StartedService) -> None:
    found = exchange(abused_service.port, dripping(abused_service.head("GET", "/v1/jobs"), 0.1), seconds=4)
    assert found.closed
    assert found.status in (408, None)
    assert found.seconds < HEAD_SECONDS + 1


@pytest.mark.parametrize("pause", [0.2, 10.0], ids=["byte by byte", "half of it, then nothing"])
def test_a_body_that_hardly_comes_is_ended(abused_service: StartedService, pause: float) -> None:
    """Bytes that come now and then do not keep an upload alive for ever, and nothing of it stays."""
    before = abused_service.stored()
    request = abused_service.head("POST", "/v1/files?name=slow.pt", "Content-Length: 1000")
    parts = itertools.chain([request, b"x" * 500], dripping(b"x" * 500, pause)) if pause < 1 else [request, b"x" * 500]
    found = exchange(abused_service.port, parts, seconds=10)
    assert found.closed
    assert found.status == 408
    assert found.seconds < 8
    assert abused_service.stored() == before


def test_many_slow_clients_keep_nobody_waiting(abused_service: StartedService) -> None:
    """250 half heads at once: the slow are ended, and somebody else is served all the time."""
    slow = [connected(abused_service.port) for _ in range(250)]
    for connection in slow:
        connection.sendall(b"POST /v1/records HTTP/1.1\r\nHost: ")
    longest = 0.0
    with abused_service.client() as client:
        for _ in range(20):
            began = time.monotonic()
            assert client.get("/v1/jobs").status_code == 200
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.02)
    assert longest < 0.5
    time.sleep(HEAD_SECONDS)
    for connection in slow:
        connection.settimeout(3)
        connection.recv(2**16)  # an answer or the end; not a time-out
        connection.close()


def test_a_thousand_idle_connections_are_shed(abused_service: StartedService) -> None:
    """Beyond the limit they are turned away; the rest are ended when no head comes, and the service serves again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    idle = []
    try:
        with abused_service.client() as client:
            assert client.get("/health").status_code == 200
            idle = [connected(abused_service.port) for _ in range(1000)]
            assert client.get("/health").status_code == 200  # who was there before stays
        until = time.monotonic() + HEAD_SECONDS + 3
        with abused_service.client() as late:
            while True:
                try:
                    if late.get("/health").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert time.monotonic() < until
                time.sleep(0.1)
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_that_never_reads_is_ended(abused_service: StartedService) -> None:
    """Answers wait for nobody: a connection that is not read from is ended after a while."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", abused_service.port))
        deaf.settimeout(8)
        requests = abused_service.head("GET", "/openapi.json", "Accept-Encoding: identity") * 100_000
        with pytest.raises(ConnectionError):
            deaf.sendall(requests)
