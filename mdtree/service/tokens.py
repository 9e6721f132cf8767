"""Who may use a service: bearer tokens, compared in constant time; each sees its own jobs alone."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

LOCAL = "local"
"""The owner of everything on a service without tokens, which listens on this machine's own address alone."""


@dataclass(frozen=True)
class Tokens:
    """Owners by the SHA-256 of their tokens, in hexadecimal: the tokens themselves are not kept."""

    owner_of: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.owner_of)

    def owner(self, token: str) -> str | None:
        """Whose token it is; None for nobody's. Every known token is compared, in constant time."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for known, owner in self.owner_of.items():
            if hmac.compare_digest(known, digest):
                found = owner
        return found
