"""`mdtree diagnose` and `mdtree measure`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from landscape import Execution, LandscapeError, Protocol
from mdtree.checkpoint_set import diagnose_set
from mdtree.cli.progress import progress_bar
from mdtree.diagnoser import default_diagnoser, read_diagnoser
from mdtree.errors import InputError
from mdtree.record import Record, read_record
from mdtree.report import diagnosis_text, record_text

STRICT_UNDETERMINED = 4

_EXECUTION = {
    "device": "device",
    "dtype": "dtype",
    "batch_size": "batch_size",
    "threads": "threads",
    "budget_seconds": "budget",
}
"""Field of `Execution` -> the option that sets it."""

_INPUTS = [
    click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CHECKPOINT..."),
    click.option("--model", metavar="SPEC", help="The network, where the checkpoint does not say: mlp?width=16, "
                 "vit?width=32, package.module:factory?width=16."),
    click.option("--data", metavar="SPEC", help="Its data, where the checkpoint does not say: npz:FILE.npz, "
                 "digits?train=160, parquet:FILE?image=image&label=label, package.module:function."),
    click.option("--sibling", "siblings", multiple=True, type=click.Path(path_type=Path),
                 help="The same training from another seed (repeatable): enables connectivity and similarity."),
    click.option("--weights", metavar="NAME", help="Which weights, where a file holds several: model_ema, teacher."),
    click.option("--init", type=click.Path(path_type=Path), metavar="FILE", help="The checkpoint that training started "
                 "from, where that were no fresh weights: growth is measured against it."),
    click.option("--data-checked", is_flag=True, help="The data are right, although the network does not answer on "
                 "them as one that was trained on them."),
    click.option("--trust", is_flag=True, help="Call the functions that the checkpoint itself names to build its "
                 "network and load its data, and open programs of torch.export: only for files of your own."),
    click.option("--precision", type=float, help="Standard error of the logarithm of the Hessian's trace and top "
                 "eigenvalue at which no more samples are added; default 0.1."),
    click.option("--budget", type=float, metavar="SECONDS", help="Time for each checkpoint; what it cuts is flagged."),
    click.option("--batch-size", type=int, help="Samples measured at a time (memory); default 256."),
    click.option("--device", default="cpu", show_default=True, help="Where to measure: cpu, cuda."),
    click.option("--dtype", help="Precision of the arithmetic: float32 (default), float64."),
    click.option("--threads", type=int, help="CPU threads; default 1; 0: as many as torch takes."),
    click.option("--backend", type=click.Choice(["native", "pyhessian"]), default="native", show_default=True,
                 help="pyhessian: numbers comparable with published ones (eigenvalue by magnitude, trace)."),
    click.option("--no-cache", is_flag=True, help="Neither use nor keep measurements (see `mdtree cache`)."),
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

    CHECKPOINT is a file or a folder that training saved (see `mdtree check`), or a record saved by `mdtree measure
    --json`. Eight or more of one task are diagnosed as a set: where a network stands among them counts beside its own
    numbers.
    """
    judge = read_diagnoser(diagnoser) if diagnoser else default_diagnoser()
    diagnoses = diagnose_set(judge, [_record(path, inputs) for path in checkpoints])
    if as_json:
        values = [d.to_dict() for d in diagnoses]
        click.echo(json.dumps(values[0] if len(values) == 1 else values, indent=1, ensure_ascii=False))
    else:
        click.echo("\n\n\n".join(diagnosis_text(d) + _from_cache(d.record) for d in diagnoses))
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
        click.echo("\n\n\n".join(record_text(r) + _from_cache(r) for r in records))
    return 0


def _record(path: Path, inputs: dict[str, Any]) -> Record:
    if path.suffix == ".json":
        return read_record(path)
    # torch takes a second to import: a saved record is diagnosed without it
    from mdtree.diagnose import Sources, measure

    protocol, execution = _settings(inputs)
    sources = Sources(
        model=inputs["model"],
        data=inputs["data"],
        siblings=inputs["siblings"],
        trust=inputs["trust"],
        weights=inputs["weights"],
        init=inputs["init"],
        data_checked=inputs["data_checked"],
    )
    with progress_bar(path.name) as progress:
        return measure(
            path, sources, protocol=protocol, execution=execution, progress=progress, cache=not inputs["no_cache"]
        )


def _settings(inputs: dict[str, Any]) -> tuple[Protocol, Execution]:
    """The defaults, and what the command line says otherwise."""
    asked = {field: inputs[option] for field, option in _EXECUTION.items() if inputs[option] is not None}
    try:
        protocol = Protocol(backend=inputs["backend"])
        if inputs["precision"] is not None:
            protocol = replace(protocol, precision=inputs["precision"])
        return protocol, replace(Execution(), **asked)
    except LandscapeError as error:
        raise InputError(error.got, error.expected, error.mend) from error


def _from_cache(record: Record) -> str:
    """A line under a report whose numbers were kept from an earlier run."""
    kept = "\nNumbers kept from an earlier run; --no-cache measures the checkpoint again"
    return kept if record.cost.get("cached") else ""
