"""Proof by intervention as JSON: every policy, and every drawn network with what each change of it brought."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdtree.configuration_change import advice_of
from mdtree.intervention import Case
from mdtree.intervention_scores import CaseResult, VerifiedAdvice
from mdtree.rival_advice import DIRECTION_OF
from mdtree.zoo import DIRECTIONS


def verified_to_dict(verified: VerifiedAdvice) -> dict[str, Any]:
    """The JSON form; shares are 0...1, a figure without anything to stand on is null."""
    plan = verified.plan
    return {
        "family": plan.spec.family,
        "diagnoser": dict(plan.cases[0].diagnosis.diagnoser),
        "family_known": plan.family_known,
        "evidence": plan.options.evidence,
        "draw": plan.options.draw,
        "drawn_from": plan.drawn_from,
        "baselines_from": list(plan.baselines_from),
        "fresh_seeds": list(plan.seeds),
        "n": len(plan.cases),
        "networks": len(plan.cells) * len(plan.seeds),
        "verdicts": counted([case.diagnosis.verdict for case in plan.cases]),
        "expected_gain_points": expected_gain(plan.cases),
        "advice_clipped": clipped(plan.cases, ["diagnosis"]),
        "steps_clipped": clipped(plan.cases, DIRECTIONS),
        "policies": {name: _plain(vars(figures)) for name, figures in verified.policies.items()},
        "directions": {name: _plain(vars(gain)) for name, gain in verified.directions.items()},
        "cells": [_case_to_dict(result) for result in verified.cases],
    }


def expected_gain(cases: Sequence[Case]) -> float:
    """Mean gain, in points, that the diagnoses promised; no change promises none."""
    return float(np.mean([_promised(case) for case in cases]))


def _promised(case: Case) -> float:
    found = [c.expected_gain_points for c in case.diagnosis.ranking if c.failure == case.diagnosis.verdict]
    return found[0] or 0.0 if found else 0.0


def counted(words: Sequence[str]) -> dict[str, int]:
    """How often each word stands there, the most frequent first."""
    return {word: words.count(word) for word in sorted(set(words), key=lambda word: (-words.count(word), word))}


def clipped(cases: Sequence[Case], which: Sequence[str]) -> dict[str, dict[str, int]]:
    """For directions, or `diagnosis`: how many steps were shortened, and how many of these left nothing to change."""
    found = {}
    for name in which:
        directions = [name if name in DIRECTIONS else DIRECTION_OF.get(case.diagnosis.verdict) for case in cases]
        changes = [case.changes[d] for case, d in zip(cases, directions, strict=True) if d is not None]
        found[name] = {
            "clipped": sum(change.clipped for change in changes),
            "impossible": sum(change.cell is None for change in changes),
        }
    return found


def _case_to_dict(result: CaseResult) -> dict[str, Any]:
    case = result.case
    diagnosis = case.diagnosis
    advised = DIRECTION_OF.get(case.diagnosis.verdict)
    return {
        "cell": case.cell.name,
        "seed": case.seed,
        "verdict": diagnosis.verdict,
        "confidence": diagnosis.confidence,
        "reason": diagnosis.reason,
        "advice": advice_of(diagnosis, diagnosis.verdict).to_dict() if advised else None,
        "expected_gain_points": _promised(case),
        "unchanged_error_percent": _plain(vars(result.unchanged_error_percent)),
        "changes": {
            direction: {
                "parameter": change.parameter,
                "from": change.old,
                "to": change.wanted,
                "trained": None if change.cell is None else change.new,
                **_plain(vars(result.directions[direction])),
            }
            for direction, change in case.changes.items()
        },
        "policies": {
            name: {**({"direction": result.chosen[name]} if name in result.chosen else {}), **_plain(vars(gain))}
            for name, gain in result.policies.items()
        },
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in values.items()}
