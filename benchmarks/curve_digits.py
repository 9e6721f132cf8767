"""Curves between the networks of the embedded digits zoo, by many budgets and ways of training; kept on disk."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from curve_stack import Stack, Variant

from landscape.alignment import align
from mdtree.data import load_data
from mdtree.files import write_atomically
from mdtree.grid_spec import Block, units_of
from mdtree.grid_unit import train_unit
from mdtree.models import build_model
from mdtree.spec_file import read_spec

SPEC = read_spec(Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.toml")
PAIRS = ((0, 1), (2, 3))
"""Seeds of the network and its sibling."""

QUARTERS = (2, 4, 6)


def some_blocks() -> list[Block]:
    """Every third width and every other amount of data: a quarter of the zoo."""
    return [b for b in SPEC.blocks() if b.width in (4, 16, 96) and b.train_size in (80, 450, 1000)]


def _network(block: Block, state: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
    data = load_data(block.data_spec)
    model = build_model(block.model_spec, num_classes=data.num_classes, input_shape=data.input_shape, seed=0)
    if state is not None:
        model.load_state_dict(state)
    return model


def trained_states(block: Block, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """States of the block's networks that did not diverge, by rate and seed; trained once, then read."""
    file = folder / f"{block.name}.pt"
    if not file.exists():
        (unit,) = units_of(SPEC, block, stacked=True)
        trained, rates = train_unit(unit), {cell.name: cell.learning_rate for cell in unit.cells}
        found = {f"{rates[name]:g}/{seed}": t.state for (name, seed), t in trained.items() if not t.diverged}
        buffer = io.BytesIO()
        torch.save(found, buffer)
        write_atomically(file, buffer.getvalue())
    states: dict[str, dict[str, torch.Tensor]] = torch.load(file, weights_only=True)
    return states


def block_stack(block: Block, folder: Path, aligned: bool) -> tuple[list[tuple[str, int]], Stack | None]:
    """Cell and seed of each pair of the fitted part of a block, and the pairs."""
    states, held_out = trained_states(block, folder), SPEC.held_out_cells()
    keys, ends = [], []
    for cell in SPEC.cells_of(block):
        for first, second in PAIRS:
            names = f"{cell.learning_rate:g}/{first}", f"{cell.learning_rate:g}/{second}"
            if cell.name in held_out or not set(names) <= set(states):
                continue
            a, b = (_network(block, states[name]) for name in names)
            b = align(a, b) if aligned else b
            keys.append((cell.name, first))
            ends.append([torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (a, b)])
    if not keys:
        return keys, None
    data = load_data(block.data_spec)
    start, end = (torch.stack([pair[k] for pair in ends]) for k in (0, 1))
    return keys, Stack(_network(block), start, end, data.x_train, data.y_train)


def run(variants: Iterable[Variant], blocks: list[Block], folder: Path) -> None:
    """Train what is not yet on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        for number, block in enumerate(blocks):
            file = folder / f"{block.name}__{variant.name}.npz"
            if file.exists():
                continue
            keys, stack = block_stack(block, folder, variant.aligned)
            if stack is None:
                continue
            errors, losses = stack.along(stack.fit(variant))
            buffer = io.BytesIO()
            cells, seeds = [cell for cell, _ in keys], [seed for _, seed in keys]
            np.savez(buffer, cells=cells, seeds=seeds, errors=errors.numpy(), losses=losses.numpy())
            write_atomically(file, buffer.getvalue())
            print(f"{variant.name}: {number + 1} of {len(blocks)} blocks", flush=True)


def path_metrics(variant: Variant, blocks: list[Block], folder: Path) -> pd.DataFrame:
    """Peak, barriers and the barrier of the straight line through the same points, by cell and seed."""
    rows = []
    for block in blocks:
        file = folder / f"{block.name}__{variant.name}.npz"
        if not file.exists():
            continue
        targets = load_data(block.data_spec).y_train
        chance = 100.0 * (1.0 - int(targets.bincount().max()) / len(targets))
        with np.load(file) as kept:
            for cell, seed, errors, losses in zip(
                *(kept[k] for k in ("cells", "seeds", "errors", "losses")), strict=True
            ):
                t = np.linspace(0, 1, len(errors))
                barrier = max(errors[k] for k in QUARTERS) - (errors[0] + errors[-1]) / 2
                rows.append(
                    {
                        "cell": str(cell),
                        "seed": int(seed),
                        "connectivity_peak_percent": max(errors[k] for k in QUARTERS),
                        "connectivity_barrier_percent": barrier,
                        "connectivity_barrier_over_chance": barrier / chance,
                        "connectivity_barrier_loss": max(losses[k] for k in QUARTERS) - (losses[0] + losses[-1]) / 2,
                        "linear_barrier_percent": (errors - (1 - t) * errors[0] - t * errors[-1])[1:-1].max(),
                        "mean_loss": losses[1:-1].mean(),
                    }
                )
    return pd.DataFrame(rows).set_index(["cell", "seed"]).sort_index()
