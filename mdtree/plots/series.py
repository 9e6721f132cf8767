"""Series of a record, which may come out of anybody's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from mdtree.errors import InputError
from mdtree.record import Record


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Whatever reading a series stumbles over inside becomes one sentence: it came out of somebody's file."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError) as error:
        raise InputError(
            f"the record's {what} is damaged ({type(error).__name__})", "as `mdtree measure` writes it"
        ) from error


def series_of(record: Record, name: str, needs: str) -> Mapping[str, Any]:
    """A series of the record.

    Raises
    ------
    InputError
        There is none; `needs` says which record has one.
    """
    found = record.series.get(name)
    if not isinstance(found, Mapping):
        raise InputError(f"the record holds no {name.replace('_', ' ')}", needs)
    return found


def numbers(series: Mapping[str, Any], name: str) -> np.ndarray:
    """A list of finite numbers of a series.

    Raises
    ------
    InputError
        It is missing, or something else.
    """
    try:
        values = np.array(series[name], dtype=float)
    except (KeyError, TypeError, ValueError):
        values = np.array(np.nan)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError(f"{name} of a series in the record is damaged", "a list of finite numbers")
    return values
