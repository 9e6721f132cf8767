"""The hostile collection as uploads: what a client can send of each file and folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hostile_files import CASES, Hostile

MOST = 8
"""Files of one case: its other ones are of the same kind (10,000 shards)."""

LARGE = 2**20
"""Bytes from which an upload is sent in the slow test."""


@dataclass(frozen=True)
class HostileUpload:
    """One file of a case.

    Attributes
    ----------
    case : Hostile
    path : Path
    name : str
        Its path inside the case, which is what the client calls it.
    whole : bool
        It is all there is of the case: the sentence is the case's.
    """

    case: Hostile
    path: Path
    name: str
    whole: bool

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def hostile_uploads(folder: Path, marker: Path) -> Iterator[HostileUpload]:
    """Every file of the collection whose content was not sent before, one by one.

    A folder cannot be sent: its first files are, under their paths inside it. Pipes, devices, sockets and links are
    nothing that HTTP could carry; a client can send what lies behind them at most.
    """
    seen = set()
    for number, case in enumerate(CASES):
        place = folder / str(number)
        place.mkdir()
        opened = case.build(place, str(marker))
        files = [file for file in sorted(place.rglob("*")) if file.is_file() and not file.is_symlink()]
        for file in files[:MOST]:
            digest = sha256(file.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield HostileUpload(case, file, str(file.relative_to(place)), file == opened)
