"""Decision trees as plain data: what a split and a leaf are, one walk through them, one rendering."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mdtree.cut_points import format_threshold

STRADDLE = 1.96
"""Standard errors between value and threshold below which a side is not sure (two-sided 95 % of a normal)."""

Side = Literal["left", "right", "both"]


@dataclass(frozen=True)
class Leaf:
    """An end of the tree.

    Attributes
    ----------
    label : str
        The answer given here.
    counts : mapping of str to float
        Weight of the training rows that ended here, per label.
    index : int
        Number of the leaf, counted from 0 left to right.
    """

    label: str
    counts: Mapping[str, float] = field(default_factory=dict, hash=False)
    index: int = 0


@dataclass(frozen=True)
class Split:
    """A question on one metric: rows with `feature <= threshold` go left, all others right.

    Attributes
    ----------
    feature : str
        Name of the metric.
    threshold : float
        Finite, in the metric's own unit.
    left, right : Split or Leaf
        The two branches.
    share_left : float
        Share (0...1) of the weight of the training rows that reached this split and went left. It decides how a row
        without this metric is divided between the branches.
    """

    feature: str
    threshold: float
    left: Node
    right: Node
    share_left: float = 0.5


Node = Split | Leaf


@dataclass(frozen=True)
class Step:
    """What happened at one split of a walk.

    Attributes
    ----------
    feature, threshold
        As in the split.
    value, standard_error : float or None
        What was compared; None where the metric, or its error, is missing.
    side : {"left", "right", "both"}
        The branch taken; both where the value is missing.
    share_of_zoo : float
        Share of the training rows that reached this split and took the same side (1 for `both`).
    straddles : bool
        Whether |value - threshold| < 1.96 standard errors.
    question : str
        The question whose tree was walked; empty in a verdict tree that asks no other.
    """

    feature: str
    value: float | None
    standard_error: float | None
    threshold: float
    side: Side
    share_of_zoo: float
    straddles: bool
    question: str = ""


@dataclass(frozen=True)
class Walk:
    """The way of one row through a tree.

    Attributes
    ----------
    path : tuple of Step
        The splits visited, a split before its branches and the left branch before the right.
    leaves : tuple of (Leaf, float)
        The leaves reached with their weights, which are positive and sum to 1; one leaf unless a metric was missing.
    """

    path: tuple[Step, ...]
    leaves: tuple[tuple[Leaf, float], ...]


def walk(node: Node, values: Mapping[str, float], standard_errors: Mapping[str, float] | None = None) -> Walk:
    """Send one row down the tree.

    Parameters
    ----------
    node : Split or Leaf
        The tree.
    values : mapping of str to float
        Metric -> value. A metric that is absent, None or NaN sends the walk down both branches, weighted by
        `share_left`; a branch no training row took has weight 0 and is not entered.
    standard_errors : mapping of str to float, optional
        Metric -> standard error of the value; what is absent has none.

    Returns
    -------
    Walk
    """
    path: list[Step] = []
    reached: list[tuple[Leaf, float]] = []

    def visit(here: Node, weight: float) -> None:
        if isinstance(here, Leaf):
            reached.append((here, weight))
            return
        step = _step(here, _number(values.get(here.feature)), _number((standard_errors or {}).get(here.feature)))
        path.append(step)
        if step.side != "both":
            visit(here.left if step.side == "left" else here.right, weight)
            return
        for child, share in ((here.left, here.share_left), (here.right, 1.0 - here.share_left)):
            if share > 0:
                visit(child, weight * share)

    visit(node, 1.0)
    return Walk(tuple(path), tuple(reached))


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _step(split: Split, value: float | None, error: float | None) -> Step:
    if value is None:
        return Step(split.feature, None, None, split.threshold, "both", 1.0, False)
    left = value <= split.threshold
    return Step(
        feature=split.feature,
        value=value,
        standard_error=error,
        threshold=split.threshold,
        side="left" if left else "right",
        share_of_zoo=split.share_left if left else 1.0 - split.share_left,
        straddles=error is not None and abs(value - split.threshold) < STRADDLE * error,
    )


def leaves(node: Node) -> tuple[Leaf, ...]:
    """All leaves, left to right."""
    return (node,) if isinstance(node, Leaf) else leaves(node.left) + leaves(node.right)


def splits(node: Node) -> tuple[Split, ...]:
    """All splits, a split before its branches and the left branch before the right."""
    return () if isinstance(node, Leaf) else (node, *splits(node.left), *splits(node.right))


def depth(node: Node) -> int:
    """Number of splits on the longest way to a leaf."""
    return 0 if isinstance(node, Leaf) else 1 + max(depth(node.left), depth(node.right))


def numbered(node: Node) -> Node:
    """The same tree with its leaves numbered from 0, left to right."""
    return _renumber(node, iter(range(len(leaves(node)))))


def _renumber(node: Node, numbers: Iterator[int]) -> Node:
    if isinstance(node, Leaf):
        return dataclasses.replace(node, index=next(numbers))
    left = _renumber(node.left, numbers)
    return dataclasses.replace(node, left=left, right=_renumber(node.right, numbers))


def text(node: Node) -> str:
    """The tree for reading: a question a line, its answers indented below it.

    Thresholds are printed so that they read back as the same number: the printed tree decides as the walked one does.
    """
    return "\n".join(_lines(node, "", ""))


def _lines(node: Node, indent: str, lead: str) -> Iterator[str]:
    if isinstance(node, Leaf):
        held = ", ".join(f"{label} {count:.6g}" for label, count in node.counts.items() if count)
        yield f"{indent}{lead}{node.label}  [leaf {node.index}: {held or 'no training rows'}]"
        return
    yield f"{indent}{lead}{node.feature} <= {format_threshold(node.threshold)}?"
    below = indent + "  " if lead else indent
    yield from _lines(node.left, below, "yes: ")
    yield from _lines(node.right, below, "no:  ")


def leaf_weights(node: Node, columns: Mapping[str, np.ndarray], n_rows: int) -> np.ndarray:
    """The walk of many rows at once, without its path.

    Parameters
    ----------
    node : Split or Leaf
        The tree, its leaves numbered from 0.
    columns : mapping of str to ndarray, shape (n_rows,)
        Metric -> values; NaN or an absent metric is missing.
    n_rows : int
        Number of rows.

    Returns
    -------
    ndarray, shape (n_rows, n_leaves)
        Weight with which each row reaches each leaf; rows sum to 1.
    """
    weights = np.zeros((n_rows, len(leaves(node))))

    def visit(here: Node, share: np.ndarray) -> None:
        if isinstance(here, Leaf):
            weights[:, here.index] = share
            return
        to_left = left_shares(here, columns.get(here.feature), n_rows)
        visit(here.left, share * to_left)
        visit(here.right, share * (1.0 - to_left))

    visit(node, np.ones(n_rows))
    return weights


def left_shares(split: Split, values: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Share of each row that goes left at a split: 1, 0, or `share_left` where the value is missing."""
    if values is None:
        return np.full(n_rows, split.share_left)
    return np.where(np.isnan(values), split.share_left, values <= split.threshold)


def populated(
    node: Node, columns: Mapping[str, np.ndarray], labels: Sequence[str] | np.ndarray, weight: np.ndarray
) -> Node:
    """The same questions and answers with leaf counts and `share_left` taken from these rows.

    Parameters
    ----------
    node : Split or Leaf
        The tree whose structure, thresholds and leaf labels are kept.
    columns : mapping of str to ndarray, shape (n_rows,)
        Metric -> values, without missing values.
    labels : sequence of str, length n_rows
        The true label of each row.
    weight : ndarray, shape (n_rows,)
        Weight of each row.

    Returns
    -------
    Split or Leaf
        Counts name every label in `labels`; a split no row reached has `share_left` 0.5.
    """
    label_of = np.asarray(labels, dtype=object)
    names = sorted(set(label_of.tolist()))

    def visit(here: Node, rows: np.ndarray) -> Node:
        if isinstance(here, Leaf):
            counts = {name: float(weight[rows & (label_of == name)].sum()) for name in names}
            return dataclasses.replace(here, counts=counts)
        left = rows & (columns[here.feature] <= here.threshold)
        total = float(weight[rows].sum())
        share = min(1.0, float(weight[left].sum()) / total) if total > 0 else 0.5
        return Split(here.feature, here.threshold, visit(here.left, left), visit(here.right, rows & ~left), share)

    return numbered(visit(node, np.ones(label_of.size, dtype=bool)))
