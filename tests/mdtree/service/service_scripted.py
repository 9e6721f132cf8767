"""A host that answers as it is told: what proxies, restarts and defects look like to a client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Scripted:
    """One answer. Status 0: the connection is closed without any."""

    status: int = 200
    values: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Host:
    """What came to a host, and where it is."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[Asked] = []


@contextmanager
def answering(answers: Sequence[Scripted]) -> Iterator[Host]:
    """A host on this machine that gives these answers in turn, the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            host.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            given = left.pop(0) if len(left) > 1 else left[0]
            if given.status == 0:
                self.close_connection = True
                return
            sent = given.body if given.values is None else json.dumps(given.values).encode()
            self.send_response(given.status)
            for name, value in {**given.headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Not to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host = Host(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Scripted:
    """A refusal as the service writes it."""
    return Scripted(status, {"error": {"code": code, "message": message, "field": None}}, headers or {})
