"""What every command line owes its users: examples in the help, the nearest name for a wrong one, versions."""

from __future__ import annotations

import difflib
import json
import platform
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import click

from mdtree import __version__

SUMMARIES = {
    "diagnose": "Why a network disappoints, and what to change.",
    "measure": "Its loss landscape in numbers.",
    "report": "Write saved measurements as a page, or as Markdown.",
    "check": "What can be measured of a checkpoint, in seconds.",
    "layers": "The spectrum of each layer's weights, without data.",
    "zoo": "Build, measure, label and describe reference zoos.",
    "train": "Fit a diagnoser on zoo tables.",
    "evaluate": "Score a diagnoser on a zoo table, beside baselines.",
    "transfer": "Leave parts of the zoos out in turn and ask about them.",
    "verify-advice": "Retrain networks with the change that is advised.",
    "cache": "The measurements kept between runs.",
    "benchmark": "Public tables that others can check against.",
    "serve": "Diagnoses over HTTP, with a queue and a page.",
    "schema": "The JSON schema of what a command prints with --json.",
}
"""What `mdtree --help` says of its commands: none is imported for it."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "diagnose": (
        ("mdtree diagnose run7.pt --sibling run8.pt", "the same training from two seeds"),
        ("mdtree diagnose weights.pt --model mlp?width=32 --data npz:data.npz", "a file that says neither"),
        ("mdtree diagnose *.pt --json > diagnoses.json", "several: a JSON list"),
        ("mdtree diagnose run7.pt --html report.html --markdown report.md", "as a page, and for a pull request"),
        ("mdtree diagnose run7.pt --fail-on temperature_too_high --min-confidence 0.7", "exit 1 in a pipeline"),
    ),
    "measure": (
        ("mdtree measure run7.pt", "the numbers alone"),
        ("mdtree measure run7.pt --json > record.json", "to be diagnosed anywhere, without torch"),
        ("mdtree measure run7.pt --precision 0.03 --device cuda", "smaller errors, on a GPU"),
    ),
    "report": (
        ("mdtree report record.json", "a page beside it: record.html"),
        ("mdtree report a.json b.json --html comparison.html", "several become one comparison"),
        ('mdtree report record.json --markdown - >> "$GITHUB_STEP_SUMMARY"', "for a pull request"),
    ),
    "check": (
        ("mdtree check run7.pt", "what can be measured of it, and what is missing"),
        ("mdtree check outputs/checkpoint-500 --data npz:data.npz", "a folder that training saved"),
    ),
    "layers": (
        ("mdtree layers run7.pt", "needs no data"),
        ("mdtree layers model.safetensors --json", ""),
    ),
    "train": (
        ("mdtree train my_zoo.csv -o my_diagnoser.json", "on one family"),
        ("mdtree train zoo_samples/*.csv -o all.json", "on several together"),
    ),
    "evaluate": (
        ("mdtree evaluate my_diagnoser.json my_zoo.csv", "on the cells it held out"),
        ("mdtree evaluate my_diagnoser.json other_zoo.csv --split all --json", ""),
    ),
    "transfer": (
        ("mdtree transfer zoo_samples/*.csv --leave-out data_set", "each data set in turn"),
        ("mdtree transfer my_zoo.csv --leave-out scale --workers 4", ""),
    ),
    "verify-advice": (
        ("mdtree verify-advice my_diagnoser.json my_zoo.toml my_zoo.csv --dry-run", "what it would take"),
        ("mdtree verify-advice my_diagnoser.json my_zoo.toml my_zoo.csv -n 20", "twenty cells"),
    ),
    "zoo build": (
        ("mdtree zoo build my_zoo.toml --dry-run", "networks, time and memory"),
        ("mdtree zoo build my_zoo.toml -o my_zoo.csv", "goes on where it was interrupted"),
    ),
    "zoo import": (("mdtree zoo import modeldiagnosis dataframe_normal_public.csv -o public.csv", ""),),
    "zoo sample": (("mdtree zoo sample my_zoo.toml my_zoo.csv -o checkpoints", ""),),
    "zoo status": (("mdtree zoo status my_zoo.csv", "from another terminal, while it builds"),),
    "zoo summary": (("mdtree zoo summary zoo_samples/digits_mlp.csv", ""),),
    "zoo measure": (
        ("mdtree zoo measure runs.csv -o zoo.csv --model my_runs:net --data my_runs:data", "checkpoints you have"),
    ),
    "zoo label": (
        ("mdtree zoo label table.csv --columns map.toml -o zoo.csv", "metrics measured elsewhere"),
        ("mdtree zoo label my_zoo.csv -o relabelled.csv", "rooms and labels anew"),
    ),
    "cache info": (("mdtree cache info", ""),),
    "cache clear": (("mdtree cache clear", ""),),
    "benchmark modeldiagnosis": (
        ("mdtree benchmark modeldiagnosis tables --figures figures", "the two CSV files of the paper in tables/"),
    ),
    "serve": (
        ("mdtree serve", "for yourself: then open http://127.0.0.1:8080"),
        ("mdtree serve --port 0 --workers 2 --data-dir diagnoses", "its first line says where"),
        ("mdtree serve --host 0.0.0.0 --tokens tokens.toml --allow-host mdtree.example.org", "for a team"),
    ),
    "schema": (("mdtree schema diagnose > diagnosis.schema.json", ""),),
}
"""Command -> what to type, and when."""

COMPLETION = (
    'bash: eval "$(_MDTREE_COMPLETE=bash_source mdtree)"   in ~/.bashrc',
    'zsh:  eval "$(_MDTREE_COMPLETE=zsh_source mdtree)"    in ~/.zshrc',
    "fish: _MDTREE_COMPLETE=fish_source mdtree | source   in config.fish",
)
"""How a shell learns to complete commands and options."""


def with_examples(command: click.Command, name: str) -> click.Command:
    """Put the examples of a command, and of all commands of a group, below its help."""
    if isinstance(command, click.Group):
        for inner, each in command.commands.items():
            with_examples(each, f"{name} {inner}")
    if name in EXAMPLES and not command.epilog:
        command.epilog = examples_text(EXAMPLES[name])
    return command


def examples_text(examples: tuple[tuple[str, str], ...]) -> str:
    """Examples as an epilog that click does not wrap: commands in lines of their own, and when to use them above."""
    lines = ["\b", "Examples:"]
    for line, note in examples:
        lines += [f"  # {note}"] if note else []
        lines.append(f"  {line}")
    return "\n".join(lines)


def app_epilog() -> str:
    """What stands below `mdtree --help`: where to begin, and completion."""
    return "\n".join(
        [
            "\b",
            "Begin with:",
            "  mdtree check run7.pt                        # what can be measured of it",
            "  mdtree diagnose run7.pt --sibling run8.pt   # why it disappoints",
            "",
            "\b",
            "Completion:",
            *(f"  {line}" for line in COMPLETION),
        ]
    )


def nearest(name: str, names: list[str]) -> str:
    """The name most like a wrong one, as a question to the user; empty where none is like it."""
    near = difflib.get_close_matches(name.lower(), names, 1, 0.5)
    return f"Did you mean '{near[0]}'?" if near else ""


def version_text() -> str:
    """The versions a report of a defect needs: mdtree, Python, torch, the protocol, and the embedded diagnoser."""
    from landscape import Protocol

    text = (files("mdtree") / "data_files" / "reference.json").read_bytes()
    diagnoser = json.loads(text)
    zoo = diagnoser["zoo"]
    rows = [
        ("python", platform.python_version()),
        *((name, _version(name)) for name in ("torch", "numpy", "scikit-learn")),
        ("protocol", Protocol().digest()),
        ("diagnoser", f"{diagnoser['name']} {sha256(text).hexdigest()[:12]} ({zoo['rows']:,} networks)"),
    ]
    return "\n".join([f"mdtree {__version__}", *(f"  {name:<13}{value}" for name, value in rows)])


def _version(distribution: str) -> str:
    """As installed; nothing is imported."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
