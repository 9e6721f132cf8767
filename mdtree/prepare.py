"""Everything a measurement is given, opened and fitted together: the checkpoint and its siblings, network and data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from landscape import ClassificationData, Execution, LandscapeError, Samples
from mdtree.checking.plausibility import Plausibility, check_plausible
from mdtree.checkpoint import Checkpoint, load_weights, open_checkpoint, open_trusted_program
from mdtree.data import load_data
from mdtree.datasets.data_set import DataSet
from mdtree.datasets.user_data import data_of
from mdtree.errors import InputError
from mdtree.manifest import Manifest, recorded_in
from mdtree.models import model_factory
from mdtree.networks.network_source import MANIFEST, DataSource, NetworkSource, data_source, network_source
from mdtree.project_settings import ProjectSettings, project_settings
from mdtree.reading.exported_program import is_program
from mdtree.specification import shown
from mdtree.starting_point import StartingPoint, siblings_share_start, starting_point
from mdtree.user_code import isolated_random_state


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
        Whether functions that the checkpoint itself names may be called to build its network and load its data, and
        whether a program of `torch.export` may be opened, which can run code. Built-in architectures and data sets
        need no trust.
    directory : path, optional
        Where modules and files named in the specifications are looked up; the current directory by default.
    weights : str, optional
        Which weights to take, where a file holds several (see `open_checkpoint`).
    init : path, optional
        What training started from, where that were no fresh weights: growth is measured against it.
    data_checked : bool
        The data are right, even if the network does not answer on them as one that was trained on them.
    """

    model: str | None = None
    data: str | None = None
    siblings: tuple[str | os.PathLike[str], ...] = ()
    trust: bool = False
    directory: Path | None = None
    weights: str | None = None
    init: str | os.PathLike[str] | None = None
    data_checked: bool = False


NOTHING_MORE = Sources()
"""For a checkpoint that says everything itself."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A checkpoint ready to be measured.

    Attributes
    ----------
    opened : Checkpoint
    others : tuple of Checkpoint
        The siblings.
    network, data_from : NetworkSource, DataSource
        How network and data are named, and who said so.
    data : DataSet
    models : list of torch.nn.Module
        The network with its weights, then the siblings.
    fresh : callable or None
        Makes an untrained network; None where the checkpoint is a program.
    start : StartingPoint
        The squared norm before training, or why growth cannot be told.
    plausible : Plausibility or None
        What the network does on its data; None where the user vouches for them.
    flags, notes : tuple of str
        For the record and the report.
    """

    opened: Checkpoint
    others: tuple[Checkpoint, ...]
    network: NetworkSource
    data_from: DataSource
    data: DataSet
    models: list[nn.Module]
    fresh: Callable[[], nn.Module] | None
    start: StartingPoint
    plausible: Plausibility | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare(
    checkpoint: str | os.PathLike[str], sources: Sources = NOTHING_MORE, execution: Execution | None = None
) -> Prepared:
    """Open a checkpoint and its siblings, build the network, load the data, and see whether they belong together.

    Parameters
    ----------
    checkpoint : path
        A file or a folder.
    sources : Sources
        What the checkpoint does not say.
    execution : landscape.Execution, optional
        Where the network is tried on its data.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        Something given cannot be used, or network and data do not belong together; the message says how to mend it.
    """
    settings = project_settings(sources.directory)
    opened = open_named(checkpoint, sources, settings)
    others = tuple(open_named(path, sources, settings) for path in sources.siblings)
    network = network_source(opened, sources.model, sources.trust, sources.directory)
    data_from = data_source(opened, sources.data, sources.trust, sources.directory)
    data = load_data(data_from.spec, data_from.directory)
    init = sources.init or settings.init
    files = OpenedFiles(opened, others, None if init is None else open_checkpoint(init))
    return prepare_opened(files, network, data_from, data, data_checked=sources.data_checked, execution=execution)


@dataclass(frozen=True, eq=False)
class OpenedFiles:
    """The files of one measurement: the checkpoint's, its siblings', and what training started from, if it is given."""

    checkpoint: Checkpoint
    siblings: tuple[Checkpoint, ...] = ()
    start: Checkpoint | None = None


def prepare_opened(
    files: OpenedFiles,
    network: NetworkSource,
    data_from: DataSource,
    data: DataSet,
    *,
    data_checked: bool = False,
    execution: Execution | None = None,
) -> Prepared:
    """`prepare` for files that are open and data that are loaded: build the network, fit the weights, look at both.

    Parameters
    ----------
    files : OpenedFiles
    network, data_from : NetworkSource, DataSource
        How network and data are named, and who says so.
    data : DataSet
    data_checked : bool
        As in `Sources`.
    execution : landscape.Execution, optional
        Where the network is tried on its data.

    Raises
    ------
    InputError
        As in `prepare`.
    """
    opened, others = files.checkpoint, files.siblings
    models, fresh, fitted_notes = networks(network, data, (opened, *others))
    start = starting_point(opened, files.start, models[0], fresh)
    plausible = None
    if not data_checked:
        own_words = data_from.source == MANIFEST and not network.proposed
        plausible = plausibility_of(models[0], data, opened, own_words, execution)
    flags = sibling_flags(opened, others, None if files.start is None else files.start.path)
    notes = (*other_recipes(opened, others), *opened.notes, *fitted_notes, *start.notes, *data.notes)
    return Prepared(opened, others, network, data_from, data, models, fresh, start, plausible, flags, notes)


_SAME_FOR_SIBLINGS = (
    *("learning_rate", "batch_size", "weight_decay", "momentum", "optimizer", "epochs", "width"),
    *("train_size", "label_noise"),
)


def other_recipes(opened: Checkpoint, others: Sequence[Checkpoint]) -> tuple[str, ...]:
    """A sentence for every sibling whose file states another recipe: a sibling differs by its seed alone."""
    told = []
    for one in others:
        differing = [
            f"{name.replace('_', ' ')} {shown(str(one.recipe[name]))} against {shown(str(opened.recipe[name]))}"
            for name in _SAME_FOR_SIBLINGS
            if name in one.recipe
            and name in opened.recipe
            and one.recipe[name] != opened.recipe[name]
            # an estimate contradicts nothing
            and not any(each.recipe_sources.get(name, "").startswith("about") for each in (one, opened))
        ]
        if differing:
            told.append(f"{one.path} was trained by another recipe: {', '.join(differing)}")
    return tuple(told)


def sibling_flags(
    opened: Checkpoint, others: Sequence[Checkpoint], start_from: str | os.PathLike[str] | None
) -> tuple[str, ...]:
    """What makes siblings other than the zoo's: a start that they share, or another recipe."""
    shared = bool(others) and siblings_share_start((opened, *others), start_from)
    return (
        *(("siblings_share_start",) if shared else ()),
        *(("sibling_of_another_recipe",) if other_recipes(opened, others) else ()),
    )


def prepare_network(
    network: nn.Module, data: object, manifest: Manifest, execution: Execution | None = None
) -> Prepared:
    """The same for a network in memory and data that are there already; parameters as for `diagnose_network`."""
    held = data_of(data, "the data given")
    opened = Checkpoint(
        path=Path("network in memory"),
        state={},
        model_spec=manifest.model,
        data_spec=manifest.data,
        recipe=dict(manifest.recipe),
        initial_norm_squared=manifest.initial_norm_squared,
        sha256="",
        weights_from="memory",
        layout="memory",
        recorded=recorded_in(manifest),
        fine_tuned_from=manifest.fine_tuned_from,
    )
    given = NetworkSource(f"{type(network).__module__}:{type(network).__qualname__}", "memory")
    return Prepared(
        opened,
        (),
        given,
        DataSource(held.specification, "memory"),
        held,
        [network],
        None,
        StartingPoint(manifest.initial_norm_squared),
        plausibility_of(network, held, opened, True, execution),
        notes=held.notes,
    )


def open_named(path: str | os.PathLike[str], sources: Sources, settings: ProjectSettings) -> Checkpoint:
    """Open a checkpoint with the weights that the user or the project's settings name; a program only if trusted."""
    if sources.trust and is_program(Path(path)):
        return open_trusted_program(path)
    return open_checkpoint(path, weights=sources.weights or settings.weights)


def networks(
    network: NetworkSource, data: DataSet | None, files: Sequence[Checkpoint]
) -> tuple[list[nn.Module], Callable[[], nn.Module] | None, tuple[str, ...]]:
    """The network of each file with its weights, a function that makes an untrained one, and what the report says.

    Raises
    ------
    InputError
        If the network cannot be built, or weights do not fit it.
    """
    programs = [one.program for one in files if one.program is not None]
    if programs:
        if len(programs) < len(files):
            raise InputError("a program of torch.export beside weights", "siblings of one kind")
        return programs, None, ()
    fresh = network_factory(network, data)
    # what a factory draws from the global random state is overwritten or seeded: the caller's state stays untouched
    with isolated_random_state(0):
        models = [fresh() for _ in files]
    fitted = [load_weights(model, one) for model, one in zip(models, files, strict=True)]
    return models, fresh, fitted[0].notes


def network_factory(network: NetworkSource, data: DataSet | None) -> Callable[[], nn.Module]:
    """A function that builds the untrained network anew, with what the data fix of it."""
    return model_factory(
        network.spec,
        num_classes=None if data is None else data.num_classes,
        input_shape=None if data is None else data.input_shape,
        directory=network.directory,
    )


def plausibility_of(
    network: nn.Module, data: DataSet, opened: Checkpoint, own_words: bool, execution: Execution | None
) -> Plausibility:
    """The sanity gate, with errors that name the file."""
    try:
        return check_plausible(
            network, classification_data(data), opened.recorded, own_words=own_words, execution=execution
        )
    except LandscapeError as error:
        raise InputError(f"{opened.path}: {error.got}", error.expected, error.mend) from error


def classification_data(data: DataSet) -> ClassificationData:
    """A data set as the measuring half takes it."""
    test = None if data.x_test is None or data.y_test is None else Samples(data.x_test, data.y_test)
    return ClassificationData(Samples(data.x_train, data.y_train), test, data.num_classes)
