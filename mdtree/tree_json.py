"""Decision trees to JSON and back: readable, complete, and refused with the place named when anything is amiss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mdtree.errors import InputError
from mdtree.nodes import Leaf, Node, Split, leaves

DEPTH_LIMIT = 16
"""Deepest tree that is grown or read: far beyond a readable one, well within Python's recursion."""


def to_dict(node: Node) -> dict[str, Any]:
    """The tree as nested dictionaries of JSON types."""
    if isinstance(node, Leaf):
        return {"label": node.label, "counts": dict(node.counts), "index": node.index}
    return {
        "feature": node.feature,
        "threshold": node.threshold,
        "share_left": node.share_left,
        "left": to_dict(node.left),
        "right": to_dict(node.right),
    }


def from_dict(data: object) -> Node:
    """Read what `to_dict` wrote, trusting nothing.

    Raises
    ------
    InputError
        A key is missing or unknown, a number is not finite or out of range, a text is empty, the leaves are not
        numbered from 0 left to right, or the tree is deeper than `DEPTH_LIMIT`; the message says where.
    """
    node = _read(data, "tree", 0)
    numbers = [leaf.index for leaf in leaves(node)]
    if numbers != list(range(len(numbers))):
        raise InputError(f"tree: its leaves are numbered {numbers}", "0, 1, 2 ... from left to right")
    return node


_SPLIT_KEYS = frozenset(("feature", "threshold", "share_left", "left", "right"))
_LEAF_KEYS = frozenset(("label", "counts", "index"))


def _read(data: object, where: str, level: int) -> Node:
    if not isinstance(data, Mapping):
        raise InputError(f"{where} is {type(data).__name__}", "a split or a leaf as a JSON object")
    keys = _LEAF_KEYS if "label" in data else _SPLIT_KEYS
    if set(data) != keys:
        raise InputError(f"{where} has the keys {sorted(map(str, data))}", f"exactly {sorted(keys)}")
    if keys is _LEAF_KEYS:
        return _read_leaf(data, where)
    if level >= DEPTH_LIMIT:
        raise InputError(f"{where} is nested too deep", f"at most {DEPTH_LIMIT} splits on the way to a leaf")
    threshold = _read_number(data["threshold"], f"{where}.threshold")
    share = _read_number(data["share_left"], f"{where}.share_left")
    if not 0.0 <= share <= 1.0:
        raise InputError(f"{where}.share_left is {share!r}", "a share between 0 and 1")
    left = _read(data["left"], f"{where}.left", level + 1)
    right = _read(data["right"], f"{where}.right", level + 1)
    return Split(_read_text(data["feature"], f"{where}.feature"), threshold, left, right, share)


def _read_leaf(data: Mapping[str, Any], where: str) -> Leaf:
    if not isinstance(data["counts"], Mapping):
        raise InputError(f"{where}.counts is {type(data['counts']).__name__}", "an object of label: weight")
    counts = {
        _read_text(name, f"{where}.counts"): _read_number(count, f"{where}.counts[{name!r}]")
        for name, count in data["counts"].items()
    }
    if any(count < 0 for count in counts.values()):
        raise InputError(f"{where}.counts holds a negative weight", "weights of 0 or more")
    index = data["index"]
    if isinstance(index, bool) or not isinstance(index, int):
        raise InputError(f"{where}.index is {index!r}", "a whole number")
    return Leaf(_read_text(data["label"], f"{where}.label"), counts, index)


def _read_number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is {value!r}", "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where} is {number!r}", "a finite number")
    return number


def _read_text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} is {value!r}", "a text that is not empty")
    return value
