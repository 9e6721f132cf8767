"""What `mdtree check` found: plain data, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # both need torch
    from mdtree.checking.measurement_cost import MeasurementCost
    from mdtree.checking.plausibility import Plausibility


@dataclass(frozen=True)
class OpenedFile:
    """A checkpoint as it lies on the disk.

    Parameters
    ----------
    path : str
    framework, layout : str
        What wrote it, and how.
    sha256 : str
    size : int
        Bytes of the file, or of all files of the folder.
    tensors, numbers : int
        Of the weights, buffers with them.
    weights_from : str
        Which weights are taken.
    weights_there : tuple of str
        All that could be.
    fine_tuned_from : str or None
    notes : tuple of str
    """

    path: str
    framework: str
    layout: str
    sha256: str
    size: int
    tensors: int
    numbers: int
    weights_from: str
    weights_there: tuple[str, ...] = ()
    fine_tuned_from: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeRow:
    """One value of the training recipe, or a score that was recorded, and where it stands."""

    name: str
    value: object
    source: str


@dataclass(frozen=True)
class FoundNetwork:
    """The network that the weights are loaded into.

    Parameters
    ----------
    spec, source : str
        How it is named, and who says so.
    parameters : int or None
        Trained numbers, buffers left out; None where it was not built.
    proposed : bool
        Whether it was only recognised by names and shapes.
    others : tuple of str
        Networks that look the same by these.
    notes : tuple of str
        How the names of the weights were fitted.
    """

    spec: str
    source: str
    parameters: int | None = None
    proposed: bool = False
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundData:
    """The data that are measured on.

    Parameters
    ----------
    spec, source, name : str
    train_samples : int
    train_size_full : int or None
        How many could be trained on, of which these may be a part.
    class_counts : tuple of int
        Training samples of each class.
    input_shape : tuple of int
    normalisation : str
    test_samples : int
        0 without a test set.
    test_part : str
    notes : tuple of str
    """

    spec: str
    source: str
    name: str
    train_samples: int
    train_size_full: int | None
    class_counts: tuple[int, ...]
    input_shape: tuple[int, ...]
    normalisation: str
    test_samples: int
    test_part: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """Something that is not there.

    Parameters
    ----------
    what, why : str
    add : str
        What to add: the flag or the lines to write.
    metrics : tuple of str
        What cannot be measured without it.
    needed : bool
        Whether nothing at all can be measured without it.
    """

    what: str
    why: str
    add: str
    metrics: tuple[str, ...]
    needed: bool = False


@dataclass(frozen=True)
class CheckReport:
    """What `mdtree check` found.

    Parameters
    ----------
    opened : OpenedFile
    siblings : tuple of OpenedFile
    recipe, recorded : tuple of RecipeRow
        How it was trained, and the scores that training wrote down.
    network : FoundNetwork or None
    data : FoundData or None
    plausible : Plausibility or None
        What the network does on its data; None where one of them is not known.
    evidence : str or None
        ``alone``, ``alone_test``, ``sibling`` or ``sibling_test``; None where nothing can be measured yet.
    metrics : tuple of str
        What can be measured with what is given.
    missing : tuple of Missing
        What cannot, why, and what to add.
    cost : MeasurementCost or None
        Of `mdtree diagnose` with the same arguments.
    command : str or None
        How to call it; None where something is needed first.
    flags, notes : tuple of str
    """

    opened: OpenedFile
    siblings: tuple[OpenedFile, ...]
    recipe: tuple[RecipeRow, ...]
    recorded: tuple[RecipeRow, ...]
    network: FoundNetwork | None
    data: FoundData | None
    plausible: Plausibility | None
    evidence: str | None
    metrics: tuple[str, ...]
    missing: tuple[Missing, ...]
    cost: MeasurementCost | None
    command: str | None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
