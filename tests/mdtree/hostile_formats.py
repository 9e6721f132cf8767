"""Damaged and lying safetensors files, and files that are no checkpoints at all."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile

import joblib
import numpy as np
import safetensors.torch
import torch
from hostile_archives import DAMAGED, flipped, members
from hostile_contents import Bytes
from hostile_pickles import STATE, saved
from torch import nn


def header(content: bytes, rest: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content + rest


def described(rest: bytes = bytes(24), metadata: object = None, **tensors: tuple[str, list[int], list[int]]) -> bytes:
    """A safetensors file with these tensors: type, shape, offsets."""
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    entries |= {name: {"dtype": t[0], "shape": t[1], "data_offsets": t[2]} for name, t in tensors.items()}
    return header(json.dumps(entries).encode(), rest)


def _duplicate_keys() -> bytes:
    one = '"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}'
    return header(("{" + one % (6, 24) + "," + one % (3, 12) + "}").encode(), bytes(24))


def _joblib() -> bytes:
    target = io.BytesIO()
    joblib.dump({"model": np.arange(6.0)}, target)
    return target.getvalue()


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../storages"), io.BytesIO())
    return target.getvalue()


def _exported() -> bytes:
    target = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), target)
    return target.getvalue()


def _saved_array() -> bytes:
    target = io.BytesIO()
    np.save(target, np.ones(3))
    return target.getvalue()


def _torchscript() -> bytes:
    """The members of a TorchScript archive, by which it is known: making one warns since torch 2.12."""
    return members(("archive/constants.pkl", b"\x80\x02)."), ("archive/code/__torch__.py", b"import os\n"))


def _header_flipped(what: bytes, place: int) -> bytes:
    data = safetensors.torch.save(STATE)
    return flipped(data, data.index(what) + place)


SAFETENSORS: dict[str, tuple[Bytes, str]] = {
    "header of 2**63 bytes": (lambda: header(b"{}", length=2**63), "known format|damaged"),
    "header of 2**40 bytes": (lambda: header(b"{}", length=2**40), "known format|damaged"),
    "header of 17 MB": (
        lambda: header(b"{" + b" " * 17 * 2**20 + b"}"),
        "has a header of 17,825,794 bytes; expected at most",
    ),
    "header longer than the file": (lambda: header(b'{"w":', length=5000), DAMAGED),
    "header of 0 bytes": (lambda: header(b"{}" + bytes(100), length=0), "damaged|no known format"),
    "header that is no JSON": (lambda: header(b"{weights: all of them}", bytes(24)), DAMAGED),
    "header in UTF-16": (lambda: header('{"w":1}'.encode("utf-16"), bytes(24)), "damaged|no known format"),
    "header that is a list": (lambda: header(b"[]", bytes(24)), "damaged|no known format"),
    "a name twice in the header": (_duplicate_keys, DAMAGED),
    "header 200,000 lists deep": (lambda: header(b'{"a":' + b"[" * 200_000, bytes(24)), DAMAGED),
    "header 200,000 dicts deep": (lambda: header(b'{"a":' * 200_000 + b"1" + b"}" * 200_000, bytes(24)), DAMAGED),
    "a number of a million digits in the header": (lambda: header(b'{"w":' + b"9" * 1_000_000 + b"}"), DAMAGED),
    "overlapping tensors": (lambda: described(a=("F32", [6], [0, 24]), b=("F32", [3], [12, 24])), DAMAGED),
    "tensors with a hole between": (lambda: described(a=("F32", [2], [0, 8]), b=("F32", [2], [16, 24])), DAMAGED),
    "offsets that run backwards": (lambda: described(a=("F32", [6], [24, 0])), DAMAGED),
    "offsets beyond the file": (lambda: described(a=("F32", [600], [0, 2400])), DAMAGED),
    "offsets of 2**63": (lambda: described(a=("F32", [6], [2**63, 2**63 + 24])), DAMAGED),
    "negative offsets": (lambda: described(a=("F32", [6], [-24, 0])), DAMAGED),
    "an unknown type of number": (lambda: described(a=("F1024", [6], [0, 24])), DAMAGED),
    "a shape that does not fit the offsets": (lambda: described(a=("F32", [7], [0, 24])), DAMAGED),
    "a negative shape": (lambda: described(a=("F32", [-6], [0, 24])), DAMAGED),
    "a shape whose product overflows": (lambda: described(a=("F32", [2**33, 2**33], [0, 24])), DAMAGED),
    "a shape whose product wraps to 6": (lambda: described(a=("F32", [2**62, 4, 6], [0, 24])), DAMAGED),
    "a shape of 700,000 dimensions": (lambda: described(a=("F32", [2**60] * 700_000, [0, 24])), DAMAGED),
    "empty shapes of 2**63": (lambda: described(b"", a=("F32", [0, 2**63 - 1, 2**63 - 1], [0, 0])), DAMAGED),
    "200,000 empty tensors in a header": (
        lambda: described(b"", **{f"t{n}": ("F32", [0], [0, 0]) for n in range(200_000)}),
        "200,000 tensors; expected at most",
    ),
    "metadata that is a number": (lambda: described(metadata=7, a=("F32", [6], [0, 24])), DAMAGED),
    "metadata of other things than text": (lambda: described(metadata={"x": [1]}, a=("F32", [6], [0, 24])), DAMAGED),
    "a manifest that is damaged": (
        lambda: described(metadata={"mdtree": '{"version":'}, a=("F32", [6], [0, 24])),
        "manifest .* is damaged",
    ),
    "a manifest 100,000 lists deep": (
        lambda: described(metadata={"mdtree": "[" * 100_000}, a=("F32", [6], [0, 24])),
        "manifest .* is damaged",
    ),
    "a manifest from the future": (
        lambda: described(
            metadata={"mdtree": '{"format": "mdtree-checkpoint", "version": 99}'}, a=("F32", [6], [0, 24])
        ),
        "is of version 99",
    ),
    "bytes behind the tensors": (lambda: described(bytes(1024), a=("F32", [6], [0, 24])), DAMAGED),
    "cut at a third, safetensors": (
        lambda: safetensors.torch.save(STATE)[: len(safetensors.torch.save(STATE)) // 3],
        "damaged|text file|known format",
    ),
    "cut by a byte, safetensors": (lambda: safetensors.torch.save(STATE)[:-1], DAMAGED),
    "bit flipped in the header": (lambda: _header_flipped(b'"F32"', 1), DAMAGED),
    "no tensors": (lambda: safetensors.torch.save({}), "holds no tensors that could be weights"),
    "NaN in safetensors": (
        lambda: safetensors.torch.save({"w": torch.tensor([float("nan")])}),
        "hold NaN or infinite values",
    ),
}

OTHERS: dict[str, tuple[Bytes, str]] = {
    "empty file": (lambda: b"", "is empty: the save or the copy did not finish"),
    "one byte": (lambda: b"\x80", "is a text file|known format"),
    "Git LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "is a Git LFS pointer, .* git lfs pull",
    ),
    "HTML page": (lambda: b"<!DOCTYPE html>\n<html><script>alert(1)</script></html>", "is an HTML page"),
    "gzip": (lambda: gzip.compress(saved()), "is compressed with gzip"),
    "gzip bomb": (lambda: gzip.compress(bytes(2**28), 1), "is compressed with gzip"),
    "tar": (_tar, "is a tar archive"),
    "text": (lambda: b"accuracy: 93 %\n", "is a text file"),
    "JSON": (lambda: b'{"weight": [1, 2, 3]}\n', "is a text file"),
    "ONNX": (
        lambda: (
            b'\x08\x08\x12\x07pytorch\x1a\x062.13.0:\x8a\x01\n\x1b\n\x05input\x12\x06weight\x1a\x06output"\x04Gemm'
            + bytes(200)
        ),
        "ONNX",
    ),
    "joblib": (lambda: _joblib(), "is a pickle of joblib"),
    "TorchScript": (_torchscript, "is a TorchScript program"),
    "exported program": (_exported, "is a program of torch.export"),
    "numpy array": (_saved_array, "is a numpy array"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "zeros": (lambda: bytes(4096), "known format"),
    "noise": (lambda: np.random.default_rng(0).bytes(100_000), "known format|damaged"),
    "plain pickle": (lambda: pickle.dumps({"a": 1}), "is a plain pickle file, which is never loaded"),
    "plain pickle, protocol 0": (lambda: pickle.dumps({"a": 1}, 0), "is a plain pickle file, which is never loaded"),
}


RENAMED: dict[str, tuple[Bytes, str]] = {
    "safetensors with odd metadata": (
        lambda: safetensors.torch.save(STATE, {"\x1b[31m": "\n\x1b[2K", "format": "pt" * 100_000}),
        "a safetensors payload carries no checksum",
    ),
}
"""Nothing wrong with the weights."""
