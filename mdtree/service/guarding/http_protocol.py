"""HTTP as uvicorn reads it, with what it lacks: time limits for heads, bodies and readers, and a limit of connections.

A client that sends a byte now and then, or never reads its answer, holds a connection for ever otherwise.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mdtree.service.guarding.refusals import RETRY_LATER, SECURITY_HEADERS, refusal_body, refusal_headers
from mdtree.service.guarding.sizes import HEAD_BYTES
from mdtree.service.settings import Limits

SURPLUS_SECONDS = 1.0
"""How long a connection beyond the limit is kept, to be told so."""

OnRefusal = Callable[[str], None]


class Waiting(Enum):
    """What a connection waits for from its client."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class GuardedProtocol(H11Protocol):
    """One connection.

    Parameters
    ----------
    config, server_state, app_state, _loop
        As uvicorn hands them over.
    limits : Limits
        `header_seconds`: from the connection, or from the first byte of a later request, until its head is whole.
        `body_idle_seconds`: between two parts of a body, or of a response that the client reads.
        `body_bytes_per_second`: what a body must bring on average after its first `body_idle_seconds`; time in which
        the server itself does not read is not counted.
        `connections`: more are answered with 503, and twice as many not at all.
    on_refusal : function of a word
        Told of each connection that was ended: "head_timeout", "body_timeout", "read_timeout", "malformed",
        "too_many_connections", "unread_body".
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
        on_refusal: OnRefusal = lambda reason: None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._on_refusal = on_refusal
        self._waiting = Waiting.NOTHING
        self._asked_by: object = None
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._surplus = False
        self._last_byte = self._body_began = 0.0
        self._body_bytes = self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * self._limits.connections:
            self._on_refusal("too_many_connections")
            transport.abort()
            return
        self._surplus = len(self.connections) > self._limits.connections
        self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._surplus:
            self._refuse(503, "too_many_connections", "the server has too many connections; try again later")
            return
        self._last_byte = self.loop.time()
        if self._waiting is Waiting.BODY:
            self._body_bytes += len(data)
            if self.cycle.response_complete and self._is_flood(len(data)):
                return
        super().data_received(data)
        self._await_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_client()

    def send_400_response(self, msg: str) -> None:
        # uvicorn calls this where it caught h11's error, which knows better what is wrong
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.ProtocolError) else 400
        if status == 431:
            self._refuse(431, "malformed", f"the head of the request has more than {HEAD_BYTES:,} bytes")
        else:
            self._refuse(status, "malformed", "this is not a request of HTTP/1.1")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _awaited(self) -> Waiting:
        if self.transport.is_closing():
            return Waiting.NOTHING
        if self.conn.their_state is h11.SEND_BODY:
            return Waiting.BODY
        if self.conn.their_state is not h11.IDLE:
            return Waiting.NOTHING
        # between two requests uvicorn closes an idle connection itself
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        return Waiting.HEAD if begun else Waiting.NOTHING

    def _await_client(self) -> None:
        """Start, leave or end the timer, by what is awaited now."""
        awaited = self._awaited()
        if awaited is self._waiting and self._asked_by is self.cycle:
            return
        self._waiting, self._asked_by = awaited, self.cycle
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if awaited is Waiting.HEAD:
            seconds = SURPLUS_SECONDS if self._surplus else self._limits.header_seconds
            self._timer = self.loop.call_later(seconds, self._head_is_late)
        elif awaited is Waiting.BODY:
            self._body_began = self._last_byte = self.loop.time()
            self._body_bytes = self._unread_bytes = 0
            self._timer = self.loop.call_later(self._tick, self._look_at_body)

    @property
    def _tick(self) -> float:
        return min(1.0, self._limits.body_idle_seconds / 4)

    def _head_is_late(self) -> None:
        self._refuse(408, "head_timeout", f"no whole head of a request within {self._limits.header_seconds:g} seconds")

    def _look_at_body(self) -> None:
        now, idle = self.loop.time(), self._limits.body_idle_seconds
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            # it is the server that does not read
            self._last_byte = now
            self._body_began += self._tick
        needed = self._limits.body_bytes_per_second * (now - self._body_began - idle)
        if now - self._last_byte > idle:
            self._refuse(408, "body_timeout", f"nothing of the body came for {idle:g} seconds")
        elif self._body_bytes < needed:
            self._refuse(
                408, "body_timeout", f"the body comes with less than {self._limits.body_bytes_per_second:,} bytes/s"
            )
        else:
            self._timer = self.loop.call_later(self._tick, self._look_at_body)

    def _is_flood(self, size: int) -> bool:
        """Whether too much came of a body whose request is answered; some is read so that the client sees why."""
        self._unread_bytes += size
        if self._unread_bytes <= self._limits.body_bytes:
            return False
        self._on_refusal("unread_body")
        self.transport.abort()
        return True

    def _watch_reader(self, unread: int) -> None:
        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left < unread:
                self._watch_reader(left)
            else:
                self._on_refusal("read_timeout")
                self.transport.abort()

        self._write_timer = self.loop.call_later(self._limits.body_idle_seconds, look)

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer if nothing was answered yet, and close; a request that runs sees its client gone."""
        if self.transport.is_closing():
            return
        self._on_refusal(reason)
        if self.cycle is not None and not self.cycle.response_complete:
            self.scope.setdefault("state", {})["refused"] = status
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self._client_spoke:
            body = refusal_body(reason, message)
            headers = [*refusal_headers(body), *SECURITY_HEADERS, (b"connection", b"close")]
            headers += [RETRY_LATER] if status == 503 else []
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._stop_timers()

    @property
    def _client_spoke(self) -> bool:
        """An answer to nothing would be read as one to whatever the client sends at that moment."""
        return self._surplus or self._last_byte > 0

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._write_timer = None
