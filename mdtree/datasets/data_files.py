"""Data sets read by name: scikit-learn's digits, ``.npz``, IDX files (MNIST); and where the files of one lie."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdtree.datasets.data_set import WHOLE_TEST, DataSet
from mdtree.datasets.subset import CHOICE_DEFAULTS, CHOICE_KINDS, Array, Stored, choice_of, choose
from mdtree.errors import InputError, ResourceError
from mdtree.files import regular_file
from mdtree.specification import Specification, listing

FIXED_SEED = 20240626
"""Draws the split of a data set that comes without one. It never changes: published numbers rest on it."""

DIGITS_POOL = 1000
"""So many of the 1,797 digits are the pool to train on; the other 797 are the test set, halves of 398 and 399."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""What a file of arrays may hold; the first two it has to."""

HELD_OUT_SHARE = 0.4
"""Where one split only is stored, this share of it, rounded down, is the test set."""


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
    return load_arrays(spec, directory, _npz_arrays)


def load_arrays(spec: Specification, directory: Path, read: Callable[[Path], dict[str, Array]]) -> DataSet:
    """The arrays of one file, as `read` gives them by the names of `ARRAYS`, and the part that the options choose.

    Raises
    ------
    InputError
        No file is named, it is not there, or an option or an array cannot be used.
    """
    if not spec.target:
        raise InputError(f"{spec.name} names no file", f"{spec.name}:FILE")
    options = spec.read({**CHOICE_KINDS, "classes": int}, {**CHOICE_DEFAULTS, "test": WHOLE_TEST})
    path = regular_file(data_path(spec.target, directory))
    arrays = read(path)
    classes: Any = options["classes"]
    x_test, y_test = arrays.get("x_test"), arrays.get("y_test")
    stored = Stored(arrays["x_train"], arrays["y_train"], x_test, y_test, path.stem, classes)
    return choose(stored, choice_of(spec.name, options), spec)


def load_idx(spec: Specification, directory: Path) -> DataSet:
    """Images in IDX files, gzipped or not, under MNIST's names; pixels scaled to [0, 1], shape (n, 1, rows, columns).

    ``train-*`` is the pool and ``t10k-*`` the test set. Where only one of them is there, its samples are permuted by
    `FIXED_SEED` and the last `HELD_OUT_SHARE` of them are the test set. ``size=14`` averages blocks of pixels until the
    shorter side has 14.
    """
    options = spec.read({**CHOICE_KINDS, "size": int}, CHOICE_DEFAULTS)
    folder = data_folder(spec, directory, "mnist10k")
    splits = [split for split in (_idx_split(folder, "train"), _idx_split(folder, "t10k")) if split is not None]
    if not splits:
        raise InputError(
            f"{folder} holds no IDX files", "train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz]"
        )
    if len(splits) == 2:
        (x_pool, y_pool), (x_test, y_test) = splits
    else:
        x, y = splits[0]
        pool, test = held_out_split(len(y))
        x_pool, y_pool, x_test, y_test = x[pool], y[pool], x[test], y[test]
    block = _block_of(options["size"], x_pool.shape[1:])
    stored = Stored(x_pool, y_pool, x_test, y_test, folder.resolve().name, decode=partial(_scale_grey, block=block))
    return choose(stored, choice_of("idx", options), spec)


def _npz_arrays(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise InputError(f"{path} is a single array", f"{', '.join(ARRAYS)} saved by numpy.savez")
        with loaded:
            held = loaded.files
            arrays = {name: loaded[name] for name in ARRAYS if name in held}
    except InputError:
        raise
    except MemoryError as error:
        raise ResourceError(f"the arrays of {path} do not fit into memory") from error
    except Exception as error:  # numpy, zipfile and zlib raise half a dozen kinds on damaged files
        raise InputError(
            f"{path} is no numpy archive of plain arrays", f"{', '.join(ARRAYS)} saved by numpy.savez"
        ) from error
    check_arrays(arrays, held, path)
    return arrays


def check_arrays(arrays: Mapping[str, object], held: Sequence[str], path: Path) -> None:
    """Refuse a file without x_train and y_train, or with half a test set.

    Parameters
    ----------
    arrays : mapping
        What it holds of `ARRAYS`.
    held : sequence of str
        The names of all it holds, for the message.
    path : Path

    Raises
    ------
    InputError
    """
    if "x_train" not in arrays or "y_train" not in arrays:
        raise InputError(f"{path} holds {listing(held) or 'nothing'}", "x_train, y_train and perhaps x_test, y_test")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"only one of x_test and y_test stands in {path}", "both or neither")


def held_out_split(samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the pool and of the test set of a file without splits: a permutation by `FIXED_SEED`, then a cut."""
    order = np.random.default_rng(FIXED_SEED).permutation(samples)
    cut = samples - int(samples * HELD_OUT_SHARE)
    return order[:cut], order[cut:]


def data_path(text: str, directory: Path) -> Path:
    """A path as a specification names it: ``$NAME`` and ``${NAME}`` are replaced by environment variables.

    Parameters
    ----------
    text : str
        ``folder/file.npz``, ``$MDTREE_DATA/train.parquet``.
    directory : Path
        Where relative paths start.

    Raises
    ------
    InputError
        If a variable is not set, or empty.
    """

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        found = os.environ.get(name)
        if not found:
            raise InputError(
                f"the environment variable {name} of the path {text} is not set", "", f"export {name}=FOLDER"
            )
        return found

    return directory / re.sub(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))", value, text)


def data_folder(spec: Specification, directory: Path, known_as: str) -> Path:
    """The folder a specification names, or `known_as` in the one that MDTREE_DATA names."""
    root = os.environ.get("MDTREE_DATA")
    if not spec.target and not root:
        raise InputError(
            f"{spec.name} names no folder", f"{spec.name}:DIR", "or set the environment variable MDTREE_DATA"
        )
    folder = data_path(spec.target, directory) if spec.target else Path(str(root)) / known_as
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", f"{spec.name}:DIR")
    return folder


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


def _block_of(size: Any, shape: tuple[int, ...]) -> int:
    """Side of the blocks of pixels to average."""
    if size is None:
        return 1
    block = min(shape) // size if size > 0 else 0
    if block < 1 or block * size != min(shape) or any(side % block for side in shape):
        raise InputError(
            f"size={size} of idx, but images of {shape[0]}×{shape[1]} pixels", "a size that divides theirs"
        )
    return block


def _scale_grey(images: Array, block: int) -> Array:
    pixels = images[:, None].astype(np.float32) / np.float32(255)
    if block == 1:
        return pixels
    rows, columns = images.shape[1] // block, images.shape[2] // block
    return pixels.reshape(len(images), 1, rows, block, columns, block).mean(axis=(3, 5))
