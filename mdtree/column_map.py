"""Foreign metric tables as zoo tables: a small TOML file says which of their columns are ours.

.. code-block:: toml

    [columns]                                  # our column = theirs
    width = "channels"
    seed = "run"
    learning_rate = "lr"
    hessian_trace = "trace"
    connectivity_peak_percent = {column = "mode_conn", factor = -1}
    gain_test_error_percent = {column = "test_acc", factor = -100, offset = 100}
    hessian_top_eigenvalue = {column = "log_lambda", transform = "exp"}

    [constants]                                # the same in every row
    family = "ours"
    batch_size = 128

A number becomes ``factor * transform(theirs) + offset``. `temperature` is derived from learning rate and batch size,
`cell` from the settings, the sibling's seed from the seeds of the cell, an axis that is not told stands as 1. What else
is not mapped stays empty, and trees do not use it.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import listing
from mdtree.zoo import GAIN_COLUMN, MEASURED_COLUMNS, METRICS, SETTINGS, TEXT_COLUMNS, TRAINING

_TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"exp": np.exp, "exp10": lambda x: 10.0**x}
_AXES = ("width", "train_size", "temperature", "learning_rate", "batch_size")
_WHOLE = ("seed", "sibling_seed", "width", "train_size", "batch_size", "parameter_count", "steps", "diverged")
_KEYS = ("column", "factor", "offset", "transform")


@dataclass(frozen=True)
class Source:
    """Where a column of ours comes from: ``factor * transform(column) + offset``; text is taken as it is."""

    column: str
    factor: float = 1.0
    offset: float = 0.0
    transform: str | None = None


@dataclass(frozen=True)
class ColumnMap:
    """Our columns: where each comes from, and what is the same in every row."""

    columns: Mapping[str, Source]
    constants: Mapping[str, str | float]


def read_column_map(path: str | os.PathLike[str]) -> ColumnMap:
    """Read a column map.

    Raises
    ------
    InputError
        The file is missing or no TOML, a key or a column of ours is not known, a value is not of its kind, or a column
        stands twice.
    """
    file = regular_file(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML ({error})", "a column map") from error
    for name, section in document.items():
        if name not in ("columns", "constants"):
            raise InputError(f"{file}: unknown key {name!r}", "the sections [columns] and [constants]")
        if not isinstance(section, dict):
            raise InputError(f"{file}: {name} = {section!r}", f"a section [{name}]")
    columns = {name: _source(f"{file}, [columns]", name, v) for name, v in document.get("columns", {}).items()}
    constants = {name: _constant(f"{file}, [constants]", name, v) for name, v in document.get("constants", {}).items()}
    twice = sorted(set(columns) & set(constants))
    if twice:
        raise InputError(f"{file} names {twice[0]} both as a column and as a constant", "one of them")
    if GAIN_COLUMN not in columns and "test_error_percent" not in columns:
        raise InputError(
            f"{file} maps neither {GAIN_COLUMN} nor test_error_percent", "one: labels are made of test errors"
        )
    if not set(columns) & set(METRICS):
        raise InputError(f"{file} maps no metric", f"at least one of {listing(METRICS, 30)}: trees ask for them")
    return ColumnMap(columns, constants)


def _known(where: str, name: str) -> None:
    if name not in MEASURED_COLUMNS:
        raise InputError(f"{where}: unknown key {name!r}", f"a column of the zoo table: {', '.join(MEASURED_COLUMNS)}")


def _source(where: str, name: str, value: Any) -> Source:
    _known(where, name)
    if isinstance(value, str) and value:
        return Source(value)
    if not isinstance(value, dict) or not isinstance(value.get("column"), str):
        raise InputError(f"{where}: {name} = {value!r}", 'a column\'s name, or {column = "name", factor = 1}')
    for key in value:
        if key not in _KEYS:
            raise InputError(f"{where}, {name}: unknown key {key!r}", f"one of {', '.join(_KEYS)}")
    if name in TEXT_COLUMNS and len(value) > 1:
        raise InputError(f"{where}: {name} is text", "no factor, offset or transform")
    transform = value.get("transform")
    if transform is not None and transform not in _TRANSFORMS:
        raise InputError(f"{where}, {name}: transform = {transform!r}", f"one of {', '.join(_TRANSFORMS)}")
    numbers = {key: _finite(f"{where}, {name}: {key}", value[key]) for key in ("factor", "offset") if key in value}
    return Source(value["column"], numbers.get("factor", 1.0), numbers.get("offset", 0.0), transform)


def _constant(where: str, name: str, value: Any) -> str | float:
    _known(where, name)
    if name in TEXT_COLUMNS:
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} = {value!r}", "text")
        return value
    return _finite(f"{where}: {name}", value)


def _finite(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where} = {value!r}", "a finite number")
    return float(value)


def read_mapped(path: str | os.PathLike[str], mapping: ColumnMap) -> pd.DataFrame:
    """Read a foreign table as measured rows of a zoo.

    Parameters
    ----------
    path : path
        A CSV file.
    mapping : ColumnMap

    Returns
    -------
    pandas.DataFrame
        `mdtree.zoo.MEASURED_COLUMNS`, rows in the file's order.

    Raises
    ------
    InputError
        No such table, no rows, a mapped column is not there, holds text where a number belongs or an empty cell on an
        axis (the line is named), or no seed is mapped.
    """
    file = regular_file(path)
    try:
        theirs = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{file} is not a CSV table ({str(error).splitlines()[0]})", "a table of metrics") from error
    if theirs.empty:
        raise InputError(f"{file} holds no rows", "one row per network")
    missing = [s.column for s in mapping.columns.values() if s.column not in theirs.columns]
    if missing:
        raise InputError(
            f"{file} has no column {listing(sorted(set(missing)))}",
            f"the columns that the map names; it has {listing(list(theirs.columns), 12)}",
        )
    frame = pd.DataFrame(index=theirs.index)
    for name in MEASURED_COLUMNS:
        if name in mapping.columns:
            frame[name] = _mapped(file, theirs, name, mapping.columns[name])
        else:
            frame[name] = mapping.constants.get(name, None if name in TEXT_COLUMNS else np.nan)
    return _derived(file, frame, mapping)


def _mapped(file: Path, theirs: pd.DataFrame, name: str, source: Source) -> pd.Series:
    text = theirs[source.column].str.strip()
    if name in TEXT_COLUMNS:
        return text.where(text != "", None)
    numbers = pd.to_numeric(text.where(text != ""), errors="coerce")
    bad = (numbers.isna() & (text != "")) | np.isinf(numbers)
    if name in (*_AXES, "seed"):
        bad |= numbers.isna() | ((numbers <= 0) & (name != "seed"))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        kind = "a number above 0" if name in _AXES else "a number" if name == "seed" else "a number or an empty cell"
        raise InputError(f"{file}, line {row + 2}, column {source.column}: {text.iloc[row]!r}", kind)
    values = numbers.to_numpy(dtype=float)
    if source.transform is not None:
        values = _TRANSFORMS[source.transform](values)
    # 0 is added so that a negated 0 does not stand as -0
    return pd.Series(source.factor * values + source.offset + 0.0, index=theirs.index)


def _derived(file: Path, frame: pd.DataFrame, mapping: ColumnMap) -> pd.DataFrame:
    """Fill what follows from other columns."""
    told = {*mapping.columns, *mapping.constants}
    if "seed" not in told:
        raise InputError(f"no seed is mapped for {file}", "the column that tells runs of one configuration apart")
    frame["family"] = frame["family"].fillna(file.stem)
    frame["data_set"] = frame["data_set"].fillna("unknown")
    frame["protocol"] = frame["protocol"].fillna("foreign")
    frame["split"] = frame["split"].fillna("fit")
    frame["diverged"] = frame["diverged"].fillna(0)
    for name in ("width", "train_size"):
        frame[name] = frame[name].fillna(1)
    rates, batches = frame["learning_rate"].nunique(), frame["batch_size"].nunique()
    if "temperature" not in told:
        frame["temperature"] = frame["learning_rate"].fillna(1.0) / frame["batch_size"].fillna(1.0)
    if "temperature_axis" not in told:
        frame["temperature_axis"] = (
            "batch_size" if batches > 1 >= rates else "learning_rate" if rates else "temperature"
        )
    if "cell" not in told:
        names = [n for n in (*SETTINGS, *TRAINING) if n not in ("parameter_count", "temperature_axis", "protocol")]
        varying = [n for n in names if frame[n].nunique(dropna=False) > 1 and n not in ("epochs", "trained")]
        parts = [[f"{n}={value:.12g}" if isinstance(value, float) else f"{n}={value}" for value in frame[n]]
                 for n in varying]  # fmt: skip
        frame["cell"] = [" ".join(words) for words in zip(*parts, strict=True)] if parts else "all"
    if GAIN_COLUMN not in told:
        frame[GAIN_COLUMN] = frame["test_error_percent"]
    if "sibling_seed" not in told:
        frame["sibling_seed"] = _siblings(frame)
    twice = frame.duplicated(["family", "cell", "seed"])
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        seed, cell = frame["seed"].iloc[row], frame["cell"].iloc[row]
        raise InputError(
            f"{file}, line {row + 2}: seed {seed:g} of cell {cell!r} stands twice",
            "one row per network",
            "map the column that tells them apart",
        )
    for name in _WHOLE:
        if frame[name].notna().all() and (frame[name] % 1 == 0).all():
            frame[name] = frame[name].astype("int64")
    return frame[list(MEASURED_COLUMNS)]


def _siblings(frame: pd.DataFrame) -> pd.Series:
    """The next seed of the cell, of the last the first; none of a lone one."""
    siblings = pd.Series(np.nan, index=frame.index)
    for _, rows in frame.groupby(["family", "cell"], sort=False):
        ordered = rows["seed"].sort_values()
        if len(ordered) > 1:
            siblings[ordered.index] = np.roll(ordered.to_numpy(), -1)
    return siblings
