"""`mdtree zoo measure` and `mdtree zoo label`: zoos out of runs and tables that exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pandas as pd

from mdtree.cli.progress import progress_bar
from mdtree.column_map import read_column_map, read_mapped
from mdtree.room import label_zoo
from mdtree.supported_questions import YES, label_supported, supported_questions
from mdtree.zoo import LABEL_COLUMNS, read_zoo, write_zoo


@click.command("measure")
@click.argument("runs", metavar="RUNS", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The zoo table (CSV).")
@click.option(
    "--model", metavar="SPEC", help="The network, where RUNS has no column model; {column} stands for a line's value."
)
@click.option("--data", metavar="SPEC", help="Its data, where RUNS has no column data; {column} likewise.")
@click.option(
    "--trust", is_flag=True, help="Call the functions that the checkpoints themselves name: only for files of your own."
)
@click.option(
    "--held-out", type=float, default=0.0, metavar="SHARE", help="Share of the cells set aside for `mdtree evaluate`."
)
@click.option("--workers", type=int, default=-1, show_default=True, help="Processes, one thread each; -1: all cores.")
@click.option(
    "--backend",
    type=click.Choice(["loky", "dask", "ray"]),
    default="loky",
    show_default=True,
    help="Where cells are measured: processes on this machine, or a cluster.",
)
@click.option("--scheduler", default="", metavar="ADDRESS", help="Of the cluster, such as tcp://host:8786.")
@click.option("--device", default="cpu", show_default=True, help="Where to measure: cpu, cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def measure_command(
    runs: Path,
    output: Path,
    model: str | None,
    data: str | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Make a zoo out of checkpoints that exist. Safe to kill: run it again and it goes on.

    RUNS (CSV) has one line per checkpoint: path (relative to RUNS), seed, and what was varied: learning_rate,
    batch_size, temperature, width, train_size. Lines that differ in the seed alone are one cell. Optional: family,
    data_set, architecture, weight_decay, label_noise, optimizer, schedule, epochs, steps, budget, augmentation, model,
    data, diverged (1), and, where there are no test data, test_error_percent (0...100) or test_accuracy (all shares
    0...1 or all percents).
    """
    # torch takes a second to import: what is wrong with the table is said without it
    from mdtree.runs import read_runs

    table = read_runs(runs, model=model, data=data)
    from mdtree.backends import Backend
    from mdtree.measured_runs import measure_runs
    from mdtree.run_plan import RunOptions

    options = RunOptions(device=settings["device"], trust=settings["trust"], held_out_share=settings["held_out"])
    backend = Backend(settings["backend"], settings["workers"], settings["scheduler"])
    with progress_bar(f"zoo {runs.stem}") as show:
        result = measure_runs(table, output, options, backend=backend, progress=show)
    _show(result.table, output, result.questions, result.notices, as_json, measured=result.measured)
    return 0


@click.command("label")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The labelled table (CSV).")
@click.option(
    "--columns",
    type=click.Path(path_type=Path),
    metavar="MAP",
    help="A TOML file that says which columns of a foreign TABLE are ours.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def label_command(table: Path, output: Path, columns: Path | None, as_json: bool) -> int:
    """Compute rooms for improvement and labels of a measured table anew.

    TABLE is a zoo table, or, with --columns, any CSV of metrics, one row per network. MAP holds a section [columns]
    (our name = "theirs", or {column = "theirs", factor = -1, offset = 100, transform = "exp"}) and [constants].
    """
    if columns is None:
        labelled = label_zoo(read_zoo(table, labelled=False))
    else:
        labelled = label_supported(read_mapped(table, read_column_map(columns)))
    write_zoo(labelled, output)
    labelled = read_zoo(output)
    _show(labelled, output, supported_questions(labelled), (), as_json)
    return 0


def _show(
    labelled: pd.DataFrame,
    output: Path,
    questions: dict[str, str],
    notices: tuple[str, ...],
    as_json: bool,
    *,
    measured: int | None = None,
) -> None:
    """Number of rows and how many carry each label; on standard error what cannot be answered, and why."""
    counts = {name: labelled[name].value_counts().sort_index().to_dict() for name in LABEL_COLUMNS}
    for notice in notices:
        click.echo(f"note: {notice}", err=True)
    for question, answer in questions.items():
        if answer != YES:
            click.echo(f"cannot answer {question.replace('_', ' ')}: {answer}", err=True)
    if as_json:
        now = {} if measured is None else {"measured": measured}
        values = {"table": str(output), "rows": len(labelled), **now, "labels": counts, "questions": questions}
        click.echo(json.dumps({**values, "notices": list(notices)}, indent=1))
        return
    now_text = "" if measured is None else f", {measured} measured now"
    click.echo(f"{output}: {len(labelled)} networks{now_text}")
    for name, of_label in counts.items():
        click.echo(f"  {name}: " + ", ".join(f"{label} {count}" for label, count in of_label.items()))
