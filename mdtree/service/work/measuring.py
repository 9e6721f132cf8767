"""Measuring what was read, in a child process of its own: no client's file is opened here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from landscape import Execution, LandscapeError, Protocol
from mdtree.checkpoint import Checkpoint
from mdtree.data import load_data
from mdtree.datasets.data_set import DataSet
from mdtree.diagnose import measure_prepared
from mdtree.diagnoser import diagnose_record
from mdtree.diagnoser_schema import Diagnoser
from mdtree.errors import InputError, MDTreeError
from mdtree.models import ARCHITECTURES
from mdtree.networks.foreign_models import FOREIGN_MODELS
from mdtree.networks.network_source import FLAG, MANIFEST, DataSource, NetworkSource, network_source
from mdtree.prepare import OpenedFiles, network_factory, prepare_opened
from mdtree.project_settings import ProjectSettings
from mdtree.service.jobs import JobRequest
from mdtree.service.registry import Registry
from mdtree.service.summary import summary_of
from mdtree.service.work.confinement import Report
from mdtree.service.work.endings import ServerFault
from mdtree.service.work.handing_over import read_checkpoint, read_data
from mdtree.service.work.reading import CHECKPOINT, DATA, START, sibling
from mdtree.specification import Specification, listing, parse, shown

DIAGNOSIS, SUMMARY = "diagnosis.json", "summary.json"
DECIDING = "deciding"

_PACKAGES = frozenset({"timm", "torchvision"})
"""Their networks are built by names that they list; nothing is fetched, and no function of anybody's is called."""


@dataclass(frozen=True)
class Task:
    """What is measured, and with what.

    Attributes
    ----------
    request : JobRequest
    registry : Registry
    diagnoser : Diagnoser
    device : str
        Where networks are measured.
    """

    request: JobRequest
    registry: Registry
    diagnoser: Diagnoser
    device: str = "cpu"


def measure_uploads(task: Task, work: Path, say: Report) -> None:
    """Measure and diagnose what `reading.read_uploads` left in `work`; write `DIAGNOSIS` and `SUMMARY` there.

    The diagnosis is the text that ``mdtree diagnose --json --no-cache`` prints in a folder that holds files of these
    names, apart from the seconds it cost.

    Raises
    ------
    InputError
        Network, data and weights are not known, or do not belong together.
    ServerFault
        A registered network cannot be built, or a registered data set not loaded.
    """
    request = task.request
    opened = read_checkpoint(work / CHECKPOINT)
    siblings = tuple(read_checkpoint(work / sibling(number)) for number in range(len(request.siblings)))
    start = None if request.init is None else read_checkpoint(work / START)
    network, network_shown = _network(opened, request.architecture, task.registry)
    data_from, data = _data(opened, task, work)
    _check_registered(request.architecture, network, data)
    protocol, execution = _how(request.precision, task.device)
    with _said_as(network.spec, network_shown):
        prepared = prepare_opened(
            OpenedFiles(opened, siblings, start),
            network,
            data_from,
            data,
            data_checked=request.data_checked,
            execution=execution,
        )
        prepared = replace(prepared, network=replace(network, spec=network_shown))
        record = measure_prepared(prepared, protocol=protocol, execution=execution, progress=say)
    diagnosis = diagnose_record(task.diagnoser, record)
    (work / DIAGNOSIS).write_text(diagnosis.to_json(), encoding="utf-8")
    (work / SUMMARY).write_text(json.dumps(summary_of(diagnosis)), encoding="utf-8")


def _how(precision: float | None, device: str) -> tuple[Protocol, Execution]:
    """As the command line makes them of its options."""
    try:
        protocol = Protocol()
        if precision is not None:
            protocol = replace(protocol, precision=precision)
        return protocol, replace(Execution(), device=device)
    except LandscapeError as error:
        raise InputError(error.got, error.expected, error.mend) from error


def _network(opened: Checkpoint, asked: str | None, registry: Registry) -> tuple[NetworkSource, str]:
    """Which network it is, and how it is named in the result."""
    if asked is not None:
        specification = registry.network(asked)
        name = _registered_as(asked, specification) if asked in registry.networks else specification
        return NetworkSource(specification, FLAG.format("model"), registry.directory), name
    named = opened.model_spec or opened.network
    mend = f"name its architecture: {listing([*registry.networks, 'mlp?width=16'], 8)}"
    if named is not None and not (registry.knows_network(named) or parse(named).name in _PACKAGES):
        raise InputError(
            f"{opened.path} names the network {shown(named)}, which is not known here", "a registered one", mend
        )
    try:
        found = network_source(opened, settings=ProjectSettings())
    except InputError as error:
        if named is not None:
            raise
        name, tensor = next(iter(opened.state.items()))
        shape = "×".join(map(str, tensor.shape)) or "scalar"
        tensors = f"{len(opened.state)} tensors, first {shown(name)} {shape}"
        raise InputError(f"{opened.path} does not say which network it is ({tensors})", "", mend) from error
    return found, found.spec


def _check_registered(name: str | None, network: NetworkSource, data: DataSet) -> None:
    """A function of the operator's is given nothing of the client's: where it fails, the fault is not the client's."""
    if name is None or parse(network.spec).name in {*ARCHITECTURES, *FOREIGN_MODELS}:
        return
    try:
        network_factory(network, data)
    except MDTreeError as error:
        raise ServerFault(f"the network {name}, registered on this server, cannot be built") from error


def _data(opened: Checkpoint, task: Task, work: Path) -> tuple[DataSource, DataSet]:
    """What it was trained on, under names that a client knows."""
    flag, asked, registry = FLAG.format("data"), task.request.data, task.registry
    if asked is not None and asked.file is not None:
        data = read_data(work / DATA)
        return DataSource(data.specification, flag), data
    if asked is not None and asked.name is not None:
        specification = registry.data(asked.name)
        source = DataSource(specification, flag, registry.directory)
        if asked.name not in registry.data_sets:
            return source, load_data(specification, Path())
        return source, _registered_data(asked.name, specification, registry)
    named = opened.data_spec
    mend = f"send them (x_train, y_train), or name a data set: {listing([*registry.data_sets, 'digits'], 8)}"
    if named is None:
        raise InputError(f"{opened.path} does not say what it was trained on", "its data", mend)
    if not registry.knows_data(named):
        raise InputError(f"{opened.path} names the data {shown(named)}, which are not known here", "its data", mend)
    return DataSource(named, MANIFEST), load_data(named, Path())


def _registered_data(name: str, specification: str, registry: Registry) -> DataSet:
    try:
        data = load_data(specification, registry.directory)
    except MDTreeError as error:
        raise ServerFault(f"the data set {name}, registered on this server, cannot be loaded") from error
    public = _registered_as(name, specification)
    cleaned = _without_paths(registry, specification, public)
    notes = tuple(cleaned(note) for note in data.notes)
    return replace(data, specification=public, normalisation=cleaned(data.normalisation), notes=notes)


def _registered_as(name: str, specification: str) -> str:
    """The name a client knows, with the options of what it stands for; those that are paths stay the server's own."""
    options = {key: value for key, value in parse(specification).options.items() if not {"/", "\\"} & set(value)}
    own = parse(name)
    return str(Specification(own.name, own.target, {**options, **own.options}))


def _without_paths(registry: Registry, specification: str, public: str) -> Callable[[str], str]:
    """Replaces what a registered name stands for by that name, in a sentence."""
    target = parse(specification).target
    hidden = [specification, *([target] if target else []), *([str(registry.directory)] if registry.directory else [])]

    def cleaned(text: str) -> str:
        for one in hidden:
            text = text.replace(one, public)
        return text

    return cleaned


@contextmanager
def _said_as(specification: str, public: str) -> Iterator[None]:
    """Errors that name what a registered name stands for, with that name."""
    try:
        yield
    except MDTreeError as error:
        if specification == public:
            raise
        words = [each.replace(specification, public) for each in (error.got, error.expected, error.mend)]
        raise type(error)(*words) from error
