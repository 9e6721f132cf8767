"""`mdtree layers`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdtree.cli.progress import progress_bar
from mdtree.layer_report import layers_text

if TYPE_CHECKING:
    from torch import Tensor

_NUMBER = re.compile(r"([0-9]+)")


@click.command("layers")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers_command(checkpoint: Path, as_json: bool) -> int:
    """Spectrum of each layer's weights, without data.

    Which layers look under-trained, by the heavy-tailed exponent of their weights alone.

    CHECKPOINT is a .pt or .safetensors file, made by this package or not.
    """
    from landscape.errors import LandscapeError
    from landscape.spectra import layer_spectra
    from mdtree.checkpoint import open_checkpoint
    from mdtree.errors import InputError

    opened = open_checkpoint(checkpoint)
    unordered = checkpoint.suffix == ".safetensors"
    try:
        with progress_bar(checkpoint.name) as progress:
            layers = layer_spectra(_in_order(opened.state, unordered), progress=progress)
    except LandscapeError as error:
        raise InputError(f"{checkpoint}: {error.got}", error.expected, error.mend) from error
    read = {layer.parameter for layer in layers}
    not_read = [name for name in opened.state if name not in read]
    if as_json:
        about = {"path": str(opened.path), "sha256": opened.sha256, "weights_from": opened.weights_from}
        values = {"checkpoint": about, "layers": [asdict(layer) for layer in layers], "not_read": not_read}
        click.echo(json.dumps(values, indent=1, ensure_ascii=False))
    else:
        order = "  (layers by name: a safetensors file holds them in no order)" if unordered else ""
        click.echo(f"{checkpoint}{order}\n\n{layers_text(layers, len(not_read))}")
    return 0


def _in_order(state: dict[str, Tensor], unordered: bool) -> dict[str, Tensor]:
    """The tensors in the network's order; where the file holds none, by name, layer 2 before layer 10."""
    if not unordered:
        return state
    return dict(sorted(state.items(), key=lambda item: [int(p) if p.isdigit() else p for p in _NUMBER.split(item[0])]))
