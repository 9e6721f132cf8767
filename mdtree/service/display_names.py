"""What a client calls a file, made harmless: a name for people and reports, never a path."""

from __future__ import annotations

import re

LONGEST = 100

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}$")


def display_name(text: str) -> str:
    """The last part of a path, of letters, digits and ``._+@=-`` alone; "unnamed" where nothing is left.

    A name of a checkpoint stands in reports and, as ``npz:NAME``, in specifications of data, so what has a meaning
    there (``?``, ``&``, ``:``) is replaced like everything else.
    """
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    clean = re.sub(r"[^A-Za-z0-9._+@=-]+", "_", last).lstrip(".-")
    if len(clean) > LONGEST:
        suffix = suffix_of(clean)
        clean = clean[: LONGEST - len(suffix)] + suffix
    return clean or "unnamed"


def suffix_of(name: str) -> str:
    """``.pt`` of ``run7.pt``: what a stored file keeps of its client's name; empty without one."""
    found = _SUFFIX.search(name)
    return found.group() if found else ""
