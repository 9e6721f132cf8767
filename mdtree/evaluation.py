"""Score a diagnoser on a zoo table, beside baselines that see no loss landscape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mdtree.diagnoser import UNDETERMINED, diagnose_record, readings_disagree
from mdtree.diagnoser_schema import Diagnoser
from mdtree.errors import InputError
from mdtree.fitting import FitOptions, folds_of
from mdtree.leaf_statistics import cell_names
from mdtree.nodes import walk
from mdtree.record import Metric, Record
from mdtree.scoring import BASELINES, Answers, Scores, baseline_predictions, bootstrap_intervals, score
from mdtree.zoo import CAUSES, EVIDENCE, QUESTIONS, UNLABELLED, evidence_metrics

TEMPERATURE = "temperature"
"""The other answer of the questions `model_size` and `data`: the better of the two temperature changes."""


def evaluate(diagnoser: Diagnoser, table: pd.DataFrame, split: str = "auto") -> dict[str, Any]:
    """Scores of every question and evidence set.

    Parameters
    ----------
    diagnoser : Diagnoser
    table : pandas.DataFrame
        A labelled zoo.
    split : {"auto", "held_out", "fit", "all"}
        Which rows to score; `auto` takes the held-out ones where there are any.

    Returns
    -------
    dict
        `rows` (what was scored, in words), `questions` {question: {evidence: scores}} with `baselines` in each; shares
        are 0...1. Accuracy leaves ambiguous rows out, gain and regret count them; rows whose label the grid censors
        count nowhere, their number is `n_censored`. Baselines are fitted on the rows that are not scored, or, where
        all are scored, cross-fitted by cell.

    Raises
    ------
    InputError
        There are no such rows.
    """
    held_out = (table["split"] == "held_out").to_numpy()
    if split == "auto":
        split = "held_out" if held_out.any() else "all"
    mask = {"held_out": held_out, "fit": ~held_out, "all": np.ones(len(table), dtype=bool)}[split]
    mask = mask & (table["diverged"] == 0).to_numpy()
    if not mask.any():
        raise InputError(f"the table has no {split.replace('_', ' ')} rows", "rows to score", "choose another --split")
    scored = table[mask]
    training = None if split == "all" else table[~mask & (table["diverged"] == 0).to_numpy()]
    questions: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        if question not in diagnoser.trees:
            continue
        rows = scored[scored[f"label_{question}"] != "censored"]
        if rows.empty:
            continue
        baselines = {
            name: figures(rows, question, _baseline(name, question, rows, training), len(scored)) for name in BASELINES
        }
        questions[question] = {
            evidence: {
                **figures(rows, question, answers(diagnoser, rows, question, evidence), len(scored)),
                "baselines": baselines,
            }
            for evidence in EVIDENCE
            if evidence in diagnoser.trees[question]
        }
    words = f"{len(scored)} networks in {scored['cell'].nunique()} cells ({split.replace('_', ' ')} rows)"
    return {"rows": words, "split": split, "questions": questions}


def figures(rows: pd.DataFrame, question: str, predicted: np.ndarray, total: int) -> dict[str, Any]:
    """Scores of given answers as JSON-able values, with 95 % bootstrap intervals over cells."""
    truth = rows[f"label_{question}"].to_numpy(dtype=str)
    ambiguous = np.isin(truth, UNLABELLED)
    given = Answers(truth.tolist(), predicted.tolist(), action_gains(rows, question), ambiguous)
    scores = score(given.truth, given.predicted, given.gains, given.ambiguous)
    intervals = bootstrap_intervals(given, cell_names(rows).tolist())
    return {
        **_scores_dict(scores),
        "n_censored": total - len(rows),
        "intervals": {name: [_plain(i.low), _plain(i.high)] for name, i in intervals.items()},
    }


def _scores_dict(scores: Scores) -> dict[str, Any]:
    return {
        "accuracy": _plain(scores.accuracy),
        "balanced_accuracy": _plain(scores.balanced_accuracy),
        "per_class": {label: _plain(value) for label, value in scores.per_class.items()},
        "gain_captured": _plain(scores.gain_captured),
        "regret_points": _plain(scores.regret_points),
        "n": scores.n,
        "n_ambiguous": scores.n_ambiguous,
    }


def _plain(value: float) -> float | None:
    """JSON has no NaN: a figure without rows to stand on is null."""
    return None if math.isnan(value) else float(value)


def answers(diagnoser: Diagnoser, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
    """What the diagnoser answers for every row, given only the metrics of an evidence set.

    The verdict goes the whole way of `diagnose`, gate and margin included. Where a metric is missing, another question
    is answered by the label with most of the weight.
    """
    names = [name for name in evidence_metrics(evidence) if name in rows]
    values = rows[names].to_numpy(dtype=float)
    # no verdict hangs on the distance from the zoo, which would be nine tenths of the work
    diagnoser = replace(diagnoser, reference=None)
    result = []
    for line in values:
        known = {name: float(value) for name, value in zip(names, line, strict=True) if not math.isnan(value)}
        if question == "verdict":
            result.append(diagnose_record(diagnoser, _record(known), evidence=evidence).verdict)
        else:
            weights: dict[str, float] = {}
            for leaf, weight in walk(diagnoser.tree(question, evidence).tree, known).leaves:
                weights[leaf.label] = weights.get(leaf.label, 0.0) + weight
            result.append(max(weights, key=lambda label: weights[label]))
    return np.array(result)


def temperature_where_readings_agree(diagnoser: Diagnoser, rows: pd.DataFrame, evidence: str) -> np.ndarray:
    """The answer to `temperature` for every row; `undetermined` where its readings do not lean to the same side.

    The rule by which a diagnosis withholds a temperature (`mdtree.diagnoser.readings_disagree`), asked of every
    network and not only of those whose verdict is a temperature.
    """
    names = [name for name in evidence_metrics(evidence) if name in rows]
    found = answers(diagnoser, rows, TEMPERATURE, evidence).astype(object)
    for number, line in enumerate(rows[names].to_numpy(dtype=float)):
        known = {name: float(value) for name, value in zip(names, line, strict=True) if not math.isnan(value)}
        if readings_disagree(diagnoser, evidence, str(found[number]), known):
            found[number] = UNDETERMINED
    return found.astype(str)


def _record(values: dict[str, float]) -> Record:
    metrics = {name: Metric(value, 0.0, 1) for name, value in values.items()}
    return Record(checkpoint={}, recipe={}, protocol={}, execution={}, metrics=metrics)


def _baseline(name: str, question: str, rows: pd.DataFrame, training: pd.DataFrame | None) -> np.ndarray:
    label = f"label_{question}"
    if training is not None:
        clear = training[~training[label].isin(UNLABELLED)]
        return baseline_predictions(name, clear, clear[label].to_numpy(dtype=str).tolist(), rows)
    predicted = np.empty(len(rows), dtype=object)
    for held in folds_of(rows, FitOptions()):
        part = rows[~held]
        part = part[~part[label].isin(UNLABELLED)]
        predicted[held] = baseline_predictions(name, part, part[label].to_numpy(dtype=str).tolist(), rows[held])
    return predicted.astype(str)


def action_gains(rows: pd.DataFrame, question: str) -> dict[str, np.ndarray]:
    """True gain in points (the RFI) of what each answer of a question advises."""
    rfi = {direction: rows[f"rfi_{direction}_points"].to_numpy(dtype=float) for direction in CAUSES}
    up, down = rfi["temperature_up"], rfi["temperature_down"]
    if question == "verdict":
        return {CAUSES[direction]: values for direction, values in rfi.items()}
    if question == TEMPERATURE:
        return {CAUSES["temperature_up"]: up, CAUSES["temperature_down"]: down}
    return {CAUSES[question]: rfi[question], TEMPERATURE: np.fmax(up, down)}
