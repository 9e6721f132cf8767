"""`mdtree check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


@pytest.fixture
def stranger(tmp_path) -> Path:
    """A file that says nothing but its weights."""
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(64, 10).state_dict(), path)
    return path


def test_a_ready_checkpoint_and_the_command_it_prints(run):
    code, out, err = run("check", SAMPLES / "healthy-1.pt", "--sibling", SAMPLES / "healthy-1.sibling.pt")
    assert (code, err) == (0, "")
    assert "Can be measured: 28 of 28 metrics (evidence: sibling, test)" in out
    command = shlex.split(out.splitlines()[-1].removeprefix("  run"))
    assert command[:3] == ["mdtree", "diagnose", str(SAMPLES / "healthy-1.pt")]
    code, out, _ = run(*command[1:], "--no-cache")
    assert code == 0
    assert "healthy" in out


def test_a_file_that_opens_but_needs_more_exits_with_0(run, stranger):
    code, out, err = run("check", stranger)
    assert (code, err) == (0, "")
    assert "Missing: the network" in out
    assert "Missing: the data" in out
    assert f"mdtree diagnose {stranger} --model nets:make" in " ".join(out.split())


def test_what_is_named_by_hand_is_used(run, stranger):
    code, out, _ = run("check", stranger, "--model", "mlp?depth=0", "--data", "digits")
    assert code == 0
    assert "(--data)" in out
    code, out, _ = run("check", stranger, "--data", "digits?trian=3")
    assert code == 0
    assert "unknown option 'trian' of digits" in " ".join(out.split())


def test_json(run, stranger):
    code, out, err = run("check", "--json", SAMPLES / "healthy-1.pt")
    values = json.loads(out)
    assert (code, err) == (0, "")
    assert values["ready"] is True
    assert values["evidence"] == "alone_test"
    assert values["plausible"]["samples"] == 650
    assert values["cost"]["sample_gradients"][0] > 30_000
    code, out, _ = run("check", "--json", stranger)
    values = json.loads(out)
    assert code == 0
    assert values["ready"] is False
    assert [each["what"] for each in values["missing"] if each["needed"]] == ["the network", "the data"]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_does_not_open_exits_with_2_and_one_line(run, tmp_path, content):
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    for words in (("check", path), ("check", SAMPLES / "healthy-1.pt", "--sibling", path)):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert err.startswith("mdtree: ")
        assert err.count("\n") == 1


def test_a_batch_of_nothing_exits_with_2_and_an_unknown_device_is_missing(run):
    code, _, err = run("check", SAMPLES / "healthy-1.pt", "--batch-size", "0")
    assert (code, err.count("\n")) == (2, 1)
    code, out, _ = run("check", SAMPLES / "healthy-1.pt", "--device", "toaster")
    assert code == 0
    assert "the device 'toaster' cannot be used" in " ".join(out.split())


def test_help_needs_no_torch():
    code = "import sys; from mdtree.cli import main\ntry: main(['check', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True)
    assert "CHECKPOINT" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_it_is_listed(run):
    assert "check" in run("--help")[1]
