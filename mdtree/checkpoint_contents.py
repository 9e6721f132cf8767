"""Finding the weights in what a checkpoint holds, the recipe beside them, and whether they can be measured at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtree.checkpoint_files import MAX_TENSORS, RE_SAVE
from mdtree.errors import InputError
from mdtree.specification import listing, shown

_KNOWN_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_AVERAGED_WORDS = ("ema", "swa", "averag", "shadow")
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights chosen from a checkpoint.

    Parameters
    ----------
    state : dict of str to Tensor
        Names as the bare network has them: wrappers' prefixes are taken off.
    found_in : str
        The key they stood under, or "file" where the file is nothing but weights; AveragedModel's are marked as such.
    candidates : tuple of str
        All keys that hold weights.
    """

    state: dict[str, Tensor]
    found_in: str
    candidates: tuple[str, ...]


def find_weights(content: Any, path: Path, key: str | None = None) -> Weights:
    """Find the one state dict in what a file holds.

    Averaged weights (EMA, SWA) are never taken unless `key` names them: the loss around them is another one.

    Parameters
    ----------
    content : object
        What the file holds.
    path : Path
        Named in errors.
    key : str, optional
        The key to take the weights from, where there are several.

    Raises
    ------
    InputError
        If there are no weights, or several and no `key` to choose.
    """
    if isinstance(content, Mapping) and "pytorch-lightning_version" in content:
        raise InputError(
            f"{path} is a Lightning checkpoint: its weights belong to the LightningModule, not to the network in it",
            "the network's own weights",
            "re-save them with torch.save(lightning_module.model.state_dict(), PATH)",
        )
    if key is None and _is_state(content):
        return _chosen(content, "file", ["file"])
    keys = [str(k) for k, value in content.items() if _is_state(value)] if isinstance(content, Mapping) else []
    if key is not None:
        if key not in keys:
            raise InputError(f"{path} holds no weights under {key!r}", f"one of {listing(keys) or 'none'}")
        return _chosen(content[key], key, keys)
    if not keys:
        raise InputError(
            f"{path} holds no tensors that could be weights ({_described(content)})", "a state dict", RE_SAVE
        )
    plain = [k for k in keys if not any(word in k.lower() for word in _AVERAGED_WORDS)]
    chosen = [k for k in plain if k in _KNOWN_KEYS] or plain
    if len(chosen) != 1:
        what = "several sets of weights" if chosen else "averaged weights only"
        raise InputError(
            f"{path} holds {what} ({listing(keys)})", "one", f"say which one is meant, for instance weights={keys[0]!r}"
        )
    return _chosen(content[chosen[0]], chosen[0], keys)


def recipe_of_optimizer(content: Any) -> dict[str, float]:
    """Learning rate, momentum and weight decay of the one optimizer state beside the weights; empty if there is none.

    The rate the schedule started from (``initial_lr``) is preferred to the last one. Of several parameter groups the
    one with most parameters speaks.
    """
    if not isinstance(content, Mapping):
        return {}
    states = [value for value in content.values() if isinstance(value, Mapping) and _has_groups(value)]
    if len(states) != 1:
        return {}
    group = max(states[0]["param_groups"], key=lambda one: len(one.get("params", ())))
    found = {
        "learning_rate": group.get("initial_lr", group.get("lr")),
        "momentum": group.get("momentum"),
        "weight_decay": group.get("weight_decay"),
    }
    recipe: dict[str, float] = {}
    for name, value in found.items():
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            recipe[name] = float(number)
    return recipe


def check_weights(state: Mapping[str, Tensor], path: Path, file_size: int) -> None:
    """Refuse weights that cannot be measured.

    Raises
    ------
    InputError
        For no tensors or too many, tensors that are sparse, quantised or without data, tensors that claim more elements
        than their storage holds, and NaN or infinite values. A mask of zeros and minus infinity is no diverged weight.
    """
    if not 0 < len(state) <= MAX_TENSORS:
        raise InputError(f"{path} holds {len(state):,} tensors", f"1 to {MAX_TENSORS:,}")
    storages: dict[int, int] = {}
    for name, tensor in state.items():
        if type(tensor) not in (Tensor, nn.Parameter) or not _is_plain(tensor):
            raise InputError(f"{shown(name)} in {path} is no plain tensor of numbers", "dense tensors", RE_SAVE)
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(
                f"{shown(name)} in {path} claims {tensor.numel():,} elements, "
                f"its storage holds {storage.nbytes():,} bytes",
                "a storage for every element",
                "save tensor.contiguous()",
            )
    if sum(storages.values()) > file_size:
        raise InputError(f"the tensors of {path} claim more bytes than the file has ({file_size:,})", "", RE_SAVE)
    bad = [name for name, tensor in state.items() if _diverged(tensor)]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(state)} tensors in {path} hold NaN or infinite values ({listing(bad)}): "
            "training diverged, which is a diagnosis in itself",
            "finite weights",
            "train with a lower learning rate, or give a checkpoint from before it diverged",
        )


def _is_state(value: Any) -> bool:
    """Whether it is a state dict: names to tensors and nothing else (modules may add a non-tensor ``_extra_state``)."""
    return (
        isinstance(value, Mapping)
        and any(isinstance(one, Tensor) for one in value.values())
        and all(
            isinstance(name, str) and (isinstance(one, Tensor) or name.endswith("_extra_state"))
            for name, one in value.items()
        )
    )


def _chosen(state: Mapping[str, Any], key: str, candidates: list[str]) -> Weights:
    # torch's AveragedModel counts what it averages: where that count stands among the weights, say what they are
    averaged = " (averaged weights)" if "n_averaged" in state else ""
    return Weights(_bare(state), key + averaged, tuple(candidates))


def _bare(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors under the bare network's names, without what DataParallel, compile, FSDP and AveragedModel add."""
    bare = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    while True:
        bare = {name: tensor for name, tensor in bare.items() if name != "n_averaged"} or bare
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in bare)), None)
        if prefix is None:
            return {name: tensor.detach() for name, tensor in bare.items()}
        bare = {name.removeprefix(prefix): tensor for name, tensor in bare.items()}


def _has_groups(value: Mapping[Any, Any]) -> bool:
    groups = value.get("param_groups")
    return isinstance(groups, list) and bool(groups) and all(isinstance(group, Mapping) for group in groups)


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_nested
    )


def _diverged(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    if tensor.element_size() == 1:
        tensor = tensor.float()  # torch has no isfinite for 8-bit floats
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return False
    is_mask = (
        not tensor.is_complex()
        and bool(finite.any())
        and not bool(tensor[finite].any())
        and bool((tensor[~finite] == -math.inf).all())
    )
    return not is_mask


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"keys {listing([str(key) for key in content])}" if content else "it is empty"
    return f"it holds a {type(content).__name__}"
