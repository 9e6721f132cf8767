"""What a list of jobs, a comparison and the map of the zoo need of a diagnosis."""

from __future__ import annotations

from typing import Any

from mdtree.diagnosis import Diagnosis
from mdtree.report_words import notes, what_to_try

PLANE = ("log_weight_growth", "train_error_over_chance")
"""The metrics that place a network in the plane of temperature and load (see `mdtree.plots.phase_diagram_data`)."""


def summary_of(diagnosis: Diagnosis) -> dict[str, Any]:
    """Verdict, what to try, the expected gain, and every measured number, as JSON-able values."""
    best = diagnosis.ranking[0]
    advised = best.advice if diagnosis.verdict != "undetermined" else None
    return {
        "verdict": diagnosis.verdict,
        "confidence": diagnosis.confidence,
        "reason": diagnosis.reason,
        "advice": advised.text if advised else None,
        "what_to_try": what_to_try(diagnosis),
        "expected_gain_points": best.expected_gain_points,
        "expected_gain_standard_error": best.expected_gain_standard_error,
        "evidence": diagnosis.diagnoser["evidence"],
        "flags": [*diagnosis.record.flags, *diagnosis.flags],
        "notes": notes(diagnosis),
        "plane": {name: _value(diagnosis, name) for name in PLANE},
        "metrics": {name: _value(diagnosis, name) for name in diagnosis.record.metrics},
    }


def _value(diagnosis: Diagnosis, name: str) -> dict[str, float | None] | None:
    metric = diagnosis.record.metrics.get(name)
    return None if metric is None else {"value": metric.value, "standard_error": metric.standard_error}
