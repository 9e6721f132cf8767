"""One step from a configuration, in the size that its diagnosis gives, as far as data and architecture let it go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mdtree.advice import Advice
from mdtree.data import load_data
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.grid_spec import Block, Cell, ZooSpec
from mdtree.grid_unit import fresh
from mdtree.zoo import CAUSES, DIRECTIONS


@dataclass(frozen=True)
class Change:
    """One step from a cell in one direction.

    Attributes
    ----------
    parameter : str
        `learning_rate`, `batch_size`, `width` or `train_size`.
    old, wanted, new : float
        The value now, the advised one, and the one that can be had: no more training samples than there are, no width
        the architecture cannot be built with.
    cell : Cell or None
        The changed configuration; None where nothing is left to change.
    """

    parameter: str
    old: float
    wanted: float
    new: float
    cell: Cell | None

    @property
    def clipped(self) -> bool:
        return self.new != self.wanted


class Reach:
    """How far data and architecture let a configuration go."""

    def __init__(self, spec: ZooSpec) -> None:
        largest = max(spec.blocks(), key=lambda block: block.train_size)
        self._spec = spec
        self._data = load_data(largest.data_spec)
        self._built: dict[str, bool] = {}
        self.samples = self._data.train_size_full or max(spec.train_sizes)

    def builds(self, block: Block) -> bool:
        """Whether the network of a block can be built."""
        if block.model_spec not in self._built:
            try:
                fresh(block, self._data, seed=0)
                self._built[block.model_spec] = True
            except InputError:
                self._built[block.model_spec] = False
        return self._built[block.model_spec]

    def clip(self, cell: Cell, parameter: str, wanted: float) -> float:
        """The value nearest to the wanted one that can be had."""
        if parameter == "train_size":
            return min(wanted, float(max(self.samples, cell.block.train_size)))
        if parameter == "batch_size":
            return min(wanted, float(max(cell.block.train_size, cell.batch_size)))
        if parameter == "width" and not self.builds(replace(cell.block, width=int(wanted))):
            # every width of the specification can be built
            return float(max(width for width in self._spec.widths if width <= max(wanted, cell.block.width)))
        return wanted


def changes_of(spec: ZooSpec, cell: Cell, diagnosis: Diagnosis, reach: Reach) -> dict[str, Change]:
    """A step in every direction from a cell, whatever the verdict."""
    changes = {}
    for direction in DIRECTIONS:
        advice = advice_of(diagnosis, CAUSES[direction])
        assert advice.from_value is not None
        old = advice.from_value
        wanted = old if advice.to_value is None else advice.to_value
        new = reach.clip(cell, advice.parameter, wanted)
        changed = None if new == old else changed_cell(spec, cell, advice.parameter, new)
        changes[direction] = Change(advice.parameter, old, wanted, new, changed)
    return changes


def changed_cell(spec: ZooSpec, cell: Cell, parameter: str, value: float) -> Cell:
    """A cell with one setting changed, named as the grid would name it."""
    block, rate, batch = cell.block, cell.learning_rate, cell.batch_size
    if parameter == "learning_rate":
        rate = value
    elif parameter == "batch_size":
        batch = int(value)
    else:
        width, size = (int(value), block.train_size) if parameter == "width" else (block.width, int(value))
        rest = block.name.split("-", 2)[2:]
        block = replace(block, width=width, train_size=size, name="-".join([f"w{width}", f"n{size}", *rest]))
    named = f"-b{batch}" if spec.batch_sizes != (batch,) else ""
    return Cell(block, rate, batch, f"{block.name}{named}-r{rate:g}")


def advice_of(diagnosis: Diagnosis, cause: str) -> Advice:
    """The step that a diagnosis keeps ready against a cause, whether or not it is the verdict."""
    advice = next(candidate.advice for candidate in diagnosis.ranking if candidate.failure == cause)
    assert advice is not None
    return advice
