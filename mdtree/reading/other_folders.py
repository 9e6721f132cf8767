"""Folders whose weights cannot be read as they stand: what they are, and what to give instead."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mdtree.errors import InputError
from mdtree.specification import listing, shown

_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pth.tar")
_NO_WEIGHTS = re.compile(
    r"(?:optimizer|scheduler|scaler|sampler|rng_state|random_states|training_args|dl_state_dict|meta)\b.*"
    r"|(?:optimizer|scheduler|sampler|rng_state|random_states)_\d+\..*"
)
_ELSEWHERE = (
    *("tf_model.h5", "flax_model.msgpack", "saved_model.pb", "model.onnx", "rust_model.ot"),
    *("tf_model.h5.index.json", "flax_model.msgpack.index.json"),
)
_DEEPSPEED = re.compile(r"global_step(\d{1,12})|checkpoint")
_STEPS = re.compile(r"checkpoint-(\d{1,12})")
_OWN = frozenset(
    {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}
    | {".metadata", "model_index.json"}
)
MAX_VISITED = 2000
MAX_DEPTH = 3


def checkpoint_files(names: Iterable[str]) -> list[str]:
    """The names that end as checkpoints do and are not the states of optimizers and random generators; sorted."""
    return sorted(name for name in names if name.endswith(_ENDINGS) and not _NO_WEIGHTS.fullmatch(name))


def step_folders(path: Path, names: Iterable[str]) -> list[str]:
    """The subfolders ``checkpoint-500`` ... of a Hugging Face Trainer, in the order of their steps."""
    steps = {name: int(match[1]) for name in names if (match := _STEPS.fullmatch(name)) and (path / name).is_dir()}
    return sorted(steps, key=lambda name: (steps[name], name))


def refuse_folder(path: Path, names: set[str]) -> None:
    """Refuse a folder that is known and holds no weights of its own, or holds nothing.

    Parameters
    ----------
    path : Path
        The folder.
    names : set of str
        What stands in it.

    Raises
    ------
    InputError
        Unless there is at least one file that ends as a checkpoint does.
    """
    if "adapter_config.json" in names:
        raise InputError(
            f"{path} holds an adapter (LoRA, PEFT): changes to a network, not its weights",
            "the weights of the whole network",
            "merge it first: model.merge_and_unload().save_pretrained(FOLDER)",
        )
    _refuse_deepspeed(path, names)
    _refuse_pieces(path, names)
    if "model_index.json" in names or "modules.json" in names:
        kind = "diffusers pipeline" if "model_index.json" in names else "folder of sentence-transformers"
        parts = [name for name in _entries(path) if (path / name).is_dir() and _weights_in(path / name)]
        raise InputError(
            f"{path} is a {kind}: several networks ({listing(parts) or 'none of them here'})",
            "the folder of one",
            f"give {path / parts[-1]}" if parts else "",
        )
    steps = step_folders(path, names)
    if steps and not checkpoint_files(names):
        raise InputError(
            f"{path} holds {len(steps)} checkpoints of a training ({listing(steps)}) and no weights of its own",
            "one of them",
            f"give the last one: {path / steps[-1]}",
        )
    if not checkpoint_files(names):
        _refuse_without_weights(path, names)


def _refuse_without_weights(path: Path, names: set[str]) -> None:
    elsewhere = [name for name in sorted(names) if name in _ELSEWHERE or name.endswith((".gguf", ".onnx"))]
    if elsewhere:
        raise InputError(
            f"{path} holds weights in formats that are not read ({listing(elsewhere)})",
            "model.safetensors or pytorch_model.bin",
            "save them with save_pretrained or torch.save(model.state_dict(), PATH)",
        )
    what = "is empty" if not names else "holds no weights"
    below = _below(path)
    raise InputError(
        f"{path} {what}",
        "a folder with model.safetensors, pytorch_model.bin, .metadata or one checkpoint file",
        f"give {below}" if below else "give the checkpoint itself",
    )


def _refuse_deepspeed(path: Path, names: set[str]) -> None:
    """DeepSpeed keeps the weights of a process in a folder below, which ``latest`` names."""
    below = {name: int(match[1] or 0) for name in names if (match := _DEEPSPEED.fullmatch(name))}
    places = [path, *(path / name for name in sorted(below, key=lambda name: below[name]))]
    for place in reversed(places):
        if not place.is_dir():
            continue
        states = sorted(name for name in _entries(place) if name.endswith("_model_states.pt"))
        whole = [name for name in states if name.startswith("mp_rank_")]
        if any(name.startswith("zero_pp_rank_") for name in states):
            root = place.parent if (place.parent / "zero_to_fp32.py").is_file() else place
            raise InputError(
                f"{path} is a checkpoint of DeepSpeed ZeRO stage 3, which spreads every weight over all processes",
                "whole weights",
                f"put them together: python {root / 'zero_to_fp32.py'} {root} OUTPUT, then give OUTPUT",
            )
        if len(whole) == 1:
            raise InputError(
                f"{path} is a checkpoint of DeepSpeed", "the file with the weights", f"give {place / whole[0]}"
            )
        if whole:
            raise InputError(
                f"{path} is a checkpoint of DeepSpeed in {len(whole)} tensor-parallel parts ({listing(whole)})",
                "whole weights",
                "save the model on one process, or merge the parts with DeepSpeed's ds_to_universal.py",
            )


def _refuse_pieces(path: Path, names: set[str]) -> None:
    alone = sorted(name for name in names if re.fullmatch(r"__\d+\.metadata", name))
    if alone:
        raise InputError(
            f"{path} is a distributed checkpoint that every process wrote for itself ({listing(alone)})",
            "one .metadata for all",
            "save it again with torch.distributed.checkpoint.save(..., no_dist=False), use_collectives left on",
        )
    if any(name.endswith(".distcp") for name in names):
        raise InputError(
            f"{path} is a distributed checkpoint without its .metadata: the save or the copy did not finish",
            "",
            "save or copy it again",
        )
    if any(re.fullmatch(r"shard-\d+-model-\d+-of-\d+\.safetensors", name) for name in names):
        raise InputError(
            f"{path} holds the pieces of torch's HuggingFaceStorageWriter, one for every process",
            "whole tensors",
            "save it again with enable_consolidation=True",
        )


def _below(path: Path) -> Path | None:
    """Where weights stand further down: a file, or the last folder that holds them."""
    found: Path | None = None
    waiting, visited = [(path, 0)], 0
    while waiting and visited < MAX_VISITED:
        folder, depth = waiting.pop(0)
        entries = _entries(folder)
        visited += 1 + len(entries)
        weights = _weights_in(folder)
        if weights and folder != path:
            found = folder if weights == folder else weights
        if depth < MAX_DEPTH and found is None:
            waiting += [(folder / name, depth + 1) for name in entries if (folder / name).is_dir()]
    return found


def _weights_in(folder: Path) -> Path | None:
    """The folder itself if it can be read as one, the last checkpoint file in it, or None."""
    names = set(_entries(folder))
    if names & {
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        ".metadata",
        "model_index.json",
    }:
        return folder
    files = checkpoint_files(names)
    if not files:
        return None
    return folder if len(files) == 1 else folder / files[-1]


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder)[:MAX_VISITED] if name == shown(name))
    except OSError:
        return []
