"""`mdtree zoo summary`, `mdtree zoo status`, and the page of the reference zoos."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_zoo import synthetic_zoo

from mdtree.cli.zoo_show import status_command, summary_command
from mdtree.errors import InputError
from mdtree.unfinished_table import UnfinishedTable
from mdtree.zoo import write_zoo

SCRIPT = Path(__file__).parents[2] / "docs" / "zoos.py"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A folder with two tables, one with a specification that says what was cut."""
    folder = tmp_path_factory.mktemp("samples")
    zoo = synthetic_zoo()
    write_zoo(zoo, folder / "synthetic.csv")
    write_zoo(zoo[zoo["width"] == 8].assign(family="one_width"), folder / "one_width.csv")
    text = "# A grid.\n# Cut: widths above 32 (an hour each).\nfamily = 'synthetic'\n# Cut: the fifth seed.\n"
    (folder / "synthetic.toml").write_text(text)
    return folder


def test_summary_of_two_tables(samples):
    tables = [str(samples / "synthetic.csv"), str(samples / "one_width.csv")]
    result = CliRunner().invoke(summary_command, tables, catch_exceptions=False, standalone_mode=False)
    lines = result.output.splitlines()
    assert " ".join(lines[0].split()) == "family cells networks build per second per worker diverged ambiguous rarest"
    assert lines[1].split()[:3] == ["synthetic", "64", "256"]
    assert lines[2].split()[:3] == ["one_width", "16", "64"]
    assert f"one_width  ({tables[1]})" in result.output


def test_summary_as_json(samples):
    arguments = [str(samples / "one_width.csv"), "--json"]
    result = CliRunner().invoke(summary_command, arguments, catch_exceptions=False, standalone_mode=False)
    (family,) = json.loads(result.output)["families"]
    assert (family["family"], family["cells"], family["build"]) == ("one_width", 16, None)


def test_summary_of_no_table_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        CliRunner().invoke(summary_command, [str(tmp_path / "x.csv")], catch_exceptions=False, standalone_mode=False)


def test_status_as_text_and_json(tmp_path):
    table = tmp_path / "zoo.csv"
    with UnfinishedTable(table, {"networks": 8}, ["a", "b"]):
        pass
    result = CliRunner().invoke(status_command, [str(table)], catch_exceptions=False, standalone_mode=False)
    assert result.output.splitlines()[0] == f"{table}: 0 of 2 units, 0 of 8 networks, none diverged"
    result = CliRunner().invoke(status_command, [str(table), "--json"], catch_exceptions=False, standalone_mode=False)
    values = json.loads(result.output)
    assert (values["state"], values["units_planned"], values["seconds_left"]) == ("stopped", 2, None)


def test_the_page_of_the_zoos_is_written_the_same_twice(samples, tmp_path):
    pages = []
    for name in ("first", "second"):
        page = tmp_path / name / "zoos.md"
        subprocess.run([sys.executable, SCRIPT, samples, page], check=True, timeout=120)
        pages.append({f.relative_to(page.parent): f.read_bytes() for f in page.parent.rglob("*.*")})
    assert pages[0] == pages[1]
    assert sorted(map(str, pages[0])) == ["zoos.md", "zoos/one_width.png", "zoos/synthetic.png"]
    text = pages[0][Path("zoos.md")].decode()
    assert "- cut: widths above 32 (an hour each).\n- cut: the fifth seed.\n" in text
    assert "![Test error of synthetic over learning rate and width](zoos/synthetic.png)" in text
    assert "![Test error of one_width over learning rate and training samples](zoos/one_width.png)" in text
    assert "- best temperature inside the axis in 16 of 16 rows" in text
    tables = [line for line in text.splitlines() if line.startswith("| synthetic")]
    assert tables[0].count("|") == 12
