"""Data sets of texts in tables: ``text:FILE.csv?text=body&label=y&tokenizer=DIR&max_length=128``.

The file is ``.csv``, ``.tsv``, ``.jsonl`` or ``.json`` (one object a line, or a list of them), or ``.parquet``. The
inputs have names, as transformers' networks take them: ``input_ids``, ``attention_mask`` and what else the tokenizer
gives (`mdtree.datasets.tokenized_text`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdtree.datasets.data_files import FIXED_SEED, data_path
from mdtree.datasets.data_set import WHOLE_TEST, DataSet
from mdtree.datasets.label_columns import class_names, column_labels, rows_of
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Stored, choice_of, choose
from mdtree.datasets.tokenized_text import TOKEN_KINDS, text_encoder
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import Kind, Specification, listing, shown

Table = dict[str, list[Any]]

_KINDS: Mapping[str, Kind] = {
    **CHOICE_KINDS,
    **TOKEN_KINDS,
    "text": str,
    "label": str,
    "labels": str,
    "classes": int,
    "test_file": str,
    "held_out": float,
}

_FORM = "text:FILE.csv?text=COLUMN&label=COLUMN&tokenizer=DIR"


def load_text(spec: Specification, directory: Path) -> DataSet:
    """``text:FILE.csv?text=body&label=y&tokenizer=DIR``: int64 inputs by name, each of shape (n, tokens).

    `text` and `label` are the columns of these names by default; ``text=a,b`` reads pairs of texts. Labels that are
    whole numbers stay; names are numbered in their sorted order, or as the ``id2label`` of the ``config.json`` in
    ``labels=DIR`` has them. All rows are training data, and ``test_file=FILE`` holds the test set; ``held_out=0.2``
    instead takes so large a part of the rows for it, drawn by `FIXED_SEED`: right only if those were not trained on.
    The test set is whole by default.

    Raises
    ------
    InputError
        If a file, a column, a label, a text, the tokenizer or an option cannot be used.
    ResourceError
        If the tokens of the chosen rows would not fit in memory.
    """
    if not spec.target:
        raise InputError("text names no file", _FORM)
    options = spec.read(_KINDS, {**CHOICE_DEFAULTS, "test": WHOLE_TEST, "text": "text", "label": "label"})
    choice = choice_of("text", options)
    if options["test_file"] is not None and options["held_out"] is not None:
        raise InputError("test_file and held_out of text", "one of them")
    names = [spec.target] + ([] if options["test_file"] is None else [str(options["test_file"])])
    files = [regular_file(data_path(name, directory)) for name in names]
    texts, labels, first = _rows(files, str(options["text"]), str(options["label"]))
    given = None if options["labels"] is None else class_names(str(options["labels"]), directory)
    found = column_labels(labels, f"the column {shown(str(options['label']))} of {shown(files[0].name)}", given)
    pool, test, notes = train_and_test(first, len(texts), options["held_out"])
    encoder = text_encoder("text", options, texts, directory)
    classes: Any = found.num_classes if options["classes"] is None else options["classes"]
    stored = Stored(
        pool,
        found.values[pool],
        test,
        None if test is None else found.values[test],
        files[0].stem,
        classes,
        encoder.decode,
        notes=(*found.notes, *notes),
    )
    return encoder.finished(choose(stored, choice, spec))


def _rows(files: Sequence[Path], text: str, label: str) -> tuple[list[tuple[str, ...]], list[Any], int]:
    """Texts and labels of all files, one after the other, and how many rows the first has."""
    tables = [read_table(file) for file in files]
    columns = _text_columns(text, tables[0], files[0])
    texts: list[tuple[str, ...]] = []
    labels: list[Any] = []
    for file, table in zip(files, tables, strict=True):
        texts += texts_of(table, columns, file.name)
        labels += column_of(table, label, file.name)
    return texts, labels, len(next(iter(tables[0].values())))


def train_and_test(
    first: int, rows: int, held_out: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, tuple[str, ...]]:
    """Row numbers of the pool and of the test set, of which the first file has `first`; and what to say about them."""
    if held_out is not None and not 0 < held_out < 1:
        raise InputError(f"held_out={held_out:g}", "a share between 0 and 1, for instance held_out=0.2")
    generator = np.random.default_rng(FIXED_SEED)
    if rows > first:  # in an order of its own, so that its halves hold all classes
        return np.arange(first), first + generator.permutation(rows - first), ()
    if held_out is None or not int(rows * held_out):
        return np.arange(rows), None, ("all rows are training data: there is no test set",)
    order = generator.permutation(rows)
    cut = rows - int(rows * held_out)
    note = f"{rows - cut} rows drawn by a fixed seed are the test set: right if they were not trained on"
    return order[:cut], order[cut:], (note,)


def read_table(file: Path) -> Table:
    """The columns of a table by name; of ``.csv`` and ``.tsv`` every value is text.

    Raises
    ------
    InputError
        If the file is of another kind, damaged, or holds no row.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file.name} is no table that is read", f"one of {', '.join(_READERS)}", "convert it")
    table = reader(file)
    if not table or not len(next(iter(table.values()))):
        raise InputError(f"{file.name} holds no row", "one text and its label a row")
    return table


def _separated(file: Path) -> Table:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator, strict=True)
            names = next(reader, [])
            for row in reader:
                if row and len(row) != len(names):
                    raise ValueError(f"line {reader.line_num} has {len(row)} fields, the first line {len(names)}")
                rows += [row] if row else []
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(
            f"{file.name} cannot be read as a table ({shown(' '.join(str(error).split()))})",
            "UTF-8 text, a line of column names first, fields with a separator or line break in double quotes",
        ) from error
    if len(set(names)) < len(names):
        raise InputError(f"two columns of {file.name} have one name", "different names in its first line")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _json(file: Path) -> Table:
    """One object a line; or, in a ``.json`` file, a list of objects."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith("[") else _json_lines(text)
        wrong = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
        if wrong is not None:
            raise ValueError(f"row {wrong} is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file.name} cannot be read as JSON ({shown(' '.join(str(error).split()))})", "one object a line"
        ) from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _json_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def _parquet(file: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{file.name} needs the package pyarrow", "", "pip install 'mdtree-diagnosis[images]'"
        ) from error
    try:
        table = parquet.ParquetFile(file).read()
        return {str(name): table[name].to_pylist() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{file.name} cannot be read as parquet", "a whole parquet file", "copy it again") from error


_READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".jsonl": _json,
    ".json": _json,
    ".parquet": _parquet,
}


def column_of(table: Table, name: str, where: str) -> list[Any]:
    """One column.

    Raises
    ------
    InputError
        If it is not there; those that are get listed.
    """
    if name not in table:
        raise InputError(f"{shown(where)} has no column {shown(repr(name))}", f"one of {listing(list(table), 12)}")
    return table[name]


def texts_of(table: Table, columns: Sequence[str], where: str) -> list[tuple[str, ...]]:
    """One text, or a pair, of every row.

    Raises
    ------
    InputError
        If a column is missing, or a row has no text.
    """
    found = []
    for name in columns:
        values = column_of(table, name, where)
        wrong = [row for row, value in enumerate(values) if not isinstance(value, str) or not value.strip()]
        if wrong:
            raise InputError(
                f"the column {shown(name)} of {shown(where)} has no text in {rows_of(wrong)}",
                "a text in every row",
                "drop these rows",
            )
        found.append(values)
    return list(zip(*found, strict=True))


def _text_columns(text: str, table: Table, file: Path) -> list[str]:
    """``body``, or ``premise,hypothesis``; a column whose own name holds a comma is one."""
    names = [text] if text in table else text.split(",")
    if len(names) > 2:
        raise InputError(f"text={text} of {file.name}", "one column, or two: text=premise,hypothesis")
    return names
