"""Nests of values that no framework writes: what is told of them is plain and finite, and nothing breaks."""

from __future__ import annotations

import contextlib
import math
import random
from pathlib import Path
from typing import Any

import torch

from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import FileContents
from mdtree.reading.inert_objects import inert_class
from mdtree.recipes.recipe_sources import find_recipe
from mdtree.weights.checkpoint_contents import find_weights

NAMES = (
    *("state_dict", "optimizer", "param_groups", "state", "callbacks", "loops", "fit_loop", "args", "arch", "version"),
    *("epoch", "lr", "betas", "params", "initial_lr", "_schedulers", "last_epoch", "_last_lr", "base_lrs", "step"),
    *("pytorch-lightning_version", "hyper_parameters", "ModelCheckpoint", "monitor", "best_k_models", "current_score"),
    *("eval_accuracy", "log_history", "global_step", "_name_or_path", "batch_size", "world_size", "n_averaged", "ema"),
    *(0, None, (1, 2), b"x", 3.5),
)
VALUES = (
    *(
        0,
        1,
        -1,
        12,
        0.5,
        93.2,
        math.nan,
        math.inf,
        10**400,
        "x",
        "0.1",
        "val_acc",
        "a\nb",
        "",
        None,
        True,
        b"b",
        2 + 3j,
    ),
    *(torch.ones(2), torch.tensor(4), torch.ones((), dtype=torch.complex64), torch.empty((), device="meta"), {1}),
)


def nest(chance: random.Random, depth: int) -> Any:
    """Dicts, lists, objects and values under the names that are looked for, in any order."""
    kind = chance.random()
    if depth == 0 or kind > 0.65:
        return chance.choice(VALUES)
    if kind < 0.45:
        return {chance.choice(NAMES): nest(chance, depth - 1) for _ in range(chance.randrange(6))}
    if kind < 0.55:
        return [nest(chance, depth - 1) for _ in range(chance.randrange(4))]
    made = inert_class(chance.choice(("argparse.Namespace", "omegaconf.DictConfig", "a.DTensor")))(*VALUES[:1])
    made.state = nest(chance, depth - 1)
    return made


def test_no_nest_of_values_leads_to_anything_but_a_recipe_or_a_sentence() -> None:
    files = ("trainer_state.json", "training_args.bin", "config.json", "optimizer.pt", "all_results.json")
    for seed in range(1500):
        chance = random.Random(seed)
        content = {chance.choice(NAMES): nest(chance, 4) for _ in range(10)}
        weights = None
        with contextlib.suppress(InputError):
            weights = find_weights(content, Path("net.pt"))
        beside = {name: nest(chance, 4) for name in files if chance.random() < 0.4}
        found = find_recipe(FileContents(content, None, "", 0, beside=beside), weights)
        assert all(type(value) in (int, float, str) and value == value for value in found.values.values())
        assert all(math.isfinite(one.value) for one in found.recorded.values())
        assert "\n" not in "".join((*map(str, found.values.values()), *found.sources.values(), *found.notes))
