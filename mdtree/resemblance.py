"""Which reference a checkpoint resembles: our zoos, or the public table of the MD tree paper. No torch here.

The two know different kinds of hot: in our zoos training at too high a temperature is mostly thrown about
(instability), in the public table it hovers over a floor of gradient noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd

from mdtree.errors import InputError
from mdtree.reference_points import NEIGHBOURS, Point, View, as_steps, distances_between, make_view
from mdtree.zoo_reference import ZooReference, fit_reference

PUBLIC_CENTRES = 80
PUBLIC_CLASSES = 10


@dataclass(frozen=True)
class Resemblance:
    """Which reference a checkpoint is closest to.

    Attributes
    ----------
    nearest : str
        Name of the closest reference.
    distances : dict of str to float
        Distance of the checkpoint from the nearest points of every reference, over the distance that points of that
        reference typically have from one another.
    metrics : tuple of str
        What was compared: the metrics that the checkpoint and all references have.
    """

    nearest: str
    distances: dict[str, float]
    metrics: tuple[str, ...]


def resembles(values: Mapping[str, float], references: Mapping[str, ZooReference]) -> Resemblance:
    """Which of several references a checkpoint is closer to.

    All are compared on the scales and with the covariance of the first one.

    Parameters
    ----------
    values : mapping of metric to value
    references : mapping of name to ZooReference
        The first should be the broadest.

    Raises
    ------
    InputError
        No metric that all references have was measured, or there is no reference.
    """
    if not references:
        raise InputError("no reference to compare with", "at least one")
    scales = next(iter(references.values()))
    coordinates = scales.coordinates_of(values)
    shared = tuple(
        not math.isnan(here) and all(name in reference.metrics for reference in references.values())
        for name, here in zip(scales.metrics, coordinates[0], strict=True)
    )
    if not any(shared):
        raise InputError("no metric that all references have was measured")
    distances = {
        name: _relative_distance(coordinates, scales, reference, shared) for name, reference in references.items()
    }
    metrics = tuple(name for name, used in zip(scales.metrics, shared, strict=True) if used)
    return Resemblance(min(distances, key=lambda name: distances[name]), distances, metrics)


def _relative_distance(
    coordinates: np.ndarray, scales: ZooReference, reference: ZooReference, measured: tuple[bool, ...]
) -> float:
    view = _view_on(scales, reference, measured)
    near = np.sort(distances_between(coordinates[:, view.columns] @ view.whitening, view.embedded)[0])[:NEIGHBOURS]
    return float(near.mean() / max(float(np.median(view.apart)), 1e-9))


@lru_cache(maxsize=32)
def _view_on(scales: ZooReference, reference: ZooReference, measured: tuple[bool, ...]) -> View:
    """The points of a reference on the scales of another."""
    points = [
        Point(point.family, point.cell, as_steps(row))
        for point, row in zip(reference.points, scales.coordinates(reference.table()), strict=True)
    ]
    return make_view(points, np.array(scales.covariance), np.array(measured))


def summarise_public_table(table: pd.DataFrame, scales: ZooReference, centres: int = PUBLIC_CENTRES) -> ZooReference:
    """The public table as the centres of clusters of its rows, on the scales of another reference.

    Parameters
    ----------
    table : pandas.DataFrame
        As `mdtree.modeldiagnosis.read_public_table` returns it; of ten balanced classes, whose chance loss is ln 10.
    scales : ZooReference
    centres : int
        Clusters (k-means, seed 0); every one is kept as the mean of its rows.

    Raises
    ------
    InputError
        The table has fewer rows than centres.
    """
    from sklearn.cluster import KMeans  # whoever only asks what a checkpoint resembles need not wait for it

    if len(table) < centres:
        raise InputError(f"{len(table)} rows", f"at least {centres}, the number of centres")
    rows = table.assign(train_loss_over_chance=table["train_loss"] / math.log(PUBLIC_CLASSES))
    shared = [name for name in scales.metrics if name in rows and rows[name].notna().all()]
    places = [scales.metrics.index(name) for name in shared]
    cluster = KMeans(centres, n_init=3, random_state=0).fit(scales.coordinates(rows)[:, places]).labels_
    means = rows[shared].groupby(cluster).mean().reset_index(drop=True)
    means["family"], means["cell"] = "modeldiagnosis", means.index.astype(str)
    return fit_reference(means, shared, points_per_family=centres)


@lru_cache(maxsize=1)
def public_reference() -> ZooReference:
    """The summary of the public table that comes with the package, made by `benchmarks/out_of_zoo.py --public`."""
    text = (files("mdtree") / "data_files" / "public_reference.json").read_text(encoding="utf-8")
    return ZooReference.from_dict(json.loads(text), "the summary of the public table")
