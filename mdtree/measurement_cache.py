"""Measurements kept between runs: a folder of JSON files in the user's cache. Plain data, no torch.

An entry is the measured part of a record (:data:`MEASURED`) under the key of everything it depends on
(`mdtree.measurement_key`). What belongs to the files of the day, the checkpoint's path and the recipe, is not kept.
Entries appear whole or not at all, so processes may share the folder; what is damaged or of another version is no
entry, and is written over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from mdtree.errors import InputError, MDTreeError
from mdtree.files import write_atomically
from mdtree.record import Record, read_json, record_from_dict

FOLDER_VARIABLE = "MDTREE_CACHE"
"""Environment variable that names another folder than the user's own for caches."""

LIMIT_BYTES = 256 * 2**20
"""What all entries together may hold; beyond it the least recently used are removed."""

MEASURED = ("protocol", "execution", "metrics", "signals", "not_measured", "series", "layers", "flags", "cost")
"""The parts of a record that are kept; the others, `checkpoint` and `recipe`, are read from the files each time."""

FORMAT = "mdtree-measurement"
VERSION = 1
LARGEST_ENTRY_BYTES = 32 * 2**20

_ENTRY = re.compile(r"[0-9a-f]{64}\.json")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.json\.[0-9a-f]+\.tmp")
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class CacheContents:
    """How much a cache holds, or how much was removed from it."""

    folder: Path
    entries: int
    bytes: int


@dataclass(frozen=True)
class _File:
    path: Path
    bytes: int
    used: float


def cache_folder() -> Path:
    """The folder of the measurements: in MDTREE_CACHE where that is set, else in the user's folder for caches."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named or platformdirs.user_cache_dir("mdtree", appauthor=False)) / "measurements"


def is_complete(record: Record) -> bool:
    """Whether nothing was cut by a time budget (then a flag whose name starts with `budget` stands in the record)."""
    return not any(flag.startswith("budget") for flag in record.flags)


class MeasurementCache:
    """Records by key, in a folder.

    Parameters
    ----------
    folder : Path, optional
        By default `cache_folder`; made when something is first kept.
    limit_bytes : int
        What all entries together may hold.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder()
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> Record | None:
        """The measurement kept under `key`, without checkpoint and recipe; None where there is none to be trusted.

        Its cost is that of the measurement, with `cached` beside it.
        """
        file = self._file(key)
        try:
            entry = read_json(file)
            if entry["format"] != FORMAT or entry["version"] != VERSION or entry["key"] != key:
                return None
            if entry["sha256"] != _checksum(entry["measured"]):
                return None
            record = record_from_dict({**entry["measured"], "checkpoint": {}, "recipe": {}}, str(file))
        except (MDTreeError, OSError, KeyError, TypeError):
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read forgets what was used last
            os.utime(file)
        return replace(record, cost={**record.cost, "cached": True})

    def put(self, key: str, record: Record) -> bool:
        """Keep the measured part of a record, unless it was cut by a time budget; then make room.

        Returns
        -------
        bool
            Whether it was kept.

        Raises
        ------
        InputError
            If the folder cannot be made or written to.
        ResourceError
            If the disk is full.
        """
        if not is_complete(record):
            return False
        values = record.to_dict()
        measured = {"schema_version": values["schema_version"], **{name: values[name] for name in MEASURED}}
        entry = {"format": FORMAT, "version": VERSION, "key": key, "sha256": _checksum(measured), "measured": measured}
        data = json.dumps(entry, separators=(",", ":")).encode()
        if len(data) > min(self.limit_bytes, LARGEST_ENTRY_BYTES):
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {self.folder} cannot be made ({(error.strerror or str(error)).lower()})",
                "a folder you may write to",
                f"name one in {FOLDER_VARIABLE}",
            ) from error
        write_atomically(self._file(key), data)
        self._make_room()
        return True

    def contents(self) -> CacheContents:
        """How many measurements are kept, and how large they are."""
        files = list(self._files(_ENTRY))
        return CacheContents(self.folder, len(files), sum(file.bytes for file in files))

    def clear(self) -> CacheContents:
        """Remove every measurement, and nothing else that may lie in the folder; what was removed.

        Raises
        ------
        InputError
            If an entry cannot be removed.
        """
        removed = [file for file in self._files(_ENTRY) if self._remove(file.path)]
        for file in self._files(_TEMPORARY):
            self._remove(file.path)
        return CacheContents(self.folder, len(removed), sum(file.bytes for file in removed))

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _files(self, pattern: re.Pattern[str]) -> Iterator[_File]:
        """The files of this cache as they lie there now; one that another process removes meanwhile is left out."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return
        for name in names:
            if not pattern.fullmatch(name):
                continue
            try:
                status = (self.folder / name).stat()
            except OSError:
                continue
            yield _File(self.folder / name, status.st_size, status.st_mtime)

    def _make_room(self) -> None:
        files = sorted(self._files(_ENTRY), key=lambda file: file.used)
        total = sum(file.bytes for file in files)
        for file in files:
            if total <= self.limit_bytes:
                break
            self._remove(file.path)
            total -= file.bytes
        for file in self._files(_TEMPORARY):  # left by a process that was killed while it wrote
            if time.time() - file.used > _ABANDONED_SECONDS:
                self._remove(file.path)

    def _remove(self, path: Path) -> bool:
        """Remove a file; False if another process did."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InputError(
                f"{path} cannot be removed ({(error.strerror or str(error)).lower()})", "a folder you may write to"
            ) from error
        return True


def _checksum(measured: Any) -> str:
    return hashlib.sha256(json.dumps(measured, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
