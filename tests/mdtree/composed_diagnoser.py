"""A composed verdict whose question trees are written by hand, small enough to walk on paper."""

from __future__ import annotations

import math

from mdtree.composition import composed_tree
from mdtree.diagnoser_schema import Diagnoser, LeafStatistics, NotTrainingGate, QuestionTree, StepGain
from mdtree.nodes import Leaf, Node, Split, leaves
from mdtree.zoo import DIRECTIONS, FAILURES

COLD, HOT, SMALL, LITTLE, HEALTHY = (
    "temperature_too_low",
    "temperature_too_high",
    "model_too_small",
    "too_little_data",
    "healthy",
)


def reading(feature: str, threshold: float) -> Split:
    """Cold below a threshold, hot above: 40 networks were cold, 60 hot."""
    return Split(
        feature, threshold, Leaf(COLD, {COLD: 30.0, HOT: 10.0}, 0), Leaf(HOT, {COLD: 10.0, HOT: 50.0}, 1), 0.375
    )


P_COLD_SIDE = (10 / 60) / (10 / 60 + 30 / 40)
P_HOT_SIDE = (50 / 60) / (50 / 60 + 10 / 40)
"""Probability of a temperature too high in the two leaves of a reading, were cold and hot networks as many."""

TREES: dict[str, Node] = {
    "healthy": Split("train_error_over_chance", 0.1, Leaf(HEALTHY, {}, 0), Leaf("not_healthy", {}, 1), 0.25),
    "model_size": Split("feature_rank_share", 0.5, Leaf("temperature", {}, 0), Leaf(SMALL, {}, 1), 0.75),
    "data": Split(
        "logit_spread",
        2.0,
        Split("train_loss_over_chance", 0.3, Leaf("temperature", {}, 0), Leaf(LITTLE, {}, 1), 0.5),
        Leaf(LITTLE, {}, 2),
        0.625,
    ),
    "temperature": reading("log_weight_growth", 1.0),
    "model_or_data": Split("cka", 0.9, Leaf(SMALL, {}, 0), Leaf(LITTLE, {}, 1), 0.4),
    "temperature_by_growth": reading("idle_feature_share", 0.2),
    "temperature_by_gradient": reading("weight_noise_loss_over_chance", 0.05),
}
VERDICTS = (COLD, HOT, LITTLE, SMALL, LITTLE, SMALL, HEALTHY)
"""The answers of the composed verdict's leaves, in their order."""

SICK = {"train_error_over_chance": 0.4}
ENOUGH = {"feature_rank_share": 0.2, "logit_spread": 1.0, "train_loss_over_chance": 0.1}
"""Neither model nor data hold it back."""


def by_hand(values: dict[str, float]) -> list[float]:
    """Weight of the seven leaves: what every question's tree above says, multiplied along the ways.

    A missing metric (NaN) counts by the share of the networks that went left.
    """

    def above(name: str, threshold: float, share_left: float) -> float:
        value = values.get(name, math.nan)
        return 1 - share_left if math.isnan(value) else float(value > threshold)

    healthy = 1 - above("train_error_over_chance", 0.1, 0.25)
    small = above("feature_rank_share", 0.5, 0.75)
    spread, loss = above("logit_spread", 2.0, 0.625), above("train_loss_over_chance", 0.3, 0.5)
    little = spread + (1 - spread) * loss
    hot = above("log_weight_growth", 1.0, 0.375)
    rather_small = 1 - above("cka", 0.9, 0.4)
    sick = 1 - healthy
    return [
        sick * (1 - small) * (1 - little) * (1 - hot),
        sick * (1 - small) * (1 - little) * hot,
        sick * (1 - small) * little,
        sick * small * (1 - little),
        sick * small * little * (1 - rather_small),
        sick * small * little * rather_small,
        healthy,
    ]


def leaf_of(failure: str, share: float = 0.8) -> LeafStatistics:
    """Statistics of a leaf where one cause has a given probability, and the others the rest in equal parts."""
    return LeafStatistics(
        counts={f: 10.0 * (f == failure) for f in FAILURES},
        probability={f: share if f == failure else (1 - share) / 4 for f in FAILURES},
        room_points=dict.fromkeys(DIRECTIONS, 7.0),
        steps=dict.fromkeys(DIRECTIONS, StepGain(4.0, 5.0, 0.5, 0.25, 0.05, 9)),
    )


def composed_diagnoser() -> Diagnoser:
    """A diagnoser of these trees for the evidence `alone`."""
    verdict = composed_tree(healthy=True)
    statistics = tuple(leaf_of(leaf.label) for leaf in leaves(verdict))
    trees = {question: {"alone": QuestionTree(tree)} for question, tree in TREES.items()}
    return Diagnoser(
        name="by hand",
        zoo={"families": ["f", "g"], "data_sets": ["digits"], "protocols": ["p"], "rows": 30, "cells": 6},
        trees={**trees, "verdict": {"alone": QuestionTree(verdict, statistics)}},
        ranges={},
        not_training=NotTrainingGate(0.9, 1e-4),
    )
