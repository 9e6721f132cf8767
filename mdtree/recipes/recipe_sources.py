"""Finding the training recipe in a checkpoint: which framework wrote it, and which of its places is heard first.

Of places that tell the same value the first of these is heard:

1. settings in the optimizer's state that were in force from the start (``initial_lr``, ``max_lr``, ``weight_decay``),
   and the rates that the schedule's state starts from;
2. what the framework recorded of the run: Lightning's loops, ``trainer_state.json``, timm's ``epoch``;
3. hyper-parameters: Lightning's, ``training_args.bin``, ``args``, ``config`` ...;
4. plain values beside the weights: ``epoch``, ``lr``, ``batch_size`` ...;
5. the optimizer's count of updates and its last learning rate.

Within one of them, values that contradict each other are left out, and a note says so. Nothing is made up: what no
place tells is not in the recipe. An estimate (the size of the training set from batches and batch size) says "about".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtree.reading.checkpoint_files import FileContents
from mdtree.reading.inert_objects import InertObject, is_module
from mdtree.recipes.recipe import Recipe
from mdtree.recipes.recipe_findings import Findings, containers, whole
from mdtree.recipes.recipe_lightning import is_lightning, put_lightning
from mdtree.recipes.recipe_optimizer import (
    chief,
    optimizer_states,
    put_last_rate,
    put_optimizer,
    put_schedules,
    put_steps,
)
from mdtree.recipes.recipe_timm import is_timm, put_timm, timm_network
from mdtree.recipes.recipe_trainer import ARGUMENTS, CONFIG, STATE, put_trainer, started_from
from mdtree.recipes.recipe_written import (
    doubt_batch_size,
    fine_tuned_from,
    put_planned,
    put_settings,
    put_written,
    settings_of,
)
from mdtree.weights.checkpoint_contents import Weights


def find_recipe(contents: FileContents, weights: Weights | None = None) -> Recipe:
    """What a checkpoint tells of how its network was trained.

    Parameters
    ----------
    contents : FileContents
        What the file or folder holds.
    weights : Weights, optional
        The weights in use: scores that belong to averaged ones are left out where these are not, and the reverse.

    Returns
    -------
    Recipe
        Plain, finite values, each with its source.
    """
    content = _entries(contents.content)
    findings = Findings()
    files = {"": content, **contents.beside}
    optimizers = optimizer_states(files)
    speaker = chief(optimizers)
    if len(optimizers) > 1 and speaker is None:
        findings.notes.append(f"the file holds {len(optimizers)} optimizers that do not agree: none of them is heard")
    if speaker is not None:
        put_optimizer(findings, speaker)
    put_schedules(findings, files)
    parts = settings_of(content)
    framework = framework_of(contents)
    holds_trained = _holds_validated(content, weights)
    if framework == "lightning":
        put_lightning(findings, content, holds_trained)
    elif framework == "timm":
        put_timm(findings, content, parts.get("args", {}), holds_trained)
    elif STATE in contents.beside or ARGUMENTS in contents.beside:
        put_trainer(findings, contents.beside)
    if framework not in ("lightning", "timm"):
        doubt_batch_size(findings, parts)
        put_settings(findings, parts)
        put_written(findings, content, _schedule_epochs(content))
    put_planned(findings)
    if speaker is not None:
        put_steps(findings, speaker)
        put_last_rate(findings, speaker)
    return Recipe(
        values=findings.values,
        sources=findings.sources,
        framework=framework,
        recorded=findings.recorded,
        fine_tuned_from=started_from(contents.beside, findings.notes) or fine_tuned_from(parts),
        network=timm_network(content, parts.get("args", {})) if framework == "timm" else None,
        notes=tuple(findings.notes),
    )


def framework_of(contents: FileContents) -> str:
    """What wrote a checkpoint, by marks that only it leaves; "pytorch" where there are none."""
    content, beside = contents.content, contents.beside
    if isinstance(content, Mapping) and content.get("format") == "mdtree-checkpoint":
        return "mdtree"
    if contents.metadata is not None and "mdtree" in contents.metadata:
        return "mdtree"
    if is_lightning(content):
        return "lightning"
    if is_timm(content):
        return "timm"
    config = beside.get(CONFIG)
    if STATE in beside or ARGUMENTS in beside or (isinstance(config, Mapping) and "model_type" in config):
        return "transformers"
    if any(name.startswith("random_states") for name in beside) or "accelerate" in contents.layout:
        return "accelerate"
    return "torch.distributed.checkpoint" if "distributed" in contents.layout else "pytorch"


def _entries(content: Any) -> Mapping[Any, Any]:
    """The entries of a dict, or the attributes of an object of the user's own."""
    if isinstance(content, InertObject):
        return {} if is_module(content) else content.attributes
    return content if isinstance(content, Mapping) else {}


def _holds_validated(content: Mapping[Any, Any], weights: Weights | None) -> bool:
    """Whether the weights in use are those that training validated: of Lightning and timm the mean, if there is one."""
    if weights is None:
        return True
    used = weights.found_in
    if "current_model_state" in content:  # Lightning's WeightAveraging keeps the mean as state_dict
        return used.startswith("state_dict")
    return used == ("state_dict_ema" if "state_dict_ema" in content else "state_dict")


def _schedule_epochs(content: Mapping[Any, Any]) -> int | None:
    """How often the one schedule was stepped; None where there are none or several."""
    schedules = [held for _, held in containers(content) if "_last_lr" in held or "base_lrs" in held]
    counts = {whole(held.get("last_epoch")) for held in schedules}
    return counts.pop() if len(counts) == 1 else None
