"""The README is true: its transcript is what the command prints, its figures are what `evaluate` gives."""

import re
from pathlib import Path

import pytest

from mdtree.diagnose import diagnose
from mdtree.diagnoser import default_diagnoser
from mdtree.evaluation import evaluate
from mdtree.report import diagnosis_text
from mdtree.zoo import read_zoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_transcript_is_what_the_command_prints(monkeypatch):
    monkeypatch.chdir(ROOT)
    sample = "zoo_samples/checkpoints/temperature_too_low-1"
    printed = diagnosis_text(diagnose(f"{sample}.pt", siblings=[f"{sample}.sibling.pt"])).splitlines()
    block = README.split("```console\n")[1].split("```")[0].splitlines()
    shown = [line for line in block[2:] if line.strip() and line.strip() not in ("...", "Measured")]
    # digits beyond the third may differ between machines
    coarse = [re.sub(r"\d\.\d+(e-\d+)?", lambda m: f"{float(m[0]):.2g}", line).split() for line in printed]
    for line in shown:
        rounded = re.sub(r"\d\.\d+(e-\d+)?", lambda m: f"{float(m[0]):.2g}", line).split()
        assert rounded in coarse, line
    assert len(shown) > 12


@pytest.mark.parametrize(
    ("row", "question", "evidence", "baseline"),
    [
        ("tree, one checkpoint and its training data", "temperature", "alone", None),
        ("tree, with a sibling", "temperature", "sibling", None),
        ("always the more frequent answer", "temperature", "alone", "majority"),
        ("tree on train and test error and loss", "temperature", "alone", "validation"),
        ("tree on the hyperparameters", "temperature", "alone", "hyperparameters"),
        ("tree, one checkpoint and its training data", "verdict", "alone", None),
        ("tree, one checkpoint with test data", "verdict", "alone_test", None),
        ("tree, with a sibling", "verdict", "sibling", None),
        ("tree, with a sibling and test data", "verdict", "sibling_test", None),
        ("always the more frequent answer", "verdict", "alone", "majority"),
        ("tree on train and test error and loss", "verdict", "alone", "validation"),
        ("tree on the hyperparameters", "verdict", "alone", "hyperparameters"),
    ],
)
def test_the_figures_are_what_evaluate_gives(scores, row, question, evidence, baseline):
    found = scores["questions"][question][evidence]
    if baseline:
        found = found["baselines"][baseline]
    start = "| temperature:" if question == "temperature" else "| verdict:"
    section = README[README.index(start) :]
    line = next(text for text in section.splitlines() if f"| {row} |" in text.replace("**", ""))
    figures = [float(cell.strip(" %")) for cell in line.split("|")[3:5]]
    assert figures == [round(100 * found["balanced_accuracy"], 1), round(100 * found["gain_captured"], 1)]


@pytest.mark.parametrize(
    ("start", "heading"),
    [
        ("| a data set (3) |", "## A data set"),
        ("| a family (19) |", "## A family"),
        ("| an architecture (6) |", "## An architecture"),
    ],
)
@pytest.mark.parametrize(
    ("row", "method"),
    [
        ("tree, one checkpoint", "tree, alone"),
        ("tree, with a sibling", "tree, sibling"),
        ("always the more frequent answer", "majority"),
        ("tree on train and test error and loss", "validation"),
        ("tree on width, data, learning rate, temperature", "settings"),
        ("tree on the number of parameters", "parameters"),
    ],
)
def test_the_figures_of_transfer_are_those_of_its_page(start, heading, row, method):
    page = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")
    computed = next(text for text in page[page.index(heading) :].splitlines() if text.startswith(f"| {method} |"))
    shown = next(text for text in README[README.index(start) :].splitlines() if f"| {row} |" in text)
    temperature, size, data, _verdict, gain = (cell.strip() for cell in computed.split("|")[2:7])
    assert [cell.strip() for cell in shown.split("|")[3:7]] == [temperature, size, data, gain]


@pytest.fixture(scope="module")
def scores():
    return evaluate(default_diagnoser(), read_zoo(ROOT / "zoo_samples" / "digits_mlp.csv"))


def test_every_file_it_names_exists():
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name


def test_version_and_changelog_agree():
    import mdtree

    assert f"## {mdtree.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
