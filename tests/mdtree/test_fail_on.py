"""When a diagnosis fails a pipeline: only on what was asked for, and only if it is probable enough."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_diagnoser import record_of, small_diagnoser

from mdtree.cli import main
from mdtree.diagnoser import diagnose_record, write_diagnoser
from mdtree.errors import InputError
from mdtree.fail_on import FailOn, parse_fail_on

COLD = {"log_weight_growth": 0.5, "train_error_percent": 20.0}
HOT = {"log_weight_growth": 2.0, "train_error_percent": 20.0}
LOST = {"train_error_over_chance": 0.97, "train_error_percent": 88.0, "log_weight_growth": 0.1}
"""Cold with 80 %, hot with 90 %, undetermined."""


def verdict_of(values):
    return diagnose_record(small_diagnoser(), record_of(**values))


def test_only_what_was_asked_for_matches():
    condition = parse_fail_on("temperature_too_low,model_too_small")
    assert condition.matches(verdict_of(COLD))
    assert not condition.matches(verdict_of(HOT))


def test_a_verdict_must_be_as_probable_as_asked():
    cold = verdict_of(COLD)
    assert parse_fail_on("temperature_too_low", cold.confidence).matches(cold), "exactly as probable is enough"
    assert not parse_fail_on("temperature_too_low", cold.confidence + 1e-12).matches(cold)


def test_undetermined_matches_only_by_its_name_whatever_its_probability():
    lost = verdict_of(LOST)
    assert lost.verdict == "undetermined"
    assert lost.ranking[0].failure == "temperature_too_low"
    assert not parse_fail_on("temperature_too_low,temperature_too_high").matches(lost)
    assert parse_fail_on("undetermined", 1.0).matches(lost)


def test_of_several_those_that_match_are_told():
    diagnoses = [verdict_of(values) for values in (COLD, HOT, LOST)]
    assert FailOn(("temperature_too_high",)).matched(diagnoses) == [diagnoses[1]]
    assert FailOn(("healthy",)).matched(diagnoses) == []


def test_names_may_be_written_with_hyphens():
    assert parse_fail_on(" temperature-too-low , healthy").verdicts == ("temperature_too_low", "healthy")


@pytest.mark.parametrize(
    ("causes", "least", "words"),
    [
        ("temperature_to_high", None, "did you mean temperature_too_high?"),
        ("", None, "is no verdict"),
        ("healthy,", None, "is no verdict"),
        ("healthy", 1.5, "--min-confidence 1.5; expected a probability"),
        ("healthy", float("nan"), "--min-confidence nan"),
    ],
)
def test_what_cannot_be_meant_is_refused(causes, least, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        parse_fail_on(causes, least)


@pytest.fixture
def run(capsys, tmp_path):
    """`mdtree diagnose` on records of these values by the small diagnoser."""
    small = dataclasses.replace(small_diagnoser(), name="small")
    write_diagnoser(small, tmp_path / "small.json")

    def call(values, *words):
        files = []
        for number, each in enumerate(values):
            files.append(tmp_path / f"{number}.json")
            files[-1].write_text(json.dumps(record_of(**each).to_dict()))
        with pytest.raises(SystemExit) as end:
            main(["diagnose", *map(str, files), "--diagnoser", str(tmp_path / "small.json"), *words])
        return end.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("values", "words", "code"),
    [
        ([COLD], [], 0),
        ([COLD], ["--fail-on", "temperature_too_low"], 1),
        ([COLD], ["--fail-on", "temperature_too_high"], 0),
        ([COLD], ["--fail-on", "temperature_too_low", "--min-confidence", "0.7"], 1),
        ([COLD], ["--fail-on", "temperature_too_low", "--min-confidence", "0.9"], 0),
        ([COLD, HOT], ["--fail-on", "temperature_too_high"], 1),
        ([LOST], ["--fail-on", "temperature_too_low"], 0),
        ([LOST], ["--fail-on", "undetermined"], 1),
        ([LOST], ["--fail-on", "temperature_too_low", "--strict"], 4),
        ([LOST, COLD], ["--fail-on", "temperature_too_low", "--strict"], 1),
        ([COLD], ["--fail-on", "hot"], 2),
        ([COLD], ["--min-confidence", "0.5"], 2),
        ([COLD], ["--fail-on", "healthy", "--min-confidence", "2"], 2),
    ],
)
def test_exit_codes(run, values, words, code):
    assert run(values, *words)[0] == code


def test_the_reason_stands_on_standard_error_and_the_report_is_whole(run):
    code, out, err = run([COLD, HOT], "--fail-on", "temperature_too_high", "--json")
    assert code == 1
    assert err == "mdtree: --fail-on: a.pt is temperature too high (90%)\n"
    assert [value["verdict"] for value in json.loads(out)] == ["temperature_too_low", "temperature_too_high"]


def test_a_report_on_standard_output_stands_alone(run):
    code, out, _ = run([COLD], "--markdown", "-", "--fail-on", "temperature_too_low")
    assert code == 1
    assert out.startswith("## temperature too low (80%")
    assert run([COLD], "--markdown", "-", "--json")[0] == 2
    assert run([COLD], "--markdown", "-", "--html", "-")[0] == 2


def test_a_wrong_cause_is_told_before_anything_is_measured():
    code = "import sys; from mdtree.cli import main\ntry: main(['diagnose', 'none.pt', '--fail-on', 'hot'])\n"
    code += "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "2 False\n", done.stderr


DOCS = Path(__file__).parents[2] / "docs" / "ci.md"
SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


@pytest.mark.slow
def test_the_commands_of_the_documented_workflow_run(tmp_path):
    """Both steps in a shell, as the runner calls them, on a network that is too hot."""
    steps = yaml.safe_load(re.search(r"```yaml\n(.+?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1])
    commands = [step["run"] for step in steps["jobs"]["diagnose"]["steps"] if "mdtree " in step.get("run", "")]
    assert len(commands) == 2
    for name, seed in (("run7.pt", ""), ("run8.pt", ".sibling")):
        shutil.copy(SAMPLES / f"temperature_too_high-1{seed}.pt", tmp_path / name)
    program = tmp_path / "mdtree"
    program.write_text(f"#!{sys.executable}\nfrom mdtree.cli import main\nmain()\n")
    program.chmod(0o755)
    known = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "GITHUB_STEP_SUMMARY": "summary.md",
    }
    done = [
        subprocess.run(
            ["bash", "-e", "-c", command], cwd=tmp_path, env=known, capture_output=True, text=True, timeout=120
        )
        for command in commands
    ]
    assert [one.returncode for one in done] == [1, 0], done[-1].stderr
    assert done[0].stderr.endswith("mdtree: --fail-on: run7.pt is temperature too high (82%)\n")
    assert json.loads((tmp_path / "diagnosis.json").read_text())["verdict"] == "temperature_too_high"
    assert "temperature too high" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "report.html").exists()
