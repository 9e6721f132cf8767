"""A distributed checkpoint made by hand: two tensors, one of them in four pieces over two files."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import metadata as md
from torch.distributed.checkpoint.filesystem import _StorageInfo

WHOLE = torch.arange(20.0).reshape(4, 5)


CORNERS = {(0, 0): (2, 3), (0, 3): (2, 2), (2, 0): (2, 3), (2, 3): (2, 2)}


class ByHand:
    """The parts of a checkpoint, to be changed before `write`."""

    def __init__(self) -> None:
        self.files = {"__0_0.distcp": b"", "__1_0.distcp": b""}
        self.chunks: list[md.ChunkStorageMetadata] = []
        self.stored: dict[md.MetadataIndex, _StorageInfo] = {}
        for number, (start, size) in enumerate(CORNERS.items()):
            part = WHOLE[start[0] : start[0] + size[0], start[1] : start[1] + size[1]].clone()
            self.add("grid", start, part, f"__{number % 2}_0.distcp")
        self.add("bias", (0,), torch.tensor([1.0, 2.0]), "__1_0.distcp")
        self.size, self.dtype = (4, 5), torch.float32
        self.backwards = False
        self.places: Any = {"grid": ("grid",), "bias": ("bias",)}

    def add(self, name: str, start: tuple[int, ...], part: Tensor, file: str) -> None:
        buffer = io.BytesIO()
        torch.save(part, buffer)
        data = buffer.getvalue()
        self.stored[md.MetadataIndex(name, start)] = _StorageInfo(file, len(self.files[file]), len(data))
        self.files[file] += data
        if name == "grid":
            self.chunks.append(md.ChunkStorageMetadata(torch.Size(start), torch.Size(part.shape)))

    def info(self, name: str, start: tuple[int, ...]) -> _StorageInfo:
        return self.stored[md.MetadataIndex(name, start)]

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        tensors = {
            "grid": md.TensorStorageMetadata(md.TensorProperties(self.dtype), torch.Size(self.size), self.chunks),
            "bias": md.TensorStorageMetadata(
                md.TensorProperties(torch.float32),
                torch.Size([2]),
                [md.ChunkStorageMetadata(torch.Size([0]), torch.Size([2]))],
            ),
        }
        if "grid.x" in self.places:
            tensors["grid.x"] = md.TensorStorageMetadata(
                md.TensorProperties(torch.float32),
                torch.Size([1]),
                [md.ChunkStorageMetadata(torch.Size([0]), torch.Size([1]))],
            )
        if self.backwards:
            tensors = dict(reversed(tensors.items()))
        held = md.Metadata(tensors, self.places, self.stored, md.StorageMeta(Path("x")))
        (folder / ".metadata").write_bytes(pickle.dumps(held))
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder
