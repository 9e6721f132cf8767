"""Files that a client sends: read in parts, and told from names of data that the server knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mdtree.errors import InputError
from mdtree.service.client.remote import Told
from mdtree.service.jobs import Progress
from mdtree.specification import Specification, parse

PART = 2**20
"""Bytes of a file that are read and sent at a time."""

FILE_FORMATS = ("npz", "safetensors")
"""Data that are sent as a file, by suffix or as ``npz:FILE?option=value``; other words name data of the server."""


class Parts:
    """A file, read in parts as often as it is sent; `sha256` is of the last time.

    Parameters
    ----------
    file : Path
    progress : function of Progress, optional
        Is told after every part.
    """

    def __init__(self, file: Path, progress: Told | None) -> None:
        self.file = file
        self.size = file.stat().st_size
        self.sha256 = ""
        self._progress = progress

    def read(self) -> Iterator[bytes]:
        """Exactly `size` bytes.

        Raises
        ------
        InputError
            The file has become shorter: something writes it.
        """
        digest, left = hashlib.sha256(), self.size
        with open(self.file, "rb") as handle:
            while left:
                part = handle.read(min(PART, left))
                if not part:
                    raise InputError(f"{self.file} changed while it was sent", "a file that nothing writes any more")
                digest.update(part)
                left -= len(part)
                if not left:
                    self.sha256 = digest.hexdigest()
                yield part
                self._tell(self.size - left)

    def _tell(self, sent: int) -> None:
        if self._progress is not None:
            text = f"{self.file.name}, {size_text(sent)} of {size_text(self.size)}"
            self._progress(Progress("uploading", text, sent / self.size))


def size_text(size: int) -> str:
    """``317 bytes``, ``3.0 MB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def data_file(words: str) -> Specification | None:
    """The file that words about data name, with its options; None where they name a data set of the server's."""
    if not words.startswith(tuple(f"{format}:" for format in FILE_FORMATS)):
        path, _, _ = words.partition("?")
        format = path.rpartition(".")[2]
        if format not in FILE_FORMATS:
            return None
        words = f"{format}:{words}"
    return parse(words)
