"""Requests that say by a header of theirs that they may come twice."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import Header
from starlette.requests import Request

from mdtree.service.storage.idempotency import IdempotencyKey

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,128}$",
        description="Any word of the client's, new for every job: a request that is sent again with it, within 24 h, "
        "is answered like the first time and makes no second job.",
    ),
]

REPLAYED = "Idempotent-Replayed"
"""Header of an answer that was given before."""

REPLAYED_HEADERS = {
    "Location": {"description": "Address of the job", "schema": {"type": "string"}, "required": True},
    REPLAYED: {"description": "Where the request came before", "schema": {"const": "true"}},
}
"""What a route that takes a key declares of its answer."""


def key_of(request: Request, word: str | None, body: bytes) -> IdempotencyKey | None:
    """The key of a request, with what the request must be equal in to be the same: method, path and body."""
    if word is None:
        return None
    head = f"{request.method} {request.url.path}\n".encode()
    return IdempotencyKey(word, sha256(head + body).hexdigest())


def made_headers(job: str, is_new: bool) -> dict[str, str]:
    """Where the job is, and whether this answer was given before."""
    return {"Location": f"/v1/jobs/{job}"} | ({} if is_new else {REPLAYED: "true"})
