"""`mdtree diagnose` and `mdtree measure`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mdtree.cli.progress import progress_bar
from mdtree.diagnoser import default_diagnoser, diagnose_record, read_diagnoser
from mdtree.record import Record, read_record
from mdtree.report import diagnosis_text, record_text

STRICT_UNDETERMINED = 4

_INPUTS = [
    click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT..."),
    click.option("--model", metavar="SPEC", help="The network, where the checkpoint does not say: mlp?width=16, "
                 "resnet18?width=64, package.module:factory?width=16."),
    click.option("--data", metavar="SPEC", help="Its data, where the checkpoint does not say: npz:FILE.npz, "
                 "digits?train=160, cifar10:DIR, idx:DIR, package.module:function."),
    click.option("--sibling", "siblings", multiple=True, type=click.Path(path_type=Path),
                 help="The same training from another seed (repeatable): enables connectivity and similarity."),
    click.option("--trust", is_flag=True, help="Call the functions that the checkpoint itself names to build its "
                 "network and load its data: only for files of your own."),
    click.option("--batch-size", type=click.IntRange(min=1), default=None, help="Samples measured at a time (memory)."),
    click.option("--device", default="cpu", show_default=True, help="Where to measure: cpu, cuda."),
    click.option("--backend", type=click.Choice(["native", "pyhessian"]), default="native", show_default=True,
                 help="pyhessian: numbers comparable with published ones (eigenvalue by magnitude, trace)."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
]  # fmt: skip


def _with_inputs(command: Any) -> Any:
    for option in reversed(_INPUTS):
        command = option(command)
    return command


@click.command("diagnose")
@_with_inputs
@click.option("--diagnoser", type=click.Path(path_type=Path), help="A diagnoser made by `mdtree train`.")
@click.option("--strict", is_flag=True, help="Exit with 4 if the verdict is undetermined.")
def diagnose_command(
    checkpoints: tuple[Path, ...], diagnoser: Path | None, strict: bool, as_json: bool, **inputs: Any
) -> int:
    """Say why a network disappoints, and what to change.

    CHECKPOINT is a .pt or .safetensors file, or a record saved by `mdtree measure --json`.
    """
    judge = read_diagnoser(diagnoser) if diagnoser else default_diagnoser()
    diagnoses = [diagnose_record(judge, _record(path, inputs)) for path in checkpoints]
    if as_json:
        values = [d.to_dict() for d in diagnoses]
        click.echo(json.dumps(values[0] if len(values) == 1 else values, indent=1, ensure_ascii=False))
    else:
        click.echo("\n\n\n".join(diagnosis_text(d) for d in diagnoses))
    return STRICT_UNDETERMINED if strict and any(d.verdict == "undetermined" for d in diagnoses) else 0


@click.command("measure")
@_with_inputs
def measure_command(checkpoints: tuple[Path, ...], as_json: bool, **inputs: Any) -> int:
    """Measure the loss landscape of a checkpoint: Hessian, connectivity, similarity."""
    records = [_record(path, inputs) for path in checkpoints]
    if as_json:
        values = [r.to_dict() for r in records]
        click.echo(json.dumps(values[0] if len(values) == 1 else values, indent=1, ensure_ascii=False))
    else:
        click.echo("\n\n\n".join(record_text(r) for r in records))
    return 0


def _record(path: Path, inputs: dict[str, Any]) -> Record:
    if path.suffix == ".json":
        return read_record(path)
    # torch takes a second to import: a saved record is diagnosed without it
    from landscape.protocol import Execution, Protocol
    from mdtree.diagnose import Sources, measure

    execution = Execution(device=inputs["device"])
    if inputs["batch_size"] is not None:
        execution = replace(execution, batch_size=inputs["batch_size"])
    sources = Sources(inputs["model"], inputs["data"], inputs["siblings"], inputs["trust"])
    with progress_bar(path.name) as progress:
        return measure(
            path, sources, protocol=Protocol(backend=inputs["backend"]), execution=execution, progress=progress
        )
