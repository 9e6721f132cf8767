"""The file of a table of runs: its columns, and the value of each cell, checked. No torch here.

=====================  ================================================================================================
column                 what it holds
=====================  ================================================================================================
``path``               the checkpoint, relative to the table
``seed``               a whole number; runs that differ in nothing else are the seeds of one cell
``learning_rate``,     the axes: at least one must vary. ``temperature`` is ``learning_rate / batch_size`` where it is
``batch_size``,        not given, one of the two alone where the other is not known
``temperature``,
``width``,
``train_size``
``family``,            further settings, all optional: no comparison crosses them. ``budget`` says what was held fixed
``data_set``,          ("20 epochs"); where it is not given it is made of ``steps`` or ``epochs``, whichever varies less
``architecture``,
``weight_decay``,
``label_noise``,
``optimizer``,
``schedule``,
``epochs``, ``steps``,
``budget``,
``augmentation``
``model``, ``data``    specifications, as `mdtree diagnose --model/--data` takes them
``test_error_percent`` where no test data are at hand: test error in percent (0...100)
``test_accuracy``      the same as accuracy: all shares (0...1) or all percents; a mixture is refused
``diverged``           1 for a run that diverged: it is kept, and not measured
=====================  ================================================================================================
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path

from mdtree.errors import InputError
from mdtree.specification import parse

Setting = float | str | None
Line = dict[str, str]
"""The cells of a line, by column."""

AXIS_COLUMNS = ("learning_rate", "batch_size", "temperature", "width", "train_size")
NUMBER_COLUMNS = (*AXIS_COLUMNS, "weight_decay", "label_noise", "epochs", "steps")
TEXT_COLUMNS = ("family", "data_set", "architecture", "optimizer", "schedule", "budget", "augmentation")
SPECIFICATIONS = ("model", "data")
TEST_COLUMNS = ("test_error_percent", "test_accuracy")
KNOWN_COLUMNS = ("path", "seed", *NUMBER_COLUMNS, *TEXT_COLUMNS, *SPECIFICATIONS, *TEST_COLUMNS, "diverged")
SETTING_COLUMNS = (*NUMBER_COLUMNS, *TEXT_COLUMNS, *SPECIFICATIONS)
"""What tells cells apart."""


def read_lines(file: Path) -> tuple[list[str], list[tuple[int, Line]]]:
    """The header, and number and cells of every line that is not blank."""
    expected = "a table of runs (CSV with a header: path, seed and the axes)"
    lines: list[tuple[int, Line]] = []
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise InputError(f"{file}, line {reader.line_num}: {len(cells)} cells", f"{len(header)}")
                if cells:
                    values = (cell.strip() for cell in cells)
                    lines.append((reader.line_num, dict(zip(header, values, strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is not a CSV table ({error})", expected) from error
    if not lines:
        raise InputError(f"{file} holds no runs", expected)
    return header, lines


def check_columns(file: Path, header: Sequence[str]) -> None:
    """Refuse a header that lacks what is needed, names a column twice, or one that is nearly a known one.

    Raises
    ------
    InputError
    """
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{file} holds the column {twice[0]} twice", "each column once")
    for name in header:
        near = difflib.get_close_matches(name, KNOWN_COLUMNS, n=1, cutoff=0.85)
        if name not in KNOWN_COLUMNS and near and near[0] not in header:
            raise InputError(f"{file}: unknown column {name!r}", f"perhaps {near[0]}", "rename or remove it")
    missing = [name for name in ("path", "seed") if name not in header]
    if missing:
        raise InputError(f"{file} lacks the column {' and '.join(missing)}", "path, seed and at least one axis")
    if set(TEST_COLUMNS) <= set(header):
        raise InputError(f"{file} holds {' and '.join(TEST_COLUMNS)}", "one of them")


def settings_of(where: str, line: Line) -> dict[str, Setting]:
    """The settings of a line as numbers and text; None where the table has no such column or an empty cell."""
    values: dict[str, Setting] = {}
    for name in NUMBER_COLUMNS:
        if name in AXIS_COLUMNS and line.get(name) == "":
            raise InputError(f"{where}, column {name}: an empty cell", "a value in every line")
        values[name] = number_of(where, line, name) if line.get(name) else None
    for name in TEXT_COLUMNS:
        values[name] = line.get(name) or None
    return values


def text_of(where: str, line: Line, name: str) -> str:
    """A cell that must not be empty."""
    if not line[name]:
        raise InputError(f"{where}, column {name}: an empty cell", "a value in every line")
    return line[name]


def number_of(where: str, line: Line, name: str, *, whole: bool = False) -> float:
    """A cell as a finite number: above 0 on an axis, not negative elsewhere."""
    text = text_of(where, line, name)
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    positive = name in AXIS_COLUMNS
    if not math.isfinite(value) or value < 0 or (positive and value == 0) or (whole and not value.is_integer()):
        kind = "a whole number" if whole else "a number above 0" if positive else "a number, not negative"
        raise InputError(f"{where}, column {name}: {text!r}", kind)
    if name == "label_noise" and value > 1:
        raise InputError(f"{where}, column {name}: {text}", "a share between 0 and 1")
    return value


def specification_of(where: str, line: Line, spec: str | None) -> str | None:
    """A specification with the line's values put in for ``{column}``."""
    if spec is None:
        return None

    def value(match: re.Match[str]) -> str:
        if match[1] not in line:
            raise InputError(f"{spec} asks for the column {match[1]!r}", f"one of {', '.join(line)}")
        return line[match[1]]

    filled = re.sub(r"\{(\w+)\}", value, spec)
    try:
        return str(parse(filled))
    except InputError as error:
        raise InputError(f"{where}: {error.got}", error.expected, error.mend) from error


def given_test_errors(file: Path, lines: Sequence[tuple[int, Line]]) -> list[float | None]:
    """Test errors in percent as given, None where they are not."""
    name = next((name for name in TEST_COLUMNS if name in lines[0][1]), None)
    if name is None:
        return [None] * len(lines)
    given = [number_of(f"{file}, line {number}", line, name) if line[name] else None for number, line in lines]
    for (number, _), value in zip(lines, given, strict=True):
        if value is not None and value > 100:
            raise InputError(f"{file}, line {number}, column {name}: {value:g}", "at most 100")
    if name == "test_error_percent":
        return given
    known = [value for value in given if value is not None]
    percents = [value for value in known if value > 1]
    if percents and len(percents) < len(known):
        share = next(value for value in known if value <= 1)
        raise InputError(
            f"{file}, column test_accuracy holds {share:g} and {percents[0]:g}",
            "shares (0...1) alone or percents alone",
            "write them as test_error_percent",
        )
    scale = 1.0 if percents else 100.0
    # ten digits: 100 - 100 * 0.97 is no number anybody gave
    return [None if value is None else round(100.0 - scale * value, 10) for value in given]
