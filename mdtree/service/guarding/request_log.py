"""Around every request: its id, what every response says, one line of log, its metrics, and 500 for a defect."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdtree.service.guarding.refusals import RETRY_LATER, SECURITY_HEADERS, refuse
from mdtree.service.telemetry import Telemetry

LOGGER = logging.getLogger("mdtree.service.requests")

UNMATCHED = "(none)"
"""The route of a request that no route knows: its path is the client's text, and there are endless many."""

CLIENT_GONE = 499
"""What is logged as status where the client left before the answer."""

_JOB = re.compile(r"/v1/jobs/(?P<id>[0-9a-f]{32})(?:/|$)")


class RequestGuard:
    """The outermost layer: nothing passes it unlogged, and no exception leaves it."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(self._app, self._telemetry, scope, receive, send).run()
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)


class _Request:
    def __init__(self, app: ASGIApp, telemetry: Telemetry, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._telemetry = app, telemetry
        self._method: str = scope["method"]
        # what a HEAD asks for is the answer to a GET, less its body, which the protocol leaves out
        self._scope: Scope = {**scope, "method": "GET" if self._method == "HEAD" else self._method}
        self._root: str = scope.get("root_path", "")
        self._state: dict[str, Any] = self._scope.setdefault("state", {})
        self._state["request_id"] = self._id = secrets.token_hex(8)
        self._receive_message, self._send_message = receive, send
        self._status: int | None = None
        self._received = self._sent = 0
        self._location = b""

    async def run(self) -> None:
        began = time.perf_counter()
        try:
            await self._app(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            # the server cancels what has not ended when its time to stop is over
            if self._status is None:
                await refuse(self._send, 503, "stopping", "the server is stopping; try again later", [RETRY_LATER])
        except Exception:
            if "refused" not in self._state:
                LOGGER.exception("a defect while answering a request", extra={"request_id": self._id})
            if self._status is None:
                await refuse(self._send, 500, "defect", f"a defect of the server; its log knows request {self._id}")
        self._log(time.perf_counter() - began)

    async def _receive(self) -> Message:
        message = await self._receive_message()
        self._received += len(message.get("body", b""))
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", []))
            self._location = next((value for name, value in headers if name.lower() == b"location"), b"")
            message = {**message, "headers": self._headers(headers)}
        elif message["type"] == "http.response.body":
            if self._method == "HEAD":
                message = {**message, "body": b""}
            self._sent += len(message.get("body", b""))
        await self._send_message(message)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in given}
        return [*given, *(one for one in SECURITY_HEADERS if one[0] not in names), (b"x-request-id", self._id.encode())]

    def _log(self, seconds: float) -> None:
        status = self._state.get("refused") or self._status or CLIENT_GONE
        route = route_of(self._scope, self._root)
        self._telemetry.request(self._method, route, status, seconds)
        LOGGER.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "request",
            extra={
                "request_id": self._id,
                "method": self._method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "owner": self._state.get("owner"),
                "bytes_in": self._received,
                "bytes_out": self._sent,
                "job": self._job(),
            },
        )

    def _job(self) -> str | None:
        """The job that a request is about: it made it, or names it."""
        for path in (self._location.decode("latin-1"), self._scope["path"]):
            if found := _JOB.match(path):
                return found["id"]
        return None


def route_of(scope: Scope, root: str = "") -> str:
    """The template of a path, such as ``/v1/jobs/{id}``: of those there are few, however many jobs there are.

    Parameters
    ----------
    scope : ASGI scope
        After the application has answered: it notes there what it called, with which parts of the path.
    root : str
        The root path before.
    """
    if "endpoint" not in scope:
        return UNMATCHED
    mounted = scope.get("root_path", "")
    if mounted != root:
        return f"{mounted.removeprefix(root)}/*"
    parts = scope["path"].split("/")
    for name, value in reversed(scope.get("path_params", {}).items()):
        places = [place for place, part in enumerate(parts) if part == str(value)]
        if not places:
            return UNMATCHED
        parts[places[-1]] = f"{{{name}}}"
    return "/".join(parts)
