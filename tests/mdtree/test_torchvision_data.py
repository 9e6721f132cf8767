"""Data sets of torchvision that lie on the disk: which parts, which labels, which pixels, and nothing downloaded.

torchvision runs beside one build of torch only, so its data sets stand here by classes with their arguments and
attributes; what is asked of the package is no more than these have.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mdtree import free_memory
from mdtree.data import BUILT_IN_DATA, load_data
from mdtree.errors import InputError, ResourceError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), dtype=np.uint8)
LABELS = [n % 3 for n in range(12)]
LOG: list[tuple[str, dict[str, Any]]] = []


class Pictures:
    """What all have: a picture and a label by number. The test part stands at the end of `PIXELS`."""

    mode = "RGB"
    first = 0

    def __init__(self, root: str, **said: Any) -> None:
        if not os.path.isdir(root):
            raise RuntimeError("Dataset not found.\nYou can use download=True to download it")
        LOG.append((type(self).__name__, said))
        self.first = 8 if said.get("train") is False or said.get("split") in ("test", "val") else 0
        self.opened = 0

    def __len__(self) -> int:
        return 4 if self.first else 8

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.opened += 1
        return Image.fromarray(PIXELS[self.first + index]).convert(self.mode), LABELS[self.first + index]

    @property
    def own_labels(self) -> list[int]:
        return LABELS[self.first : self.first + len(self)]


class CIFAR10(Pictures):
    def __init__(self, root: str, train: bool = True, download: bool = True) -> None:
        super().__init__(root, train=train, download=download)
        self.targets = self.own_labels
        self.classes = ["a", "b", "c", "d"]


class MNIST(Pictures):
    mode = "L"

    def __init__(self, root: str, train: bool = True, download: bool = False, **more: Any) -> None:
        super().__init__(root, train=train, download=download, **more)
        self.targets = torch.tensor(self.own_labels)


class EMNIST(MNIST):
    def __init__(self, root: str, split: str, **more: Any) -> None:
        super().__init__(root, kind=split, **more)


class SVHN(Pictures):
    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        super().__init__(root, split=split, download=download)
        self.labels = np.array(self.own_labels)


class ImageNet(Pictures):
    def __init__(self, root: str, split: str = "train", **more: Any) -> None:
        super().__init__(root, split=split, **more)
        self.targets = self.own_labels


class PCAM(Pictures):
    """It keeps no list of labels."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        super().__init__(root, split=split, download=download)


class EuroSAT(Pictures):
    def __init__(self, root: str, download: bool = False) -> None:
        super().__init__(root, download=download)
        self.targets = self.own_labels


class DTD(SVHN):
    """Its list of labels is not what it gives."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return super().__getitem__(index)[0], 2


class STL10(SVHN):
    """One of its pictures has another size."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = super().__getitem__(index)
        return (image.resize((3, 3)) if index == 4 else image), label


class Country211(SVHN):
    """One of its pictures is damaged."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index == 5:
            raise OSError("image file is truncated\n(3 bytes)")
        return super().__getitem__(index)


@pytest.fixture(autouse=True)
def torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A `torchvision.datasets` of these classes; the current folder holds their files."""
    package, datasets = ModuleType("torchvision"), ModuleType("torchvision.datasets")
    for kind in (CIFAR10, MNIST, EMNIST, SVHN, ImageNet, PCAM, EuroSAT, DTD, STL10, Country211):
        setattr(datasets, kind.__name__, kind)
    package.datasets = datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    monkeypatch.chdir(tmp_path)
    LOG.clear()


def refusal(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def inputs(numbers: range) -> set[bytes]:
    """Pixels in 0...1 of some pictures."""
    return {(PIXELS[n].transpose(2, 0, 1).astype(np.float32) / np.float32(255)).tobytes() for n in numbers}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CIFAR10", [{"train": True, "download": False}, {"train": False, "download": False}]),
        ("SVHN", [{"split": "train", "download": False}, {"split": "test", "download": False}]),
        ("ImageNet", [{"split": "train"}, {"split": "val"}]),
        ("PCAM", [{"split": "train", "download": False}, {"split": "test", "download": False}]),
    ],
)
def test_the_parts_of_each_kind_of_data_set(name: str, arguments: list[dict[str, Any]]) -> None:
    data = load_data(f"torchvision:{name}")
    assert [(name, said) for said in arguments] == LOG
    assert {x.numpy().tobytes() for x in data.x_train} == inputs(range(8))
    assert {x.numpy().tobytes() for x in data.x_test} == inputs(range(8, 12))
    number_of = {key: n for n in range(12) for key in inputs(range(n, n + 1))}
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [LABELS[number_of[row.numpy().tobytes()]] for row in x] == y.tolist()
    assert (data.name, data.test_part, data.normalisation) == (name, "all", "pixels in 0...1")
    assert data.num_classes == (4 if name == "CIFAR10" else 3)


def test_parts_by_the_users_names_and_sets_without_a_test_set() -> None:
    data = load_data("torchvision:SVHN?split=extra&test_split=val")
    assert [said["split"] for _, said in LOG] == ["extra", "val"]
    assert data.notes == ("trained on is the part extra, the test set is the part val",)
    alone = load_data("torchvision:EuroSAT")
    assert (len(alone.x_train), alone.x_test) == (8, None)
    assert alone.notes == ("all pictures are training data: torchvision has no test set of them",)
    LOG.clear()
    load_data("torchvision:EMNIST?split=letters")
    assert [("EMNIST", {"kind": "letters", "train": flag, "download": False}) for flag in (True, False)] == LOG


def test_grey_stays_grey_unless_colour_is_asked_for() -> None:
    grey, colour = load_data("torchvision:MNIST"), load_data("torchvision:MNIST?channels=3")
    assert (grey.input_shape, colour.input_shape) == ((1, 9, 7), (3, 9, 7))
    assert torch.equal(colour.x_train, grey.x_train.expand(-1, 3, -1, -1))
    assert load_data("torchvision:SVHN?channels=1").input_shape == (1, 9, 7)
    scaled = load_data("torchvision:MNIST?mean=0.25&std=0.5")
    assert torch.equal(scaled.x_train, (grey.x_train - 0.25) / 0.5)
    assert load_data("torchvision:SVHN?size=4&crop=squash").input_shape == (3, 4, 4)


def test_only_chosen_pictures_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = Pictures.__getitem__
    monkeypatch.setattr(Pictures, "__getitem__", lambda self, index: (opened.append(index), real(self, index))[1])
    data = load_data("torchvision:SVHN?train=3&test=first_half&only=2,0&label_noise=0.5&seed=1")
    assert (len(data.x_train), len(data.x_test), data.num_classes) == (3, 1, 2)
    assert len(opened) == 4


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "torchvision names no data set; expected torchvision:CIFAR100?root=DIR"),
        (":LSUN", "LSUN is no data set of torchvision's for classification; expected CIFAR10, CIFAR100, MNIST"),
        (":ImageFolder", "ImageFolder is no data set of torchvision's for classification; expected CIFAR10"),
        (":Food101", "this torchvision has no Food101; expected a newer one"),
        (":SVHN?root=nowhere", "torchvision's SVHN (split=train) cannot be opened in "),
        (":CIFAR10?split=test", "split or test_split of torchvision's CIFAR10, whose parts have no names"),
        (":EuroSAT?test_split=test", "split or test_split of torchvision's EuroSAT, whose parts have no names"),
        (":EMNIST", "torchvision's EMNIST is several data sets; expected one of them, for instance split=balanced"),
        (":MNIST?mean=imagenet", "3 numbers to normalise by, but picture "),
        (
            ":MNIST?mean=imagenet",
            "of torchvision's MNIST has 1 channels; expected one number; channels=3 to convert it",
        ),
        (":DTD?only=0,1", "of torchvision's DTD has another label than the data set's list says; expected one label"),
        (
            ":Country211",
            "picture 5 of torchvision's Country211 cannot be read (OSError: image file is truncated (3",
        ),
        (":SVHN?download=true", "unknown option 'download' of torchvision; expected one of train, label_noise"),
    ],
)
def test_refused(rest: str, message: str) -> None:
    assert message in refusal(f"torchvision{rest}")


def test_nothing_is_downloaded_and_the_error_says_where_was_looked() -> None:
    assert refusal("torchvision:SVHN?root=nowhere").endswith(
        "nowhere: Dataset not found. You can use download=True to download it; expected the files as torchvision lays "
        "them out; give the folder it was downloaded to, root=DIR"
    )


def test_a_picture_of_another_size_is_named() -> None:
    assert refusal("torchvision:STL10") == (
        "picture 4 of STL10 comes out as 3×3 pixels in 3 channels; expected 9×7 pixels in 3 channels, as the first; "
        "say size=224, or channels=3"
    )
    assert load_data("torchvision:STL10?size=4").input_shape == (3, 4, 4)


def test_what_would_not_fit_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 10_000)
    with pytest.raises(ResourceError, match=r"12 pictures of SVHN would take 0\.0 GB of memory"):
        load_data("torchvision:SVHN")
    assert len(load_data("torchvision:SVHN?train=2&test=first_half").x_train) == 2


def test_torchvision_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert refusal("torchvision:SVHN").startswith("torchvision cannot be imported (import of torchvision halted")


def test_a_checkpoint_may_not_name_it_unasked() -> None:
    """CIFAR's files are pickles, and torchvision unpickles them."""
    assert "torchvision" not in BUILT_IN_DATA
    assert {"digits", "imagefolder", "text", "hf"} <= set(BUILT_IN_DATA)
