"""Recognising a network by the names and shapes of its weights, where nothing says which one it is.

The architectures of `mdtree.models` are read off the shapes and built again to compare. The classification networks of
torchvision, and the usual ones of timm, are looked up in a table of digests of their names and shapes, in which the
number of classes is left open (``mdtree/data_files/networks.json``; tests/compat/network_table.py writes it). Strides,
activations and numbers of attention heads leave no trace in names and shapes: what is recognised is a proposal.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import torch
from torch import Tensor

from mdtree.errors import InputError
from mdtree.models import build_model

_LONGEST = 2**31
_DEEPEST = 1000
_PREFIXES_TRIED = 16

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recognised:
    """A network with these names and shapes.

    Parameters
    ----------
    spec : str
        For `mdtree.models.build_model`: ``torchvision:resnet18?num_classes=10``.
    others : tuple of str
        Further networks with the same names and shapes.
    """

    spec: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownNetwork:
    """One row of the table.

    Parameters
    ----------
    spec : str
        ``torchvision:resnet18``, without options.
    head : tuple of str
        The tensors whose first dimension is the number of classes.
    digest : str
        Of names and shapes, that dimension left out.
    """

    spec: str
    head: tuple[str, ...]
    digest: str


def recognise(state: Mapping[str, Tensor]) -> Recognised | None:
    """Say which network has these names and shapes.

    Parameters
    ----------
    state : mapping of str to Tensor
        Saved weights; the network may stand under one prefix (``model.``), beside other tensors.

    Returns
    -------
    Recognised or None
        None where it is no network that is known.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for part in _parts(shapes):
        found = [*_built_in(part), *_in_table(part)]
        if found:
            return Recognised(found[0], tuple(found[1:]))
    return None


def digest(shapes: Shapes, head: Iterable[str] = ()) -> str:
    """A digest of names and shapes in any order, the first dimension of the tensors of the `head` left out."""
    left_out = frozenset(head)
    rows = sorted((name, shape[1:] if name in left_out else shape) for name, shape in shapes.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:24]


def names_digest(names: Iterable[str]) -> str:
    """A digest of names in any order."""
    return hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()[:12]


def _parts(shapes: Shapes) -> Iterable[Shapes]:
    """The whole, then what stands under each first segment of the names."""
    yield shapes
    under: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        first, dot, rest = name.partition(".")
        if dot:
            under.setdefault(first, {})[rest] = shape
    yield from sorted(under.values(), key=len, reverse=True)[:_PREFIXES_TRIED]


def _in_table(shapes: Shapes) -> list[str]:
    # networks of torch before 0.4.1 lack their counts of batches; the table is without them
    counted = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    found = []
    for known in _table().get(names_digest(counted), ()):
        sizes = {counted[name][:1] for name in known.head}
        if len(sizes) == 1 and digest(counted, known.head) == known.digest:
            classes = sizes.pop()
            found.append(f"{known.spec}{'&' if '?' in known.spec else '?'}num_classes={classes[0]}")
    return found


@lru_cache(maxsize=1)
def _table() -> Mapping[str, tuple[KnownNetwork, ...]]:
    text = resources.files("mdtree").joinpath("data_files", "networks.json").read_text(encoding="utf-8")
    return {
        names: tuple(KnownNetwork(spec, tuple(head), shapes) for spec, head, shapes in rows)
        for names, rows in json.loads(text)["networks"].items()
    }


def _built_in(shapes: Shapes) -> list[str]:
    """The architecture of this package with these names and shapes; at most one has them."""
    for name, read in _READERS.items():
        try:
            found = read(shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue  # a tensor that it has is missing, or has other dimensions
        if found is not None and _is_built_so(f"{name}?{found.options}", found.input_shape, shapes):
            return [f"{name}?{found.options}"]
    return []


@dataclass(frozen=True)
class _Read:
    """Options read off the shapes, and the shape of an input for which the network has them."""

    options: str
    input_shape: tuple[int, ...] | None = None


def _is_built_so(spec: str, input_shape: tuple[int, ...] | None, shapes: Shapes) -> bool:
    """Whether the architecture with these options has exactly these names and shapes; nothing is allocated."""
    if max((size for shape in shapes.values() for size in shape), default=0) > _LONGEST:
        return False
    try:
        with torch.device("meta"):
            built = build_model(spec, input_shape=input_shape)
    except InputError:
        return False
    return {name: tuple(value.shape) for name, value in built.state_dict().items()} == dict(shapes)


def _mlp(shapes: Shapes) -> _Read | None:
    depth = _number(shapes, "hidden", ".weight")
    width, inputs = shapes["hidden1.weight"]
    if len(shapes) not in (2 * depth + 2, 4 * depth + 2):
        return None
    return _Read(f"width={width}&depth={depth}&inputs={inputs}&classes={shapes['output.weight'][0]}")


def _cnn(shapes: Shapes) -> _Read | None:
    width, channels = shapes["conv1.weight"][:2]
    classes, features = shapes["output.weight"]
    # only the number of 4×4 fields of an image is seen, not how they are arranged: the data say that
    return _Read(f"width={width}&classes={classes}", (channels, 4, 4 * (features // (2 * width))))


def _resnet18(shapes: Shapes) -> _Read | None:
    width, channels = shapes["conv1.weight"][:2]
    return _Read(f"width={width}&channels={channels}&classes={shapes['linear.weight'][0]}")


def _vit(shapes: Shapes) -> _Read | None:
    width, pixels = shapes["embedding.weight"]
    tokens = shapes["positions"][0]
    depth = _number(shapes, "blocks.", ".norm1.weight")
    # a patch has channels · side² numbers; grey and coloured images are told apart by which of them is a square
    channels = next((one for one in (1, 3) if math.isqrt(pixels // one) ** 2 * one == pixels), None)
    if channels is None:
        return None
    patch = math.isqrt(pixels // channels)
    options = f"width={width}&depth={depth}&patch={patch}&classes={shapes['output.weight'][0]}"
    return _Read(options, (channels, patch, patch * tokens))


def _gru(shapes: Shapes) -> _Read | None:
    features = shapes["gru.weight_ih_l0"][1]
    width = shapes["gru.weight_hh_l0"][1]
    depth = _number(shapes, "gru.weight_hh_l", "")
    options = f"width={width}&depth={depth}&features={features}&classes={shapes['output.weight'][0]}"
    tokens = shapes.get("embedding.weight")
    return _Read(options if tokens is None else f"{options}&vocabulary={tokens[0]}")


def _number(shapes: Shapes, start: str, end: str) -> int:
    number = sum(name.startswith(start) and name.endswith(end) for name in shapes)
    if number > _DEEPEST:
        raise ValueError(f"{number} layers")
    return number


_READERS = {
    "mlp": _mlp,
    "layernorm_mlp": _mlp,
    "cnn": _cnn,
    "groupnorm_cnn": _cnn,
    "resnet18": _resnet18,
    "vit": _vit,
    "gru": _gru,
}
