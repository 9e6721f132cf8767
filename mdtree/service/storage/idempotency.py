"""Requests that a client may send twice: the second gets the answer of the first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

KEY_LIFETIME = timedelta(hours=24)
"""How long a key is remembered."""


@dataclass(frozen=True)
class IdempotencyKey:
    """What makes two requests of one owner the same.

    Attributes
    ----------
    key : str
        The client's word for the request; another owner may use the same word.
    fingerprint : str
        A digest of what was asked: the same key with another fingerprint is a mistake of the client.
    """

    key: str
    fingerprint: str
