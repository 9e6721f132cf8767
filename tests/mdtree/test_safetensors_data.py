"""Data in safetensors files: the arrays of an npz under another roof, and refusals in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mdtree.data import load_data
from mdtree.errors import InputError, ResourceError


def arrays(count: int = 40) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return {
        "x_train": torch.rand(count, 5, generator=drawn),
        "y_train": torch.arange(count) % 3,
        "x_test": torch.rand(9, 5, generator=drawn),
        "y_test": torch.arange(9) % 3,
    }


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_data(f"safetensors:{file.name}", file.parent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", ["", "?train=20&label_noise=0.3&seed=4", "?classes=5&test=first_half", "?only=2,0"])
def test_the_data_of_an_npz_with_the_same_arrays(options: str, tmp_path: Path) -> None:
    save_file(arrays(), tmp_path / "sample.safetensors")
    np.savez(tmp_path / "sample.npz", **{name: tensor.numpy() for name, tensor in arrays().items()})
    ours = load_data(f"safetensors:sample.safetensors{options}", tmp_path)
    theirs = load_data(f"npz:sample.npz{options}", tmp_path)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.specification == f"safetensors:sample.safetensors{options}"
    for name in ("num_classes", "name", "train_size_full", "test_part", "normalisation", "notes"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_floats_of_every_width_become_float32(kind: torch.dtype, tmp_path: Path) -> None:
    given = {**arrays(), "x_train": arrays()["x_train"].to(kind), "x_test": arrays()["x_test"].to(kind)}
    save_file(given, tmp_path / "d.safetensors")
    data = load_data("safetensors:d.safetensors", tmp_path)
    assert data.train_tensor.dtype is torch.float32
    assert sorted(data.train_tensor.flatten().tolist()) == sorted(given["x_train"].float().flatten().tolist())


def test_what_is_no_data(tmp_path: Path) -> None:
    file = tmp_path / "d.safetensors"
    file.write_bytes(b"PK not at all")
    assert refusal(file) == (
        f"{file} is no safetensors file; expected x_train, y_train, x_test, y_test saved by safetensors"
    )
    save_file({"weight": torch.zeros(2)}, file)
    assert refusal(file) == f"{file} holds weight; expected x_train, y_train and perhaps x_test, y_test"
    save_file({name: tensor for name, tensor in arrays().items() if name != "y_test"}, file)
    assert refusal(file) == f"only one of x_test and y_test stands in {file}; expected both or neither"
    save_file(arrays(), file)
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(file).startswith(f"{file} is truncated or damaged")
    with pytest.raises(InputError, match="safetensors names no file; expected safetensors:FILE"):
        load_data("safetensors", tmp_path)


def test_an_npz_that_does_not_fit_into_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", **{name: tensor.numpy() for name, tensor in arrays().items()})

    def short(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", short)
    with pytest.raises(ResourceError, match=r"d\.npz do not fit into memory"):
        load_data("npz:d.npz", tmp_path)
