"""Safetensors files: the header checked before anything is made, the tensors mapped from the file and not copied."""

from __future__ import annotations

import hashlib
import json
import math
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors
import torch

from mdtree.errors import InputError, ResourceError
from mdtree.reading.file_kinds import RE_SAVE
from mdtree.specification import shown

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 50_000


def read_safetensors(
    handle: BufferedReader, path: Path, size: int
) -> tuple[dict[str, torch.Tensor], dict[str, str], str]:
    """The tensors, the metadata and the SHA-256 of a safetensors file.

    Parameters
    ----------
    handle : binary file
        The file, at its start.
    path : Path
        The same file: it is mapped into memory, tensor by tensor.
    size : int
        Its bytes.

    Raises
    ------
    InputError
        For a header beyond bounds, names that stand twice, tensors of a kind torch does not have, and a file whose
        length is not exactly what its header says.
    ResourceError
        If it does not fit into memory.
    """
    length = int.from_bytes(handle.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(f"{path} has a header of {length:,} bytes", f"at most {MAX_HEADER_BYTES:,}", RE_SAVE)
    try:
        header = json.loads(handle.read(length), object_pairs_hook=_once)
        entries = len(header) - ("__metadata__" in header)
        if entries > MAX_TENSORS:
            raise InputError(f"{path} holds {entries:,} tensors", f"at most {MAX_TENSORS:,}", RE_SAVE)
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        if any(len(shape) > 64 or math.prod(max(1, size) for size in shape) >= 2**62 for shape in shapes):
            raise ValueError("a shape beyond all bounds")
        metadata = dict(header.get("__metadata__") or {})
        with safetensors.safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it is no dict
        handle.seek(0)
        return tensors, metadata, hashlib.file_digest(handle, "sha256").hexdigest()
    except InputError:
        raise
    except MemoryError as error:
        raise ResourceError(f"{path} ({size:,} bytes) does not fit into memory") from error
    except Exception as error:  # of damaged headers: ValueError, TypeError, RecursionError, SafetensorError, ...
        raise InputError(
            f"{path} is truncated or damaged ({_first_line(error)})", "", "save or copy it again"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{shown(twice)} stands twice in its header")
    return made


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
