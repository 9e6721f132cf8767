"""What is to be measured of a table of runs: each cell with its network, its data and all columns its rows share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landscape import Protocol
from mdtree.data import BUILT_IN_DATA
from mdtree.errors import InputError
from mdtree.models import ARCHITECTURES
from mdtree.run_cell import CellTask, open_run, test_halves
from mdtree.runs import RunCell, RunsTable
from mdtree.runs_file import Setting
from mdtree.specification import parse
from mdtree.supported_questions import refuse_shared_places


@dataclass(frozen=True)
class RunOptions:
    """How runs are measured.

    Attributes
    ----------
    protocol : Protocol
    device : str
        `cpu` or `cuda`.
    trust : bool
        Whether functions that the checkpoints themselves name may be called; those that the table or an option names
        are.
    directory : Path, optional
        Where modules and files named in specifications are looked up; the current directory by default.
    held_out_share : float
        Of the cells, drawn by `held_out_seed`, on which no diagnoser is to be fitted.
    held_out_seed : int
    """

    protocol: Protocol = field(default_factory=Protocol)
    device: str = "cpu"
    trust: bool = False
    directory: Path | None = None
    held_out_share: float = 0.0
    held_out_seed: int = 0


def plan_cells(runs: RunsTable, options: RunOptions = RunOptions()) -> list[CellTask]:
    """What is to be measured: every cell with its network, its data and all columns its rows share.

    All data are loaded on the way, so what is wrong with them is said before anything is measured.

    Raises
    ------
    InputError
        As in `measure_runs`, as far as it can be told without opening every checkpoint.
    """
    directory = options.directory or Path.cwd()
    data_of: dict[str, dict[str, Any]] = {}
    tasks = []
    for cell in runs.cells:
        model, data = _specifications(runs, cell, options.trust)
        if data not in data_of:
            loaded, gain = test_halves(data, directory)
            data_of[data] = {"data_set": loaded.name, "train_size": len(loaded.y_train), "tested": gain is not None}
        known = data_of[data]
        for run in cell.runs:
            if not known["tested"] and run.test_error_percent is None:
                raise InputError(
                    f"{runs.source}, line {run.line}: no test error, and {data} has no test data",
                    "one of the two: rooms for improvement are gains of test accuracy",
                    "add a column test_error_percent or test_accuracy",
                )
        settings = {**cell.settings, "split": "fit", "trained": None}
        settings["data_set"] = settings["data_set"] or known["data_set"]
        settings["train_size"] = settings["train_size"] or float(known["train_size"])
        settings["architecture"] = settings["architecture"] or _network_name(model)
        tasks.append(
            CellTask(
                source=str(runs.source),
                name=cell.name,
                settings=settings,
                model=model,
                data=data,
                runs=cell.runs,
                directory=directory,
                protocol=options.protocol,
                device=options.device,
            )
        )
    tasks = _with_widths(runs, tasks)
    held = _held_out([task.name for task in tasks], options)
    tasks = [replace(t, settings=_plain({**t.settings, "split": held.get(t.name, "fit")})) for t in tasks]
    refuse_shared_places(pd.DataFrame([{**task.settings, "cell": task.name} for task in tasks]))
    return tasks


def _specifications(runs: RunsTable, cell: RunCell, trust: bool) -> tuple[str, str]:
    """The cell's network and data: from the table or an option, else what its first checkpoint says of itself."""
    if cell.model is not None and cell.data is not None:
        return cell.model, cell.data
    found: dict[str, str | None] = {"model": cell.model, "data": cell.data}
    line, said = cell.runs[0].line, None
    for run in cell.runs:
        said = open_run(str(runs.source), run)
        if said is not None:
            line = run.line
            break
    own = {} if said is None else {"model": said.model_spec, "data": said.data_spec}
    for name, built_in in (("model", tuple(ARCHITECTURES)), ("data", BUILT_IN_DATA)):
        if found[name] is not None:
            continue
        spec = own.get(name)
        if spec is None:
            raise InputError(
                f"{runs.source}, line {line}: neither the table nor the checkpoint names its {name}",
                "",
                f"give --{name} SPEC ({{column}} stands for a column's value) or a column {name}",
            )
        if not trust and parse(spec).name not in built_in:
            raise InputError(
                f"{runs.source}, line {line}: the checkpoint names the function {spec} as its {name}; nothing that a "
                "checkpoint names is called unasked",
                "",
                f"if the files are yours add --trust, or give it as --{name}",
            )
        found[name] = spec
    return str(found["model"]), str(found["data"])


def _network_name(spec: str) -> str:
    parsed = parse(spec)
    return f"{parsed.name}:{parsed.target}" if parsed.target else parsed.name


def _with_widths(runs: RunsTable, tasks: Sequence[CellTask]) -> list[CellTask]:
    """A width for every cell: where the table tells none, and there is one network for all, 1 stands for it."""
    unknown = [task for task in tasks if task.settings["width"] is None]
    if unknown and len({task.model for task in tasks}) > 1:
        raise InputError(
            f"{runs.source} names several networks and does not say how wide they are ({unknown[0].model})",
            "a column width",
        )
    return [replace(t, settings={**t.settings, "width": t.settings["width"] or 1.0}) for t in tasks]


def _held_out(names: Sequence[str], options: RunOptions) -> dict[str, str]:
    if not 0 <= options.held_out_share < 1:
        raise InputError(f"a share of {options.held_out_share:g} of the cells held out", "at least 0 and below 1")
    order = np.random.default_rng(options.held_out_seed).permutation(len(names))
    return {names[i]: "held_out" for i in order[: round(options.held_out_share * len(names))]}


def _plain(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Whole numbers as such: 60,000 images are written 60000 and not 6e+04."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
        for name, value in settings.items()
    }
