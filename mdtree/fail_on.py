"""When a diagnosis is to fail a pipeline: which causes, and how probable they must be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.zoo import FAILURES

UNDETERMINED = "undetermined"
VERDICTS = (*FAILURES, UNDETERMINED)


@dataclass(frozen=True)
class FailOn:
    """The condition of `mdtree diagnose --fail-on`.

    Attributes
    ----------
    verdicts : tuple of str
        Any of these matches; `undetermined` only where it stands here.
    min_confidence : float
        Probability (0...1) that a verdict must have; an undetermined one has none, and matches whatever is asked.
    """

    verdicts: tuple[str, ...]
    min_confidence: float = 0.0

    def matches(self, diagnosis: Diagnosis) -> bool:
        """Whether this diagnosis is to fail."""
        if diagnosis.verdict not in self.verdicts:
            return False
        return diagnosis.verdict == UNDETERMINED or diagnosis.confidence >= self.min_confidence

    def matched(self, diagnoses: Sequence[Diagnosis]) -> list[Diagnosis]:
        """Those of several that are to fail."""
        return [diagnosis for diagnosis in diagnoses if self.matches(diagnosis)]


def parse_fail_on(causes: str, min_confidence: float | None = None) -> FailOn:
    """Read ``temperature_too_high,model_too_small``.

    Parameters
    ----------
    causes : str
        Verdicts, parted by commas; ``-`` and blanks stand for ``_``.
    min_confidence : float, optional
        0...1.

    Raises
    ------
    InputError
        A name that is no verdict (the nearest one is told), none at all, or a probability outside 0...1.
    """
    names = [name.strip().replace("-", "_").replace(" ", "_") for name in causes.split(",")]
    for name in names:
        if name not in VERDICTS:
            near = difflib.get_close_matches(name, VERDICTS, 1)
            mend = f"did you mean {near[0]}?" if near else ""
            raise InputError(f"--fail-on {name!r} is no verdict", f"one of {', '.join(VERDICTS)}", mend)
    least = 0.0 if min_confidence is None else min_confidence
    if not 0 <= least <= 1:
        raise InputError(f"--min-confidence {least:g}", "a probability between 0 and 1")
    return FailOn(tuple(dict.fromkeys(names)), least)
