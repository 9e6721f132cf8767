"""One unit of a zoo: train its networks, measure each, and give the rows of the table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from landscape import Execution, Measurement, measure_many
from mdtree.data import DataSet, cut_test_set, load_data
from mdtree.errors import InputError
from mdtree.grid_spec import Block, Cell, Pretraining, Unit, ZooSpec, updates_per_epoch
from mdtree.models import build_model
from mdtree.prepare import classification_data
from mdtree.training import Recipe, StackMember, Trained, train_loop, train_stack
from mdtree.zoo import GAIN_COLUMN, MEASURED_COLUMNS, METRICS

Key = tuple[str, int]
"""Name of a cell, number of a seed."""

_PRETRAINING_SEED = 500


@dataclass(frozen=True)
class UnitResult:
    """Rows of a finished unit, and what it took: what is said of a unit beside its rows, plain values."""

    rows: pd.DataFrame
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class UnitTask:
    """What a worker is sent: the unit and where to compute."""

    unit: Unit
    device: str = "cpu"

    def __str__(self) -> str:
        return f"unit {self.unit.name} of zoo {self.unit.spec.family}"


def finish_unit(task: UnitTask) -> UnitResult:
    """Train and measure the networks of a unit, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.perf_counter()
        trained = train_unit(task.unit, task.device)
        between = time.perf_counter()
        rows = pd.DataFrame(measured_rows(task.unit, trained, task.device), columns=list(MEASURED_COLUMNS))
        ended = time.perf_counter()
    finally:
        torch.set_num_threads(threads)
    facts = {
        "networks": len(rows),
        "diverged": int(rows["diverged"].sum()),
        "trained": task.unit.way,
        "train_seconds": round(between - started, 3),
        "measure_seconds": round(ended - between, 3),
        "finished_at": round(time.time(), 1),
    }
    return UnitResult(rows, facts)


def chosen_device(device: str) -> str:
    """`auto` is a CUDA device where there is one; anything else is itself."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def network_seed(seed: int) -> int:
    """Seed of the initialisation and of the batch order of network number `seed` of a cell."""
    return 1000 + seed


def fresh(block: Block, data: DataSet, seed: int | None = None) -> nn.Module:
    """An untrained network of a block."""
    return build_model(block.model_spec, num_classes=data.num_classes, input_shape=data.input_shape, seed=seed)


def rebuild(block: Block, data: DataSet, trained: Trained) -> nn.Module:
    """The network of a trained state, in eval mode."""
    model = fresh(block, data, seed=0)
    model.load_state_dict(trained.state)
    return model.eval()


def train_unit(unit: Unit, device: str = "cpu", seeds: Sequence[int] | None = None) -> dict[Key, Trained]:
    """Train every network of a unit, cell by cell; from other seeds than the zoo's, where they are given."""
    spec, block = unit.spec, unit.block
    data = load_data(block.data_spec)
    keys = [(cell, seed) for cell in unit.cells for seed in (range(spec.seeds) if seeds is None else seeds)]
    if unit.stacked:
        members = [StackMember(network_seed(seed), cell.learning_rate, data.y_train) for cell, seed in keys]
        recipe = spec.recipe(unit.cells[0])
        trained = train_stack(
            lambda seed: _starting_network(spec, block, data, seed), members, data.train_tensor, recipe, device=device
        )
    else:
        trained = [
            train_loop(
                _starting_network(spec, block, data, network_seed(seed)),
                data.train_tensor,
                data.y_train,
                spec.recipe(cell),
                network_seed(seed),
                device=device,
            )
            for cell, seed in keys
        ]
    return {(cell.name, seed): network for (cell, seed), network in zip(keys, trained, strict=True)}


def _starting_network(spec: ZooSpec, block: Block, data: DataSet, seed: int) -> nn.Module:
    """The network before its training: drawn from `seed`, or pre-trained with a last layer drawn from it."""
    model = fresh(block, data, seed)
    if spec.pretraining is None:
        return model
    head = last_linear(model)
    state = model.state_dict()
    for name, value in _pretrained(spec.pretraining, block.model_spec, data.input_shape).items():
        if name.rpartition(".")[0] != head:
            state[name] = value
    model.load_state_dict(state)
    return model


def last_linear(model: nn.Module) -> str:
    """Name of the last linear layer: what fine-tuning draws anew.

    Raises
    ------
    InputError
        There is none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise InputError("a network without a linear layer was to be fine-tuned", "one whose last layer is linear")
    return names[-1]


@lru_cache(maxsize=4)
def _pretrained(pretraining: Pretraining, model_spec: str, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
    data = load_data(pretraining.data_spec)
    if data.input_shape != input_shape:
        raise InputError(
            f"[pretraining] data has inputs of shape {data.input_shape}", f"{input_shape}, as the data tuned on"
        )
    recipe = Recipe(pretraining.learning_rate, pretraining.batch_size, pretraining.steps)
    model = build_model(model_spec, num_classes=data.num_classes, input_shape=data.input_shape, seed=_PRETRAINING_SEED)
    return train_loop(model, data.train_tensor, data.y_train, recipe, _PRETRAINING_SEED).state


def measured_rows(unit: Unit, trained: Mapping[Key, Trained], device: str = "cpu") -> list[dict[str, Any]]:
    """One row for every network of a unit, without rooms for improvement and labels.

    A network's sibling is the next seed of its cell. A network that diverged has its settings and its test error, and
    no metrics; the neighbour of such a one has no pair metrics.
    """
    spec, block = unit.spec, unit.block
    data, gain_data = cut_test_set(load_data(f"{block.data_spec}&test=all"))
    if gain_data.test_tensor is None or gain_data.y_test is None:
        raise InputError(f"{block.data_spec} has no test set", "one: rooms for improvement need it")
    networks = {key: rebuild(block, data, network) for key, network in trained.items()}
    measured = _measurements(unit, trained, networks, data, device)
    rows = []
    for cell, seed in ((cell, seed) for cell in unit.cells for seed in range(spec.seeds)):
        key = (cell.name, seed)
        row = _settings(unit, cell, seed)
        row["parameter_count"] = sum(p.numel() for p in networks[key].parameters())
        row["diverged"] = int(trained[key].diverged)
        row[GAIN_COLUMN] = error_percent(networks[key], gain_data.test_tensor, gain_data.y_test)
        row.update(dict.fromkeys(METRICS, np.nan))
        if key in measured:
            found = measured[key].metrics
            row.update({name: found[name].value for name in METRICS if name in found})
        rows.append(row)
    return rows


def _measurements(
    unit: Unit, trained: Mapping[Key, Trained], networks: Mapping[Key, nn.Module], data: DataSet, device: str
) -> dict[Key, Measurement]:
    """Every network that did not diverge, with its sibling where that did not either."""
    groups: dict[Key, list[nn.Module]] = {}
    for name, seed in trained:
        if not trained[name, seed].diverged:
            sibling = name, (seed + 1) % unit.spec.seeds
            beside = [] if trained[sibling].diverged or unit.spec.seeds == 1 else [networks[sibling]]
            groups[name, seed] = [networks[name, seed], *beside]
    if not groups:
        return {}
    measured = measure_many(
        list(groups.values()),
        classification_data(data),
        unit.spec.protocol,
        Execution(device=device),
        fresh=lambda: fresh(unit.block, data),
    )
    return dict(zip(groups, measured, strict=True))


@torch.no_grad()
def error_percent(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Share of wrong answers; a network that diverged answers the same everywhere."""
    wrong = torch.cat([model(x).argmax(1) != y for x, y in _batches(inputs, targets)])
    return 100.0 * float(wrong.double().mean())


def _batches(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(inputs.split(1024), targets.split(1024), strict=True)


def _settings(unit: Unit, cell: Cell, seed: int) -> dict[str, Any]:
    spec, block = unit.spec, unit.block
    steps = block.budget.steps_for(block.train_size, cell.batch_size)
    return {
        "family": spec.family,
        "data_set": block.data_name,
        "architecture": block.architecture,
        "cell": cell.name,
        "seed": seed,
        "sibling_seed": (seed + 1) % spec.seeds,
        "width": block.width,
        "train_size": block.train_size,
        "temperature": cell.learning_rate / cell.batch_size,
        "temperature_axis": spec.temperature_axis,
        "learning_rate": cell.learning_rate,
        "batch_size": cell.batch_size,
        "weight_decay": block.weight_decay,
        "label_noise": block.label_noise,
        "optimizer": block.optimizer,
        "schedule": block.schedule,
        "epochs": steps / updates_per_epoch(block.train_size, cell.batch_size),
        "protocol": spec.protocol.digest(),
        "steps": steps,
        "budget": str(block.budget),
        "augmentation": block.augmentation,
        "trained": unit.way,
        "split": "held_out" if cell.name in spec.held_out_cells() else "fit",
    }
