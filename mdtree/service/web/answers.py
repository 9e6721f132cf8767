"""Answers over HTTP: packed where the client takes that, and never kept by anything between."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

JSON = "application/json"
HTML = "text/html; charset=utf-8"

SMALLEST_PACKED = 1024
"""Bytes below which packing does not pay."""

_LEVEL = 5

_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)


def answer(
    request: Request, body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A body with its headers, packed if it is large enough and the client takes it. To be called in a thread."""
    told = {"Cache-Control": "no-store", "Vary": "Accept-Encoding", **(headers or {})}
    if len(body) >= SMALLEST_PACKED and takes_gzip(request):
        body = packed(body)
        told["Content-Encoding"] = "gzip"
    return Response(body, status, told, media_type)


def json_answer(request: Request, values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Values as JSON."""
    return answer(request, json_bytes(values), JSON, status, headers)


def secret_answer(values: Any, status: int) -> Response:
    """JSON that opens something: never packed, since the length of packed text tells of what is in it."""
    return Response(json_bytes(values), status, {"Cache-Control": "no-store"}, JSON)


def json_bytes(values: Any) -> bytes:
    """JSON as it is sent: no blanks, UTF-8, finite numbers."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def packed(body: bytes) -> bytes:
    """With gzip; equal bytes give equal bytes."""
    return gzip.compress(body, _LEVEL, mtime=0)


def takes_gzip(request: Request) -> bool:
    """Whether the header Accept-Encoding names gzip with a weight above zero."""
    found = _GZIP.search(request.headers.get("accept-encoding", ""))
    return found is not None and (found["q"] or "1").strip("0.") != ""
