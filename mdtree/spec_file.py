"""The file a zoo is specified in: a small TOML document that says what to train, on what, and how to measure it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import LandscapeError
from landscape.protocol import Protocol
from mdtree.errors import InputError
from mdtree.grid_spec import Budget, Pretraining, ZooSpec
from mdtree.specification import parse
from mdtree.supported_questions import SEEDS_NEEDED
from mdtree.training import AUGMENTATIONS, OPTIMIZERS, SCHEDULES

_MISSING = object()


@dataclass(frozen=True)
class _Key:
    """What a key may hold: whole numbers, numbers or words; a list of them where it is an axis."""

    kind: type[int] | type[float] | type[str] | tuple[str, ...]
    axis: bool = False
    default: Any = _MISSING
    zero: bool = True
    """Whether 0 makes sense."""


_SECTIONS: Mapping[str, Mapping[str, _Key]] = {
    "": {"family": _Key(str), "seeds": _Key(int, zero=False)},
    "data": {
        "name": _Key(str),
        "seed": _Key(int, default=0),
        "train": _Key(int, axis=True, zero=False),
        "label_noise": _Key(float, axis=True, default=[0.0]),
    },
    "model": {"name": _Key(str, axis=True), "width": _Key(int, axis=True, zero=False)},
    "training": {
        "learning_rate": _Key(float, axis=True, zero=False),
        "batch_size": _Key(int, axis=True, zero=False),
        "steps": _Key(int, axis=True, default=(), zero=False),
        "epochs": _Key(float, axis=True, default=(), zero=False),
        "optimizer": _Key(OPTIMIZERS, axis=True, default=["sgd"]),
        "momentum": _Key(float, default=0.9),
        "weight_decay": _Key(float, axis=True, default=[0.0]),
        "schedule": _Key(SCHEDULES, axis=True, default=["constant"]),
        "augmentation": _Key(AUGMENTATIONS, axis=True, default=["none"]),
    },
    "held_out": {"share": _Key(float, default=0.25), "seed": _Key(int, default=0)},
    "pretraining": {
        "data": _Key(str),
        "learning_rate": _Key(float, zero=False),
        "batch_size": _Key(int, zero=False),
        "steps": _Key(int, zero=False),
    },
}
_OPTIONAL = ("held_out", "pretraining", "protocol")
_SET_BY_GRID = {"data": ("train", "label_noise", "seed", "test"), "model": ("width",)}


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
    values = {name: _section(file, name, given) for name, given in _given_sections(file, document).items()}
    data, model, training, held_out = (values[name] for name in ("data", "model", "training", "held_out"))
    _refuse_options(f"{file}, [data]", "data", (data["name"],))
    _refuse_options(f"{file}, [model]", "model", model["name"])
    if values[""]["seeds"] < SEEDS_NEEDED:
        raise InputError(
            f"{file}: seeds = {values['']['seeds']}", f"at least {SEEDS_NEEDED}: a row is labelled by the other seeds"
        )
    if held_out["share"] > 1:
        raise InputError(f"{file}, [held_out]: share = {held_out['share']:g}", "a share between 0 and 1")
    return ZooSpec(
        family=values[""]["family"],
        seeds=values[""]["seeds"],
        data_name=data["name"],
        data_seed=data["seed"],
        train_sizes=data["train"],
        label_noises=data["label_noise"],
        architectures=model["name"],
        widths=model["width"],
        learning_rates=training["learning_rate"],
        batch_sizes=training["batch_size"],
        budgets=_budgets(file, training),
        optimizers=training["optimizer"],
        momentum=training["momentum"],
        weight_decays=training["weight_decay"],
        schedules=training["schedule"],
        augmentations=training["augmentation"],
        held_out_share=held_out["share"],
        held_out_seed=held_out["seed"],
        pretraining=_pretraining(values.get("pretraining")),
        protocol=_protocol(file, document.get("protocol", {})),
    )


def _given_sections(file: Path, document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The document by section; what is optional and not there is left out or empty."""
    known = [name for name in (*_SECTIONS, "protocol") if name]
    sections: dict[str, Mapping[str, Any]] = {
        "": {key: value for key, value in document.items() if not isinstance(value, dict)}
    }
    for name, value in document.items():
        if isinstance(value, dict):
            if name not in known:
                raise InputError(f"{file}: unknown section [{name}]", f"one of {', '.join(known)}")
            sections[name] = value
    for name in known:
        if name not in sections and name not in _OPTIONAL:
            raise InputError(f"{file} lacks the section [{name}]", f"the sections {', '.join(known)}")
    sections.setdefault("held_out", {})
    sections.pop("protocol", None)
    return sections


def _section(file: Path, section: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The checked values of one section."""
    where = f"{file}, [{section}]" if section else str(file)
    known = _SECTIONS[section]
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}", f"keys {', '.join(known)}")
    missing = [key for key, form in known.items() if key not in given and form.default is _MISSING]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}", f"keys {', '.join(known)}")
    return {key: _checked(where, key, form, given.get(key, form.default)) for key, form in known.items()}


def _checked(where: str, key: str, form: _Key, value: Any) -> Any:
    """A value or, for an axis, its distinct values, numbers in ascending order."""
    if value == () and form.default == ():
        return ()
    if not form.axis:
        return _one(where, key, form, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(f"{where}: {key} = []", "a list with at least one value")
    checked = [_one(where, key, form, item) for item in values]
    if len(set(checked)) < len(checked):
        raise InputError(f"{where}: {key} names a value twice", "distinct values")
    return tuple(sorted(checked)) if form.kind in (int, float) else tuple(checked)


def _one(where: str, key: str, form: _Key, value: Any) -> Any:
    if isinstance(form.kind, tuple):
        if value not in form.kind:
            raise InputError(f"{where}: {key} = {value!r}", f"one of {', '.join(form.kind)}")
        return value
    if form.kind is str:
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {key} = {value!r}", "a name")
        return value
    whole = form.kind is int
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf") or (value == 0 and not form.zero):
        least = "not negative" if form.zero else "above 0"
        raise InputError(f"{where}: {key} holds {value!r}", f"{'whole ' if whole else ''}numbers, {least}")
    return form.kind(value)


def _refuse_options(where: str, section: str, names: tuple[str, ...]) -> None:
    """The grid sets some options of data and network itself."""
    for name in names:
        try:
            options = parse(name).options
        except InputError as error:
            raise InputError(f"{where}: {error.got}", error.expected, error.mend) from error
        for option in _SET_BY_GRID[section]:
            if option in options:
                raise InputError(
                    f"{where}: name = {name!r} sets {option!r}", "a name without it: the grid sets it", "leave it out"
                )


def _budgets(file: Path, training: Mapping[str, Any]) -> tuple[Budget, ...]:
    steps, epochs = training["steps"], training["epochs"]
    if bool(steps) == bool(epochs):
        given = "both steps and epochs" if steps else "neither steps nor epochs"
        raise InputError(f"{file}, [training] has {given}", "one of them")
    return tuple(Budget(steps=value) for value in steps) or tuple(Budget(epochs=value) for value in epochs)


def _pretraining(values: Mapping[str, Any] | None) -> Pretraining | None:
    if values is None:
        return None
    return Pretraining(values["data"], values["learning_rate"], values["batch_size"], values["steps"])


def _protocol(file: Path, values: Mapping[str, Any]) -> Protocol:
    try:
        return Protocol.from_dict(dict(values))
    except LandscapeError as error:
        raise InputError(f"{file}, [protocol]: {error}") from error
