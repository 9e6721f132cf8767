"""A table of training runs that exist: one line per checkpoint, grouped into the cells of a grid. No torch here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.runs_file import (
    KNOWN_COLUMNS,
    NUMBER_COLUMNS,
    SETTING_COLUMNS,
    SPECIFICATIONS,
    TEXT_COLUMNS,
    Setting,
    check_columns,
    given_test_errors,
    number_of,
    read_lines,
    settings_of,
    specification_of,
    text_of,
)
from mdtree.specification import listing, parse

SIZES = ("temperature", "width", "train_size")
"""The axes of a grid."""


@dataclass(frozen=True)
class Run:
    """One checkpoint.

    Attributes
    ----------
    line : int
        Of the table, for messages.
    path : Path
    seed : int
    test_error_percent : float or None
        As given in the table.
    diverged : bool
    """

    line: int
    path: Path
    seed: int
    test_error_percent: float | None
    diverged: bool


@dataclass(frozen=True)
class RunCell:
    """The runs that differ in nothing but the seed, in ascending order of it.

    Attributes
    ----------
    name : str
        What tells it from the others: ``width=8 learning_rate=0.1``.
    settings : mapping of column to number, text or None
        `NUMBER_COLUMNS`, `TEXT_COLUMNS` and ``temperature_axis``; None where the table does not tell.
    model, data : str or None
        Specifications; None where the checkpoints' own count.
    runs : tuple of Run
    """

    name: str
    settings: Mapping[str, Setting]
    model: str | None
    data: str | None
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class RunsTable:
    """A table of runs, read and checked.

    Attributes
    ----------
    source : Path
    cells : tuple of RunCell
        In the order in which they first occur.
    unused : tuple of str
        Columns that mean nothing here.
    """

    source: Path
    cells: tuple[RunCell, ...]
    unused: tuple[str, ...]


def read_runs(path: str | os.PathLike[str], *, model: str | None = None, data: str | None = None) -> RunsTable:
    """Read a table of runs and group it into cells.

    Parameters
    ----------
    path : path
        A CSV file with the columns of `mdtree.runs_file`.
    model, data : str, optional
        For lines that do not name their own. ``{column}`` stands for the line's value of a column:
        ``mlp?width={width}``.

    Returns
    -------
    RunsTable

    Raises
    ------
    InputError
        No such table, a column is missing, a value is not of its kind, no axis varies, checkpoints are missing (five
        are named, all counted) or named twice, a cell holds a seed twice, or two cells differ in nothing that a grid
        knows.
    """
    file = regular_file(path)
    header, lines = read_lines(file)
    check_columns(file, header)
    runs: dict[tuple[tuple[str, Setting], ...], list[Run]] = {}
    for (number, line), test_error in zip(lines, given_test_errors(file, lines), strict=True):
        where = f"{file}, line {number}"
        values = settings_of(where, line)
        for name, option in zip(SPECIFICATIONS, (model, data), strict=True):
            values[name] = specification_of(where, line, line.get(name) or option)
        run = Run(
            line=number,
            path=file.parent / text_of(where, line, "path"),
            seed=int(number_of(where, line, "seed", whole=True)),
            test_error_percent=test_error,
            diverged=line.get("diverged", "") not in ("", "0"),
        )
        runs.setdefault(tuple(values.items()), []).append(run)
    _check_files(file, [run for members in runs.values() for run in members])
    told = [dict(key) for key in runs]
    cells = [
        RunCell(name, settings, _as_text(values["model"]), _as_text(values["data"]), _in_order(file, name, members))
        for name, settings, values, members in zip(
            _names(told), _completed(told, file.stem), told, runs.values(), strict=True
        )
    ]
    _check_axes(file, cells)
    return RunsTable(file, tuple(cells), tuple(name for name in header if name not in KNOWN_COLUMNS))


def _check_axes(file: Path, cells: Sequence[RunCell]) -> None:
    # a size that is not known yet may follow from a specification
    varying = {(cell.model, cell.data, *(cell.settings[name] for name in SIZES)) for cell in cells}
    if len(varying) < 2:
        known = [
            f"{name} is {_shown(cells[0].settings[name])}" for name in SIZES if cells[0].settings[name] is not None
        ]
        raise InputError(
            f"{file}: no axis varies ({', '.join(known)})",
            "several values of learning_rate, batch_size, temperature, width or train_size",
        )


def _check_files(file: Path, runs: Sequence[Run]) -> None:
    missing = [str(run.path) for run in runs if not run.path.exists()]
    if missing:
        raise InputError(
            f"{file}: {len(missing)} of {len(runs)} checkpoints are missing: {listing(missing)}",
            f"paths relative to {file.parent}",
        )
    first: dict[Path, int] = {}
    for run in runs:
        try:
            regular_file(run.path)
        except InputError as error:
            raise InputError(f"{file}, line {run.line}: {error.got}", error.expected, error.mend) from error
        line = first.setdefault(run.path.resolve(), run.line)
        if line != run.line:
            raise InputError(f"{file}, lines {line} and {run.line} name the same file {run.path}", "one line each")


def _in_order(file: Path, cell: str, runs: Sequence[Run]) -> tuple[Run, ...]:
    ordered = sorted(runs, key=lambda run: (run.seed, run.line))
    for one, other in itertools.pairwise(ordered):
        if one.seed == other.seed:
            raise InputError(
                f"{file}, lines {one.line} and {other.line} are both seed {one.seed} of the cell {cell}",
                "each seed once",
                "give what they differ in a column of its own",
            )
    return tuple(ordered)


def _names(cells: Sequence[Mapping[str, Setting]]) -> list[str]:
    """What varies in the table, with its value: different for any two cells."""
    varying = [name for name in SETTING_COLUMNS if len({values[name] for values in cells}) > 1]
    names: list[str] = []
    # specifications mostly repeat what the axes say already
    for columns in ([name for name in varying if name not in SPECIFICATIONS], varying):
        names = [" ".join(f"{name}={_shown(values[name])}" for name in columns) for values in cells]
        if len(set(names)) == len(cells):
            break
    return names


def _shown(value: Setting) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _as_text(value: Setting) -> str | None:
    return None if value is None else str(value)


def _completed(cells: Sequence[Mapping[str, Setting]], family: str) -> Iterator[dict[str, Setting]]:
    """Settings with temperature, its axis, the budget, and the sizes that specifications tell."""
    several = {name for name in NUMBER_COLUMNS if len({values[name] for values in cells}) > 1}
    axis = "batch_size" if "batch_size" in several and "learning_rate" not in several else "learning_rate"
    length = _fewest(cells, ("steps", "epochs"))
    for values in cells:
        settings = {name: values[name] for name in (*NUMBER_COLUMNS, *TEXT_COLUMNS)}
        settings["family"] = settings["family"] or family
        rate, batch = values["learning_rate"], values["batch_size"]
        settings["temperature_axis"] = axis
        if rate is None and batch is None:
            settings["temperature_axis"] = "none" if values["temperature"] is None else "temperature"
        if values["temperature"] is None:
            # what is not known counts as 1: it is the same in every cell, or the column would be there
            settings["temperature"] = float(rate or 1.0) / float(batch or 1.0)
        if settings["budget"] is None and length is not None and values[length] is not None:
            settings["budget"] = f"{_shown(values[length])} {length}"
        for name, spec, option in (("width", "model", "width"), ("train_size", "data", "train")):
            if settings[name] is None and values[spec] is not None:
                settings[name] = _option(str(values[spec]), option)
        yield settings


def _fewest(cells: Sequence[Mapping[str, Setting]], names: Sequence[str]) -> str | None:
    known = [name for name in names if any(values[name] is not None for values in cells)]
    return min(known, key=lambda name: len({values[name] for values in cells}), default=None)


def _option(spec: str, key: str) -> float | None:
    """A whole number among the options of a specification."""
    text = parse(spec).options.get(key, "")
    return float(text) if text.isdecimal() and int(text) > 0 else None
