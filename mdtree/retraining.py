"""Train given configurations from fresh seeds and score them; nothing is measured but the test error.

What is finished is on disk at once (`mdtree.unfinished_table`), so a run that is killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mdtree.backends import Backend, run_tasks
from mdtree.data import cut_test_set, load_data
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.grid_spec import Cell, Unit, ZooSpec
from mdtree.grid_unit import chosen_device, error_percent, fresh, rebuild, train_unit
from mdtree.stacking import trains_in_stack
from mdtree.training import Trained
from mdtree.unfinished_table import UnfinishedTable
from mdtree.zoo import GAIN_COLUMN, format_rows

_COLUMNS = ("cell", "seed", "width", "train_size", "learning_rate", "batch_size", "diverged", GAIN_COLUMN)


@dataclass(frozen=True)
class Trials:
    """Configurations that are trained together: of one block and batch size in a stack, or one of them in a loop.

    Attributes
    ----------
    spec : ZooSpec
        Gives the recipe.
    cells : tuple of Cell
    seeds : tuple of int
        Numbers of the seeds, as in a zoo (`mdtree.grid_unit.network_seed`).
    stacked : bool
    """

    spec: ZooSpec
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    stacked: bool

    @property
    def name(self) -> str:
        """Tells it from every other of a run: what is in a stack may move the last digits."""
        return " ".join(cell.name for cell in self.cells)

    @property
    def networks(self) -> int:
        return len(self.cells) * len(self.seeds)


@dataclass(frozen=True)
class TrialsTask:
    """What a worker is sent: the trials and where to compute."""

    trials: Trials
    device: str = "cpu"

    def __str__(self) -> str:
        return f"trials {self.trials.cells[0].name} of {self.trials.spec.family}"


@dataclass(frozen=True)
class Cost:
    """What a run takes: configurations, networks, how many of these train in stacks, parameter updates of all."""

    configurations: int
    networks: int
    stacked: int
    updates: int


def group_trials(spec: ZooSpec, cells: Sequence[Cell], seeds: Sequence[int]) -> list[Trials]:
    """Put together what can be trained in one stack.

    Raises
    ------
    InputError
        The data cannot be read, or an architecture cannot be built for it.
    """
    data = load_data(max(cells, key=lambda cell: cell.block.train_size).block.data_spec)
    stacks = {cell.block.model_spec: cell.block for cell in cells}
    in_stack = {name: trains_in_stack(fresh(block, data, seed=0)) for name, block in stacks.items()}
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        together = in_stack[cell.block.model_spec]
        groups.setdefault((cell.block, cell.batch_size) if together else cell, []).append(cell)
    return [Trials(spec, tuple(g), tuple(seeds), in_stack[g[0].block.model_spec]) for g in groups.values()]


def cost_of(trials: Sequence[Trials]) -> Cost:
    """What trials take."""
    return Cost(
        configurations=sum(len(t.cells) for t in trials),
        networks=sum(t.networks for t in trials),
        stacked=sum(t.networks for t in trials if t.stacked),
        updates=sum(len(t.seeds) * t.spec.recipe(cell).steps for t in trials for cell in t.cells),
    )


def finish_trials(task: TrialsTask) -> pd.DataFrame:
    """Train the networks of some trials with one thread: a row each with its error on the half kept for gains.

    Raises
    ------
    InputError
        The data has no test set.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        unit = Unit(task.trials.spec, task.trials.cells, task.trials.stacked, task.trials.name)
        trained = list(train_unit(unit, task.device, task.trials.seeds).values())
        return pd.DataFrame(_rows(task.trials, trained), columns=list(_COLUMNS))
    finally:
        torch.set_num_threads(threads)


def _rows(trials: Trials, trained: Sequence[Trained]) -> list[dict[str, Any]]:
    block = trials.cells[0].block
    data = cut_test_set(load_data(f"{block.data_spec}&test=all"))[1]
    assert data.test_tensor is not None
    assert data.y_test is not None
    rows = []
    keys = [(cell, seed) for cell in trials.cells for seed in trials.seeds]
    for (cell, seed), network in zip(keys, trained, strict=True):
        error = error_percent(rebuild(block, data, network), data.test_tensor, data.y_test)
        settings = (cell.name, seed, block.width, block.train_size, cell.learning_rate, cell.batch_size)
        rows.append(dict(zip(_COLUMNS, (*settings, int(network.diverged), error), strict=True)))
    return rows


def retrain(
    trials: Sequence[Trials],
    output: str | os.PathLike[str],
    *,
    backend: Backend | None = None,
    device: str = "auto",
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, np.ndarray]:
    """Train all trials, or what is missing of them.

    Parameters
    ----------
    trials : sequence of Trials
        Of one specification and with the same seeds.
    output : path
        A CSV table with a row for every network; finished parts wait in `<output>.partial/`. Where it is there
        already, and holds all that is asked for, nothing is trained.
    backend : Backend, optional
        Where they are trained; default: a process of one thread per core. The numbers do not depend on it.
    device : str
        `cpu`, `cuda`, or `auto`, a CUDA device where there is one.
    progress : callable, optional
        Called with what is done, in words, and its share (0...1).

    Returns
    -------
    dict of str to numpy.ndarray, shape (seeds,)
        Test error in percent on the half kept for gains, by cell, in the order of the seeds.

    Raises
    ------
    InputError
        The table, or the unfinished one, belongs to another specification or holds other trainings.
    ResourceError
        The disk is full, or trials ended their worker again and again. What was finished is kept.
    """
    device, table, seeds = chosen_device(device), Path(output), trials[0].seeds
    wanted = [cell.name for t in trials for cell in t.cells]
    plan = {**trials[0].spec.to_dict(), "fresh_seeds": list(seeds), "device": device}
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
    if table.exists():
        return _errors(_read(table, digest), wanted, seeds, table)
    report = progress or (lambda what, share: None)
    total = sum(t.networks for t in trials)
    with UnfinishedTable(table, plan, [t.name for t in trials]) as unfinished:
        if table.exists():  # another process finished it while this one waited for the lock
            unfinished.remove()
            return _errors(_read(table, digest), wanted, seeds, table)
        waiting = [t for t in trials if t.name not in unfinished.finished]
        done = total - sum(t.networks for t in waiting)
        # the longest first: one started last would leave the other workers idle
        waiting.sort(key=lambda t: (t.stacked, -t.cells[0].block.width, -t.cells[0].block.train_size))
        report(f"{done}/{total} networks", done / total)
        tasks = [TrialsTask(t, device) for t in waiting]
        for index, rows in run_tasks(finish_trials, tasks, backend or Backend()):
            unfinished.add(waiting[index].name, rows, _COLUMNS, {"networks": len(rows)})
            done += waiting[index].networks
            report(f"{done}/{total} networks", done / total)
        frame = unfinished.rows().assign(plan=digest)
        write_atomically(table, format_rows(frame, (*_COLUMNS, "plan"), header=True).encode())
        unfinished.remove()
    return _errors(frame, wanted, seeds, table)


def _read(table: Path, digest: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(table, dtype={"cell": str, "plan": str})
        same = set(frame["plan"]) == {digest}
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{table} is no table of trainings", "a free name", "choose another output file") from error
    if not same:
        raise InputError(
            f"{table} holds trainings of another specification, other seeds or another device",
            "no table, or this one",
            "choose another output file",
        )
    return frame


def _errors(frame: pd.DataFrame, wanted: Sequence[str], seeds: Sequence[int], table: Path) -> dict[str, np.ndarray]:
    found: Mapping[Any, float] = frame.set_index(["cell", "seed"])[GAIN_COLUMN].to_dict()
    missing = [name for name in wanted if any((name, seed) not in found for seed in seeds)]
    if missing:
        raise InputError(
            f"{table} holds other trainings: {len(missing)} of {len(wanted)} configurations are not there",
            "no table, or one with all of them",
            "choose another output file",
        )
    return {name: np.array([found[name, seed] for seed in seeds], dtype=float) for name in wanted}
