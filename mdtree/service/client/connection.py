"""How a client reaches its service: one host, one token, patience with what passes, and the server's own sentences."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any

from mdtree.errors import InputError, MDTreeError, ResourceError

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the client needs httpx: pip install 'mdtree-diagnosis[client]'") from error

PASSING = frozenset({429, 502, 503, 504})
"""Answers that another moment may change: a full queue, a server that starts or stops, and what a proxy says of one."""

FOR_GOOD = frozenset({"quota_exceeded"})
"""Codes of errors that do not pass by waiting, whatever their status."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds before a request is sent again, doubled every time."""

CONNECT_SECONDS, SILENT_SECONDS = 10.0, 60.0
"""How long a connection may take, and how long the other side may say nothing."""

KEPT_SECONDS = 3.0
"""How long an idle connection is used again: servers close theirs after five."""

_log = logging.getLogger("mdtree")

Body = bytes | Callable[[], Iterable[bytes]]
"""What a request carries: bytes, or a function that begins them anew for every time they are sent."""


@dataclass(frozen=True)
class Request:
    """A request that may be sent more than once.

    Attributes
    ----------
    method, path : str
        The path under the service's address: ``/v1/jobs``.
    query : tuple of (str, str)
    body : bytes, or function that returns parts of bytes
    headers : mapping of str to str
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Connection:
    """A service at one address.

    No redirect is followed, so the token goes to this host alone; proxies that the environment names are used for
    ``https`` only, where they do not see it.

    Parameters
    ----------
    address : str
        ``http://HOST:PORT`` or ``https://HOST``, with the path under which a proxy serves it, if there is one.
    token : str or None
    patience : float
        Seconds for which a request is sent again while nothing answers, or the answer is one of `PASSING`.

    Raises
    ------
    InputError
        The address is none of a service, or the token cannot stand in a header.
    """

    def __init__(self, address: str, token: str | None, patience: float) -> None:
        url = _url(address)
        self.address = str(url).rstrip("/")
        self.patience = patience
        headers = {"User-Agent": "mdtree-client", "Accept": "application/json, text/html"}
        if token is not None:
            if not (token.isascii() and token.isprintable() and token and " " not in token):
                raise InputError(
                    "the token holds blanks or characters that no token has", "it as the server printed it"
                )
            headers["Authorization"] = f"Bearer {token}"
            if url.scheme == "http" and not _is_this_machine(url.host):
                _log.warning("the token goes to %s unencrypted; use https", url.host)
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=url.scheme == "https",
            limits=httpx.Limits(keepalive_expiry=KEPT_SECONDS),
        )

    def send(self, request: Request) -> httpx.Response:
        """The answer to a request, sent again while that may help.

        Raises
        ------
        InputError
            The server refused what was sent; its sentence.
        ResourceError
            No answer, or the server is short of something.
        MDTreeError
            A defect of the server.
        """
        end = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            failure, wait = self._try(request, again=pause > FIRST_PAUSE)
            if isinstance(failure, httpx.Response):
                return failure
            wait = max(wait, pause * random.uniform(0.5, 1.0))
            left = end - time.monotonic()
            if wait > left:
                raise failure
            if pause == FIRST_PAUSE:
                _log.warning("%s; trying again for %.0f s", failure, left)
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def values(self, request: Request) -> dict[str, Any]:
        """The JSON object that a request is answered with; errors as of `send`."""
        response = self.send(request)
        try:
            values = response.json()
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(values, dict):
            raise self._stranger()
        return values

    def _stranger(self) -> InputError:
        return InputError(f"{self.address} does not answer as a service of mdtree", "the address of one")

    def _try(self, request: Request, again: bool) -> tuple[httpx.Response | MDTreeError, float]:
        """An answer, or an error that may pass and the seconds that the server asks to wait; raises other errors."""
        body = request.body if isinstance(request.body, bytes) else request.body()
        try:
            response = self._http.request(
                request.method,
                self.address + request.path,
                params=list(request.query),
                content=body,
                headers=dict(request.headers),
            )
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            mend = "is the service running, and is this its address?"
            return ResourceError(f"no answer from {self.address} ({_one_line(reason)})", "", mend), 0.0
        gone = again and request.method == "DELETE" and response.status_code == 404
        if response.is_success or gone:  # gone: deleted by the time before, whose answer was lost
            return response, 0.0
        failure, code = self._failure(response)
        if response.status_code not in PASSING or code in FOR_GOOD:
            raise failure
        return failure, retry_after(response.headers.get("Retry-After", ""))

    def _failure(self, response: httpx.Response) -> tuple[MDTreeError, str]:
        """What an answer that is no success says, and its code."""
        status = response.status_code
        if response.is_redirect:
            host = _one_line(response.headers.get("Location", "")) or "elsewhere"
            got = f"{self.address} sends on to {host}, where the token was not sent"
            return InputError(got, "the service itself", "give the address that it leads to, if it is yours"), ""
        code, message = _said(response)
        kind: type[MDTreeError] = InputError
        if status in (408, 429, 502, 503, 504, 507):
            kind = ResourceError
        elif status >= 500:
            kind = MDTreeError
        return kind(message or f"{self.address} answers {status} {response.reason_phrase}".rstrip()), code

    def close(self) -> None:
        self._http.close()


def retry_after(text: str) -> float:
    """Seconds of a ``Retry-After`` header, which are a number or a date; 0 for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _url(address: str) -> httpx.URL:
    expected = "http://HOST:PORT or https://HOST"
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise InputError(f"{address!r} is no address", expected) from error
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host or url.query or url.fragment:
        raise InputError(f"{address!r} is no address of a service", expected)
    if url.userinfo:
        raise InputError("the address holds a user's name", expected, "give the token as the second argument")
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _said(response: httpx.Response) -> tuple[str, str]:
    """Code and sentence of an error as the service writes it; empty for another's."""
    try:
        error = response.json()["error"]
        return str(error["code"]), _one_line(str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return "", ""


def _one_line(text: str) -> str:
    """Fit to be printed: on one line, without control characters, not endless."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:2000]
