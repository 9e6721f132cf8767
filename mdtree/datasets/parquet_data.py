"""Data sets in Apache Parquet files: images with labels, tables of numbers with labels, CIFAR-10.

Images stand in a column of PNG or JPEG bytes, or of the structs {bytes, path} that Hugging Face's `datasets` writes.
Only the images that are chosen are decoded, and one row group of a file is held at a time. Needs the extra ``images``
(pyarrow, Pillow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdtree.datasets.data_files import data_folder, data_path, held_out_split
from mdtree.datasets.data_set import DataSet
from mdtree.datasets.stored_images import ImageFormat, InputScale, decode_image, decode_images
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Stored, choice_of, choose
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import Kind, Specification, listing

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.parquet import ParquetFile

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STANDARD_DEVIATION = (0.2470, 0.2435, 0.2616)
"""Per channel (red, green, blue), of pixels scaled to [0, 1], over CIFAR-10's 50,000 training images."""

_KINDS: Mapping[str, Kind] = {
    **CHOICE_KINDS,
    "image": str,
    "label": str,
    "features": str,
    "test_file": str,
    "classes": int,
    "size": int,
    "channels": ("1", "3"),
    "mean": str,
    "std": str,
}


def load_parquet(spec: Specification, directory: Path) -> DataSet:
    """``parquet:FILE?image=COLUMN&label=COLUMN``, or ``parquet:FILE?label=COLUMN`` for a table of numbers.

    With `image`, pixels are scaled to [0, 1] and the inputs are float32 of shape (n, channels, rows, columns); `size`
    averages blocks of pixels until the shorter side has so many, `channels` (1 or 3) converts to grey or to RGB.
    Without it the inputs are the columns `features` (``a,b,c``; by default all columns of numbers but the label), in
    that order, float32 of shape (n, columns). Then `mean` is subtracted and divided by `std`, each one number or one
    for every channel or column. `test_file` holds the test set; without it the rows are permuted by `FIXED_SEED` and
    the last `HELD_OUT_SHARE` of them are. `label` is ``label`` by default, `classes` the largest label plus one.

    Raises
    ------
    InputError
        If a file, a column or an option cannot be used, or a chosen image is unlike the one in the first row.
    """
    if not spec.target:
        raise InputError("parquet names no file", "parquet:FILE?image=COLUMN&label=COLUMN")
    options = spec.read(_KINDS, {**CHOICE_DEFAULTS, "label": "label"})
    scale = InputScale(*(_numbers(key, options[key], default) for key, default in (("mean", "0"), ("std", "1"))))
    if 0 in scale.std:
        raise InputError(f"std={options['std']} of parquet", "numbers other than 0")
    files = [regular_file(data_path(spec.target, directory))]
    if options["test_file"] is not None:
        files.append(regular_file(data_path(str(options["test_file"]), directory)))
    label = str(options["label"])
    labels = [_labels(file, label) for file in files]
    y = np.concatenate(labels)
    x: Array
    decode: Callable[[Array], Array]
    if options["image"] is None:
        x, decode = _table(files, label, options, scale), np.asarray
    else:
        source = _ImageRows(tuple(files), tuple(map(len, labels)), str(options["image"]))
        x, decode = np.arange(len(y)), _Decoder(source, _format(source, options, scale)).decode
    if len(files) == 2:
        pool, test = np.split(np.arange(len(y)), [len(labels[0])])
    else:
        pool, test = held_out_split(len(y))
    classes: Any = options["classes"]
    x_test, y_test = (x[test], y[test]) if len(test) else (None, None)
    stored = Stored(x[pool], y[pool], x_test, y_test, files[0].stem, classes, decode)
    return choose(stored, choice_of("parquet", options), spec)


def load_cifar10(spec: Specification, directory: Path) -> DataSet:
    """CIFAR-10 from ``train.parquet`` and ``test.parquet``: columns `image` (PNG or JPEG bytes) and `label`.

    Pixels are scaled to [0, 1], averaged over blocks where ``size=16`` or ``size=8``, then normalised by
    `CIFAR10_MEAN` and `CIFAR10_STANDARD_DEVIATION`: float32 of shape (n, 3, size, size).
    """
    options = spec.read({**CHOICE_KINDS, "size": ("32", "16", "8")}, {**CHOICE_DEFAULTS, "size": "32"})
    folder = data_folder(spec, directory, "cifar10")
    files = [folder / "train.parquet", folder / "test.parquet"]
    labels = [_labels(file, "label") for file in files]
    source = _ImageRows(tuple(files), tuple(map(len, labels)), "image")
    scale = InputScale(CIFAR10_MEAN, CIFAR10_STANDARD_DEVIATION)
    wanted = ImageFormat(32, 32, 3, True, 32 // int(str(options["size"])), scale, "CIFAR-10")
    pool, test = np.split(np.arange(sum(map(len, labels))), [len(labels[0])])
    stored = Stored(pool, labels[0], test, labels[1], "cifar10", 10, _Decoder(source, wanted).decode)
    return choose(stored, choice_of("cifar10", options), spec)


@dataclass(frozen=True)
class _ImageRows:
    """The encoded images of one or two files, counted through: first all of the first file, then all of the second."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    column: str

    def parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[Path, NDArray[np.int64], NDArray[np.int64]]]:
        """Each file that holds some of `rows`, where in `rows` those stand, and their row numbers in the file."""
        start = 0
        for file, count in zip(self.files, self.counts, strict=True):
            inside = np.flatnonzero((rows >= start) & (rows < start + count))
            if len(inside):
                yield file, inside, rows[inside] - start
            start += count


@dataclass(frozen=True)
class _Decoder:
    """Row numbers to inputs."""

    source: _ImageRows
    wanted: ImageFormat

    def decode(self, rows: Array) -> Array:
        """Images of some rows, in that order: float32 of shape (rows, channels, height, width)."""
        size = (self.wanted.channels, self.wanted.rows // self.wanted.block, self.wanted.columns // self.wanted.block)
        inputs = np.empty((len(rows), *size), dtype=np.float32)
        for file, inside, numbers in self.source.parts(rows):
            encoded = _encoded_images(file, self.source.column, numbers)
            inputs[inside] = decode_images(encoded, numbers, file.name, self.wanted)
        return inputs


def _format(source: _ImageRows, options: Mapping[str, Any], scale: InputScale) -> ImageFormat:
    """The shape of the image in the first row, which all others must have, and what the options make of it."""
    if options["features"] is not None:
        raise InputError(f"features={options['features']} of parquet with images", "image or features, not both")
    channels = None if options["channels"] is None else int(options["channels"])
    like = f"row 0 of {source.files[0].name}"
    first = _encoded_images(source.files[0], source.column, np.zeros(1, dtype=np.int64))
    rows, columns, stored = decode_image(first[0], channels, like).shape
    size = min(rows, columns) if options["size"] is None else options["size"]
    block = min(rows, columns) // size if size > 0 else 0
    if block < 1 or block * size != min(rows, columns) or rows % block or columns % block:
        common = math.gcd(rows, columns)
        sizes = [str(min(rows, columns) // n) for n in range(1, common + 1) if common % n == 0]
        raise InputError(f"size={size} for images of {rows}×{columns} pixels", f"one of {', '.join(sizes)}")
    _check_scale(scale, stored, "channels")
    return ImageFormat(rows, columns, stored, channels is not None, block, scale, like)


def _table(files: list[Path], label: str, options: Mapping[str, Any], scale: InputScale) -> Array:
    """Columns of numbers of all files as float32, shape (rows, columns)."""
    for key in ("size", "channels"):
        if options[key] is not None:
            raise InputError(f"{key}={options[key]} of parquet without images", "image=COLUMN too, or no " + key)
    numbers = [name for name, kind in _schema(files[0]).items() if name != label and _is_number(kind)]
    names = numbers if options["features"] is None else str(options["features"]).split(",")
    if not names:
        raise InputError(f"{files[0].name} has no column of numbers beside {label}", "features, or image=COLUMN")
    wrong = [name for name in names if name not in numbers]
    if wrong:
        raise InputError(f"{wrong[0]!r} is no feature of {files[0].name}", f"columns of numbers: {listing(numbers)}")
    parts = []
    for file in files:
        with _opened(file, names) as opened:
            table = opened.read(columns=names)
            parts.append(np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1))
    _check_scale(scale, len(names), "columns")
    return ((np.concatenate(parts) - np.array(scale.mean)) / np.array(scale.std)).astype(np.float32)


def _labels(file: Path, column: str) -> Array:
    with _opened(file, [column]) as opened:
        field = opened.schema_arrow.field(column)
        values = opened.read(columns=[column])[column]
    if not _is_number(field.type) or values.null_count:
        found = f"holds {values.null_count} missing labels" if _is_number(field.type) else f"is {field.type}"
        raise InputError(
            f"the column {column} of {file.name} {found}", "integer class labels from 0", "number the classes"
        )
    labels: Array = values.to_numpy()
    return labels.astype(np.int64) if labels.dtype == np.bool_ else labels


def _encoded_images(file: Path, column: str, rows: NDArray[np.int64]) -> list[object]:
    """The stored bytes of some rows, in that order."""
    from pyarrow import types

    encoded: list[object] = [None] * len(rows)
    with _opened(file, [column]) as opened:
        kind = opened.schema_arrow.field(column).type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not types.is_binary(kind) and not types.is_large_binary(kind):
            raise InputError(
                f"the column {column} of {file.name} is {kind}", "PNG or JPEG bytes, or structs {bytes, path} of them"
            )
        start = 0
        for group in range(opened.num_row_groups):
            count = opened.metadata.row_group(group).num_rows
            inside = np.flatnonzero((rows >= start) & (rows < start + count))
            if len(inside):
                values = opened.read_row_group(group, columns=[column])[column].take(rows[inside] - start).to_pylist()
                for place, value in zip(inside, values, strict=True):
                    encoded[place] = value.get("bytes") if isinstance(value, dict) else value
            start += count
    return encoded


def _schema(file: Path) -> dict[str, DataType]:
    with _opened(file, []) as opened:
        return {field.name: field.type for field in opened.schema_arrow}


@contextmanager
def _opened(file: Path, columns: list[str]) -> Iterator[ParquetFile]:
    """A parquet file that has these columns; whatever fails inside is said in one line."""
    try:
        import PIL.Image  # noqa: F401  # asked for here so that both are named at once
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{file} needs the package {error.name}", "", "run: pip install 'mdtree-diagnosis[images]'"
        ) from error
    try:
        with parquet.ParquetFile(regular_file(file)) as opened:
            names = opened.schema_arrow.names
            missing = [name for name in columns if name not in names]
            if missing:
                raise InputError(f"{file} has no column {missing[0]!r}", f"one of {listing(names)}")
            yield opened
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as parquet", "a whole parquet file", "copy it again") from error


def _is_number(kind: DataType) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _numbers(key: str, text: Any, default: str) -> tuple[float, ...]:
    """``0.5`` or ``0.49,0.48,0.45`` as numbers."""
    shown = default if text is None else str(text)
    try:
        numbers = tuple(float(part) for part in shown.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{key}={shown} of parquet", f"numbers, for instance {key}=0.5 or {key}=0.49,0.48,0.45")
    return numbers


def _check_scale(scale: InputScale, count: int, what: str) -> None:
    for key, numbers in (("mean", scale.mean), ("std", scale.std)):
        if len(numbers) not in (1, count):
            raise InputError(f"{len(numbers)} numbers in {key} for {count} {what}", f"1 or {count}")
