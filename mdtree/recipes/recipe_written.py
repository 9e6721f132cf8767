"""What people write beside the weights by hand: ``args``, ``config``, ``epoch``, ``lr`` ..., under many names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mdtree.reading.inert_objects import InertObject, plain_values
from mdtree.recipes.recipe_findings import Findings, containers, real, text, whole

SETTINGS = frozenset(
    {"args", "arguments", "config", "configs", "cfg", "conf", "hparams", "hyper_parameters", "hyperparameters"}
    | {"hyperparams", "hyper_params", "opt", "opts", "options", "settings", "train_args", "training_args"}
    | {"train_config", "training_config", "recipe", "flags", "parameters"}
)
"""Keys under which settings stand."""

_NAMES = {
    "learning_rate": ("lr", "learning_rate", "learningrate", "base_lr", "init_lr", "initial_lr", "lr0"),
    "batch_size": ("batch_size", "bs", "batchsize", "train_batch_size", "bsz"),
    "planned_epochs": ("epochs", "num_epochs", "max_epochs", "n_epochs", "total_epochs", "num_train_epochs"),
    "weight_decay": ("weight_decay", "wd", "weightdecay"),
    "momentum": ("momentum",),
    "optimizer": ("optimizer", "optim", "opt", "optimizer_name"),
    "schedule": ("scheduler", "sched", "lr_scheduler", "schedule", "lr_schedule", "scheduler_name"),
    "label_smoothing": ("label_smoothing", "smoothing"),
    "seed": ("seed", "random_seed", "manual_seed"),
    "train_size": ("train_size", "n_train", "num_train", "num_train_samples", "train_samples"),
    "warmup_steps": ("warmup_steps",),
}
_BY_KEY = {key: name for name, keys in _NAMES.items() for key in keys}
_STEPS = (
    "global_step",
    "step",
    "steps",
    "iteration",
    "iterations",
    "iter",
    "num_updates",
    "n_iter",
    "iters",
    "iter_num",
)
_TRAINED_EPOCHS = ("epochs_trained", "epochs_run")
# settings that say that one update saw several of what a setting may call a batch
_BATCHES_AN_UPDATE = ("world_size", "gradient_accumulation_steps", "grad_accum_steps", "accumulate_grad_batches")
_STARTS = ("initial_checkpoint", "init_checkpoint", "finetune_from", "fine_tuned_from", "pretrained_path")
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation", "eval", "dev")
_ACCURACY = ("acc", "accuracy", "acc1", "top1", "prec1")


def score_name(key: str) -> str | None:
    """Which score a key means, "val_acc" or "train/loss_epoch"; None where set or measure are not said, and for a best.

    The best of all epochs is not that of the weights at hand.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", key[:100].lower()) if word not in ("epoch", "step", "")]
    words = [word for word in words if word not in ("percent", "pct")]
    if len(words) != 2:
        return None
    sets = {"train" for word in words if word in _TRAIN} | {"test" for word in words if word in _TEST}
    measures = {"accuracy_percent" for word in words if word in _ACCURACY} | {
        "loss" for word in words if word == "loss"
    }
    return f"{sets.pop()}_{measures.pop()}" if len(sets) == len(measures) == 1 else None


def put_settings(findings: Findings, parts: Mapping[str, Any]) -> None:
    """Settings out of nests of plain values, by the names in use; what two of them contradict is left out."""
    findings.put_agreeing(_settings(parts))


def settings_of(content: Any) -> dict[str, Any]:
    """The parts of a checkpoint that hold settings, as plain values."""
    if not isinstance(content, Mapping):
        return {}
    parts = {key: plain_values(value, 5) for key, value in content.items() if _holds_settings(key, value)}
    return {key: value for key, value in parts.items() if isinstance(value, Mapping)}


def put_written(findings: Findings, content: Mapping[Any, Any], schedule_epochs: int | None) -> None:
    """Progress, settings and scores that stand beside the weights themselves.

    Parameters
    ----------
    findings : Findings
        Filled.
    content : mapping
        What the checkpoint holds.
    schedule_epochs : int or None
        How often the schedule was stepped: it tells whether ``epoch`` counts from 0.
    """
    beside = {key: plain_values(one, 2) for key, one in content.items() if not isinstance(one, Mapping | list | tuple)}
    beside = {key: one for key, one in beside.items() if isinstance(one, int | float | str | Tensor)}
    for key in _STEPS:
        findings.put("steps", beside.get(key), key)
    for key in _TRAINED_EPOCHS:
        findings.put("epochs", beside.get(key), key)
    epoch = whole(beside.get("epoch"))
    if epoch is not None and schedule_epochs == epoch + 1:
        findings.put("epochs", epoch + 1, "epoch + 1 (counted from 0: the schedule was stepped once more)")
    else:
        findings.put("epochs", epoch, "epoch (if that counts from 0, one more)")
    put_settings(findings, {"": beside})
    _put_scores(findings, beside)


def put_planned(findings: Findings) -> None:
    """Of the epochs that were planned: how many were trained, where nothing else tells; no word, where they agree."""
    planned, source = findings.values.get("planned_epochs"), findings.sources.get("planned_epochs", "")
    if planned is None or findings.values.get("epochs") not in (None, planned):
        return
    del findings.values["planned_epochs"], findings.sources["planned_epochs"]
    findings.put("epochs", planned, f"{source} (as planned)")


def doubt_batch_size(findings: Findings, parts: Mapping[str, Any]) -> None:
    """Leave a batch size out that may be that of one process of several, or of one of several passes of an update."""
    for part, settings in parts.items():
        for key in _BATCHES_AN_UPDATE:
            number = whole(settings.get(key))
            if number is not None and number > 1 and "batch_size" not in findings.values:
                findings.contradicted.add("batch_size")
                findings.notes.append(
                    f"{part}.{key} is {number}: whether the batch size counts once or {number} times is not said, "
                    "it is left out"
                )


def fine_tuned_from(parts: Mapping[str, Any]) -> str | None:
    """What the settings say that training started from."""
    for name, settings in parts.items():
        for key in _STARTS:
            if (start := text(settings.get(key))) is not None:
                return start
        pretrained = settings.get("pretrained")
        if pretrained is True:
            return f"pretrained weights ({name}.pretrained)"
        weights = text(settings.get("weights"))
        if weights is not None and re.search("IMAGENET|DEFAULT", weights):  # as torchvision names what it publishes
            return weights
        if text(pretrained) is not None and str(pretrained).lower() not in ("false", "none", "no", "0"):
            return text(pretrained)
    return None


def _settings(parts: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for part, settings in parts.items():
        for place, held in containers(settings, depth=2):
            within = place.path.lower().split(".")
            if any(word in _TEST for word in within):
                continue
            for key, value in held.items():
                name = _meaning(within[-1], key)
                if name is not None:
                    yield name, value, ".".join(one for one in (part, place.path, key) if one)


def _meaning(parent: str, key: Any) -> str | None:
    """Which value of a recipe a key means: "lr", or "name" within "optimizer"."""
    if not isinstance(key, str) or len(key) > 40:
        return None
    if key in ("name", "type") and _BY_KEY.get(parent) in ("optimizer", "schedule"):
        key = parent
    return _BY_KEY.get(key.lower().replace("-", "_"))


def _holds_settings(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and key.lower() in SETTINGS
        and isinstance(value, Mapping | InertObject)
        and not (isinstance(value, Mapping) and "param_groups" in value)
    )


def _put_scores(findings: Findings, beside: Mapping[Any, Any]) -> None:
    told = {key: (name, value) for key, value in beside.items() if isinstance(key, str) and (name := score_name(key))}
    accuracies = [real(value) for name, value in told.values() if name.endswith("_percent")]
    in_percent = any(number is not None and number > 1 for number in accuracies)
    for key, (name, value) in told.items():
        number = real(value)
        if name.endswith("_percent") and in_percent and number is not None and number <= 1:
            continue  # beside percentages a small number may be one, too
        findings.record(name, value, key)
