"""A zoo from a specification: train a grid of networks, measure each, label all.

The grid is cut into blocks (one width, one amount of data, one label noise; all learning rates and seeds), each a few
networks trained together and measured one by one by the very code that `mdtree diagnose` runs. A finished block is
put on disk at once, so a build that is killed goes on where it was; the table is assembled from the blocks on disk in
the grid's order, so its bytes do not depend on the number of workers or on interruptions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from torch import nn

import landscape
from mdtree.data import DataSet, load_data
from mdtree.diagnose import classification_data
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.grid_spec import Block, ZooSpec
from mdtree.models import build_model
from mdtree.room import label_zoo
from mdtree.training import StackMember, Trained, train_loop, train_stack
from mdtree.zoo import GAIN_COLUMN, MEASURED_COLUMNS, METRICS, format_rows, read_zoo, write_zoo


@dataclass(frozen=True)
class Progress:
    """How far a build is: networks done and planned, and the last finished block (empty at the start)."""

    done: int
    total: int
    block: str


@dataclass(frozen=True)
class BuildResult:
    """What a build did: rows of the table, and how many networks were trained now rather than found on disk."""

    rows: int
    trained: int


def network_seed(seed: int) -> int:
    """Seed of the initialisation and of the batch order of network number `seed` of a cell."""
    return 1000 + seed


def build_zoo(
    spec: ZooSpec,
    output: str | os.PathLike[str],
    *,
    workers: int = -1,
    progress: Callable[[Progress], None] | None = None,
) -> BuildResult:
    """Train, measure and label a grid; write the zoo table.

    Parameters
    ----------
    spec : ZooSpec
    output : path
        The CSV table. Blocks wait in `<output>.partial/` until all are there.
    workers : int
        Worker processes, each with one thread; -1 means one per core. The table does not depend on it.
    progress : callable, optional
        Called at the start and after every block.

    Returns
    -------
    BuildResult

    Raises
    ------
    InputError
        The unfinished build at `output` belongs to another specification, or `output` is another table.
    """
    table = Path(output)
    if table.exists():
        return BuildResult(rows=_complete_table(table, spec), trained=0)
    partial = _open_partial(table, spec)
    blocks = spec.blocks()
    waiting = [block for block in blocks if not (partial / f"{block.name}.csv").exists()]
    total = len(blocks) * spec.networks_per_block
    done = total - len(waiting) * spec.networks_per_block
    report = progress or (lambda _: None)
    report(Progress(done, total, ""))
    # the widest first: a long block started last would leave the other workers idle
    waiting.sort(key=lambda block: (-block.width, -block.train_size, block.label_noise))
    run = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
    for block, rows in run(joblib.delayed(_block_rows)(spec, block) for block in waiting):
        write_atomically(partial / f"{block.name}.csv", format_rows(rows, MEASURED_COLUMNS, header=True).encode())
        done += spec.networks_per_block
        report(Progress(done, total, block.name))
    frame = pd.concat([read_zoo(partial / f"{block.name}.csv", labelled=False) for block in blocks], ignore_index=True)
    write_zoo(label_zoo(frame), table)
    shutil.rmtree(partial)
    return BuildResult(rows=len(frame), trained=len(waiting) * spec.networks_per_block)


def _complete_table(table: Path, spec: ZooSpec) -> int:
    frame = read_zoo(table)
    have = set(zip(frame["cell"], frame["seed"], frame["protocol"], strict=True))
    digest = spec.protocol.digest()
    want = {
        (block.cell(rate), seed, digest)
        for block in spec.blocks()
        for rate in spec.learning_rates
        for seed in range(spec.seeds)
    }
    if have != want:
        raise InputError(
            f"{table} holds another zoo than this specification plans ({len(have & want)} of {len(want)} networks)",
            "no table, or this one finished",
            "choose another output file",
        )
    return len(frame)


def _open_partial(table: Path, spec: ZooSpec) -> Path:
    """The folder of finished blocks, after checking that it belongs to this very specification."""
    partial = table.with_name(table.name + ".partial")
    lock = partial / "specification.json"
    text = json.dumps(spec.to_dict(), indent=1, sort_keys=True) + "\n"
    if lock.exists() and lock.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{partial} holds an unfinished zoo of another specification",
            "the specification it was started with",
            f"finish it with that one, or remove {partial}",
        )
    if not lock.exists():
        partial.mkdir(parents=True, exist_ok=True)
        write_atomically(lock, text.encode())
    return partial


def _block_rows(spec: ZooSpec, block: Block) -> tuple[Block, pd.DataFrame]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = train_block(spec, block)
        return block, pd.DataFrame(list(measured_rows(spec, block, trained)), columns=list(MEASURED_COLUMNS))
    finally:
        torch.set_num_threads(threads)


def train_block(spec: ZooSpec, block: Block) -> dict[tuple[float, int], Trained]:
    """Train every network of a block: (learning rate, seed) -> trained network."""
    data = load_data(block.data_spec)
    keys = [(rate, seed) for rate in spec.learning_rates for seed in range(spec.seeds)]
    if spec.stacked:
        members = [StackMember(network_seed(seed), rate, data.y_train) for rate, seed in keys]
        trained = train_stack(lambda seed: _fresh(block, data, seed), members, data.x_train, spec.recipe(keys[0][0]))
    else:
        trained = [
            train_loop(
                _fresh(block, data, network_seed(seed)),
                data.x_train,
                data.y_train,
                spec.recipe(rate),
                network_seed(seed),
            )
            for rate, seed in keys
        ]
    return dict(zip(keys, trained, strict=True))


def _fresh(block: Block, data: DataSet, seed: int | None = None) -> nn.Module:
    return build_model(block.model_spec, num_classes=data.num_classes, input_shape=data.input_shape, seed=seed)


def rebuild(block: Block, data: DataSet, trained: Trained) -> nn.Module:
    """The network of a trained state, in eval mode."""
    model = _fresh(block, data, seed=0)
    model.load_state_dict(trained.state)
    return model.eval()


def measured_rows(spec: ZooSpec, block: Block, trained: dict[tuple[float, int], Trained]) -> Iterator[dict[str, Any]]:
    data = load_data(block.data_spec)
    gain_data = load_data(block.gain_data_spec)
    if gain_data.x_test is None or gain_data.y_test is None:
        raise InputError(f"{block.gain_data_spec} has no test set", "one: rooms for improvement need it")
    classification = classification_data(data)
    for (rate, seed), network in trained.items():
        sibling_seed = (seed + 1) % spec.seeds
        sibling = trained[rate, sibling_seed]
        model = rebuild(block, data, network)
        row: dict[str, Any] = _settings(spec, block, rate, seed, sibling_seed)
        row["parameter_count"] = sum(p.numel() for p in model.parameters())
        row["diverged"] = int(network.diverged)
        with torch.no_grad():
            wrong = model(gain_data.x_test).argmax(1) != gain_data.y_test
        row[GAIN_COLUMN] = 100.0 * float(wrong.double().mean())
        row.update(dict.fromkeys(METRICS, np.nan))
        if not network.diverged:
            models = [model] if sibling.diverged else [model, rebuild(block, data, sibling)]
            measured = landscape.measure(models, classification, spec.protocol, fresh=lambda: _fresh(block, data))
            row.update({name: measured.metrics[name].value for name in METRICS if name in measured.metrics})
        yield row


def _settings(spec: ZooSpec, block: Block, rate: float, seed: int, sibling_seed: int) -> dict[str, Any]:
    cell = block.cell(rate)
    return {
        "family": spec.family,
        "data_set": spec.data_name,
        "architecture": spec.model_name,
        "cell": cell,
        "seed": seed,
        "sibling_seed": sibling_seed,
        "width": block.width,
        "train_size": block.train_size,
        "temperature": rate / spec.batch_size,
        "temperature_axis": "learning_rate",
        "learning_rate": rate,
        "batch_size": spec.batch_size,
        "weight_decay": spec.weight_decay,
        "label_noise": block.label_noise,
        "optimizer": "sgd",
        "schedule": spec.schedule,
        "epochs": spec.steps / (block.train_size // min(spec.batch_size, block.train_size)),
        "protocol": spec.protocol.digest(),
        "split": "held_out" if cell in spec.held_out_cells() else "fit",
    }
