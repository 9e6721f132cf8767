"""`mdtree train` and `mdtree evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdtree.composition import COMPONENTS, is_composed
from mdtree.diagnoser import read_diagnoser, write_diagnoser
from mdtree.diagnoser_schema import diagnoser_to_dict
from mdtree.evaluation import evaluate
from mdtree.fitting import FitOptions, fit_diagnoser
from mdtree.nodes import text
from mdtree.report import scores_text
from mdtree.zoo import read_zoo
from mdtree.zoo_parts import read_zoos


@click.command("train")
@click.argument("zoos", nargs=-1, required=True, metavar="ZOO...", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where the diagnoser goes (JSON).")
@click.option("--depth", type=click.IntRange(1, 4), default=FitOptions.max_depth, show_default=True)
@click.option("--leaves", type=click.IntRange(2, 8), default=FitOptions.max_leaves, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the diagnoser as JSON instead of its trees.")
def train_command(zoos: tuple[Path, ...], output: Path, depth: int, leaves: int, as_json: bool) -> int:
    """Fit a diagnoser on one zoo table, or on several taken together; rows marked held_out are not used."""
    name = zoos[0].stem if len(zoos) == 1 else output.stem
    frame = read_zoo(zoos[0]) if len(zoos) == 1 else read_zoos(zoos)
    fitted = fit_diagnoser(frame, name, FitOptions(max_depth=depth, max_leaves=leaves))
    write_diagnoser(fitted, output)
    if as_json:
        click.echo(json.dumps(diagnoser_to_dict(fitted), indent=1, ensure_ascii=False))
        return 0
    tables = ", ".join(map(str, zoos))
    click.echo(f"{output}: fitted on {fitted.zoo['rows']} networks in {fitted.zoo['cells']} cells of {tables}")
    for evidence, verdict in fitted.trees["verdict"].items():
        click.echo(f"\nverdict, evidence {evidence}\n{text(verdict.tree)}")
        for question in COMPONENTS if is_composed(verdict.tree) else ():
            if evidence in fitted.trees.get(question, {}):
                click.echo(f"\n{question}, evidence {evidence}\n{text(fitted.tree(question, evidence).tree)}")
    return 0


@click.command("evaluate")
@click.argument("diagnoser", type=click.Path(path_type=Path))
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["auto", "held_out", "fit", "all"]),
    default="auto",
    show_default=True,
    help="Which rows to score; auto takes the held-out ones where the table has any, else all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")  # fmt: skip
def evaluate_command(diagnoser: Path, zoo: Path, split: str, as_json: bool) -> int:
    """Score a diagnoser on a zoo table, beside the simplest baselines fitted on the table's other rows."""
    result = evaluate(read_diagnoser(diagnoser), read_zoo(zoo), split)
    click.echo(json.dumps(result, indent=1) if as_json else scores_text(result))
    return 0
