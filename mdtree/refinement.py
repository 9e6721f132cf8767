"""Improve a grown tree as a whole: every question is asked again, knowing what the rest of the tree does.

Greedy growth chooses a question before it knows the ones below. Alternating optimisation (Carreira-Perpiñán and
Tavallali, "Alternating optimization of decision trees", NeurIPS 2018) then visits the nodes bottom-up: with all other
nodes fixed, a row matters to a node only if exactly one of its two branches answers it rightly, and the question that
sends most weight the right way is found exactly, over all metrics and thresholds, by sums over sorted rows. Every
sweep raises the weighted number of right answers or ends the search. The result depends on the start, so several
starts are grown, on seeded subsets of the metrics and by several criteria, and the best tree is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from mdtree.cut_points import cut_point
from mdtree.growth import Criterion, GrowthRules, TrainingRows, grow
from mdtree.nodes import Leaf, Node, leaves, left_shares, numbered

STARTS = 24
"""Starts that the trees of a diagnoser, and the baselines beside them, are given."""

SWEEPS = 20
SUBSET_SHARE = 0.6
"""Share of the metrics a start beyond the first is grown on."""

_NO_GAIN = 1e-9  # relative; below it an improvement is rounding


def grow_refined(data: TrainingRows, rules: GrowthRules, starts: int, seed: int = 0) -> Node:
    """The best of several grown and refined trees.

    Parameters
    ----------
    data : TrainingRows
    rules : GrowthRules
        Its `criterion` grows the first start; all others alternate between the impurities (and, with gains, the worth
        of the best answers).
    starts : int
        Trees to grow and refine; the first sees all metrics.
    seed : int
        Of the subsets of metrics.

    Returns
    -------
    Split or Leaf
        Most weighted right answers on the training rows; the earliest start among equals. It has no more leaves and
        no more depth than the rules allow, and its leaf counts and shares are those of the rows.
    """
    best: Node | None = None
    highest = -np.inf
    for columns, criterion in _starts(data, rules, starts, seed):
        part = replace(data, X=data.X[:, columns], features=tuple(data.features[c] for c in columns))
        # leaves with equal answers stay apart until the end: refining may yet make them differ
        tree = refine(grow(part, replace(rules, criterion=criterion, merge_leaves=False)), data, rules)
        score = right_weight(tree, data)
        if best is None or score > highest + _NO_GAIN * abs(highest):
            best, highest = tree, score
    assert best is not None
    return best


def _starts(data: TrainingRows, rules: GrowthRules, starts: int, seed: int) -> Iterator[tuple[np.ndarray, Criterion]]:
    generator = np.random.default_rng(seed)
    count = data.X.shape[1]
    yield np.arange(count), rules.criterion
    # where gains differ from labels, impurity alone may never see what a question is worth
    kinds: tuple[Criterion, ...] = ("entropy", "gini") if data.gains is None else ("worth", "gini", "entropy")
    for number in range(1, starts):
        size = max(1, round(SUBSET_SHARE * count))
        criterion = kinds[number % len(kinds)]
        yield np.sort(generator.choice(count, size, replace=False)), criterion


def refine(node: Node, data: TrainingRows, rules: GrowthRules, *, thresholds_only: bool = False) -> Node:
    """Alternating optimisation of one tree until no question can be bettered, at most `SWEEPS` times.

    Its weighted number of right answers on the training rows never falls.

    Parameters
    ----------
    node : Split or Leaf
        The start.
    data : TrainingRows
    rules : GrowthRules
    thresholds_only : bool
        Keep the metrics asked, the answers and the number of leaves; only thresholds move.

    Returns
    -------
    Split or Leaf
    """
    rows, part = np.arange(data.codes.size), np.ones(data.codes.size)
    score = right_weight(node, data)
    for _ in range(SWEEPS):
        swept = _populated(_swept(node, data, rules, rows, part, thresholds_only), data, rows, part)
        reached = right_weight(swept, data)
        if reached <= score + _NO_GAIN * abs(score):
            break
        node, score = swept, reached
    node = _populated(node, data, rows, part)
    return numbered(_merged(node) if rules.merge_leaves and not thresholds_only else node)


def right_weight(node: Node, data: TrainingRows) -> float:
    """What the tree's answers are worth to the training rows, labels weighted as in growth.

    Without `TrainingRows.gains` this is the weight of the rows answered rightly, else the weighted sum of the gains.
    """
    return float(_worth_of_answers(node, data, np.arange(data.codes.size)).sum())


def _worth_of_answers(node: Node, data: TrainingRows, rows: np.ndarray) -> np.ndarray:
    """Worth to each row of the answer it gets, shape (len(rows),); missing metrics divide a row between answers."""
    if isinstance(node, Leaf):
        return data.worth(rows)[:, data.labels.index(node.label)]
    to_left = left_shares(node, data.X[rows, data.features.index(node.feature)], len(rows))
    left, right = _worth_of_answers(node.left, data, rows), _worth_of_answers(node.right, data, rows)
    return to_left * left + (1 - to_left) * right


def _swept(
    node: Node, data: TrainingRows, rules: GrowthRules, rows: np.ndarray, part: np.ndarray, thresholds_only: bool
) -> Node:
    """One visit of every node, children first. `part` is the share of each row that reaches this one."""
    if not rows.size:
        return node
    if isinstance(node, Leaf):
        if thresholds_only:
            return node
        return replace(node, label=data.labels[int(np.argmax(part @ data.worth(rows)))])
    to_left = left_shares(node, data.X[rows, data.features.index(node.feature)], len(rows))
    left, right = to_left > 0, to_left < 1
    node = replace(
        node,
        left=_swept(node.left, data, rules, rows[left], (part * to_left)[left], thresholds_only),
        right=_swept(node.right, data, rules, rows[right], (part * (1 - to_left))[right], thresholds_only),
    )
    if_left = part * _worth_of_answers(node.left, data, rows)
    if_right = part * _worth_of_answers(node.right, data, rows)
    now = float((to_left * if_left + (1 - to_left) * if_right).sum())
    columns = [data.features.index(node.feature)] if thresholds_only else range(data.X.shape[1])
    found = _best_question(data, rules, rows, columns, if_left, if_right)
    if found is not None and found[0] > now + _NO_GAIN * abs(now):
        return replace(node, feature=data.features[found[1]], threshold=found[2], share_left=found[3])
    return node


def _best_question(
    data: TrainingRows,
    rules: GrowthRules,
    rows: np.ndarray,
    columns: Iterable[int],
    if_left: np.ndarray,
    if_right: np.ndarray,
) -> tuple[float, int, float, float] | None:
    """Right weight, metric, threshold and share to the left of the question that sends most weight the right way."""
    best: tuple[float, int, float, float] | None = None
    for column in columns:
        found = _best_cut(data.X[rows, column], data.weight[rows], if_left, if_right, rules)
        if found is not None and (best is None or found[0] > best[0] + _NO_GAIN * abs(best[0])):
            best = (found[0], column, found[1], found[2])
    return best


def _best_cut(
    values: np.ndarray, weight: np.ndarray, if_left: np.ndarray, if_right: np.ndarray, rules: GrowthRules
) -> tuple[float, float, float] | None:
    missing = np.isnan(values)
    order = np.argsort(values, kind="stable")[: values.size - int(missing.sum())]
    ordered = values[order]
    cuts = np.flatnonzero(ordered[1:] > ordered[:-1])
    cuts = cuts[(cuts + 1 >= rules.min_samples_leaf) & (ordered.size - cuts - 1 >= rules.min_samples_leaf)]
    if not cuts.size:
        return None
    right = if_right[order].sum() + np.cumsum(if_left[order] - if_right[order])[cuts]
    share = np.cumsum(weight[order])[cuts] / weight[order].sum()
    right = right + share * if_left[missing].sum() + (1 - share) * if_right[missing].sum()
    # of equally good neighbours the middle one: the cut furthest from being wrong
    best = np.flatnonzero(right >= right.max() - _NO_GAIN * abs(right.max()))
    run = best[: 1 + int(np.argmax(np.append(np.diff(best) != 1, True)))]
    at = int(run[len(run) // 2])
    cut = int(cuts[at])
    threshold = cut_point(float(ordered[cut]), float(ordered[cut + 1]), rules.midpoint)
    return float(right[at]), threshold, float(share[at])


def _populated(node: Node, data: TrainingRows, rows: np.ndarray, part: np.ndarray) -> Node:
    """The same questions and answers, with counts and shares of the training rows (missing metrics divided)."""
    if isinstance(node, Leaf):
        counts = np.bincount(data.codes[rows], data.weight[rows] * part, minlength=len(data.labels))
        return replace(node, counts={name: float(c) for name, c in zip(data.labels, counts, strict=True)})
    values = data.X[rows, data.features.index(node.feature)]
    known = ~np.isnan(values)
    total = float((data.weight[rows] * part)[known].sum())
    left_total = float((data.weight[rows] * part)[known & (values <= node.threshold)].sum())
    node = replace(node, share_left=min(1.0, left_total / total) if total > 0 else node.share_left)
    to_left = left_shares(node, values, len(rows))
    left, right = to_left > 0, to_left < 1
    return replace(
        node,
        left=_populated(node.left, data, rows[left], (part * to_left)[left]),
        right=_populated(node.right, data, rows[right], (part * (1 - to_left))[right]),
    )


def _merged(node: Node) -> Node:
    """Neighbouring leaves with the same answer become one; a question with no rows on one side goes."""
    if isinstance(node, Leaf):
        return node
    left, right = _merged(node.left), _merged(node.right)
    for branch, other in ((left, right), (right, left)):
        if not any(sum(leaf.counts.values()) for leaf in leaves(branch)):
            return other
    if isinstance(left, Leaf) and isinstance(right, Leaf) and left.label == right.label:
        return Leaf(left.label, {name: count + right.counts[name] for name, count in left.counts.items()})
    return replace(node, left=left, right=right)
