"""A zoo from a specification: train a grid of networks, measure each, label all.

The grid is cut into units (see `mdtree.grid_spec`), each a few networks trained together and measured as
`mdtree diagnose` measures them. A finished unit is put on disk at once, so a build that is killed goes on where it
was; the table is assembled from the units on disk in the grid's order, so its bytes depend neither on the number of
workers, nor on where they run, nor on interruptions.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mdtree.backends import Backend, run_tasks
from mdtree.build_status import build_record_file
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.grid_spec import Unit, ZooSpec, units_of
from mdtree.grid_unit import UnitTask, chosen_device, finish_unit, fresh
from mdtree.room import label_zoo
from mdtree.stacking import trains_in_stack
from mdtree.unfinished_table import UnfinishedTable
from mdtree.zoo import MEASURED_COLUMNS, read_zoo, write_zoo


@dataclass(frozen=True)
class Progress:
    """How far a build is: networks done and planned, and the last finished unit (empty at the start)."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class BuildResult:
    """What a build did: rows of the table, and how many networks were trained now rather than found on disk."""

    rows: int
    trained: int


def plan_units(spec: ZooSpec) -> list[Unit]:
    """The units of a grid in the table's order.

    One network of each architecture and width is built on the way, so what does not fit is said before anything is
    trained.

    Raises
    ------
    InputError
        The data cannot be read, or an architecture cannot be built for it.
    """
    blocks = list(spec.blocks())
    # the largest amount of data shows whether there is enough of it; measuring asks for the whole test set
    largest = [block for block in blocks if block.train_size == max(spec.train_sizes)]
    data = load_data(f"{largest[0].data_spec}&test=all")
    stacks = {block.model_spec: trains_in_stack(fresh(block, data, seed=0)) for block in largest}
    return [unit for block in blocks for unit in units_of(spec, block, stacks[block.model_spec])]


def plan_of(spec: ZooSpec, units: list[Unit]) -> dict[str, Any]:
    """What a build is told apart by: the specification, and which widths are trained in stacks."""
    ways = {f"{unit.block.model_spec}": unit.way for unit in units}
    return {**spec.to_dict(), "trained": ways, "units": len(units), "networks": sum(unit.networks for unit in units)}


def build_zoo(
    spec: ZooSpec,
    output: str | os.PathLike[str],
    *,
    backend: Backend | None = None,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> BuildResult:
    """Train, measure and label a grid; write the zoo table.

    Beside the table, ``<table without .csv>.build.json`` tells what the build took.

    Parameters
    ----------
    spec : ZooSpec
    output : path
        The CSV table. Finished units wait in `<output>.partial/` until all are there.
    backend : Backend, optional
        Where units are computed; default: a process of one thread per core. The table does not depend on it.
    device : str
        Where networks are trained and measured: `cpu`, `cuda`, or `auto`, a CUDA device where there is one. Another
        kind of device gives other bytes.
    progress : callable, optional
        Called at the start and after every unit.

    Returns
    -------
    BuildResult

    Raises
    ------
    InputError
        The specification cannot be built, the unfinished build at `output` belongs to another one or is under way, or
        `output` is another table.
    ResourceError
        The disk is full, or a unit ended its worker again and again. Finished units are kept.
    """
    table, started = Path(output), time.time()
    if table.exists():
        rows = _complete_table(table, spec)
        # a build that was killed at its very end left its parts
        shutil.rmtree(table.with_name(table.name + ".partial"), ignore_errors=True)
        return BuildResult(rows, trained=0)
    units, device, backend = plan_units(spec), chosen_device(device), backend or Backend()
    plan = {**plan_of(spec, units), "device": device}
    with UnfinishedTable(table, plan, [unit.name for unit in units]) as unfinished:
        if table.exists():  # another builder finished it while this one waited for the lock
            unfinished.remove()
            return BuildResult(rows=_complete_table(table, spec), trained=0)
        waiting = [unit for unit in units if unit.name not in unfinished.finished]
        _finish_units(waiting, plan["networks"], unfinished, backend, device, progress or (lambda _: None))
        labelled = label_zoo(unfinished.rows())
        wall_seconds = time.time() - started if len(waiting) == len(units) else None
        record = _record(unfinished.facts(), wall_seconds, backend)
        write_atomically(build_record_file(table), (json.dumps(record, indent=1) + "\n").encode())
        write_zoo(labelled, table)
        unfinished.remove()
    return BuildResult(rows=len(labelled), trained=sum(unit.networks for unit in waiting))


def _finish_units(
    waiting: Sequence[Unit],
    total: int,
    unfinished: UnfinishedTable,
    backend: Backend,
    device: str,
    report: Callable[[Progress], None],
) -> None:
    """Train and measure what waits, and put each unit on disk as it comes."""
    done = total - sum(unit.networks for unit in waiting)
    report(Progress(done, total, ""))
    # the widest first: a long unit started last would leave the other workers idle
    ordered = sorted(waiting, key=lambda unit: (-unit.block.width, -unit.block.train_size))
    for index, result in run_tasks(finish_unit, [UnitTask(unit, device) for unit in ordered], backend):
        unit = ordered[index]
        unfinished.add(unit.name, result.rows, MEASURED_COLUMNS, result.facts)
        done += unit.networks
        report(Progress(done, total, unit.name))


def _record(facts: Mapping[str, Mapping[str, Any]], wall_seconds: float | None, backend: Backend) -> dict[str, Any]:
    """What a build took; the time on the clock is known only of one that was not interrupted."""
    ways = Counter[str]()
    for fact in facts.values():
        ways[fact["trained"]] += fact["networks"]
    return {
        "units": len(facts),
        "networks": sum(fact["networks"] for fact in facts.values()),
        "diverged": sum(fact["diverged"] for fact in facts.values()),
        "trained": dict(sorted(ways.items())),
        "train_seconds": round(sum(fact["train_seconds"] for fact in facts.values()), 1),
        "measure_seconds": round(sum(fact["measure_seconds"] for fact in facts.values()), 1),
        "wall_seconds": None if wall_seconds is None else round(wall_seconds, 1),
        "backend": backend.name,
        "workers": backend.processes,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}},
    }


def _complete_table(table: Path, spec: ZooSpec) -> int:
    frame = read_zoo(table)
    have = set(zip(frame["cell"], frame["seed"], frame["protocol"], strict=True))
    digest = spec.protocol.digest()
    want = {(cell.name, seed, digest) for cell in spec.cells() for seed in range(spec.seeds)}
    if have != want:
        raise InputError(
            f"{table} holds another zoo than this specification plans ({len(have & want)} of {len(want)} networks)",
            "no table, or this one finished",
            "choose another output file",
        )
    return len(frame)
