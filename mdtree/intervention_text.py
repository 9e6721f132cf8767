"""What `mdtree verify-advice` prints."""

from __future__ import annotations

import math

from mdtree.intervention_json import clipped, counted, expected_gain
from mdtree.intervention_scores import HARM_POINTS, POLICIES, PolicyFigures, VerifiedAdvice
from mdtree.report import table

_NAMES = {
    "diagnosis": "the diagnosis",
    "no_change": "no change",
    "random": "a random change",
    "constant": "constant advice",
    "hyperparameters": "hyperparameter tree",
    "validation": "validation tree",
    "best": "best change",
}


def verified_text(verified: VerifiedAdvice) -> str:
    """The table of policies, with what was drawn above it and what could not be changed below."""
    plan = verified.plan
    name = plan.cases[0].diagnosis.diagnoser["name"]
    known = "fitted on other cells of it" if plan.family_known else "not fitted on it"
    verdicts = counted([case.diagnosis.verdict for case in plan.cases])
    constant = plan.chosen["constant"][0]
    header = ("", "gain", "±", "of the best", "95 %", "harmed", "changed", "diagnosis ahead by")
    rows = [header, *(_row(policy, verified.policies[policy]) for policy in POLICIES)]
    own = clipped(plan.cases, ["diagnosis"])["diagnosis"]
    lines = [
        f"{plan.spec.family}: {len(plan.cases)} of {plan.drawn_from}; diagnoser {name} ({known}), evidence "
        f"{plan.options.evidence.replace('_', ' ')}",
        f"Verdicts: {', '.join(f'{word} {count}' for word, count in verdicts.items())}",
        f"Every configuration trained from {len(plan.seeds)} fresh seeds, {len(plan.cells) * len(plan.seeds)} networks"
        f"; baselines fitted on {', '.join(plan.baselines_from)}",
        "",
        table(rows, right=range(1, len(header))),
        "",
        f"gain: mean true change of test accuracy in points, losses included, ± its standard error over cells (of no "
        f"change: of retraining). harmed: cells that lost more than {HARM_POINTS:g} point.",
        "best change: chosen on half of the seeds, scored on the other half, both ways round.",
        f"constant advice: {(constant or 'no change').replace('_', ' ')}. Each step made everywhere: "
        + ", ".join(f"{d.replace('_', ' ')} {g.points:+.2f}" for d, g in verified.directions.items()),
        f"The diagnosis expected a gain of {expected_gain(plan.cases):.2f}. Its advice was shortened to what data and "
        f"architecture allow: {own['clipped']} times, {own['impossible']} of them to nothing",
    ]
    return "\n".join(lines)


def _row(policy: str, figures: PolicyFigures) -> tuple[str, ...]:
    lead = "" if policy == "diagnosis" else f"{figures.lead_points:.2f} ± {_number(figures.lead_standard_error)}"
    return (
        _NAMES[policy],
        f"{figures.gain_points:.2f}",
        _number(figures.standard_error),
        _percent(figures.share_of_best),
        "" if math.isnan(figures.low) else f"{figures.low:.0%} to {figures.high:.0%}",
        f"{figures.harmed:.0%}",
        f"{figures.changed:.0%}",
        lead,
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"
