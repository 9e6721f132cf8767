"""`mdtree benchmark`: the public yardstick."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdtree.cli.progress import progress_bar


@click.group("benchmark")
def benchmark_group() -> None:
    """Public tables that others can check against."""


@benchmark_group.command("modeldiagnosis")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--method", "methods", multiple=True, help="Only this method (may be repeated); all by default.")
@click.option(
    "--figures", type=click.Path(path_type=Path), help="Folder for the learning curves and calibration (PNG)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def modeldiagnosis_command(folder: Path, methods: tuple[str, ...], figures: Path | None, as_json: bool) -> int:
    """Compare all methods on the public table of the MD tree paper: the two CSV files in FOLDER.

    Fitted on the networks with clean labels, asked about those trained with 10 % wrong labels; seven cases, five
    seeds, the one-step change, the verdict on and off the grid, and when to abstain.
    """
    from mdtree.public_benchmark import read_collections, run_benchmark
    from mdtree.public_benchmark_text import benchmark_text

    tables = read_collections(folder)
    if figures is not None:
        from mdtree.public_benchmark_plots import make_folder, write_figures

        make_folder(figures)
    with progress_bar("benchmark") as show:
        result = run_benchmark(tables, methods, show)
        if figures is not None:
            from mdtree.learning_curves import learning_curves

            points = learning_curves(tables.clean, tables.noisy, progress=show)
            write_figures(figures, points, result["abstention"])
            result["learning_curves"] = [vars(point) for point in points]
    click.echo(json.dumps(result, indent=1) if as_json else benchmark_text(result))
    return 0
