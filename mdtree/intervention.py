"""Proof by intervention, the plan: which networks are asked about, what is advised, what has to be trained.

A diagnosis is worth what its advice brings. For networks drawn from a zoo, each diagnosed from the metrics that the zoo
stores of it, the advised change is made for real and so are its rivals. All changes of one network are of the size
that the diagnosis gives for that direction (the factor that its leaf keeps for it, see `mdtree.advice`): what is
compared is which change is advised, and whether one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mdtree.advice import Advice
from mdtree.baselines import baseline_predictions
from mdtree.data import load_data
from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.fitting import FACTORS, fit_rows
from mdtree.grid_spec import Block, Cell, ZooSpec
from mdtree.grid_unit import fresh
from mdtree.record import Metric, Record
from mdtree.room import step_gains
from mdtree.zoo import CAUSES, DIRECTIONS, UNLABELLED, evidence_metrics

DIRECTION_OF = {cause: direction for direction, cause in CAUSES.items()}
TREES = ("hyperparameters", "validation")
"""Baselines that advise by a fitted tree (`mdtree.baselines`)."""

FIRST_FRESH_SEED = 100
"""Number of the first seed an intervention is trained from; a zoo's are 0, 1, ..."""


@dataclass(frozen=True)
class InterventionOptions:
    """What is drawn and how often it is trained.

    Attributes
    ----------
    cells : int
        Cells drawn, one network of each; fewer where the zoo has fewer.
    seeds : int
        Half of the fresh seeds of every configuration: the best change is chosen on one half and scored on the other,
        both ways round; all else is scored on both halves.
    draw : int
        Seed of the draw.
    evidence : str
        Which of the stored metrics the diagnosis may see.
    """

    cells: int = 40
    seeds: int = 3
    draw: int = 0
    evidence: str = "sibling_test"

    def __post_init__(self) -> None:
        for name in ("cells", "seeds"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}", "at least 1")
        if self.draw < 0:
            raise InputError(f"draw = {self.draw}", "a seed, not negative")
        evidence_metrics(self.evidence)


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


@dataclass(frozen=True)
class Case:
    """A drawn network: its cell and seed in the zoo, its diagnosis, and a step in every direction."""

    cell: Cell
    seed: int
    diagnosis: Diagnosis
    changes: Mapping[str, Change]


@dataclass(frozen=True)
class InterventionPlan:
    """What is to be trained, and who advised what.

    Attributes
    ----------
    spec : ZooSpec
    options : InterventionOptions
    cases : tuple of Case
    chosen : mapping of policy to tuple of (str or None)
        Direction each policy advises for each case, None for no change: `diagnosis`, `constant` (the direction that
        gains most on the training rows) and `TREES`.
    drawn_from : str
        What the cells were drawn from, in words.
    baselines_from : tuple of str
        Families the baselines were fitted on.
    family_known : bool
        Whether the diagnoser was fitted on (other cells of) this family.
    """

    spec: ZooSpec
    options: InterventionOptions
    cases: tuple[Case, ...]
    chosen: Mapping[str, tuple[str | None, ...]]
    drawn_from: str
    baselines_from: tuple[str, ...]
    family_known: bool

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every configuration to train, each once."""
        found: dict[str, Cell] = {}
        for case in self.cases:
            changed = (change.cell for change in case.changes.values())
            for cell in (case.cell, *(cell for cell in changed if cell is not None)):
                found.setdefault(cell.name, cell)
        return tuple(found.values())

    @property
    def seeds(self) -> tuple[int, ...]:
        """Numbers of the fresh seeds: none of them was used in the zoo."""
        first = max(FIRST_FRESH_SEED, self.spec.seeds)
        return tuple(range(first, first + 2 * self.options.seeds))


def plan_interventions(
    diagnoser: Diagnoser,
    spec: ZooSpec,
    table: pd.DataFrame,
    options: InterventionOptions = InterventionOptions(),
    training: Sequence[pd.DataFrame] = (),
) -> InterventionPlan:
    """Draw networks, diagnose them, and lay out the changes.

    Parameters
    ----------
    diagnoser : Diagnoser
    spec : ZooSpec
        What the zoo was built from.
    table : pandas.DataFrame
        The labelled zoo. Its held-out cells are drawn from, or all where none is held out; of each drawn cell one
        network that did not diverge.
    options : InterventionOptions
    training : sequence of pandas.DataFrame
        Labelled zoos whose fitted rows the baselines learn from; by default those of `table` itself, without the
        drawn cells.

    Raises
    ------
    InputError
        The table is not of this specification, nothing can be drawn, the data cannot be read, or there is nothing
        for the baselines to learn from.
    """
    cells = _cells_of(spec, table)
    rows, drawn_from = draw_networks(table, options.cells, options.draw)
    reach = _Reach(spec)
    cases = []
    for _, row in rows.iterrows():
        cell = cells[row["cell"]]
        diagnosis = diagnosis_of_row(diagnoser, row, cell, options.evidence)
        cases.append(Case(cell, int(row["seed"]), diagnosis, _changes(spec, cell, diagnosis, reach)))
    known = [_without(fitted, rows) for fitted in (training or [table])]
    return InterventionPlan(
        spec=spec,
        options=options,
        cases=tuple(cases),
        chosen={
            "diagnosis": tuple(DIRECTION_OF.get(case.diagnosis.verdict) for case in cases),
            "constant": (constant_direction(known),) * len(cases),
            **{name: _by_tree(name, known, rows) for name in TREES},
        },
        drawn_from=drawn_from,
        baselines_from=tuple(sorted({str(name) for frame in known for name in frame["family"]})),
        family_known=spec.family in diagnoser.zoo["families"],
    )


def _cells_of(spec: ZooSpec, table: pd.DataFrame) -> dict[str, Cell]:
    """The cells of a specification by name, if the table is made of them."""
    cells = {cell.name: cell for cell in spec.cells()}
    families = sorted(set(table["family"]))
    if families != [spec.family]:
        raise InputError(f"the table holds {', '.join(families)}", f"the family of the specification, {spec.family}")
    foreign = sorted(set(table["cell"]) - set(cells))
    if foreign:
        raise InputError(f"cell {foreign[0]} of the table is not in the specification", "the zoo built from it")
    if table["seed"].isna().any():
        raise InputError("the table holds means over seeds", "a zoo of single networks")
    first = table.drop_duplicates("cell").set_index("cell")
    for name, steps in first["steps"].dropna().items():
        if steps != spec.recipe(cells[str(name)]).steps:
            planned = spec.recipe(cells[str(name)]).steps
            raise InputError(f"cell {name} of the table was trained for {steps:g} steps", f"the {planned} specified")
    return cells


def draw_networks(table: pd.DataFrame, cells: int, seed: int) -> tuple[pd.DataFrame, str]:
    """One network each of so many cells, in the order of the table, and what they were drawn from, in words.

    Every cell with a network that did not diverge is as likely as every other. The networks that a larger number
    draws hold those of a smaller one.

    Raises
    ------
    InputError
        All networks diverged.
    """
    held_out = table["split"] == "held_out"
    pool = table[held_out] if held_out.any() else table
    pool = pool[pool["diverged"] == 0]
    if pool.empty:
        raise InputError("every network that could be drawn diverged", "networks with metrics")
    generator = np.random.default_rng(seed)
    places = list(pool.groupby("cell", sort=False).indices.values())
    order = generator.permutation(len(places))
    which = generator.random(len(places))
    picked = [places[cell][int(which[cell] * len(places[cell]))] for cell in order[:cells]]
    kind = "held-out cells" if held_out.any() else "cells (none is held out)"
    return pool.iloc[sorted(picked)], f"{len(places)} {kind}"


def diagnosis_of_row(diagnoser: Diagnoser, row: pd.Series, cell: Cell, evidence: str) -> Diagnosis:
    """The diagnosis of one network from what a zoo stores of it, with the recipe it was trained by."""
    names = [name for name in evidence_metrics(evidence) if name in row.index and not np.isnan(row[name])]
    record = Record(
        checkpoint={"data_set": row["data_set"]},
        recipe={
            "learning_rate": cell.learning_rate,
            "batch_size": cell.batch_size,
            "width": cell.block.width,
            "train_size": cell.block.train_size,
        },
        protocol={"digest": row["protocol"]},
        execution={},
        metrics={name: Metric(float(row[name]), 0.0, 1) for name in names},
    )
    return diagnose_record(diagnoser, record, evidence)


def advice_of(diagnosis: Diagnosis, cause: str) -> Advice:
    """The step that a diagnosis keeps ready against a cause, whether or not it is the verdict."""
    advice = next(candidate.advice for candidate in diagnosis.ranking if candidate.failure == cause)
    assert advice is not None
    return advice


class _Reach:
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


def _changes(spec: ZooSpec, cell: Cell, diagnosis: Diagnosis, reach: _Reach) -> dict[str, Change]:
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


def _without(training: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """A table without the drawn cells."""
    same = training["family"].isin(set(drawn["family"])) & training["cell"].isin(set(drawn["cell"]))
    return training[~same]


def constant_direction(tables: Sequence[pd.DataFrame]) -> str | None:
    """The direction that gains most on the fitted rows of some zoos, the same step everywhere; None if all lose.

    A step beyond the end of a grid counts as no change.
    """
    sums = dict.fromkeys(DIRECTIONS, np.zeros(1))
    for table in tables:
        used = table.index.isin(fit_rows(table).index)
        for direction, gains in step_gains(table, FACTORS).items():
            sums[direction] = sums[direction] + np.nan_to_num(gains[used]).sum(axis=0)
    best = max(DIRECTIONS, key=lambda direction: sums[direction].max())
    return best if sums[best].max() > 0 else None


def _by_tree(name: str, tables: Sequence[pd.DataFrame], rows: pd.DataFrame) -> tuple[str | None, ...]:
    """What a baseline tree, fitted on the clear verdicts of some zoos, advises for every drawn network."""
    fitted = pd.concat([fit_rows(table) for table in tables], ignore_index=True)
    clear = fitted[~fitted["label_verdict"].isin(UNLABELLED)]
    if clear.empty:
        raise InputError("the baselines have no row with a clear verdict to learn from", "a labelled zoo")
    answers: Any = baseline_predictions(name, clear, clear["label_verdict"].to_numpy(dtype=str), rows)
    return tuple(DIRECTION_OF.get(str(answer)) for answer in answers)
