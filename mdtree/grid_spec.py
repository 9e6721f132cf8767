"""The specification of a zoo: a small TOML file that says what to train, on what, and how to measure it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.protocol import Protocol
from mdtree.errors import InputError
from mdtree.training import Recipe


@dataclass(frozen=True)
class Block:
    """The networks that share width, training data and label noise; learning rates and seeds vary inside.

    Attributes
    ----------
    width, train_size : int
    label_noise : float
    model_spec, data_spec : str
        What `mdtree diagnose --model/--data` would be given.
    gain_data_spec : str
        The same data with the half of the test set that gains are scored on.
    """

    width: int
    train_size: int
    label_noise: float
    model_spec: str
    data_spec: str
    gain_data_spec: str

    @property
    def name(self) -> str:
        return f"w{self.width}-n{self.train_size}-e{self.label_noise:g}"

    def cell(self, learning_rate: float) -> str:
        """The name of one cell of the block."""
        return f"{self.name}-r{learning_rate:g}"


@dataclass(frozen=True)
class ZooSpec:
    """A grid of networks. See `zoo_samples/digits_mlp.toml` for the file it is read from."""

    family: str
    seeds: int
    data_name: str
    data_seed: int
    train_sizes: tuple[int, ...]
    label_noises: tuple[float, ...]
    model_name: str
    widths: tuple[int, ...]
    learning_rates: tuple[float, ...]
    batch_size: int
    steps: int
    momentum: float
    weight_decay: float
    schedule: str
    stacked: bool
    held_out_share: float
    held_out_seed: int
    protocol: Protocol

    def recipe(self, learning_rate: float) -> Recipe:
        return Recipe(learning_rate, self.batch_size, self.steps, self.momentum, self.weight_decay, self.schedule)

    @property
    def networks_per_block(self) -> int:
        return len(self.learning_rates) * self.seeds

    def blocks(self) -> list[Block]:
        """All blocks in the order of the table."""
        return [
            Block(
                width,
                size,
                noise,
                f"{self.model_name}?width={width}",
                f"{self.data_name}?train={size}&label_noise={noise:g}&seed={self.data_seed}",
                f"{self.data_name}?train={size}&label_noise={noise:g}&seed={self.data_seed}&test=second_half",
            )
            for width in self.widths
            for size in self.train_sizes
            for noise in self.label_noises
        ]

    def held_out_cells(self) -> frozenset[str]:
        """Cells set aside by a seeded draw before anything is trained: no diagnoser is fitted on them."""
        return _draw_held_out(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, enough to tell two specifications apart."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "protocol"}
        return {**values, "protocol": self.protocol.to_dict()}


@lru_cache(maxsize=8)
def _draw_held_out(spec: ZooSpec) -> frozenset[str]:
    cells = [block.cell(rate) for block in spec.blocks() for rate in spec.learning_rates]
    order = np.random.default_rng(spec.held_out_seed).permutation(len(cells))
    return frozenset(cells[i] for i in order[: round(spec.held_out_share * len(cells))])


_INTEGERS = {"seeds", "seed", "train", "width", "batch_size", "steps"}
_SECTIONS: dict[str, tuple[str, ...]] = {
    "": ("family", "seeds"),
    "data": ("name", "seed", "train", "label_noise"),
    "model": ("name", "width"),
    "training": ("learning_rate", "batch_size", "steps", "momentum", "weight_decay", "schedule", "stacked"),
    "held_out": ("share", "seed"),
}
_AXES = {"train", "label_noise", "width", "learning_rate"}


def read_spec(path: str | os.PathLike[str]) -> ZooSpec:
    """Read a zoo specification.

    Raises
    ------
    InputError
        The file is missing or no TOML, a key is missing or unknown, an axis is empty or holds a wrong value.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file", "a zoo specification (TOML)")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML ({error})", "a zoo specification") from error
    for name in _SECTIONS:
        if name and not isinstance(document.get(name), dict):
            raise InputError(f"{file} lacks the section [{name}]", f"the sections {', '.join(filter(None, _SECTIONS))}")
    top = {k: v for k, v in document.items() if not isinstance(v, dict)}
    sections = {name: document[name] if name else top for name in _SECTIONS}
    unknown = sorted(set(document) - set(_SECTIONS) - {"protocol"} - set(top))
    if unknown:
        raise InputError(
            f"{file}: unknown section [{unknown[0]}]", f"one of {', '.join(filter(None, _SECTIONS))}, protocol"
        )
    values = {name: _section(file, name, section) for name, section in sections.items()}
    data, model, training, held_out = (values[name] for name in ("data", "model", "training", "held_out"))
    try:
        protocol = Protocol.from_dict(document.get("protocol", {}))
    except LandscapeError as error:
        raise InputError(f"{file}, [protocol]: {error}") from error
    return ZooSpec(
        family=values[""]["family"],
        seeds=values[""]["seeds"],
        data_name=data["name"],
        data_seed=data["seed"],
        train_sizes=data["train"],
        label_noises=data["label_noise"],
        model_name=model["name"],
        widths=model["width"],
        learning_rates=training["learning_rate"],
        batch_size=training["batch_size"],
        steps=training["steps"],
        momentum=training["momentum"],
        weight_decay=training["weight_decay"],
        schedule=training["schedule"],
        stacked=training["stacked"],
        held_out_share=held_out["share"],
        held_out_seed=held_out["seed"],
        protocol=protocol,
    )


def _section(file: Path, section: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The checked values of one section."""
    where = f"{file}, [{section}]" if section else str(file)
    known = _SECTIONS[section]
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}", f"keys {', '.join(known)}")
    missing = [key for key in known if key not in given]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}", f"keys {', '.join(known)}")
    return {key: _checked(where, key, given[key]) for key in known}


def _checked(where: str, key: str, value: Any) -> Any:
    if key in ("family", "name", "schedule"):
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {key} = {value!r}", "a name")
        return value
    if key == "stacked":
        if not isinstance(value, bool):
            raise InputError(f"{where}: {key} = {value!r}", "true or false")
        return value
    values: Any = value if key in _AXES else [value]
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: {key} = {value!r}", "a list with at least one value")
    whole = key in _INTEGERS
    for item in values:
        number = isinstance(item, int if whole else int | float) and not isinstance(item, bool)
        if not number or item < 0:
            raise InputError(f"{where}: {key} holds {item!r}", f"{'whole ' if whole else ''}numbers, not negative")
    if len(set(values)) < len(values):
        raise InputError(f"{where}: {key} names a value twice", "distinct values")
    if key in _AXES:
        return tuple(sorted(item if whole else float(item) for item in values))
    return value if whole else float(values[0])
