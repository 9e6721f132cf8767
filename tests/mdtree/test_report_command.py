"""`mdtree report`: saved measurements become files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from reported import JUDGE, full_record, told
from test_diagnoser import record_of, small_diagnoser

from mdtree.cli.reporting import report_command, write_reports
from mdtree.diagnoser import write_diagnoser
from mdtree.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*words: str) -> Result:
    return CliRunner().invoke(report_command, words, catch_exceptions=True)


def save(file: Path, value: object) -> str:
    file.write_text(json.dumps(value), encoding="utf-8")
    return str(file)


def test_a_record_becomes_a_page_beside_it(folder: Path):
    (folder / "saved").mkdir()
    found = report(save(folder / "saved" / "run.json", full_record("a.pt").to_dict()))
    assert found.exit_code == 0
    assert found.stderr.startswith(f"{folder}/saved/run.html: ")
    assert {file.name for file in (folder / "saved").iterdir()} == {"run.json", "run.html"}
    assert (folder / "saved" / "run.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_markdown_goes_to_standard_output(folder: Path):
    found = report(save(folder / "run.json", full_record("a.pt").to_dict()), "--markdown", "-")
    assert found.stdout.startswith("## ")
    assert not (folder / "run.html").exists()


def test_a_file_may_hold_several_records(folder: Path):
    both = save(folder / "all.json", [full_record("a.pt").to_dict(), full_record("b.pt").to_dict()])
    found = report(both, save(folder / "c.json", full_record("c.pt").to_dict()), "--markdown", "report.md")
    assert found.stderr == "report.md: 3 checkpoints\n"
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert [name for name in ("`a.pt`", "`b.pt`", "`c.pt`") if name in text] == ["`a.pt`", "`b.pt`", "`c.pt`"]


def test_another_verdict_than_the_saved_one_is_said(folder: Path):
    write_diagnoser(small_diagnoser(), folder / "small.json")
    record = record_of(log_weight_growth=0.5, train_error_percent=20.0)
    saved = save(folder / "run.json", {**record.to_dict(), "verdict": "healthy\x1b[31m"})
    found = report(saved, "--diagnoser", "small.json", "--markdown", "run.md")
    assert found.stderr.splitlines() == [
        r"mdtree: a.pt: saved as healthy\x1b[31m, told as temperature too low by the diagnoser small",
        "run.md: temperature too low (80%)",
    ]


@pytest.mark.slow
def test_a_page_of_somebody_else_is_not_overwritten(folder: Path):
    saved = save(folder / "index.json", full_record().to_dict())
    (folder / "index.html").write_text("<h1>My site</h1>", encoding="utf-8")
    found = report(saved)
    assert isinstance(found.exception, InputError)
    assert "is no report of mdtree" in str(found.exception)
    assert (folder / "index.html").read_text(encoding="utf-8") == "<h1>My site</h1>"
    assert report(saved, "--html", "index.html").exit_code == 0
    assert report(saved).exit_code == 0


@pytest.mark.parametrize("content", ["[]", "[1]", "{}", "null", '{"metrics": 1}', "nonsense", "[[]]"])
def test_what_is_no_record_is_refused_in_one_sentence(folder: Path, content: str):
    (folder / "run.json").write_text(content, encoding="utf-8")
    found = report("run.json")
    assert isinstance(found.exception, InputError)
    assert {file.name for file in folder.iterdir()} == {"run.json"}


def test_two_reports_are_not_printed_into_one_another(folder: Path):
    with pytest.raises(InputError, match="both be printed"):
        write_reports([told()], JUDGE, html="-", markdown="-")


def test_a_folder_that_does_not_exist_is_said(folder: Path):
    with pytest.raises(InputError, match="cannot be written"):
        write_reports([told()], JUDGE, markdown=str(folder / "nowhere" / "run.md"))


def test_reports_need_no_torch():
    names = "mdtree.html_report, mdtree.markdown_report, mdtree.cli.reporting"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
