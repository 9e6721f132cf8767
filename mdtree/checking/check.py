"""What can be measured of a checkpoint with what is given, what cannot, why, and what to add: in seconds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn

from landscape import METRICS, PAIR_METRICS, TEST_METRICS, Execution, LandscapeError, Protocol
from mdtree.checking.check_findings import found_data, found_network, opened_file, recipe_rows, test_set
from mdtree.checking.check_report import CheckReport, Missing, RecipeRow
from mdtree.checking.measurement_cost import MeasurementCost, measurement_cost
from mdtree.checking.plausibility import MEND, MOST_SAMPLES, Plausibility, plausibility
from mdtree.checkpoint import Checkpoint, open_checkpoint
from mdtree.data import load_data
from mdtree.datasets.data_set import DataSet
from mdtree.errors import InputError, MDTreeError, ResourceError
from mdtree.free_memory import free_memory
from mdtree.networks.network_source import MANIFEST, DataSource, NetworkSource, data_source, network_source
from mdtree.prepare import (
    Sources,
    classification_data,
    network_factory,
    networks,
    open_named,
    other_recipes,
    sibling_flags,
)
from mdtree.project_settings import project_settings
from mdtree.starting_point import starting_point

T = TypeVar("T")
Report = Callable[[str, float], None]

GATE_SECONDS = 3.0
"""About how long the sanity gate may take; a slow network is tried on fewer samples."""

FREE_SHARE = 0.8
"""Share of the free memory that a smaller batch is proposed for."""

FEWEST_SAMPLES = 128


def check(
    checkpoint: str | os.PathLike[str],
    sources: Sources | None = None,
    *,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    progress: Report | None = None,
) -> CheckReport:
    """Open a checkpoint and say what `mdtree diagnose` would make of it.

    Parameters
    ----------
    checkpoint : path
        A file or a folder.
    sources : Sources, optional
        As for `mdtree.diagnose.measure`.
    protocol : landscape.Protocol, optional
        Of the measurement to come; its cost is that.
    execution : landscape.Execution, optional
        Device, precision, batch size, threads.
    progress : callable, optional
        Called with what is being done and the share done.

    Returns
    -------
    CheckReport
        A network or data that are missing, do not fit or look wrong are no errors here: they stand under `missing`.

    Raises
    ------
    InputError
        The checkpoint, a sibling or what training started from cannot be opened, or ``[tool.mdtree]`` cannot be read.
    """
    work = _Check(sources or Sources(), protocol or Protocol(), execution or Execution(), progress or _silent)
    return work.report(checkpoint)


def _silent(what: str, share: float) -> None: ...


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Networks with their weights; none where one cannot be built or does not fit."""

    models: list[nn.Module] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    fresh: Callable[[], nn.Module] | None = None


class _Check:
    """One check under way; what is missing is collected as it shows."""

    def __init__(self, sources: Sources, protocol: Protocol, execution: Execution, progress: Report) -> None:
        self.sources, self.protocol, self.execution, self.progress = sources, protocol, execution, progress
        self.settings = project_settings(sources.directory)
        self.missing: list[Missing] = []

    def report(self, path: str | os.PathLike[str]) -> CheckReport:
        """Everything, from the file to the cost."""
        sources = self.sources
        self.progress("opening", 0.0)
        opened, *others = (open_named(each, sources, self.settings) for each in (path, *sources.siblings))
        start_from = sources.init or self.settings.init
        init = None if start_from is None else open_checkpoint(start_from)
        named = self.tried("the network", lambda: self.network_of(opened))
        self.progress("reading the data", 0.2)
        data_from, data = self.data_of(opened)
        self.progress("loading the weights", 0.5)
        fitted = _Fitted() if named is None else self.fitted(named, data, (opened, *others))
        plausible = cost = None
        if fitted.models and data is not None and named is not None and data_from is not None:
            own_words = data_from.source == MANIFEST and not named.proposed
            plausible, cost = self.tries(fitted.models, data, opened, own_words)
        notes = self.growth(opened, init, fitted) if fitted.models else ()
        metrics = self.measurable(data, others)
        ready = not any(each.needed for each in self.missing)
        return CheckReport(
            opened=opened_file(opened),
            siblings=tuple(opened_file(other) for other in others),
            recipe=recipe_rows(opened),
            recorded=tuple(RecipeRow(name, one.value, one.source) for name, one in opened.recorded.items()),
            network=None if named is None else found_network(named, fitted.models[:1], fitted.notes),
            data=None if data is None or data_from is None else found_data(data_from, data),
            plausible=plausible,
            evidence=_evidence(metrics) if ready else None,
            metrics=metrics,
            missing=tuple(sorted(self.missing, key=lambda each: not each.needed)),
            cost=cost,
            command=self.command(path) if ready else None,
            flags=sibling_flags(opened, others, start_from),
            notes=(*notes, *other_recipes(opened, others), *self.memory_note(cost)),
        )

    def tried(self, what: str, call: Callable[[], T]) -> T | None:
        """What a call returns; if it cannot, that is missing, and nothing is measured without it."""
        try:
            return call()
        except (InputError, ResourceError, LandscapeError) as error:
            self.refuse(what, error)
            return None

    def refuse(self, what: str, error: MDTreeError | LandscapeError) -> None:
        """Keep an error as something that is missing, without which nothing is measured."""
        self.missing.append(Missing(what, error.got, error.mend or error.expected, METRICS, needed=True))

    def network_of(self, opened: Checkpoint) -> NetworkSource:
        """Which network it is."""
        return network_source(opened, self.sources.model, self.sources.trust, self.sources.directory)

    def data_of(self, opened: Checkpoint) -> tuple[DataSource | None, DataSet | None]:
        """How the data are named, and the data."""
        sources = self.sources
        found = self.tried("the data", lambda: data_source(opened, sources.data, sources.trust, sources.directory))
        if found is None:
            return None, None
        return found, self.tried("the data", lambda: load_data(found.spec, found.directory))

    def fitted(self, named: NetworkSource, data: DataSet | None, files: Sequence[Checkpoint]) -> _Fitted:
        """The network, built, with the weights of each checkpoint."""
        if data is None and files[0].program is None:
            try:
                network_factory(named, None)
            except InputError:  # it may be the data that it is built for
                return _Fitted()
        found = self.tried("a network that fits", lambda: networks(named, data, files))
        if found is None:
            return _Fitted()
        models, fresh, notes = found
        for model, one in zip(models[1:], files[1:], strict=True):
            if _same(models[0], model):
                why = f"{one.path} holds the same weights as {files[0].path}"
                self.missing.append(Missing("a sibling", why, "train it again from another seed", METRICS, needed=True))
        return _Fitted(models, notes, fresh)

    def tries(
        self, models: list[nn.Module], data: DataSet, opened: Checkpoint, own_words: bool
    ) -> tuple[Plausibility | None, MeasurementCost | None]:
        """The network on a few samples: what it costs, and whether they are those it was trained on."""
        given = classification_data(data)
        self.progress("trying the network", 0.6)
        cost = self.tried("the measurement", lambda: measurement_cost(models, given, self.protocol, self.execution))
        if cost is None:
            return None, None
        samples = int(min(MOST_SAMPLES, max(FEWEST_SAMPLES, 3 * GATE_SECONDS / cost.seconds_per_gradient)))
        self.progress("trying the network on its data", 0.8)
        found = self.tried(
            "the measurement",
            lambda: plausibility(
                models[0],
                given,
                opened.recorded,
                own_words=own_words,
                execution=self.execution,
                most_samples=samples,
            ),
        )
        if found is not None and found.question is not None and not self.sources.data_checked:
            why = ": ".join((found.question, *found.hints))
            self.missing.append(Missing("plausible data", why, MEND, METRICS, needed=True))
        return found, cost

    def growth(self, opened: Checkpoint, init: Checkpoint | None, fitted: _Fitted) -> tuple[str, ...]:
        """Whether it is known what training started from; what there is to say of it."""
        start = self.tried("the start", lambda: starting_point(opened, init, fitted.models[0], fitted.fresh))
        if start is None:
            return ()
        reason = start.reason
        if start.norm_squared is None and fitted.fresh is None:
            reason = reason or "a program makes no untrained network: give what training started from with --init FILE"
        if reason is not None:
            why, _, mend = reason.partition(": ")
            self.missing.append(Missing("the start", why, mend, ("log_weight_growth",)))
        return start.notes

    def measurable(self, data: DataSet | None, others: Sequence[Checkpoint]) -> tuple[str, ...]:
        """What can be measured; what cannot, for want of test data or a sibling, is missing."""
        if data is not None and data.x_test is None:
            self.missing.append(
                Missing("test data", f"{data.specification} has no test set", test_set(data), TEST_METRICS)
            )
        if not others:
            why = "connectivity and similarity need two networks"
            add = "--sibling FILE: the same training run again from another seed"
            self.missing.append(Missing("a sibling", why, add, PAIR_METRICS))
        absent = {name for each in self.missing for name in each.metrics}
        return tuple(name for name in METRICS if name not in absent)

    def command(self, path: str | os.PathLike[str]) -> str:
        """`mdtree diagnose` with the same arguments."""
        sources = self.sources
        words = ["mdtree", "diagnose", os.fspath(path)]
        for option in ("model", "data", "weights", "init"):
            value = getattr(sources, option)
            words += [] if value is None else [f"--{option}", os.fspath(value)]
        for sibling in sources.siblings:
            words += ["--sibling", os.fspath(sibling)]
        words += ["--trust"] if sources.trust else []
        return shlex.join([*words, *(["--data-checked"] if sources.data_checked else [])])

    def memory_note(self, cost: MeasurementCost | None) -> tuple[str, ...]:
        """What to do where the memory that is free will not do."""
        free = free_memory()
        if cost is None or free is None or cost.memory_bytes <= free or self.execution.device != "cpu":
            return ()
        fitting = max(1, int(FREE_SHARE * self.execution.batch_size * free / cost.memory_bytes))
        smaller = 2 ** (fitting.bit_length() - 1)
        return (f"{free / 2**30:.1f} GiB of memory are free: try --batch-size {smaller}",)


def _same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def _evidence(metrics: Sequence[str]) -> str:
    pair = any(name in metrics for name in PAIR_METRICS)
    return ("sibling" if pair else "alone") + ("_test" if any(name in metrics for name in TEST_METRICS) else "")
