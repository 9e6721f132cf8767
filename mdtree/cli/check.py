"""`mdtree check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from landscape import Execution, LandscapeError
from mdtree.cli.progress import progress_bar
from mdtree.errors import InputError


@click.command("check")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--model", metavar="SPEC", help="The network, where the checkpoint does not say.")
@click.option("--data", metavar="SPEC", help="Its data, where the checkpoint does not say.")
@click.option(
    "--sibling",
    "siblings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The same training from another seed (repeatable).",
)
@click.option("--weights", metavar="NAME", help="Which weights, where a file holds several: model_ema, teacher.")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The checkpoint that training started from, where that were no fresh weights.",
)
@click.option("--data-checked", is_flag=True, help="The data are right, whatever the network answers on them.")
@click.option("--trust", is_flag=True, help="Call the functions that the checkpoint itself names: only for your own.")
@click.option("--batch-size", type=int, help="Samples measured at a time (memory); default 256.")
@click.option("--device", default="cpu", show_default=True, help="Where to measure: cpu, cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(checkpoint: Path, batch_size: int | None, device: str, as_json: bool, **inputs: Any) -> int:
    """Say in seconds what can be measured of a checkpoint with what is given.

    What the file holds, which network and which data, whether the two belong together, what `mdtree diagnose` would
    take, and what is missing: why, and what to add. CHECKPOINT is a file or a folder that training saved.

    Exit code 0 when it opened, even if more is needed to measure; 2 when it did not.
    """
    # torch takes a second to import: `mdtree check --help` does without
    from mdtree.checking.check import check
    from mdtree.checking.check_text import check_text, check_values
    from mdtree.prepare import Sources

    try:
        execution = Execution(device) if batch_size is None else Execution(device, batch_size=batch_size)
    except LandscapeError as error:
        raise InputError(error.got, error.expected, error.mend) from error
    with progress_bar(checkpoint.name) as progress:
        report = check(checkpoint, Sources(**inputs), execution=execution, progress=progress)
    click.echo(json.dumps(check_values(report), indent=1, ensure_ascii=False) if as_json else check_text(report))
    return 0
