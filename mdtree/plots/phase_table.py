"""The background of the phase diagram: networks of the reference zoos with their true causes, kept with the package.

`docs/phase_points.py` writes `data_files/phase_points.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from mdtree.diagnoser_schema import Diagnoser
from mdtree.errors import InputError
from mdtree.zoo import FAILURES

TEMPERATURE, LOAD = "log_weight_growth", "train_error_over_chance"
"""The metrics of the plane; see `mdtree.plots.phase_diagram` for why these."""

PER_CAUSE = 240
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ZooPoint:
    """A network of a zoo in the plane: its family, its cause, `log_weight_growth` and `train_error_over_chance`."""

    family: str
    cause: str
    temperature: float
    load: float


def zoo_points(rows: pd.DataFrame, per_cause: int = PER_CAUSE, seed: int = 0) -> tuple[ZooPoint, ...]:
    """Networks of a labelled zoo table whose cause is clear, equally many of every cause where there are so many.

    Within a cause the families take turns, so that a large zoo does not crowd out a small one.

    Parameters
    ----------
    rows : pandas.DataFrame
        `family`, `label_verdict` and the two metrics.
    per_cause : int
        At most so many.
    seed : int
        Of the order in which a family's networks are taken.

    Raises
    ------
    InputError
        No network has a clear cause and both metrics.
    """
    known = rows[rows["label_verdict"].isin(FAILURES)].dropna(subset=[TEMPERATURE, LOAD])
    order = np.random.default_rng(seed).permutation(len(known))
    shuffled = known.iloc[order]
    turn = shuffled.groupby(["label_verdict", "family"], sort=False).cumcount()
    ranked = shuffled.assign(turn=turn).sort_values(["turn", "family"], kind="stable")
    points = [
        ZooPoint(str(row.family), cause, float(f"{row.temperature:.4g}"), float(f"{row.load:.4g}"))
        for cause in FAILURES
        for row in ranked[ranked["label_verdict"] == cause]
        .head(per_cause)[["family", TEMPERATURE, LOAD]]
        .rename(columns={TEMPERATURE: "temperature", LOAD: "load"})
        .itertuples()
    ]
    if not points:
        raise InputError(f"no network of the zoo has a clear cause, {TEMPERATURE} and {LOAD}", "a labelled zoo table")
    return tuple(points)


def phase_table(rows: pd.DataFrame) -> dict[str, Any]:
    """The JSON form: a line of numbers for every cause and family, temperature and load in turn."""
    causes: dict[str, dict[str, list[str]]] = {}
    for point in zoo_points(rows):
        line = causes.setdefault(point.cause, {}).setdefault(point.family, [])
        line.append(f"{point.temperature:g} {point.load:g}")
    return {
        "schema_version": SCHEMA_VERSION,
        "metrics": [TEMPERATURE, LOAD],
        "families": sorted(rows["family"].astype(str).unique()),
        "points": {c: {f: ", ".join(line) for f, line in sorted(held.items())} for c, held in causes.items()},
    }


def stored_points(diagnoser: Diagnoser) -> tuple[ZooPoint, ...] | None:
    """The networks kept with the package, if the diagnoser was fitted on the same families; else None."""
    text = (files("mdtree") / "data_files" / "phase_points.json").read_text(encoding="utf-8")
    values = json.loads(text)
    if sorted(diagnoser.zoo["families"]) != values["families"]:
        return None
    return tuple(
        ZooPoint(family, cause, *map(float, pair.split()))
        for cause, held in values["points"].items()
        for family, line in held.items()
        for pair in line.split(", ")
    )
