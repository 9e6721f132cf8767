"""`notebooks/diagnose.ipynb` runs, and shows what it keeps."""

import pytest
from notebook_runs import check_run


@pytest.mark.slow
def test_it_runs_and_shows_what_it_keeps():
    check_run("diagnose.ipynb")
