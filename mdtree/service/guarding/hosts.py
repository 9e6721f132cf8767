"""Under which names a service is reached: a page of another site whose name was bound to this address is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from mdtree.errors import InputError
from mdtree.service.guarding.refusals import refuse
from mdtree.specification import shown

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class HostName:
    """A name or an address in lower case, and its port where it has one."""

    name: str
    port: int | None = None


def parse_host(text: str) -> HostName | None:
    """Read ``NAME``, ``NAME:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``; None for anything else.

    Addresses are brought into one form, so that ``[0:0::1]`` is ``::1``.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port < 2**16:
        return None
    name = found["name"].lower()
    address = _address(name.strip("[]"))
    if name.startswith("[") and not isinstance(address, IPv6Address):
        return None
    return HostName(str(address) if address else name.removesuffix("."), port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: 127.0.0.0/8, ::1 and localhost; no other name is looked up."""
    address = _address(host.strip("[]"))
    return address.is_loopback if address else host.lower() == "localhost"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class Hosts:
    """The names that a request may carry in its ``Host``.

    A service on loopback answers to that address with its own port, and to names the operator allows. On another
    address it answers to any address as well: only a name can be bound to a machine by somebody else.

    Parameters
    ----------
    host, port : str, int
        Where it listens.
    allowed : sequence of str
        ``NAME`` with any port or ``NAME:PORT``.

    Raises
    ------
    InputError
        One of `allowed` is no name.
    """

    def __init__(self, host: str, port: int, allowed: Sequence[str] = ()) -> None:
        self._port = port
        self._on_loopback = is_loopback(host)
        own = parse_host(f"[{host}]" if ":" in host else host)
        self._own = {*LOCAL_NAMES, *([own.name] if own else [])}
        self._allowed = [_allowed(text) for text in allowed]

    def allows(self, host: HostName) -> bool:
        """Whether a request may carry it."""
        if any(host.name == one.name and one.port in (None, host.port) for one in self._allowed):
            return True
        if self._on_loopback:
            return host.name in self._own and (host.port or 80) == self._port
        return host.name in self._own or _address(host.name) is not None


def _allowed(text: str) -> HostName:
    parsed = parse_host(text) or parse_host(f"[{text}]")
    if parsed is None:
        raise InputError(f"{shown(text)!r} is not the name of a host", "NAME or NAME:PORT", "no scheme and no path")
    return parsed


class HostGuard:
    """Refuses requests that do not name this server: 400 for none or no name, 421 for another."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        host = parse_host(given[0]) if len(given) == 1 else None
        if host is None:
            return await refuse(send, 400, "bad_host", "the request needs one header Host with the name of this server")
        if not self._hosts.allows(host):
            return await refuse(
                send,
                421,
                "unknown_host",
                "this server does not answer to that name; use the address that it printed when it started, or start "
                "it with --allow-host NAME (NAME:PORT for one port)",
            )
        await self._app(scope, receive, send)
