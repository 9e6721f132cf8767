"""The names that `transformers` gives to a network's weights in files, where they are not those in memory.

Version 5 builds some networks (ViT, BEiT, DINOv2 ...) of other modules than it did, and still writes and reads files
with the older names: ``vit.layers.0.attention.q_proj`` is saved as ``vit.encoder.layer.0.attention.attention.query``.
"""

from __future__ import annotations

import sys

import torch
from torch import nn


def names_in_files(model: nn.Module) -> dict[str, str]:
    """The names that files have for the entries of a network's state dict, for those that differ.

    Parameters
    ----------
    model : torch.nn.Module
        A network of `transformers`, or one that holds some; `transformers` is not imported for any other.

    Returns
    -------
    dict of str to str
        Name in memory to name in files.
    """
    found: dict[str, str] = {}
    if "transformers" not in sys.modules:  # then no module can be one of its networks
        return found
    from transformers import PreTrainedModel

    inside: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, PreTrainedModel) and not any(path.startswith(f"{one}.") or not one for one in inside):
            inside.append(path)
            prefix = f"{path}." if path else ""
            found |= {prefix + own: prefix + saved for own, saved in _saved_names(module).items()}
    return found


def _saved_names(model: nn.Module) -> dict[str, str]:
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 both names were one
        return {}
    names = list(model.state_dict())
    # numbers stand for the weights, so that each is known again under its other name
    numbered = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    try:
        saved = revert_weight_conversion(model, numbered)  # type: ignore[arg-type]
        found = {names[int(value)]: name for name, value in saved.items()}
    except (
        Exception
    ):  # weights that are cut or joined for a file have no other name: theirs are then compared as they are
        return {}
    return {own: name for own, name in found.items() if own != name} if len(found) == len(names) else {}
