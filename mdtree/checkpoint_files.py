"""Reading a checkpoint's file without trusting it: what it is, whether it is whole, and nothing in it is ever run.

Pickle-based files are read by ``torch.load(weights_only=True)`` alone, after the file itself was looked at. Two known
ways around that switch (CVE-2025-32434, CVE-2026-24747) are closed from torch 2.10 on: older versions read safetensors
only.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch

from mdtree.errors import InputError, ResourceError
from mdtree.files import regular_file
from mdtree.pickle_scan import executes, globals_asked_for, harmless
from mdtree.specification import listing, shown

OLDEST_TORCH = (2, 10)
MAX_PICKLE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 50_000

RE_SAVE = "re-save the weights alone with torch.save(model.state_dict(), PATH) or as .safetensors"

_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # after two bytes for the protocol: torch.save before 1.6
_DAMAGED = "the save or the copy did not finish"

_OTHER_FORMATS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for", "run: git lfs pull"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip"),
    (b"BZh", "is compressed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it with unzstd"),
    (b"\x89HDF", "is an HDF5 file, as Keras saves them", RE_SAVE),
    (b"\x93NUMPY", "is a numpy array", RE_SAVE),
)


@dataclass(frozen=True, eq=False)
class FileContents:
    """What a checkpoint's file holds.

    Parameters
    ----------
    content : object
        What ``torch.load`` gave back; for safetensors a dict of name to tensor.
    metadata : mapping of str to str or None
        The metadata of a safetensors header; None for a pickle-based file.
    sha256 : str
        Of the whole file, in hexadecimal.
    size : int
        Bytes of the file.
    """

    content: Any
    metadata: Mapping[str, str] | None
    sha256: str
    size: int


def read_checkpoint_file(path: Path) -> FileContents:
    """Read a ``.pt`` or ``.safetensors`` file.

    Parameters
    ----------
    path : Path
        The file; its contents and not its name decide how it is read.

    Returns
    -------
    FileContents
        All tensors on the CPU.

    Raises
    ------
    InputError
        If it is not a regular file, not whole, not a checkpoint, or would run code.
    ResourceError
        If it does not fit into memory.
    """
    if path.is_dir():
        raise _folder_error(path)
    regular_file(path)
    with open(path, "rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        size = handle.tell()
        handle.seek(0)
        head = handle.read(512)
        handle.seek(0)
        if head[8:9] == b"{" and head[5:8] == bytes(3):  # a length below 2**40, then JSON
            return _read_safetensors(handle, path, sha256, size)
        _refuse_other_formats(head, path)
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            _check_zip(handle, path, size)
        elif head[2 : 2 + len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
            _refuse_bytearray(handle.read(MAX_PICKLE_BYTES), path)
        else:
            _refuse_unknown(handle, head, path)
        _check_torch_version(path)
        handle.seek(0)
        return FileContents(_load(handle, path), None, sha256, size)


def _read_safetensors(handle: BinaryIO, path: Path, sha256: str, size: int) -> FileContents:
    length = int.from_bytes(handle.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(f"{path} has a header of {length:,} bytes", f"at most {MAX_HEADER_BYTES:,}", RE_SAVE)
    try:
        header = json.loads(handle.read(length))
        entries = len(header) - ("__metadata__" in header)
        metadata = dict(header.get("__metadata__") or {})
        if entries <= MAX_TENSORS:
            handle.seek(0)
            return FileContents(safetensors.torch.load(handle.read()), metadata, sha256, size)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} is truncated or damaged ({_first_line(error)})", "", "save or copy it again"
        ) from error
    except MemoryError as error:
        raise ResourceError(f"{path} ({size:,} bytes) does not fit into memory") from error
    raise InputError(f"{path} holds {entries:,} tensors", f"at most {MAX_TENSORS:,}", RE_SAVE)


def _refuse_other_formats(head: bytes, path: Path) -> None:
    for magic, what, mend in _OTHER_FORMATS:
        if head.startswith(magic):
            raise InputError(f"{path} {what}", "a checkpoint", mend)
    if re.match(rb"\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        raise InputError(
            f"{path} is an HTML page", "a checkpoint", "download the file itself, not the page that shows it"
        )
    if head[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive", "a checkpoint", f"unpack it, or {RE_SAVE}")


def _refuse_unknown(handle: BinaryIO, head: bytes, path: Path) -> None:
    """Neither safetensors nor a file of torch.save: a plain pickle, a text, or bytes of no known format."""
    asked = globals_asked_for(handle)
    if asked is not None:
        _refuse_globals(asked, path)
        raise InputError(f"{path} is a plain pickle file, which is never loaded", "a checkpoint of torch.save", RE_SAVE)
    if path.suffix == ".safetensors" and len(head) < 512:
        raise InputError(f"{path} is truncated or damaged: {_DAMAGED}", "", "save or copy it again")
    if re.fullmatch(rb"[\t\n\r\x20-\x7e\x80-\xff]+", head):
        raise InputError(f"{path} is a text file", "a checkpoint made by torch.save or safetensors", "check the path")
    raise InputError(
        f"{path} is in no known format, or damaged", "a checkpoint made by torch.save or safetensors", RE_SAVE
    )


def _check_zip(handle: BinaryIO, path: Path, size: int) -> None:
    """Refuse an archive that torch.save did not write, that would grow when read, or whose checksums do not hold."""
    try:
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            _check_members(members, path, size)
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise InputError(f"{path} is a compressed archive, which torch.save never writes", "", RE_SAVE)
            pickled = next(member for member in members if member.filename.endswith("data.pkl"))
            if pickled.file_size > MAX_PICKLE_BYTES:
                raise InputError(
                    f"{shown(pickled.filename)} in {path} has {pickled.file_size:,} bytes",
                    f"at most {MAX_PICKLE_BYTES:,}",
                    RE_SAVE,
                )
            damaged = archive.testzip()
            if damaged is None:
                _refuse_bytearray(archive.read(pickled), path)
    except InputError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, struct.error, EOFError, NotImplementedError, ... on damage
        raise InputError(f"{path} is truncated or damaged: {_DAMAGED}", "", "save or copy it again") from error
    if damaged is not None:
        raise InputError(
            f"{path} is damaged: the checksum of {shown(damaged)} does not hold", "", "save or copy it again"
        )


def _check_members(members: list[zipfile.ZipInfo], path: Path, size: int) -> None:
    names = [member.filename for member in members]
    last = [name.rpartition("/")[2] for name in names]
    if "constants.pkl" in last or any("/code/" in name for name in names):
        raise InputError(f"{path} is a TorchScript program", "weights", RE_SAVE)
    if "archive_format" in last or any(name.startswith("serialized_exported_program") for name in last):
        raise InputError(f"{path} is a program of torch.export", "weights", RE_SAVE)
    if any(name.endswith(".npy") for name in last):
        raise InputError(f"{path} is a numpy archive", "a checkpoint", "as data, give it with --data npz:FILE")
    if last.count("data.pkl") != 1 or len(set(names)) != len(names):
        raise InputError(f"{path} is a zip archive that torch.save did not write", "a checkpoint", RE_SAVE)
    if sum(member.file_size for member in members) > size:
        raise InputError(f"the members of {path} claim more bytes than the file has ({size:,})", "", RE_SAVE)


def _refuse_bytearray(pickled: bytes, path: Path) -> None:
    """``bytearray(10**10)`` is allowed by weights_only and fills the memory from a file of 500 bytes."""
    if re.search(rb"c(builtins|__builtin__)\nbytearray\n", pickled):
        raise InputError(f"{path} asks to call builtins.bytearray, which no checkpoint needs", "", RE_SAVE)


def _check_torch_version(path: Path) -> None:
    numbers = re.findall(r"\d+", str(torch.__version__))[:2]
    if tuple(map(int, numbers)) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise InputError(
            f"torch {torch.__version__} cannot read {path} safely (CVE-2026-24747)",
            f"torch {oldest} or newer",
            f"run: pip install 'torch>={oldest}', or save it as .safetensors",
        )


def _load(handle: BinaryIO, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(handle, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise ResourceError(f"{path} does not fit into memory") from error
    except Exception as error:  # damaged pickles raise anything
        handle.seek(0)
        _refuse_globals(_asked_by_torch_file(handle), path)
        raise InputError(
            f"{path} is truncated, damaged, or pickled in a way torch.load(weights_only=True) does not read",
            "",
            RE_SAVE,
        ) from error


def _asked_by_torch_file(handle: BinaryIO) -> list[str]:
    if handle.read(2) == b"PK":
        with zipfile.ZipFile(handle) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as pickled:
                return globals_asked_for(pickled) or []  # type: ignore[arg-type]
    handle.seek(0)
    return globals_asked_for(handle, pickles=5) or []


def _refuse_globals(asked: list[str], path: Path) -> None:
    """Name what a pickle asked for, if it asked for something a state dict does not need."""
    for name in asked:
        if executes(name):
            raise InputError(
                f"{path} asks to call {shown(name)}: it is malicious or damaged, and nothing in it was run",
                "weights",
                RE_SAVE,
            )
    networks = [name for name in asked if name.startswith("torch.nn.modules.")]
    if networks:
        raise InputError(
            f"{path} is a whole pickled network ({shown(networks[0])}), which is never loaded", "weights", RE_SAVE
        )
    others = [name for name in asked if not harmless(name)]
    if others:
        raise InputError(
            f"{path} asks for {listing(others, 3)}: objects other than weights and plain values are never loaded",
            "",
            RE_SAVE,
        )


def _folder_error(path: Path) -> InputError:
    weights = [name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).is_file()]
    if weights:
        return InputError(f"{path} is a folder", "a file", f"give {path / weights[0]}")
    if (path / ".metadata").exists():
        return InputError(
            f"{path} is a distributed checkpoint",
            "a file",
            "convert it: python -m torch.distributed.checkpoint.format_utils",
        )
    return InputError(f"{path} is a folder", "a file", "give the checkpoint inside it")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
