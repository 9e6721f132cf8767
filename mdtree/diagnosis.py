"""The answer: what a diagnosis holds, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mdtree.advice import Advice
from mdtree.nodes import Step
from mdtree.record import Record

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Candidate:
    """One line of the ranking.

    Attributes
    ----------
    failure : str
        A failure mode or `healthy`.
    probability : float
        0...1; the candidates' probabilities sum to 1. Causes count as equally frequent before measuring (in a composed
        verdict as the square root of their frequency).
    room_points : float or None
        Mean room for improvement in that direction among the zoo's networks in this leaf, points of test accuracy.
    expected_gain_points, expected_gain_standard_error : float or None
        Mean true gain of the advised step there; may be negative. Where the checkpoint's test error is known, it is the
        mean share of the error that the step removed, applied to it, and never more than it.
    advice : Advice or None
    """

    failure: str
    probability: float
    room_points: float | None
    expected_gain_points: float | None
    expected_gain_standard_error: float | None
    advice: Advice | None


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What is wrong, how sure that is, what to try, and how the answer was reached.

    Attributes
    ----------
    record : Record
        The measurements it rests on.
    verdict : str
        A failure mode, `healthy` or `undetermined`.
    confidence : float
        The verdict's probability (of the leading candidate where undetermined).
    reason : str or None
        Refinement: `unconverged` or `sharp`; `noise_floor` or `instability`.
    ranking : tuple of Candidate
        Most probable first.
    path : tuple of Step
        The splits that were asked, in order.
    flags : tuple of str
        What a careful reader should know.
    settle : tuple of str
        What would make an undecided case clear.
    distance_from_zoo : dict
        As `mdtree.distance.distance_from_zoo` tells it.
    diagnoser : dict
        Name, evidence set, and the zoo it was fitted on.
    answers : dict of question to bool or None
        How each question of a composed verdict was answered, in the order asked; None where a metric was missing and
        both answers were followed. Empty where the verdict has one tree of its own.
    leaves : dict of label to float
        What the tree answers where the path ends; several with their weights where a metric was missing. The verdict
        may differ: it is the most probable cause there, and may be withheld.
    """

    record: Record
    verdict: str
    confidence: float
    reason: str | None
    ranking: tuple[Candidate, ...]
    path: tuple[Step, ...]
    flags: tuple[str, ...]
    settle: tuple[str, ...]
    distance_from_zoo: Mapping[str, Any]
    diagnoser: Mapping[str, Any]
    answers: Mapping[str, bool | None] = field(default_factory=dict)
    leaves: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        path = self.record.checkpoint.get("path", "record")
        return f"<Diagnosis of {path}: {self.verdict}, {self.confidence:.0%}>"

    def to_dict(self) -> dict[str, Any]:
        """The record and the diagnosis as JSON-able values."""
        return {
            **self.record.to_dict(),
            "verdict": self.verdict,
            "confidence": self.confidence,
            "reason": self.reason,
            "ranking": [
                {
                    "failure": c.failure,
                    "probability": c.probability,
                    "room_points": c.room_points,
                    "expected_gain_points": c.expected_gain_points,
                    "expected_gain_standard_error": c.expected_gain_standard_error,
                    "advice": c.advice.to_dict() if c.advice else None,
                }
                for c in self.ranking
            ],
            "path": [
                {
                    "metric": s.feature,
                    "value": s.value,
                    "standard_error": s.standard_error,
                    "threshold": s.threshold,
                    "side": s.side,
                    "share_of_zoo": s.share_of_zoo,
                    "straddles": s.straddles,
                    **({"question": s.question} if s.question else {}),
                }
                for s in self.path
            ],
            "flags": [*self.record.flags, *self.flags],
            "settle": list(self.settle),
            "distance_from_zoo": dict(self.distance_from_zoo),
            "diagnoser": dict(self.diagnoser),
            "answers": [{"question": name, "answer": answer} for name, answer in self.answers.items()],
            "leaves": [{"label": label, "weight": weight} for label, weight in self.leaves.items()],
        }

    # the three views read this class: they are imported when called

    def to_json(self) -> str:
        """The text that `mdtree diagnose --json` prints, without its line end."""
        from mdtree.diagnosis_views import to_json

        return to_json(self)

    def to_frame(self) -> pd.DataFrame:
        """One row for every cause, most probable first (see `mdtree.diagnosis_views.to_frame`)."""
        from mdtree.diagnosis_views import to_frame

        return to_frame(self)

    def _repr_html_(self) -> str:
        from mdtree.diagnosis_views import to_html

        return to_html(self)
