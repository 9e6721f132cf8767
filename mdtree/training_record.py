"""Keeping, while a network trains, what its checkpoint needs to be diagnosed: three lines of a hand-written loop."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdtree.checkpoint_saving import save_checkpoint
from mdtree.manifest import Manifest
from mdtree.recipes.recipe import RecipeValue


class TrainingRecord:
    """What is known at the start of training and gone at its end.

    ::

        record = mdtree.TrainingRecord(model, optimizer)            # before the first step
        ...                                                         # your loop
        record.save("run7.pt", model_spec="nets:make", data_spec="data:load", recipe={"batch_size": 128, "epochs": 50})

    Parameters
    ----------
    model : torch.nn.Module
        As it starts; its weights are read now, and saved by `save`.
    optimizer : torch.optim.Optimizer, optional
        Its name, learning rate, momentum and weight decay go into the recipe. The rate is that of now, before any
        schedule moves it.
    fine_tuned_from : str, optional
        What the weights were taken from, where they are not fresh.

    Attributes
    ----------
    initial_norm_squared : float or None
        ``||w_0||^2`` over all floating-point parameters, biases included, summed in float64; None for a training that
        was taken up again and whose start nobody kept.
    recipe : dict
        What the optimizer told.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, fine_tuned_from: str | None = None
    ) -> None:
        self.model = model
        self.fine_tuned_from = fine_tuned_from
        self.initial_norm_squared: float | None = norm_squared(model)
        self.recipe: dict[str, RecipeValue] = {} if optimizer is None else recipe_of(optimizer)

    def manifest(
        self,
        *,
        model_spec: str | None = None,
        data_spec: str | None = None,
        recipe: Mapping[str, RecipeValue] | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> Manifest:
        """What is known, as a checkpoint keeps it; parameters as for `save`."""
        return Manifest(
            model_spec,
            data_spec,
            {**self.recipe, **(recipe or {})},
            self.initial_norm_squared,
            scores or {},
            self.fine_tuned_from,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        model_spec: str | None = None,
        data_spec: str | None = None,
        recipe: Mapping[str, RecipeValue] | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> Path:
        """Save the network as it is now, see `mdtree.save_checkpoint`.

        Parameters
        ----------
        path : path
            Ends in ``.pt``, ``.pth`` or ``.safetensors``.
        model_spec, data_spec : str, optional
            How to build the network and to load its data.
        recipe : mapping, optional
            Added to what the optimizer told, and stronger: ``batch_size``, ``epochs`` ...
        scores : mapping, optional
            ``train_accuracy_percent`` and others, see `mdtree.save_checkpoint`.

        Raises
        ------
        InputError
            As in `mdtree.save_checkpoint`.
        """
        stated = self.manifest(model_spec=model_spec, data_spec=data_spec, recipe=recipe, scores=scores)
        return save_checkpoint(
            path,
            self.model,
            model_spec=stated.model,
            data_spec=stated.data,
            recipe=stated.recipe,
            initial_norm_squared=stated.initial_norm_squared,
            scores=stated.scores,
            fine_tuned_from=stated.fine_tuned_from,
        )


def norm_squared(model: nn.Module) -> float:
    """``||w||^2`` over all floating-point parameters, in float64; a shared one counts once."""
    with torch.no_grad():
        return float(
            sum(float(p.detach().double().square().sum()) for p in model.parameters() if p.is_floating_point())
        )


def recipe_of(optimizer: torch.optim.Optimizer) -> dict[str, RecipeValue]:
    """Name and settings of an optimizer; where its groups differ, those of the group with most numbers."""
    group: Mapping[str, Any] = max(
        optimizer.param_groups, key=lambda one: sum(parameter.numel() for parameter in one["params"])
    )
    betas = group.get("betas")
    found = {
        "learning_rate": group.get("initial_lr", group.get("lr")),
        "momentum": group.get("momentum", betas[0] if isinstance(betas, tuple | list) and betas else None),
        "weight_decay": group.get("weight_decay"),
    }
    numbers = {name: float(value) for name, value in found.items() if value is not None and math.isfinite(float(value))}
    return {"optimizer": type(optimizer).__name__.lower(), **numbers}
