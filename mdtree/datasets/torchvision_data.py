"""Data sets of torchvision that are on the disk already: ``torchvision:CIFAR100?root=DIR&mean=...``.

Nothing is downloaded. Pictures and labels are taken as the data set gives them and prepared as
`mdtree.datasets.image_scaling` says. Needs torchvision and the extra ``images``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdtree.datasets.data_files import FIXED_SEED, data_path
from mdtree.datasets.data_set import WHOLE_TEST, DataSet
from mdtree.datasets.image_folder import chosen_count, different_size, require_pillow
from mdtree.datasets.image_scaling import SCALING_KINDS, ImageScaling, scaling_of
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Stored, choice_of, choose
from mdtree.errors import InputError, MDTreeError
from mdtree.free_memory import check_memory
from mdtree.specification import Kind, Specification, listing, shown

_KINDS: Mapping[str, Kind] = {**CHOICE_KINDS, **SCALING_KINDS, "root": str, "split": str, "test_split": str}

_SPLITS: Mapping[str, tuple[str, str]] = {
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "Places365": ("train-standard", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "FGVCAircraft": ("trainval", "test"),
}
"""What the parts to train and to test on are called where not ``train`` and ``test``."""

_KNOWN = (
    *("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST", "USPS", "SEMEION", "SVHN", "STL10"),
    *("ImageNet", "Imagenette", "Places365", "SUN397", "Caltech101", "Caltech256", "Food101", "Flowers102", "DTD"),
    *("OxfordIIITPet", "FGVCAircraft", "StanfordCars", "GTSRB", "EuroSAT", "Country211", "RenderedSST2", "PCAM"),
)
"""Its data sets of classification."""

_LABELS = ("targets", "labels", "_labels")


def load_torchvision(spec: Specification, directory: Path) -> DataSet:
    """``torchvision:NAME?root=DIR``: float32 of shape (n, channels, rows, columns).

    ``split=`` and ``test_split=`` name the parts, for data sets that have named ones; others come with a part to train
    and one to test on, or all of them are trained on. The channels are those of the first picture by default. The test
    set is in an order drawn by `FIXED_SEED`, so that its halves hold all classes, and is whole by default.

    Raises
    ------
    InputError
        If torchvision is missing or has no such data set, the files are not in `root`, or the data set does not give
        (picture, class label).
    ResourceError
        If the chosen pictures would not fit in memory.
    """
    if not spec.target:
        raise InputError("torchvision names no data set", "torchvision:CIFAR100?root=DIR")
    require_pillow("torchvision")
    options = spec.read(_KINDS, {**CHOICE_DEFAULTS, "test": WHOLE_TEST, "root": "."})
    choice = choice_of("torchvision", options)
    scaling = scaling_of("torchvision", options, directory, None)
    train, test, notes = _parts(spec.target, options, data_path(str(options["root"]), directory))
    labels = [_labels(part, spec.target) for part in (train, test) if part is not None]
    y, pool = np.concatenate(labels), len(labels[0])
    order = np.random.default_rng(FIXED_SEED).permutation(len(y) - pool) + pool
    held = order if len(order) else None
    decoder = _Decoder(train, test, scaling, spec.target, y, pool, chosen_count(y, pool, choice))
    stored = Stored(
        np.arange(pool),
        y[:pool],
        held,
        None if held is None else y[held],
        spec.target,
        _class_count(train),
        decoder.decode,
        str(scaling),
        notes,
    )
    return choose(stored, choice, spec)


def _parts(name: str, options: Mapping[str, Any], root: Path) -> tuple[Any, Any, tuple[str, ...]]:
    """The data set to train on, the one to test on or None, and what to say about them."""
    kind = _class_of(name)
    parameters = inspect.signature(kind).parameters
    fixed = {"download": False} if "download" in parameters else {}
    split, test_split = (options[key] for key in ("split", "test_split"))
    by_flag = "train" in parameters or any(above.__name__ == "MNIST" for above in kind.__mro__[1:])
    if "split" in parameters and not by_flag:
        defaults = _SPLITS.get(name, ("train", "test"))
        split, test_split = split or defaults[0], test_split or defaults[1]
        arguments = [{"split": split}, {"split": test_split}]
        notes: tuple[str, ...] = (f"trained on is the part {split}, the test set is the part {test_split}",)
    elif test_split is not None or (split is not None and "split" not in parameters):
        raise InputError(f"split or test_split of torchvision's {name}, whose parts have no names", "none of them")
    elif by_flag:
        if "split" in parameters and split is None:
            raise InputError(f"torchvision's {name} is several data sets", "one of them, for instance split=balanced")
        chosen = {} if split is None else {"split": split}
        arguments = [{"train": True, **chosen}, {"train": False, **chosen}]
        notes = ()
    else:
        arguments, notes = [{}], ("all pictures are training data: torchvision has no test set of them",)
    parts = [_opened(kind, name, root, {**part, **fixed}) for part in arguments]
    return parts[0], parts[1] if len(parts) > 1 else None, notes


def _class_of(name: str) -> type[Any]:
    if name not in _KNOWN:
        mend = "imagefolder:DIR reads folders" if "Folder" in name else ""
        raise InputError(f"{shown(name)} is no data set of torchvision's for classification", listing(_KNOWN, 99), mend)
    try:
        from torchvision import datasets
    except Exception as error:  # beside another build of torch it fails with half a dozen kinds
        raise InputError(
            f"torchvision cannot be imported ({shown(str(error))})", "", "install the torchvision of your torch"
        ) from error
    found = getattr(datasets, name, None)
    if not inspect.isclass(found):
        raise InputError(f"this torchvision has no {name}", "a newer one")
    return found


def _opened(kind: type[Any], name: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(str(root), **arguments)
    except Exception as error:  # missing and damaged files are told in many ways
        told = shown(" ".join(str(error).split()))
        words = listing([f"{key}={value}" for key, value in arguments.items() if key != "download"])
        raise InputError(
            f"torchvision's {name} ({words or 'whole'}) cannot be opened in {root}: {told}",
            "the files as torchvision lays them out",
            "give the folder it was downloaded to, root=DIR",
        ) from error


def _labels(part: Any, name: str) -> Array:
    """The class labels: those the data set keeps, else of every sample in turn."""
    for key in _LABELS:
        kept = getattr(part, key, None)
        if kept is not None and len(kept) == len(part):
            labels = np.asarray(kept)
            if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
                return labels.astype(np.int64)
    try:
        return np.array([int(part[place][1]) for place in range(len(part))], dtype=np.int64)
    except Exception as error:  # whatever the data set raises
        raise InputError(f"torchvision's {name} gives no class labels", "a data set of classification") from error


def _class_count(part: Any) -> int | None:
    classes = getattr(part, "classes", None)
    return len(classes) if isinstance(classes, list | tuple) and len(classes) > 1 else None


@dataclass
class _Decoder:
    """Places in two data sets, counted through, to inputs, all of the size of the first one decoded."""

    train: Any
    test: Any
    scaling: ImageScaling
    name: str
    labels: Array
    pool: int
    count: int
    first: list[tuple[int, ...]] = field(default_factory=list)

    def decode(self, places: Array) -> Any:
        """Inputs of some samples, in that order: a float32 tensor of shape (samples, channels, rows, columns)."""
        inputs: torch.Tensor | None = None
        for number, place in enumerate(places.tolist()):
            array = self._inputs(place)
            if not self.first:
                self.first.append(array.shape)
                check_memory(
                    f"{self.count} pictures of {self.name}", self.count * array.nbytes, "add train=N or test=first_half"
                )
            if array.shape != self.first[0]:
                raise different_size(f"picture {place} of {self.name}", array.shape, "the first", self.first[0])
            if inputs is None:
                inputs = torch.empty((len(places), *array.shape))
            inputs[number] = torch.from_numpy(array)
        return np.empty((0, 1), np.float32) if inputs is None else inputs

    def _inputs(self, place: int) -> Array:
        part, index = (self.train, place) if place < self.pool else (self.test, place - self.pool)
        where = f"picture {index} of torchvision's {self.name}"
        try:
            image, label = part[index]
            modes = {1: "L", 3: "RGB", None: "L" if len(image.getbands()) == 1 and image.mode in ("1", "L") else "RGB"}
            mode = modes[self.scaling.channels]
            if mode == "L" and image.mode != "L":
                image = image.convert("RGB")
            image = image if image.mode == mode else image.convert(mode)
            fits = int(label) == int(self.labels[place])
        except MDTreeError:
            raise
        except Exception as error:  # whatever the data set raises
            raise InputError(
                f"{where} cannot be read ({type(error).__name__}: {shown(' '.join(str(error).split()))})",
                "a picture and a class label",
            ) from error
        if not fits:
            raise InputError(f"{where} has another label than the data set's list says", "one label a picture")
        return self.scaling.for_image(image, where).apply(image)
