"""What the notebooks keep: opened with what is to be learnt, run from top to bottom, fit for other eyes."""

import base64
import getpass
import io
import re
from pathlib import Path

import notebook_runs
import numpy as np
import pytest
from PIL import Image

NAMES = notebook_runs.names()

PROMISED = {"diagnose.ipynb", "landscape.ipynb", "own_zoo.ipynb", "transfer.ipynb"}

A_MACHINES_OWN = re.compile(
    r"(?<![\w./])/(?:home|root|tmp|var|usr|opt|mnt|work|Users|private)/|[A-Z]:\\\\|https?://(?:localhost|127\.)"
)


def every_text(notebook):
    """Sources and all that can be read of the outputs, and their markup."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from (str(held) for kind, held in output.get("data", {}).items() if not kind.startswith("image/"))


def test_every_promised_notebook_is_there():
    assert set(NAMES) == PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_what_the_reader_will_learn(name):
    first = notebook_runs.read(name).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "You will learn" in first.source


@pytest.mark.parametrize("name", NAMES)
def test_it_was_run_from_top_to_bottom_without_a_warning(name):
    cells = notebook_runs.code_cells(notebook_runs.read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_nothing_of_the_machine_it_ran_on(name):
    notebook = notebook_runs.read(name)
    strangers = (str(Path.home()), f"/{getpass.getuser()}/", str(notebook_runs.NOTEBOOKS.parent))
    for text in every_text(notebook):
        assert not A_MACHINES_OWN.search(text), text
        assert not any(stranger in text for stranger in strangers), text
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_code_fit_the_page(name):
    longest = [max(map(len, cell.source.splitlines())) for cell in notebook_runs.code_cells(notebook_runs.read(name))]
    assert max(longest) <= 95


@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_something_and_fit_a_page(name):
    found = notebook_runs.pictures(notebook_runs.read(name))
    assert len(found) >= 3
    for picture in found:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"), dtype=float)
        assert 300 <= pixels.shape[1] <= 1300
        assert (pixels < 200).mean() > 0.005
        assert pixels.std() > 10


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    for cell in notebook_runs.read(name).cells:
        for target in re.findall(r"\]\(([^)]+)\)", cell.source) if cell.cell_type == "markdown" else []:
            assert (notebook_runs.NOTEBOOKS / target).exists(), target
