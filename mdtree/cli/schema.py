"""`mdtree schema`."""

from __future__ import annotations

import json

import click

from mdtree.output_schema import SCHEMAS, output_schema


@click.command("schema")
@click.argument("command", type=click.Choice(SCHEMAS), default=SCHEMAS[0])
def schema_command(command: str) -> int:
    """Print the JSON schema of what COMMAND prints with --json (diagnose by default).

    Its version stays as long as no key is taken away or renamed; new ones may come.
    """
    click.echo(json.dumps(output_schema(command), indent=1))
    return 0
