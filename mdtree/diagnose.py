"""Open, measure, decide: the only place where the measuring and the deciding half meet."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import landscape
from landscape import ClassificationData, Execution, LandscapeError, Measurement, Protocol, Samples
from mdtree.checkpoint import Checkpoint, load_into, open_checkpoint
from mdtree.checkpoint_set import diagnose_set
from mdtree.data import BUILT_IN_DATA, DataSet, load_data
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError, MDTreeError
from mdtree.measurement_cache import MeasurementCache
from mdtree.measurement_key import MeasurementInput, measurement_key
from mdtree.models import ARCHITECTURES, model_factory
from mdtree.record import Metric, NotMeasured, Record
from mdtree.specification import parse
from mdtree.user_code import isolated_random_state

Report = Callable[[str, float], None]
"""Progress: what is being done, and the share done (0...1)."""

_log = logging.getLogger("mdtree")


@dataclass(frozen=True)
class Sources:
    """What to open, where the checkpoint does not say it.

    Attributes
    ----------
    model : str, optional
        How to build the network: `mlp?width=16`, `package.module:factory?width=16`. Overrides the checkpoint's own.
    data : str, optional
        What it was trained on: `digits?train=160`, `npz:FILE`, `package.module:function`. Overrides the checkpoint's.
    siblings : tuple of path
        Checkpoints of the same training from other seeds.
    trust : bool
        Whether functions that the checkpoint itself names may be called to build its network and load its data.
        Built-in architectures and data sets need no trust.
    directory : path, optional
        Where modules and files named in the specifications are looked up; the current directory by default.
    """

    model: str | None = None
    data: str | None = None
    siblings: tuple[str | os.PathLike[str], ...] = ()
    trust: bool = False
    directory: Path | None = None


def diagnose(
    checkpoint: str | os.PathLike[str],
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
        A `.pt` or `.safetensors` file.
    siblings : sequence of path
        The same training from other seeds; enables the pair metrics.
    model, data : str, optional
        Needed where the checkpoint does not name them itself, see `Sources`.
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
    sources = Sources(model, data, tuple(siblings), trust)
    record = measure(checkpoint, sources, protocol=protocol, execution=execution, cache=cache)
    return diagnose_record(diagnoser or default_diagnoser(), record)


def diagnose_all(
    checkpoints: Sequence[str | os.PathLike[str]],
    sources: Sources = Sources(),
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
    sources: Sources = Sources(),
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
    opened = open_checkpoint(checkpoint)
    others = [open_checkpoint(path) for path in sources.siblings]
    data = load_data(_data_spec(opened, sources), sources.directory)
    model_spec = _model_spec(opened, sources)

    # what a factory draws from the global random state is overwritten or seeded: the caller's state stays untouched
    with isolated_random_state(0):
        fresh = model_factory(
            model_spec, num_classes=data.num_classes, input_shape=data.input_shape, directory=sources.directory
        )
        models = [load_into(fresh(), one.state, one.path) for one in (opened, *others)]
    given = MeasurementInput(
        models,
        classification_data(data),
        protocol or Protocol(),
        execution or Execution(),
        fresh,
        opened.initial_norm_squared,
        model_spec,
    )
    measured = _measured_before_or_now(given, opened, progress) if cache else _measured_now(given, opened, progress)
    return _with_sources(measured, opened, others, model_spec, data)


def _measured_now(given: MeasurementInput, opened: Checkpoint, progress: Report | None) -> Record:
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
        raise InputError(f"{opened.path}: {error.got}", error.expected, error.mend) from error
    return _record(measured)


def _measured_before_or_now(given: MeasurementInput, opened: Checkpoint, progress: Report | None) -> Record:
    """The measurement kept for these weights, data and protocol; else a new one, which is kept."""
    try:
        key = measurement_key(given)
    except Exception:  # users' networks may raise anything: what is wrong with one, the measurement itself says
        return _measured_now(given, opened, progress)
    cache = MeasurementCache()
    record = cache.get(key)
    if record is None:
        record = _measured_now(given, opened, progress)
        try:
            cache.put(key, record)
        except MDTreeError as error:
            _log.warning("mdtree: the measurement is not kept for the next time: %s", error)
    return record


def classification_data(data: DataSet) -> ClassificationData:
    """A data set as the measuring half takes it."""
    test = None if data.x_test is None or data.y_test is None else Samples(data.x_test, data.y_test)
    return ClassificationData(Samples(data.x_train, data.y_train), test, data.num_classes)


def _model_spec(opened: Checkpoint, sources: Sources) -> str:
    if sources.model:
        return sources.model
    if opened.model_spec is None:
        raise InputError(
            f"{opened.path} does not say which network it is",
            "",
            f"give it: mdtree diagnose {opened.path} --model package.module:factory --data SPEC "
            "(or save with mdtree.save_checkpoint(path, model, model_spec=..., data_spec=...))",
        )
    if not sources.trust and parse(opened.model_spec).name not in ARCHITECTURES:
        raise _untrusted(opened, "build its network", opened.model_spec, "--model")
    return opened.model_spec


def _data_spec(opened: Checkpoint, sources: Sources) -> str:
    if sources.data:
        return sources.data
    if opened.data_spec is None:
        raise InputError(
            f"{opened.path} does not say what it was trained on",
            "",
            f"give it: mdtree diagnose {opened.path} --data npz:FILE.npz (or digits?..., package.module:function); "
            f"what its weights alone tell: mdtree layers {opened.path}",
        )
    if not sources.trust and parse(opened.data_spec).name not in BUILT_IN_DATA:
        raise _untrusted(opened, "load its data", opened.data_spec, "--data")
    return opened.data_spec


def _untrusted(opened: Checkpoint, purpose: str, spec: str, option: str) -> InputError:
    """A file that names a function to call could name any function: only its owner may say that it is called."""
    named = str(parse(spec))
    return InputError(
        f"{opened.path} names the function {named} to {purpose}; nothing that a checkpoint names is called unasked",
        "",
        f"if the file is yours add --trust, or name it yourself: {option} '{named}'",
    )


def _record(measured: Measurement) -> Record:
    """The measured part of a record."""
    return Record(
        checkpoint={},
        recipe={},
        protocol={**measured.protocol.to_dict(), "digest": measured.protocol.digest()},
        execution=measured.execution.to_dict(),
        metrics={name: Metric(v.value, v.standard_error, v.samples) for name, v in measured.metrics.items()},
        not_measured=tuple(NotMeasured(n.metric, n.reason) for n in measured.not_measured),
        series=measured.series,
        layers=tuple(measured.layers),
        flags=tuple(measured.flags),
        cost={"seconds": measured.cost.seconds, "sample_gradients": measured.cost.sample_gradients},
    )


def _with_sources(
    record: Record, opened: Checkpoint, others: Sequence[Checkpoint], model_spec: str, data: DataSet
) -> Record:
    """The record with the part that the files give."""
    recipe = dict(opened.recipe)
    recipe.setdefault("train_size", len(data.y_train))
    checkpoint = {
        "path": str(opened.path),
        "sha256": opened.sha256,
        "weights_from": opened.weights_from,
        "model": model_spec,
        "data": data.specification,
        "data_set": data.name,
        "siblings": [str(one.path) for one in others],
    }
    return replace(record, checkpoint=checkpoint, recipe=recipe)
