"""`mdtree zoo ...`: build and label reference zoos."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pandas as pd

from mdtree.cli.progress import progress_bar
from mdtree.modeldiagnosis import read_public_table
from mdtree.room import label_zoo
from mdtree.zoo import LABEL_COLUMNS, read_zoo, write_zoo

_FOREIGN = {"modeldiagnosis": read_public_table}
"""Format of a foreign table -> what reads it as a zoo."""


@click.group("zoo")
def zoo_group() -> None:
    """Reference zoos of trained networks."""


@zoo_group.command("build")
@click.argument("specification", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The zoo table (CSV).")
@click.option("--workers", type=int, default=-1, show_default=True, help="Processes, one thread each; -1: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build_command(specification: Path, output: Path, workers: int, as_json: bool) -> int:
    """Train, measure and label the grid of SPECIFICATION (TOML). Safe to kill: run it again and it goes on."""
    from mdtree.grid import build_zoo
    from mdtree.grid_spec import read_spec

    spec = read_spec(specification)
    with progress_bar(f"zoo {spec.family}") as show:
        result = build_zoo(
            spec,
            output,
            workers=workers,
            progress=lambda p: show(f"{p.done}/{p.total} networks {p.block}", p.done / p.total),
        )
    values = {"table": str(output), "rows": result.rows, "trained": result.trained}
    click.echo(json.dumps(values) if as_json else f"{output}: {result.rows} networks, {result.trained} trained now")
    return 0


@zoo_group.command("label")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The labelled table (CSV).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def label_command(table: Path, output: Path, as_json: bool) -> int:
    """Compute rooms for improvement and labels of a measured table anew."""
    labelled = label_zoo(read_zoo(table, labelled=False))
    write_zoo(labelled, output)
    _show_labels(labelled, output, as_json)
    return 0


@zoo_group.command("import")
@click.argument("source_format", metavar="FORMAT", type=click.Choice(list(_FOREIGN)))
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The zoo table (CSV).")
@click.option("--label-noise", type=float, help="Share of wrong training labels, where FILE does not say it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_command(source_format: str, source: Path, output: Path, label_noise: float | None, as_json: bool) -> int:
    """Turn a published table into a zoo table, with the labels it came with.

    FORMAT modeldiagnosis: the public table of the MD tree paper (Zhou et al. 2024), means over seeds.
    """
    frame = _FOREIGN[source_format](source, label_noise=label_noise)
    write_zoo(frame, output)
    _show_labels(frame, output, as_json)
    return 0


def _show_labels(labelled: pd.DataFrame, output: Path, as_json: bool) -> None:
    """Number of rows, and how many carry each label."""
    counts = {name: labelled[name].value_counts().sort_index().to_dict() for name in LABEL_COLUMNS}
    if as_json:
        click.echo(json.dumps({"table": str(output), "rows": len(labelled), "labels": counts}, indent=1))
        return
    rows = "cells, means over seeds" if labelled["seed"].isna().all() else "networks"
    click.echo(f"{output}: {len(labelled)} {rows}")
    for name, of_label in counts.items():
        click.echo(f"  {name}: " + ", ".join(f"{label} {count}" for label, count in of_label.items()))


@zoo_group.command("sample")
@click.argument("specification", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the checkpoints.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the shuffle of held-out cells.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sample_command(specification: Path, table: Path, output: Path, seed: int, as_json: bool) -> int:
    """Retrain held-out cells with a clear cause and save them as checkpoints named by it."""
    from mdtree.grid_spec import read_spec
    from mdtree.samples import draw_samples, write_samples

    spec = read_spec(specification)
    drawn = draw_samples(read_zoo(table), seed)
    with progress_bar("checkpoints") as show:
        rows = write_samples(spec, drawn, output, progress=show)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        click.echo(f"{row['file']}: cell {row['cell']}")
    return 0
