"""Sample checkpoints: held-out cells of a zoo, retrained bit for bit and saved with a sibling, named by their truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdtree.checkpoint_saving import save_checkpoint
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.grid import plan_units
from mdtree.grid_spec import ZooSpec
from mdtree.grid_unit import network_seed, rebuild, train_unit
from mdtree.zoo import FAILURES, RFI_COLUMNS, UNLABELLED

FURTHER = 3
"""Samples beside the first of each kind; at least one sample of all has label noise."""


def draw_samples(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose cells by a rule fixed beforehand: the first of each kind in a seeded shuffle, then three second ones.

    A cell's cause is clear when all its rows (each labelled by the other seeds) carry the same unambiguous verdict.
    The three further cells are the next in the shuffle, no two of the same kind. If none of the first seven has label
    noise, the eighth is the first remaining cell that has.

    Returns
    -------
    pandas.DataFrame
        The row of seed 0 of each drawn cell, with a column `file` ("model_too_small-1").

    Raises
    ------
    InputError
        Some cause has no clear held-out cell.
    """
    held = table[table["split"] == "held_out"]
    clear = held.groupby("cell", sort=False).filter(lambda rows: rows["label_verdict"].nunique() == 1)
    clear = clear[~clear["label_verdict"].isin(UNLABELLED) & (clear["seed"] == 0)]
    order = np.random.default_rng(seed).permutation(len(clear))
    shuffled = clear.iloc[order]
    firsts = shuffled.drop_duplicates("label_verdict")
    missing = set(FAILURES) - set(firsts["label_verdict"])
    if missing:
        raise InputError(f"no clear held-out cell is {', '.join(sorted(missing))}", "one of each cause")
    chosen = list(firsts.index)
    rest = [i for i in shuffled.index if i not in chosen]
    while len(chosen) < len(FAILURES) + FURTHER and rest:
        last = len(chosen) == len(FAILURES) + FURTHER - 1
        noisy = [i for i in rest if table.at[i, "label_noise"] > 0]
        need_noise = last and noisy and not (table.loc[chosen, "label_noise"] > 0).any()
        chosen.append(noisy[0] if need_noise else rest[0])
        kind = table.at[chosen[-1], "label_verdict"]
        rest = [i for i in rest if table.at[i, "label_verdict"] != kind]
    drawn = table.loc[chosen].copy()
    number = drawn.groupby("label_verdict").cumcount() + 1
    drawn["file"] = drawn["label_verdict"] + "-" + number.astype(str)
    return drawn


def write_samples(
    spec: ZooSpec,
    drawn: pd.DataFrame,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[str, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Retrain the drawn cells and save seed 0 and its sibling of each.

    A README.md beside them says what each is.

    Returns
    -------
    list of dict
        Per sample its file, cell, recipe and true RFIs.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    units = {cell.name: (unit, cell) for unit in plan_units(spec) for cell in unit.cells}
    written = []
    for number, (_, row) in enumerate(drawn.iterrows()):
        unit, cell = units[str(row["cell"])]
        block, settings = unit.block, spec.recipe(cell)
        trained = train_unit(unit)
        data = load_data(block.data_spec)
        for seed, ending in ((0, ".pt"), (int(row["sibling_seed"]), ".sibling.pt")):
            recipe: dict[str, float | str] = {
                "optimizer": settings.optimizer,
                "learning_rate": settings.learning_rate,
                "momentum": settings.momentum,
                "weight_decay": settings.weight_decay,
                "batch_size": settings.batch_size,
                "steps": settings.steps,
                "schedule": settings.schedule,
                "width": block.width,
                "train_size": block.train_size,
                "label_noise": block.label_noise,
                "seed": network_seed(seed),
            }
            save_checkpoint(
                target / f"{row['file']}{ending}",
                rebuild(block, data, trained[cell.name, seed]),
                model_spec=block.model_spec,
                data_spec=block.data_spec,
                recipe=recipe,
            )
        rooms = {column: float(row[column]) for column in RFI_COLUMNS}
        written.append({"file": f"{row['file']}.pt", "cell": row["cell"], "seed": 0, "recipe": recipe, **rooms})
        if progress:
            progress(str(row["file"]), (number + 1) / len(drawn))
    (target / "README.md").write_text(_readme(spec, drawn), encoding="utf-8")
    return written


def _readme(spec: ZooSpec, drawn: pd.DataFrame) -> str:
    """What the folder holds, as a table: recipe and the true rooms for improvement of every sample."""
    lines = [
        "# Sample checkpoints",
        "",
        f"Held-out cells of the zoo `{spec.family}`: no diagnoser was fitted on them. Each is named by its true",
        "cause, the largest of its four rooms for improvement (RFI: points of test accuracy that the best single",
        "change gains, from the other seeds of the grid; `-` where the grid ends in that direction).",
        "`NAME.sibling.pt` is the same training from another seed.",
        "",
        f"All: `{_listed(spec.architectures)}` on `{spec.data_name}`, {_listed(spec.budgets)} of "
        f"{_listed(spec.optimizers).upper()}, batch size {_listed(spec.batch_sizes)},",
        f"momentum {spec.momentum:g}, weight decay {_listed(spec.weight_decays)}, "
        f"schedule `{_listed(spec.schedules)}`.",
        "",
        "| checkpoint | width | training images | label noise | learning rate | temperature up | temperature down "
        "| larger model | more data |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for _, row in drawn.iterrows():
        rooms = ["-" if np.isnan(row[c]) else f"{row[c]:.1f} ± {row[c + '_standard_error']:.1f}" for c in RFI_COLUMNS]
        lines.append(
            f"| `{row['file']}.pt` | {row['width']:g} | {row['train_size']:g} "
            f"| {row['label_noise']:.0%} | {row['learning_rate']:g} | {' | '.join(rooms)} |"
        )
    return "\n".join(lines) + "\n"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
