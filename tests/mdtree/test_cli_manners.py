"""Manners of the command line: examples that work, the nearest name, versions, completion, and clean interrupts."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from synthetic_zoo import synthetic_zoo
from tiny_zoo import SPECIFICATION

from mdtree import __version__
from mdtree.cli import app, main
from mdtree.cli.manners import COMPLETION, EXAMPLES, SUMMARIES
from mdtree.zoo import write_zoo

SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


def commands(group=app, prefix=""):
    """Name and command of every command that does something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands())
TYPED = [(name, line) for name, examples in EXAMPLES.items() for line, _ in examples]


def words_of(line):
    """What the shell hands on, without `mdtree` and redirections."""
    words = shlex.split(line)
    assert words[0] == "mdtree"
    end = next((place for place, word in enumerate(words) if word in (">", ">>")), None)
    return words[1:end]


@pytest.fixture
def run(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return end.value.code, *capsys.readouterr()

    return call


def test_every_command_has_a_summary_and_examples(run):
    assert set(SUMMARIES) == set(app.list_commands(click.Context(app)))
    assert set(COMMANDS) == set(EXAMPLES)
    _, out, _ = run("--help")
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", out, re.MULTILINE), "on one line, not cut"
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_them_as_they_are_typed(run, name):
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    assert "  Examples:" in out
    for line, note in EXAMPLES[name]:
        assert f"    {line}\n" in out
        assert not note or f"    # {note}\n" in out


@pytest.mark.parametrize(("name", "line"), TYPED)
def test_every_example_is_understood(name, line):
    words = words_of(line)
    depth = len(name.split())
    assert words[:depth] == name.split()
    context = COMMANDS[name].make_context(name, words[depth:])
    assert context.params


QUICK = [
    (name, line)
    for name, line in TYPED
    if name.split()[0] not in ("transfer", "verify-advice", "zoo", "benchmark", "serve")
    and not any(part in line for part in ("cuda", "checkpoint-500", "safetensors", "zoo_samples", "other_zoo"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the examples name."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from mdtree.diagnose import measure
    from mdtree.diagnoser import write_diagnoser
    from mdtree.fitting import fit_diagnoser
    from mdtree.models import build_model

    where = tmp_path_factory.mktemp("examples")
    for seed, name in (("", "run7.pt"), (".sibling", "run8.pt")):
        shutil.copy(SAMPLES / f"temperature_too_high-1{seed}.pt", where / name)
    x, y = load_digits(return_X_y=True)
    np.savez(where / "data.npz", x_train=(x[:200] / 16).astype("float32"), y_train=y[:200])
    model = build_model("mlp?width=32", num_classes=10, input_shape=(64,), seed=0)
    torch.save(model.state_dict(), where / "weights.pt")
    zoo = synthetic_zoo()
    write_zoo(zoo, where / "my_zoo.csv")
    write_diagnoser(fit_diagnoser(zoo, "mine"), where / "my_diagnoser.json")
    record = json.dumps(measure(where / "run7.pt").to_dict())
    for name in ("record.json", "a.json", "b.json"):
        (where / name).write_text(record)
    return where


@pytest.mark.parametrize(("name", "line"), QUICK)
def test_the_quick_examples_do_what_they_say(run, folder, monkeypatch, name, line):
    monkeypatch.chdir(folder)
    words = [part for word in words_of(line) for part in (["run7.pt", "run8.pt"] if word == "*.pt" else [word])]
    if "--model" in words:
        words.append("--data-checked")  # a network that nobody trained
    code, out, err = run(*words)
    assert code == (1 if "--fail-on" in words else 0), err
    assert out or err
    for place, word in enumerate(words):
        assert word not in ("-o", "--html", "--markdown") or words[place + 1] == "-" or Path(words[place + 1]).exists()


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["diagnos"], "diagnose"),
        (["mesure", "a.pt"], "measure"),
        (["verify_advice"], "verify-advice"),
        (["diagnose", "a.pt", "--siblin", "b.pt"], "--sibling"),
        (["diagnose", "a.pt", "--fail_on", "healthy"], "--fail-on"),
    ],
)
def test_the_nearest_name_is_suggested(run, words, suggested):
    code, _, err = run(*words)
    assert code == 2
    assert f"'{suggested}'" in err


def test_what_is_like_nothing_is_answered_without_a_guess(run):
    code, _, err = run("xyzzy")
    assert code == 2
    assert err.endswith("Error: No such command 'xyzzy'.\n")


def test_the_version_tells_what_a_report_of_a_defect_needs(run):
    import torch

    from landscape import Protocol

    code, out, _ = run("--version")
    assert code == 0
    first, *rest = out.splitlines()
    assert first == f"mdtree {__version__}"
    told = dict(line.split(maxsplit=1) for line in rest)
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["torch"] == torch.__version__
    assert told["protocol"] == Protocol().digest()
    assert re.fullmatch(r"reference [0-9a-f]{12} \([0-9,]+ networks\)", told["diagnoser"])


def test_version_and_help_start_no_torch():
    code = (
        "import sys\nfrom mdtree.cli import main\n"
        "for word in ('--version', '--help'):\n"
        "    try: main([word])\n"
        "    except SystemExit: pass\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


@pytest.fixture(scope="module")
def on_path(tmp_path_factory):
    """An environment in which `mdtree` is a command."""
    where = tmp_path_factory.mktemp("bin")
    command = where / "mdtree"
    command.write_text(f"#!{sys.executable}\nfrom mdtree.cli import main\nmain()\n")
    command.chmod(0o755)
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PATH": f"{where}:{os.environ['PATH']}", "PYTHONPATH": root}


def test_bash_completes_after_the_line_that_the_help_gives(on_path):
    line = re.search(r"eval .*\)\"", COMPLETION[0])[0]
    typed = "COMP_WORDS=(mdtree diag) COMP_CWORD=1"
    script = f'{line}\ncomplete -p mdtree\n{typed}\n_mdtree_completion mdtree\necho "$COMPREPLY"'
    done = subprocess.run(["bash", "-c", script], env=on_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["complete -o nosort -F _mdtree_completion mdtree", "diagnose"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_completes_options_too(on_path, shell):
    known = {
        **on_path,
        "_MDTREE_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "mdtree diagnose --fail",
        "COMP_CWORD": "2",
    }
    known["COMP_CWORD"] = "--fail" if shell == "fish" else "2"
    done = subprocess.run(["mdtree"], env=known, capture_output=True, text=True, timeout=60)
    assert "--fail-on" in done.stdout, done.stderr
    assert f"_MDTREE_COMPLETE={shell}_source" in "".join(COMPLETION)


INTERRUPTED = """
import os, signal, sys
# a shell's background jobs ignore SIGINT, and hand that on
signal.signal(signal.SIGINT, signal.default_int_handler)
import {module} as room
done = room.{name}
def interrupted(*given, **known):
    result = done(*given, **known)
    os.kill(os.getpid(), signal.SIGINT)
    return result
room.{name} = interrupted
from mdtree.cli import main
main(sys.argv[1:])
"""
"""A command that is interrupted right after a function of ours, or of the system, was first called."""


def interrupt(after, *words, folder):
    module, _, name = after.partition(":")
    code = INTERRUPTED.format(module=module, name=name)
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "words", "output", "before"),
    [
        ("os:fsync", ("train", "my_zoo.csv", "-o"), "mine.json", None),
        ("os:fsync", ("train", "my_zoo.csv", "-o"), "mine.json", "what was there"),
        ("mdtree.fitting:fit_diagnoser", ("train", "my_zoo.csv", "-o"), "mine.json", None),
        ("os:fsync", ("report", "record.json", "--markdown"), "report.md", "what was there"),
        ("os:fsync", ("zoo", "label", "my_zoo.csv", "-o"), "zoo.csv", None),
    ],
)
def test_ctrl_c_leaves_nothing_half_written(tmp_path, folder, after, words, output, before):
    """Interrupted in the middle of writing, or just before."""
    if before:
        (tmp_path / output).write_text(before)
    files = [str(folder / word) if "." in word else word for word in words]
    done = interrupt(after, *files, output, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (130, "mdtree: interrupted")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({output: before} if before else {})


@pytest.mark.slow
def test_ctrl_c_in_a_build_leaves_a_build_that_goes_on(tmp_path):
    (tmp_path / "tiny.toml").write_text(SPECIFICATION)
    words = ("zoo", "build", "tiny.toml", "-o", "tiny.csv", "--workers", "1", "--device", "cpu")
    done = interrupt("mdtree.unfinished_table:UnfinishedTable.add", *words, folder=tmp_path)
    assert done.returncode == 130, done.stderr
    assert not (tmp_path / "tiny.csv").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    again = subprocess.run(
        [sys.executable, "-m", "mdtree", *words, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    values = json.loads(again.stdout)
    assert 0 < values["trained"] < values["rows"], "what was finished is kept"
