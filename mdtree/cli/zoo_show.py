"""`mdtree zoo summary` and `mdtree zoo status`: what a zoo holds, and how far its build is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("summary")
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def summary_command(tables: tuple[Path, ...], as_json: bool) -> int:
    """What each family of labelled zoo TABLEs holds.

    Cells, networks, what the build took, counts per cause, what is too close to call, and how far labels repeat
    between two halves of the seeds.
    """
    from mdtree.zoo_summary import summarise_tables, summary_values
    from mdtree.zoo_summary_text import summary_text

    summaries = summarise_tables(tables)
    values = {"families": [summary_values(summary) for summary in summaries]}
    click.echo(json.dumps(values, indent=1) if as_json else summary_text(summaries))
    return 0


@click.command("status")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(table: Path, as_json: bool) -> int:
    """How far the build of TABLE is: units and networks done, rate, time left, and whether a builder is at work."""
    from mdtree.build_status import build_status
    from mdtree.zoo_summary_text import status_text

    status = build_status(table)
    click.echo(json.dumps(asdict(status), indent=1) if as_json else status_text(status))
    return 0
