"""What all tests share: where the real data lies, and an honest count of what was not tested without it."""

from __future__ import annotations

import os

# before numpy and torch are imported: on matrices this small more threads only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # the tests call nobody

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

_NO_DATA = "MDTREE_DATA is not set"
_MISSING = {
    _NO_DATA: "tests on real data were skipped: set MDTREE_DATA to their folder",
    "Chromium is not installed": "tests in a browser were skipped: install Chromium",
    "PostgreSQL is not installed": "tests with a database server were skipped: install PostgreSQL",
}
"""Reasons to skip a test, and what is said of such tests at the end; with CI set neither skips."""


@pytest.fixture(scope="session")
def mdtree_data() -> Path:
    """The folder of real data sets named by MDTREE_DATA; skipped without it, a failure on continuous integration."""
    folder = os.environ.get("MDTREE_DATA", "")
    if folder and Path(folder).is_dir():
        return Path(folder)
    if os.environ.get("CI"):
        pytest.fail(f"MDTREE_DATA={folder!r} is no folder: continuous integration tests on real data")
    pytest.skip(_NO_DATA)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads what another one, or the user, kept."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MDTREE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """A test that draws from a global generator draws the same on every run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Run `mdtree` with these words and return exit code, standard output and standard error."""
    from mdtree.cli import main

    def call(*words: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        out = capsys.readouterr()
        return end.value.code, out.out, out.err

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: processes that share the files out then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests needed data that were not there; read from the reports, which workers send to this process."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for reason, what in _MISSING.items():
        count = sum(reason in one for one in reasons)
        if count:
            terminalreporter.write_line(f"{count} {what}")
