"""What all trainers' callbacks do when training ends: read the scores, measure the network at hand, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from mdtree.diagnose import diagnose_network
from mdtree.diagnosis import Diagnosis
from mdtree.manifest import Manifest
from mdtree.report import diagnosis_text


def read_scores(logged: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    """The logged values that `names` maps to a score; an accuracy up to 1 is a share and becomes percent."""
    found = {score: float(logged[name]) for score, name in names.items() if name in logged}
    return {
        score: 100 * value if score.endswith("accuracy_percent") and value <= 1 else value
        for score, value in found.items()
    }


def diagnose_at_end(model: nn.Module, data: object, manifest: Manifest, report: Callable[[str], object]) -> Diagnosis:
    """Diagnose a network still in memory and hand its report on.

    Raises
    ------
    InputError
        If the data cannot be used: of several shapes, shuffled in a way that cannot be undone, augmented.
    """
    diagnosis = diagnose_network(model, data, manifest=manifest)
    report(diagnosis_text(diagnosis))
    return diagnosis
