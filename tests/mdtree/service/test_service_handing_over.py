"""What was read comes through whole: every kind of tensor, tied ones, the order of names, numbers that are none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mdtree.checkpoint import Checkpoint, open_checkpoint
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.recipes.recipe import Recorded
from mdtree.service.work import handing_over
from mdtree.service.work.handing_over import read_checkpoint, read_data, write_checkpoint, write_data

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"

KINDS = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, torch.complex64, torch.complex128),
]


def checkpoint(state: dict[str, Tensor]) -> Checkpoint:
    """One in which everything is told."""
    return Checkpoint(
        path=Path("run7.pt"),
        state=state,
        model_spec="mlp?width=16",
        data_spec="digits?train=160",
        recipe={
            "zeta": 0.1,
            "epochs": 3,
            "nesterov": True,
            "momentum": None,
            "optimizer": "sgd\ud800\0é",
            "learning_rate": math.nan,
            "weight_decay": -math.inf,
        },
        initial_norm_squared=1e-300,
        sha256="0" * 64,
        weights_from="state_dict",
        candidates=("state_dict", "model_ema"),
        recipe_sources={"zeta": "args.zeta"},
        framework="lightning",
        layout="torch.save",
        recorded={"train_loss": Recorded(math.inf, "log_history[3]")},
        fine_tuned_from="resnet",
        network="timm:resnet18",
        notes=("one", "two"),
        file_notes=("three",),
        prefix="teacher",
    )


def through(opened: Checkpoint, folder: Path) -> Checkpoint:
    write_checkpoint(opened, folder / "checkpoint")
    return read_checkpoint(folder / "checkpoint")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tensors_of_every_kind(kind: torch.dtype, tmp_path: Path) -> None:
    bits = torch.randint(0, 256, (6 * 16,), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    if kind is torch.bool:
        bits %= 2
    flat = bits.view(kind)
    state = {"b": flat, "a": flat[:6].reshape(2, 3).t(), "scalar": flat[0], "none": flat[:0].reshape(0, 3)}
    given = through(checkpoint(state), tmp_path).state
    assert list(given) == ["b", "a", "scalar", "none"]
    for name, tensor in state.items():
        assert (given[name].dtype, given[name].shape) == (tensor.dtype, tensor.shape)
        bytes_of = [one.contiguous().reshape(-1).view(torch.uint8).tolist() for one in (given[name], tensor)]
        assert bytes_of[0] == bytes_of[1], name


def test_all_else_comes_as_it_was(tmp_path: Path) -> None:
    opened = checkpoint({"weight": torch.zeros(2)})
    given = through(opened, tmp_path)
    assert list(given.recipe) == list(opened.recipe)
    for name in ("learning_rate", "epochs", "nesterov"):
        assert type(given.recipe[name]) is type(opened.recipe[name])
    assert repr(replace(given, state={})) == repr(replace(opened, state={}))


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*-1*.pt")), ids=lambda file: file.stem)
def test_samples_come_as_they_were(file: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(file)
    given = through(opened, tmp_path)
    assert repr(replace(given, state={})) == repr(replace(opened, state={}))
    assert all(torch.equal(given.state[name], tensor) for name, tensor in opened.state.items())
    assert list(given.state) == list(opened.state)


def test_a_tensor_under_many_names_is_stored_once_and_overlapping_ones_apart(tmp_path: Path) -> None:
    table = torch.arange(1000, dtype=torch.float32)
    state = {f"name{number}": table for number in range(500)}
    state |= {"head": table[:600], "tail": table[400:], "conjugate": torch.ones(3, dtype=torch.complex64).conj()}
    given = through(checkpoint(state), tmp_path).state
    assert all(torch.equal(given[name], tensor) for name, tensor in state.items())
    assert given["name3"].data_ptr() == given["name77"].data_ptr()
    given["head"].fill_(-1)
    assert torch.equal(given["tail"], table[400:])
    assert (tmp_path / "checkpoint.safetensors").stat().st_size < 10_000


def test_a_json_beyond_all_bounds_is_neither_written_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = checkpoint({"weight": torch.zeros(2)})
    write_checkpoint(opened, tmp_path / "checkpoint")
    monkeypatch.setattr(handing_over, "LARGEST_JSON_BYTES", 700)
    with pytest.raises(ValueError, match="bytes were handed over, at most 700 expected"):
        read_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(InputError, match=r"run7\.pt says [\d,]+ bytes beside its tensors; expected at most 700"):
        write_checkpoint(opened, tmp_path / "again")


@pytest.mark.parametrize("specification", ["digits?train=50&test=all", "digits?shape=image"])
def test_data_come_as_they_were(specification: str, tmp_path: Path) -> None:
    data = replace(load_data(specification), notes=("one", "two"), normalisation="pixels / 16")
    write_data(data, tmp_path / "data")
    given = read_data(tmp_path / "data")
    for name, value in vars(data).items():
        same = torch.equal(value, getattr(given, name)) if isinstance(value, Tensor) else value == getattr(given, name)
        assert same, name


def test_named_inputs_and_data_without_a_test_set(tmp_path: Path) -> None:
    inputs = {"input_ids": torch.arange(6).reshape(3, 2), "attention_mask": torch.ones(3, 2, dtype=torch.bool)}
    data = replace(load_data("digits?train=3"), x_train=inputs, x_test=None, y_test=None, train_size_full=None)
    write_data(data, tmp_path / "data")
    given = read_data(tmp_path / "data")
    assert isinstance(given.x_train, dict)
    assert list(given.x_train) == list(inputs)
    assert all(torch.equal(given.x_train[name], tensor) for name, tensor in inputs.items())
    assert (given.x_test, given.y_test, given.train_size_full) == (None, None, None)


def test_what_is_handed_over_is_json_and_safetensors(tmp_path: Path) -> None:
    write_checkpoint(checkpoint({"weight": torch.zeros(2)}), tmp_path / "checkpoint")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "checkpoint.safetensors"]
    assert json.loads((tmp_path / "checkpoint.json").read_text())["model_spec"] == "mlp?width=16"
