"""The code of README and docs runs and prints what they show; one process a page, in an empty folder."""

import os
import subprocess
import sys

import pytest
from doc_pages import ROOT, blocks, pages

WITH_CODE = sorted(name for name, file in pages().items() if any(not block.not_run for block in blocks(file)))


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(page, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests", ROOT / "benchmarks"))),
        "MDTREE_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "run_page.py", page],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
