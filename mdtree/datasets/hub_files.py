"""The parts of a data set of Hugging Face's `datasets` that are on this disk: saved, in a folder of files, or cached.

Files are read where they lie, by their names: nothing is downloaded whatever the environment allows, nothing is written
to the cache, and no code of a data set is run. Needs the extra ``hub``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtree.datasets.data_files import data_path
from mdtree.datasets.text_data import read_table
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import listing, shown

TABLE_SUFFIXES = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".json")

_PART = re.compile(r"(?P<part>train|validation|valid|val|dev|test)(?![A-Za-z0-9])", re.ASCII)
"""What the name of a file, or of its folder, begins with."""

_SHARD = re.compile(r"(?P<name>.+?)(-\d{5}-of-\d{5})?\.arrow", re.ASCII)


@dataclass(frozen=True, eq=False)
class HubParts:
    """The parts of one data set.

    Parameters
    ----------
    name : str
        What it is called.
    where : str
        "saved in DIR", "files in DIR" or "cached in DIR".
    parts : mapping of str to list of Path, or datasets.Dataset
        Each part by its name: its files, or itself.
    """

    name: str
    where: str
    parts: Mapping[str, Any]

    def part(self, name: str) -> Any:
        """One part, its columns unformatted.

        Raises
        ------
        InputError
            If there is no such part, or its files are damaged.
        """
        if name not in self.parts:
            raise InputError(
                f"{self.name} ({self.where}) has no part {shown(repr(name))}", f"one of {listing(list(self.parts))}"
            )
        try:
            held = self.parts[name]
            return (_joined(held) if isinstance(held, list) else held).with_format(None)
        except InputError:
            raise
        except Exception as error:  # pyarrow and datasets raise half a dozen kinds on damaged files
            raise InputError(
                f"the part {shown(name)} of {self.name} cannot be read ({told(error)})",
                "whole files",
                "copy them again",
            ) from error


def open_parts(target: str, configuration: str | None, directory: Path) -> HubParts:
    """The parts of a folder, or of a data set in the cache.

    A folder is one that ``save_to_disk`` wrote, or holds tables (`TABLE_SUFFIXES`) whose names, or those of their
    folders, begin with the name of a part: ``train.csv``, ``data/train-00000-of-00002.parquet``. Where none does, all
    of them are the part ``train``.

    Raises
    ------
    InputError
        If nothing is there, or it could be one of several configurations.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("hf needs the package datasets", "", "pip install 'mdtree-diagnosis[hub]'") from error
    folder = data_path(target, directory)
    if folder.is_dir():
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _saved(folder)
        return _tables(folder)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", target, re.ASCII):
        raise InputError(f"{folder} is not a folder", "hf:DIR, or hf:NAME of a data set in the cache")
    return _cached(target, configuration, Path(datasets.config.HF_DATASETS_CACHE).expanduser())


def _saved(folder: Path) -> HubParts:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # missing and damaged files are told in many ways
        raise InputError(
            f"{folder} cannot be read ({told(error)})", "a folder that save_to_disk wrote", "save or copy it again"
        ) from error
    named = dict(found) if isinstance(found, DatasetDict) else {str(found.split or "train"): found}
    return HubParts(folder.resolve().name, f"saved in {folder}", {str(part): held for part, held in named.items()})


def _tables(folder: Path) -> HubParts:
    files = sorted(file for depth in ("*", "*/*") for file in folder.glob(depth) if file.suffix in TABLE_SUFFIXES)
    if not files:
        raise InputError(f"{folder} holds no data set", f"one that save_to_disk wrote, or {', '.join(TABLE_SUFFIXES)}")
    named: dict[str, list[Path]] = {}
    for file in files:
        words = (file.stem, file.parent.name if file.parent != folder else "")
        found = [match["part"] for word in words if (match := _PART.match(word))]
        named.setdefault(found[0] if found else "", []).append(file)
    if set(named) == {""}:
        named = {"train": files}
    named.pop("", None)
    return HubParts(folder.resolve().name, f"files in {folder}", named)


def _cached(name: str, configuration: str | None, cache: Path) -> HubParts:
    from datasets.naming import camelcase_to_snakecase

    *space, last = name.split("/")
    root = cache / "___".join([*space, camelcase_to_snakecase(last)])
    kept = [
        info.parent for info in root.glob("*/*/*/dataset_info.json") if not info.parent.name.endswith(".incomplete")
    ]
    if not kept:
        raise InputError(
            f"{name} is no folder and is not in the cache {cache}; nothing is downloaded",
            "a data set that was loaded before",
            f"python -c \"import datasets; datasets.load_dataset('{name}')\"",
        )
    configurations = sorted({folder.parent.parent.name for folder in kept})
    if configuration is None and len(configurations) > 1:
        raise InputError(
            f"the cache holds several configurations of {name}", f"config= one of {listing(configurations)}"
        )
    chosen = configurations[0] if configuration is None else configuration
    fitting = [folder for folder in kept if folder.parent.parent.name == chosen]
    if not fitting:
        raise InputError(
            f"the cache holds no configuration {shown(chosen)} of {name}", f"one of {listing(configurations)}"
        )
    folder = max(fitting, key=lambda path: path.stat().st_mtime)
    named: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.arrow")):
        match = _SHARD.fullmatch(file.name)
        if match and not file.name.startswith("cache-"):
            named.setdefault(match["name"].rpartition("-")[2], []).append(file)
    return HubParts(name, f"cached in {folder}", named)


def _joined(files: list[Path]) -> Any:
    """The rows of some files, one after the other."""
    from datasets import concatenate_datasets

    return concatenate_datasets([_one(regular_file(file)) for file in files])


def _one(file: Path) -> Any:
    import pyarrow
    from datasets import Dataset
    from pyarrow import parquet

    if file.suffix == ".arrow":
        return Dataset.from_file(str(file))
    if file.suffix == ".parquet":
        return Dataset(parquet.ParquetFile(file).read())
    return Dataset(pyarrow.table(read_table(file)))


def told(error: Exception) -> str:
    """The first line of an error, fit to be printed."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return shown(" ".join(lines[0].split()))
