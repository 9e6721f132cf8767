"""How large a request may be: its head, and its body where that is no upload, which is counted where it is written."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdtree.service.guarding.refusals import refuse
from mdtree.service.settings import KIB

HEAD_BYTES = 16 * KIB
"""The largest head of a request: its line and its headers."""

UPLOADS = "/v1/files"
"""The one path whose bodies are streamed to the disk."""


class SizeGuard:
    """Refuses heads above 16 KiB with 431 and bodies above a limit with 413.

    The protocol refuses heads that are too large before they are whole; here are those that came in one piece. Bodies
    are refused by their announced length before a byte is read, else when they pass the limit. An announced length
    beside a body in chunks gets 400: two readers of such a request may see two requests.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if _head_bytes(scope) > HEAD_BYTES:
            return await refuse(send, 431, "malformed", f"the head of the request has more than {HEAD_BYTES:,} bytes")
        names = [name for name, _ in scope["headers"]]
        if b"content-length" in names and b"transfer-encoding" in names:
            close = [(b"connection", b"close")]
            return await refuse(
                send, 400, "two_lengths", "the request has a Content-Length and a Transfer-Encoding; one of them", close
            )
        if scope["method"] == "POST" and scope["path"].rstrip("/") == UPLOADS:
            return await self._app(scope, receive, send)
        announced = [int(value) for name, value in scope["headers"] if name == b"content-length"]
        if any(length > self._limit for length in announced):
            return await self._too_large(send)
        await _Counted(self, receive, send).run(scope)

    async def _too_large(self, send: Send) -> None:
        await refuse(
            send,
            413,
            "body_too_large",
            f"the body of this request has more than {self._limit:,} bytes; checkpoints and data go to {UPLOADS}",
        )


def _head_bytes(scope: Scope) -> int:
    line = len(scope["method"]) + len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    return line + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


class _Counted:
    """One request whose body is counted while the application reads it."""

    def __init__(self, guard: SizeGuard, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._receive, self._send = receive, send
        self._bytes = 0
        self._started = self._refused = False

    async def run(self, scope: Scope) -> None:
        try:
            await self._guard._app(scope, self._counting, self._sending)
        except Exception:
            # after the refusal the application sees its client gone, and may say so in its own way
            if not self._refused:
                raise

    async def _counting(self) -> Message:
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes <= self._guard._limit:
            return message
        self._refused = True
        if not self._started:
            await self._guard._too_large(self._send)
        return {"type": "http.disconnect"}

    async def _sending(self, message: Message) -> None:
        if not self._refused:
            self._started = True
            await self._send(message)
