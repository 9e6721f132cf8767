"""What is left out of several zoos taken together, and what the rest is then fitted on.

Left out is a data set with all its families, a family, or an architecture: nothing of it was seen. Or, inside one
family, all that is larger than what was fitted on: scale.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.zoo import COLUMNS, TEXT_COLUMNS, read_zoo

GROUPS = ("data_set", "family", "architecture")
"""Columns a part may be told by. A data set and an architecture are compared by the name before the `?`: digits at
eight and at sixteen pixels are one data set."""

LEAVE_OUT = (*GROUPS, "scale")
SCALES = ("width", "train_size", "cells")

SMALLEST_WIDTHS = 2
DRAWN_CELLS = 50


@dataclass(frozen=True)
class Part:
    """Rows to fit on and rows to ask about.

    Attributes
    ----------
    name : str
        What is left out.
    transfer : str
        Of which kind: one of `GROUPS` or `SCALES`.
    fitted, asked : ndarray of bool, shape (rows,)
    """

    name: str
    transfer: str
    fitted: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class NoPart:
    """A part that the tables do not have, and why."""

    name: str
    reason: str


def read_zoos(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Several labelled zoos as one table.

    Parameters
    ----------
    paths : sequence of path

    Returns
    -------
    pandas.DataFrame
        The columns of `mdtree.zoo.COLUMNS`, the rows of the tables in the order given.

    Raises
    ------
    InputError
        A table cannot be read (`mdtree.zoo.read_zoo`), networks were measured by different protocols, or a cell stands
        in two tables. Tables of means over seeds are measured elsewhere and may be of a protocol of their own: they
        join with the metrics they have.
    """
    if not paths:
        raise InputError("no zoo tables", "one or more")
    tables = {str(path): read_zoo(path) for path in paths}
    if len(tables) < len(paths):
        raise InputError("a zoo table is named twice", "each table once")
    _refuse_other_protocols(tables)
    _refuse_shared_cells(tables)
    columns = {}
    for name in COLUMNS:
        kind = object if name in TEXT_COLUMNS else float
        columns[name] = np.concatenate([table[name].to_numpy(dtype=kind) for table in tables.values()])
    return pd.DataFrame(columns)


def _refuse_other_protocols(tables: dict[str, pd.DataFrame]) -> None:
    first: dict[str, str] = {}
    for path, table in tables.items():
        for protocol in table.loc[table["seed"].notna(), "protocol"].fillna("(none)").unique():
            first.setdefault(str(protocol), path)
    if len(first) > 1:
        (protocol, path), (other, other_path) = itertools.islice(first.items(), 2)
        raise InputError(
            f"{other_path} is measured by protocol {other}, {path} by {protocol}",
            "networks measured by one protocol",
            "measure them again by the same one, or leave the table out",
        )


def _refuse_shared_cells(tables: dict[str, pd.DataFrame]) -> None:
    home: dict[tuple[str, str], str] = {}
    for path, table in tables.items():
        for family, cell in table[["family", "cell"]].drop_duplicates().itertuples(index=False):
            if (family, cell) in home:
                raise InputError(
                    f"cell {cell} of family {family} stands in {home[family, cell]} and in {path}",
                    "every cell in one table",
                    "give other networks another family name",
                )
            home[family, cell] = path


def parts_of(frame: pd.DataFrame, leave_out: str, seed: int = 0) -> tuple[tuple[Part, ...], tuple[NoPart, ...]]:
    """All parts that are left out in turn, and those that the tables do not have.

    Parameters
    ----------
    frame : pandas.DataFrame
        What `read_zoos` gives.
    leave_out : {"data_set", "family", "architecture", "scale"}
        `scale` leaves out, in each family by itself, all widths but the smallest two, all amounts of data but the
        smallest, and all cells but fifty.
    seed : int
        Draws the fifty cells.

    Raises
    ------
    InputError
        The word is unknown, or nothing remains to fit on.
    """
    if leave_out not in LEAVE_OUT:
        raise InputError(f"leave out {leave_out!r}", f"one of {', '.join(LEAVE_OUT)}")
    if leave_out in GROUPS:
        return _groups(frame, leave_out), ()
    found = list(_scales(frame, seed))
    parts = tuple(part for part in found if isinstance(part, Part))
    missing = tuple(part for part in found if isinstance(part, NoPart))
    if not parts:
        raise InputError("; ".join(f"{part.name}: {part.reason}" for part in missing), "a family with several scales")
    return parts, missing


def group_names(column: pd.Series) -> np.ndarray:
    """The name before the `?` of every specification, empty where there is none."""
    return np.array([str(value).partition("?")[0] for value in column.fillna("")])


def _groups(frame: pd.DataFrame, leave_out: str) -> tuple[Part, ...]:
    names = frame["family"].to_numpy(dtype=str) if leave_out == "family" else group_names(frame[leave_out])
    words = leave_out.replace("_", " ")
    if not all(names):
        family = frame.loc[names == "", "family"].iloc[0]
        raise InputError(f"rows of family {family} name no {words}", f"a {words} in every row")
    # in the order of the tables
    distinct = list(dict.fromkeys(names.tolist()))
    if len(distinct) < 2:
        raise InputError(f"the tables hold one {words}, {distinct[0]}: nothing to fit on without it", "two or more")
    return tuple(Part(name, leave_out, names != name, names == name) for name in distinct)


def _scales(frame: pd.DataFrame, seed: int) -> Iterator[Part | NoPart]:
    for family in dict.fromkeys(frame["family"].tolist()):
        own = (frame["family"] == family).to_numpy()
        for column, least, words in (
            ("width", SMALLEST_WIDTHS, "width > {:g}"),
            ("train_size", 1, "data > {:g}"),
        ):
            values = frame[column].to_numpy(dtype=float)
            distinct = np.unique(values[own])
            if distinct.size <= least:
                only = ", ".join(f"{value:g}" for value in distinct)
                yield NoPart(
                    f"{family}: {words.partition(' ')[0]}", f"its networks are all of {column.replace('_', ' ')} {only}"
                )
                continue
            last = distinct[least - 1]
            larger = own & (values > last)
            yield Part(f"{family}: {words.format(last)}", column, own & ~larger, larger)
        cells = frame["cell"].to_numpy(dtype=str)
        distinct = np.unique(cells[own])
        if distinct.size <= DRAWN_CELLS:
            yield NoPart(f"{family}: cells > {DRAWN_CELLS}", f"it has only {distinct.size}")
            continue
        drawn = np.random.default_rng(seed).permutation(distinct)[:DRAWN_CELLS]
        inside = own & np.isin(cells, drawn)
        yield Part(f"{family}: cells > {DRAWN_CELLS}", "cells", inside, own & ~inside)
