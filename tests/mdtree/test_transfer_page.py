"""The page that `docs/transfer.py` writes: its tables, its pictures, the same bytes every time."""

import runpy
from pathlib import Path

import pytest
from transfer_zoos import QUICK, family

from mdtree.errors import InputError
from mdtree.zoo import write_zoo

SCRIPT = Path(__file__).parents[2] / "docs" / "transfer.py"


@pytest.fixture
def write_page(monkeypatch):
    monkeypatch.setattr("mdtree.zoo_transfer.methods_with", lambda: QUICK)
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.mark.slow
def test_the_page_holds_every_transfer_and_two_pictures(tmp_path, write_page):
    samples = tmp_path / "samples"
    samples.mkdir()
    write_zoo(family("a", 0, architecture="mlp"), samples / "a.csv")
    write_zoo(family("b", 1, data_set="other", architecture="cnn"), samples / "b.csv")
    written = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        write_page(samples, folder / "transfer.md", 1)
        written.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert written[0] == written[1]
    assert sorted(written[0]) == ["transfer.md", "transfer.png", "transfer_scale.png"]
    text = written[0]["transfer.md"].decode()
    for title in ("A data set left out: 2 parts", "A family left out: 2 parts", "More data left out: 2 parts"):
        assert f"## {title}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| tree, alone |")]
    assert len(rows) == 6  # data set, family, architecture, width, data, cells
    assert rows[1].startswith("| tree, alone | 100 (100) |")
    # the printed tables follow, and say what was not run
    assert "## `mdtree transfer zoo_samples/*.csv --leave-out scale`" in text
    assert "not run: a: width > 8, model size: all that is clear is temperature" in text
    # no cell of the question that could not be asked of any part is filled
    assert rows[3].split("|")[3].strip() == "-"


def test_a_folder_without_tables_is_refused(tmp_path, write_page):
    with pytest.raises(InputError, match="holds no table"):
        write_page(tmp_path, tmp_path / "page.md", 1)
