"""A zoo whose test errors follow a formula and whose networks are diagnosed as scripted, for tests of interventions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mdtree.diagnoser_schema import Diagnoser, LeafStatistics, NotTrainingGate, QuestionTree, StepGain
from mdtree.grid_spec import Cell
from mdtree.nodes import Leaf, Split
from mdtree.room import label_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import DIRECTIONS, FAILURES, GAIN_COLUMN, METRICS

SPECIFICATION = """
family = "scripted"
seeds = 3
[data]
name = "digits"
train = [100, 400, 800]
[model]
name = "mlp"
width = [4, 16]
[training]
learning_rate = [0.01, 0.1, 1.0]
batch_size = 8
steps = 60
[held_out]
share = 0.5
seed = 3
"""

FACTORS = {"temperature_up": 10.0, "temperature_down": 10.0, "model_size": 4.0, "data": 4.0}
ANSWERS = ("healthy", *(failure for failure in FAILURES if failure != "healthy"))


def error_percent(cell: Cell) -> float:
    """20 points for a decade away from the best rate, 3 saved by a doubled width, 2 by doubled data."""
    away = abs(math.log10(cell.learning_rate / 0.1))
    return 50 + 20 * away - 3 * math.log2(cell.block.width / 4) - 2 * math.log2(cell.block.train_size / 100)


def scripted_spec(folder, text=SPECIFICATION):
    file = folder / "scripted.toml"
    file.write_text(text)
    return read_spec(file)


def scripted_diagnoser() -> Diagnoser:
    """The train loss is the number of the answer in `ANSWERS`; every leaf keeps the same steps."""
    node = Leaf(ANSWERS[4], {}, 4)
    for number in (3, 2, 1, 0):
        node = Split("train_loss", number + 0.5, Leaf(ANSWERS[number], {}, number), node)
    leaves = tuple(
        LeafStatistics(
            counts=dict.fromkeys(FAILURES, 1.0),
            probability={f: 0.8 if f == answer else 0.05 for f in FAILURES},
            room_points=dict.fromkeys(DIRECTIONS, 1.0),
            steps={d: StepGain(factor, 5.0, 1.0, 0.5, 0.1, 9) for d, factor in FACTORS.items()},
        )
        for answer in ANSWERS
    )
    return Diagnoser(
        name="scripted",
        zoo={"families": ["another"], "data_sets": ["digits"], "protocols": ["p"], "rows": 30, "cells": 6},
        trees={"verdict": {"sibling_test": QuestionTree(node, leaves)}},
        ranges={},
        not_training=NotTrainingGate(0.9, None),
    )


def scripted_zoo(spec, answers=lambda cell: "healthy") -> pd.DataFrame:
    """The labelled table of a specification; a little noise of its own for every network."""
    generator = np.random.default_rng(0)
    rows = []
    for cell in spec.cells():
        for seed in range(spec.seeds):
            row: dict[str, object] = dict.fromkeys(METRICS, np.nan)
            row.update(
                family=spec.family, data_set="digits", architecture="mlp", cell=cell.name, seed=seed,
                sibling_seed=(seed + 1) % spec.seeds, width=cell.block.width, parameter_count=cell.block.width * 74,
                train_size=cell.block.train_size, temperature=cell.learning_rate / 8, temperature_axis="learning_rate",
                learning_rate=cell.learning_rate, batch_size=8, weight_decay=0.0, label_noise=0.0, optimizer="sgd",
                schedule="constant", epochs=1.0, protocol="p", steps=60, budget="60 steps", augmentation="none",
                trained="stack", split="held_out" if cell.name in spec.held_out_cells() else "fit", diverged=0,
            )  # fmt: skip
            row["train_loss"] = float(ANSWERS.index(answers(cell)))
            row["train_error_percent"] = row["test_error_percent"] = error_percent(cell)
            row["test_loss"] = 1.0
            row[GAIN_COLUMN] = error_percent(cell) + 0.01 * generator.standard_normal()
            rows.append(row)
    return label_zoo(pd.DataFrame(rows))
