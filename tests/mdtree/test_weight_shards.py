"""Weights in several files: all of them, each from the file that the index names, and none from elsewhere."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_folders import equal, put, refusal

from mdtree.reading.checkpoint_folder import read_checkpoint_folder
from mdtree.reading.weight_shards import combined_sha256, digest_of


def sharded(folder: Path) -> dict[str, str]:
    put(folder, "a.safetensors", content={"w": torch.ones(2), "x": torch.zeros(3)})
    put(folder, "b.safetensors", content={"y": torch.full((2,), 5.0)})
    return {"y": "b.safetensors", "w": "a.safetensors", "x": "a.safetensors"}


def indexed(folder: Path, weight_map: Any) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_names_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    contents = read_checkpoint_folder(indexed(tmp_path, sharded(tmp_path)))

    assert list(contents.content) == ["y", "w", "x"]
    assert equal(contents.content, {"w": torch.ones(2), "x": torch.zeros(3), "y": torch.full((2,), 5.0)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": "a.safetensors"}, "FOLDER/a.safetensors lacks z, against model.safetensors.index.json; expected the"),
        ({"w": "b.safetensors"}, "FOLDER/a.safetensors holds w, against model.safetensors.index.json; expected the"),
        ({"w": "b.safetensors", "x": "b.safetensors"}, "FOLDER/b.safetensors lacks w, x, against"),
        ({"y": "a.safetensors"}, "FOLDER/a.safetensors lacks y, against"),
        (
            {"z": "c.safetensors"},
            "FOLDER/c.safetensors does not exist, but model.safetensors.index.json names it; copy",
        ),
        (
            {"z": "../c.safetensors"},
            "FOLDER/model.safetensors.index.json names ../c.safetensors; expected files inside",
        ),
        ({"z": "/etc/passwd"}, "FOLDER/model.safetensors.index.json names /etc/passwd; expected files inside FOLDER"),
        ({"z": "sub\\..\\..\\x"}, "FOLDER/model.safetensors.index.json names sub\\..\\..\\x; expected files inside"),
        ({"z": "config.json"}, "FOLDER/config.json is a text file; expected a checkpoint made by torch.save"),
        (
            {"z": 3},
            "FOLDER/model.safetensors.index.json does not tell which file holds which tensor; expected a weight",
        ),
        ({"z": "whole.bin"}, "FOLDER/whole.bin holds other things than tensors; expected the shard of a state dict"),
    ],
)
def test_an_index_that_does_not_fit_its_shards(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    weight_map = {**sharded(tmp_path), **change}
    (tmp_path / "config.json").write_text("{}")
    put(tmp_path, "whole.bin", content={"z": torch.ones(1), "epoch": 3})

    assert refusal(indexed(tmp_path, weight_map)).startswith(message)


@pytest.mark.parametrize("weight_map", [None, {}, [], "text"])
def test_an_index_without_a_map(tmp_path: Path, weight_map: Any) -> None:
    assert refusal(indexed(tmp_path, weight_map)) == (
        "FOLDER/model.safetensors.index.json does not tell which file holds which tensor; expected a weight_map; "
        "save or copy it again"
    )


def test_an_index_of_endless_names_is_refused_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    assert "lists 50,001 tensors in 50,001 files; expected at most 50,000 in 10,000" in refusal(
        indexed(tmp_path, {str(number): f"{number}.safetensors" for number in range(50_001)})
    )
    assert time.monotonic() - started < 2


def test_the_hash_of_several_files_is_of_their_names_in_order_and_one_file_keeps_its_own(tmp_path: Path) -> None:
    lines = "aa  a\nbb  b\n"
    assert digest_of({"b": "bb", "a": "aa"}) == hashlib.sha256(lines.encode()).hexdigest()
    assert digest_of({"a": "aa"}) == "aa"

    (tmp_path / "x").write_bytes(b"one")
    (tmp_path / "y").write_bytes(b"two")
    assert combined_sha256(tmp_path, ["x"]) == hashlib.sha256(b"one").hexdigest()
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"one", b"two"))
    assert combined_sha256(tmp_path, ["y", "x"]) == digest_of({"x": one, "y": two})
