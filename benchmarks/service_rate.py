"""Records a second from clients that send one after another: the service beside a bare echo, round by round."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from service_process import ServiceProcess, free_port

ECHO = Path(__file__).parent / "service_echo.py"


@dataclass(frozen=True)
class Rate:
    """What closed-loop clients got: answers a second, and the seconds of each."""

    per_second: float
    seconds: list[float]


@dataclass(frozen=True)
class Answered:
    """The answer to a record, and how long it took."""

    status: int
    text: str
    seconds: float


def rate(port: int, body: bytes, clients: int, duration: float, cores: Sequence[int]) -> Rate:
    """So many clients, each a process of its own on `cores`, each with one connection that it keeps."""
    context = multiprocessing.get_context("fork")
    with context.Pool(clients, os.sched_setaffinity, (0, cores)) as pool:
        until = time.time() + 0.3 + duration
        found = pool.starmap(_client, [(port, body, until - duration, until)] * clients, chunksize=1)
    seconds = [second for one in found for second in one]
    return Rate(len(seconds) / duration, seconds)


def _client(port: int, body: bytes, start: float, until: float) -> list[float]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    time.sleep(max(0.0, start - time.time()))
    found = []
    while time.time() < until:
        answered = timed_record(connection, body)
        if answered.status != 201:
            raise RuntimeError(f"a record was answered with {answered.status}: {answered.text[:300]}")
        found.append(answered.seconds)
    connection.close()
    return found


def timed_record(connection: HTTPConnection, body: bytes) -> Answered:
    """Send a record and read the whole answer."""
    began = time.perf_counter()
    connection.request("POST", "/v1/records", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    return Answered(answer.status, text, time.perf_counter() - began)


@contextmanager
def echoing(cores: Sequence[int]) -> Iterator[int]:
    """The echo on these cores; gives its port."""
    port = free_port()
    words = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, str(ECHO), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.kill()


def beside_echo(
    service: ServiceProcess, body: bytes, rounds: int, clients: int, cores: tuple[Sequence[int], Sequence[int]]
) -> tuple[list[Rate], list[Rate]]:
    """Rounds of service and echo in turn, on the same cores; clients on the others."""
    served, others = cores
    ours, bare = [], []
    with echoing(served) as port:
        for _ in range(rounds):
            ours.append(rate(service.port, body, clients, 5.0, others))
            bare.append(rate(port, body, clients, 5.0, others))
    return ours, bare
