"""Reading a checkpoint's file without trusting it: what it is, whether it is whole, and nothing in it is ever run.

Pickle-based files are read by ``torch.load(weights_only=True)`` alone, after the file itself was looked at and its
pickle followed on paper. Two known ways around that switch (CVE-2025-32434, CVE-2026-24747) are closed from torch 2.10
on: older versions read safetensors only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtree.files import regular_file
from mdtree.reading.file_kinds import RE_SAVE, folder_error, refuse_other_formats, refuse_unknown
from mdtree.reading.safetensors_file import MAX_TENSORS, read_safetensors
from mdtree.reading.torch_pickle import load_pickled
from mdtree.reading.zip_archive import MAX_PICKLE_BYTES, examine_zip
from mdtree.specification import listing

__all__ = ["MAX_PICKLE_BYTES", "MAX_TENSORS", "RE_SAVE", "FileContents", "read_checkpoint_file"]

_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # after two bytes for the protocol: torch.save before 1.6


@dataclass(frozen=True, eq=False)
class FileContents:
    """What a checkpoint's file holds.

    Parameters
    ----------
    content : object
        What ``torch.load`` gave back, with `InertObject` for objects of classes it does not know; for safetensors a
        dict of name to tensor.
    metadata : mapping of str to str or None
        The metadata of a safetensors header; None for a pickle-based file.
    sha256 : str
        Of the whole file, in hexadecimal.
    size : int
        Bytes of the file, or of all files of a folder.
    layout : str
        How it was written, in words: "torch.save", "safetensors in 3 shards", "distributed checkpoint".
    beside : mapping of str to object
        The other files of a folder that tell something, by name: ``config.json``, ``trainer_state.json`` ...
    unknown : tuple of str
        Dotted names of the classes that were read as inert data.
    notes : tuple of str
        Sentences for the report.
    """

    content: Any
    metadata: Mapping[str, str] | None
    sha256: str
    size: int
    layout: str = "torch.save"
    beside: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
        raise folder_error(path)
    regular_file(path)
    with open(path, "rb") as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        head = handle.read(512)
        handle.seek(0)
        if head[8:9] == b"{" and head[5:8] == bytes(3):  # a length below 2**40, then JSON
            tensors, metadata, sha256 = read_safetensors(handle, path, size)
            note = f"a safetensors payload carries no checksum: compare its sha256, {sha256}"
            return FileContents(tensors, metadata, sha256, size, "safetensors", notes=(note,))
        refuse_other_formats(head, path)
        pickled = None
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            pickled, sha256 = examine_zip(handle, path, size)
        elif head[2 : 2 + len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        else:
            refuse_unknown(handle, head, path)
        content, unknown = load_pickled(handle, path, size, pickled)
        layout = "torch.save" if pickled is not None else "torch.save before 1.6"
        notes = [f"a file from before torch 1.6 carries no checksum: compare its sha256, {sha256}"]
        inert = [f"read as inert data, nothing imported: {listing(unknown, 3)}"]
        notes = notes * (pickled is None) + inert * bool(unknown)
        return FileContents(content, None, sha256, size, layout, unknown=unknown, notes=tuple(notes))
