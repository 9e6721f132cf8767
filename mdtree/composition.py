"""The verdict composed of questions: each has a readable tree of its own, and a small fixed tree asks their answers.

Fitted on one family of networks, a verdict tree of its own does as well and is shorter. Across families the questions
travel better than the verdict: whether temperature or size holds a network back is told by the same signs everywhere,
how often which of them is the worst is not. So where a zoo holds several families the verdict asks

1. is it healthy?
2. does the temperature hold it back, or the model's size?
3. does the temperature hold it back, or the amount of data?
4. if both times the temperature: is it too high or too low? If neither: is it the model or the data?

Two further readings of the temperature, which may ask only for signs that break in different regimes (growth of the
weights and units that fell silent, against gradient, curvature and loss), stand beside its tree: where their mean does
not lean clearly to one side, no temperature is blamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mdtree.nodes import Leaf, Node, Split, Step, Walk, leaf_weights, leaves, numbered, splits, walk
from mdtree.zoo import CAUSES

MODEL_OR_DATA = "model_or_data"
HEALTHY = "healthy"
BY_GROWTH = "temperature_by_growth"
BY_GRADIENT = "temperature_by_gradient"

COMPONENTS = (HEALTHY, "model_size", "data", "temperature", MODEL_OR_DATA)
"""Questions the composed verdict asks, in this order."""

READINGS = ("temperature", BY_GROWTH, BY_GRADIENT)
"""Trees whose mean must lean to one side before a temperature is blamed."""

READING_METRICS = {
    BY_GROWTH: ("log_weight_growth", "idle_feature_share", "feature_rank_share", "train_error_over_chance"),
    BY_GRADIENT: (
        "gradient_norm_squared_per_parameter",
        "hessian_trace_per_parameter",
        "hessian_top_eigenvalue_per_parameter",
        "weight_noise_loss_over_chance",
        "train_loss_over_chance",
        "logit_spread",
    ),
}

LEAN = 0.15
"""How far the readings' mean probability of a temperature too high must lie from one half."""

_POSITIVE = {
    "answer_healthy": (HEALTHY, HEALTHY),
    "answer_model_size": ("model_size", CAUSES["model_size"]),
    "answer_data": ("data", CAUSES["data"]),
    "answer_temperature": ("temperature", CAUSES["temperature_down"]),
    "answer_model_or_data": (MODEL_OR_DATA, CAUSES["model_size"]),
}
ANSWERS = tuple(_POSITIVE)
"""What a composed verdict asks for in place of metrics: the weight (0...1) with which a question's tree gives its
positive answer (healthy, model too small, too little data, temperature too high, model too small)."""

QUESTION_TEXT = {
    HEALTHY: "healthy?",
    "model_size": "held back by the model's size\nrather than by the temperature?",
    "data": "held back by the amount of data\nrather than by the temperature?",
    "temperature": "temperature too high\nrather than too low?",
    MODEL_OR_DATA: "held back by the model's size\nrather than by the amount of data?",
}
"""The questions in words; their positive answer is yes."""

ONE_HALF = 0.5


@dataclass(frozen=True)
class ComposedWalk:
    """The way through a composed verdict.

    Attributes
    ----------
    walk : Walk
        Its path holds every metric that was asked, question by question; its leaves are the verdict's.
    above : tuple of Step
        The answers that were asked for; the value is the weight of the positive one, None where a metric is missing
        and both answers have some.
    """

    walk: Walk
    above: tuple[Step, ...]


def composed_tree(healthy: bool) -> Node:
    """The tree that asks the questions' answers; `healthy` says whether there is a tree for that question."""
    small, little = CAUSES["model_size"], CAUSES["data"]
    temperature = Split(
        "answer_temperature", ONE_HALF, Leaf(CAUSES["temperature_up"]), Leaf(CAUSES["temperature_down"])
    )
    both = Split("answer_model_or_data", ONE_HALF, Leaf(little), Leaf(small))
    tree: Node = Split(
        "answer_model_size",
        ONE_HALF,
        Split("answer_data", ONE_HALF, temperature, Leaf(little)),
        Split("answer_data", ONE_HALF, Leaf(small), both),
    )
    if healthy:
        tree = Split("answer_healthy", ONE_HALF, tree, Leaf(HEALTHY))
    return numbered(tree)


def is_composed(tree: Node) -> bool:
    """Whether a verdict tree asks answers of other trees."""
    return any(split.feature in ANSWERS for split in splits(tree))


def question_of(answer: str) -> str:
    """The question whose answer is asked for."""
    return _POSITIVE[answer][0]


def walk_composed(
    tree: Node,
    trees: Mapping[str, Node],
    values: Mapping[str, float],
    standard_errors: Mapping[str, float] | None = None,
) -> ComposedWalk:
    """Walk the questions a composed verdict comes to ask, and the verdict.

    Parameters
    ----------
    tree : Node
        Of `composed_tree`.
    trees : mapping of question to Node
    values, standard_errors : mapping of metric to float
        As for `mdtree.nodes.walk`.

    Returns
    -------
    ComposedWalk
    """
    walks = {question: walk(trees[question], values, standard_errors) for question in _asked_by(tree)}
    votes = {answer: _weight(walks[question_of(answer)], answer) for answer in ANSWERS if question_of(answer) in walks}
    # a question whose tree is divided (a metric was missing) divides the verdict's walk as well
    shares = {answer: vote if vote in (0.0, 1.0) else None for answer, vote in votes.items()}
    divided = _with_shares(tree, votes)
    above = walk(divided, {answer: vote for answer, vote in shares.items() if vote is not None})
    asked = list(dict.fromkeys(question_of(step.feature) for step in above.path))
    path: list[Step] = []
    for question in asked:
        path += [replace(step, question=question) for step in walks[question].path]
    return ComposedWalk(Walk(tuple(path), above.leaves), above.path)


def composed_leaf_weights(
    tree: Node, trees: Mapping[str, Node], columns: Mapping[str, np.ndarray], n_rows: int
) -> np.ndarray:
    """The same for many rows at once, without paths. Shape (rows, leaves of the verdict); rows sum to 1."""
    reached = np.zeros((n_rows, len(leaves(tree))))
    votes = {
        answer: leaf_weights(trees[question], columns, n_rows) @ _says(trees[question], positive)
        for answer, (question, positive) in _POSITIVE.items()
        if question in trees
    }

    def visit(node: Node, share: np.ndarray) -> None:
        if isinstance(node, Leaf):
            reached[:, node.index] = share
            return
        visit(node.left, share * (1.0 - votes[node.feature]))
        visit(node.right, share * votes[node.feature])

    visit(tree, np.ones(n_rows))
    return reached


def lean(trees: Mapping[str, Node], values: Mapping[str, float]) -> float | None:
    """Mean of the readings' probabilities that the temperature is too high, less one half: -0.5...0.5.

    None where a reading has no tree.
    """
    if not all(reading in trees for reading in READINGS):
        return None
    hot = CAUSES["temperature_down"]
    found = [probability(trees[reading], walk(trees[reading], values), hot) for reading in READINGS]
    return sum(found) / len(found) - ONE_HALF


def probability(tree: Node, walked: Walk, label: str) -> float:
    """Share of a label in the leaves reached if all labels were equally frequent among the training rows."""
    totals: dict[str, float] = {}
    for leaf in leaves(tree):
        for name, count in leaf.counts.items():
            totals[name] = totals.get(name, 0.0) + count
    found = 0.0
    for leaf, weight in walked.leaves:
        shares = {name: count / totals[name] for name, count in leaf.counts.items() if totals[name] > 0}
        total = sum(shares.values())
        found += weight * (shares.get(label, 0.0) / total if total > 0 else float(leaf.label == label))
    return found


def _asked_by(tree: Node) -> list[str]:
    return list(dict.fromkeys(question_of(split.feature) for split in splits(tree)))


def _weight(walked: Walk, answer: str) -> float:
    positive = _POSITIVE[answer][1]
    weight = sum(share for leaf, share in walked.leaves if leaf.label == positive)
    # sums of shares may miss 0 and 1 by their last bits
    return 1.0 if weight > 1 - 1e-9 else 0.0 if weight < 1e-9 else weight


def _with_shares(tree: Node, votes: Mapping[str, float]) -> Node:
    if isinstance(tree, Leaf):
        return tree
    left, right = _with_shares(tree.left, votes), _with_shares(tree.right, votes)
    return replace(tree, left=left, right=right, share_left=1.0 - votes[tree.feature])


def _says(tree: Node, label: str) -> np.ndarray:
    return np.array([float(leaf.label == label) for leaf in leaves(tree)])
