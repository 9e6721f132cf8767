"""Folders to be read, and how to compare what comes out of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import FileContents
from mdtree.reading.checkpoint_folder import read_checkpoint_folder

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused, without where it stands."""
    with pytest.raises(InputError) as caught:
        read_checkpoint_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message.replace(str(folder), "FOLDER")


def equal(read: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """The same names, types and elements."""
    return set(read) == set(expected) and all(
        read[name].dtype == value.dtype and torch.equal(read[name], value) for name, value in expected.items()
    )


def told(contents: FileContents) -> tuple[str, ...]:
    """The notes, but the one that every safetensors file has."""
    return tuple(note for note in contents.notes if "no checksum: compare" not in note)


def put(folder: Path, *names: str, content: Any = WEIGHTS) -> Path:
    """Files of torch.save or safetensors, by their ending."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            safetensors.torch.save_file(content, folder / name)
        else:
            torch.save(content, folder / name)
    return folder


def saved(folder: Path, content: dict[str, Any], **options: Any) -> Path:
    """A distributed checkpoint of one process."""
    dcp.save(content, storage_writer=dcp.FileSystemWriter(folder, **options))
    return folder


def same(one: Any, other: Any) -> bool:
    """Equal structure, equal types, and tensors equal in every element."""
    if isinstance(other, Tensor):
        return isinstance(one, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(other, dict):
        return type(one) is dict and set(one) == set(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list):
        return type(one) is list and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def trained_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of a small network and its optimizer after one step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    model(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()
    return model.state_dict(), optimizer.state_dict()
