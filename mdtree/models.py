"""Networks by name: reference architectures with a ``width``, and the user's own ``module:factory``.

=================  ====================================================================================================
``mlp``            flatten, then ``depth`` times linear (``width`` units) and ReLU, then linear. Options ``width`` (64),
                   ``depth`` (2), ``inputs``, ``classes``. Keys ``hidden1.weight``, ``hidden1.bias`` ...
                   ``output.weight``, ``output.bias``.
``layernorm_mlp``  the same with a LayerNorm before each ReLU, keys ``norm1.weight``, ``norm1.bias`` ...
``cnn``            3×3 convolution (``width`` channels), ReLU, 2×2 max-pooling; the same with 2·``width`` channels;
                   linear. Options ``width`` (16), ``channels``, ``size`` (side of a square image), ``classes``. Keys
                   ``conv1.weight``, ``conv1.bias``, ``conv2.weight`` ... ``output.weight``, ``output.bias``.
``groupnorm_cnn``  the same with a GroupNorm (4 groups, fewer where 4 does not divide ``width``) before each ReLU, keys
                   ``norm1.weight``, ``norm1.bias``, ``norm2.weight``, ``norm2.bias``.
``resnet18``       ResNet-18 as used for CIFAR: 3×3 stem with stride 1, no pooling, BatchNorm, ``width`` (64) base
                   channels. Options ``width``, ``channels``, ``classes``. Keys ``conv1``, ``bn1``, ``layer1.0.conv1``
                   ... ``layer4.1.bn2``, ``layer2.0.shortcut.0``, ``linear``.
``vit``            pre-norm vision transformer: square patches embedded linearly in ``width`` (64) numbers, learned
                   positions, ``depth`` (4) blocks of attention and a GELU layer four times as wide, LayerNorm, mean
                   over the patches, linear. Options ``width``, ``depth``, ``heads`` (4, fewer where 4 does not divide
                   ``width``), ``patch`` (side in pixels; the smallest that leaves at most 64 patches), ``channels``,
                   ``size``, ``classes``. Keys ``positions``, ``embedding``, ``blocks.0.norm1``,
                   ``blocks.0.attention.qkv``, ``blocks.0.attention.output``, ``blocks.0.norm2``, ``blocks.0.hidden``,
                   ``blocks.0.output`` ... ``norm``, ``output``, each but the first with ``.weight`` and ``.bias``.
``gru``            ``depth`` (1) layers of ``width`` (64) gated recurrent units, the last state, linear. Inputs are
                   sequences (length, features), images, read row by row, or, with ``vocabulary`` (the number of
                   tokens), int64 tokens (length,), embedded in ``features`` (as many as ``width``) numbers. Options
                   ``width``, ``depth``, ``vocabulary``, ``features``, ``classes``. Keys ``embedding.weight`` (tokens
                   only), ``gru.weight_ih_l0``, ``gru.weight_hh_l0``, ``gru.bias_ih_l0``, ``gru.bias_hh_l0`` ...
                   ``output.weight``, ``output.bias``.
=================  ====================================================================================================

``inputs``, ``channels``, ``size``, ``features`` and ``classes`` come from the data where they are not given. Weights
start as PyTorch starts them, positions as 0.02 times a standard normal.

Networks of other packages are known as ``timm:NAME``, ``torchvision:NAME`` and ``transformers:DIR``, see
`mdtree.networks.foreign_models`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdtree.errors import InputError
from mdtree.free_memory import check_memory
from mdtree.networks.architectures import ResNet18, cnn, mlp
from mdtree.networks.foreign_models import FOREIGN_MODELS, build_foreign
from mdtree.networks.recurrent import GRUClassifier
from mdtree.networks.vision_transformer import VisionTransformer
from mdtree.specification import Kind, Plain, Specification, parse
from mdtree.user_code import call_user_function, isolated_random_state

__all__ = ["ARCHITECTURES", "Architecture", "ResNet18", "Shape", "build_model", "model_factory"]


MAX_DEPTH = 1_000
"""Layers of a built-in network: a checkpoint may name any number."""

SMALL = 512
"""Width times depth up to which a built-in network is built without counting its parameters first."""


@dataclass(frozen=True)
class Shape:
    """What the data fixes of a network: the shape of one input (no batch dimension) and the number of classes."""

    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None


def build_model(
    spec: str,
    *,
    num_classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    directory: Path | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Build the network a specification names, freshly initialised.

    Parameters
    ----------
    spec : str
        ``mlp?width=16&depth=2``, another architecture of this module, a network of another package
        (``timm:resnet18?in_chans=1``), or ``package.module:factory?key=value``: the factory is called with the options
        as keyword arguments, read as int, float, bool or text by their look.
    num_classes : int, optional
        Outputs of an architecture that names no ``classes``.
    input_shape : tuple of int, optional
        Shape of one input, without the batch dimension: ``(64,)``, ``(3, 32, 32)``.
    directory : Path, optional
        Where the user's modules lie; the current directory by default.
    seed : int, optional
        Draws the initial weights, and leaves the caller's random state alone. Without it they are drawn from that.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        If the name or an option is not known, the data and the options do not fit each other, or the factory fails or
        returns something else.
    """
    parsed = parse(spec)
    with isolated_random_state(seed):
        if parsed.name in ARCHITECTURES:
            return _build_named(parsed, Shape(input_shape, num_classes))
        if parsed.name in FOREIGN_MODELS:
            return build_foreign(parsed, num_classes, input_shape, directory)
        if not parsed.target:
            known = ", ".join((*ARCHITECTURES, *(f"{name}:..." for name in FOREIGN_MODELS)))
            raise InputError(f"unknown network {parsed.name!r}", f"one of {known}, or package.module:factory")
        model = call_user_function(parsed, directory)
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"{parsed.name}:{parsed.target} returned {what}", "a torch.nn.Module")
    return model


def model_factory(
    spec: str,
    *,
    num_classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    directory: Path | None = None,
    seed: int | None = None,
) -> Callable[[], nn.Module]:
    """A function without arguments that builds the network anew at each call; it can be sent to other processes.

    The network is built once here, so that what is wrong with the specification is said now. Parameters and errors as
    for `build_model`; with a `seed` every call gives the same weights.
    """
    build = partial(build_model, spec, num_classes=num_classes, input_shape=input_shape, directory=directory, seed=seed)
    with isolated_random_state(0):  # this one is thrown away: the caller's random state must not notice it
        build()
    return build


@dataclass(frozen=True)
class Architecture:
    """A network known by name.

    Parameters
    ----------
    build : callable
        Makes the network from its options.
    defaults : mapping of str to value
        Options with a default; None where the network finds its own.
    from_data : tuple of str
        Options that the data can give, ``classes`` among them.
    read : callable
        What one input of a shape, and the options given, fix of the options; raises `InputError` for an input that the
        network cannot take.
    smallest_side : int
        Fewest rows and columns of an image.
    """

    build: Callable[..., nn.Module]
    defaults: Mapping[str, Plain | None]
    from_data: tuple[str, ...]
    read: Callable[[str, tuple[int, ...], Mapping[str, Any]], dict[str, Any]]
    smallest_side: int = 1


def _flat(name: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    return {"inputs": math.prod(shape)}


def _image(name: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    if len(shape) != 3:
        raise InputError(
            f"{name} takes images, the data has inputs of shape {shape}",
            "(channels, rows, columns)",
            "use an mlp, or data with shape=image",
        )
    return {"channels": shape[0], "size": shape[1:]}


def _sequence(name: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    tokens = options["vocabulary"] is not None
    if tokens and len(shape) == 1:
        return {}
    if not tokens and len(shape) in (2, 3):
        return {"features": shape[-1] if len(shape) == 2 else shape[0] * shape[2]}
    raise InputError(
        f"{name} with{'' if tokens else 'out'} a vocabulary reads "
        f"{'tokens' if tokens else 'sequences or images'}, the data has inputs of shape {shape}",
        "(length,) of int64 tokens" if tokens else "(length, features) or (channels, rows, columns)",
        "leave vocabulary out" if tokens else "give vocabulary=N for tokens, or use an mlp",
    )


def _gru(
    width: int, depth: int, classes: int, *, vocabulary: int | None = None, features: int | None = None
) -> nn.Module:
    return GRUClassifier(width, depth, classes, width if features is None else features, vocabulary)


_MLP_DATA = ("inputs", "classes")
_IMAGE_DATA = ("channels", "size", "classes")
_VIT_DEFAULTS = {"width": 64, "depth": 4, "heads": None, "patch": None}
_GRU_DEFAULTS = {"width": 64, "depth": 1, "vocabulary": None}

ARCHITECTURES: Mapping[str, Architecture] = {
    "mlp": Architecture(partial(mlp, normalise=False), {"width": 64, "depth": 2}, _MLP_DATA, _flat),
    "layernorm_mlp": Architecture(partial(mlp, normalise=True), {"width": 64, "depth": 2}, _MLP_DATA, _flat),
    "cnn": Architecture(partial(cnn, normalise=False), {"width": 16}, _IMAGE_DATA, _image, 4),
    "groupnorm_cnn": Architecture(partial(cnn, normalise=True), {"width": 16}, _IMAGE_DATA, _image, 4),
    "resnet18": Architecture(ResNet18, {"width": 64}, ("channels", "classes"), _image),
    "vit": Architecture(VisionTransformer, _VIT_DEFAULTS, _IMAGE_DATA, _image),
    "gru": Architecture(_gru, _GRU_DEFAULTS, ("features", "classes"), _sequence),
}
"""The networks known by name, with the defaults of their options."""


def _build_named(spec: Specification, shape: Shape) -> nn.Module:
    architecture = ARCHITECTURES[spec.name]
    if spec.target:
        raise InputError(f"{spec.name} has no {spec.target!r}", f"{spec.name}?width=N")
    kinds: dict[str, Kind] = dict.fromkeys((*architecture.defaults, *architecture.from_data), int)
    given = {key: value for key, value in architecture.defaults.items() if value is not None}
    options: dict[str, Any] = spec.read(kinds, given)
    for key, value in options.items():
        if value is not None and value < 1:
            raise InputError(f"{key}={value} of {spec.name}", "at least 1")
    fixed: dict[str, Any] = {} if shape.num_classes is None else {"classes": shape.num_classes}
    if shape.input_shape is not None:
        fixed |= architecture.read(spec.name, shape.input_shape, options)
    for key in architecture.from_data:
        if key != "features" or options["vocabulary"] is None:  # the data does not say how wide to embed its tokens
            options[key] = _settled(spec, key, options[key], fixed)
    side = architecture.smallest_side
    if side > 1 and min(options["size"]) < side:
        shown = "×".join(map(str, options["size"]))
        raise InputError(f"images of {shown} pixels for {spec.name}", f"{side}×{side} or more")
    _check_size(spec, architecture, options)
    return architecture.build(**options)


def _check_size(spec: Specification, architecture: Architecture, options: Mapping[str, Any]) -> None:
    """Refuse what would fill the memory: a checkpoint may name any width and depth."""
    if (options.get("depth") or 1) > MAX_DEPTH:
        raise InputError(f"depth={options['depth']} of {spec.name}", f"at most {MAX_DEPTH:,}")
    if options["width"] * (options.get("depth") or 1) <= SMALL:
        return
    try:
        with torch.device("meta"):
            outline = architecture.build(**options)
    except (RuntimeError, TypeError) as error:  # a product of sizes beyond 64 bits
        raise InputError(f"{spec} has more parameters than can be counted", "a smaller width") from error
    parameters = sum(parameter.numel() for parameter in outline.parameters())
    check_memory(f"the network {spec}", 4 * parameters, "give a smaller width")


def _settled(spec: Specification, key: str, given: int | None, fixed: Mapping[str, Any]) -> Any:
    """One option that the user gives or the data fixes; more classes than the data shows are no contradiction."""
    asked = (given, given) if key == "size" and given is not None else given
    known = fixed.get(key)
    if asked is None and known is None:
        raise InputError(f"{spec} does not say its {key}", f"{key}=N, or data to take it from")
    if asked is None or known is None or asked == known or (key == "classes" and asked > known):
        return known if asked is None else asked
    shown = "×".join(map(str, known)) if key == "size" else known
    raise InputError(f"{key}={given} of {spec.name}, but the data has {shown}", "the same", f"leave {key} out")
