"""Links that open one page for a few minutes: a browser sends no token when it opens one."""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from mdtree.errors import InputError

LIFETIME = timedelta(minutes=10)

LONGEST = 1000
"""Characters of a ticket, which hold the owner's name and little else."""

_SECRET_BYTES = 32


class Tickets:
    """Signs and checks links.

    A ticket is ``expiry.owner.signature``: seconds since 1970, the owner's name, and HMAC-SHA256 over both and the ids
    of the jobs, which stand in the address it is for.

    Parameters
    ----------
    secret : bytes
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, owner: str, jobs: Sequence[str], now: datetime | None = None) -> tuple[str, datetime]:
        """A ticket for the page of exactly these jobs in this order, and when it ends (whole seconds)."""
        expires = ((now or datetime.now(UTC)) + LIFETIME).replace(microsecond=0)
        stamp = str(int(expires.timestamp()))
        signature = _text(self._signature(stamp, owner, jobs))
        return f"{stamp}.{_text(owner.encode())}.{signature}", expires

    def owner(self, ticket: str, jobs: Sequence[str], now: datetime | None = None) -> str | None:
        """Whose jobs a ticket opens; None where it has ended, was changed, or is for other jobs."""
        parts = ticket.split(".") if len(ticket) <= LONGEST and ticket.isascii() else []
        if len(parts) != 3 or not parts[0].isdigit() or len(parts[0]) > 12:
            return None
        try:
            owner = urlsafe_b64decode(_padded(parts[1])).decode()
            given = urlsafe_b64decode(_padded(parts[2]))
        except ValueError:
            return None
        if not hmac.compare_digest(given, self._signature(parts[0], owner, jobs)):
            return None
        return owner if int(parts[0]) > (now or datetime.now(UTC)).timestamp() else None

    def _signature(self, stamp: str, owner: str, jobs: Sequence[str]) -> bytes:
        # every part has its length, so that no two lists of parts sign alike
        parts = [part.encode() for part in ("mdtree ticket 1", stamp, owner, *jobs)]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._secret, message, sha256)


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def read_secret(path: Path) -> bytes:
    """The secret of a data folder, made at its first use; readable by its owner alone.

    Raises
    ------
    InputError
        It cannot be read or written, or is no such secret.
    """
    try:
        _make_secret(path)
        secret = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be used ({error.strerror})", "a data folder that can be written to") from error
    if len(secret) != _SECRET_BYTES:
        raise InputError(f"{path} holds {len(secret)} bytes", f"{_SECRET_BYTES} random bytes", "delete it: links end")
    return secret


def _make_secret(path: Path) -> None:
    """Whole or not at all: written beside, then linked to its name unless another was quicker."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
