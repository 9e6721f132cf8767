"""Some classes of a data set: chosen before everything else, so that every other contract holds among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mdtree.data import load_data
from mdtree.errors import InputError


def rows(x: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def test_only_some_classes_are_kept_and_renumbered_in_the_order_given() -> None:
    whole, part = load_data("digits?test=all"), load_data("digits?only=7,3,5&test=all")
    assert (part.num_classes, part.train_size_full) == (3, sum(int((whole.y_train == c).sum()) for c in (7, 3, 5)))
    for new, old in enumerate((7, 3, 5)):
        assert rows(part.x_train[part.y_train == new]) == rows(whole.x_train[whole.y_train == old])
    kept = [n for n, label in enumerate(whole.y_test.tolist()) if label in (7, 3, 5)]
    assert torch.equal(part.x_test, whole.x_test[kept])  # in their old order
    assert part.y_test.tolist() == [(7, 3, 5).index(label) for label in whole.y_test[kept].tolist()]


def test_classes_are_chosen_before_anything_else() -> None:
    """Halves of the test set, balanced and nested training sets and label noise are those of the classes left."""
    spec = "digits?only=8,9,1&seed=2"
    whole, first, second = (load_data(f"{spec}&test={part}") for part in ("all", "first_half", "second_half"))
    assert len(first.x_test) == len(whole.x_test) // 2
    assert torch.equal(torch.cat([first.x_test, second.x_test]), whole.x_test)
    assert torch.equal(torch.cat([first.y_test, second.y_test]), whole.y_test)
    small, large = (load_data(f"{spec}&train={n}&label_noise=0.3") for n in (31, 90))
    assert torch.equal(small.x_train, large.x_train[:31])
    assert torch.equal(small.y_train, large.y_train[:31])
    clean = load_data(f"{spec}&train=31")
    assert sorted(clean.y_train.bincount().tolist()) == [10, 10, 11]
    assert set(small.y_train.tolist()) == {0, 1, 2}
    assert 0 < int((small.y_train != clean.y_train).sum()) < 31


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("3", "only=3 of digits; expected two or more different classes, for instance only=0,3,4"),
        ("3,3", "only=3,3 of digits; expected two or more different classes"),
        ("3,-1", "only=3,-1 of digits; expected two or more different classes"),
        ("3,", "only=3, of digits; expected two or more different classes"),
        ("3,12", "only=3,12 of digits, which has no class 12; expected classes from 0 to 9 that it holds"),
        ("0,1&train=300", "train=300 of digits; expected at most 182, all there are"),
    ],
)
def test_refused_classes(only: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data(f"digits?only={only}")
    assert str(caught.value).startswith(message)


def test_two_classes_of_an_archive(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 3
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    data = load_data("npz:mine.npz?only=2,0", tmp_path)
    assert (data.num_classes, data.x_test.tolist(), data.y_test.tolist()) == (2, x[[0, 2, 3]].tolist(), [1, 0, 1])
    assert load_data("npz:mine.npz?only=2,0&classes=9", tmp_path).num_classes == 2
