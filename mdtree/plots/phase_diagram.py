"""Where a checkpoint lies among the zoo's networks in the plane of temperature and load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import pandas as pd

from mdtree.diagnoser import walk_verdict
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.plots.phase_table import LOAD, TEMPERATURE, ZooPoint, stored_points, zoo_points
from mdtree.record import Record
from mdtree.zoo import FAILURES

COLDEST, HOTTEST = -1.5, 4.5
"""Growth of the weights at the edges of the plane; the few networks beyond stand at the edge."""

SMALL = 0.01
"""Load below which the scale is linear, so that 0 has a place."""
ACROSS, UP, HIGHEST = 51, 51, 1.03
"""Places of the map side by side and one above the other; where its upper edge is, just above chance."""
_WIDTH_X, _WIDTH_Y = 0.06, 0.08
"""Standard deviations of the kernel, in widths and heights of the plane."""
_DENSE = 0.05
"""Where the zoo is thinner than this share of its densest place, no region is claimed."""


@dataclass(frozen=True)
class PlacedCheckpoint:
    """A checkpoint in the plane: its name, its verdict, the two metrics, and 1.96 standard errors of each."""

    name: str
    verdict: str
    temperature: float
    load: float
    temperature_error: float
    load_error: float


@dataclass(frozen=True)
class PhaseDiagram:
    """The zoo's networks, the regions of their causes, and the checkpoints among them.

    Attributes
    ----------
    zoo : tuple of ZooPoint
    told_by : str
        Whose causes these are: `grid`, the true ones (what helped most in the zoo), or `trees`, the diagnoser's
        answers for its reference networks, where no true ones are at hand.
    regions : numpy.ndarray of int, shape (51, 51)
        At each place of the plane, from the coldest and the lowest load, the number in `mdtree.zoo.FAILURES` of the
        cause that is most frequent there if all causes are equally frequent in the zoo; -1 where there are hardly
        any networks.
    checkpoints : tuple of PlacedCheckpoint
    """

    zoo: tuple[ZooPoint, ...]
    told_by: str
    regions: np.ndarray
    checkpoints: tuple[PlacedCheckpoint, ...]


def phase_diagram_data(
    diagnoses: Diagnosis | Sequence[Diagnosis], diagnoser: Diagnoser, zoo: pd.DataFrame | None = None
) -> PhaseDiagram:
    """Place one or several checkpoints among the networks a diagnoser was fitted on.

    Temperature is read off the growth of the weights, `log_weight_growth`; load (data in relation to the model's size)
    off the train error over chance: how much of its data a network cannot hold. Both are of one network and need no
    knowledge of its training. In the reference zoos the first rises with the temperature at fixed width and data (rank
    correlation 0.73, mean over families of the median over slices of the grid), the second with samples per parameter
    at fixed temperature (0.79). The
    regions recall 54 % of the causes of a family they have not seen (mean over the five causes; chance 20 %): as a map
    the plane is honest, as a verdict it is too coarse; the trees ask more.

    Parameters
    ----------
    diagnoses : Diagnosis or sequence of Diagnosis
    diagnoser : Diagnoser
        For the reference diagnoser the true causes of its networks travel with the package.
    zoo : pandas.DataFrame, optional
        The labelled table of another diagnoser's zoo. Without it the background is that diagnoser's reference
        networks with the causes its trees tell.

    Raises
    ------
    InputError
        A checkpoint lacks one of the two metrics, or the zoo has no network to show.
    """
    asked = (diagnoses,) if isinstance(diagnoses, Diagnosis) else tuple(diagnoses)
    points, told_by = _background(diagnoser, zoo, asked)
    return PhaseDiagram(points, told_by, regions_of(points), tuple(_placed(diagnosis) for diagnosis in asked))


def _background(
    diagnoser: Diagnoser, zoo: pd.DataFrame | None, asked: Sequence[Diagnosis]
) -> tuple[tuple[ZooPoint, ...], str]:
    if zoo is not None:
        return zoo_points(zoo), "grid"
    stored = stored_points(diagnoser)
    if stored is not None:
        return stored, "grid"
    evidence = str(asked[0].diagnoser["evidence"]) if asked else "alone"
    told = _told_points(diagnoser, evidence)
    if not told:
        raise InputError(f"the diagnoser {diagnoser.name} keeps no network to show", "a labelled zoo table")
    return told, "trees"


def _told_points(diagnoser: Diagnoser, evidence: str) -> tuple[ZooPoint, ...]:
    """The reference networks with the causes the diagnoser tells for them."""
    reference = diagnoser.reference
    if reference is None or not {TEMPERATURE, LOAD} <= set(reference.metrics):
        return ()
    points = []
    for point, row in zip(reference.points, reference.table().to_dict("records"), strict=True):
        values = {str(name): float(value) for name, value in row.items()}
        if math.isnan(values[TEMPERATURE]) or math.isnan(values[LOAD]):
            continue
        walked = walk_verdict(diagnoser, evidence, values)
        cause = max(walked.leaves, key=lambda leaf: leaf[1])[0].label
        points.append(ZooPoint(point.family, cause, values[TEMPERATURE], values[LOAD]))
    return tuple(points)


def _placed(diagnosis: Diagnosis) -> PlacedCheckpoint:
    record = diagnosis.record
    for name in (TEMPERATURE, LOAD):
        if name not in record.metrics:
            reason = next((n.reason for n in record.not_measured if n.metric == name), "not measured")
            raise InputError(f"{name} has no value ({reason})", "a record with both metrics of the plane")
    growth, load = record.metrics[TEMPERATURE], record.metrics[LOAD]
    return PlacedCheckpoint(
        name=checkpoint_name(record),
        verdict=diagnosis.verdict,
        temperature=growth.value,
        load=load.value,
        temperature_error=1.96 * growth.standard_error,
        load_error=1.96 * load.standard_error,
    )


def checkpoint_name(record: Record) -> str:
    """The last part of the checkpoint's path, as it stands in the record; a file's name is not to be trusted."""
    return PurePath(str(record.checkpoint.get("path") or "checkpoint")).name or "checkpoint"


def place_x(temperature: float | np.ndarray) -> np.ndarray:
    """Where a growth of the weights stands, 0 (coldest) to 1."""
    return np.clip((np.asarray(temperature, dtype=float) - COLDEST) / (HOTTEST - COLDEST), 0.0, 1.0)


def place_y(load: float | np.ndarray) -> np.ndarray:
    """Where a train error over chance stands: 0 for none, 1 at chance; logarithmic above a hundredth."""
    ratio = np.maximum(np.asarray(load, dtype=float), 0.0) / SMALL
    return np.clip(np.arcsinh(ratio) / math.asinh(1.0 / SMALL), 0.0, HIGHEST)


def regions_of(zoo: Sequence[ZooPoint]) -> np.ndarray:
    """The most frequent cause at each place (see `PhaseDiagram`), by Gaussian kernels around the networks."""
    x, y = np.linspace(0.0, 1.0, ACROSS), np.linspace(0.0, HIGHEST, UP)
    density = np.zeros((len(FAILURES), UP, ACROSS))
    for number, cause in enumerate(FAILURES):
        own = [point for point in zoo if point.cause == cause]
        if own:
            beside = _kernel(x, place_x(np.array([p.temperature for p in own])), _WIDTH_X)
            above = _kernel(y, place_y(np.array([p.load for p in own])), _WIDTH_Y)
            density[number] = above @ beside.T / len(own)
    total = density.sum(axis=0)
    return np.where(total > _DENSE * total.max(), density.argmax(axis=0), -1)


def _kernel(grid: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((grid[:, None] - centres) / width) ** 2)
