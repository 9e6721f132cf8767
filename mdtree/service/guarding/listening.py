"""The sockets of a service: bound before anything else is started, so that an address in use is told at once."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from mdtree.errors import InputError
from mdtree.service.guarding.hosts import is_loopback

BACKLOG = 512


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind all addresses of a name, with one port.

    Parameters
    ----------
    host : str
    port : int
        0 for any that is free.

    Returns
    -------
    list of socket
        Bound, not listening yet.

    Raises
    ------
    InputError
        The name has no address here, the port is in use or not allowed, or a name of this machine's own address
        (`mdtree.service.guarding.hosts.is_loopback`) leads elsewhere.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host} is no address of this machine ({error})", "an address such as 127.0.0.1") from error
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        if is_loopback(host) and not ip_address(str(address[0])).is_loopback:
            raise InputError(f"{host} leads to {address[0]}, which others can reach", "127.0.0.1 or ::1")
        wanted = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bound(family, (address[0], wanted, *address[2:])))
        except OSError as error:
            # localhost may have an address of IPv6 on a machine without it
            failed = error
    if not sockets:
        assert failed is not None
        raise InputError(f"{host} port {port} cannot be used ({failed.strerror})", "a free port", "--port 0 takes one")
    return sockets


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    # asyncio sends at once (TCP_NODELAY) only where the socket says that it is TCP: else an answer, written as head and
    # body, waits 40 ms for the client to acknowledge its head
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        # another process may bind the port as well until somebody listens
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    one.setblocking(False)
    return one


def address_of(host: str, port: int) -> str:
    """``http://HOST:PORT``, with an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
