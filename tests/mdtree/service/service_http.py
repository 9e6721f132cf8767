"""The real application on a real store, for tests over HTTP: no worker runs, so jobs stay where they are put."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from reported import full_record

from mdtree.service.jobs import Claim
from mdtree.service.settings import ServiceSettings
from mdtree.service.storage.store import Store
from mdtree.service.tokens import Tokens
from mdtree.service.web.app import create_app

OWNERS = ("alice", "bob")


def token_of(owner: str) -> str:
    return f"token-of-{owner}-{'x' * 32}"


TOKENS = Tokens({sha256(token_of(owner).encode()).hexdigest(): owner for owner in OWNERS})


@dataclass
class Service:
    """An application with two owners.

    Attributes
    ----------
    app : FastAPI
    store : Store
    folder : Path
        Its data folder.
    """

    app: FastAPI
    store: Store
    folder: Path
    clients: dict[str, TestClient] = field(default_factory=dict)

    def __getattr__(self, owner: str) -> TestClient:
        """The client of an owner: `service.alice`, `service.bob`; `service.nobody` has no token."""
        if owner not in (*OWNERS, "nobody"):
            raise AttributeError(owner)
        if owner not in self.clients:
            headers = {"Authorization": f"Bearer {token_of(owner)}"} if owner in OWNERS else {}
            # as a server would: what a handler raises becomes an answer
            self.clients[owner] = TestClient(self.app, headers=headers, raise_server_exceptions=False)
        return self.clients[owner]

    def upload(self, content: bytes = b"weights", name: str = "run7.pt", owner: str = "alice") -> str:
        """The id of an upload."""
        answer = getattr(self, owner).post("/v1/files", params={"name": name}, content=content)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, owner: str = "alice", **request: Any) -> dict[str, Any]:
        """A job in the queue, with an upload of its own."""
        asked = {"checkpoint": self.upload(owner=owner), **request}
        answer = getattr(self, owner).post("/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def record(self, owner: str = "alice", text: str = "run7.pt", **values: float) -> str:
        """The id of a record that was answered."""
        answer = getattr(self, owner).post("/v1/records", content=record_body(text, **values))
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].removeprefix("/v1/jobs/")

    def claimed(self) -> Claim:
        """The next job of the queue, as a worker takes it: it runs."""
        claim = self.store.claim("worker-1")
        assert claim is not None
        return claim

    def stored(self) -> list[Path]:
        """Everything that uploads left in the data folder."""
        found = [path for name in ("incoming", "files") for path in (self.folder / name).rglob("*")]
        return [path for path in found if path.is_file()]


def record_body(text: str = "run7.pt", **values: float) -> bytes:
    """What `mdtree measure --json` prints, with everything that a record can hold."""
    return json.dumps(full_record(text, **values).to_dict(), indent=1).encode()


@contextmanager
def service_of(store: Store, folder: Path, **settings: Any) -> Iterator[Service]:
    """An application on a store; with tokens unless said otherwise."""
    chosen = ServiceSettings(folder, **{"tokens": TOKENS, **settings})
    folder.mkdir(parents=True, exist_ok=True)
    app = create_app(chosen, store)
    try:
        yield Service(app, store, folder)
    finally:
        app.state.shared.renderer.close()


@contextmanager
def listening(service: Service) -> Iterator[tuple[str, int]]:
    """The same application behind real sockets; host and port."""
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        yield host, port
    finally:
        server.should_exit = True
        thread.join()


def eventually(holds: Any, seconds: float = 10.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """Assert that an answer is a refusal in the one form; its sentence."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "field"}
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json()["error"]["message"])
