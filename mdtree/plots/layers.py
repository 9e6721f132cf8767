"""The layers of a network: how large their weights and gradients are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes

from mdtree.errors import InputError
from mdtree.plots.series import damaged
from mdtree.plots.style import decades, ink, line_colour, new_axes, plain
from mdtree.record import Record

MOST_LAYERS = 24


@dataclass(frozen=True)
class Layer:
    """A parameter tensor: name, shape ("32×64"), and roots of the mean squares of its weights and gradients."""

    name: str
    shape: str
    parameters: int
    weight_rms: float
    gradient_rms: float


@dataclass(frozen=True)
class Layers:
    """Tensors in the network's order; `left_out` counts the smaller ones that are not shown."""

    shown: tuple[Layer, ...]
    left_out: int


@damaged("list of layers")
def layers_data(record: Record, most: int = MOST_LAYERS) -> Layers:
    """The tensors of a record; where there are more than `most`, those with the most parameters.

    A norm over the root of the number of parameters compares tensors of different sizes.

    Raises
    ------
    InputError
        The record lists no layers, or damaged ones.
    """
    try:
        found = [_layer(layer) for layer in record.layers]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the layers of the record are damaged", "name, shape, parameters and two norms") from error
    if not found:
        raise InputError("the record lists no layers", "one that `mdtree measure` wrote")
    largest = set(sorted(range(len(found)), key=lambda i: (-found[i].parameters, i))[:most])
    return Layers(tuple(layer for i, layer in enumerate(found) if i in largest), max(0, len(found) - most))


def _layer(values: object) -> Layer:
    assert hasattr(values, "__getitem__")
    count = int(values["parameters"])
    norms = float(values["weight_norm"]), float(values["gradient_norm"])
    if count < 1 or not all(math.isfinite(norm) and norm >= 0 for norm in norms):
        raise ValueError("not a layer")
    return Layer(
        name=str(values["name"]),
        shape="×".join(str(int(side)) for side in values["shape"]) or "1",
        parameters=count,
        weight_rms=norms[0] / math.sqrt(count),
        gradient_rms=norms[1] / math.sqrt(count),
    )


def draw_layers(data: Layers, ax: Axes | None = None) -> Axes:
    """Draw a line per tensor on a logarithmic scale: a dot for its weights, a diamond for its gradients."""
    if ax is None:
        ax = new_axes(6.0, 1.0 + 0.24 * len(data.shown))
    tone = ink()
    for values, marker, number, name in (
        ([layer.weight_rms for layer in data.shown], "o", 0, "weights"),
        ([layer.gradient_rms for layer in data.shown], "D", 1, "gradients"),
    ):
        places = [row for row, value in enumerate(values) if value > 0]
        ax.plot([values[row] for row in places], places, marker, color=line_colour(number), ms=5.5,
                mec=tone.ground, mew=0.5, label=name, zorder=3)  # fmt: skip
    ax.set_xscale("log")
    decades(ax.xaxis)
    names = [f"{plain(layer.name, 40)}  {layer.shape}" for layer in data.shown]
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("root mean square over the tensor's parameters")
    if data.left_out:
        ax.set_title(f"and {data.left_out} smaller ones", fontsize=8.5, fontweight="normal", loc="left")
    ax.grid(axis="both", lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    return ax
