"""Bodies of requests as JSON, trusting nothing: bounded, of UTF-8, not deep, with finite numbers."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from mdtree.service.web.api_errors import ApiError

DEEPEST = 32
"""Levels of lists and objects; a record has six."""

LARGEST_INTEGER = 2**64
"""A seed has up to 64 bits, everything else less."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, counted as it comes.

    Raises
    ------
    ApiError
        413 above `limit` bytes; 400 if the client left, or sent another number of bytes than it said.
    """
    said = declared_length(request)
    if said is not None and said > limit:
        raise too_large(limit)
    parts: list[bytes] = []
    count = 0
    try:
        async for part in request.stream():
            count += len(part)
            if count > limit:
                raise too_large(limit)
            parts.append(part)
    except ClientDisconnect as error:
        raise incomplete() from error
    if said is not None and said != count:
        raise incomplete()
    return b"".join(parts)


def declared_length(request: Request) -> int | None:
    """The header Content-Length; None without one (a chunked body).

    Raises
    ------
    ApiError
        400: not a number.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ApiError(400, "bad_request", "the header Content-Length is no number of bytes")
    return int(text)


def too_large(limit: int) -> ApiError:
    """413."""
    return ApiError(413, "too_large", f"the body is too large; expected at most {limit:,} bytes")


def incomplete() -> ApiError:
    """400; hardly anybody reads it."""
    return ApiError(400, "incomplete", "the body did not come whole; send it again")


def parse_json(body: bytes, what: str) -> Any:
    """Parse a body.

    Parameters
    ----------
    body : bytes
    what : str
        How to call it in an error.

    Raises
    ------
    ApiError
        422: not JSON of UTF-8, deeper than 32 levels, or with a number that is not finite or too large.
    """
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_not_a_number)
    except RecursionError as error:
        raise _refuse(what, f"is nested more than {DEEPEST} levels deep") from error
    except ValueError as error:
        raise _refuse(what, f"is not JSON ({error})") from error
    _check(values, what)
    return values


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check(values: Any, what: str) -> None:
    """Depth and numbers, level by level: what was parsed may be deeper than this function could call itself."""
    level: list[Any] = [values]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise _refuse(what, "holds a number that is too large")
            elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                raise _refuse(what, "holds an integer of more than 64 bits")
        if not inner:
            return
        level = inner
    raise _refuse(what, f"is nested more than {DEEPEST} levels deep")


def _refuse(what: str, why: str) -> ApiError:
    return ApiError(422, "invalid", f"{what} {why}")
