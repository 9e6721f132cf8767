"""Class labels out of a column of a table: numbers as they are, names by their order or by that of a network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdtree.datasets.data_files import data_path
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import listing, shown

_MOST_BYTES = 16 * 2**20
"""Of a file that names classes."""

_MOST_NAMES = 10_000


@dataclass(frozen=True, eq=False)
class ColumnLabels:
    """Labels of every row, how many classes there are if that is known, and what to say about them."""

    values: NDArray[np.int64]
    num_classes: int | None
    notes: tuple[str, ...]


def column_labels(values: Sequence[Any], where: str, names: Sequence[str] | None = None) -> ColumnLabels:
    """Labels of a column.

    Whole numbers, written as text or not, stay as they are. Anything else is a name: numbered as in `names`, or else by
    the sorted order of the names there are.

    Parameters
    ----------
    values : sequence
        Of int, str, bool, float or None.
    where : str
        "the column label of reviews.csv".
    names : sequence of str, optional
        The classes in the order of the network's outputs.

    Raises
    ------
    InputError
        If a label is missing, is a fraction, or is none of `names`; or if numbers and names are mixed.
    """
    missing = [row for row, value in enumerate(values) if value is None or value != value or str(value).strip() == ""]
    if missing:
        raise InputError(f"{where} has no label in {rows_of(missing)}", "one in every row", "drop these rows")
    numbers = [_whole(value) for value in values]
    counted = sum(number is not None for number in numbers)
    if counted == len(values) and not _are_names(values, names):
        count = None if names is None else len(names)
        return ColumnLabels(np.array(numbers, dtype=np.int64), count, _starts_late(numbers, where))
    texts = [str(value) for value in values]
    if names is None and counted:
        row = numbers.index(None)
        raise InputError(
            f"{where} holds numbers, and {shown(repr(texts[row]))} in row {row + 1}",
            "integer class labels, or names alone",
        )
    if names is None and all(_is_number(text) for text in texts):
        raise InputError(
            f"{where} holds numbers such as {shown(texts[0])}: only classification is diagnosed, not regression",
            "integer class labels",
        )
    return _by_name(texts, where, names)


def _by_name(texts: Sequence[str], where: str, names: Sequence[str] | None) -> ColumnLabels:
    found = sorted(set(texts))
    if len(found) > _MOST_NAMES:
        raise InputError(f"{where} holds {len(found)} different values", "class labels", "name the right column")
    order = found if names is None else list(names)
    strangers = sorted(set(found) - set(order))
    if strangers:
        raise InputError(f"{where} holds {listing(strangers)}", f"the classes given: {listing(order, 10)}")
    number_of = {name: number for number, name in enumerate(order)}
    how = "in the order of their names" if names is None else "in the order given"
    note = f"the classes are numbered {how}: {listing([f'{n} {name}' for n, name in enumerate(order)], 10)}"
    return ColumnLabels(np.array([number_of[text] for text in texts], dtype=np.int64), len(order), (note,))


def class_names(text: str, directory: Path) -> list[str]:
    """The classes in the order of a network's outputs: ``id2label`` or ``label2id`` of a ``config.json``.

    `text` names the file or its folder; the file may also be a JSON list of the names.

    Raises
    ------
    InputError
        If it does not say that.
    """
    path = data_path(text, directory)
    file = regular_file(path / "config.json" if path.is_dir() else path)
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON file of class names", "id2label, as in a config.json") from error
    order = _ordered(held)
    if order is None or len(set(order)) < len(order) or len(order) < 2:
        raise InputError(f"{file} does not name the classes 0, 1, 2, ...", "id2label, as in a config.json")
    return order


def _ordered(held: Any) -> list[str] | None:
    if isinstance(held, dict) and isinstance(held.get("label2id"), dict) and "id2label" not in held:
        held = {"id2label": {str(number): name for name, number in held["label2id"].items()}}
    if isinstance(held, dict):
        named = held.get("id2label")
        held = None
        if isinstance(named, Mapping) and {str(key) for key in named} == {str(n) for n in range(len(named))}:
            held = [named[str(number)] for number in range(len(named))]
    if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
        return None
    return held


def rows_of(rows: Sequence[int]) -> str:
    """``row 3``, or ``5 rows (first: 3)``; counted from 1, the header not among them."""
    return f"row {rows[0] + 1}" if len(rows) == 1 else f"{len(rows)} rows (first: {rows[0] + 1})"


def _whole(value: Any) -> int | None:
    """A whole number, also as text or as a float without a fraction."""
    if isinstance(value, bool | int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating):
        return int(value) if float(value).is_integer() else None
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}(\.0*)?", text, re.ASCII) and "." not in text else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_names(values: Sequence[Any], names: Sequence[str] | None) -> bool:
    """Whether numbers are written as names that were given: classes "5" and "7", say."""
    return names is not None and {str(value) for value in values} <= set(names)


def _starts_late(numbers: Sequence[int | None], where: str) -> tuple[str, ...]:
    least = min(number for number in numbers if number is not None)
    return (f"the labels in {where} start at {least}: class 0 has no sample",) if least > 0 else ()
