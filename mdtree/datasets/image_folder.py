"""Data sets of pictures in folders, one folder a class: ``imagefolder:DIR?size=224&mean=imagenet&std=imagenet``.

Classes, their order and the pictures of each are those of torchvision's `ImageFolder`. Needs the extra ``images``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdtree.datasets.data_files import FIXED_SEED, data_path
from mdtree.datasets.data_set import WHOLE_TEST, DataSet
from mdtree.datasets.image_scaling import SCALING_KINDS, ImageScaling, scaling_of
from mdtree.datasets.stored_images import read_image
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Choice, Stored, choice_of, choose
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.free_memory import check_memory
from mdtree.specification import Kind, Specification, listing

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files that are pictures, as torchvision has it; all others are passed over."""

HELD_OUT_FOLDERS = ("val", "valid", "validation", "test")
"""Folders beside ``train`` that hold the test set: the first of these that is there."""

_KINDS: Mapping[str, Kind] = {
    **CHOICE_KINDS,
    **SCALING_KINDS,
    "classes": str,
    "test_dir": str,
    "held_out": float,
}


def load_image_folder(spec: Specification, directory: Path) -> DataSet:
    """``imagefolder:DIR``: pictures in class folders, as float32 of shape (n, channels, rows, columns).

    DIR holds ``train`` and one of `HELD_OUT_FOLDERS`, each with the class folders inside; or the class folders
    themselves, all of them to train on, as a network may have been trained on all. ``test_dir=DIR`` names the folder of
    the test set; ``held_out=0.2`` instead takes so large a part of the pictures for it, drawn by `FIXED_SEED`: right
    only if those were not trained on. ``classes=a,b,c`` or ``classes=FILE.json`` (a list, ``{name: index}``, or a
    ``config.json`` with ``label2id``) numbers the classes in another order than that of their names, and may name more
    than there are folders. Pictures are prepared as `mdtree.datasets.image_scaling` says; three channels by default.
    The test set is in an order drawn by `FIXED_SEED`, so that its halves hold all classes, and is whole by default.

    Raises
    ------
    InputError
        If a folder holds no classes, a class no pictures, an option cannot be used, or a chosen picture cannot be read
        or comes out in another size than the first.
    ResourceError
        If the chosen pictures would not fit in memory.
    """
    if not spec.target:
        raise InputError("imagefolder names no folder", "imagefolder:DIR?size=224&mean=imagenet&std=imagenet")
    require_pillow("imagefolder")
    options = spec.read(_KINDS, {**CHOICE_DEFAULTS, "test": WHOLE_TEST})
    choice = choice_of("imagefolder", options)
    scaling = scaling_of("imagefolder", options, directory, 3)
    root = _folder(data_path(spec.target, directory))
    train, test, notes = _train_and_test(root, options, directory)
    found = _class_folders(train)
    names = found if options["classes"] is None else _named_classes(str(options["classes"]), directory)
    pool = _pictures(train, found, names)
    held: list[tuple[Path, int]] = []
    if test is not None:
        held = _pictures(test, _class_folders(test), names)
    elif options["held_out"] is not None:
        pool, held = _split(pool, float(options["held_out"]))
        notes.append(f"{len(held)} pictures drawn by a fixed seed are the test set: right if they were not trained on")
    order = np.random.default_rng(FIXED_SEED).permutation(len(held))
    pictures = pool + [held[place] for place in order]
    return choose_pictures(
        pictures, len(pool), choice, scaling, spec, PictureSet(root.resolve().name, len(names), notes)
    )


def require_pillow(what: str) -> None:
    """Raise the sentence that says what to install, if Pillow is not."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise InputError(f"{what} needs the package Pillow", "", "pip install 'mdtree-diagnosis[images]'") from error


@dataclass(frozen=True)
class PictureSet:
    """What a set of pictures is called, how many classes it has, and what is to be said about it."""

    name: str
    num_classes: int | None
    notes: Sequence[str]


def choose_pictures(
    pictures: Sequence[tuple[Path, int]],
    pool: int,
    choice: Choice,
    scaling: ImageScaling,
    spec: Specification,
    described: PictureSet,
) -> DataSet:
    """The chosen ones of `pictures` (file, label), of which the first `pool` may be trained on."""
    labels = np.array([label for _, label in pictures], dtype=np.int64)
    places = np.arange(len(pictures))
    test = places[pool:] if len(pictures) > pool else None
    decoder = _Decoder([path for path, _ in pictures], scaling, chosen_count(labels, pool, choice), described.name)
    stored = Stored(
        places[:pool],
        labels[:pool],
        test,
        None if test is None else labels[test],
        described.name,
        described.num_classes,
        decoder.decode,
        str(scaling),
        tuple(described.notes),
    )
    return choose(stored, choice, spec)


def chosen_count(labels: NDArray[np.int64], pool: int, choice: Choice) -> int:
    """How many samples a choice takes, of the pool and of the test set; never fewer than it will."""
    kept = np.isin(labels, choice.only) if choice.only else np.ones(len(labels), dtype=bool)
    train, test = int(kept[:pool].sum()), int(kept[pool:].sum())
    return min(train, choice.train or train) + (test if choice.test == WHOLE_TEST else (test + 1) // 2)


@dataclass
class _Decoder:
    """Places in a list of files to inputs, all of the size of the first one decoded."""

    files: Sequence[Path]
    scaling: ImageScaling
    count: int
    name: str
    first: tuple[tuple[int, ...], Path] | None = None

    def decode(self, places: Array) -> Any:
        """Inputs of some files, in that order: a float32 tensor of shape (files, channels, rows, columns)."""
        inputs: torch.Tensor | None = None
        for number, place in enumerate(places.tolist()):
            file = self.files[place]
            image = read_image(_regular(file), self.scaling.channels, _named(file))
            array = self.scaling.for_image(image, _named(file)).apply(image)
            if self.first is None:
                self.first = array.shape, file
                check_memory(
                    f"{self.count} pictures of {self.name}", self.count * array.nbytes, "add train=N or test=first_half"
                )
            if array.shape != self.first[0]:
                raise different_size(_named(file), array.shape, _named(self.first[1]), self.first[0])
            if inputs is None:
                inputs = torch.empty((len(places), *array.shape))
            inputs[number] = torch.from_numpy(array)
        return np.empty((0, 1), np.float32) if inputs is None else inputs


def _named(path: str | Path) -> str:
    """A path for an error: whole, as its end tells most, and on one line."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _regular(file: Path) -> Path:
    try:
        return regular_file(file)
    except InputError as error:
        raise InputError(error.got.replace(str(file), _named(file)), error.expected, error.mend) from error


def different_size(name: str, shape: tuple[int, ...], first: str, wanted: tuple[int, ...]) -> InputError:
    """The sentence for a picture unlike the first."""
    sizes = [f"{rows}×{columns} pixels in {channels} channels" for channels, rows, columns in (shape, wanted)]
    return InputError(f"{name} comes out as {sizes[0]}", f"{sizes[1]}, as {first}", "say size=224, or channels=3")


def _train_and_test(root: Path, options: Mapping[str, Any], directory: Path) -> tuple[Path, Path | None, list[str]]:
    """The folder to train on and that of the test set, each with class folders inside, and what to say about it."""
    given, share = options["test_dir"], options["held_out"]
    if share is not None and not 0 < share < 1:
        raise InputError(f"held_out={share:g} of imagefolder", "a share between 0 and 1, for instance held_out=0.2")
    test = None if given is None else _folder(data_path(str(given), directory))
    if test is not None and share is not None:
        raise InputError("test_dir and held_out of imagefolder", "one of them")
    train = root / "train"
    if not train.is_dir() or not _subfolders(train):
        notes = [] if test or share else ["all pictures are training data: there is no test set (test_dir= names one)"]
        return root, test, notes
    if test is not None or share is not None:
        return train, test, []
    held = [name for name in HELD_OUT_FOLDERS if (root / name).is_dir()]
    if not held:
        return train, None, ["there is no test set beside the folder train (test_dir= names one)"]
    left = f"; the folder {listing(held[1:])} is left aside" if held[1:] else ""
    return train, root / held[0], [f"the test set is the folder {held[0]}{left}"]


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder", "imagefolder:DIR with one folder for each class")
    return path


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror})", "a folder you may read") from error


def _class_folders(folder: Path) -> list[str]:
    """The names of the class folders, sorted as their characters are: capitals first, hidden ones too."""
    found = _subfolders(folder)
    if not found:
        raise InputError(f"{folder} holds no class folders", "one folder of pictures for each class")
    return found


def _named_classes(text: str, directory: Path) -> list[str]:
    """The classes in the user's order: ``a,b,c`` or a JSON file."""
    names: Any = text.split(",")
    if text.endswith(".json"):
        file = regular_file(data_path(text, directory))
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} is no JSON file", "the names of the classes as JSON") from error
        if isinstance(names, dict):
            names = names.get("label2id", names)
        if isinstance(names, dict):
            number_of = dict(names)
            names = sorted(number_of, key=lambda name: str(number_of[name]).zfill(9))
            if [number_of[name] for name in names] != list(range(len(names))):
                raise InputError(f"the numbers of the classes in {file} are not 0, 1, 2, ...", "each once, from 0")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(f"classes={text} of imagefolder", "different names, classes=a,b,c, or a JSON list of them")
    return names


def _pictures(folder: Path, found: Sequence[str], names: Sequence[str]) -> list[tuple[Path, int]]:
    """Every picture in the class folders of `folder`, in torchvision's order, with the number of its class."""
    number_of = {name: number for number, name in enumerate(names)}
    strangers = [name for name in found if name not in number_of]
    if strangers:
        raise InputError(
            f"{folder} holds a folder {listing(strangers)}, which is none of the classes",
            listing(names, 10),
            "name the classes in the order of the network's outputs, classes=a,b,c",
        )
    pictures: list[tuple[Path, int]] = []
    empty = []
    for name in found:
        files = _files_below(folder / name)
        pictures += [(file, number_of[name]) for file in files]
        if not files:
            empty.append(name)
    if empty:
        raise InputError(
            f"the class folder {listing(empty)} of {folder} holds no picture ({', '.join(EXTENSIONS)})",
            "at least one in every class, as torchvision asks",
            "remove the folder, or point to the folder above the classes",
        )
    return pictures


def _files_below(folder: Path) -> list[Path]:
    """The pictures in a folder and those below it, links followed, but no folder again inside itself."""
    files: list[Path] = []
    above = {os.path.realpath(folder): {os.path.realpath(folder)}}
    visited = []
    for root, folders, names in os.walk(folder, followlinks=True):
        trail = above[os.path.realpath(root)]
        for name in list(folders):
            real = os.path.realpath(os.path.join(root, name))
            if real in trail:
                raise InputError(
                    f"{_named(os.path.join(root, name))} links back to a folder above it", "", "remove the link"
                )
            above[real] = trail | {real}
        visited.append((root, names))
    for root, names in sorted(visited):
        files += [Path(root, name) for name in sorted(names) if name.lower().endswith(EXTENSIONS)]
    return files


def _split(pictures: list[tuple[Path, int]], share: float) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """A permutation by `FIXED_SEED`; its last part, rounded down, is held out."""
    order = np.random.default_rng(FIXED_SEED).permutation(len(pictures)).tolist()
    cut = len(order) - int(len(order) * share)
    return [pictures[place] for place in order[:cut]], [pictures[place] for place in order[cut:]]
