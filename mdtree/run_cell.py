"""The checkpoints of one cell of training runs: opened, measured, and made into rows of a zoo table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from landscape import Execution, LandscapeError, Measurement, Objective, Protocol, Samples, Task, measure_many
from mdtree.checkpoint import Checkpoint, load_into, open_checkpoint, read_contents
from mdtree.data import TEST_GAIN_HALF, TEST_METRIC_HALF, DataSet, cut_test_set, load_data
from mdtree.datasets.data_set import WHOLE_TEST
from mdtree.errors import InputError
from mdtree.models import model_factory
from mdtree.prepare import classification_data
from mdtree.runs import Run
from mdtree.runs_file import Setting
from mdtree.specification import parse
from mdtree.user_code import isolated_random_state
from mdtree.weights.checkpoint_contents import find_weights
from mdtree.zoo import GAIN_COLUMN, MEASURED_COLUMNS, METRICS


@dataclass(frozen=True)
class CellTask:
    """What a worker is sent: where the checkpoints of a cell lie and what they are. Never a tensor.

    Attributes
    ----------
    source : str
        The table of runs, for messages.
    name : str
    settings : mapping of column to value
        Every column of the zoo table that the cell's rows share.
    model, data : str
        Specifications.
    runs : tuple of Run
        In ascending order of the seed.
    directory : Path
        Where modules and files named in the specifications are looked up.
    protocol : Protocol
    device : str
    """

    source: str
    name: str
    settings: Mapping[str, Setting]
    model: str
    data: str
    runs: tuple[Run, ...]
    directory: Path
    protocol: Protocol
    device: str = "cpu"

    def __str__(self) -> str:
        return f"cell {self.name}"


@dataclass(frozen=True)
class CellResult:
    """Rows of a cell, and what it took, as plain values."""

    rows: pd.DataFrame
    facts: Mapping[str, Any]


def test_halves(spec: str, directory: Path) -> tuple[DataSet, DataSet | None]:
    """A data set with the half of its test set for metrics, and with the half for gains; None without test data.

    Raises
    ------
    InputError
        The data cannot be read, or the test set has less than two samples.
    """
    data = load_data(spec, directory)
    if data.x_test is None:
        return data, None
    if data.test_part == WHOLE_TEST:
        return cut_test_set(data)
    # the first half is what built-in data sets give unless asked otherwise
    other = TEST_METRIC_HALF if data.test_part == TEST_GAIN_HALF else TEST_GAIN_HALF
    parsed = parse(spec)
    return data, load_data(str(replace(parsed, options={**parsed.options, "test": other})), directory)


def finish_cell(task: CellTask) -> CellResult:
    """Open and measure the checkpoints of a cell, with one thread.

    Raises
    ------
    InputError
        A checkpoint does not open, does not fit its network, or cannot be measured; its line in the table is named.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.perf_counter()
        rows = pd.DataFrame(_rows(task), columns=list(MEASURED_COLUMNS))
        seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    facts = {"networks": len(rows), "diverged": int(rows["diverged"].sum()), "measure_seconds": round(seconds, 3)}
    return CellResult(rows, facts)


def _rows(task: CellTask) -> list[dict[str, Any]]:
    data, gain_data = test_halves(task.data, task.directory)
    # what a factory draws from the global random state is overwritten or seeded: the caller's state stays untouched
    with isolated_random_state(0):
        fresh = model_factory(
            task.model, num_classes=data.num_classes, input_shape=data.input_shape, directory=task.directory
        )
        opened = {run.seed: open_run(task.source, run) for run in task.runs}
        networks = {
            run.seed: _loaded(task, run, fresh(), one) for run in task.runs if (one := opened[run.seed]) is not None
        }
    siblings = next_seeds([run.seed for run in task.runs])
    measured = _measurements(task, data, fresh, networks, opened, siblings)
    rows = []
    for run in task.runs:
        network = networks.get(run.seed)
        row: dict[str, Any] = {**dict.fromkeys(MEASURED_COLUMNS, np.nan), **task.settings}
        row.update(cell=task.name, seed=run.seed, sibling_seed=siblings[run.seed], protocol=task.protocol.digest())
        row["diverged"] = int(network is None)
        row["parameter_count"] = sum(p.numel() for p in (network or fresh()).parameters())
        row[GAIN_COLUMN] = run.test_error_percent if gain_data is None else error_percent(network, gain_data)
        if run.seed in measured:
            metrics = measured[run.seed].metrics
            row.update({name: metrics[name].value for name in METRICS if name in metrics})
            if gain_data is None:
                row["test_error_percent"] = run.test_error_percent
        rows.append(row)
    return rows


def next_seeds(seeds: list[int]) -> dict[int, int | None]:
    """The sibling of every seed of a cell: the next in ascending order, of the last the first; None of a lone one."""
    if len(seeds) == 1:
        return {seeds[0]: None}
    return dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))


def open_run(source: str, run: Run) -> Checkpoint | None:
    """The checkpoint of a run; None of one that diverged.

    Raises
    ------
    InputError
        It does not open; its line in the table is named.
    """
    if run.diverged:
        return None
    try:
        return open_checkpoint(run.path)
    except InputError as error:
        if _holds_no_numbers(run.path):
            return None
        raise InputError(f"{source}, line {run.line}: {error.got}", error.expected, error.mend) from error


def _holds_no_numbers(path: Path) -> bool:
    """Whether what is wrong with a file is that its weights are NaN or infinite: its training diverged."""
    try:
        state = find_weights(read_contents(path).content, path).state
    except InputError:
        return False
    return any(not bool(torch.isfinite(value.float()).all()) for value in state.values() if value.is_floating_point())


def _loaded(task: CellTask, run: Run, model: nn.Module, opened: Checkpoint) -> nn.Module:
    try:
        return load_into(model, opened.state, run.path).eval()
    except InputError as error:
        raise InputError(f"{task.source}, line {run.line}: {error.got}", error.expected, error.mend) from error


def _measurements(
    task: CellTask,
    data: DataSet,
    fresh: Callable[[], nn.Module],
    networks: Mapping[int, nn.Module],
    opened: Mapping[int, Checkpoint | None],
    siblings: Mapping[int, int | None],
) -> dict[int, Measurement]:
    """Every network that did not diverge, with its sibling where that did not either."""
    groups: dict[float | None, dict[int, list[nn.Module]]] = {}
    for seed, network in networks.items():
        beside, one = siblings[seed], opened[seed]
        sibling = None if beside is None else networks.get(beside)
        norm = None if one is None else one.initial_norm_squared
        groups.setdefault(norm, {})[seed] = [network] if sibling is None else [network, sibling]
    measured: dict[int, Measurement] = {}
    for norm, members in groups.items():
        try:
            found = measure_many(
                list(members.values()),
                classification_data(data),
                task.protocol,
                Execution(device=task.device),
                fresh=fresh,
                initial_norm_squared=norm,
            )
        except LandscapeError as error:
            raise InputError(f"{task.source}, cell {task.name}: {error.got}", error.expected, error.mend) from error
        measured.update(zip(members, found, strict=True))
    return measured


def error_percent(network: nn.Module | None, data: DataSet) -> float:
    """Share of wrong answers on the test samples; a network that diverged answers the first class everywhere."""
    assert data.x_test is not None
    assert data.y_test is not None
    if network is None:
        return 100.0 * float((data.y_test != 0).double().mean())
    objective = Objective(network, Samples(data.x_test, data.y_test), Task(data.num_classes))
    return float(objective.loss_and_error().error_percent or 0.0)
