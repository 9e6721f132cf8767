"""The shapes chosen on the clean half of the public table of the MD tree paper, one for each question.

They are data, written by `benchmarks/choose_shapes.py`; this room reads them. They belong to that table (ResNet-18 on
CIFAR-10) and to diagnosers fitted on it, to no other zoo: `mdtree.shape_search` finds each zoo its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from mdtree.errors import InputError
from mdtree.priors import GaussianPrior
from mdtree.shapes import Shape, ShapeSplit

FILE = "modeldiagnosis_shapes.json"


@cache
def chosen_shapes() -> Mapping[str, Shape]:
    """Question, or `verdict_` and an evidence set -> the chosen shape with its priors."""
    values = json.loads((files("mdtree") / "data_files" / FILE).read_text(encoding="utf-8"))
    return {name: shape_from_dict(name, shape) for name, shape in values["shapes"].items()}


def shape_to_dict(node: ShapeSplit | str) -> dict[str, Any] | str:
    """A shape's questions as JSON-able data."""
    if isinstance(node, str):
        return node
    if node.prior is None:
        raise InputError(f"threshold {node.name} has no prior", "a shape with priors")
    return {
        "threshold": node.name,
        "feature": node.feature,
        "prior": dataclasses.asdict(node.prior),
        "left": shape_to_dict(node.left),
        "right": shape_to_dict(node.right),
    }


def shape_from_dict(name: str, values: dict[str, Any] | str) -> Shape:
    """The shape that `shape_to_dict` wrote.

    Raises
    ------
    InputError
        Something is missing or no shape.
    """
    try:
        root = _split(values)
    except (KeyError, TypeError) as error:
        raise InputError(f"shape {name} is not valid ({type(error).__name__}: {error})") from error
    if isinstance(root, str):
        raise InputError(f"shape {name} asks nothing", "at least one question")
    return Shape(name, root)


def _split(values: Any) -> ShapeSplit | str:
    if isinstance(values, str):
        return values
    prior = GaussianPrior(**values["prior"])
    left, right = _split(values["left"]), _split(values["right"])
    return ShapeSplit(values["threshold"], values["feature"], left, right, start=prior.centre, prior=prior)
