"""Whether the weights of a checkpoint can be measured at all: dense, whole, no larger than their file, and finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.reading.checkpoint_files import MAX_TENSORS, RE_SAVE
from mdtree.specification import listing, shown


def check_weights(state: Mapping[str, Tensor], path: Path, file_size: int) -> None:
    """Refuse weights that cannot be measured.

    Raises
    ------
    InputError
        For no tensors or too many, tensors that are sparse, quantised or without data, tensors that claim more elements
        than their storage holds, and NaN or infinite values. A mask of zeros and minus infinity is no diverged weight.
    """
    if not 0 < len(state) <= MAX_TENSORS:
        raise InputError(f"{path} holds {len(state):,} tensors", f"1 to {MAX_TENSORS:,}")
    storages: dict[int, int] = {}
    for name, tensor in state.items():
        if type(tensor) not in (Tensor, nn.Parameter) or not _is_plain(tensor):
            raise InputError(
                f"{shown(name)} in {path} is no plain tensor of numbers",
                "dense tensors",
                RE_SAVE,
            )
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(
                f"{shown(name)} in {path} claims {tensor.numel():,} elements, "
                f"its storage holds {storage.nbytes():,} bytes",
                "a storage for every element",
                "save tensor.contiguous()",
            )
    if sum(storages.values()) > file_size:
        raise InputError(
            f"the tensors of {path} claim more bytes than the file has ({file_size:,})",
            "",
            RE_SAVE,
        )
    bad = [name for name, tensor in state.items() if _diverged(tensor)]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(state)} tensors in {path} hold NaN or infinite values ({listing(bad)}): "
            "training diverged, which is a diagnosis in itself",
            "finite weights",
            "train with a lower learning rate, or give a checkpoint from before it diverged",
        )


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_nested
    )


def _diverged(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    if tensor.element_size() == 1:
        tensor = tensor.float()  # torch has no isfinite for 8-bit floats
    if bool(torch.isfinite(tensor.sum())):
        return False  # one pass without a mask as large as the tensor; a sum that overflows is looked at closely
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return False
    is_mask = (
        not tensor.is_complex()
        and bool(finite.any())
        and not bool(tensor[finite].any())
        and bool((tensor[~finite] == -math.inf).all())
    )
    return not is_mask
