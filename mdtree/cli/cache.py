"""`mdtree cache ...`: the measurements kept between runs."""

from __future__ import annotations

import json

import click

from mdtree.measurement_cache import MeasurementCache


@click.group("cache")
def cache_group() -> None:
    """Measurements that `diagnose` and `measure` keep between runs."""


@cache_group.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(as_json: bool) -> int:
    """Where measurements are kept (MDTREE_CACHE names another folder) and how many."""
    cache = MeasurementCache()
    held = cache.contents()
    values = {
        "folder": str(held.folder),
        "entries": held.entries,
        "bytes": held.bytes,
        "limit_bytes": cache.limit_bytes,
    }
    text = f"{held.folder}: {_amount(held.entries, held.bytes)} of at most {_size(cache.limit_bytes)}"
    click.echo(json.dumps(values) if as_json else text)
    return 0


@cache_group.command("clear")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def clear_command(as_json: bool) -> int:
    """Remove every measurement kept; nothing else in the folder."""
    removed = MeasurementCache().clear()
    values = {"folder": str(removed.folder), "removed": removed.entries, "bytes": removed.bytes}
    text = f"{removed.folder}: removed {_amount(removed.entries, removed.bytes)}"
    click.echo(json.dumps(values) if as_json else text)
    return 0


def _amount(entries: int, size: int) -> str:
    return f"{entries} measurement{'' if entries == 1 else 's'}, {_size(size)}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
