"""Saving a trained network with what is needed to diagnose it.

A checkpoint of this package is a ``.pt`` file (a dict of tensors and plain values, which
``torch.load(weights_only=True)`` opens anywhere) or a ``.safetensors`` file (the manifest as JSON in its metadata,
under ``mdtree``). The manifest names the network, the data and the training recipe.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.manifest import Manifest, stamped
from mdtree.recipes.recipe import RecipeValue


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    model_spec: str | None = None,
    data_spec: str | None = None,
    recipe: Mapping[str, RecipeValue] | None = None,
    initial_norm_squared: float | None = None,
    scores: Mapping[str, float] | None = None,
    fine_tuned_from: str | None = None,
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
    scores : mapping of str to float, optional
        ``train_accuracy_percent``, ``train_loss``, ``test_accuracy_percent``, ``test_loss`` as training saw them last:
        a diagnosis on data that were prepared otherwise then stops and asks.
    fine_tuned_from : str, optional
        What training started from, if not from fresh weights.

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
    manifest = Manifest(model_spec, data_spec, recipe or {}, initial_norm_squared, scores or {}, fine_tuned_from)
    stamp = stamped(manifest)
    state = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} of the network's state is a {type(value).__name__}", "tensors only")
        # a copy of its own: what shares a storage, or is a part of a larger one, is saved as just its elements
        state[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if file.suffix == ".safetensors":
        text = json.dumps(stamp, sort_keys=True)
        return write_atomically(file, safetensors.torch.save(state, {"mdtree": text}))
    if file.suffix not in (".pt", ".pth"):
        raise InputError(f"{file} ends in {file.suffix or 'nothing'}", ".pt, .pth or .safetensors")
    # pickle writes an object that occurs twice as a reference; strings that come out of JSON are never shared by
    # chance, so the bytes depend on the values alone
    plain = json.loads(json.dumps({"stamp": stamp, "names": list(state)}, sort_keys=True))
    named = dict(zip(plain["names"], state.values(), strict=True))
    content = {**plain["stamp"], "state_dict": named}
    buffer = io.BytesIO()  # given a path, torch would write the file's name into the archive
    torch.save(content, buffer)
    return write_atomically(file, buffer.getvalue())
