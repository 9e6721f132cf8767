"""One piece of a distributed checkpoint: a file of ``torch.save`` that is a part of another file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.reading.distributed_metadata import Piece
from mdtree.reading.metadata_opcodes import SAVE_AGAIN
from mdtree.reading.torch_pickle import load_pickled
from mdtree.reading.zip_archive import examine_zip
from mdtree.specification import shown

_ZIP = b"PK\x03\x04"


def check_format(path: Path, pieces: Sequence[Piece]) -> None:
    """Refuse a file whose pieces ``torch.save`` did not write.

    Raises
    ------
    InputError
        Names safetensors, where torch was asked to write them.
    """
    with open(path, "rb") as handle:
        for piece in pieces:
            handle.seek(piece.offset)
            head = handle.read(9)
            if head[8:9] == b"{" and head[5:8] == bytes(3):
                raise InputError(
                    f"{path} was written with SerializationFormat.SAFETENSORS, and .metadata does not tell where in it",
                    "pieces as torch.save writes them",
                    "save it again with SerializationFormat.TORCH_SAVE",
                )
            if head[:4] != _ZIP:
                raise InputError(f"{path} is damaged: no file of torch.save begins at {piece.offset:,}", "", SAVE_AGAIN)


def load_piece(path: Path, piece: Piece, name: str) -> tuple[Any, tuple[str, ...]]:
    """Read one piece, and the names of the classes that were read as inert data.

    Parameters
    ----------
    path : Path
        The file.
    piece : Piece
        Which bytes of it.
    name : str
        What is read, for errors.

    Raises
    ------
    InputError
        If a checksum does not hold, or it is compressed, damaged, or asks to run something.
    ResourceError
        If it does not fit into memory.
    """
    with open(path, "rb") as handle:
        handle.seek(piece.offset)
        data = io.BytesIO(handle.read(piece.length))
    what = Path(f"{shown(name)} in {path}")  # no path: how errors are to call these bytes
    pickled, _ = examine_zip(data, what, piece.length)
    return load_pickled(data, what, piece.length, pickled)
