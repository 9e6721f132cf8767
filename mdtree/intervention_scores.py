"""Proof by intervention, the reckoning: what each policy's changes truly brought, beside the best change there was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mdtree.intervention import Case, InterventionPlan
from mdtree.rival_advice import TREES
from mdtree.zoo import DIRECTIONS

POLICIES = ("diagnosis", "no_change", "random", "constant", *TREES, "best")
"""Who advises: the diagnoser; nobody; a random one of the four directions (its expectation, nothing is drawn); always
the direction that gains most on the baselines' training rows; trees on the training configuration and on errors and
losses; the best of the four and of no change, chosen on other seeds than it is scored on."""

HARM_POINTS = 1.0
LEVEL, RESAMPLES = 0.95, 10_000


@dataclass(frozen=True)
class PolicyFigures:
    """What a policy brought, over the drawn cells; a figure without anything to stand on is NaN.

    Attributes
    ----------
    gain_points, standard_error : float
        Mean change of test accuracy in points, losses included, and its standard error over cells. Of no change the
        gain is 0 by definition and the standard error that of retraining: what as many retrainings, compared with as
        many others, would scatter by.
    share_of_best, low, high : float
        Summed gain over that of the best change, with the 95 % bootstrap interval over cells. The best change is
        chosen on half of the seeds and misses the true best now and then, so a share may exceed 1.
    harmed : float
        Share of cells that lost more than `HARM_POINTS`.
    changed : float
        Share of cells where something was advised and could be changed.
    lead_points, lead_standard_error : float
        Mean gain of the diagnosis over this policy, paired by cell.
    n : int
    """

    gain_points: float
    standard_error: float
    share_of_best: float
    low: float
    high: float
    harmed: float
    changed: float
    lead_points: float
    lead_standard_error: float
    n: int


@dataclass(frozen=True)
class Gain:
    """Gain in points of one cell and its standard error over fresh seeds (paired by seed)."""

    points: float
    standard_error: float


@dataclass(frozen=True)
class CaseResult:
    """What was gained on one drawn network.

    Attributes
    ----------
    case : Case
    chosen : mapping of policy to (str or None)
        The direction advised, None for no change; policies that always choose by themselves are left out.
    unchanged_error_percent : Gain
        Mean test error of the unchanged configuration over the fresh seeds.
    directions : mapping of direction to Gain
        Of the step itself; 0 where nothing could be changed.
    policies : mapping of policy to Gain
    """

    case: Case
    chosen: Mapping[str, str | None]
    unchanged_error_percent: Gain
    directions: Mapping[str, Gain]
    policies: Mapping[str, Gain]


@dataclass(frozen=True)
class VerifiedAdvice:
    """What the advice of a diagnoser brought: `policies`, the four steps made everywhere, and every network."""

    plan: InterventionPlan
    policies: Mapping[str, PolicyFigures]
    directions: Mapping[str, Gain]
    cases: tuple[CaseResult, ...]


def score_interventions(plan: InterventionPlan, errors: Mapping[str, np.ndarray]) -> VerifiedAdvice:
    """Compare the changed configurations with the unchanged ones.

    Parameters
    ----------
    plan : InterventionPlan
    errors : mapping of cell to array, shape (seeds,)
        Test error in percent of every configuration of the plan, in the order of its seeds.

    Returns
    -------
    VerifiedAdvice
    """
    unchanged = np.stack([errors[case.cell.name] for case in plan.cases])
    steps = np.stack([_step_gains(case, errors) for case in plan.cases])
    possible = np.array([[case.changes[d].cell is not None for d in DIRECTIONS] for case in plan.cases])
    gains, harmed, changed = {}, {}, {}
    for name in POLICIES:
        share = _shares(name, plan)
        gains[name] = _best_gains(steps) if share is None else np.einsum("nd,nds->ns", share, steps)
        if share is None:
            harmed[name] = gains[name].mean(axis=1) < -HARM_POINTS
            changed[name] = (gains[name] != 0).any(axis=1)
        else:
            harmed[name] = (share * (steps.mean(axis=2) < -HARM_POINTS)).sum(axis=1)
            changed[name] = (share * possible).sum(axis=1)
    noise = math.sqrt(2) * _errors_of_mean(unchanged)
    resampled = _resamples(len(plan.cases))
    figures = {
        name: _figures(name, gains, float(harmed[name].mean()), float(changed[name].mean()), resampled)
        for name in POLICIES
    }
    figures["no_change"] = _with_noise(figures["no_change"], noise)
    cases = tuple(
        CaseResult(
            case=case,
            chosen={name: directions[i] for name, directions in plan.chosen.items()},
            unchanged_error_percent=_gain(unchanged[i]),
            directions={d: _gain(steps[i, k]) for k, d in enumerate(DIRECTIONS)},
            policies={
                name: Gain(0.0, float(noise[i])) if name == "no_change" else _gain(gains[name][i]) for name in POLICIES
            },
        )
        for i, case in enumerate(plan.cases)
    )
    return VerifiedAdvice(
        plan=plan,
        policies=figures,
        directions={d: _gain(steps[:, k].mean(axis=1)) for k, d in enumerate(DIRECTIONS)},
        cases=cases,
    )


def _step_gains(case: Case, errors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Gain of the step in every direction by seed, shape (directions, seeds); 0 where nothing can be changed."""
    before = errors[case.cell.name]
    changed = (case.changes[direction].cell for direction in DIRECTIONS)
    return np.stack([np.zeros_like(before) if cell is None else before - errors[cell.name] for cell in changed])


def _shares(name: str, plan: InterventionPlan) -> np.ndarray | None:
    """How often a policy takes each direction, shape (cells, directions); None of the best change."""
    if name == "best":
        return None
    if name == "no_change":
        return np.zeros((len(plan.cases), len(DIRECTIONS)))
    if name == "random":
        return np.full((len(plan.cases), len(DIRECTIONS)), 1 / len(DIRECTIONS))
    return np.array([[float(chosen == d) for d in DIRECTIONS] for chosen in plan.chosen[name]])


def _best_gains(steps: np.ndarray) -> np.ndarray:
    """Gain of the best of all directions and no change, shape (cells, seeds).

    Chosen on one half of the seeds and scored on the other, both ways round.
    """
    cells, _, seeds = steps.shape
    halves = slice(0, seeds // 2), slice(seeds // 2, seeds)
    gains = np.zeros((cells, seeds))
    for chosen_on, scored_on in (halves, halves[::-1]):
        means = steps[:, :, chosen_on].mean(axis=2)
        best = means.argmax(axis=1)
        helps = means.max(axis=1) > 0
        gains[helps, scored_on] = steps[helps, best[helps], scored_on]
    return gains


def _figures(
    name: str, gains: Mapping[str, np.ndarray], harmed: float, changed: float, resampled: np.ndarray
) -> PolicyFigures:
    own, best, diagnosis = (gains[policy].mean(axis=1) for policy in (name, "best", "diagnosis"))
    share, low, high = _ratio(own, best, resampled)
    total, lead = _gain(own), _gain(diagnosis - own)
    return PolicyFigures(
        gain_points=total.points,
        standard_error=total.standard_error,
        share_of_best=share,
        low=low,
        high=high,
        harmed=harmed,
        changed=changed,
        lead_points=lead.points,
        lead_standard_error=lead.standard_error,
        n=len(own),
    )


def _with_noise(figures: PolicyFigures, noise: np.ndarray) -> PolicyFigures:
    """The figures of no change with the scatter of retraining as standard error."""
    error = float(np.sqrt((noise**2).sum()) / len(noise))
    return PolicyFigures(**{**vars(figures), "standard_error": error})


def _resamples(cells: int) -> np.ndarray:
    """How often each cell is drawn, shape (resamples, cells)."""
    return np.random.default_rng(0).multinomial(cells, np.full(cells, 1 / cells), size=RESAMPLES).astype(float)


def _ratio(above: np.ndarray, below: np.ndarray, resampled: np.ndarray) -> tuple[float, float, float]:
    """Quotient of the sums with its bootstrap interval; NaN where the best change gains nothing."""
    if below.sum() <= 0:
        return math.nan, math.nan, math.nan
    tops, bottoms = resampled @ above, resampled @ below
    low, high = np.quantile(tops[bottoms > 0] / bottoms[bottoms > 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(above.sum() / below.sum()), float(low), float(high)


def _gain(values: np.ndarray) -> Gain:
    return Gain(float(values.mean()), float(_errors_of_mean(values[None])[0]))


def _errors_of_mean(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean of each row; NaN of a single value."""
    count = values.shape[1]
    return values.std(axis=1, ddof=1) / math.sqrt(count) if count > 1 else np.full(len(values), math.nan)
