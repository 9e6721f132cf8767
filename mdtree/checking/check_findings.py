"""What a check found in opened files, networks and data, as plain values for its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from mdtree.checking.check_report import FoundData, FoundNetwork, OpenedFile, RecipeRow
from mdtree.checkpoint import Checkpoint
from mdtree.datasets.data_set import DataSet
from mdtree.networks.network_source import DataSource, NetworkSource
from mdtree.specification import parse

_TEST_SETS = {
    "npz": "x_test and y_test in the file {target}",
    "imagefolder": "a folder val or test beside train, or test_dir=DIR in {spec}",
    "text": "test_file=FILE in {spec}",
    "hf": "test_split=NAME in {spec}",
}
"""How data of a kind are given a test set."""


def opened_file(opened: Checkpoint) -> OpenedFile:
    """A checkpoint as it lies on the disk."""
    return OpenedFile(
        path=str(opened.path),
        framework=opened.framework,
        layout=opened.layout,
        sha256=opened.sha256,
        size=_size(opened.path),
        tensors=len(opened.state),
        numbers=sum(value.numel() for value in opened.state.values()),
        weights_from=opened.weights_from,
        weights_there=tuple(opened.candidates),
        fine_tuned_from=opened.fine_tuned_from,
        notes=(*opened.file_notes, *opened.notes),
    )


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def recipe_rows(opened: Checkpoint) -> tuple[RecipeRow, ...]:
    """The training recipe, each value with its place."""
    return tuple(RecipeRow(name, value, opened.recipe_sources.get(name, "")) for name, value in opened.recipe.items())


def found_network(named: NetworkSource, built: Sequence[nn.Module], notes: tuple[str, ...]) -> FoundNetwork:
    """How the network is named and, if one was built, how large it is; `notes` say how its weights were fitted."""
    parameters = [p for network in built for p in network.parameters() if p.is_floating_point()]
    count = sum(p.numel() for p in parameters) if built else None
    return FoundNetwork(named.spec, named.source, count, named.proposed, named.others, notes)


def found_data(named: DataSource, data: DataSet) -> FoundData:
    """How the data are named, and what they hold."""
    return FoundData(
        spec=data.specification,
        source=named.source,
        name=data.name,
        train_samples=len(data.y_train),
        train_size_full=data.train_size_full,
        class_counts=data.class_counts,
        input_shape=data.input_shape,
        normalisation=data.normalisation,
        test_samples=0 if data.y_test is None else len(data.y_test),
        test_part=data.test_part,
        notes=data.notes,
    )


def test_set(data: DataSet) -> str:
    """What to add for data without a test set."""
    named = parse(data.specification)
    words = _TEST_SETS.get(named.name, "x_test and y_test in what {spec} returns")
    return words.format(spec=named, target=named.target)
