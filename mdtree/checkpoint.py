"""Opening the checkpoints people have, files and folders, safely; what one does not say stays None."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.manifest import SOURCE, Manifest, is_own_layout, read_manifest, recorded_in
from mdtree.reading.checkpoint_files import FileContents, read_checkpoint_file
from mdtree.reading.checkpoint_folder import files_beside, read_checkpoint_folder
from mdtree.reading.exported_program import open_program
from mdtree.recipes.recipe import Recipe, RecipeValue, Recorded
from mdtree.recipes.recipe_sources import find_recipe
from mdtree.weights.checkpoint_contents import Weights, find_weights
from mdtree.weights.weight_checks import check_weights
from mdtree.weights.weight_names import FittingState, fit_and_load


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
        How the network and its data are named, where a manifest says so (see `build_model`, `load_data`).
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
    recipe_sources : mapping of str to str
        Where each value of the recipe was found.
    framework, layout : str
        What wrote it ("lightning", "transformers", "pytorch" ...), and how ("safetensors in 3 shards").
    recorded : mapping of str to Recorded
        Accuracy and loss as training wrote them down.
    fine_tuned_from : str or None
        What training started from, where it did not start from fresh weights.
    network : str or None
        The network's specification, where something else than a manifest names it: ``timm:resnet18?num_classes=10``.
    beside : mapping of str to object
        Further files of its folder, by name: ``config.json`` ...
    notes : tuple of str
        Sentences for the report, on weights and recipe.
    file_notes : tuple of str
        The same on the file itself: what it carries no checksum of, what was read as inert data or not at all.
    prefix : str or None
        Which of several networks among the weights is meant, where the user said so: "teacher".
    program : torch.nn.Module or None
        The network itself, where the file is a program of ``torch.export`` (see `open_trusted_program`).
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
    recipe_sources: Mapping[str, str] = field(default_factory=dict)
    framework: str = "pytorch"
    layout: str = "torch.save"
    recorded: Mapping[str, Recorded] = field(default_factory=dict)
    fine_tuned_from: str | None = None
    network: str | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    file_notes: tuple[str, ...] = ()
    prefix: str | None = None
    program: nn.Module | None = None


def open_checkpoint(path: str | os.PathLike[str], *, weights: str | None = None) -> Checkpoint:
    """Open a checkpoint without running anything in it.

    Files: those of `save_checkpoint`; state dicts, bare or beside an optimizer; Lightning's, timm's, Hugging Face's;
    safetensors; whole pickled networks, of which the weights alone are read. Folders: Hugging Face, accelerate,
    distributed checkpoints. What wrappers put into every name (``module.``, ``_orig_mod.``) is taken off.

    Parameters
    ----------
    path : path
        The file or folder.
    weights : str, optional
        Which weights to take, where there are several: the dotted path they stand under ("model_ema"), or the first
        part of the names of one network among several ("teacher").

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        One line of what is wrong with the file and how to mend it.
    """
    file = Path(path)
    contents = read_contents(file)
    manifest = read_manifest(contents.content, contents.metadata, contents.beside, file)
    own = is_own_layout(contents.content) or "mdtree" in (contents.metadata or {})
    if own:
        state = contents.content if contents.metadata is not None else contents.content.get("state_dict")
        found, prefix = find_weights(state, file), None
    else:
        found, prefix = _meant(contents.content, file, weights)
    check_weights(found.state, file, contents.size)
    recipe = Recipe() if own else find_recipe(contents, found)
    if manifest is not None:
        recipe = _overruled(recipe, manifest)
    return Checkpoint(
        path=file,
        state=found.state,
        model_spec=None if manifest is None else manifest.model,
        data_spec=None if manifest is None else manifest.data,
        recipe=dict(recipe.values),
        initial_norm_squared=None if manifest is None else manifest.initial_norm_squared,
        sha256=contents.sha256,
        weights_from="manifest" if own else found.found_in,
        candidates=found.candidates,
        recipe_sources=recipe.sources,
        framework="mdtree" if own else recipe.framework,
        layout=contents.layout,
        recorded=recipe.recorded,
        fine_tuned_from=recipe.fine_tuned_from,
        network=recipe.network,
        beside=contents.beside,
        notes=tuple(dict.fromkeys((*found.notes, *recipe.notes))),
        file_notes=contents.notes,
        prefix=prefix,
    )


def open_trusted_program(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a program of ``torch.export``: WHICH RUNS CODE FROM THE FILE, so only where the user trusts it.

    Raises
    ------
    InputError
        If it is no such program, or its weights cannot be measured.
    """
    file = Path(path)
    program = open_program(file)
    state = {name: value.detach() for name, value in program.state_dict().items()}
    with open(file, "rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    check_weights(state, file, file.stat().st_size)
    return Checkpoint(
        path=file,
        state=state,
        model_spec=None,
        data_spec=None,
        recipe={},
        initial_norm_squared=None,
        sha256=sha256,
        weights_from="file",
        candidates=("file",),
        framework="torch.export",
        layout="a program of torch.export",
        program=program,
    )


def read_contents(file: Path) -> FileContents:
    """What a file or a folder holds, with what lies beside the file where it is one of a Hugging Face folder.

    Raises
    ------
    InputError
        As in `open_checkpoint`.
    """
    if file.is_dir():
        return read_checkpoint_folder(file)
    contents = read_checkpoint_file(file)
    return replace(contents, beside=files_beside(file))


def _meant(content: Any, file: Path, weights: str | None) -> tuple[Weights, str | None]:
    """The weights that the user names: a set of its own, or, as a prefix, one network among the names of one set."""
    try:
        return find_weights(content, file, weights), None
    except InputError:
        if weights is None:
            raise
        try:
            found = find_weights(content, file)
        except InputError:
            found = None
        if found is None or not any(name.startswith(f"{weights}.") for name in found.state):
            raise
        return found, weights


def _overruled(recipe: Recipe, manifest: Manifest) -> Recipe:
    """The recipe, with what the file's manifest states in place of what was found elsewhere in it."""
    stated = {name: value for name, value in manifest.recipe.items() if value is not None or name not in recipe.values}
    return replace(
        recipe,
        values={**recipe.values, **stated},
        sources={**recipe.sources, **dict.fromkeys(stated, SOURCE)},
        recorded={**recipe.recorded, **recorded_in(manifest)},
        fine_tuned_from=manifest.fine_tuned_from or recipe.fine_tuned_from,
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
    fit_and_load(model, state, path)
    return model


def load_weights(model: nn.Module, opened: Checkpoint) -> FittingState:
    """Load a checkpoint's weights into its network, as `load_into` does, and say how their names were fitted.

    Raises
    ------
    InputError
        As in `load_into`.
    """
    return fit_and_load(model, opened.state, opened.path, opened.prefix)
