"""`mdtree zoo ...`: build and label reference zoos."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

from mdtree.cli.progress import progress_bar
from mdtree.cli.zoo_runs import label_command, measure_command
from mdtree.cli.zoo_show import status_command, summary_command
from mdtree.errors import InputError
from mdtree.modeldiagnosis import read_public_table
from mdtree.zoo import LABEL_COLUMNS, read_zoo, write_zoo

if TYPE_CHECKING:  # both need torch
    from mdtree.backends import Backend
    from mdtree.grid_spec import ZooSpec

_FOREIGN = {"modeldiagnosis": read_public_table}
"""Format of a foreign table -> what reads it as a zoo."""


@click.group("zoo")
def zoo_group() -> None:
    """Reference zoos of trained networks."""


for _command in (status_command, summary_command, measure_command, label_command):
    zoo_group.add_command(_command)


@zoo_group.command("build")
@click.argument("specification", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The zoo table (CSV).")
@click.option("--workers", type=int, default=-1, show_default=True, help="Processes, one thread each; -1: all cores.")
@click.option(
    "--backend",
    "backend_name",
    type=click.Choice(["loky", "dask", "ray"]),
    default="loky",
    show_default=True,
    help="Where networks are trained and measured: processes of this machine, or a cluster that is there.",
)
@click.option("--scheduler", default="", metavar="ADDRESS", help="Of the cluster, such as tcp://host:8786.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a CUDA device where there is one.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build_command(
    specification: Path,
    output: Path | None,
    workers: int,
    backend_name: str,
    scheduler: str,
    device: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Train, measure and label the grid of SPECIFICATION (TOML). Safe to kill: run it again and it goes on."""
    from mdtree.backends import Backend
    from mdtree.grid import build_zoo
    from mdtree.spec_file import read_spec

    spec, backend = read_spec(specification), Backend(backend_name, workers, scheduler)
    if dry_run:
        return _show_cost(spec, backend, as_json)
    if output is None:
        raise InputError("no output", "-o TABLE.csv", "or ask with --dry-run what the zoo would take")
    with progress_bar(f"zoo {spec.family}") as show:
        result = build_zoo(
            spec,
            output,
            backend=backend,
            device=device,
            progress=lambda p: show(f"{p.done}/{p.total} networks {p.unit}", p.done / p.total),
        )
    values = {"table": str(output), "rows": result.rows, "trained": result.trained}
    click.echo(json.dumps(values) if as_json else f"{output}: {result.rows} networks, {result.trained} trained now")
    return 0


def _show_cost(spec: ZooSpec, backend: Backend, as_json: bool) -> int:
    from mdtree.build_cost import build_cost

    with progress_bar(f"zoo {spec.family}, a trial") as show:
        cost = build_cost(spec, backend, progress=show)
    if as_json:
        click.echo(json.dumps({"family": spec.family, **asdict(cost)}, indent=1))
        return 0
    click.echo(
        f"{spec.family}: {cost.networks} networks in {cost.cells} cells, {cost.stacked} of them trained in stacks\n"
        f"about {minutes(cost.train_seconds)} of training and {minutes(cost.measure_seconds)} of measuring on one "
        f"core; {minutes(cost.wall_seconds)} with {cost.workers} workers\n"
        f"about {cost.memory_bytes / 2**30:.1f} GiB of memory in all"
    )
    return 0


def minutes(seconds: float) -> str:
    """A time as people say it: seconds, minutes or hours, two digits."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


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
    from mdtree.samples import draw_samples, write_samples
    from mdtree.spec_file import read_spec

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
