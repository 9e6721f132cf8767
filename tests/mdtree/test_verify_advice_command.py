"""`mdtree verify-advice` from end to end on a small zoo of digits, built, fitted on and retrained for real."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mdtree.backends import Backend
from mdtree.cli.verify_advice import verify_advice_command
from mdtree.diagnoser import write_diagnoser
from mdtree.errors import InputError
from mdtree.fitting import FitOptions, fit_diagnoser
from mdtree.grid import build_zoo
from mdtree.intervention_scores import POLICIES
from mdtree.spec_file import read_spec
from mdtree.zoo import read_zoo

SPECIFICATION = """
family = "small"
seeds = 3
[data]
name = "digits"
train = [40, 160, 640]
[model]
name = "mlp"
width = [3, 8, 24]
[training]
learning_rate = [0.001, 0.01, 0.05, 0.2]
batch_size = 16
steps = 300
schedule = "constant_then_linear"
[held_out]
share = 0.4
seed = 1
[protocol]
curve_steps = 20
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    (folder / "small.toml").write_text(SPECIFICATION)
    build_zoo(read_spec(folder / "small.toml"), folder / "small.csv", backend=Backend(workers=1))
    diagnoser = fit_diagnoser(read_zoo(folder / "small.csv"), "small", FitOptions(starts=4))
    write_diagnoser(diagnoser, folder / "small.json")
    return [str(folder / name) for name in ("small.json", "small.toml", "small.csv")]


def run(*arguments):
    return CliRunner().invoke(verify_advice_command, [*arguments, "--workers", "1"], catch_exceptions=False)


@pytest.mark.slow
def test_advice_is_followed_and_helps(files, tmp_path):
    table = str(tmp_path / "trained.csv")
    common = (*files, "-n", "6", "--seeds", "2", "-o", table)
    plan = json.loads(run(*common, "--dry-run", "--json").output)
    assert plan["cells"] == 6
    assert plan["networks"] == plan["configurations"] * 4
    result = run(*common, "--json")
    assert f"6 cells: {plan['configurations']} configurations from 4 fresh seeds each" in result.stderr
    verified = json.loads(result.stdout)
    assert verified["family_known"] is True
    assert verified["networks"] == plan["networks"]
    assert set(verified["policies"]) == set(POLICIES)
    gains = {name: figures["gain_points"] for name, figures in verified["policies"].items()}
    # a cold or narrow network of this zoo has tens of points to gain
    assert gains["diagnosis"] > gains["random"]
    assert gains["best"] > 5
    # a second call, for people, finds all trainings on disk
    text = run(*common).stdout
    assert text.startswith("small: 6 of 14 held-out cells; diagnoser small (fitted on other cells of it)")
    assert f"{gains['diagnosis']:.2f}" in text


@pytest.mark.slow
def test_a_missing_file_is_one_clear_line(files, tmp_path):
    for place, name in enumerate(("judge.json", "what.toml", "zoo.csv")):
        arguments = list(files)
        arguments[place] = str(tmp_path / name)
        with pytest.raises(InputError, match=name):
            run(*arguments)
