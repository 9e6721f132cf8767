"""Proof by intervention, the plan: which networks are asked about, what is advised, what has to be trained.

A diagnosis is worth what its advice brings. For networks drawn from a zoo, each diagnosed from the metrics that the zoo
stores of it, the advised change is made for real and so are its rivals. All changes of one network are of the size
that the diagnosis gives for that direction (the factor that its leaf keeps for it, see `mdtree.advice`): what is
compared is which change is advised, and whether one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mdtree.configuration_change import Change, Reach, changes_of
from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.grid_spec import Cell, ZooSpec
from mdtree.record import Metric, Record
from mdtree.rival_advice import DIRECTION_OF, TREES, advice_of_tree, constant_direction, without_drawn
from mdtree.zoo import evidence_metrics

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
    reach = Reach(spec)
    cases = []
    for _, row in rows.iterrows():
        cell = cells[row["cell"]]
        diagnosis = diagnosis_of_row(diagnoser, row, cell, options.evidence)
        cases.append(Case(cell, int(row["seed"]), diagnosis, changes_of(spec, cell, diagnosis, reach)))
    known = [without_drawn(fitted, rows) for fitted in (training or [table])]
    return InterventionPlan(
        spec=spec,
        options=options,
        cases=tuple(cases),
        chosen={
            "diagnosis": tuple(DIRECTION_OF.get(case.diagnosis.verdict) for case in cases),
            "constant": (constant_direction(known),) * len(cases),
            **{name: advice_of_tree(name, known, rows) for name in TREES},
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
