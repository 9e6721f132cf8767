"""The data sets mdtree reads by name: scikit-learn's digits, ``.npz``, CIFAR-10 in parquet, IDX files (MNIST)."""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mdtree.data_set import WHOLE_TEST, DataSet
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import Specification, listing
from mdtree.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Stored, choice_of, choose

FIXED_SEED = 20240626
"""Draws the split of a data set that comes without one. It never changes: published numbers rest on it."""

DIGITS_POOL = 1000
"""So many of the 1,797 digits are the pool to train on; the other 797 are the test set, halves of 398 and 399."""

IDX_TEST_SHARE = 0.4
"""Where an IDX folder holds one split only, this share of it, rounded down, is the test set."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STANDARD_DEVIATION = (0.2470, 0.2435, 0.2616)
"""Per channel (red, green, blue), of pixels scaled to [0, 1], over CIFAR-10's 50,000 training images."""


def load_digits(spec: Specification, directory: Path) -> DataSet:
    """scikit-learn's 1,797 digits, pixels / 16: ``shape=flat`` gives (n, 64), ``shape=image`` (n, 1, 8, 8)."""
    from sklearn.datasets import load_digits as load_from_sklearn

    if spec.target:
        raise InputError(f"digits has no {spec.target!r}", "digits?train=N&label_noise=P&seed=S")
    options = spec.read({**CHOICE_KINDS, "shape": ("flat", "image")}, {**CHOICE_DEFAULTS, "shape": "flat"})
    bunch = load_from_sklearn()
    order = np.random.default_rng(FIXED_SEED).permutation(len(bunch.target))
    x = (bunch.images[order] / 16).astype(np.float32)
    x = x.reshape(-1, 64) if options["shape"] == "flat" else x.reshape(-1, 1, 8, 8)
    y = bunch.target[order]
    stored = Stored(x[:DIGITS_POOL], y[:DIGITS_POOL], x[DIGITS_POOL:], y[DIGITS_POOL:], "digits", 10)
    return choose(stored, choice_of("digits", options), spec)


def load_npz(spec: Specification, directory: Path) -> DataSet:
    """x_train, y_train and perhaps x_test, y_test of a numpy archive; its test set is kept whole by default."""
    if not spec.target:
        raise InputError("npz names no file", "npz:FILE")
    options = spec.read({**CHOICE_KINDS, "classes": int}, {**CHOICE_DEFAULTS, "test": WHOLE_TEST})
    path = regular_file(directory / spec.target)
    arrays = _npz_arrays(path)
    classes: Any = options["classes"]
    x_test, y_test = arrays.get("x_test"), arrays.get("y_test")
    stored = Stored(arrays["x_train"], arrays["y_train"], x_test, y_test, path.stem, classes)
    return choose(stored, choice_of("npz", options), spec)


def load_cifar10(spec: Specification, directory: Path) -> DataSet:
    """CIFAR-10 from ``train.parquet`` and ``test.parquet``: columns `image` (PNG or JPEG bytes) and `label`.

    Pixels are scaled to [0, 1], averaged over blocks where ``size=16`` or ``size=8``, then normalised by
    `CIFAR10_MEAN` and `CIFAR10_STANDARD_DEVIATION`: float32 of shape (n, 3, size, size). Needs the extra ``images``
    (pyarrow, Pillow).
    """
    options = spec.read({**CHOICE_KINDS, "size": ("32", "16", "8")}, {**CHOICE_DEFAULTS, "size": "32"})
    folder = _folder(spec, directory, "cifar10")
    size = int(str(options["size"]))
    x_pool, y_pool = _read_parquet(folder / "train.parquet")
    x_test, y_test = _read_parquet(folder / "test.parquet")
    stored = Stored(x_pool, y_pool, x_test, y_test, "cifar10", 10, lambda images: _decode_images(images, size))
    return choose(stored, choice_of("cifar10", options), spec)


def load_idx(spec: Specification, directory: Path) -> DataSet:
    """Images in IDX files, gzipped or not, under MNIST's names; pixels scaled to [0, 1], shape (n, 1, rows, columns).

    ``train-*`` is the pool and ``t10k-*`` the test set. Where only one of them is there, its samples are permuted by
    `FIXED_SEED` and the last `IDX_TEST_SHARE` of them are the test set.
    """
    options = spec.read(CHOICE_KINDS, CHOICE_DEFAULTS)
    folder = _folder(spec, directory, "mnist10k")
    splits = [split for split in (_idx_split(folder, "train"), _idx_split(folder, "t10k")) if split is not None]
    if not splits:
        raise InputError(
            f"{folder} holds no IDX files", "train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz]"
        )
    if len(splits) == 2:
        (x_pool, y_pool), (x_test, y_test) = splits
    else:
        x, y = splits[0]
        order = np.random.default_rng(FIXED_SEED).permutation(len(y))
        cut = len(y) - int(len(y) * IDX_TEST_SHARE)
        x_pool, y_pool, x_test, y_test = x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]
    stored = Stored(x_pool, y_pool, x_test, y_test, folder.resolve().name, decode=_scale_grey)
    return choose(stored, choice_of("idx", options), spec)


def _npz_arrays(path: Path) -> dict[str, Array]:
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise InputError(f"{path} is a single array", f"{', '.join(names)} saved by numpy.savez")
        with loaded:
            held = loaded.files
            arrays = {name: loaded[name] for name in names if name in held}
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise half a dozen kinds on damaged files
        raise InputError(
            f"{path} is no numpy archive of plain arrays", f"{', '.join(names)} saved by numpy.savez"
        ) from error
    if "x_train" not in arrays or "y_train" not in arrays:
        raise InputError(f"{path} holds {listing(held) or 'nothing'}", "x_train, y_train and perhaps x_test, y_test")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"only one of x_test and y_test stands in {path}", "both or neither")
    return arrays


def _folder(spec: Specification, directory: Path, known_as: str) -> Path:
    root = os.environ.get("MDTREE_DATA")
    if not spec.target and not root:
        raise InputError(
            f"{spec.name} names no folder", f"{spec.name}:DIR", "or set the environment variable MDTREE_DATA"
        )
    folder = directory / spec.target if spec.target else Path(str(root)) / known_as
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", f"{spec.name}:DIR")
    return folder


def _read_parquet(path: Path) -> tuple[Array, Array]:
    """The encoded images (bytes) and the labels of one split."""
    try:
        import PIL.Image  # noqa: F401  # asked for here so that both are named at once
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path} needs the package {error.name}", "", "run: pip install 'mdtree-diagnosis[images]'"
        ) from error
    try:
        table = parquet.read_table(regular_file(path), columns=["image", "label"])
        images, labels = table["image"].to_pylist(), table["label"].to_numpy()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as parquet with the columns image and label", "", "copy it again"
        ) from error
    images = [image["bytes"] if isinstance(image, dict) and "bytes" in image else image for image in images]
    encoded = np.empty(len(images), dtype=object)
    encoded[:] = images
    return encoded, labels


def _decode_images(encoded: Array, size: int) -> Array:
    """Encoded 32×32 images to normalised float32, shape (n, 3, size, size)."""
    from PIL import Image, UnidentifiedImageError

    pixels = np.empty((len(encoded), 32, 32, 3), dtype=np.uint8)
    for row, data in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.size != (32, 32):
                    raise InputError(f"a CIFAR-10 image is {image.width}×{image.height} pixels", "32×32")
                pixels[row] = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise InputError(
                "a CIFAR-10 image cannot be decoded", "PNG or JPEG bytes", "copy the file again"
            ) from error
    block = 32 // size
    x = pixels.reshape(len(encoded), size, block, size, block, 3).mean(axis=(2, 4), dtype=np.float32) / np.float32(255)
    x = (x - np.array(CIFAR10_MEAN, np.float32)) / np.array(CIFAR10_STANDARD_DEVIATION, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _idx_split(folder: Path, prefix: str) -> tuple[Array, Array] | None:
    """Images (n, rows, columns) and labels (n,) of one split as bytes, or None if neither file is there."""
    found = [_idx_file(folder, f"{prefix}-{what}") for what in ("images", "labels")]
    images, labels = found
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise InputError(f"{folder} holds only one of {prefix}-images and {prefix}-labels", "both")
    return _read_idx(images, 3), _read_idx(labels, 1)


def _idx_file(folder: Path, stem: str) -> Path | None:
    dimensions = "idx3-ubyte" if stem.endswith("images") else "idx1-ubyte"
    names = [f"{stem}{mark}{dimensions}{suffix}" for mark in "-." for suffix in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).exists()), None)


def _read_idx(path: Path, dimensions: int) -> Array:
    """One IDX file of unsigned bytes: 0, 0, 8, the number of dimensions, their sizes (big-endian), the data."""
    data = regular_file(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is truncated or damaged", "a whole gzip file", "copy it again") from error
    head = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < head:
        raise InputError(f"{path} is no IDX file", f"unsigned bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", data[4:head])
    if len(data) - head != math.prod(shape):
        raise InputError(f"{path} holds {len(data) - head} bytes", f"{math.prod(shape)} by its head", "copy it again")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)


def _scale_grey(images: Array) -> Array:
    return images[:, None].astype(np.float32) / np.float32(255)
