"""What is told, and what is passed on, of errors that torch or a caller's model raises."""

from __future__ import annotations

import torch


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def out_of_memory(error: Exception) -> bool:
    """Whether the device or the machine ran out of memory: no property of the model, so never turned into a reason."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
