"""Distributed checkpoints that are damaged or hostile: each is refused, and nothing in it is run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_by_hand import WHOLE, ByHand
from saved_folders import refusal, same
from torch.distributed.checkpoint import metadata as md

from mdtree.reading.distributed_checkpoint import read_distributed_checkpoint


class Shouting:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_pieces_in_a_grid_over_two_files(tmp_path: Path) -> None:
    folder = ByHand().write(tmp_path / "folder")

    assert same(read_distributed_checkpoint(folder).content, {"grid": WHOLE, "bias": torch.tensor([1.0, 2.0])})


def test_an_empty_piece_of_a_process_without_a_share(tmp_path: Path) -> None:
    made = ByHand()
    made.chunks.append(md.ChunkStorageMetadata(torch.Size([4, 0]), torch.Size([0, 5])))

    assert torch.equal(read_distributed_checkpoint(made.write(tmp_path / "folder")).content["grid"], WHOLE)


def moved(made: ByHand) -> None:
    made.chunks[1].offsets = torch.Size([0, 2])
    made.stored[md.MetadataIndex("grid", (0, 2))] = made.stored.pop(md.MetadataIndex("grid", (0, 3)))


def out_of_bounds(made: ByHand) -> None:
    made.chunks[1].offsets = torch.Size([0, 4])
    made.stored[md.MetadataIndex("grid", (0, 4))] = made.stored.pop(md.MetadataIndex("grid", (0, 3)))


def shared(made: ByHand) -> None:
    made.info("grid", (2, 0)).offset = 0


def reshaped(made: ByHand) -> None:
    made.chunks[0].sizes, made.chunks[2].sizes = torch.Size([1, 3]), torch.Size([3, 3])
    made.chunks[2].offsets = torch.Size([1, 0])
    made.stored[md.MetadataIndex("grid", (1, 0))] = made.stored.pop(md.MetadataIndex("grid", (2, 0)))


def longer(made: ByHand) -> None:
    made.info("bias", (0,)).length += 1


def elsewhere(path: str) -> Callable[[ByHand], None]:
    return lambda made: setattr(made.info("bias", (0,)), "relative_path", path)


def huge(made: ByHand) -> None:
    made.size = (4, 5 * 10**9)
    made.chunks[:] = [md.ChunkStorageMetadata(torch.Size([0, 0]), torch.Size(made.size))]


def flipped(made: ByHand) -> None:
    info = made.info("bias", (0,))
    data = bytearray(made.files["__1_0.distcp"])
    at = data.index(torch.tensor([1.0, 2.0]).numpy().tobytes(), info.offset)
    data[at] ^= 1
    made.files["__1_0.distcp"] = bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.chunks.pop(), "the pieces of grid in FOLDER hold 16 of its 20 elements; expected every"),
        (moved, "the pieces of grid in FOLDER overlap; expected every element once; save or copy it again"),
        (out_of_bounds, "a piece of grid in FOLDER reaches from (0, 4) over (2, 2); expected within (4, 5)"),
        (shared, "FOLDER/.metadata places two things at the same bytes of __0_0.distcp; save or copy it again"),
        (reshaped, "FOLDER/__0_0.distcp holds a piece of grid of the size (2, 3); expected (1, 3)"),
        (longer, "bytes, fewer than .metadata tells; copy the whole folder again"),
        (elsewhere("../other"), "FOLDER/.metadata names ../other; expected files inside FOLDER"),
        (elsewhere("a/../../b"), "FOLDER/.metadata names a/../../b; expected files inside FOLDER"),
        (elsewhere("/etc/passwd"), "FOLDER/.metadata names /etc/passwd; expected files inside FOLDER"),
        (elsewhere("C:\\x"), "FOLDER/.metadata names C:\\x; expected files inside FOLDER"),
        (elsewhere("a\nb"), r"FOLDER/.metadata names 'a\nb'; expected names of files"),
        (elsewhere(""), "FOLDER/.metadata names an empty path; expected files inside FOLDER"),
        (elsewhere("gone"), "FOLDER/gone does not exist, but .metadata names it; copy the whole folder again"),
        (elsewhere("."), "FOLDER is a folder; expected a file"),
        (huge, "grid in FOLDER claims 20,000,000,000 elements, more than its pieces hold; save or copy it again"),
        (flipped, "bias in FOLDER/__1_0.distcp is damaged: the checksum of archive/data/0 does not hold; save or"),
        (
            lambda made: setattr(made, "dtype", torch.int32),
            "FOLDER/__0_0.distcp does not hold grid as a tensor of torch.int32; save or copy it again",
        ),
        (
            lambda made: made.stored.pop(md.MetadataIndex("grid", (2, 3))),
            "FOLDER/.metadata does not tell where grid from index (2, 3) on is stored; save or copy it again",
        ),
        (
            lambda made: made.files.pop("__1_0.distcp"),
            "FOLDER/__1_0.distcp does not exist, but .metadata names it; copy the whole folder again",
        ),
        (lambda made: made.files.update({"__1_0.distcp": b""}), "FOLDER/__1_0.distcp is empty: the save or the copy"),
        (
            lambda made: setattr(made.info("bias", (0,)), "offset", 1),
            "FOLDER/__1_0.distcp is damaged: no file of torch.save begins at 1; save or copy it again",
        ),
        (lambda made: setattr(made.info("bias", (0,)), "length", -1), "FOLDER/.metadata is truncated or damaged"),
    ],
)
def test_pieces_that_do_not_make_up_the_tensors(tmp_path: Path, change: Callable[[ByHand], None], message: str) -> None:
    made = ByHand()
    change(made)

    assert message in refusal(made.write(tmp_path / "folder"))


@pytest.mark.parametrize(
    "place", [None, (), ("Bias",), ("bias", ""), ("b", "ias"), "bias", (None,), ("bias",) * 40, (("bias",),)]
)
def test_a_place_that_is_not_the_name_s_own(tmp_path: Path, place: Any) -> None:
    made = ByHand()
    made.places = {"grid": ("grid",), **({} if place is None else {"bias": place})}

    assert refusal(made.write(tmp_path / "folder")) == (
        "FOLDER/.metadata is truncated or damaged; save or copy it again"
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_two_things_at_one_place(tmp_path: Path, backwards: bool) -> None:
    made = ByHand()
    made.add("grid.x", (0,), torch.ones(1), "__0_0.distcp")
    made.places = {**made.places, "grid.x": ("grid", "x")}
    made.backwards = backwards

    assert refusal(made.write(tmp_path / "folder")).startswith("FOLDER/.metadata gives two things the name grid")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = ByHand().write(tmp_path / "folder")
    (folder / "__1_0.distcp").unlink()
    os.mkfifo(folder / "__1_0.distcp")

    assert refusal(folder) == (
        "FOLDER/__1_0.distcp is a named pipe; expected a regular file; copy its contents to a file"
    )


def test_a_tensor_that_claims_more_than_its_storage_holds(tmp_path: Path) -> None:
    made = ByHand()
    del made.stored[md.MetadataIndex("bias", (0,))]
    made.add("bias", (0,), torch.zeros(1).expand(2), "__1_0.distcp")

    assert refusal(made.write(tmp_path / "folder")) == (
        "bias in FOLDER/__1_0.distcp claims more elements than its storage holds; save or copy it again"
    )


def pickled_call(module: str, name: str) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x01\x00\x00\x00x\x85R."


# tuple 0 is empty, every other one holds the one before twice: to hash the last one takes 2**60 steps
DOUBLED = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
HASH_BOMB = b"\x80\x04)\x94" + DOUBLED + b"}h" + bytes([60]) + b"K\x01s."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(Shouting(Path("marker"))), "asks to call posix.system: it is malicious or damaged, and nothing"),
        (pickled_call("builtins", "eval"), "asks to call builtins.eval: it is malicious or damaged, and nothing"),
        (
            pickled_call("torch.distributed.checkpoint.filesystem", "FileSystemReader"),
            "asks for torch.distributed.checkpoint.filesystem.FileSystemReader, which torch.distributed.checkpoint",
        ),
        (pickled_call("evil.torch.distributed.checkpoint.x", "Metadata"), "asks for evil.torch.distributed.checkpoint"),
        (pickled_call("torch", "arange"), "asks for torch.arange, which torch.distributed.checkpoint does not write"),
        (b"\x80\x04}K\x01K\x01s.", "is truncated or damaged"),
        (HASH_BOMB, "is truncated or damaged"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "is truncated or damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.", "is truncated or damaged"),
        (b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\x00\x00.", "is truncated or damaged"),
        (b"\x80\x04P0\n.", "uses the opcode PERSID; expected what torch.distributed.checkpoint writes"),
        (b"\x80\x02\x82\x01.", "uses the opcode EXT1; expected what torch.distributed.checkpoint writes"),
        (pickle.dumps({"a": 1}), "is truncated or damaged; save or copy it again"),
        (b"no pickle at all", "is truncated or damaged; save or copy it again"),
        (b"", "is empty: the save or the copy did not finish"),
    ],
)
def test_metadata_that_is_hostile_or_no_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ByHand().write(tmp_path / "folder")
    (folder / ".metadata").write_bytes(data)

    assert refusal(folder).startswith(f"FOLDER/.metadata {message}")
    assert not (tmp_path / "marker").exists()


def test_metadata_of_endless_opcodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdtree.reading.metadata_opcodes.MAX_OPCODES", 1000)
    folder = ByHand().write(tmp_path / "folder")
    (folder / ".metadata").write_bytes(b"\x80\x04" + b"}" * 1000 + b".")

    assert refusal(folder).startswith("FOLDER/.metadata has more than 1,000 opcodes; expected what torch")


def test_a_list_of_pieces_that_every_tensor_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdtree.reading.distributed_metadata.MAX_PIECES", 7)
    made = ByHand()
    made.chunks *= 2

    assert refusal(made.write(tmp_path / "folder")).startswith("FOLDER/.metadata lists more than 7 pieces of tensors")


def test_metadata_cut_anywhere_is_refused(tmp_path: Path) -> None:
    folder = ByHand().write(tmp_path / "folder")
    whole = (folder / ".metadata").read_bytes()
    for length in range(len(whole)):
        (folder / ".metadata").write_bytes(whole[:length])
        assert "FOLDER/.metadata is " in refusal(folder)


def test_links_to_the_files_are_followed(tmp_path: Path) -> None:
    folder = ByHand().write(tmp_path / "folder")
    shutil.move(folder / "__1_0.distcp", tmp_path / "blob")
    (folder / "__1_0.distcp").symlink_to(tmp_path / "blob")

    assert torch.equal(read_distributed_checkpoint(folder).content["grid"], WHOLE)
