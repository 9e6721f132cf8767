"""What the user's project says once for all its checkpoints: ``[tool.mdtree]`` in its ``pyproject.toml``.

    [tool.mdtree]
    model = "nets:make?width=16"
    data = "npz:data/train.npz"
    weights = "model_ema"
    init = "runs/start.pt"

The nearest ``pyproject.toml`` with that table counts, from the current directory upward to the repository's root (the
folder with ``.git``) or, outside a repository, to the home directory. One above the current directory that belongs to
somebody else is refused: what it names would be called.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.specification import listing, parse, shown

KEYS = ("model", "data", "weights", "init")
_LARGEST = 4 * 2**20


@dataclass(frozen=True)
class ProjectSettings:
    """The table ``[tool.mdtree]``; None for what it does not say.

    Parameters
    ----------
    model, data : str or None
        Specifications of the network and its data.
    weights : str or None
        Which weights of a checkpoint are meant.
    init : Path or None
        The weights that training started from.
    file : Path or None
        Where all this stands; None where no file has the table.
    """

    model: str | None = None
    data: str | None = None
    weights: str | None = None
    init: Path | None = None
    file: Path | None = None

    @property
    def directory(self) -> Path | None:
        """Where the modules and the relative paths of the table lie: the file's folder."""
        return None if self.file is None else self.file.parent


def project_settings(start: Path | None = None) -> ProjectSettings:
    """Read the settings of the project that a directory belongs to.

    Parameters
    ----------
    start : Path, optional
        The current directory by default.

    Returns
    -------
    ProjectSettings

    Raises
    ------
    InputError
        If a file on the way cannot be read, or its table holds an unknown key or a value of another type: names the
        file and the key.
    """
    directory = (start or Path.cwd()).resolve()
    for folder in _upward(directory):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        table = _table(file)
        if table is not None:
            _refuse_strangers(file, directory)
            return _settings(table, file)
    return ProjectSettings()


def _upward(directory: Path) -> Iterator[Path]:
    """The directory, and those above it as far as the project reaches."""
    above = [directory, *directory.parents]
    root = next((number for number, folder in enumerate(above) if (folder / ".git").exists()), None)
    home = Path.home().resolve()
    if root is not None:
        yield from above[: root + 1]
    elif home in directory.parents:
        yield from above[: above.index(home)]
    else:
        yield directory


def _table(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file} has {file.stat().st_size:,} bytes", f"at most {_LARGEST:,}")
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is no TOML: {' '.join(str(error).split())[:200]}", "", "correct it") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from error
    table = tool.get("mdtree") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise InputError(f"tool.mdtree in {file} is a {type(table).__name__}", "a table [tool.mdtree]")
    return table


def _refuse_strangers(file: Path, directory: Path) -> None:
    """On a shared machine anybody may put a file above one's directory; whoever owns the directory may."""
    owners = (0, directory.stat().st_uid, os.getuid() if hasattr(os, "getuid") else 0)
    if file.parent != directory and file.stat().st_uid not in owners:
        raise InputError(
            f"{file} belongs to another user, and what it names would be called",
            "a project of your own",
            f"if you trust it, run in {file.parent}",
        )


def _settings(table: dict[str, Any], file: Path) -> ProjectSettings:
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise InputError(f"unknown key {listing(unknown)} under [tool.mdtree] in {file}", f"one of {', '.join(KEYS)}")
    for key, value in table.items():
        if not isinstance(value, str) or not value.strip():
            what = "empty" if isinstance(value, str) else f"a {type(value).__name__}"
            raise InputError(f"{key} under [tool.mdtree] in {file} is {what}", "text", f'write {key} = "..."')
        if key in ("model", "data"):
            try:
                parse(value)
            except InputError as error:
                raise InputError(
                    f"{key} = {shown(value)!r} under [tool.mdtree] in {file}: {error.got}", error.expected, error.mend
                ) from error
    init = table.get("init")
    return ProjectSettings(
        model=table.get("model"),
        data=table.get("data"),
        weights=table.get("weights"),
        init=None if init is None else file.parent / Path(init).expanduser(),
        file=file,
    )
