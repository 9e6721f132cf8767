"""Kill -9 at random moments, in a service under load: the committed benchmark, for a few rounds on each database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "service_faults.py"
ROUNDS = 2


@pytest.mark.slow
def test_every_accepted_job_ends_once_as_the_command_line_says(database_url: str) -> None:
    """Server, workers, or all of them are killed: nothing is lost, done twice, left half or left running."""
    words = ["--rounds", str(ROUNDS), "--few", "--json", "--seed", "3"]
    words += ["--database", database_url] if database_url.startswith("postgresql") else []
    ended = subprocess.run(
        [sys.executable, str(BENCHMARK), *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["defects"] == []
    assert sum(found["kills"].values()) == ROUNDS
    assert found["jobs"] == found["ends"] == sum(found["states"].values()) > 3
    assert set(found["states"]) <= {"done", "failed", "cancelled"}
    assert {"done", "failed"} <= set(found["states"])
