"""`mdtree verify-advice`: make the advised changes for real, and see what they bring."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mdtree.cli.progress import progress_bar
from mdtree.diagnoser import read_diagnoser
from mdtree.zoo import EVIDENCE, read_zoo

_WHERE = [
    click.option("--workers", type=int, default=-1, show_default=True,
                 help="Processes, one thread each; -1: all cores."),
    click.option("--backend", type=click.Choice(["loky", "dask", "ray"]), default="loky", show_default=True,
                 help="Where networks are trained: processes of this machine, or a cluster that is there."),
    click.option("--scheduler", default="", metavar="ADDRESS", help="Of the cluster, such as tcp://host:8786."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                 help="auto: a CUDA device where there is one."),
]  # fmt: skip

_DRAWN = [
    click.option("-n", "cells", type=click.IntRange(1), default=40, show_default=True, help="Cells drawn."),
    click.option("--seeds", type=click.IntRange(1), default=3, show_default=True,
                 help="Half of the fresh seeds of every configuration: the best change is chosen on one half."),
    click.option("--draw", type=click.IntRange(0), default=0, show_default=True, metavar="SEED",
                 help="Draws the cells."),
    click.option("--evidence", type=click.Choice(EVIDENCE), default="sibling_test", show_default=True,
                 help="Which stored metrics the diagnosis sees."),
]  # fmt: skip


def _with_options(command: Any) -> Any:
    for option in reversed([*_DRAWN, *_WHERE]):
        command = option(command)
    return command


@click.command("verify-advice")
@click.argument("diagnoser", type=click.Path(path_type=Path))
@click.argument("specification", type=click.Path(path_type=Path))
@click.argument("zoo", type=click.Path(path_type=Path))
@_with_options
@click.option(
    "--baselines",
    "training",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="ZOO",
    help="A zoo the baselines are fitted on (repeatable); by default ZOO without its held-out cells.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Table of the trainings (CSV); default: the name of ZOO with .interventions.csv, here.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")  # fmt: skip
def verify_advice_command(
    diagnoser: Path,
    specification: Path,
    zoo: Path,
    training: tuple[Path, ...],
    output: Path | None,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> int:
    """Retrain cells of ZOO with the change that DIAGNOSER advises, and with its rivals.

    ZOO is the table built from SPECIFICATION (TOML). Safe to kill: run it again and it goes on.
    """
    from mdtree.backends import Backend
    from mdtree.intervention import InterventionOptions, plan_interventions
    from mdtree.intervention_json import verified_to_dict
    from mdtree.intervention_scores import score_interventions
    from mdtree.intervention_text import verified_text
    from mdtree.retraining import cost_of, group_trials, retrain
    from mdtree.spec_file import read_spec

    backend = Backend(how["backend"], how["workers"], how["scheduler"])
    options = InterventionOptions(how["cells"], how["seeds"], how["draw"], how["evidence"])
    judge, spec, table = read_diagnoser(diagnoser), read_spec(specification), read_zoo(zoo)
    plan = plan_interventions(judge, spec, table, options, [read_zoo(path) for path in training])
    trials = group_trials(spec, plan.cells, plan.seeds)
    cost = cost_of(trials)
    words = (
        f"{len(plan.cases)} cells: {cost.configurations} configurations from {len(plan.seeds)} fresh seeds each, "
        f"{cost.networks} networks ({cost.stacked} in stacks), {cost.updates} updates in all"
    )
    if dry_run:
        click.echo(json.dumps({"cells": len(plan.cases), **asdict(cost)}) if as_json else words)
        return 0
    click.echo(words, err=True)
    with progress_bar(f"advice on {spec.family}") as show:
        errors = retrain(
            trials,
            output or Path(f"{zoo.stem}.interventions.csv"),
            backend=backend,
            device=how["device"],
            progress=show,
        )
    verified = score_interventions(plan, errors)
    click.echo(json.dumps(verified_to_dict(verified), indent=1) if as_json else verified_text(verified))
    return 0
