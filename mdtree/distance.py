"""How far a checkpoint is from the networks of a diagnoser's zoo, and which it is most like. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtree.diagnoser_schema import Diagnoser
from mdtree.record import Metric
from mdtree.resemblance import public_reference, resembles

FOREIGN_SHARE = 0.25
"""Share of metrics outside the zoo's range from which a checkpoint counts as unlike the zoo, where the diagnoser keeps
no reference points."""

PUBLIC_TABLE = "public table"


def distance_from_zoo(diagnoser: Diagnoser, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """How far a checkpoint is from the networks of the zoo, and which family it is most like.

    Returns
    -------
    dict
        `overall`, `limit`, `outside`, `nearest` and `from_nearest` as in `mdtree.zoo_reference.ZooDistance`; `metrics`,
        how many spreads each lies outside the zoo's range. With the metrics of a pair `resembles` says whether it is
        closer to the zoo or to the public table of the MD tree paper, whose hot networks hover over a noise floor.
        Of a diagnoser without reference points: `metrics` in widths of the range, `overall` the share of metrics
        outside, `limit` 0.25.
    """
    values = {name: metric.value for name, metric in metrics.items()}
    reference = diagnoser.reference
    if reference is None or not any(name in values for name in reference.metrics):
        return _outside_ranges(diagnoser, values)
    found = reference.distance(values)
    told: dict[str, Any] = {
        "overall": found.overall,
        "limit": found.limit,
        "outside": found.outside,
        "nearest": found.nearest,
        "metrics": found.per_metric,
        "from_nearest": found.from_nearest,
    }
    if "connectivity_barrier_over_chance" in values and len(diagnoser.zoo["families"]) > 1:
        told["resembles"] = resembles(values, {"zoo": reference, PUBLIC_TABLE: public_reference()}).nearest
    return told


def _outside_ranges(diagnoser: Diagnoser, values: Mapping[str, float]) -> dict[str, Any]:
    outside: dict[str, float] = {}
    for name, (low, high) in diagnoser.ranges.items():
        if name in values:
            width = max(high - low, 1e-12 * max(abs(low), abs(high)), 1e-300)
            outside[name] = max(0.0, low - values[name], values[name] - high) / width
    share = sum(value > 0 for value in outside.values()) / len(outside) if outside else 0.0
    return {"overall": share, "limit": FOREIGN_SHARE, "outside": share > FOREIGN_SHARE, "metrics": outside}
