"""What the checkpoints of timm's training script tell: ``args`` with the network's name, and the score of the epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdtree.recipes.recipe_findings import Findings, text, whole
from mdtree.recipes.recipe_written import put_settings

_KEYS = {"arch", "state_dict", "args", "version"}
_NETWORK_NAME = r"[A-Za-z0-9_.\-]+"


def is_timm(content: Any) -> bool:
    """Whether timm's ``CheckpointSaver`` wrote it."""
    return isinstance(content, Mapping) and content.keys() >= _KEYS


def put_timm(findings: Findings, content: Mapping[Any, Any], args: Mapping[str, Any], holds_trained: bool) -> None:
    """Progress, settings and score.

    Parameters
    ----------
    findings : Findings
        Filled.
    content, args : mapping
        What the checkpoint holds, and its ``args`` as plain values.
    holds_trained : bool
        Whether the weights in use are those that the score belongs to.
    """
    epoch = whole(content.get("epoch"))
    if epoch is not None and (whole(content.get("version")) or 0) < 2:
        findings.put("epochs", epoch, "epoch (files of version 1 count from 1)")
    elif epoch is not None:
        findings.put("epochs", epoch + 1, "epoch + 1 (timm counts from 0)")
    one = whole(args.get("batch_size"))
    if one is not None:
        told = [(one, "batch_size"), (whole(args.get("world_size")) or 1, "world_size")]
        told += [(whole(args.get("grad_accum_steps")) or 1, "grad_accum_steps")]
        size = told[0][0] * told[1][0] * told[2][0]
        findings.put("batch_size", size, " x ".join(f"args.{name}" for number, name in told if number != 1))
    put_settings(findings, {"args": args})
    metric = text(args.get("eval_metric"))
    names = {"top1": "test_accuracy_percent", "loss": "test_loss"}
    if holds_trained and metric in names:
        findings.record(names[metric], content.get("metric"), f"metric ({metric})")


def timm_network(content: Mapping[Any, Any], args: Mapping[str, Any]) -> str | None:
    """The specification of the network: ``timm:resnet18?num_classes=10``."""
    name = text(content.get("arch"))
    if name is None or not re.fullmatch(_NETWORK_NAME, name):
        return None
    options = {key: whole(args.get(key)) for key in ("num_classes", "in_chans")}
    given = "&".join(f"{key}={number}" for key, number in options.items() if number is not None and number > 0)
    return f"timm:{name}" + (f"?{given}" if given else "")
