"""Data sets by name: fixed test sets, nested training sets, label noise that stays, refusals in one line."""

from __future__ import annotations

import builtins
import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from mdtree.data import BUILT_IN_DATA, TEST_GAIN_HALF, TEST_METRIC_HALF, cut_test_set, load_data
from mdtree.datasets.parquet_data import CIFAR10_MEAN, CIFAR10_STANDARD_DEVIATION
from mdtree.datasets.subset import balanced_order, noisy_labels
from mdtree.errors import InputError


def rows(x: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def refusal(spec: str, directory: Path | None = None) -> str:
    """The one line with which a specification is refused."""
    with pytest.raises(InputError) as caught:
        load_data(spec, directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits_as_documented() -> None:
    data = load_data("digits")
    assert (data.x_train.shape, data.x_train.dtype) == ((1000, 64), torch.float32)
    assert (data.y_train.shape, data.y_train.dtype) == ((1000,), torch.int64)
    assert (data.num_classes, data.name, data.specification, data.train_size_full) == (10, "digits", "digits", 1000)
    assert (data.input_shape, data.test_part) == ((64,), TEST_METRIC_HALF)
    assert (float(data.x_train.min()), float(data.x_train.max())) == (0.0, 1.0)
    images = load_data("digits?shape=image")
    assert images.x_train.shape == (1000, 1, 8, 8)
    assert torch.equal(images.x_train.flatten(1), data.x_train)


def test_digits_carry_their_own_labels() -> None:
    bunch = load_digits()
    label_of = {
        (row / 16).astype(np.float32).tobytes(): label for row, label in zip(bunch.data, bunch.target, strict=True)
    }
    data = load_data("digits?seed=2&test=all")
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [label_of[row.numpy().tobytes()] for row in x] == y.tolist()


def test_the_split_of_the_digits_never_changes() -> None:
    """Published numbers rest on it: the test set is what this permutation says, whatever the seed."""
    order = np.random.default_rng(20240626).permutation(1797)
    expected = (load_digits().data[order[1000:]] / 16).astype(np.float32)
    for seed in (0, 5):
        data = load_data(f"digits?test=all&seed={seed}")
        np.testing.assert_array_equal(data.x_test.numpy(), expected)
    assert order[:5].tolist() == [1718, 362, 569, 36, 876]


def test_the_halves_of_the_test_set_are_fixed_and_disjoint() -> None:
    whole = load_data("digits?test=all")
    first, second = load_data("digits?train=50&seed=4"), load_data("digits?test=second_half")
    assert (len(first.x_test), len(second.x_test)) == (398, 399)
    assert torch.equal(torch.cat([first.x_test, second.x_test]), whole.x_test)
    one, other = cut_test_set(whole)
    assert (one.test_part, other.test_part) == (TEST_METRIC_HALF, TEST_GAIN_HALF)
    assert torch.equal(one.x_test, first.x_test)
    assert torch.equal(one.y_test, first.y_test)
    assert torch.equal(other.x_test, second.x_test)
    assert one.x_train is whole.x_train
    with pytest.raises(InputError, match=r"^the test set of digits is a half already; expected test=all"):
        cut_test_set(load_data("digits"))


def test_no_test_image_is_ever_trained_on() -> None:
    data = load_data("digits?test=all")
    assert not rows(data.x_train) & rows(data.x_test)


def test_smaller_training_sets_are_the_head_of_larger_ones() -> None:
    small, large = (load_data(f"digits?train={n}&seed=3&label_noise=0.3") for n in (160, 640))
    assert torch.equal(small.x_train, large.x_train[:160])
    assert torch.equal(small.y_train, large.y_train[:160])
    assert small.train_size_full == 1000
    assert not torch.equal(load_data("digits?train=160&seed=4").x_train, small.x_train)


@pytest.mark.parametrize("train", [7, 40, 163, 640])
def test_every_training_set_is_balanced(train: int) -> None:
    counts = load_data(f"digits?train={train}&seed=1").y_train.bincount(minlength=10)
    assert int(counts.max() - counts.min()) <= 1


def test_balanced_order_takes_each_class_in_the_order_drawn() -> None:
    """The training sets of published numbers: round after round, the next sample of every class that has one left."""
    labels = np.random.default_rng(5).integers(0, 4, 100)
    drawn = np.random.default_rng([7, 0]).permutation(100).tolist()
    taken: dict[int, int] = {}
    rounds: list[list[int]] = [[] for _ in range(100)]
    for sample in drawn:
        label = int(labels[sample])
        rounds[taken.get(label, 0)].append(sample)
        taken[label] = taken.get(label, 0) + 1
    assert balanced_order(labels, seed=7).tolist() == [sample for one in rounds for sample in one]


def test_balanced_order_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    order = balanced_order(labels, seed=0)
    assert sorted(order) == list(range(8))
    assert set(labels[order][:3]) == {0, 1, 2}
    assert set(labels[order][3:5]) == {0, 1}
    assert set(labels[order][5:]) == {0}


def test_label_noise_hits_the_asked_share_and_only_other_classes() -> None:
    clean, noisy = load_data("digits?seed=1"), load_data("digits?seed=1&label_noise=0.2")
    assert torch.equal(clean.x_train, noisy.x_train)
    wrong = clean.y_train != noisy.y_train
    assert abs(float(wrong.float().mean()) - 0.2) < 3 * (0.2 * 0.8 / 1000) ** 0.5
    assert torch.equal(clean.y_test, noisy.y_test)
    more = load_data("digits?seed=1&label_noise=0.4")
    assert torch.equal(more.y_train[wrong], noisy.y_train[wrong])
    assert bool((load_data("digits?seed=1&label_noise=1").y_train != clean.y_train).all())
    assert not torch.equal(load_data("digits?seed=2&label_noise=0.2").y_train, load_data("digits?seed=2").y_train)


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = noisy_labels(np.full(30_000, 2), 1.0, 4, seed=0)
    counts = np.bincount(labels, minlength=4)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3]] - 10_000).max() < 4 * (30_000 * 2 / 9) ** 0.5


def test_equal_words_give_equal_bytes_and_leave_the_random_state_alone() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (load_data("digits?train=100&seed=9&label_noise=0.1") for _ in range(2))
    assert torch.equal(first.x_train, second.x_train)
    assert torch.equal(first.y_train, second.y_train)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "digit",
            "unknown data set 'digit'; expected one of digits?train=N&label_noise=P&seed=S, npz:FILE, cifar10:DIR",
        ),
        ("digits:x", "digits has no 'x'; expected digits?train=N"),
        ("digits?train=1001", "train=1001 of digits; expected at most 1000, all there are"),
        ("digits?train=0", "train=0 of digits; expected at least 1"),
        ("digits?seed=-1", "seed=-1 of digits; expected 0 or more"),
        ("digits?label_noise=1.5", "label_noise=1.5 of digits; expected a share between 0 and 1"),
        ("digits?test=third", "test=third of digits; expected one of first_half, second_half, all"),
        (
            "digits?size=8",
            "unknown option 'size' of digits; expected one of train, label_noise, seed, test, only",
        ),
        ("npz", "npz names no file; expected npz:FILE"),
        ("npz:none.npz", "none.npz does not exist; expected a file; check the path"),
        ("idx:nowhere", "nowhere is not a folder; expected idx:DIR"),
    ],
)
def test_refused_specifications(spec: str, message: str) -> None:
    assert refusal(spec, Path()).startswith(message)


def test_every_known_form_is_named_and_what_it_needs_is_imported_when_it_is_asked_for() -> None:
    message = refusal("unknown")
    for name in BUILT_IN_DATA:
        assert f" {name}" in message
        with pytest.raises(InputError) as caught:
            load_data(f"{name}:nowhere/at/all?nothing=1")
        assert "unknown data set" not in str(caught.value)
    heavy = ["PIL", "pyarrow", "torchvision", "transformers", "datasets", "tokenizers", "lightning"]
    code = f"import mdtree.data, sys; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.strip() == "[]"


def save(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


X, Y = np.arange(24, dtype=np.float64).reshape(12, 2), np.arange(12) % 3


def test_npz_keeps_its_test_set_whole_and_takes_the_same_options(tmp_path: Path) -> None:
    save(tmp_path / "mine.npz", x_train=X, y_train=Y, x_test=X[:4] + 100, y_test=Y[:4])
    data = load_data("npz:mine.npz?train=6&seed=1", tmp_path)
    assert (data.name, data.num_classes, data.train_size_full, data.test_part) == ("mine", 3, 12, "all")
    assert (data.x_train.shape, data.x_train.dtype, data.y_train.bincount().tolist()) == (
        (6, 2),
        torch.float32,
        [2, 2, 2],
    )
    assert data.x_test.tolist() == (X[:4] + 100).tolist()
    half = load_data("npz:mine.npz?test=second_half", tmp_path)
    assert half.y_test.tolist() == [2, 0]
    assert load_data("npz:mine.npz?classes=7", tmp_path).num_classes == 7


def test_npz_tokens_stay_integers_and_a_test_set_is_optional(tmp_path: Path) -> None:
    save(tmp_path / "tokens.npz", x_train=X.astype(np.int32), y_train=Y.astype(np.uint8))
    data = load_data(f"npz:{tmp_path / 'tokens.npz'}")
    assert (data.x_train.dtype, data.y_train.dtype, data.x_test, data.y_test) == (torch.int64, torch.int64, None, None)
    with pytest.raises(InputError, match=r"has no test set to cut in halves"):
        cut_test_set(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x_train": X.astype(np.uint8)},
            "x_train of d is uint8; expected floats scaled as in training, or int64 tokens",
        ),
        ({"x_train": np.where(X == 5, np.nan, X)}, "x_train of d holds NaN or infinite values in 1 of 12 samples"),
        ({"x_train": X * 1e300}, "x_train of d holds NaN or infinite values in 12 of 12 samples"),
        ({"x_train": X[:, 0]}, "x_train of d has shape (12,); expected (samples, ...) with at least one sample"),
        ({"x_train": X[:5]}, "x_train of d has shape (5, 2) and y_train 12 labels; expected as many labels as samples"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "y_train of d is empty; expected at least one sample"),
        ({"x_train": X.astype(str)}, "x_train of d holds <U32; expected an array of numbers"),
        ({"x_train": X.astype(complex)}, "x_train of d is complex128; expected floats"),
        (
            {"y_train": Y + 0.5},
            "y_train of d is float64: only classification is diagnosed, not regression; expected integer",
        ),
        (
            {"y_train": np.eye(3, dtype=int)[Y]},
            "y_train of d has shape (12, 3): one label a sample is supported, not several",
        ),
        ({"y_train": Y - 1}, "the labels of d go down to -1; expected class labels from 0"),
        ({"y_train": Y * 0}, "all labels of d are the same; expected at least two classes"),
        ({"y_train": Y * 2**61}, "classes; expected at most 16,777,216; number the classes from 0 without gaps"),
        (
            {"y_train": Y.astype(object)},
            "d.npz is no numpy archive of plain arrays; expected x_train, y_train, x_test, y_test",
        ),
        ({"x_test": X[:3]}, "only one of x_test and y_test stands in "),
        (
            {"x_test": X[:3], "y_test": Y[:4]},
            "x_test of d has 3 samples and y_test 4; expected as many labels as samples",
        ),
        (
            {"x_test": X[:4, :1], "y_test": Y[:4]},
            "x_test of d holds float32 of shape (1,) and x_train float32 of shape (2,)",
        ),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save(tmp_path / "d.npz", **({"x_train": X, "y_train": Y} | change))
    assert message in refusal("npz:d.npz", tmp_path)


def test_labels_outside_the_classes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "d.npz", x_train=X, y_train=Y)
    message = "the labels of d go up to 2; expected labels below 2, the number of classes"
    assert refusal("npz:d.npz?classes=2", tmp_path) == message


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    save(tmp_path / "whole.npz", x_train=X, y_train=Y)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-60])
    save(tmp_path / "other.npz", images=X, labels=Y)
    assert "is a single array; expected x_train, y_train" in refusal("npz:single.npy", tmp_path)
    assert "is no numpy archive of plain arrays" in refusal("npz:text.npz", tmp_path)
    assert "is no numpy archive of plain arrays" in refusal("npz:cut.npz", tmp_path)
    assert "holds images, labels; expected x_train, y_train" in refusal("npz:other.npz", tmp_path)


def write_idx(path: Path, array: np.ndarray[Any, Any], dtype: int = 8) -> None:
    head = bytes([0, 0, dtype, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


IMAGES, LABELS = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3), np.arange(10) % 2


def test_idx_files_of_two_splits(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels.idx1-ubyte", LABELS)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES[:4])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[:4])
    data = load_data(f"idx:{tmp_path}?test=all")
    assert (data.x_train.shape, data.train_size_full, data.name) == ((10, 1, 2, 3), 10, tmp_path.name)
    np.testing.assert_array_equal(data.x_test.numpy()[:, 0], (IMAGES[:4] / 255).astype(np.float32))


def test_one_idx_split_is_cut_by_a_fixed_rule(tmp_path: Path) -> None:
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS)
    order = np.random.default_rng(20240626).permutation(10)
    data = load_data(f"idx:{tmp_path}?test=all&seed=3")
    assert data.train_size_full == 6
    np.testing.assert_array_equal(data.x_test.numpy()[:, 0], (IMAGES[order[6:]] / 255).astype(np.float32))
    assert data.y_test.tolist() == LABELS[order[6:]].tolist()


def test_idx_images_can_be_averaged_to_a_smaller_size(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS[:3])
    whole, small = load_data(f"idx:{tmp_path}?test=all"), load_data(f"idx:{tmp_path}?test=all&size=2")
    assert small.x_train.shape[1:] == (1, 2, 3)
    by_hand = whole.x_train[0, 0, 2:4, 4:6].mean()
    assert float(small.x_train[0, 0, 1, 2]) == pytest.approx(float(by_hand), rel=1e-6)
    assert load_data(f"idx:{tmp_path}?test=all&size=4").x_train.equal(whole.x_train)
    assert "size=3 of idx, but images of 4×6 pixels; expected a size that divides theirs" in refusal(
        f"idx:{tmp_path}?size=3"
    )


def test_idx_refusals(tmp_path: Path) -> None:
    assert "holds no IDX files; expected train-images-idx3-ubyte" in refusal(f"idx:{tmp_path}")
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    write_idx(images, IMAGES)
    assert "holds only one of train-images and train-labels; expected both" in refusal(f"idx:{tmp_path}")
    write_idx(labels, IMAGES)
    assert "train-labels-idx1-ubyte is no IDX file; expected unsigned bytes in 1 dimensions" in refusal(
        f"idx:{tmp_path}"
    )
    write_idx(labels, LABELS, dtype=13)
    assert "is no IDX file" in refusal(f"idx:{tmp_path}")
    write_idx(labels, LABELS)
    images.write_bytes(images.read_bytes()[:-1])
    assert "holds 59 bytes; expected 60 by its head; copy it again" in refusal(f"idx:{tmp_path}")
    images.write_bytes(gzip.compress(b"x" * 1000)[:-9])
    assert "is truncated or damaged; expected a whole gzip file" in refusal(f"idx:{tmp_path}")


def test_without_a_folder_the_variable_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MDTREE_DATA", raising=False)
    for name in ("cifar10", "idx"):
        assert (
            refusal(name) == f"{name} names no folder; expected {name}:DIR; or set the environment variable MDTREE_DATA"
        )
    monkeypatch.setenv("MDTREE_DATA", str(tmp_path))
    assert refusal("cifar10").startswith(f"{tmp_path / 'cifar10'} is not a folder")


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without_pyarrow(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    message = refusal(f"cifar10:{tmp_path}")
    assert message.endswith("needs the package pyarrow; run: pip install 'mdtree-diagnosis[images]'")


def write_cifar10(folder: Path, encoded: list[Any], labels: list[int]) -> None:
    import pyarrow
    from pyarrow import parquet

    for split in ("train", "test"):
        parquet.write_table(pyarrow.table({"image": encoded, "label": labels}), folder / f"{split}.parquet")


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_cifar10_pixels_are_averaged_and_normalised(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    write_cifar10(tmp_path, [{"bytes": png(image), "path": None} for image in pixels], [3, 9])
    mean, deviation = np.array(CIFAR10_MEAN), np.array(CIFAR10_STANDARD_DEVIATION)
    for size in (32, 16, 8):
        data = load_data(f"cifar10:{tmp_path}?size={size}&test=all")
        assert data.num_classes == 10
        block = 32 // size
        for row in (0, 1):
            corner = pixels[row, block : 2 * block, :block].reshape(-1, 3).mean(0) / 255  # the block below the corner
            expected = (corner - mean) / deviation
            np.testing.assert_allclose(data.x_test[row, :, 1, 0].numpy(), expected, rtol=0, atol=2e-6)


def test_cifar10_refusals(tmp_path: Path) -> None:
    small = png(np.zeros((16, 16, 3), np.uint8))
    write_cifar10(tmp_path, [small, small], [0, 1])
    message = (
        "the image in row 0 of test.parquet is colour, 16×16 pixels; expected colour, 32×32 pixels, as in CIFAR-10"
    )
    assert refusal(f"cifar10:{tmp_path}") == message
    write_cifar10(tmp_path, [b"no image", b""], [0, 1])
    assert refusal(f"cifar10:{tmp_path}").startswith("row 0 of test.parquet holds no image; expected PNG or JPEG bytes")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    assert "train.parquet cannot be read as parquet; expected a whole parquet" in refusal(f"cifar10:{tmp_path}")
    assert refusal(f"cifar10:{tmp_path}?size=4") == "size=4 of cifar10; expected one of 32, 16, 8"


def test_environment_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets").mkdir()
    save(tmp_path / "sets" / "mine.npz", x_train=X, y_train=Y)
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    monkeypatch.setenv("PART", "sets")
    monkeypatch.delenv("NOT_SET", raising=False)
    data = load_data("npz:$MY_DATA/${PART}/mine.npz?train=6")
    assert (len(data.x_train), data.specification) == (6, "npz:$MY_DATA/${PART}/mine.npz?train=6")
    assert len(load_data("npz:${PART}/mine.npz", tmp_path).x_train) == 12
    message = "the environment variable NOT_SET of the path $NOT_SET/mine is not set; export NOT_SET=FOLDER"
    for name in ("npz", "idx", "cifar10", "parquet"):
        assert refusal(f"{name}:$NOT_SET/mine") == message


def test_what_is_written_into_a_data_set_does_not_reach_the_next(tmp_path: Path) -> None:
    save(tmp_path / "mine.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    for spec in ("digits?train=20", "npz:mine.npz"):
        first, second = load_data(spec, tmp_path), load_data(spec, tmp_path)
        expected = second.x_train.clone(), second.x_test.clone(), second.y_train.clone()
        for tensor in (first.x_train, first.x_test, first.y_train):
            tensor.zero_()
        again = load_data(spec, tmp_path)
        for data in (second, again):
            assert all(map(torch.equal, (data.x_train, data.x_test, data.y_train), expected))


def test_real_cifar10(mdtree_data: Path) -> None:
    data = load_data(f"cifar10:{mdtree_data / 'cifar10'}?train=500&size=8&seed=1")
    assert (data.x_train.shape, data.train_size_full, data.num_classes) == ((500, 3, 8, 8), 50_000, 10)
    assert data.y_train.bincount().tolist() == [50] * 10
    assert (data.x_test.shape, int(data.y_test.bincount(minlength=10).min())) == ((5000, 3, 8, 8), 477)
    # the constants are those of the whole set at full size: means stay, deviations shrink with averaging
    assert float(data.x_test.mean(dim=(0, 2, 3)).abs().max()) < 0.03


def test_real_mnist(mdtree_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDTREE_DATA", str(mdtree_data))
    data = load_data("idx?train=100&test=all")
    assert (data.x_train.shape, data.train_size_full, data.name) == ((100, 1, 28, 28), 6000, "mnist10k")
    assert (len(data.x_test), float(data.x_test.min()), float(data.x_test.max())) == (4000, 0.0, 1.0)
    # images and labels belong together: each image is nearest to the mean of its own class far above chance
    means = torch.stack([data.x_test[data.y_test == digit].mean(0).flatten() for digit in range(10)])
    nearest = torch.cdist(data.x_train.flatten(1), means).argmin(1)
    assert float((nearest == data.y_train).float().mean()) > 0.75
