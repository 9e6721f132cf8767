"""The command line: `mdtree`. Each command calls one library function; results go to standard output."""

from __future__ import annotations

from mdtree.cli.app import app, main

__all__ = ["app", "main"]
