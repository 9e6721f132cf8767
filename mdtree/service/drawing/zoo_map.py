"""The background of the phase diagram as numbers: a page draws it and puts its jobs on it."""

from __future__ import annotations

from typing import Any

from mdtree.diagnoser_schema import Diagnoser
from mdtree.plots.phase_diagram import (
    COLDEST,
    HIGHEST,
    HOTTEST,
    SMALL,
    phase_diagram_data,
    place_x,
    place_y,
)
from mdtree.plots.phase_table import LOAD, TEMPERATURE
from mdtree.zoo import FAILURES


def zoo_map(diagnoser: Diagnoser) -> dict[str, Any]:
    """Networks, regions and axes, JSON-able.

    Returns
    -------
    dict
        `told_by`: whose causes these are (see `mdtree.plots.PhaseDiagram`). `causes`: their names. `points`: for every
        network its `family`, `cause`, `temperature`, `load` and its place, `x` in 0...1 and `y` in 0...`highest`.
        `regions`: rows from the lowest load, of places from the coldest: numbers in `causes`, -1 where none is
        claimed. `axes`: how a metric becomes a place.
    """
    data = phase_diagram_data((), diagnoser)
    points = [
        {
            "family": point.family,
            "cause": point.cause,
            "temperature": point.temperature,
            "load": point.load,
            "x": round(float(place_x(point.temperature)), 4),
            "y": round(float(place_y(point.load)), 4),
        }
        for point in data.zoo
    ]
    return {
        "told_by": data.told_by,
        "causes": list(FAILURES),
        "points": points,
        "regions": data.regions.tolist(),
        "axes": _axes(),
    }


def _axes() -> dict[str, Any]:
    return {
        "x": {
            "metric": TEMPERATURE,
            "from": COLDEST,
            "to": HOTTEST,
            "place": "(value - from) / (to - from), cut to 0...1",
        },
        "y": {
            "metric": LOAD,
            "small": SMALL,
            "highest": HIGHEST,
            "place": "asinh(max(value, 0) / small) / asinh(1 / small), cut to 0...highest",
        },
    }
