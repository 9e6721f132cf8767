"""What a Lightning checkpoint tells of training: its loops, its hyper-parameters, the scores its callbacks saw."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from mdtree.reading.inert_objects import plain_values
from mdtree.recipes.recipe_findings import Findings, real, text, whole
from mdtree.recipes.recipe_written import put_settings, score_name

VERSION_KEY = "pytorch-lightning_version"
_HYPER_PARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters", "hparams")
_LOOP = "loops.fit_loop.epoch_loop.batch_progress"


def is_lightning(content: Any) -> bool:
    """Whether a Lightning Trainer wrote it."""
    return isinstance(content, Mapping) and VERSION_KEY in content


def put_lightning(findings: Findings, content: Mapping[Any, Any], holds_trained: bool) -> None:
    """Progress, hyper-parameters and scores.

    Parameters
    ----------
    findings : Findings
        Filled.
    content : mapping
        What the checkpoint holds.
    holds_trained : bool
        Whether the weights in use are those that Lightning validated; scores of others are left out.
    """
    findings.put("steps", content.get("global_step"), "global_step")
    batches = _put_epochs(findings, content)
    put_settings(findings, {key: plain_values(content[key]) for key in _HYPER_PARAMETERS if key in content})
    if batches:
        _put_sizes(findings, batches)
    if holds_trained:
        _put_scores(findings, content)


def _put_sizes(findings: Findings, batches: int) -> None:
    """The size of the training set, and of an update where it saw several batches."""
    size, steps, epochs = (findings.values.get(name) for name in ("batch_size", "steps", "epochs"))
    if not isinstance(size, int):
        return
    told = findings.sources["batch_size"]
    # without dropping the last batch the set has up to one batch less, with it up to one batch more
    source = f"about: {batches} batches an epoch ({_LOOP}) x {size} ({told})"
    findings.put("train_size", batches * size, source)
    if isinstance(steps, int) and isinstance(epochs, int) and steps < batches * epochs:
        together = math.ceil(batches * epochs / steps)
        if math.ceil(batches / together) * epochs == steps:
            findings.values["batch_size"] = size * together
            findings.sources["batch_size"] = f"{told} x {together} batches an update (by global_step)"


def _put_epochs(findings: Findings, content: Mapping[Any, Any]) -> int | None:
    """Whole epochs trained; returns the number of batches of one, where it is known."""
    progress = _under(content, "loops", "fit_loop", "epoch_loop.batch_progress")
    done = whole(_under(progress, "total").get("processed"))
    batches = whole(_under(progress, "current").get("processed"))
    trained = whole(_under(content, "callbacks", "StochasticWeightAveraging").get("latest_update_epoch"))
    if progress.get("is_last_batch") is True and done and batches and done % batches == 0:
        epochs = done // batches
        if trained is not None and epochs == trained + 2:
            epochs -= 1  # averaging ends with an epoch that trains nothing, for the statistics of normalisation
        findings.put("epochs", epochs, f"{_LOOP} ({batches} batches an epoch)")
        return batches
    # in the middle of an epoch its number is that of the ones before; versions without loops count in their own way
    words = "those completed" if progress else "if that counts from 0, one more"
    findings.put("epochs", content.get("epoch"), f"epoch ({words})")
    return None


def _put_scores(findings: Findings, content: Mapping[Any, Any]) -> None:
    """The scores at which this file was written; the best of all epochs is not that of the weights at hand."""
    for callback, state in _under(content, "callbacks").items():
        if not (isinstance(state, Mapping) and str(callback).startswith("ModelCheckpoint")):
            continue
        monitor = text(state.get("monitor"))
        name = None if monitor is None else score_name(monitor)
        if name is not None and _is_of_this_save(content, state):
            findings.record(name, state.get("current_score"), f"callbacks.ModelCheckpoint.current_score ({monitor})")


def _is_of_this_save(content: Mapping[Any, Any], state: Mapping[Any, Any]) -> bool:
    """Whether ``current_score`` was taken when this file was written: in a last.ckpt it may be that of a better one.

    The file that was saved at that score has the step, or the epoch, in its name, unless the user named it otherwise.
    """
    score = real(state.get("current_score"))
    saved = _under(state, "best_k_models").items()
    return score is not None and any(
        real(value) == score and _names_this_save(content, path) for path, value in saved if isinstance(path, str)
    )


def _names_this_save(content: Mapping[Any, Any], path: str) -> bool:
    name = path[-200:].replace("\\", "/").rpartition("/")[2]
    for word, key in (("step", "global_step"), ("epoch", "epoch")):
        if (told := re.search(rf"{word}=(\d{{1,15}})", name)) is not None:
            return int(told[1]) == whole(content.get(key))
    return False


def _under(value: Any, *keys: str) -> Mapping[Any, Any]:
    """The dict that stands under a path of keys; an empty one where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
