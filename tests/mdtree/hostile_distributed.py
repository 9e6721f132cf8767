"""Distributed checkpoints that are damaged or want to do harm."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as distributed
from hostile_folders import MALICIOUS, Build, runs
from hostile_pickles import EXECUTING, STATE, STOP, called, long, text, with_pickle


def distributed_folder(folder: Path, values: int = 1) -> Path:
    """A good distributed checkpoint of one process."""
    made = folder / "distributed"
    content = {"model": dict(STATE), "epoch": 3, "values": dict.fromkeys(map(str, range(values)), 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distributed.save(content, checkpoint_id=made, no_dist=True)
    return made


def _metadata(body: Callable[[str], bytes], protocol: int = 2) -> Build:
    def build(folder: Path, marker: str) -> Path:
        made = distributed_folder(folder)
        (made / ".metadata").write_bytes(b"\x80" + bytes([protocol]) + body(marker) + STOP)
        return made

    return build


def _metadata_bytes(change: Callable[[bytes], bytes]) -> Build:
    def build(folder: Path, _: str) -> Path:
        made = distributed_folder(folder)
        file = made / ".metadata"
        file.write_bytes(change(file.read_bytes()))
        return made

    return build


def _metadata_changed(change: Callable[[object], None]) -> Build:
    """The metadata as torch wrote it, but for one lie."""

    def build(folder: Path, _: str) -> Path:
        made = distributed_folder(folder)
        metadata = pickle.loads((made / ".metadata").read_bytes())  # our own file, written a moment ago
        change(metadata)
        (made / ".metadata").write_bytes(pickle.dumps(metadata))
        return made

    return build


def _with_path(path: str) -> Callable[[object], None]:
    def change(metadata: object) -> None:
        for info in metadata.storage_data.values():
            info.relative_path = path

    return change


def _with_offset(offset: int, length: int) -> Callable[[object], None]:
    def change(metadata: object) -> None:
        for info in metadata.storage_data.values():
            info.offset, info.length = offset, length

    return change


def _with_size(*size: int) -> Callable[[object], None]:
    def change(metadata: object) -> None:
        tensor = metadata.state_dict_metadata["model.weight"]
        tensor.size = torch.Size(size)
        tensor.chunks[0].sizes = torch.Size(size)

    return change


def _piece_that_runs(folder: Path, marker: str) -> Path:
    """The piece of one tensor replaced by a file that runs code, at the end of the file where nothing moves."""
    made = distributed_folder(folder)
    metadata = pickle.loads((made / ".metadata").read_bytes())
    file = made / "__0_0.distcp"
    for index, info in metadata.storage_data.items():
        if index.fqn == "model.weight":
            data = with_pickle(b"\x80\x02" + runs(marker) + STOP)
            info.offset, info.length = file.stat().st_size, len(data)
    with open(file, "ab") as handle:
        handle.write(data)
    (made / ".metadata").write_bytes(pickle.dumps(metadata))
    return made


def _distcp(change: Callable[[bytes], bytes]) -> Build:
    def build(folder: Path, _: str) -> Path:
        made = distributed_folder(folder)
        file = made / "__0_0.distcp"
        file.write_bytes(change(file.read_bytes()))
        return made

    return build


def _without(name: str) -> Build:
    def build(folder: Path, _: str) -> Path:
        made = distributed_folder(folder)
        (made / name).unlink()
        return made

    return build


def _pipe_for(name: str) -> Build:
    def build(folder: Path, _: str) -> Path:
        made = distributed_folder(folder)
        (made / name).unlink()
        os.mkfifo(made / name)
        return made

    return build


def _flipped(data: bytes) -> bytes:
    place = data.index(STATE["weight"].numpy().tobytes()) + 5
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


DISTRIBUTED: dict[str, tuple[Build, str]] = {
    **{
        f".metadata with {name}": (_metadata(EXECUTING[name][0]), f"(asks (to call|for) {dotted}|uses the opcode)")
        for name, dotted in (
            ("os.system", "posix.system"),
            ("eval", "builtins.eval"),
            ("STACK_GLOBAL out of the memo", "posix.system"),
            ("INST", "posix.system"),
            ("OBJ", "posix.system"),
            ("functools.partial", "functools.partial"),
        )
    },
    ".metadata with an extension code": (
        _metadata(EXECUTING["extension registry"][0]),
        "asks for copyreg.add_extension|asks to call copyreg.add_extension",
    ),
    ".metadata with a state setter": (
        _metadata(EXECUTING["BUILD of a __setstate__"][0]),
        "asks for argparse.Namespace",
    ),
    ".metadata with a bytearray of 10 GB": (
        _metadata(lambda _: called("builtins", "bytearray", long(10**10))),
        "asks (to call|for) builtins.bytearray",
    ),
    ".metadata of 60 million marks": (_metadata(lambda _: b"(" * 60_000_000), "opcodes"),
    ".metadata that is empty": (_metadata_bytes(lambda data: b""), "is empty"),
    ".metadata that is cut": (_metadata_bytes(lambda data: data[: len(data) // 2]), "is truncated or damaged"),
    ".metadata of another thing": (_metadata(lambda _: text("hello")), "is truncated or damaged"),
    ".metadata that is a pipe": (_pipe_for(".metadata"), "distcp|named pipe|without its .metadata"),
    "a piece outside the folder": (
        _metadata_changed(_with_path("../../../etc/passwd")),
        r"names \.\./\.\./\.\./etc/passwd; expected files inside",
    ),
    "a piece with an absolute path": (
        _metadata_changed(_with_path("/etc/passwd")),
        "names /etc/passwd; expected files inside",
    ),
    "pieces at one place": (_metadata_changed(_with_offset(0, 1000)), "places two things at the same bytes|damaged"),
    "a piece beyond its file": (_metadata_changed(_with_offset(10**15, 10**15)), "fewer than .metadata tells"),
    "a piece of a negative length": (_metadata_changed(_with_offset(0, -5)), "damaged"),
    "a tensor of 10**12 elements": (
        _metadata_changed(_with_size(10**6, 10**6)),
        "claims 1,000,000,000,000 elements|does not hold|of the size",
    ),
    "a tensor of 2**62 times 8 elements": (_metadata_changed(_with_size(2**61, 8)), "elements|damaged"),
    "a piece that runs code": (_piece_that_runs, f"asks to call posix.system: {MALICIOUS}"),
    "a piece with a flipped bit": (_distcp(_flipped), "is damaged: .*checksum"),
    "pieces that are cut": (_distcp(lambda data: data[:-100]), "fewer than .metadata tells"),
    "pieces of zeros": (_distcp(lambda data: bytes(len(data))), "is damaged"),
    "pieces that are missing": (_without("__0_0.distcp"), "__0_0.distcp does not exist, but .metadata names it"),
    "pieces without .metadata": (_without(".metadata"), "is a distributed checkpoint without its .metadata"),
    "pieces that are a pipe": (_pipe_for("__0_0.distcp"), "is a named pipe"),
}

MANY_VALUES: dict[str, tuple[Build, str]] = {
    "20,000 values beside the tensors": (
        lambda folder, _: distributed_folder(folder, 20_000),
        "of its 20,001 values beside the tensors, the first",
    ),
}
"""Half a minute, if every one was read."""
