"""Files that are no checkpoints, or want to do harm: each is named for what it is, and nothing in it is run."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mdtree.checkpoint import open_checkpoint
from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import read_checkpoint_file

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def refusal(path: Path) -> str:
    """The one line with which a file is refused, without its folder."""
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message.replace(f"{path.parent}/", "")


def saved(content: Any = STATE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rebuilt(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch.save with its members changed."""
    source, target = zipfile.ZipFile(io.BytesIO(saved())), io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name in source.namelist():
            archive.writestr(name, change(name, source.read(name)))
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.pt is empty: the save or the copy did not finish"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "x.pt is a Git LFS pointer, not the file it"),
        (b"\n<!DOCTYPE html><html></html>", "x.pt is an HTML page; expected a checkpoint; download the file itself"),
        (gzip.compress(saved()), "x.pt is compressed with gzip; expected a checkpoint; unpack it with gunzip"),
        (
            b"\x89HDF\r\n\x1a\n" + bytes(100),
            "x.pt is an HDF5 file, as Keras saves them; expected a checkpoint; re-save",
        ),
        (b"accuracy: 93 %\n", "x.pt is a text file; expected a checkpoint made by torch.save or safetensors"),
        (
            zlib.compress(pickle.dumps(list(range(99)))),
            "x.pt is compressed with zlib, as joblib saves objects; expected",
        ),
        (b"\x08\x08\x12\x07pytorch\x1a\x062.13.0:" + bytes(100), "x.pt is an ONNX network; expected a checkpoint"),
        (
            b"GGUF\x03" + bytes(100),
            "x.pt is a GGUF file of quantised weights; expected a checkpoint; give the checkpoint",
        ),
        (b"\x1c\0\0\0TFL3" + bytes(100), "x.pt is a TensorFlow Lite network; expected a checkpoint"),
        (
            b"PAR1" + bytes(100),
            "x.pt is a Parquet file; expected a checkpoint; as data, give it with --data parquet:FILE",
        ),
        (bytes(100), "x.pt is in no known format, or damaged; expected a checkpoint made by torch.save or safetensors"),
        (saved()[:-200], "x.pt is truncated or damaged: the save or the copy did not finish; save or copy it again"),
        (saved() + saved(), "x.pt is truncated or damaged: the save or the copy did not finish; save or copy it again"),
        (saved()[:100], "x.pt is truncated or damaged: the save or the copy did not finish; save or copy it again"),
        (saved(_use_new_zipfile_serialization=False)[:-9], "x.pt is truncated, damaged, or pickled in a way"),
        (saved(_use_new_zipfile_serialization=False) + b"x", "x.pt is truncated, damaged, or pickled in a way"),
        (
            saved() + bytes(50),
            "x.pt is truncated or damaged: the save or the copy did not finish; save or copy it again",
        ),
        (saved(pickle_protocol=4), "x.pt is pickled with protocol 4; expected protocol 2, torch.save's own; re-save"),
        (b"PK\x05\x06" + bytes(18), "x.pt is a zip archive that torch.save did not write"),
        (pickle.dumps({"a": 1}), "x.pt is a plain pickle file, which is never loaded; expected a checkpoint"),
        (pickle.dumps({"a": 1}, protocol=0), "x.pt is a plain pickle file, which is never loaded"),
        (saved({"epoch": 3}), "x.pt holds no tensors that could be weights (keys epoch); expected a state dict"),
        (saved([1, 2]), "x.pt holds no tensors that could be weights (it holds a list); expected a state dict"),
        (saved({}), "x.pt holds no tensors that could be weights (it is empty); expected a state dict"),
    ],
)
def test_files_are_named_for_what_they_are(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    assert refusal(tmp_path / "x.pt").startswith(message)


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    assert refusal(tmp_path / "pipe.pt").startswith("pipe.pt is a named pipe; expected a regular file")
    assert refusal(tmp_path / "missing.pt") == "missing.pt does not exist; expected a file; check the path"
    assert "zero is a device; expected a regular file" in refusal(Path("/dev/zero"))


def test_folders_say_which_file_to_give(tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(InputError) as caught:
            read_checkpoint_file(tmp_path)
        return str(caught.value)

    assert message().endswith("is a folder; expected a file; give the checkpoint inside it")
    (tmp_path / ".metadata").touch()
    assert "is a distributed checkpoint; expected a file; give the folder to `open_checkpoint`" in message()
    (tmp_path / "saved_model.pb").touch()
    assert "is a TensorFlow network; expected a checkpoint; re-save its weights from Keras" in message()
    (tmp_path / "model.safetensors").touch()
    assert message().endswith("model.safetensors")


def test_other_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert refusal(path).startswith("x.pt is a tar archive")
    np.savez(path.with_suffix(".npz"), x=np.ones(3))
    path.write_bytes(path.with_suffix(".npz").read_bytes())
    assert refusal(path).startswith(
        "x.pt is a numpy archive; expected a checkpoint; as data, give it with --data npz:FILE"
    )
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path.with_suffix(".pt2"))
    assert refusal(path.with_suffix(".pt2")).startswith(
        "x.pt2 is a program of torch.export; expected weights; add --trust if the file is yours (loading a program "
        "runs code from it), or re-save the weights"
    )
    with zipfile.ZipFile(path, "w") as keras:
        keras.writestr("config.json", b"{}")
        keras.writestr("model.weights.h5", b"")
    assert refusal(path).startswith("x.pt is a Keras network; expected a checkpoint; re-save its weights from Keras")
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("archive/data.pkl", b"N.")
        other.writestr("archive/DATA.PKL", b"N.")
    assert refusal(path).startswith("x.pt is a zip archive that torch.save did not write")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "x.pt")
    assert refusal(tmp_path / "x.pt").startswith(
        "x.pt is a TorchScript program; expected weights; re-save its weights with "
    )


class Runs:
    """Unpickled by an ordinary loader, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("how", ["zip", "old", "protocol 5", "plain pickle", "plain pickle 0", "plain pickle 2"])
def test_a_file_that_would_run_code_is_named_and_runs_nothing(tmp_path: Path, how: str) -> None:
    marker, content = tmp_path / "marker", {"state_dict": STATE, "epoch": Runs(tmp_path / "marker")}
    data = {
        "zip": lambda: saved(content),
        "old": lambda: saved(content, _use_new_zipfile_serialization=False),
        "protocol 5": lambda: saved(content, pickle_protocol=5),
        "plain pickle": lambda: pickle.dumps({"a": Runs(marker)}),
        "plain pickle 0": lambda: pickle.dumps({"a": Runs(marker)}, protocol=0),
        "plain pickle 2": lambda: pickle.dumps({"a": Runs(marker)}, protocol=2),
    }[how]()
    (tmp_path / "x.pt").write_bytes(data)
    message = refusal(tmp_path / "x.pt")
    assert message.startswith("x.pt asks to call posix.system: it is malicious or damaged, and nothing in it was run")
    assert not marker.exists()


def test_the_marker_of_these_tests_works(tmp_path: Path) -> None:
    """Were the file unpickled, the tests above would see it."""
    function, arguments = Runs(tmp_path / "marker").__reduce__()
    function(*arguments)
    assert (tmp_path / "marker").exists()


def test_a_whole_network_pickled_before_torch_1_6_is_named(tmp_path: Path) -> None:
    """Its classes stand in it as objects of their own, which torch's restricted unpickler does not read."""
    (tmp_path / "x.pt").write_bytes(saved(nn.Sequential(nn.Linear(2, 2)), _use_new_zipfile_serialization=False))
    message = refusal(tmp_path / "x.pt")
    assert message.startswith("x.pt is a whole pickled network (torch.nn.modules.container.Sequential) in the ")
    assert message.endswith("load it where its classes are and save model.state_dict()")


@pytest.mark.parametrize("legacy", [False, True])
def test_other_objects_beside_the_weights_do_not_keep_them_from_opening(legacy: bool, tmp_path: Path) -> None:
    things = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "folder": pathlib.PurePosixPath("runs")}
    data = saved({"state_dict": STATE, **things}, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "x.pt").write_bytes(data)
    contents = read_checkpoint_file(tmp_path / "x.pt")
    assert set(contents.unknown) >= {"argparse.Namespace", "pathlib.PurePosixPath", "numpy.dtype"}
    assert contents.sha256 == hashlib.sha256(data).hexdigest()
    assert contents.size == len(data)
    state = open_checkpoint(tmp_path / "x.pt").state
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_a_compressed_archive_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    bomb = rebuilt(lambda name, data: bytes(200 * 2**20) if name.endswith("data/0") else data, zipfile.ZIP_DEFLATED)
    (tmp_path / "x.pt").write_bytes(bomb)
    started = time.process_time()
    message = refusal(tmp_path / "x.pt")
    assert message.startswith("the members of x.pt claim more bytes than the file has")
    assert time.process_time() - started < 0.1
    small = rebuilt(lambda name, data: data + b" " * (name.endswith("byteorder")), zipfile.ZIP_DEFLATED)
    (tmp_path / "x.pt").write_bytes(small)
    assert refusal(tmp_path / "x.pt").startswith("x.pt is a compressed archive, which torch.save never writes")


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"3")
        archive.writestr("archive/version", b"3")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/version", b"3")
    assert refusal(tmp_path / "x.pt").startswith("x.pt is a zip archive that torch.save did not write")


def test_a_flipped_bit_is_found_and_the_member_named(tmp_path: Path) -> None:
    data = bytearray(saved())
    place = data.index(STATE["weight"].numpy().tobytes())
    data[place + 4] ^= 1
    (tmp_path / "x.pt").write_bytes(data)
    assert refusal(tmp_path / "x.pt").startswith("x.pt is damaged: the checksum of archive/data/0 does not hold")


def test_a_pickle_of_more_than_64_megabytes_is_refused(tmp_path: Path) -> None:
    large = rebuilt(lambda name, data: data + bytes(64 * 2**20) if name.endswith("data.pkl") else data)
    (tmp_path / "x.pt").write_bytes(large)
    assert refusal(tmp_path / "x.pt").startswith("archive/data.pkl in x.pt has 67,109,")


def test_a_small_file_cannot_ask_for_ten_gigabytes(tmp_path: Path) -> None:
    greedy = b"\x80\x02cbuiltins\nbytearray\nJ\x00\xe4\x0b\x54\x85R."
    (tmp_path / "x.pt").write_bytes(rebuilt(lambda name, data: greedy if name.endswith("data.pkl") else data))
    assert refusal(tmp_path / "x.pt").startswith("x.pt asks to call builtins.bytearray, which no checkpoint needs")
    (tmp_path / "x.pt").write_bytes(saved(3, _use_new_zipfile_serialization=False).replace(b"\x80\x02K\x03.", greedy))
    assert refusal(tmp_path / "x.pt").startswith("x.pt asks to call builtins.bytearray, which no checkpoint needs")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(1).expand(10**6, 10**6), "w in x.pt claims 1,000,000,000,000 elements, its storage holds 4 bytes"),
        (torch.ones(13).as_strided((7, 7), (1, 1)), "w in x.pt claims 49 elements, its storage holds 52 bytes"),
        (
            torch.ones(3).to_sparse(),
            "x.pt holds what is no plain tensor of numbers (torch._utils._rebuild_sparse_tensor)",
        ),
        (torch.empty(3, device="meta"), "w in x.pt is no plain tensor of numbers; expected dense tensors"),
        (torch.tensor([1.0, np.nan]), "1 of 2 tensors in x.pt hold NaN or infinite values (w): training diverged"),
        (torch.tensor([1.0, np.inf]), "1 of 2 tensors in x.pt hold NaN or infinite values (w): training diverged"),
        (torch.tensor([1.0, -np.inf]), "1 of 2 tensors in x.pt hold NaN or infinite values (w): training diverged"),
        (torch.tensor([np.nan]).to(torch.float8_e4m3fn), "1 of 2 tensors in x.pt hold NaN or infinite values (w)"),
    ],
)
def test_tensors_that_cannot_be_measured_are_refused(tmp_path: Path, tensor: torch.Tensor, message: str) -> None:
    (tmp_path / "x.pt").write_bytes(saved({"w": tensor, "b": torch.ones(200)}))
    assert refusal(tmp_path / "x.pt").startswith(message)


def test_diverged_tensors_are_named_the_first_five(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(saved({f"layer{n}": torch.tensor([np.nan]) for n in range(8)} | STATE))
    message = refusal(tmp_path / "x.pt")
    assert message.startswith(
        "8 of 10 tensors in x.pt hold NaN or infinite values (layer0, layer1, layer2, layer3, layer4 "
    )
    assert "and 3 more): training diverged, which is a diagnosis in itself" in message


def test_an_attention_mask_is_not_taken_for_divergence(tmp_path: Path) -> None:
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    (tmp_path / "x.pt").write_bytes(saved({"mask": mask, **STATE}))
    assert torch.equal(open_checkpoint(tmp_path / "x.pt").state["mask"], mask)


def test_tied_weights_and_views_are_no_pose(tmp_path: Path) -> None:
    table = torch.arange(12.0).reshape(3, 4)
    (tmp_path / "x.pt").write_bytes(saved({"embedding": table, "output": table, "part": table[1:, ::2]}))
    opened = open_checkpoint(tmp_path / "x.pt").state
    assert opened["part"].tolist() == [[4, 6], [8, 10]]
    assert opened["embedding"].data_ptr() == opened["output"].data_ptr()


def test_a_tensor_without_data_in_the_file_is_refused(tmp_path: Path) -> None:
    """`torch.FloatTensor(10**9)` is allowed by weights_only and makes four gigabytes out of nothing."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00wctorch\nFloatTensor\nJ\x00\x00\x10\x00\x85Rs."
    (tmp_path / "x.pt").write_bytes(rebuilt(lambda name, data: pickled if name.endswith("data.pkl") else data))
    assert refusal(tmp_path / "x.pt").startswith("x.pt asks to call torch.FloatTensor, which no checkpoint needs")


def test_an_old_torch_reads_safetensors_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pt").write_bytes(saved())
    safetensors.torch.save_file(STATE, tmp_path / "x.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    message = refusal(tmp_path / "x.pt")
    assert message.startswith("torch 2.9.1+cpu cannot read x.pt safely (CVE-2026-24747); expected torch 2.10 or newer")
    assert torch.equal(open_checkpoint(tmp_path / "x.safetensors").state["weight"], STATE["weight"])
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    assert torch.equal(open_checkpoint(tmp_path / "x.pt").state["weight"], STATE["weight"])


def header(content: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + rest


MANY = json.dumps({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(50_001)}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (safetensors.torch.save(STATE)[:-3], "x.safetensors is truncated or damaged (Error while deserializing"),
        (safetensors.torch.save(STATE)[:40], "x.safetensors is truncated or damaged ("),
        (
            safetensors.torch.save(STATE)[:5],
            "x.safetensors is truncated or damaged: the save or the copy did not finish",
        ),
        (header(b"{not json"), "x.safetensors is truncated or damaged ("),
        (header(b"{" + b'"a":[' * 200_000), "x.safetensors is truncated or damaged ("),
        (
            struct.pack("<Q", 2**24 + 1) + b"{",
            "x.safetensors has a header of 16,777,217 bytes; expected at most 16,777,216",
        ),
        (
            header(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":1}'),
            "x.safetensors is truncated or damaged (a stands twice in its header); save or copy it again",
        ),
        (
            header(b'{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}'),
            "x.safetensors is truncated or damaged (a shape beyond all bounds); save or copy it again",
        ),
        (header(MANY), "x.safetensors holds 50,001 tensors; expected at most 50,000"),
        (safetensors.torch.save({}), "x.safetensors holds no tensors that could be weights (it is empty)"),
        (safetensors.torch.save({"w": torch.tensor([np.nan])}), "1 of 1 tensors in x.safetensors hold NaN or infinite"),
    ],
)
def test_safetensors_that_cannot_be_used_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    assert refusal(tmp_path / "x.safetensors").startswith(message)


def test_the_contents_and_not_the_name_decide(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(saved())
    (tmp_path / "x.pt").write_bytes(safetensors.torch.save(STATE))
    for name in ("x.pt", "x.safetensors"):
        assert torch.equal(open_checkpoint(tmp_path / name).state["weight"], STATE["weight"])


def test_a_safetensors_file_is_read_lazily_and_its_sum_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(STATE, path, {"epoch": "3"})
    contents = read_checkpoint_file(path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (contents.layout, contents.metadata, contents.sha256) == ("safetensors", {"epoch": "3"}, expected)
    assert contents.notes == (f"a safetensors payload carries no checksum: compare its sha256, {expected}",)
