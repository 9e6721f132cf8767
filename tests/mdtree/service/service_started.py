"""A service with two tokens and small limits, for tests that treat it badly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_raw import head

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
ALICE, BOB = "a" * 20 + "-token-of-alice", "b" * 20 + "-token-of-bob"
FILE_BYTES, BODY_BYTES = 2**20, 2**16
HEAD_SECONDS, IDLE_SECONDS = 1.0, 1.0
CONFIGURATION = f"""
[limits]
file_bytes = {FILE_BYTES}
body_bytes = {BODY_BYTES}
header_seconds = {HEAD_SECONDS}
body_idle_seconds = {IDLE_SECONDS}
connections = 300
"""


@dataclass(frozen=True)
class StartedService:
    """A running service and how to reach it.

    Attributes
    ----------
    process : service_process.ServiceProcess
    """

    process: Any

    @property
    def port(self) -> int:
        return int(self.process.port)

    @property
    def data(self) -> Path:
        return Path(self.process.data_dir)

    def client(self, token: str | None = ALICE, **headers: str) -> httpx.Client:
        """A client with a token, and with these headers."""
        own = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.process.address, headers={**own, **headers}, trust_env=False, timeout=20)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """A head with Alice's token."""
        return head(method, path, f"Authorization: Bearer {ALICE}", *lines, host=f"127.0.0.1:{self.port}")

    def stored(self) -> set[str]:
        """Everything that whole uploads left."""
        return {str(one.relative_to(self.data)) for one in (self.data / "files").rglob("*")}


def benchmark_module(name: str) -> Any:
    """A module of the benchmarks, which are no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return __import__(name)


@contextmanager
def started(
    folder: Path, configuration: str = CONFIGURATION, *, expects_errors: bool = False, **options: Any
) -> Iterator[StartedService]:
    """A service with Alice's and Bob's tokens; at its end it must be the process it was, and have logged no error.

    Parameters
    ----------
    folder : Path
        Of its own.
    configuration : str
        The TOML of ``--config``.
    expects_errors : bool
        Its log may tell of errors, but of no traceback.
    options
        Of `service_process.ServiceProcess`.
    """
    processes, faults = benchmark_module("service_process"), benchmark_module("service_faults")
    tokens = folder / "tokens.toml"
    tokens.write_text(f'[tokens]\nalice = "{ALICE}"\nbob = "{BOB}"\n', encoding="utf-8")
    tokens.chmod(0o600)
    process = processes.ServiceProcess(folder / "service", ["--tokens", str(tokens)], configuration, **options)
    with processes.running(process):
        yield StartedService(process)
        assert process.alive()
        assert process.stop() == 0
    complaints = faults.complaints(process.log)
    assert [one for one in complaints if not expects_errors or "Traceback" in one] == []


def assert_serves(service: StartedService) -> None:
    """Whatever was done to it, the next client is served at once, and soon no half of an upload is left."""
    with service.client() as client:
        began = time.monotonic()
        assert client.get("/v1/jobs").status_code == 200
        assert time.monotonic() - began < 1
    until = time.monotonic() + 3 * IDLE_SECONDS
    while (service.data / "incoming").is_dir() and any((service.data / "incoming").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
