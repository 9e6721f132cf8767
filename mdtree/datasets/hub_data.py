"""Data sets of Hugging Face's `datasets` that are on this disk: ``hf:NAME?split=train&test_split=test``.

NAME is a folder (see `mdtree.datasets.hub_files`), or a data set that was loaded before and lies in the cache. Texts
become named inputs as in `mdtree.datasets.text_data`, pictures one tensor as `mdtree.datasets.image_scaling` says.
Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdtree.datasets.data_set import WHOLE_TEST, DataSet
from mdtree.datasets.hub_files import HubParts, open_parts
from mdtree.datasets.image_folder import chosen_count, different_size, require_pillow
from mdtree.datasets.image_scaling import SCALING_KINDS, ImageScaling, scaling_of
from mdtree.datasets.label_columns import ColumnLabels, class_names, column_labels
from mdtree.datasets.stored_images import read_image
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Choice, Stored, choice_of, choose
from mdtree.datasets.text_data import texts_of, train_and_test
from mdtree.datasets.tokenized_text import TOKEN_KINDS, text_encoder
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.free_memory import check_memory
from mdtree.specification import Kind, Specification, listing, shown

HELD_OUT_PARTS = ("validation", "val", "valid", "dev", "test")
"""The part that is the test set: the first of these that is there."""

_KINDS: Mapping[str, Kind] = {
    **CHOICE_KINDS,
    **TOKEN_KINDS,
    **SCALING_KINDS,
    "split": str,
    "test_split": str,
    "config": str,
    "text": str,
    "image": str,
    "label": str,
    "labels": str,
    "classes": int,
    "held_out": float,
}


@dataclass(frozen=True)
class Columns:
    """What the inputs and the labels stand in: one column of pictures, or one or two of texts."""

    image: str | None
    texts: tuple[str, ...]
    label: str
    notes: tuple[str, ...] = ()


def load_hub(spec: Specification, directory: Path) -> DataSet:
    """``hf:NAME?split=train&test_split=test&text=COLUMN&label=COLUMN``, or ``image=COLUMN``.

    `split` is ``train`` and `test_split` the first of `HELD_OUT_PARTS` by default; ``test_split=none`` takes no test
    set, and without one ``held_out=0.2`` takes a part of the rows for it. `config` tells configurations of one name
    apart. Columns that are not named are guessed where there is one choice only, and the guess is said. Class labels
    keep the order that the data set gives them.

    Raises
    ------
    InputError
        If the data set is not on this disk, a part, a column, a label or an option cannot be used.
    ResourceError
        If the chosen rows would not fit in memory.
    """
    if not spec.target:
        raise InputError("hf names no data set", "hf:NAME?split=train&test_split=test&text=COLUMN&label=COLUMN")
    options = spec.read(_KINDS, {**CHOICE_DEFAULTS, "test": WHOLE_TEST, "split": "train"})
    choice = choice_of("hf", options)
    configuration = None if options["config"] is None else str(options["config"])
    found = open_parts(spec.target, configuration, directory)
    parts, said = _parts(found, options)
    columns = choose_columns(parts[0], found.name, options)
    labels = _labels(parts, columns.label, found.name, options, directory)
    pool, test, split_notes = train_and_test(len(parts[0]), sum(map(len, parts)), options["held_out"])
    notes = (*said, *columns.notes, *labels.notes, *(split_notes if len(parts) == 1 else ()))
    rows = _Rows(found.name, parts, columns, labels, pool, test, notes)
    if columns.image is not None:
        return _pictures(rows, options, choice, spec, directory)
    return _texts(rows, options, choice, spec, directory)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one or two parts, counted through, and which of them are the pool and the test set."""

    name: str
    parts: Sequence[Any]
    columns: Columns
    labels: ColumnLabels
    pool: Array
    test: Array | None
    notes: tuple[str, ...]

    def stored(self, decode: Any, options: Mapping[str, Any], normalisation: str) -> Stored:
        """As a data set is chosen from."""
        classes = self.labels.num_classes if options["classes"] is None else options["classes"]
        y, test = self.labels.values, self.test
        y_test = None if test is None else y[test]
        return Stored(self.pool, y[self.pool], test, y_test, self.name, classes, decode, normalisation, self.notes)


def _parts(found: HubParts, options: Mapping[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    """The part to train on and, where there is one, that of the test set; and what to say of them."""
    split, test = str(options["split"]), options["test_split"]
    if test is not None and options["held_out"] is not None:
        raise InputError("test_split and held_out of hf", "one of them")
    if test is None and options["held_out"] is None:
        test = next((name for name in HELD_OUT_PARTS if name in found.parts and name != split), None)
    if test == split:
        raise InputError(f"split={split} and test_split={split} of hf", "two different parts")
    wanted = [split, *([str(test)] if test not in (None, "none") else [])]
    names = [f"the part {name} {'is the test set' if place else 'is trained on'}" for place, name in enumerate(wanted)]
    return [found.part(name) for name in wanted], (f"{found.name}, {found.where}: {', '.join(names)}",)


def choose_columns(part: Any, name: str, options: Mapping[str, Any]) -> Columns:
    """The columns that the options name; those they do not, where there is one choice only.

    Raises
    ------
    InputError
        If a named column is not there, or there are none or several to choose from.
    """
    features = part.features
    wanted = [str(options[key]) for key in ("image", "label") if options[key] is not None]
    texts = _named_texts(options["text"], features)
    missing = [column for column in (*wanted, *texts) if column not in features]
    if missing:
        raise InputError(f"{name} has no column {shown(repr(missing[0]))}", f"one of {listing(list(features), 12)}")
    if options["image"] is not None and texts:
        raise InputError("image and text of hf", "one of them")
    notes = []
    image, label = (None if options[key] is None else str(options[key]) for key in ("image", "label"))
    if label is None:
        label = _only(name, "label", _label_candidates(features, texts), features)
        notes.append(f"the labels are taken from the column {shown(label)}")
    if image is None and not texts:
        pictures = [column for column, kind in features.items() if _holds_pictures(kind)]
        words = [column for column, kind in features.items() if _is(kind, "string") and column != label]
        both = pictures or words
        column = _only(name, "image" if pictures else "text", both, features)
        image, texts = (column, ()) if pictures else (None, (column,))
        notes.append(f"the inputs are taken from the column {shown(column)}")
    return Columns(image, texts, label, tuple(notes))


def _named_texts(text: Any, features: Mapping[str, Any]) -> tuple[str, ...]:
    if text is None:
        return ()
    names = (str(text),) if text in features else tuple(str(text).split(","))
    if len(names) > 2:
        raise InputError(f"text={text} of hf", "one column, or two: text=premise,hypothesis")
    return names


def _label_candidates(features: Mapping[str, Any], texts: Sequence[str]) -> list[str]:
    classes = [column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    return classes or [column for column in ("label", "labels") if column in features and column not in texts]


def _only(name: str, what: str, candidates: Sequence[str], features: Mapping[str, Any]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    found = f"several columns that may be it: {listing(candidates)}" if candidates else "none that can be told"
    raise InputError(
        f"which column of {name} is the {what}? There are {found}", f"{what}= one of {listing(list(features), 12)}"
    )


def _is(kind: Any, *types: str) -> bool:
    return str(getattr(kind, "dtype", "")) in {word for each in types for word in (each, f"large_{each}")}


def _holds_pictures(kind: Any) -> bool:
    """An image column, or the structs {bytes, path} that one is stored as."""
    return type(kind).__name__ == "Image" or (isinstance(kind, Mapping) and set(kind) == {"bytes", "path"})


def _labels(parts: Sequence[Any], column: str, name: str, options: Mapping[str, Any], directory: Path) -> ColumnLabels:
    """Labels of all parts, one after the other."""
    kind = parts[0].features[column]
    if any(column not in part.features for part in parts):
        raise InputError(f"the test set of {name} has no column {shown(column)}", "the columns of the training data")
    values = [value for part in parts for value in part.select_columns([column])[:][column]]
    for part in parts:
        unlabelled = sum(value == -1 for value in part.select_columns([column])[:][column])
        if unlabelled:
            raise InputError(
                f"{unlabelled} of {len(part)} labels of {name} are -1: a part without labels",
                "a labelled one",
                "name another part, for instance test_split=validation",
            )
    where = f"the column {shown(column)} of {name}"
    if options["labels"] is not None:
        values = [kind.int2str(value) for value in values] if type(kind).__name__ == "ClassLabel" else values
        return column_labels(values, where, class_names(str(options["labels"]), directory))
    found = column_labels(values, where)
    if type(kind).__name__ != "ClassLabel" or len(kind.names or ()) < 2:
        return found
    words = listing([f"{number} {label}" for number, label in enumerate(kind.names)], 10)
    return ColumnLabels(found.values, len(kind.names), (f"the classes are numbered as in the data set: {words}",))


def _texts(rows: _Rows, options: Mapping[str, Any], choice: Choice, spec: Specification, directory: Path) -> DataSet:
    columns = list(rows.columns.texts)
    texts: list[tuple[str, ...]] = []
    for part in rows.parts:
        texts += texts_of(part.select_columns([c for c in columns if c in part.features])[:], columns, rows.name)
    unused = [key for key in SCALING_KINDS if options[key] is not None]
    if unused:
        raise InputError(f"{unused[0]}={options[unused[0]]} of hf without pictures", f"no {unused[0]}")
    encoder = text_encoder("hf", options, texts, directory)
    return encoder.finished(choose(rows.stored(encoder.decode, options, ""), choice, spec))


def _pictures(rows: _Rows, options: Mapping[str, Any], choice: Choice, spec: Specification, directory: Path) -> DataSet:
    require_pillow("hf with pictures")
    unused = [key for key in TOKEN_KINDS if options[key] is not None]
    if unused:
        raise InputError(f"{unused[0]}={options[unused[0]]} of hf with pictures", f"no {unused[0]}")
    scaling = scaling_of("hf", options, directory, None)
    assert rows.columns.image is not None
    parts = [_without_decoding(part, rows.columns.image, rows.name) for part in rows.parts]
    count = chosen_count(rows.labels.values, len(rows.pool), choice)
    decoder = _PictureDecoder(parts, rows.columns.image, scaling, rows.name, count)
    return choose(rows.stored(decoder.decode, options, str(scaling)), choice, spec)


def _without_decoding(part: Any, column: str, name: str) -> Any:
    """The one column, of stored bytes: a path among them is looked up here, never fetched."""
    from datasets import Image

    if column not in part.features:
        raise InputError(f"the test set of {name} has no column {shown(column)}", "the columns of the training data")
    chosen = part.select_columns([column])
    kind = chosen.features[column]
    if type(kind).__name__ == "Image":
        return chosen.cast_column(column, Image(decode=False))
    if not _holds_pictures(kind) and not _is(kind, "binary"):
        raise InputError(
            f"the column {shown(column)} of {name} holds no pictures", "pictures, or their PNG or JPEG bytes"
        )
    return chosen


@dataclass
class _PictureDecoder:
    """Row numbers, counted through the parts, to inputs, all of the size of the first one decoded."""

    parts: Sequence[Any]
    column: str
    scaling: ImageScaling
    name: str
    count: int
    first: list[tuple[int, ...]] = field(default_factory=list)

    def decode(self, places: Array) -> Any:
        """Inputs of some rows, in that order: a float32 tensor of shape (rows, channels, height, width)."""
        inputs: torch.Tensor | None = None
        for number, place in enumerate(places.tolist()):
            where = f"row {place + 1} of {self.name}"
            image = read_image(self._stored(place, where), self.scaling.channels, where)
            array = self.scaling.for_image(image, where).apply(image)
            if not self.first:
                self.first.append(array.shape)
                needed = self.count * array.nbytes
                check_memory(f"{self.count} pictures of {self.name}", needed, "add train=N or test=first_half")
            if array.shape != self.first[0]:
                raise different_size(where, array.shape, "the first", self.first[0])
            if inputs is None:
                inputs = torch.empty((len(places), *array.shape))
            inputs[number] = torch.from_numpy(array)
        return np.empty((0, 1), np.float32) if inputs is None else inputs

    def _stored(self, place: int, where: str) -> bytes | Path:
        part = self.parts[0] if place < len(self.parts[0]) else self.parts[1]
        held = part[place if part is self.parts[0] else place - len(self.parts[0])][self.column]
        encoded, path = (held.get("bytes"), held.get("path")) if isinstance(held, Mapping) else (held, None)
        if encoded is not None:
            return bytes(encoded)
        if not path or "://" in str(path):
            raise InputError(f"{where} holds no picture", "PNG or JPEG bytes, or a file on this disk")
        return regular_file(str(path))
