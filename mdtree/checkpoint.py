"""Saving a trained network with what is needed to diagnose it, and opening the checkpoints people have, safely.

A checkpoint of this package is a ``.pt`` file (a dict of tensors and plain values, which
``torch.load(weights_only=True)`` opens anywhere) or a ``.safetensors`` file (the manifest as JSON in its metadata,
under ``mdtree``). The manifest names the network, the data and the training recipe. Checkpoints made elsewhere open
too; what they do not say stays None.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mdtree.checkpoint_contents import check_weights, find_weights, recipe_of_optimizer
from mdtree.checkpoint_files import read_checkpoint_file
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.specification import listing, parse, shown

FORMAT = "mdtree-checkpoint"
VERSION = 1

RecipeValue = int | float | bool | str | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint.

    Parameters
    ----------
    path : Path
        Where it was read.
    state : dict of str to Tensor
        The weights, on the CPU, under the bare network's names.
    model_spec, data_spec : str or None
        How the network and its data are named, where the file says so (see `build_model`, `load_data`).
    recipe : dict of str to int, float, bool, str or None
        How it was trained, as far as known: ``learning_rate``, ``batch_size``, ``epochs``, ``weight_decay`` ...
    initial_norm_squared : float or None
        Squared norm of all parameters before training.
    sha256 : str
        Of the file, in hexadecimal.
    weights_from : str
        "manifest" for a file of this package, the key the weights stood under, or "file" where it holds nothing else.
    candidates : tuple of str
        Everything in the file that could have been the weights.
    """

    path: Path
    state: dict[str, Tensor]
    model_spec: str | None
    data_spec: str | None
    recipe: dict[str, RecipeValue]
    initial_norm_squared: float | None
    sha256: str
    weights_from: str
    candidates: tuple[str, ...] = ()


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    model_spec: str | None = None,
    data_spec: str | None = None,
    recipe: Mapping[str, RecipeValue] | None = None,
    initial_norm_squared: float | None = None,
) -> Path:
    """Save a network's weights with what is needed to diagnose it.

    The file appears whole or not at all, and equal input gives equal bytes.

    Parameters
    ----------
    path : path
        Ends in ``.pt``, ``.pth`` or ``.safetensors``.
    model : torch.nn.Module
        Its state dict is saved; the network is not changed.
    model_spec, data_spec : str, optional
        Names from which `build_model` and `load_data` give the untrained network and its training data.
    recipe : mapping of str to int, float, bool, str or None, optional
        ``learning_rate``, ``batch_size``, ``epochs``, ``steps``, ``weight_decay``, ``momentum``, ``optimizer``,
        ``schedule``, ``seed``, ``label_noise``, ``train_size``, ``width`` ...
    initial_norm_squared : float, optional
        Squared norm of all parameters before training, for the metric ``log_weight_growth``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the ending is not known, a specification cannot be parsed, a value is not plain, or the file cannot be
        written.
    """
    file = Path(path)
    manifest = {
        "model": None if model_spec is None else str(parse(model_spec)),
        "data": None if data_spec is None else str(parse(data_spec)),
        "recipe": _checked_recipe(recipe or {}),
        "initial_norm_squared": _checked_norm(initial_norm_squared),
    }
    state = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} of the network's state is a {type(value).__name__}", "tensors only")
        # a copy of its own: what shares a storage, or is a part of a larger one, is saved as just its elements
        state[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if file.suffix == ".safetensors":
        text = json.dumps({"format": FORMAT, "version": VERSION, "manifest": manifest}, sort_keys=True)
        return write_atomically(file, safetensors.torch.save(state, {"mdtree": text}))
    if file.suffix not in (".pt", ".pth"):
        raise InputError(f"{file} ends in {file.suffix or 'nothing'}", ".pt, .pth or .safetensors")
    # pickle writes an object that occurs twice as a reference; strings that come out of JSON are never shared by
    # chance, so the bytes depend on the values alone
    plain = json.loads(json.dumps({"manifest": manifest, "names": list(state)}, sort_keys=True))
    named = dict(zip(plain["names"], state.values(), strict=True))
    content = {"format": FORMAT, "version": VERSION, "manifest": plain["manifest"], "state_dict": named}
    buffer = io.BytesIO()  # given a path, torch would write the file's name into the archive
    torch.save(content, buffer)
    return write_atomically(file, buffer.getvalue())


def open_checkpoint(path: str | os.PathLike[str], *, weights: str | None = None) -> Checkpoint:
    """Open a checkpoint without running anything in it.

    Reads files of `save_checkpoint`, bare state dicts, dicts that hold one beside an optimizer's state, and
    safetensors. Prefixes that wrappers put before every name (``module.``, ``_orig_mod.``) are taken off.

    Parameters
    ----------
    path : path
        The file.
    weights : str, optional
        The key to take the weights from, where the file holds several.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        One line of what is wrong with the file and how to mend it.
    """
    file = Path(path)
    contents = read_checkpoint_file(file)
    held = _manifest_of(contents.content, contents.metadata, file)
    content = contents.content
    if held is not None and contents.metadata is None:
        content = content.get("state_dict")
    found = find_weights(content, file, None if held is not None else weights)
    check_weights(found.state, file, contents.size)
    manifest: Mapping[str, Any] = held or {}
    recipe: dict[str, RecipeValue] = {**recipe_of_optimizer(content), **_checked_recipe(manifest.get("recipe") or {})}
    return Checkpoint(
        path=file,
        state=found.state,
        model_spec=_text_or_none(manifest, "model", file),
        data_spec=_text_or_none(manifest, "data", file),
        recipe=recipe,
        initial_norm_squared=_checked_norm(manifest.get("initial_norm_squared")),
        sha256=contents.sha256,
        weights_from="manifest" if held is not None else found.found_in,
        candidates=found.candidates,
    )


def load_into(model: nn.Module, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    """Load weights into a network; every name and shape must fit, and if one does not, the network is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
        Freshly built; changed in place.
    state : mapping of str to Tensor
        The weights.
    path : path
        Named in errors.

    Returns
    -------
    torch.nn.Module
        `model`.

    Raises
    ------
    InputError
        Lists what is missing, unexpected or of another shape, the first five of each.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshaped = [
        f"{shown(name)} {_shape(state[name])} for {_shape(value)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = [
        f"{len(names)} {word} ({listing(names)})"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if names
    ]
    if faults:
        raise InputError(
            f"the weights in {path} do not fit the network: {', '.join(faults)}",
            "the network they were trained in",
            "name it with --model package.module:factory?key=value",
        )
    # names were compared above; not strict, since a module may ask for an extra state that is no tensor
    model.load_state_dict(dict(state), strict=False)
    return model


def _manifest_of(content: Any, metadata: Mapping[str, str] | None, path: Path) -> Mapping[str, Any] | None:
    """The manifest of a file of this package; None for a file made elsewhere."""
    if metadata is None:
        held = content if isinstance(content, Mapping) and content.get("format") == FORMAT else None
    elif "mdtree" in metadata:
        try:
            held = json.loads(metadata["mdtree"])
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"the manifest of {path} is damaged", "", "save it again") from error
    else:
        held = None
    if held is None:
        return None
    version = held.get("version") if isinstance(held, Mapping) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(f"{path} is of version {version}", f"version {VERSION} or older", "update mdtree-diagnosis")
    manifest = held.get("manifest") if version == VERSION else None
    if not isinstance(manifest, Mapping) or not isinstance(manifest.get("recipe") or {}, Mapping):
        raise InputError(f"the manifest of {path} is damaged", "", "save it again")
    return manifest


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


def _text_or_none(manifest: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = manifest.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key} in the manifest of {path} is a {type(value).__name__}", "text")
    return value


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
