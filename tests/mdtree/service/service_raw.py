"""Bytes on a socket, as no well-behaved client of HTTP would send them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """What came back on a connection.

    Attributes
    ----------
    status : int or None
        Of the first answer; None if there was none.
    answers : int
        How many there were.
    text : str
        Everything.
    closed : bool
        The server ended the connection.
    seconds : float
        Until it did, or until nothing more was waited for.
    """

    status: int | None
    answers: int
    text: str
    closed: bool
    seconds: float


def connected(port: int) -> socket.socket:
    """A connection to the service."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def exchange(port: int, parts: bytes | Iterable[bytes], *, seconds: float = 5.0, half_close: bool = False) -> Exchange:
    """Send parts of bytes one after another and read until the server closes, or for so many seconds.

    Parts that an iterator makes may wait between each other; what the server says in between ends the sending.
    """
    began = time.monotonic()
    with connected(port) as connection:
        closed = not _sent(connection, [parts] if isinstance(parts, bytes) else parts)
        if half_close and not closed:
            connection.shutdown(socket.SHUT_WR)
        data, ended = _read(connection, began + seconds)
    text = data.decode("latin-1")
    statuses = re.findall(r"HTTP/1\.1 (\d{3}) ", text)  # an answer follows the body of the one before on its line
    status = int(statuses[0]) if statuses else None
    return Exchange(status, len(statuses), text, closed or ended, time.monotonic() - began)


def _sent(connection: socket.socket, parts: Iterable[bytes]) -> bool:
    """Whether everything could be sent."""
    connection.setblocking(True)
    connection.settimeout(10)
    try:
        for part in parts:
            connection.sendall(part)
            if _speaks(connection):
                return True
    except OSError:
        return False
    return True


def _speaks(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(10)


def _read(connection: socket.socket, until: float) -> tuple[bytes, bool]:
    """What comes, and whether the other side closed."""
    data = b""
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            part = connection.recv(2**16)
        except TimeoutError:
            break
        except OSError:
            return data, True
        if not part:
            return data, True
        data += part
    return data, False


def head(method: str, path: str, *lines: str, host: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode("latin-1")
