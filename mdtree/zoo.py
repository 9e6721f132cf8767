"""The zoo table: one row per trained network, its measurements, and what more of each resource would have brought.

A zoo is a plain CSV file. Columns fall into five groups: who the network is (`IDENTITY`), where it stands on the
grid (`SETTINGS`), what was measured (`METRICS`, one number each: their standard errors are not stored), the rooms for
improvement (RFI, see `mdtree.room`) and the labels made of them. In a table of means over seeds a row is a cell and
`seed` is empty.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.files import write_atomically

DIRECTIONS = ("temperature_up", "temperature_down", "model_size", "data")
"""The four single changes of a training configuration that a diagnosis can advise."""

CAUSES = {
    "temperature_up": "temperature_too_low",
    "temperature_down": "temperature_too_high",
    "model_size": "model_too_small",
    "data": "too_little_data",
}
"""Direction of the change that helps most -> the failure mode it cures."""

FAILURES = (*CAUSES.values(), "healthy")

IDENTITY = ("family", "data_set", "architecture", "cell", "seed", "sibling_seed")
SETTINGS = (
    "width",
    "parameter_count",
    "train_size",
    "temperature",
    "temperature_axis",
    "learning_rate",
    "batch_size",
    "weight_decay",
    "label_noise",
    "optimizer",
    "schedule",
    "epochs",
    "protocol",
)
TRAINING = ("steps", "budget", "augmentation", "trained")
"""How the networks were trained, as far as a table tells it: parameter updates, what was held fixed ("1500 steps", "20
epochs"), the augmentation, and whether in a `stack` or a `loop`. A table without these columns reads as one that left
them empty."""
TEST_METRICS = ("test_error_percent", "test_loss")
SIGNALS = (
    "train_loss_over_chance",
    "feature_rank_share",
    "idle_feature_share",
    "logit_spread",
    "weight_noise_loss_over_chance",
)
"""Metrics of the features, the logits and the loss that a JSON record lists apart from those of the landscape proper:
the names in `metrics` are what other programs rely on."""

ALONE_METRICS = (
    "train_error_percent",
    "train_loss",
    "train_error_over_chance",
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_smallest_eigenvalue",
    "hessian_trace",
    "hessian_top_eigenvalue_per_parameter",
    "hessian_trace_per_parameter",
    "gradient_norm_squared_per_parameter",
    "log_weight_growth",
    *SIGNALS,
)
PAIR_METRICS = (
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_over_chance",
    "connectivity_barrier_loss",
    "linear_barrier_percent",
    "cka",
    "cka_mixup",
    "disagreement_percent",
    "parameter_distance",
)
METRICS = (*ALONE_METRICS[:2], *TEST_METRICS, *ALONE_METRICS[2:], *PAIR_METRICS)
"""Measured columns; the parameter count, a metric too, stands among the settings."""

GAIN_COLUMN = "gain_test_error_percent"
"""Test error (percent) on the half of the test set kept for RFIs and gains; `test_*` metrics never see it."""

RFI_COLUMNS = tuple(f"rfi_{d}_points" for d in DIRECTIONS)
RFI_ERROR_COLUMNS = tuple(f"rfi_{d}_points_standard_error" for d in DIRECTIONS)
QUESTIONS = ("temperature", "model_size", "data", "verdict")
LABEL_COLUMNS = tuple(f"label_{q}" for q in QUESTIONS)
UNLABELLED = ("ambiguous", "censored")
"""Labels that are no cause: too close to call, or decided beyond the edge of the grid."""

MEASURED_COLUMNS = (*IDENTITY, *SETTINGS, *TRAINING, "split", "diverged", *METRICS, GAIN_COLUMN)
COLUMNS = (*MEASURED_COLUMNS, *RFI_COLUMNS, *RFI_ERROR_COLUMNS, *LABEL_COLUMNS)

TEXT_COLUMNS = (
    "family",
    "data_set",
    "architecture",
    "cell",
    "temperature_axis",
    "optimizer",
    "schedule",
    "protocol",
    *TRAINING[1:],
    "split",
    *LABEL_COLUMNS,
)
"""All other columns hold numbers."""


def evidence_metrics(evidence: str) -> tuple[str, ...]:
    """Metrics a tree may ask for in an evidence set: `alone`, `alone_test`, `sibling` or `sibling_test`.

    Raises
    ------
    InputError
        The name is none of the four.
    """
    if evidence not in EVIDENCE:
        raise InputError(f"evidence {evidence!r}", f"one of {', '.join(EVIDENCE)}")
    names = tuple(name for name in ALONE_METRICS if name not in NEVER_SPLIT_ON)
    if evidence.startswith("sibling"):
        names += PAIR_METRICS
    if evidence.endswith("_test"):
        names += TEST_METRICS
    return names


def size_free_metrics(evidence: str) -> tuple[str, ...]:
    """Metrics of an evidence set whose values mean the same for networks of other sizes and tasks of other difficulty.

    Errors and losses over those of chance, curvature and gradient per parameter, growth of the weights, shares of
    features, spread of logits, barriers over chance, similarities: what a tree that is to travel may ask for. Test
    metrics stay as they are; a tree rarely asks for them.

    Raises
    ------
    InputError
        As for `evidence_metrics`.
    """
    return tuple(name for name in evidence_metrics(evidence) if name not in SIZE_BOUND)


SIZE_BOUND = (
    "train_error_percent",
    "train_loss",
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_trace",
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_loss",
    "linear_barrier_percent",
    "parameter_distance",
)
"""Metrics that change with the number of parameters or classes, or with the size of the weights."""

NEVER_SPLIT_ON = ("hessian_smallest_eigenvalue",)
"""Reported but not asked for: Lanczos stops by the top of the spectrum, so the bound on this one may exceed its value.
The parameter count is a setting, not a symptom, and is not asked for either."""

EVIDENCE = ("alone", "alone_test", "sibling", "sibling_test")


def read_zoo(path: str | os.PathLike[str], *, labelled: bool = True) -> pd.DataFrame:
    """Read and check a zoo table.

    Parameters
    ----------
    path : path
        A CSV file with the columns of `COLUMNS`.
    labelled : bool
        Whether the RFI and label columns are needed too.

    Returns
    -------
    pandas.DataFrame
        The table's columns, text as strings, all others as floats or integers; empty cells are NaN.

    Raises
    ------
    InputError
        The file is missing, no table, lacks columns (all are named), holds text where a number belongs (the first
        such cell is named), names the seeds of a part of a family only, or holds a network twice.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file", "a zoo table (CSV)", "make one with `mdtree zoo build`")
    try:
        frame = pd.read_csv(
            file, dtype={name: str for name in TEXT_COLUMNS}, keep_default_na=False, na_values=[""], low_memory=False
        )
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{file} is not a CSV table ({str(error).splitlines()[0]})", "a zoo table") from error
    frame = _with_training_columns(frame)
    need = COLUMNS if labelled else MEASURED_COLUMNS
    missing = [name for name in need if name not in frame.columns]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        mend = "label it with `mdtree zoo label`" if set(missing) <= set(COLUMNS[len(MEASURED_COLUMNS) :]) else ""
        raise InputError(f"{file} lacks the columns {', '.join(missing[:8])}{more}", "the zoo schema", mend)
    if frame.empty:
        raise InputError(f"{file} holds no rows", "one row per network")
    for name in need:
        if name not in TEXT_COLUMNS:
            frame[name] = _numbers(frame[name], name, file)
    _refuse_blanks(frame, file)
    return frame


def _with_training_columns(frame: pd.DataFrame) -> pd.DataFrame:
    missing = {name: np.nan if name == "steps" else None for name in TRAINING if name not in frame.columns}
    return frame.assign(**missing) if missing else frame


def _numbers(column: pd.Series, name: str, file: Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() & column.notna()
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"{file}, line {row + 2}, column {name}: {column.iloc[row]!r}", "a number or an empty cell")
    return numbers


def _refuse_blanks(frame: pd.DataFrame, file: Path) -> None:
    for name in ("cell", "width", "train_size", "temperature"):
        blank = frame[name].isna()
        if blank.any():
            row = int(np.flatnonzero(blank)[0])
            raise InputError(f"{file}, line {row + 2}, column {name}: an empty cell", "a value in every row")
    means = frame["seed"].isna()
    # a family of means has no seed at all: where only some are missing, they were lost
    lost = means & ~means.groupby(frame["family"], dropna=False).transform("all")
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        raise InputError(
            f"{file}, line {row + 2}, column seed: an empty cell",
            "a seed in every row of a family, or in none (a table of means over seeds)",
        )
    twice = frame.duplicated(["family", "cell", "seed"])
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        cell, seed = frame["cell"].iloc[row], frame["seed"].iloc[row]
        which = f"cell {cell}, a mean over seeds," if means.iloc[row] else f"seed {seed:g} of cell {cell}"
        raise InputError(f"{file}, line {row + 2}: {which} stands twice", "one row per network")


def format_rows(frame: pd.DataFrame, columns: Sequence[str], *, header: bool) -> str:
    """Rows as CSV text: numbers with six significant digits, missing values empty, `\\n` line ends."""
    return (
        _with_training_columns(frame)
        .loc[:, list(columns)]
        .to_csv(index=False, header=header, float_format=lambda x: f"{x:.6g}", na_rep="", lineterminator="\n")
    )


def write_zoo(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a labelled zoo in the schema's order, all or nothing (a temporary file, then a rename)."""
    write_atomically(path, format_rows(frame, COLUMNS, header=True).encode())
