"""The file of a service's settings, for what is too long for a command line: a small TOML document.

    [service]
    host = "0.0.0.0"
    tokens = "tokens.toml"
    [networks]
    our_net = "nets:make?width=16"
    [data_sets]
    our_data = "npz:data/train.npz"
    [limits]
    file_bytes = 4_000_000_000

Relative paths, and modules that specifications name, lie in the file's folder.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.service.registry import BUILT_IN_DATA, BUILT_IN_NETWORKS, Registry
from mdtree.service.settings import Limits
from mdtree.specification import parse, shown

_LARGEST = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECTIONS = ("service", "networks", "data_sets", "limits")

_SERVICE: Mapping[str, type | tuple[type, ...]] = {
    "host": str,
    "port": int,
    "data_dir": Path,
    "workers": int,
    "diagnoser": Path,
    "tokens": Path,
    "database": str,
    "device": str,
    "allowed_hosts": list,
    "retention_days": (int, float),
    "unused_upload_hours": (int, float),
    "grace": (int, float),
}
"""Key of ``[service]`` -> what it holds; the names are those of the command line's options."""

_SAID: Mapping[Any, str] = {str: "text", Path: "a path", int: "a whole number", list: "a list of names"}


@dataclass(frozen=True)
class SettingsFile:
    """What a file says.

    Attributes
    ----------
    service : dict
        Values of ``[service]`` that it sets, by key; paths are made absolute.
    registry : Registry
    limits : Limits
    """

    service: Mapping[str, Any] = field(default_factory=dict)
    registry: Registry = field(default_factory=Registry)
    limits: Limits = field(default_factory=Limits)


def read_settings_file(path: Path) -> SettingsFile:
    """Read a file of settings.

    Raises
    ------
    InputError
        It cannot be read, is no TOML, has an unknown section or key (with the nearest name), or a value that its key
        cannot have.
    """
    document = _document(path)
    for name, table in document.items():
        if name not in _SECTIONS:
            raise _unknown(f"{path}: unknown section or key", name, _SECTIONS)
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} is a {type(table).__name__}", f"a table [{name}]")
    folder = path.resolve().parent
    return SettingsFile(
        service=_service(f"{path}, [service]", document.get("service", {}), folder),
        registry=Registry(
            networks=_registered(f"{path}, [networks]", document.get("networks", {}), BUILT_IN_NETWORKS),
            data_sets=_registered(f"{path}, [data_sets]", document.get("data_sets", {}), BUILT_IN_DATA),
            directory=folder,
        ),
        limits=_limits(f"{path}, [limits]", document.get("limits", {})),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise InputError(f"{path} has more than {_LARGEST:,} bytes", "settings of a service (TOML)")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "settings of a service (TOML)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {' '.join(str(error).split())[:200]}", "", "correct it") from error


def _unknown(what: str, name: str, known: tuple[str, ...]) -> InputError:
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    return InputError(
        f"{what} {shown(name)!r}", f"one of {', '.join(known)}", f"did you mean {near[0]}?" if near else ""
    )


def _service(where: str, table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _SERVICE:
            raise _unknown(f"{where}: unknown key", key, tuple(_SERVICE))
        kind = _SERVICE[key]
        values[key] = _typed(f"{where}: {key}", value, kind)
        if kind is Path:
            values[key] = folder / Path(value).expanduser()
    return values


def _typed(where: str, value: Any, kind: Any) -> Any:
    fits = isinstance(value, str if kind is Path else kind) and not isinstance(value, bool)
    if kind is list:
        fits = fits and all(isinstance(one, str) for one in value)
    if not fits or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{where} = {shown(repr(value))}", _SAID.get(kind, "a number"))
    return tuple(value) if kind is list else value


def _registered(where: str, table: Mapping[str, Any], built_in: tuple[str, ...]) -> dict[str, str]:
    for name, value in table.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{where}: {shown(name)!r} as a name", "letters, digits and ._-, at most 64")
        if name in built_in:
            raise InputError(f"{where}: {name} is built in", "another name")
        specification = _typed(f"{where}: {name}", value, str)
        try:
            parse(specification)
        except InputError as error:
            raise InputError(f"{where}: {name}: {error.got}", error.expected, error.mend) from error
    return dict(table)


def _limits(where: str, table: Mapping[str, Any]) -> Limits:
    known = {one.name: type(one.default) for one in fields(Limits)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise _unknown(f"{where}: unknown key", key, tuple(known))
        whole = known[key] is int
        number = _typed(f"{where}: {key}", value, int if whole else (int, float))
        if number < 0 or (number == 0 and key not in ("disk_floor_bytes", "body_bytes_per_second")):
            raise InputError(f"{where}: {key} = {number}", "a number above 0")
        values[key] = number if whole else float(number)
    return Limits(**values)
