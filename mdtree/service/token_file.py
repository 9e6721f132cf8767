"""Where the operator writes who may use a service: a TOML file that others cannot read, or the environment.

[tokens]
alice = "<token>"
ci = "sha256:<hexadecimal digest of a token>"
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import MutableMapping
from hashlib import sha256
from pathlib import Path

from mdtree.errors import InputError
from mdtree.service.tokens import Tokens
from mdtree.specification import shown

VARIABLE = "MDTREE_TOKEN"
VARIABLE_OWNER = "default"

SHORTEST, LONGEST = 32, 512
"""Characters of a token; 32 of those that `HOW_TO_MAKE_ONE` prints hold 192 random bits."""

HOW_TO_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"

_LARGEST = 2**20
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]*")
_DIGEST = re.compile(r"sha256:(?P<digest>[0-9a-fA-F]{64})")


def read_token_file(path: Path) -> Tokens:
    """Read the tokens of a file.

    Raises
    ------
    InputError
        The file is missing, no TOML, may be read by others, or holds an owner or a token that cannot be one. No token
        stands in the message.
    """
    table = _table(path)
    tokens: dict[str, str] = {}
    for owner, value in table.items():
        where = f"{path}: the token of {shown(owner)}"
        if not _OWNER.fullmatch(owner):
            raise InputError(f"{path}: {shown(owner)!r} as an owner", "letters, digits and ._@-, at most 64")
        if not isinstance(value, str):
            raise InputError(f"{where} is a {type(value).__name__}", "text")
        digest = _digest(where, value)
        if digest in tokens:
            raise InputError(f"{where} is that of {tokens[digest]}", "a token of each owner's own")
        tokens[digest] = owner
    if not tokens:
        raise InputError(f"{path} has no token", 'OWNER = "TOKEN" under [tokens]', f"make one with {HOW_TO_MAKE_ONE}")
    return Tokens(tokens)


def take_token(environment: MutableMapping[str, str]) -> Tokens:
    """The token of the environment, which is removed there so that no child process inherits it; empty without one.

    Raises
    ------
    InputError
        It cannot be a token.
    """
    token = environment.pop(VARIABLE, None)
    if token is None:
        return Tokens()
    return Tokens({_digest(VARIABLE, token): VARIABLE_OWNER})


def _table(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            _refuse_readable(path, os.fstat(file.fileno()))
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "a file of tokens (TOML)") from error
    if len(text) > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST:,} bytes", "a file of tokens (TOML)")
    try:
        document = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        # the reason would quote the file
        raise InputError(f"{path} is no TOML", 'OWNER = "TOKEN" under [tokens]') from None
    table = document.get("tokens")
    if set(document) != {"tokens"} or not isinstance(table, dict):
        raise InputError(f"{path} holds something else than a table [tokens]", 'OWNER = "TOKEN" under [tokens]')
    return table


def _refuse_readable(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is no file", "a file of tokens (TOML)")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise InputError(
            f"others may read or change {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            "a file for its owner alone",
            f"chmod 600 {path}",
        )


def _digest(where: str, value: str) -> str:
    if value.startswith("sha256:"):
        found = _DIGEST.fullmatch(value)
        if found is None:
            raise InputError(f"{where} is no digest", "sha256: and 64 hexadecimal digits")
        return found["digest"].lower()
    if not _TOKEN.fullmatch(value):
        raise InputError(f"{where} holds blanks or characters beyond ASCII", "what a header can carry")
    if not SHORTEST <= len(value) <= LONGEST:
        raise InputError(
            f"{where} has {len(value)} characters", f"{SHORTEST} to {LONGEST}", f"make one with {HOW_TO_MAKE_ONE}"
        )
    return sha256(value.encode("ascii")).hexdigest()
