"""`mdtree diagnose` and `mdtree measure`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from landscape import Execution, LandscapeError, Protocol
from mdtree.checkpoint_set import diagnose_set
from mdtree.cli.progress import progress_bar
from mdtree.cli.reporting import STANDARD_OUTPUT, report_options, write_reports
from mdtree.diagnoser import default_diagnoser, read_diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.fail_on import FailOn, parse_fail_on
from mdtree.record import Record, read_record
from mdtree.report_words import name_of, words
from mdtree.terminal_look import look_of
from mdtree.terminal_report import comparison_text, diagnosis_text, record_text

FAILED = 1
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
                 "package.module:factory?width=16, timm:NAME, torchvision:NAME, transformers:DIR."),
    click.option("--data", metavar="SPEC", help="Its data, where the checkpoint does not say: npz:FILE.npz, "
                 "safetensors:FILE, package.module:function, imagefolder:DIR, text:FILE.csv, hf:NAME, "
                 "parquet:FILE?image=COLUMN."),
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
@click.option(
    "--fail-on",
    metavar="CAUSE[,CAUSE]",
    help="Exit with 1 if this is the verdict, of any checkpoint: temperature_too_high, temperature_too_low, "
    "model_too_small, too_little_data, healthy; undetermined where asked for.",
)
@click.option(
    "--min-confidence", type=float, metavar="P", help="Probability (0...1) that a cause of --fail-on must have."
)
@report_options
def diagnose_command(
    checkpoints: tuple[Path, ...],
    diagnoser: Path | None,
    strict: bool,
    fail_on: str | None,
    min_confidence: float | None,
    html: str | None,
    markdown: str | None,
    **inputs: Any,
) -> int:
    """Say why a network disappoints, and what to change.

    CHECKPOINT is a file or a folder that training saved (see `mdtree check`), or a record saved by `mdtree measure
    --json`. Eight or more of one task are diagnosed as a set: where a network stands among them counts beside its own
    numbers.
    """
    failing = _failing(fail_on, min_confidence)
    printed = STANDARD_OUTPUT in (html, markdown)
    if printed and (inputs["as_json"] or html == markdown):
        raise InputError("two reports would be printed", "one of --json, --html - and --markdown -", "name a file")
    judge = read_diagnoser(diagnoser) if diagnoser else default_diagnoser()
    diagnoses = diagnose_set(judge, [_record(path, inputs) for path in checkpoints])
    if inputs["as_json"]:
        _print_json([d.to_dict() for d in diagnoses])
    elif not printed:
        look = look_of(sys.stdout)
        parts = [diagnosis_text(d, look) for d in diagnoses]
        parts += [comparison_text(diagnoses, look)] if len(diagnoses) > 1 else []
        click.echo("\n\n\n".join(parts), color=look.colour)
    write_reports(diagnoses, judge, html=html, markdown=markdown)
    return _exit_code(diagnoses, failing, strict)


def _failing(causes: str | None, min_confidence: float | None) -> FailOn | None:
    if causes is not None:
        return parse_fail_on(causes, min_confidence)
    if min_confidence is not None:
        raise InputError("--min-confidence without --fail-on", "both", "say which causes are to fail")
    return None


def _exit_code(diagnoses: Sequence[Diagnosis], failing: FailOn | None, strict: bool) -> int:
    matched = failing.matched(diagnoses) if failing else []
    for d in matched:
        click.echo(f"mdtree: --fail-on: {name_of(d.record)} is {words(d.verdict)} ({d.confidence:.0%})", err=True)
    if matched:
        return FAILED
    return STRICT_UNDETERMINED if strict and any(d.verdict == "undetermined" for d in diagnoses) else 0


@click.command("measure")
@_with_inputs
def measure_command(checkpoints: tuple[Path, ...], as_json: bool, **inputs: Any) -> int:
    """Measure the loss landscape of a checkpoint: Hessian, connectivity, similarity."""
    records = [_record(path, inputs) for path in checkpoints]
    if as_json:
        _print_json([r.to_dict() for r in records])
    else:
        look = look_of(sys.stdout)
        click.echo("\n\n\n".join(record_text(r, look) for r in records), color=look.colour)
    return 0


def _print_json(values: list[dict[str, Any]]) -> None:
    """One object for one checkpoint, a list in the order given for several."""
    click.echo(json.dumps(values[0] if len(values) == 1 else values, indent=1, ensure_ascii=False))


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
