"""Transfers between parts of a grid of networks: fitted here, asked there.

A diagnosis that only works on the grid it was fitted on may have learnt the grid. So trees are chosen, and the claims
that count are made, on parts of the grid that share no value of the axis with the part they were fitted on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mdtree.shape_search import Transfer
from mdtree.zoo import CAUSES

FEW_DRAWS, FEW_PAIRS, FEW_SEED = 20, 8, 1000
"""Draws of a few (training size, width) pairs; their seeds are not those of the published cases."""


def question_transfers(rows: pd.DataFrame, question: str) -> tuple[Transfer, ...]:
    """Transfers by which the shape of a question is chosen: one slice of the grid and all the rest of it.

    For `temperature` twenty draws of eight (training size, width) pairs, each training size and each width; for
    `model_size` each training size; for `data` each width, as in the published cases.
    """
    size, width = rows["train_size"].to_numpy(), rows["width"].to_numpy()
    found = []
    if question == "temperature":
        pairs = np.array(list(itertools.product(np.unique(size), np.unique(width))))
        for number in range(FEW_DRAWS):
            drawn = np.random.RandomState(FEW_SEED + number).choice(len(pairs), FEW_PAIRS, replace=False)
            inside = np.any([(size == s) & (width == w) for s, w in pairs[drawn]], axis=0)
            found.append(_and_the_rest(f"draw {number}", inside))
    if question in ("temperature", "model_size"):
        found += [_and_the_rest(f"{value:g} samples", size == value) for value in np.unique(size)]
    if question in ("temperature", "data"):
        found += [_and_the_rest(f"width {value:g}", width == value) for value in np.unique(width)]
    return tuple(found)


def _and_the_rest(name: str, inside: np.ndarray) -> Transfer:
    return Transfer(name, inside, ~inside)


def interior(table: pd.DataFrame) -> np.ndarray:
    """Rows at no edge of the grid beyond which a change has no known gain."""
    batch = table["temperature"]
    inside = (table["width"] < table["width"].max()) & (table["train_size"] < table["train_size"].max())
    return (inside & (batch > batch.min()) & (batch < batch.max())).to_numpy()


def off_grid(table: pd.DataFrame) -> Iterator[Transfer]:
    """The published corners, fitted alone and asked about everything beyond them that is not at an edge.

    The least fifth of the data, widths up to 11, and both at once (there the rest is larger on both axes).
    """
    inner = interior(table)
    little = (table["train_size"] <= table["train_size"].max() / 5).to_numpy()
    narrow = (table["width"] <= 11).to_numpy()
    yield Transfer("data <= 20 %", little, ~little & inner)
    yield Transfer("width <= 11", narrow, ~narrow & inner)
    yield Transfer("both", little & narrow, ~little & ~narrow & inner)


def verdict_transfers(table: pd.DataFrame) -> tuple[Transfer, ...]:
    """Transfers by which the shape of the verdict is chosen: fourteen corners, and every value of an axis left out.

    Corners are the lower or upper part of the training sizes, of the widths, or the lower part of both; what lies
    beyond them is scored where it is at no edge. Left-out values are scored whole.
    """
    size, width, inner = table["train_size"].to_numpy(), table["width"].to_numpy(), interior(table)
    sizes, widths = np.unique(size), np.unique(width)
    lower = [(f"{sizes[k]:g} samples or fewer", size <= sizes[k]) for k in (1, 2, 3)]
    lower += [(f"width {widths[k]:g} or less", width <= widths[k]) for k in (2, 4, 5, 6)]
    upper = [(f"{sizes[k]:g} samples or more", size >= sizes[k]) for k in (-4, -3)]
    upper += [(f"width {widths[k]:g} or more", width >= widths[k]) for k in (-6, -4)]
    found = [Transfer(name, inside, ~inside & inner) for name, inside in lower + upper]
    for i, j in ((1, 5), (2, 4), (3, 6)):
        few, thin = size <= sizes[i], width <= widths[j]
        found.append(Transfer(f"{sizes[i]:g} samples and width {widths[j]:g}", few & thin, ~few & ~thin & inner))
    for name, column, values in (("samples", size, sizes), ("width", width, widths)):
        found += [Transfer(f"all but {value:g} ({name})", column != value, column == value) for value in values]
    return tuple(found)


def cause_gains(table: pd.DataFrame) -> Mapping[str, np.ndarray]:
    """Cause -> gain in points (the RFI) of the change that cures it, of every row."""
    return {cause: table[f"rfi_{direction}_points"].to_numpy(dtype=float) for direction, cause in CAUSES.items()}


def largest_cause(table: pd.DataFrame) -> np.ndarray:
    """The cause of the largest RFI of every row, whatever its size; the first among equals."""
    gains = cause_gains(table)
    return np.array(list(gains))[np.argmax(np.stack(list(gains.values()), axis=1), axis=1)]
