"""Requests that change something come from this server's own page or from no page at all.

A page of another site may send such a request to an address that only its visitor's browser reaches, this machine's own
among them. It cannot read the answer, but the request would be done.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from mdtree.service.guarding.hosts import HostName, parse_host
from mdtree.service.guarding.refusals import refuse

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_PORTS = {"http": 80, "https": 443}


def same_origin(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is the server that a ``Host`` names.

    The scheme is not compared: behind a proxy that speaks TLS the page is of https, and what arrives is http. ``null``,
    which sandboxed pages and files send, is nobody's.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in _PORTS or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    default = _PORTS[parts.scheme]
    there, here = parse_host(parts.netloc), parse_host(host)
    return there is not None and here is not None and _complete(there, default) == _complete(here, default)


def _complete(host: HostName, default_port: int) -> HostName:
    return HostName(host.name, host.port or default_port)


class OriginGuard:
    """Refuses with 403 what a browser sends for a page of another site; other clients send neither header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and _is_foreign(scope):
            return await refuse(
                send, 403, "foreign_origin", "a page of another site may not change anything here; use the page at /"
            )
        await self._app(scope, receive, send)


def _is_foreign(scope: Scope) -> bool:
    headers: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value.decode("latin-1"))
    host = headers.get(b"host", [""])[0]
    return any(not same_origin(origin, host) for origin in headers.get(b"origin", [])) or any(
        site not in ("same-origin", "none") for site in headers.get(b"sec-fetch-site", [])
    )
