"""Folders of torch.distributed.checkpoint: whole tensors come out exactly, whatever wrote them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sharded_saver
import torch
import torch.distributed.checkpoint as dcp
from lightning.fabric.strategies.fsdp import _distributed_checkpoint_save
from lightning.fabric.utilities.load import _load_distributed_checkpoint
from lightning.pytorch.utilities.consolidate_checkpoint import _format_checkpoint
from saved_folders import refusal, same, saved, trained_states
from torch.distributed.checkpoint._extension import StreamTransformExtension
from torch.distributed.checkpoint.filesystem import SerializationFormat

from mdtree.errors import InputError
from mdtree.reading import distributed_checkpoint
from mdtree.reading.distributed_checkpoint import read_distributed_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_what_one_process_saved_comes_back_exactly(tmp_path: Path) -> None:
    weights, optimizer = trained_states()
    content = {
        "model": weights,
        "epoch": 3,
        "args": {"lr": 0.1, "layers": ["a", "b"], "note": None},
        "history": [torch.tensor([1.0, 2.0]), {"loss": torch.tensor(0.5)}],
        "half": {"x": torch.randn(3, 2, 2).bfloat16(), "flags": torch.tensor([True, False]), "none": torch.empty(0, 4)},
    }
    contents = read_distributed_checkpoint(saved(tmp_path / "folder", {**content, "optimizer": optimizer}))

    groups = contents.content.pop("optimizer")
    assert same(contents.content, {**content, "model": dict(weights)})
    assert same(groups, {"param_groups": optimizer["param_groups"]})
    assert contents.layout == "distributed checkpoint"
    assert contents.metadata is None
    assert contents.notes == (f"the {len(optimizer['state'])} tensors of the optimizer's state were not read",)


def test_hash_and_size_are_those_of_all_files(tmp_path: Path) -> None:
    folder = saved(tmp_path / "folder", {"model": trained_states()[0]}, thread_count=3)
    names = sorted(os.listdir(folder))
    contents = read_distributed_checkpoint(folder)

    assert len(names) == 4
    printed = subprocess.run(
        f"sha256sum {' '.join(names)} | sha256sum", shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    assert printed.stdout.split()[0] == contents.sha256
    assert contents.size == sum((folder / name).stat().st_size for name in names)


@pytest.mark.parametrize("single", [True, False])
def test_one_file_for_all_or_one_for_every_tensor(tmp_path: Path, single: bool) -> None:
    weights, _ = trained_states()
    folder = saved(tmp_path / "folder", {"model": weights}, single_file_per_rank=single)

    assert len(list(folder.glob("*.distcp"))) == (1 if single else len(weights))
    assert same(read_distributed_checkpoint(folder).content, {"model": dict(weights)})


def test_a_checkpoint_that_was_not_flattened(tmp_path: Path) -> None:
    weights, _ = trained_states()
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False)
    dcp.save(weights, checkpoint_id=tmp_path / "folder", planner=planner)

    assert same(read_distributed_checkpoint(tmp_path / "folder").content, dict(weights))


@pytest.mark.slow
def test_what_two_processes_saved_under_fully_shard(tmp_path: Path) -> None:
    script = [sys.executable, sharded_saver.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen([*script, str(rank), "2", str(tmp_path)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)

    nested = read_distributed_checkpoint(tmp_path / "nested").content
    flat = read_distributed_checkpoint(tmp_path / "flat").content
    columns = read_distributed_checkpoint(tmp_path / "columns").content

    assert any("__1_0" in name for name in os.listdir(tmp_path / "nested"))
    assert not torch.equal(whole["0.weight"], sharded_saver.network().state_dict()["0.weight"])
    assert same(nested["model"], dict(whole))
    assert same(flat["model"], dict(whole))
    assert nested["epoch"] == 2
    assert torch.equal(columns["columns"], torch.arange(42.0).reshape(3, 2, 7))
    for content in (nested, flat):
        (group,) = content["optimizer"]["param_groups"]
        assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01, 0.1, (0.9, 0.999))
        assert sorted(group["params"]) == ["0.bias", "0.weight", "1.bias", "1.weight", "3.bias", "3.weight"]


def test_parameter_groups_that_were_flattened_stay_apart(tmp_path: Path) -> None:
    flat = {f"param_groups.{name}.lr": rate for name, rate in (("a.w", 0.1), ("b.w", 0.2), ("c.w", 0.1))}
    content = {"w": torch.ones(2), "optimizer": {**flat, "state.a.w.step": torch.tensor(3.0), "state.a.w.count": 3}}

    read = read_distributed_checkpoint(saved(tmp_path / "folder", content)).content

    groups = [{"lr": 0.1, "params": ["a.w", "c.w"]}, {"lr": 0.2, "params": ["b.w"]}]
    assert same(read, {"model": {"w": torch.ones(2)}, "optimizer": {"param_groups": groups}})


def test_weights_at_the_top_stay_there_where_something_else_is_called_model(tmp_path: Path) -> None:
    content = {"w": torch.ones(2), "model": {"depth": 3}}

    assert same(read_distributed_checkpoint(saved(tmp_path / "folder", content)).content, content)


def test_lightning_s_sharded_checkpoint_is_put_together_as_lightning_does(tmp_path: Path) -> None:
    weights, optimizer = trained_states()
    meta = {"pytorch-lightning_version": "2.6.6", "epoch": 4, "hyper_parameters": {"lr": 0.1}}
    _distributed_checkpoint_save({"model": weights, "optimizer_0": optimizer}, tmp_path)
    torch.save(meta, tmp_path / "meta.pt")

    theirs = _format_checkpoint({**_load_distributed_checkpoint(tmp_path)})
    ours = read_distributed_checkpoint(tmp_path).content

    assert set(ours) == {"state_dict", "optimizer_states", *meta} == set(theirs)
    assert same(ours["state_dict"], dict(theirs["state_dict"]))
    assert same(ours["optimizer_states"], [{"param_groups": optimizer["param_groups"]}])
    assert {name: ours[name] for name in meta} == meta


def test_a_damaged_meta_file_of_lightning_leaves_the_weights(tmp_path: Path) -> None:
    weights, _ = trained_states()
    saved(tmp_path, {"model": weights})
    (tmp_path / "meta.pt").write_bytes(b"PK\x03\x04 no zip")

    contents = read_distributed_checkpoint(tmp_path)

    assert same(contents.content, {"model": dict(weights)})
    assert [note.replace(str(tmp_path), "") for note in contents.notes] == [
        "not read: /meta.pt is truncated or damaged: the save or the copy did not finish; save or copy it again"
    ]


class Shouting:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_value_that_would_run_something_is_left_out_and_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "folder", {"model": {"w": torch.ones(2)}, "args": Shouting(tmp_path / "marker")})

    contents = read_distributed_checkpoint(folder)

    assert same(contents.content, {"model": {"w": torch.ones(2)}})
    (note,) = contents.notes
    assert note.startswith("not read: args (args in ")
    assert note.endswith("asks to call posix.system: it is malicious or damaged, and nothing in it was run)")
    assert not (tmp_path / "marker").exists()


def test_flipped_bits_never_give_other_weights(tmp_path: Path) -> None:
    weights, optimizer = trained_states()
    folder = saved(tmp_path / "folder", {"model": weights, "optimizer": optimizer, "epoch": 3})
    expected = read_distributed_checkpoint(folder).content
    draw = random.Random(0)
    refused = 0
    for number in range(200):
        file = folder / (".metadata" if number % 2 else "__0_0.distcp")
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        try:
            assert same(read_distributed_checkpoint(folder).content["model"], expected["model"])
        except InputError:
            refused += 1
        file.write_bytes(whole)
    assert 60 < refused < 200


def test_formats_of_pieces_that_are_not_read(tmp_path: Path) -> None:
    class Zipped(StreamTransformExtension):
        """An extension as the one torch compresses with."""

        @staticmethod
        def registry_name() -> str:
            return "stream.zstd"

        @staticmethod
        def from_descriptor(version: str) -> Zipped:
            return Zipped()

        def get_descriptor(self) -> str:
            return "stream.zstd/1"

        def transform_to(self, output: Any) -> Any:
            return output

        def transform_from(self, input: Any) -> Any:
            return input

    weights, _ = trained_states()
    compressed = saved(tmp_path / "compressed", {"model": weights}, _extensions=[Zipped()])
    other = saved(tmp_path / "safetensors", weights, serialization_format=SerializationFormat.SAFETENSORS)

    assert refusal(compressed) == (
        "the tensors of FOLDER were written through the extension stream.zstd/1; "
        "expected tensors as torch.save writes them; save it again without extensions"
    )
    assert refusal(other) == (
        "FOLDER/__0_0.distcp was written with SerializationFormat.SAFETENSORS, and .metadata does not tell where in "
        "it; expected pieces as torch.save writes them; save it again with SerializationFormat.TORCH_SAVE"
    )


def test_more_values_than_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed_checkpoint, "MAX_VALUES", 2)
    folder = saved(tmp_path / "folder", {"w": torch.ones(1), "a": 1, "b": 2, "c": 3})

    contents = read_distributed_checkpoint(folder)

    assert same(contents.content, {"model": {"w": torch.ones(1)}, "a": 1, "b": 2})
    assert contents.notes == ("of its 3 values beside the tensors, the first 2 were read",)
