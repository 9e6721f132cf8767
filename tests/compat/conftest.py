"""Tests with torchvision and timm, which the other tests do without.

`make test-compat` runs them, and all others, in an environment of their own, where torch, torchvision and timm come
from the registry and fit each other. Beside a build of torch without CUDA the registry's torchvision lacks its compiled
operators; `make test` declares them there, since no classification network uses any, and so runs the same tests with
the same networks.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

_FOUND = importlib.util.find_spec("torchvision")

# without torchvision nothing is collected here, and pytest says so if it was asked for this folder alone
collect_ignore_glob = [] if _FOUND else ["test_*.py"]


def _declare_missing_operators(package: Path) -> torch.library.Library | None:
    """Declare what torchvision registers implementations for at import, where its own library cannot be loaded."""
    try:
        torch.ops.load_library(package / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


if _FOUND is not None and _FOUND.origin is not None:
    _library = _declare_missing_operators(Path(_FOUND.origin).parent)  # gone, it would take its operators along


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a download here fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.socket.connect", _refuse)


def _refuse(*_: object) -> None:
    raise AssertionError("a connection was opened")
