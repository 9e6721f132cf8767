"""`mdtree serve`: the service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mdtree.errors import InputError

_FILE = click.Path(path_type=Path)


@click.command("serve")
@click.option("--host", help="Address to listen at; default 127.0.0.1. One that others can reach needs tokens.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default 8080; 0: any that is free.")
@click.option(
    "--data-dir",
    type=_FILE,
    metavar="DIR",
    help="Where uploads, jobs and reports lie; default: mdtree/service in the user's data folder.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Measurements at the same time; default 1.")
@click.option("--diagnoser", type=_FILE, metavar="FILE", help="A diagnoser made by `mdtree train`.")
@click.option(
    "--tokens",
    type=_FILE,
    metavar="FILE",
    help='Who may use it: OWNER = "TOKEN" under [tokens] (TOML), not readable by others; or one in MDTREE_TOKEN.',
)
@click.option(
    "--config",
    type=_FILE,
    metavar="FILE",
    help="Settings (TOML): networks and data sets that clients may name, limits, and what the other options set.",
)
@click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL instead of SQLite: postgresql://USER@HOST/NAME; a password better stands in --config.",
)
@click.option("--device", help="Where to measure: cpu (default), cuda.")
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which clients reach it, beside its address (repeatable).",
)
@click.option(
    "--retention-days",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="How long ended jobs are kept; default 30.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="For requests and running jobs when it is ended; default 30.",
)
def serve_command(**options: Any) -> int:
    """Take checkpoints and records over HTTP, and show diagnoses on a page.

    Prints its address when it is ready. Ends on SIGTERM and SIGINT: jobs that do not end in time run again at the next
    start.
    """
    try:
        from mdtree.service.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("mdtree", "landscape"):
            raise
        raise InputError(
            f"mdtree serve needs {error.name}, which is not installed", "", "pip install 'mdtree-diagnosis[service]'"
        ) from error
    from mdtree.service.chosen_settings import chosen_settings

    return serve(*chosen_settings(options, os.environ))
