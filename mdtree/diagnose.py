"""Open, measure, decide: the only place where the measuring and the deciding half meet."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

import landscape
from landscape import Execution, LandscapeError, Protocol
from mdtree.checkpoint_set import diagnose_set
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError, MDTreeError
from mdtree.manifest import Manifest
from mdtree.measured_record import record_of, with_sources
from mdtree.measurement_cache import MeasurementCache
from mdtree.measurement_key import MeasurementInput, measurement_key
from mdtree.prepare import NOTHING_MORE, Prepared, Sources, classification_data, prepare, prepare_network
from mdtree.record import Record

__all__ = ["Report", "Sources", "diagnose", "diagnose_all", "diagnose_network", "measure", "measure_prepared"]

Report = Callable[[str, float], None]
"""Progress: what is being done, and the share done (0...1)."""

_log = logging.getLogger("mdtree")


def diagnose(
    checkpoint: str | os.PathLike[str],
    sources: Sources = NOTHING_MORE,
    *,
    siblings: Sequence[str | os.PathLike[str]] = (),
    model: str | None = None,
    data: str | None = None,
    trust: bool = False,
    diagnoser: Diagnoser | None = None,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    cache: bool = False,
) -> Diagnosis:
    """Measure a checkpoint's loss landscape and say what is wrong with its training.

    Parameters
    ----------
    checkpoint : path
        A file or a folder (see `open_checkpoint`).
    sources : Sources
        All that the checkpoint does not say, the rarer things among it: which weights, what training started from.
        The four that follow are shorter to write, and stronger where they are given.
    siblings : sequence of path
        The same training from other seeds; enables the pair metrics.
    model, data : str, optional
        Needed where the checkpoint does not name them itself.
    trust : bool
        Whether functions that the checkpoint itself names may be called.
    diagnoser : Diagnoser, optional
        The embedded one by default.
    protocol, execution, cache
        As in `measure`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        Something given cannot be used; the message says what, and how to mend it.
    """
    for name, given in (("model", model), ("data", data)):
        if given is not None and not isinstance(given, str):
            raise InputError(
                f"{name} is a {type(given).__name__}",
                "its name as text, such as 'my_package.nets:make?width=16'",
                "for a network in memory use mdtree.diagnose_network(network, data)",
            )
    sources = replace(
        sources,
        model=model or sources.model,
        data=data or sources.data,
        siblings=tuple(siblings) or sources.siblings,
        trust=trust or sources.trust,
    )
    record = measure(checkpoint, sources, protocol=protocol, execution=execution, cache=cache)
    return diagnose_record(diagnoser or default_diagnoser(), record)


def diagnose_all(
    checkpoints: Sequence[str | os.PathLike[str]],
    sources: Sources = NOTHING_MORE,
    *,
    diagnoser: Diagnoser | None = None,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    cache: bool = False,
) -> list[Diagnosis]:
    """Measure and diagnose several checkpoints, those of one task as a set where there are eight or more.

    Parameters
    ----------
    checkpoints : sequence of path
    sources : Sources
        For all of them.
    diagnoser : Diagnoser, optional
        The embedded one by default.
    protocol, execution, cache
        As in `measure`.

    Returns
    -------
    list of Diagnosis
        In the order given; see `mdtree.checkpoint_set.diagnose_set`.

    Raises
    ------
    InputError
        As in `diagnose`.
    """
    records = [measure(path, sources, protocol=protocol, execution=execution, cache=cache) for path in checkpoints]
    return diagnose_set(diagnoser or default_diagnoser(), records)


def measure(
    checkpoint: str | os.PathLike[str],
    sources: Sources = NOTHING_MORE,
    *,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    progress: Report | None = None,
    cache: bool = False,
) -> Record:
    """Measure the loss landscape of a checkpoint.

    Parameters
    ----------
    checkpoint : path
    sources : Sources
        Model, data and siblings.
    protocol : landscape.Protocol, optional
        What is measured and how; the default is the one the embedded zoo was measured by.
    execution : landscape.Execution, optional
        Device, precision, batch size, threads, time budget.
    progress : callable, optional
        Called with what is being done and the share done.
    cache : bool
        Whether to use a measurement of the same weights, data and protocol that was kept before, and to keep this one
        (in the user's folder for caches, see `mdtree.measurement_cache`). The command line does; a program that calls
        this function writes nothing it was not asked to. A kept measurement has ``cached`` in its cost, which is
        otherwise the one first paid. Where nothing can be kept, the logger ``mdtree`` warns and the measurement stands.

    Returns
    -------
    Record

    Raises
    ------
    InputError
        As in `diagnose`.
    """
    return measure_prepared(
        prepare(checkpoint, sources, execution), protocol=protocol, execution=execution, progress=progress, cache=cache
    )


def measure_prepared(
    prepared: Prepared,
    *,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
    progress: Report | None = None,
    cache: bool = False,
) -> Record:
    """Measure what `mdtree.prepare.prepare` opened; parameters and errors as for `measure`."""
    given = MeasurementInput(
        prepared.models,
        classification_data(prepared.data),
        protocol or Protocol(),
        execution or Execution(),
        None if prepared.start.reason else prepared.fresh,  # fresh weights are not where a fine-tuned network started
        prepared.start.norm_squared,
        prepared.network.spec,
    )
    name = str(prepared.opened.path)
    measured = _measured_before_or_now(given, name, progress) if cache else _measured_now(given, name, progress)
    return with_sources(prepared, measured)


def diagnose_network(
    network: nn.Module,
    data: object,
    *,
    manifest: Manifest | None = None,
    diagnoser: Diagnoser | None = None,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
) -> Diagnosis:
    """Diagnose a network that is in memory, as after its training.

    Parameters
    ----------
    network : torch.nn.Module
        Trained; copied, and measured in evaluation mode.
    data : object
        What it was trained on: what a data function may return (see `mdtree.data.load_data`).
    manifest : Manifest, optional
        What is known of its training: recipe, scores, norm at initialisation.
    diagnoser, protocol, execution
        As in `diagnose`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        As in `diagnose`.
    """
    prepared = prepare_network(network, data, manifest or Manifest(), execution)
    record = measure_prepared(prepared, protocol=protocol, execution=execution)
    return diagnose_record(diagnoser or default_diagnoser(), record)


def _measured_now(given: MeasurementInput, name: str, progress: Report | None) -> Record:
    try:
        measured = landscape.measure(
            given.models,
            given.data,
            given.protocol,
            given.execution,
            fresh=given.fresh,
            initial_norm_squared=given.initial_norm_squared,
            progress=progress,
        )
    except LandscapeError as error:
        raise InputError(f"{name}: {error.got}", error.expected, error.mend) from error
    return record_of(measured)


def _measured_before_or_now(given: MeasurementInput, name: str, progress: Report | None) -> Record:
    """The measurement kept for these weights, data and protocol; else a new one, which is kept."""
    try:
        key = measurement_key(given)
    except Exception:  # users' networks may raise anything: what is wrong with one, the measurement itself says
        return _measured_now(given, name, progress)
    cache = MeasurementCache()
    record = cache.get(key)
    if record is None:
        record = _measured_now(given, name, progress)
        try:
            cache.put(key, record)
        except MDTreeError as error:
            _log.warning("mdtree: the measurement is not kept for the next time: %s", error)
    return record
