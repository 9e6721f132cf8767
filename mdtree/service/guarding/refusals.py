"""How a request is refused before it reaches the application: the same JSON as the application's own errors."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.types import Send

Headers = Sequence[tuple[bytes, bytes]]

SECURITY_HEADERS: Headers = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cache-control", b"no-store"),
)
"""What every response says unless it says otherwise itself."""


RETRY_LATER = (b"retry-after", b"5")
"""Beside 503: there may be room in some seconds."""


def refusal_body(code: str, message: str) -> bytes:
    """``{"error": {"code": ..., "message": ..., "field": null}}``, as `mdtree.service.web.api_errors` writes it."""
    return json.dumps({"error": {"code": code, "message": message, "field": None}}).encode()


def refusal_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """Type and length of a refusal."""
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]


async def refuse(send: Send, status: int, code: str, message: str, headers: Headers = ()) -> None:
    """Answer with an error, in place of the application.

    Parameters
    ----------
    send : ASGI send
        Nothing of a response may have been sent by it.
    status : int
        Of HTTP.
    code, message : str
        A word for programs, a sentence for people.
    headers : sequence of pairs, optional
        Beside type and length.
    """
    body = refusal_body(code, message)
    await send(
        {"type": "http.response.start", "status": status, "headers": [*refusal_headers(body), *headers]},
    )
    await send({"type": "http.response.body", "body": body})
