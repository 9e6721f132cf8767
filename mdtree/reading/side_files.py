"""What stands beside weights in a folder and tells how they were trained. None of it is needed to open them.

A side file that is damaged, too large or hostile is left out, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtree.errors import InputError, ResourceError
from mdtree.files import regular_file
from mdtree.manifest import MANIFEST_FILE
from mdtree.reading.checkpoint_files import read_checkpoint_file
from mdtree.reading.distributed_checkpoint import read_distributed_checkpoint
from mdtree.reading.weight_shards import read_side_json
from mdtree.reading.zip_archive import MAX_PICKLE_BYTES
from mdtree.specification import listing

MAX_OPTIMIZER_BYTES = 512 * 2**20

_JSON = (
    *(MANIFEST_FILE, "config.json", "trainer_state.json", "preprocessor_config.json", "processor_config.json"),
    *("train_results.json", "eval_results.json", "all_results.json"),
)
_PICKLED = ("training_args.bin", "scheduler.pt", "scheduler.bin")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
_NOTED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.txt"),
    *("vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "random_states_0.pkl"),
)


@dataclass(eq=False)
class SideFiles:
    """The side files of a folder.

    Parameters
    ----------
    files : dict of str to object
        By name: parsed JSON, or the inert content of a pickle. Of an optimizer only its ``param_groups``; None for
        files that are named because they are there and were not read (a tokenizer's).
    unknown : dict of str to None
        Names of the classes that were read as inert data.
    notes : list of str
        What was left out, and why.
    """

    files: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_side_files(folder: Path) -> SideFiles:
    """Read what stands beside the weights of a folder.

    Parameters
    ----------
    folder : Path
        Written by transformers, accelerate, timm or one like them.
    """
    side = SideFiles()
    readers: dict[str, Callable[[Path, SideFiles], Any]] = {
        **dict.fromkeys(_JSON, lambda path, _: read_side_json(path)),
        **dict.fromkeys(_PICKLED, _pickled),
        **dict.fromkeys(_OPTIMIZERS, _optimizer_file),
        **dict.fromkeys(_NOTED, lambda path, _: None),
    }
    for name, read in readers.items():
        path = folder / name
        if path.exists() or path.is_symlink():
            _keep(side, name, path, read)
    if (folder / "optimizer_0" / ".metadata").is_file():  # accelerate, where the weights are sharded too
        _keep(side, "optimizer.bin", folder / "optimizer_0", _optimizer_folder)
    if side.unknown:
        side.notes.append(f"beside the weights, read as inert data, nothing imported: {listing(list(side.unknown), 3)}")
    return side


def _keep(side: SideFiles, name: str, path: Path, read: Callable[[Path, SideFiles], Any]) -> None:
    try:
        side.files[name] = read(path, side)
    except (InputError, ResourceError) as error:
        side.notes.append(f"not read: {error.got}")


def _pickled(path: Path, side: SideFiles, limit: int = MAX_PICKLE_BYTES) -> Any:
    size = regular_file(path).stat().st_size
    if size > limit:
        raise InputError(f"{path}, which has {size:,} bytes, more than the {limit:,} that are read beside weights")
    contents = read_checkpoint_file(path)
    side.unknown.update(dict.fromkeys(contents.unknown))
    return contents.content


def _optimizer_file(path: Path, side: SideFiles) -> Any:
    return _groups(path, _pickled(path, side, MAX_OPTIMIZER_BYTES))


def _optimizer_folder(path: Path, side: SideFiles) -> Any:
    contents = read_distributed_checkpoint(path)
    side.unknown.update(dict.fromkeys(contents.unknown))
    return _groups(path, contents.content.get("optimizer"))


def _groups(path: Path, state: Any) -> dict[str, Any]:
    """An optimizer's parameter groups without its moments, which are as large as the weights twice over."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list):
        raise InputError(f"{path}, which holds no parameter groups")
    return {"param_groups": groups}
