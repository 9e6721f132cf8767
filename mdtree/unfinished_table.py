"""A table under way: its finished parts on disk, one writer at a time, nothing lost when the process is killed.

The folder `<table>.partial/` holds `plan.json` (what is being made), `lock` (held by the one process that writes; the
operating system lets go of it when that process ends, however it ends) and `parts/`, one file for each finished part:
a first line of facts as JSON after `# `, then the part's rows as CSV. A part's file appears whole or not at all, and
carries the checksum of its rows, so that one that a dying disk cut short counts as not finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from mdtree.errors import InputError, ResourceError
from mdtree.files import write_atomically
from mdtree.writer_lock import LOCK_NAME, WriterLock, lock_holder
from mdtree.zoo import TEXT_COLUMNS, format_rows

_PLAN, _PARTS = "plan.json", "parts"


class UnfinishedTable:
    """The finished parts of a table under way, in the folder `<table>.partial/`; one writer at a time.

    A context manager: the lock is taken when it is made and let go at the end of the block.

    Parameters
    ----------
    table : path
        The table that will be.
    plan : mapping
        What is being made, as plain JSON values. A folder that is there already must have been started with an equal
        one.
    parts : sequence of str
        Names of the parts, in the order of the table. Any text is a name.

    Raises
    ------
    InputError
        Another process is writing this table; the folder belongs to another plan (the first key that differs is
        named), is no unfinished table, or cannot be written to.
    ResourceError
        The disk is full.
    """

    def __init__(self, table: Path, plan: Mapping[str, Any], parts: Sequence[str]) -> None:
        if len(set(parts)) < len(parts):
            raise ValueError("two parts of a table have the same name")
        self._table = Path(table)
        self.folder = _folder(self._table)
        self._parts = tuple(parts)
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._lock = WriterLock(self.folder, self._table)
        try:
            self._claim(json.loads(json.dumps(plan, default=_plain)))
            for name in self._parts:
                found = _read_part(self._file(name))
                if found is not None and found.name == name:
                    self._facts[name] = found.facts
        except BaseException:
            self.close()
            raise

    def _claim(self, plan: dict[str, Any]) -> None:
        """Check that the folder belongs to the plan, or write the plan into a new one; sweep what a kill left."""
        document = _read_plan(self.folder)
        if document is None:
            foreign = [f.name for f in self.folder.iterdir() if f.name != LOCK_NAME and not f.name.endswith(".tmp")]
            if foreign:
                raise InputError(
                    f"{self.folder} is no unfinished table of this version: it holds {sorted(foreign)[0]}",
                    "a free name",
                    "remove it, or choose another output file",
                )
        elif document["plan"] != plan and not any((self.folder / _PARTS).glob("*.csv")):
            document = None  # nothing is finished, so nothing is lost
        elif document["plan"] != plan:
            key, old, new = _first_difference(document["plan"], plan)
            raise InputError(
                f"{self.folder} holds an unfinished table of another plan: {key} was {_short(old)}, is {_short(new)}",
                "the plan it was started with",
                f"finish it with that one, choose another output file, or remove {self.folder}",
            )
        if document is None or document["parts"] != list(self._parts):
            started = document["started_at"] if document else datetime.now(UTC).isoformat(timespec="seconds")
            text = json.dumps({"started_at": started, "plan": plan, "parts": self._parts}, indent=1, sort_keys=True)
            write_atomically(self.folder / _PLAN, text.encode())
        (self.folder / _PARTS).mkdir(exist_ok=True)
        for leftover in (*self.folder.glob(".*.tmp"), *(self.folder / _PARTS).glob(".*.tmp")):
            leftover.unlink(missing_ok=True)

    def __enter__(self) -> UnfinishedTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock; the parts stay."""
        self._lock.release()

    @property
    def finished(self) -> frozenset[str]:
        """Names of the finished parts."""
        return frozenset(self._facts)

    def facts(self) -> dict[str, Mapping[str, Any]]:
        """What was noted of every finished part, in the table's order."""
        return {name: self._facts[name] for name in self._parts if name in self._facts}

    def add(self, part: str, rows: pd.DataFrame, columns: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Put a finished part on disk: whole, or not at all.

        Parameters
        ----------
        part : str
        rows : pandas.DataFrame
            Its rows; numbers are kept to six significant digits, as in every zoo table.
        columns : sequence of str
            The columns to write, in order.
        facts : mapping
            What to remember of the part beside its rows (seconds, networks trained ...), as plain JSON values.

        Raises
        ------
        ResourceError
            The disk is full. What was finished before is safe.
        InputError
            The folder cannot be written to any more.
        """
        if part not in self._parts:
            raise ValueError(f"{part!r} is no part of {self._table}")
        body = format_rows(rows, columns, header=True).encode()
        header = {"part": part, "facts": dict(facts), "sha256": hashlib.sha256(body).hexdigest()}
        line = json.dumps(header, default=_plain)
        try:
            write_atomically(self._file(part), f"# {line}\n".encode() + body)
        except ResourceError as error:
            raise ResourceError(
                f"no space left to write part {part} of {self._table}",
                "",
                f"the {len(self._facts)} finished parts in {self.folder} are safe: free some space, then run the same "
                "command again to go on",
            ) from error
        self._facts[part] = json.loads(line)["facts"]

    def rows(self) -> pd.DataFrame:
        """All parts in the table's order, as read back from disk: equal bytes whatever the order they came in.

        Raises
        ------
        InputError
            A part is not finished, or its file was changed meanwhile.
        """
        frames = []
        for name in self._parts:
            found = _read_part(self._file(name)) if name in self._facts else None
            if found is None:
                raise InputError(f"part {name} of {self._table} is not finished", "all parts", "run the command again")
            frames.append(
                pd.read_csv(io.BytesIO(found.body), dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
            )
        # numbers are told from text for the whole column: a part that has none of a value must not change its type
        whole = pd.concat(frames, ignore_index=True)
        for column in whole.columns:
            if column not in TEXT_COLUMNS:
                whole[column] = pd.to_numeric(whole[column])
        return whole

    def remove(self) -> None:
        """Remove the folder and let go of the lock: the table is finished."""
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)
        # the lock goes last: whoever was waiting for it sees that its file is no longer the one in the folder
        for name in (_PLAN, LOCK_NAME):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process may have begun a new table here
            self.folder.rmdir()
        self.close()

    def _file(self, part: str) -> Path:
        return self.folder / _PARTS / _file_name(part)


@dataclass(frozen=True)
class UnfinishedStatus:
    """How far a table under way is.

    Attributes
    ----------
    plan : mapping
        As it was given.
    parts : tuple of str
        Names of all parts, in the table's order.
    finished : dict of str -> mapping
        Facts of the finished parts, in the table's order.
    started_at : str
        When the first writer began (ISO 8601, UTC).
    writer : str or None
        Who writes at the moment ("process 123 on host h, started ..."); None where nobody does.
    """

    plan: Mapping[str, Any]
    parts: tuple[str, ...]
    finished: dict[str, Mapping[str, Any]]
    started_at: str
    writer: str | None


def unfinished_status(table: Path) -> UnfinishedStatus | None:
    """How far a table under way is, without disturbing who writes it; None where there is no unfinished table.

    Raises
    ------
    InputError
        The folder cannot be read.
    """
    folder = _folder(Path(table))
    try:
        document = _read_plan(folder)
        if document is None:
            return None
        found = {name: _read_part(folder / _PARTS / _file_name(name)) for name in document["parts"]}
        writer = lock_holder(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({(error.strerror or str(error)).lower()})") from error
    return UnfinishedStatus(
        plan=document["plan"],
        parts=tuple(document["parts"]),
        finished={name: part.facts for name, part in found.items() if part is not None and part.name == name},
        started_at=document["started_at"],
        writer=writer,
    )


@dataclass(frozen=True)
class _Part:
    name: str
    facts: Mapping[str, Any]
    body: bytes


def _folder(table: Path) -> Path:
    return table.with_name(table.name + ".partial")


def _file_name(part: str) -> str:
    """A name that every file system takes, readable at its start, different for every part by the hash at its end."""
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", part)[:80]
    return f"{readable}-{hashlib.sha256(part.encode()).hexdigest()[:16]}.csv"


def _read_part(file: Path) -> _Part | None:
    """A part's file, or None where it is missing or not whole."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    line, _, body = content.partition(b"\n")
    try:
        header = json.loads(line.removeprefix(b"# "))
        if header["sha256"] != hashlib.sha256(body).hexdigest():
            return None
        return _Part(str(header["part"]), dict(header["facts"]), body)
    except (ValueError, KeyError, TypeError):
        return None


def _read_plan(folder: Path) -> dict[str, Any] | None:
    """The document of `plan.json`, or None where there is none."""
    file = folder / _PLAN
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, NotADirectoryError) as error:
        raise InputError(f"{file} is no plan of an unfinished table", "", f"remove {folder}") from error
    if not isinstance(document, dict) or not {"plan", "parts", "started_at"} <= set(document):
        raise InputError(f"{file} is no plan of an unfinished table", "", f"remove {folder}")
    return document


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    """The first key, dotted, at which two JSON values differ, with both values."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return key, old, new
    for name in sorted({*old, *new}):
        if name not in old or name not in new or old[name] != new[name]:
            inner = f"{key}.{name}" if key else name
            return _first_difference(old.get(name, "(not given)"), new.get(name, "(not given)"), inner)
    raise ValueError("the values do not differ")


def _short(value: Any) -> str:
    text = value if value == "(not given)" else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's."""
    return value.item()
