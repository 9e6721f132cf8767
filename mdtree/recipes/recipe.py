"""The training recipe as a checkpoint tells it: every value with the place it was found at.

`mdtree.recipes.recipe_sources.find_recipe` looks for it; here are the results alone, which need no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RecipeValue = int | float | bool | str | None


@dataclass(frozen=True)
class Recorded:
    """A score that the training itself wrote down.

    Parameters
    ----------
    value : float
        Accuracy in percent, or loss in nats.
    source : str
        Where it stands: "log_history[12].eval_accuracy in trainer_state.json".
    """

    value: float
    source: str


@dataclass(frozen=True)
class Recipe:
    """How a network was trained, as far as its checkpoint tells.

    Parameters
    ----------
    values : mapping of str to int, float, bool, str or None
        ``learning_rate`` (where a schedule starts; of a one-cycle schedule the top), ``batch_size`` (samples of one
        update), ``epochs`` (trained; ``planned_epochs`` where others were meant), ``steps`` (updates made),
        ``optimizer``, ``momentum``, ``beta1``, ``beta2``, ``weight_decay``, ``schedule``, ``warmup_steps``,
        ``warmup_share``, ``train_size``, ``label_smoothing``, ``seed`` ...
    sources : mapping of str to str
        For every value the place it was found at: "optimizer_states[0].param_groups[0].initial_lr".
    framework : str
        What wrote the file: "lightning", "transformers", "timm", "accelerate", "torch.distributed.checkpoint",
        "mdtree" or "pytorch".
    recorded : mapping of str to Recorded
        ``train_accuracy_percent``, ``train_loss``, ``test_accuracy_percent``, ``test_loss``, where they were written.
    fine_tuned_from : str or None
        What training started from, where it did not start from fresh weights.
    network : str or None
        The network's specification, where the file names it: ``timm:resnet18?num_classes=10``.
    notes : tuple of str
        Values that two places contradict, and what else was left out, as sentences for the report.
    """

    values: Mapping[str, RecipeValue] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    framework: str = "pytorch"
    recorded: Mapping[str, Recorded] = field(default_factory=dict)
    fine_tuned_from: str | None = None
    network: str | None = None
    notes: tuple[str, ...] = ()
