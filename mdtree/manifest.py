"""What a checkpoint of this package says of itself: network, data, recipe, scores, and where training started."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.recipes.recipe import RecipeValue, Recorded
from mdtree.specification import parse

FORMAT = "mdtree-checkpoint"
VERSION = 1
SOURCE = "the file's manifest"
"""What the report calls it."""

MANIFEST_FILE = "mdtree.json"
"""Where it stands in a folder that another framework wrote."""

SCORES = ("train_accuracy_percent", "train_loss", "test_accuracy_percent", "test_loss")
"""What training may write down of how well it went: accuracies in percent, losses in nats."""

_DAMAGED = "save it again"


@dataclass(frozen=True)
class Manifest:
    """What a file says of itself.

    Parameters
    ----------
    model, data : str or None
        Specifications of the network and of its training data.
    recipe : mapping of str to int, float, bool, str or None
        How it was trained.
    initial_norm_squared : float or None
        Squared norm of all parameters before training.
    scores : mapping of str to float
        Of `SCORES`, as training saw them last.
    fine_tuned_from : str or None
        What training started from, if not from fresh weights.

    Raises
    ------
    InputError
        If a specification cannot be parsed, a value is not plain or not finite, or a score is not known.
    """

    model: str | None = None
    data: str | None = None
    recipe: Mapping[str, RecipeValue] = field(default_factory=dict)
    initial_norm_squared: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    fine_tuned_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "data"):
            spec = getattr(self, name)
            object.__setattr__(self, name, None if spec is None else str(parse(spec)))
        object.__setattr__(self, "recipe", _checked_recipe(self.recipe))
        object.__setattr__(self, "initial_norm_squared", _checked_norm(self.initial_norm_squared))
        object.__setattr__(self, "scores", _checked_scores(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """As it is written; what a file does not say of scores and start is left out, as older files did."""
        further = {"scores": dict(self.scores), "fine_tuned_from": self.fine_tuned_from}
        return {
            "model": self.model,
            "data": self.data,
            "recipe": dict(self.recipe),
            "initial_norm_squared": self.initial_norm_squared,
            **{key: value for key, value in further.items() if value},
        }


def read_manifest(
    content: Any, metadata: Mapping[str, str] | None, beside: Mapping[str, Any], path: Path
) -> Manifest | None:
    """The manifest in what a file or folder holds; None where there is none.

    A file of this package is one as a whole (``format``); a checkpoint of another framework may hold one under
    ``mdtree``, its folder one in `MANIFEST_FILE`: see `stamped`.

    Raises
    ------
    InputError
        If it is damaged, or of a newer version.
    """
    if MANIFEST_FILE in beside and not (metadata and "mdtree" in metadata):
        held = beside[MANIFEST_FILE]
    elif metadata is None:
        held = content if is_own_layout(content) else content.get("mdtree") if isinstance(content, Mapping) else None
        held = held if isinstance(held, Mapping) and held.get("format") == FORMAT else None
    elif "mdtree" in metadata:
        try:
            held = json.loads(metadata["mdtree"])
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"the manifest of {path} is damaged", "", _DAMAGED) from error
    else:
        held = None
    if held is None:
        return None
    version = held.get("version") if isinstance(held, Mapping) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(f"{path} is of version {version}", f"version {VERSION} or older", "update mdtree-diagnosis")
    values = held.get("manifest") if version == VERSION else None
    tables = ("recipe", "scores")
    if not isinstance(values, Mapping) or not all(isinstance(values.get(key) or {}, Mapping) for key in tables):
        raise InputError(f"the manifest of {path} is damaged", "", _DAMAGED)
    return Manifest(
        model=_text_or_none(values, "model", path),
        data=_text_or_none(values, "data", path),
        recipe=values.get("recipe") or {},
        initial_norm_squared=values.get("initial_norm_squared"),
        scores=values.get("scores") or {},
        fine_tuned_from=_text_or_none(values, "fine_tuned_from", path),
    )


def is_own_layout(content: Any) -> bool:
    """Whether a pickle-based file was written by `mdtree.save_checkpoint`."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def recorded_in(manifest: Manifest) -> dict[str, Recorded]:
    """The scores of a manifest, with where they stand."""
    return {name: Recorded(value, SOURCE) for name, value in manifest.scores.items()}


def stamped(manifest: Manifest) -> dict[str, Any]:
    """A manifest as it stands inside another framework's checkpoint, under the key ``mdtree``."""
    return {"format": FORMAT, "version": VERSION, "manifest": manifest.to_dict()}


def _checked_recipe(recipe: Mapping[str, Any]) -> dict[str, RecipeValue]:
    checked: dict[str, RecipeValue] = {}
    for name, value in recipe.items():
        if not isinstance(name, str) or not isinstance(value, int | float | bool | str | None):
            raise InputError(f"recipe entry {name!r} is a {type(value).__name__}", "int, float, bool, str or None")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"recipe entry {name!r} is {value}", "a finite number")
        # numpy's float64 is a float, but not a plain one
        checked[name] = float(value) if isinstance(value, float) else value
    return checked


def _checked_norm(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise InputError(f"initial_norm_squared is {value!r}", "a finite number, 0 or more, or None")
    return float(value)


def _checked_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    for name, value in scores.items():
        if name not in SCORES:
            raise InputError(f"unknown score {name!r}", f"one of {', '.join(SCORES)}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"{name} is {value!r}", "a finite number: accuracies in percent, losses in nats")
        if name.endswith("percent") and not 0 <= value <= 100:
            raise InputError(f"{name} is {value!r}", "0 to 100")
    return {name: float(value) for name, value in scores.items()}


def _text_or_none(manifest: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = manifest.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key} in the manifest of {path} is a {type(value).__name__}", "text")
    return value
