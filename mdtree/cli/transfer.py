"""`mdtree transfer`: does the diagnosis hold on what the zoos do not hold?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdtree.cli.progress import progress_bar


@click.command("transfer")
@click.argument("zoos", metavar="ZOO...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--leave-out",
    type=click.Choice(["data_set", "family", "architecture", "scale"]),
    required=True,
    help="What is left out in turn: a data set with all its families, a family, an architecture; or, inside each "
    "family, wider networks, more data, and all but 50 cells.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the 50 cells.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes, one thread each; -1: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def transfer_command(zoos: tuple[Path, ...], leave_out: str, seed: int, workers: int, as_json: bool) -> int:
    """Fit on the tables ZOO... less a part, ask about the part, beside the simplest answers; each part in turn."""
    from mdtree.transfer_text import gap_lines, transfer_text
    from mdtree.zoo_parts import read_zoos
    from mdtree.zoo_transfer import run_transfer

    frame = read_zoos(zoos)
    with progress_bar("transfer") as show:
        result = run_transfer(frame, leave_out, seed=seed, workers=workers, progress=show)
    if as_json:
        for line in gap_lines(result):
            click.echo(line, err=True)
        click.echo(json.dumps(result.to_dict(), indent=1))
        return 0
    click.echo(transfer_text(result))
    return 0
