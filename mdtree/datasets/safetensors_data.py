"""Data sets in safetensors files: arrays by name, which are read without running anything."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mdtree.datasets.data_files import ARRAYS, check_arrays, load_arrays
from mdtree.datasets.data_set import DataSet
from mdtree.datasets.subset import Array
from mdtree.errors import InputError
from mdtree.reading.safetensors_file import read_safetensors
from mdtree.specification import Specification


def load_safetensors(spec: Specification, directory: Path) -> DataSet:
    """x_train, y_train and perhaps x_test, y_test of a safetensors file; its test set is kept whole by default.

    Options as those of ``npz``. Floats of any width become float32; those that numpy does not have, bfloat16 among
    them, too.
    """
    return load_arrays(spec, directory, _arrays)


def _arrays(path: Path) -> dict[str, Array]:
    with open(path, "rb") as handle:
        if handle.read(9)[8:] != b"{":
            raise InputError(f"{path} is no safetensors file", f"{', '.join(ARRAYS)} saved by safetensors")
        size = handle.seek(0, 2)
        handle.seek(0)
        tensors, _, _ = read_safetensors(handle, path, size)
    arrays = {name: _as_array(tensors[name]) for name in ARRAYS if name in tensors}
    check_arrays(arrays, list(tensors), path)
    return arrays


def _as_array(tensor: Tensor) -> Array:
    known_to_numpy = not tensor.is_floating_point() or tensor.dtype in (torch.float64, torch.float32, torch.float16)
    return (tensor if known_to_numpy else tensor.float()).numpy()
