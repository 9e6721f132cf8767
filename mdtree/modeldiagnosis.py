"""Import of the public table of the MD tree paper: Zhou et al. 2024, arXiv:2406.16988, "modeldiagnosis".

1,690 rows: ResNet-18 on CIFAR-10, 13 widths times 13 batch sizes times 10 shares of the training data; each row is the
mean over five seeds. `mode_connectivity` and the columns that repeat others are not needed.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.room import labels
from mdtree.zoo import COLUMNS, DIRECTIONS, GAIN_COLUMN, TEXT_COLUMNS

CHANCE_ERROR_PERCENT = 90.0
"""Of ten classes."""

_COUNTS = ("width", "para_amount", "data_amount", "bs")
_LARGEST_COUNT = 2.0**53
"""Up to here every whole number is a float of its own."""
_LARGEST_LOGARITHM = 700.0
"""Its exponential is still a finite number."""

_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(_COUNTS, (1.0, _LARGEST_COUNT)),
    "train_error": (0.0, 100.0),
    "train_loss": (0.0, math.inf),
    "test_error": (0.0, 100.0),
    "test_loss": (0.0, math.inf),
    "hessian_e": (-_LARGEST_LOGARITHM, _LARGEST_LOGARITHM),
    "hessian_t": (-_LARGEST_LOGARITHM, _LARGEST_LOGARITHM),
    "mode_connectivity_peak": (-100.0, 0.0),
    "CKA": (-math.inf, math.inf),
    "rfi_width": (0.0, 100.0),
    "rfi_data": (0.0, 100.0),
    "rfi_inc_temp": (0.0, 100.0),
    "rfi_dec_temp": (0.0, 100.0),
}
"""The published columns of numbers that are read, and what they may hold."""

_ROOMS = {
    "temperature_up": "rfi_inc_temp",
    "temperature_down": "rfi_dec_temp",
    "model_size": "rfi_width",
    "data": "rfi_data",
}

_LABELS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    # 'small' speaks of the temperature, not of the batch: a temperature too small is a batch too large
    "bs_failure": (
        "label_temperature",
        {"small": "temperature_too_low", "large": "temperature_too_high", "optimal": "ambiguous"},
    ),
    "width_vs_batch": (
        "label_model_size",
        {"width": "model_too_small", "batch": "temperature", "optimal": "ambiguous"},
    ),
    "data_vs_batch": ("label_data", {"data": "too_little_data", "batch": "temperature", "optimal": "ambiguous"}),
}
"""Published label column -> our column, and published words -> ours."""


def read_public_table(path: str | os.PathLike[str], *, label_noise: float | None = None) -> pd.DataFrame:
    """Read a table published with the MD tree paper (Zhou et al. 2024, arXiv:2406.16988) as a zoo table.

    ==============================================  ================================================================
    our column                                      published
    ==============================================  ================================================================
    `cell`                                          `w{width}-n{data_amount}-b{bs}`
    `seed`, `sibling_seed`                          empty: a row is the mean over five seeds
    `width`, `parameter_count`, `train_size`,       `width` (channels), `para_amount` (parameters), `data_amount`
    `batch_size`                                    (images), `bs` (images): whole numbers
    `temperature`                                   1 / `bs`: nothing else of the noise scale varies; a smaller batch
                                                    is a higher temperature
    `train_error_percent`, `test_error_percent`     `train_error`, `test_error`, percent
    `gain_test_error_percent`                       `test_error` again: the test set was not cut in two
    `train_loss`, `test_loss`                       the same, nats
    `train_error_over_chance`                       `train_error` / 90
    `hessian_top_eigenvalue_magnitude`              exp(`hessian_e`), the published natural logarithm undone
    `hessian_trace`, `hessian_trace_per_parameter`  exp(`hessian_t`), the same over `para_amount`
    `connectivity_peak_percent`                     -`mode_connectivity_peak`: largest train error inside the trained
                                                    Bezier curve, percent
    `connectivity_barrier_percent`, `..._over_...`  that peak less `train_error`; the same / 90
    `cka`                                           `CKA` of the outputs of two seeds
    `rfi_temperature_up_points`                     `rfi_inc_temp`, points of test accuracy
    `rfi_temperature_down_points`                   `rfi_dec_temp`
    `rfi_model_size_points`, `rfi_data_points`      `rfi_width`, `rfi_data`
    `label_temperature`                             `bs_failure`, which speaks of the temperature: `small` is too low,
                                                    `large` too high
    `label_model_size`                              `width_vs_batch`: `width` is model_too_small, `batch` temperature
    `label_data`                                    `data_vs_batch`: `data` is too_little_data, `batch` temperature
    ==============================================  ================================================================

    Family is `modeldiagnosis`, data set `cifar10`, architecture `resnet18`, temperature axis `batch_size`, protocol
    `published`, split `fit`; none is diverged. What the table does not tell stays empty: learning rate, weight decay,
    optimizer, schedule, epochs, the standard errors of the rooms, all other metrics. The algebraic top eigenvalue is
    among them, and with it its form per parameter: the published one is the largest by magnitude, its sign unknown.

    Rooms and the labels of the three questions are as published: 0 where the grid ends, ties (`optimal`) ambiguous,
    every other difference counted, however small. `label_verdict`, which the paper has not, is ours by the house rule
    (`mdtree.room.labels`) with standard errors of 0: edges of the grid censor it.

    Parameters
    ----------
    path : path
        `dataframe_normal_public.csv`, `dataframe_noise_public.csv`, or any file with their columns.
    label_noise : float, optional
        Share of wrong training labels, 0...1; the table does not say it. Empty where not given.

    Returns
    -------
    pandas.DataFrame
        The columns of `mdtree.zoo.COLUMNS`, rows in the file's order.

    Raises
    ------
    InputError
        The file is missing or no such table, a cell holds what it cannot hold (the first is named), or a
        configuration stands twice.
    """
    if label_noise is not None and not 0 <= label_noise <= 1:
        raise InputError(f"label noise {label_noise:g}", "a share between 0 and 1")
    published = _read(regular_file(path))
    frame = pd.DataFrame({**_settings(published), **_measurements(published), **_rooms_and_labels(published)})
    frame["label_noise"] = math.nan if label_noise is None else float(label_noise)
    for name in COLUMNS:
        if name not in frame:
            frame[name] = pd.Series(index=frame.index, dtype=str if name in TEXT_COLUMNS else float)
    return frame[list(COLUMNS)]


def _settings(published: pd.DataFrame) -> dict[str, object]:
    width, train_size, batch_size = (published[name].astype("int64") for name in ("width", "data_amount", "bs"))
    return {
        "family": "modeldiagnosis",
        "data_set": "cifar10",
        "architecture": "resnet18",
        "cell": [f"w{w}-n{n}-b{b}" for w, n, b in zip(width, train_size, batch_size, strict=True)],
        "width": width,
        "parameter_count": published["para_amount"].astype("int64"),
        "train_size": train_size,
        "temperature": 1.0 / batch_size,
        "temperature_axis": "batch_size",
        "batch_size": batch_size,
        "protocol": "published",
        "split": "fit",
        "diverged": 0,
    }


def _measurements(published: pd.DataFrame) -> dict[str, pd.Series]:
    # subtracted from 0, not negated: a peak of 0 must not become -0
    peak = 0.0 - published["mode_connectivity_peak"]
    barrier = peak - published["train_error"]
    trace = np.exp(published["hessian_t"])
    return {
        "train_error_percent": published["train_error"],
        "train_loss": published["train_loss"],
        "test_error_percent": published["test_error"],
        "test_loss": published["test_loss"],
        "train_error_over_chance": published["train_error"] / CHANCE_ERROR_PERCENT,
        "hessian_top_eigenvalue_magnitude": np.exp(published["hessian_e"]),
        "hessian_trace": trace,
        "hessian_trace_per_parameter": trace / published["para_amount"],
        "connectivity_peak_percent": peak,
        "connectivity_barrier_percent": barrier,
        "connectivity_barrier_over_chance": barrier / CHANCE_ERROR_PERCENT,
        "cka": published["CKA"],
        GAIN_COLUMN: published["test_error"],
    }


def _rooms_and_labels(published: pd.DataFrame) -> dict[str, object]:
    rooms = {direction: published[_ROOMS[direction]] for direction in DIRECTIONS}
    return {
        **{f"rfi_{direction}_points": values for direction, values in rooms.items()},
        **{ours: published[theirs].map(words) for theirs, (ours, words) in _LABELS.items()},
        "label_verdict": _verdicts(published, rooms),
    }


def _verdicts(published: pd.DataFrame, rooms: Mapping[str, pd.Series]) -> list[str]:
    """The cause of the largest room of every row, by the house rule; a mean over seeds counts as two equal seeds."""
    ends = {
        "temperature_up": published["bs"] == published["bs"].min(),
        "temperature_down": published["bs"] == published["bs"].max(),
        "model_size": published["width"] == published["width"].max(),
        "data": published["data_amount"] == published["data_amount"].max(),
    }
    points = np.stack([rooms[d].where(~ends[d]).to_numpy(dtype=float) for d in DIRECTIONS], axis=1)
    return [
        labels({d: np.full(2, room) for d, room in zip(DIRECTIONS, row, strict=True) if not np.isnan(room)})["verdict"]
        for row in points
    ]


def _read(file: Path) -> pd.DataFrame:
    """The published columns that are needed, numbers as floats, in the file's order; refused at the first flaw."""
    rows: list[dict[str, float | str]] = []
    line_of: dict[tuple[float | str, ...], int] = {}
    for line, cells in _lines(file):
        row: dict[str, float | str] = {name: _number(cells[name], name, f"{file}, line {line}") for name in _RANGES}
        for name, (_, words) in _LABELS.items():
            if cells[name] not in words:
                raise InputError(f"{file}, line {line}, column {name}: {cells[name]!r}", f"one of {', '.join(words)}")
            row[name] = cells[name]
        first = line_of.setdefault((row["data_amount"], row["width"], row["bs"]), line)
        if first != line:
            raise InputError(
                f"{file}, line {line}: width {row['width']:g}, data_amount {row['data_amount']:g}, bs {row['bs']:g} "
                f"stands on line {first} already",
                "one row per configuration",
            )
        rows.append(row)
    if not rows:
        raise InputError(f"{file} holds no rows", "one row per configuration")
    return pd.DataFrame(rows)


def _lines(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the line and its cells by column, for every line under the header that is not blank."""
    expected = "the public table of the MD tree paper (CSV)"
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = next(reader, [])
            missing = [name for name in (*_RANGES, *_LABELS) if name not in header]
            if missing:
                more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
                raise InputError(f"{file} lacks the columns {', '.join(missing[:8])}{more}", expected)
            twice = [name for name in (*_RANGES, *_LABELS) if header.count(name) > 1]
            if twice:
                raise InputError(f"{file} holds the column {twice[0]} twice", expected)
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise InputError(
                        f"{file}, line {reader.line_num}: {len(cells)} cells", f"{len(header)}, as many as the header"
                    )
                if cells:
                    yield reader.line_num, dict(zip(header, cells, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is not a CSV table ({error})", expected) from error


def _number(text: str, name: str, where: str) -> float:
    low, high = _RANGES[name]
    try:
        # float() takes the underscores of Python's own numerals too
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}, column {name}: {text!r}", "a finite number")
    if not low <= value <= high or (name in _COUNTS and not value.is_integer()):
        kind = "a whole number" if name in _COUNTS else "a number"
        limits = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise InputError(f"{where}, column {name}: {text}", f"{kind} {limits}")
    return value
