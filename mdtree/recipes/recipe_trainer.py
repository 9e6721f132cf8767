"""What the files of a Hugging Face Trainer beside the weights tell of training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdtree.reading.inert_objects import plain_values
from mdtree.recipes.recipe_findings import Findings, first, real, text, whole

STATE, ARGUMENTS, CONFIG = "trainer_state.json", "training_args.bin", "config.json"
_RESULTS = ("all_results.json", "train_results.json", "eval_results.json")
_EVALUATED = {"eval_accuracy": "test_accuracy_percent", "eval_loss": "test_loss"}
_SAME_NAME = ("learning_rate", "weight_decay", "warmup_steps", "seed")


def put_trainer(findings: Findings, beside: Mapping[str, Any]) -> None:
    """Progress and scores from ``trainer_state.json``, settings from ``training_args.bin``."""
    state = _mapping(beside.get(STATE))
    arguments = _mapping(beside.get(ARGUMENTS))
    findings.put("epochs", state.get("epoch"), f"epoch in {STATE}")
    findings.put("steps", state.get("global_step"), f"global_step in {STATE}")
    _put_arguments(findings, arguments)
    _put_batch(findings, arguments, state)
    for file in _RESULTS:
        _put_results(findings, _mapping(beside.get(file)), file)
    if not arguments.get("load_best_model_at_end"):
        _put_scores(findings, state)
    elif first(state.get("log_history")):
        findings.notes.append(
            "the best of several checkpoints may have been loaded at the end of training: "
            f"the scores in {STATE} are left out"
        )


def started_from(beside: Mapping[str, Any], notes: list[str]) -> str | None:
    """The name of the published weights that ``config.json`` says training started from.

    A folder is no such name: it may be the run's own output, and is put into `notes`.
    """
    name = text(_mapping(beside.get(CONFIG)).get("_name_or_path"))
    if not name:
        return None
    if re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) and "checkpoint-" not in name:
        return name
    notes.append(f"{CONFIG} says that the network was read from {name}: if training started there, say so with --init")
    return None


def _put_arguments(findings: Findings, arguments: Mapping[str, Any]) -> None:
    for name in _SAME_NAME:
        findings.put(name, arguments.get(name), f"{name} in {ARGUMENTS}")
    optimizer = text(arguments.get("optim"))
    if optimizer is not None:
        # "adamw_torch_fused" and others say which code runs the same optimizer
        findings.put("optimizer", optimizer.removeprefix("OptimizerNames.").partition("_")[0], f"optim in {ARGUMENTS}")
    findings.put("schedule", arguments.get("lr_scheduler_type"), f"lr_scheduler_type in {ARGUMENTS}")
    findings.put("warmup_share", arguments.get("warmup_ratio") or None, f"warmup_ratio in {ARGUMENTS}")
    smoothing = arguments.get("label_smoothing_factor")
    findings.put("label_smoothing", smoothing or None, f"label_smoothing_factor in {ARGUMENTS}")
    for number in (1, 2):
        findings.put(f"beta{number}", arguments.get(f"adam_beta{number}"), f"adam_beta{number} in {ARGUMENTS}")
    planned = real(arguments.get("num_train_epochs"))
    if planned is not None and (whole(arguments.get("max_steps")) or -1) <= 0:
        known = findings.values.get("epochs")
        name = "epochs" if known is None else "planned_epochs"
        if known != planned:
            findings.put(name, planned, f"num_train_epochs in {ARGUMENTS} (as planned)")


def _put_batch(findings: Findings, arguments: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Samples in one update, and from it the size of the training set."""
    one = whole(arguments.get("per_device_train_batch_size"))
    if one is None:
        return
    factors = [(one, "per_device_train_batch_size")]
    factors += [(whole(arguments.get("gradient_accumulation_steps")) or 1, "gradient_accumulation_steps")]
    processes = whole(_mapping(arguments.get("distributed_state")).get("num_processes"))
    factors += [(max(1, whole(arguments.get("_n_gpu")) or 1), "GPUs a process"), (max(1, processes or 1), "processes")]
    told = [(number, name) for number, name in factors if number != 1] or factors[:1]
    size = 1
    for number, _ in told:
        size *= number
    words = " x ".join(f"{name} {number}" if len(told) > 1 else name for number, name in told)
    findings.put("batch_size", size, f"{words} in {ARGUMENTS}")
    steps, epochs = real(state.get("global_step")), real(state.get("epoch"))
    if steps and epochs and steps / epochs >= 1:
        an_epoch = round(steps / epochs)
        source = f"about: {an_epoch} updates an epoch (global_step / epoch in {STATE}) x {size} (batch size)"
        findings.put("train_size", an_epoch * size, source)


def _put_results(findings: Findings, results: Mapping[str, Any], file: str) -> None:
    """What the example scripts write at the end, of the weights that they saved."""
    if "train_samples" in results:
        findings.values.pop("train_size", None)  # a count is better than an estimate
        findings.put("train_size", results["train_samples"], f"train_samples in {file}")
    for key, name in _EVALUATED.items():
        if key in results:
            findings.record(name, results[key], f"{key} in {file}")


def _put_scores(findings: Findings, state: Mapping[str, Any]) -> None:
    """The last scores, where they were taken at the last update; losses of smoothed labels are others."""
    history = state.get("log_history")
    entries = list(enumerate(history))[-50:] if isinstance(history, list) else []
    last = whole(state.get("global_step"))
    for number, entry in reversed(entries):
        if not isinstance(entry, Mapping) or whole(entry.get("step")) != last:
            continue
        names = {**_EVALUATED, "loss": "train_loss"}
        if "label_smoothing" in findings.values:
            names = {"eval_accuracy": "test_accuracy_percent"}
        for key, name in names.items():
            if key in entry:
                findings.record(name, entry[key], f"log_history[{number}].{key} in {STATE}")


def _mapping(value: Any) -> Mapping[str, Any]:
    plain = plain_values(value) if value is not None else {}
    return plain if isinstance(plain, Mapping) else {}
