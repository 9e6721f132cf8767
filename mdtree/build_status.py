"""How far the build of a zoo is, and what a finished build took: read from disk, without disturbing the builder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.unfinished_table import UnfinishedStatus, unfinished_status
from mdtree.zoo import read_zoo


@dataclass(frozen=True)
class BuildRecord:
    """What a build took, as it stands beside the finished table. None where the record does not say.

    Attributes
    ----------
    units, networks : int or None
        Units of work (what is trained together and stored at once) and networks.
    train_seconds, measure_seconds : float or None
        Summed over workers.
    wall_seconds : float or None
        By the clock; not known of a build that was interrupted.
    workers, cores : int or None
        Worker processes, and cores of the machine that gathered their results.
    trained : mapping of str to int
        Networks trained in a `stack` and one by one in a `loop`.
    """

    units: int | None
    networks: int | None
    train_seconds: float | None
    measure_seconds: float | None
    wall_seconds: float | None
    workers: int | None
    cores: int | None
    trained: Mapping[str, int]

    @property
    def networks_per_second(self) -> float | None:
        """Networks trained and measured per second by the clock."""
        return self.networks / self.wall_seconds if self.networks and self.wall_seconds else None

    @property
    def worker_seconds(self) -> float | None:
        """Training and measuring, summed over workers."""
        if self.train_seconds is None or self.measure_seconds is None:
            return None
        return self.train_seconds + self.measure_seconds

    @property
    def networks_per_worker_second(self) -> float | None:
        """Networks that one worker trains and measures in a second."""
        return self.networks / self.worker_seconds if self.networks and self.worker_seconds else None


def build_record_file(table: str | os.PathLike[str]) -> Path:
    """Where the record of a table's build stands: `zoo.csv` -> `zoo.build.json`."""
    file = Path(table)
    return file.with_name((file.stem if file.suffix == ".csv" else file.name) + ".build.json")


def read_build_record(table: str | os.PathLike[str]) -> BuildRecord | None:
    """The record of a table's build, or None where there is none.

    Raises
    ------
    InputError
        The file is there and is no such record.
    """
    file = build_record_file(table)
    if not file.exists():
        return None
    regular_file(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON", "the record of a build", f"remove {file}") from error
    trained = values.get("trained", {}) if isinstance(values, dict) else None
    if not isinstance(trained, dict):
        raise InputError(f"{file} holds no record of a build", "a JSON object", f"remove {file}")
    names = ("units", "networks", "train_seconds", "measure_seconds", "wall_seconds", "workers", "cores")
    numbers: dict[str, Any] = {name: values.get(name) for name in names}
    for name, value in [*numbers.items(), *trained.items()]:
        if value is not None and not _is_number(value):
            raise InputError(f"{file}: {name} is {value!r}", "a number, not negative", f"remove {file}")
    return BuildRecord(**numbers, trained=trained)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class BuildStatus:
    """How far a build is.

    Attributes
    ----------
    table : str
    state : str
        `complete`, `building` (a builder is at work) or `stopped`.
    units_done, units_planned : int or None
        None for a complete table without the record of its build.
    networks_done : int
    networks_planned : int or None
        None where the plan does not say.
    diverged : int
        Networks whose training diverged; they are kept and marked.
    networks_per_second : float or None
        By the clock, the time in which nobody was at work left out.
    seconds_left : float or None
        At that rate, for the units still to do.
    writer : str or None
        Who is at work.
    """

    table: str
    state: str
    units_done: int | None
    units_planned: int | None
    networks_done: int
    networks_planned: int | None
    diverged: int
    networks_per_second: float | None
    seconds_left: float | None
    writer: str | None


def build_status(table: str | os.PathLike[str]) -> BuildStatus:
    """How far the build of a zoo table is.

    Parameters
    ----------
    table : path
        The table that was given to the build; it need not be there yet.

    Raises
    ------
    InputError
        There is neither such a table nor an unfinished build of it, or what is there cannot be read.
    """
    file = Path(table)
    if file.exists():
        return _complete(file)
    unfinished = unfinished_status(file)
    if unfinished is None:
        raise InputError(
            f"{file}: no such table, and no unfinished build of it",
            "the table that `mdtree zoo build -o` was given",
            "check the path",
        )
    return _unfinished(file, unfinished)


def _complete(file: Path) -> BuildStatus:
    frame = read_zoo(file, labelled=False)
    record = read_build_record(file)
    units = record.units if record else None
    return BuildStatus(
        table=str(file),
        state="complete",
        units_done=units,
        units_planned=units,
        networks_done=len(frame),
        networks_planned=len(frame),
        diverged=int(frame["diverged"].fillna(0).sum()),
        networks_per_second=record.networks_per_second if record else None,
        seconds_left=0.0,
        writer=None,
    )


def _unfinished(file: Path, found: UnfinishedStatus) -> BuildStatus:
    facts = list(found.finished.values())
    done = sum(int(_fact(part, "networks")) for part in facts)
    # a part that trained nothing (a runs table's checkpoints) is measured all the same, so both times count
    busy = busy_seconds(
        (_fact(part, "finished_at"), _fact(part, "train_seconds") + _fact(part, "measure_seconds")) for part in facts
    )
    planned = found.plan.get("networks")
    left = len(found.parts) - len(facts)
    return BuildStatus(
        table=str(file),
        state="building" if found.writer else "stopped",
        units_done=len(facts),
        units_planned=len(found.parts),
        networks_done=done,
        networks_planned=int(planned) if _is_number(planned) else None,
        diverged=sum(int(_fact(part, "diverged")) for part in facts),
        networks_per_second=done / busy if busy else None,
        seconds_left=left * busy / len(facts) if busy else None,
        writer=found.writer,
    )


def _fact(part: Mapping[str, Any], name: str) -> float:
    value = part.get(name)
    return float(value) if _is_number(value) else 0.0


def busy_seconds(parts: Iterable[tuple[float, float]]) -> float:
    """Time by the clock in which at least one part was in hand.

    Workers overlap and builds are interrupted, so neither the sum of the parts' seconds nor the time since the start
    tells how fast a build goes: the length of the union of the intervals does.

    Parameters
    ----------
    parts : iterable of (finished_at, seconds)
        When each part was finished (seconds since 1970; 0: not known, left out) and how long it took.
    """
    spans = sorted((end - seconds, end) for end, seconds in parts if end > 0)
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
