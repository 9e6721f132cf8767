"""What a zoo is made of: the axes of a grid, its cells, and what is trained together.

A *cell* is one configuration, trained from several seeds. A *block* holds the cells that differ in temperature alone.
A *unit* is what is trained together and stored at once: the cells of a block that share a batch size where networks
are trained in a stack, one cell where they are trained in a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from landscape.protocol import Protocol
from mdtree.specification import parse
from mdtree.training import Recipe


@dataclass(frozen=True)
class Budget:
    """How long a network is trained: a number of parameter updates, or of passes over its training data.

    With fixed `steps` more data means more data and not longer training; with fixed `epochs` a smaller batch means
    more updates.
    """

    steps: int | None = None
    epochs: float | None = None

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps is not None else f"{self.epochs:g} epochs"

    def steps_for(self, train_size: int, batch_size: int) -> int:
        """Parameter updates; an incomplete last batch of an epoch is dropped."""
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or 0.0) * updates_per_epoch(train_size, batch_size)))


def updates_per_epoch(train_size: int, batch_size: int) -> int:
    """Whole batches in one pass over the data; data smaller than a batch are one batch."""
    return train_size // min(batch_size, train_size)


@dataclass(frozen=True)
class Pretraining:
    """Where networks start when they are fine-tuned: the same architecture trained on other data first.

    One pre-trained network of each width serves all cells and seeds; its last linear layer is drawn anew for each.
    """

    data_spec: str
    learning_rate: float
    batch_size: int
    steps: int


@dataclass(frozen=True)
class Block:
    """The settings that cells of different temperature share."""

    architecture: str
    width: int
    data_name: str
    data_seed: int
    train_size: int
    label_noise: float
    optimizer: str
    weight_decay: float
    schedule: str
    budget: Budget
    augmentation: str
    name: str

    @property
    def model_spec(self) -> str:
        """What `mdtree diagnose --model` would be given."""
        return _with_options(self.architecture, f"width={self.width}")

    @property
    def data_spec(self) -> str:
        """What `mdtree diagnose --data` would be given."""
        chosen = f"train={self.train_size}&label_noise={self.label_noise:g}&seed={self.data_seed}"
        return _with_options(self.data_name, chosen)


def _with_options(name: str, options: str) -> str:
    return f"{name}{'&' if parse(name).options else '?'}{options}"


@dataclass(frozen=True)
class Cell:
    """One configuration of a block: its temperature is `learning_rate / batch_size`."""

    block: Block
    learning_rate: float
    batch_size: int
    name: str


@dataclass(frozen=True)
class ZooSpec:
    """A grid of networks. See `zoo_samples/digits_mlp.toml` for the file it is read from.

    Attributes
    ----------
    data_name, architectures : str, tuple of str
        Specifications without the options that the grid sets (`train`, `label_noise`, `seed`; `width`).
    learning_rates, batch_sizes : tuple
        Temperature is their ratio. Where only batch sizes vary they are the temperature axis; where both vary, every
        batch size has a learning-rate axis of its own.
    label_noises, weight_decays, optimizers, schedules, budgets, augmentations, architectures : tuple
        Nuisances: no single change that is compared crosses them.
    """

    family: str
    seeds: int
    data_name: str
    data_seed: int
    train_sizes: tuple[int, ...]
    label_noises: tuple[float, ...]
    architectures: tuple[str, ...]
    widths: tuple[int, ...]
    learning_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    budgets: tuple[Budget, ...]
    optimizers: tuple[str, ...]
    momentum: float
    weight_decays: tuple[float, ...]
    schedules: tuple[str, ...]
    augmentations: tuple[str, ...]
    held_out_share: float
    held_out_seed: int
    pretraining: Pretraining | None
    protocol: Protocol

    @property
    def temperature_axis(self) -> str:
        return "batch_size" if len(self.learning_rates) == 1 < len(self.batch_sizes) else "learning_rate"

    def recipe(self, cell: Cell) -> Recipe:
        block = cell.block
        return Recipe(
            cell.learning_rate,
            cell.batch_size,
            block.budget.steps_for(block.train_size, cell.batch_size),
            self.momentum,
            block.weight_decay,
            block.schedule,
            block.optimizer,
            block.augmentation,
        )

    def blocks(self) -> Iterator[Block]:
        """All blocks in the order of the table."""
        grid = product(self.architectures, self.widths, self.train_sizes, self.label_noises)
        for architecture, width, size, noise in grid:
            for optimizer, decay, schedule, budget, augmentation in product(
                self.optimizers, self.weight_decays, self.schedules, self.budgets, self.augmentations
            ):
                # settings that do not vary are left out of the name
                further = (
                    (self.optimizers, optimizer),
                    (self.weight_decays, f"d{decay:g}"),
                    (self.schedules, schedule),
                    (self.budgets, str(budget).replace(" ", "")),
                    (self.augmentations, augmentation),
                    (self.architectures, architecture),
                )
                parts = [f"w{width}", f"n{size}", f"e{noise:g}", *(name for axis, name in further if len(axis) > 1)]
                yield Block(
                    architecture,
                    width,
                    self.data_name,
                    self.data_seed,
                    size,
                    noise,
                    optimizer,
                    decay,
                    schedule,
                    budget,
                    augmentation,
                    "-".join(parts),
                )

    def cells_of(self, block: Block) -> list[Cell]:
        """The cells of a block; a batch size beyond the data, where it varies, is the data's own and left out."""
        several = len(self.batch_sizes) > 1
        return [
            Cell(block, rate, size, f"{block.name}{f'-b{size}' if several else ''}-r{rate:g}")
            for size in self.batch_sizes
            if not several or size <= block.train_size
            for rate in self.learning_rates
        ]

    def cells(self) -> list[Cell]:
        """All cells in the order of the table."""
        return [cell for block in self.blocks() for cell in self.cells_of(block)]

    def held_out_cells(self) -> frozenset[str]:
        """Cells set aside by a seeded draw before anything is trained: no diagnoser is fitted on them."""
        return _draw_held_out(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, enough to tell two specifications apart."""
        plain: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            plain[name] = list(value) if isinstance(value, tuple) else value
        plain["budgets"] = [str(budget) for budget in self.budgets]
        plain["pretraining"] = vars(self.pretraining) if self.pretraining else None
        plain["protocol"] = self.protocol.to_dict()
        return plain


@lru_cache(maxsize=8)
def _draw_held_out(spec: ZooSpec) -> frozenset[str]:
    cells = [cell.name for cell in spec.cells()]
    order = np.random.default_rng(spec.held_out_seed).permutation(len(cells))
    return frozenset(cells[i] for i in order[: round(spec.held_out_share * len(cells))])


@dataclass(frozen=True)
class Unit:
    """What is trained together, measured and stored at once; small enough to be sent to a worker.

    Attributes
    ----------
    stacked : bool
        Trained in one stack (`mdtree.training.train_stack`); all cells share block and batch size. A unit of a loop
        is one cell.
    """

    spec: ZooSpec
    cells: tuple[Cell, ...]
    stacked: bool
    name: str

    @property
    def block(self) -> Block:
        return self.cells[0].block

    @property
    def networks(self) -> int:
        return len(self.cells) * self.spec.seeds

    @property
    def way(self) -> str:
        """How its networks are trained, as the table says it."""
        return "stack" if self.stacked else "loop"


def units_of(spec: ZooSpec, block: Block, stacked: bool) -> list[Unit]:
    """Cut a block into units."""
    cells = spec.cells_of(block)
    if not stacked:
        return [Unit(spec, (cell,), False, cell.name) for cell in cells]
    several = len(spec.batch_sizes) > 1
    return [
        Unit(
            spec, tuple(c for c in cells if c.batch_size == size), True, f"{block.name}{f'-b{size}' if several else ''}"
        )
        for size in dict.fromkeys(cell.batch_size for cell in cells)
    ]
