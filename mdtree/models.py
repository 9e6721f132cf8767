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
=================  ====================================================================================================

``inputs``, ``channels``, ``size`` and ``classes`` come from the data where they are not given. Weights start as PyTorch
starts them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mdtree.errors import InputError
from mdtree.specification import Kind, Plain, Specification, parse
from mdtree.user_code import call_user_function, isolated_random_state


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
        ``mlp?width=16&depth=2``, another architecture of this module, or ``package.module:factory?key=value``: the
        factory is called with the options as keyword arguments, read as int, float, bool or text by their look.
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
        if not parsed.target:
            known = ", ".join(ARCHITECTURES)
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


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm, and the input added before the last ReLU (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for small images: 3×3 stem, four stages of two blocks, global average, linear.

    Parameters
    ----------
    width : int
        Channels of the first stage; each next stage has twice as many. 64 is the usual network.
    channels, classes : int
        Channels of an input; outputs.
    """

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, classes)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


@dataclass(frozen=True)
class Architecture:
    """A network known by name: how it is built, the defaults of its options, and which options the data can give."""

    build: Callable[..., nn.Module]
    defaults: Mapping[str, Plain]
    from_data: tuple[str, ...]


def _mlp(width: int, depth: int, inputs: int, classes: int, *, normalise: bool) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number in range(1, depth + 1):
        layers[f"hidden{number}"] = nn.Linear(inputs if number == 1 else width, width)
        if normalise:
            layers[f"norm{number}"] = nn.LayerNorm(width)
        layers[f"relu{number}"] = nn.ReLU()
    layers["output"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def _cnn(width: int, channels: int, size: tuple[int, int], classes: int, *, normalise: bool) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate([(channels, width), (width, 2 * width)], start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
        if normalise:
            layers[f"norm{number}"] = nn.GroupNorm(math.gcd(4, width), outputs)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(2 * width * (size[0] // 4) * (size[1] // 4), classes)
    return nn.Sequential(layers)


_MLP_DATA = ("inputs", "classes")
_CNN_DATA = ("channels", "size", "classes")

ARCHITECTURES: Mapping[str, Architecture] = {
    "mlp": Architecture(partial(_mlp, normalise=False), {"width": 64, "depth": 2}, _MLP_DATA),
    "layernorm_mlp": Architecture(partial(_mlp, normalise=True), {"width": 64, "depth": 2}, _MLP_DATA),
    "cnn": Architecture(partial(_cnn, normalise=False), {"width": 16}, _CNN_DATA),
    "groupnorm_cnn": Architecture(partial(_cnn, normalise=True), {"width": 16}, _CNN_DATA),
    "resnet18": Architecture(ResNet18, {"width": 64}, ("channels", "classes")),
}
"""The networks known by name, with the defaults of their options."""


def _build_named(spec: Specification, shape: Shape) -> nn.Module:
    architecture = ARCHITECTURES[spec.name]
    if spec.target:
        raise InputError(f"{spec.name} has no {spec.target!r}", f"{spec.name}?width=N")
    kinds: dict[str, Kind] = dict.fromkeys((*architecture.defaults, *architecture.from_data), int)
    options: dict[str, Any] = spec.read(kinds, architecture.defaults)
    for key, value in options.items():
        if value is not None and value < 1:
            raise InputError(f"{key}={value} of {spec.name}", "at least 1")
    fixed = _fixed_by_data(spec, shape, architecture)
    for key in architecture.from_data:
        options[key] = _settled(spec, key, options[key], fixed)
    if "size" in options and min(options["size"]) < 4:
        raise InputError(f"images of {options['size'][0]}×{options['size'][1]} pixels for {spec.name}", "4×4 or more")
    return architecture.build(**options)


def _fixed_by_data(spec: Specification, shape: Shape, architecture: Architecture) -> dict[str, Any]:
    """What the data says of the options: number of inputs, or channels and size of an image, and classes."""
    fixed: dict[str, Any] = {} if shape.num_classes is None else {"classes": shape.num_classes}
    if shape.input_shape is not None:
        if "channels" not in architecture.from_data:
            fixed["inputs"] = math.prod(shape.input_shape)
        elif len(shape.input_shape) != 3:
            raise InputError(
                f"{spec.name} takes images, the data has inputs of shape {shape.input_shape}",
                "(channels, rows, columns)",
                "use an mlp, or data with shape=image",
            )
        else:
            fixed["channels"], fixed["size"] = shape.input_shape[0], shape.input_shape[1:]
    return fixed


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
