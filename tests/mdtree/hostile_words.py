"""Good weights beside words that would clear the terminal, forge a line, or name a network beyond all bounds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hostile_contents import Bytes
from hostile_folders import Build, good
from hostile_pickles import STATE, saved

WORD = "\x1b[2K\nmdtree: fine\r\u202e"


def _optimizer() -> dict[str, Any]:
    return {
        "state": {},
        "param_groups": [{"lr": 0.1, WORD: WORD, "params": [0, 1], "weight_decay": WORD, "momentum": WORD}],
    }


def _lightning() -> bytes:
    named = dict.fromkeys(
        ("lr", "optimizer", "batch_size", "model", "dataset", "seed", "scheduler", "backbone", WORD), WORD
    )
    return saved(
        {
            "pytorch-lightning_version": WORD,
            "epoch": WORD,
            "global_step": WORD,
            "state_dict": STATE,
            "optimizer_states": [_optimizer()],
            "lr_schedulers": [{"T_max": WORD, "_last_lr": [WORD]}],
            "hyper_parameters": named,
            "hparams_name": WORD,
            "datamodule_hyper_parameters": {"batch_size": WORD, "name": WORD},
            "callbacks": {
                f"ModelCheckpoint{WORD}": {"monitor": WORD, "best_model_score": WORD, "best_model_path": WORD}
            },
        }
    )


def _timm() -> bytes:
    words = ("model", "opt", "lr", "batch_size", "sched", "dataset", "initial_checkpoint", "epochs")
    return saved(
        {
            "epoch": 3,
            "arch": WORD,
            "state_dict": STATE,
            "state_dict_ema": STATE,
            "optimizer": _optimizer(),
            "args": argparse.Namespace(**dict.fromkeys(words, WORD)),
            "version": 2,
            "metric": WORD,
        }
    )


def _loop() -> bytes:
    words = dict.fromkeys(("optimizer", "schedule", "sched", "arch", "finetune", "resume"), WORD)
    return saved(
        {"model": STATE, f"ema{WORD}": STATE, "optimizer": _optimizer(), "args": words, "best_acc": WORD, WORD: WORD}
    )


def _manifest(**entries: object) -> str:
    return json.dumps({"format": "mdtree-checkpoint", "version": 1, "manifest": entries})


def _own() -> bytes:
    manifest = _manifest(model="mlp", data="digits", recipe={WORD: WORD, "optimizer": WORD}, fine_tuned_from=WORD)
    return safetensors.torch.save(STATE, {"mdtree": manifest})


def _vast(model: str) -> Bytes:
    """A manifest that names a network which nobody's memory holds, for data that are always there."""
    return lambda: safetensors.torch.save(STATE, {"mdtree": _manifest(model=model, data="digits", recipe={})})


def _folder(folder: Path, _: str) -> Path:
    state = {
        "best_model_checkpoint": WORD,
        "epoch": WORD,
        "global_step": WORD,
        "log_history": [{f"eval_{WORD}": WORD, "loss": WORD}],
    }
    config = dict.fromkeys(("model_type", "_name_or_path", "problem_type", "torch_dtype", WORD), WORD)
    for name, content in (
        ("trainer_state.json", state),
        ("config.json", {**config, "architectures": [WORD]}),
        ("all_results.json", {WORD: WORD, "train_samples": WORD}),
        ("preprocessor_config.json", {WORD: WORD, "image_mean": WORD, "size": WORD}),
    ):
        (folder / name).write_text(json.dumps(content))
    words = ("output_dir", "optim", "learning_rate", "per_device_train_batch_size", "lr_scheduler_type", "seed")
    torch.save(argparse.Namespace(**dict.fromkeys(words, WORD)), folder / "training_args.bin")
    return good(folder)


WORDS: dict[str, tuple[Bytes, str]] = {
    "words in a checkpoint of Lightning": (_lightning, "state_dict: 2 tensors"),
    "words in a checkpoint of timm": (_timm, "state_dict: 2 tensors"),
    "words in a checkpoint of a loop": (_loop, "model: 2 tensors"),
    "words in a manifest": (_own, "2 tensors"),
}
VAST: dict[str, tuple[Bytes, str]] = {
    "a manifest of 10**9 layers": (_vast("mlp?depth=1000000000"), "Missing: .*network.*depth=1000000000"),
    "a manifest of 10**11 units": (_vast("mlp?width=100000000000"), "Missing: .*network.*more parameters"),
    "a manifest of 10**6 units": (_vast("mlp?width=1000000"), "Missing: .*network.*GB of memory"),
    "a manifest of a network by a function": (
        _vast("os:system?command=true"),
        "nothing that a checkpoint names is called",
    ),
}
"""Good weights, and a word for their network that would take hours or all memory to build."""

WORD_FOLDERS: dict[str, tuple[Build, str]] = {"words in a folder": (_folder, "2 tensors")}
