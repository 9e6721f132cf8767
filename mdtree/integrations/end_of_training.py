"""What all trainers' callbacks do when training ends: read the scores, measure the network at hand, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from torch import nn

from mdtree.diagnose import diagnose_network
from mdtree.diagnosis import Diagnosis
from mdtree.errors import MDTreeError
from mdtree.manifest import Manifest
from mdtree.report import diagnosis_text

_log = logging.getLogger("mdtree")


def read_scores(logged: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    """The logged values that `names` maps to a score; an accuracy up to 1 is a share and becomes percent."""
    found = {score: float(logged[name]) for score, name in names.items() if name in logged}
    return {
        score: 100 * value if score.endswith("accuracy_percent") and value <= 1 else value
        for score, value in found.items()
    }


def diagnose_at_end(
    model: nn.Module, data: object, manifest: Manifest, report: Callable[[str], object]
) -> Diagnosis | None:
    """Diagnose a network still in memory and hand its report on.

    Data that cannot be used (of several shapes, augmented, not those it was trained on) end no training script before
    it has saved its network: the logger ``mdtree`` warns, and None is returned.
    """
    try:
        diagnosis = diagnose_network(model, data, manifest=manifest)
    except MDTreeError as error:
        _log.warning("mdtree: no diagnosis at the end of training: %s", error)
        return None
    report(diagnosis_text(diagnosis))
    return diagnosis
