"""A real server with a small application behind the service's protocol and guards, to be spoken to byte by byte."""

import asyncio
import socket
import threading
import time
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mdtree.service.guarding.guards import guarded
from mdtree.service.guarding.http_protocol import GuardedProtocol
from mdtree.service.guarding.sizes import HEAD_BYTES
from mdtree.service.settings import MIB, Limits, ServiceSettings
from mdtree.service.telemetry import Telemetry

LIMITS = Limits(
    header_seconds=0.5,
    body_idle_seconds=0.5,
    body_bytes_per_second=1000,
    body_bytes=MIB,
    connections=8,
)
BIG = 64 * MIB


class SmallServer:
    """Listens on a port of its own, in a thread, until `stop`."""

    def __init__(self, folder, limits=LIMITS):
        self.seen = []
        self.refused = []
        self.telemetry = Telemetry()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        settings = ServiceSettings(data_dir=folder, limits=limits)
        config = uvicorn.Config(
            guarded(self._application(), settings, self.port, self.telemetry),
            loop="asyncio",
            http=partial(GuardedProtocol, limits=limits, on_refusal=self.refused.append),
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def head(self, line, **headers):
        """The head of a request, with the Host it needs."""
        named = {"Host": f"127.0.0.1:{self.port}", **{key.replace("_", "-"): value for key, value in headers.items()}}
        return "\r\n".join([f"{line} HTTP/1.1", *(f"{key}: {value}" for key, value in named.items()), "", ""]).encode()

    def ask(self, *parts, pause=0.0):
        """Send the parts, with a pause before each but the first, and read until the server closes."""
        with self.connect() as client:
            for number, part in enumerate(parts):
                time.sleep(pause if number else 0)
                try:
                    client.sendall(part)
                except OSError:
                    break
            return everything(client)

    def is_up(self):
        return b" 200 " in self.ask(self.head("GET /health", Connection="close"))

    def _application(self):
        async def health(request):
            return PlainTextResponse("alive")

        async def count(request):
            size = 0
            await asyncio.sleep(float(request.query_params.get("wait", 0)))
            try:
                async for part in request.stream():
                    size += len(part)
            except ClientDisconnect:
                self.seen.append("gone")
                raise
            self.seen.append(size)
            return PlainTextResponse(str(size))

        async def unauthorized(request):
            return Response(status_code=401)

        async def big(request):
            return Response(b"x" * BIG)

        return Starlette(
            routes=[
                Route("/health", health),
                Route("/v1/files", count, methods=["POST"]),
                Route("/v1/records", count, methods=["POST"]),
                Route("/unauthorized", unauthorized, methods=["POST"]),
                Route("/big", big),
            ]
        )


def everything(client):
    """What is sent until the other side closes, in whatever way."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answer(client):
    """One response: its head and as many bytes as its length says."""
    text = b""
    while b"\r\n\r\n" not in text:
        part = client.recv(1)
        if not part:
            return text
        text += part
    head = text.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return text + body
