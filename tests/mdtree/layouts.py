"""All layouts, and the table of what opening each of them gives: ``python tests/mdtree/layouts.py --write FILE``."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from layout import Layout
from layouts_hugging_face import HUGGING_FACE
from layouts_lightning import LIGHTNING
from layouts_optimizers import OPTIMIZER_LAYOUTS
from layouts_scripts import SCRIPTS
from layouts_torch import TORCH
from layouts_wrapped import WRAPPED

from mdtree.checkpoint import Checkpoint, open_checkpoint
from mdtree.errors import InputError

LAYOUTS: tuple[Layout, ...] = (*TORCH, *OPTIMIZER_LAYOUTS, *WRAPPED, *SCRIPTS, *LIGHTNING, *HUGGING_FACE)

PACKAGES = ("torch", "safetensors", "lightning", "transformers", "accelerate", "omegaconf")

INTRODUCTION = """# What is found in a checkpoint

Every row is a file or a folder, written by the functions named in it after three epochs of training on thirty samples
(where it says so, in the form of a script or an older version). The tests open each of them: the weights are equal to
those saved, bit for bit, under the names of the bare network (`module.`, `_orig_mod.` and the like taken off), and the
recipe is the one below; or the sentence below is given, and the command line ends with exit code 2. Nothing in a file
is imported or run.

The order in which the places of a file are believed stands in `mdtree/recipes/recipe_sources.py`. Averaged weights are
used only where `--weights NAME` names them or the file holds no others, and are called so. An estimate says "about".

This page is written by `make layouts` ({versions}).

| layout | written by | read as | weights used | others in it | recipe and scores, with their places; or the sentence |
|---|---|---|---|---|---|
"""


def row(layout: Layout, opened: Checkpoint | str) -> str:
    """The line of the table for one layout, from the opened checkpoint or the sentence with which it was refused."""
    if isinstance(opened, str):
        return _line(layout.name, layout.made_by, "refused", "none", "", opened)
    asked = f" (--weights {layout.weights})" if layout.weights else ""
    used = opened.weights_from.removesuffix(" (averaged weights)")
    others = [name for name in opened.candidates if name not in (used, "file")]
    told = [f"{name} {value}: {opened.recipe_sources[name]}" for name, value in opened.recipe.items()]
    told += [f"{name}: {one.source}" for name, one in opened.recorded.items()]
    told += [f"fine-tuned from {opened.fine_tuned_from}"] if opened.fine_tuned_from else []
    told += [f"network {opened.network}"] if opened.network else []
    read_as = f"{opened.framework}, {opened.layout}" if opened.framework != "pytorch" else opened.layout
    cells = (read_as, opened.weights_from + asked, "<br>".join(others), "<br>".join(told))
    return _line(layout.name, layout.made_by, *cells)


def table() -> str:
    """The whole page."""
    rows = []
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = layout.build(Path(folder)).path
            try:
                opened: Checkpoint | str = open_checkpoint(path, weights=layout.weights)
            except InputError as error:
                opened = str(error).removeprefix(f"{path} ")
            rows.append(row(layout, opened))
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in PACKAGES)
    return INTRODUCTION.format(versions=versions) + "\n".join(rows) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there instead of printing it")
    target = parser.parse_args().write
    if target is None:
        print(table(), end="")
    else:
        target.write_text(table(), encoding="utf-8")
