"""Which hidden units of a network can change places: the axes of its tensors that must be permuted together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from landscape.errors import LandscapeError
from landscape.failures import first_line
from landscape.network import unwrap

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Identity, _DropoutNd),
)
POOLING = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
UNITWISE = frozenset(
    [
        *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "celu", "gelu", "silu", "mish"),
        *(
            "softplus",
            "softsign",
            "sigmoid",
            "logsigmoid",
            "tanh",
            "hardtanh",
            "hardsigmoid",
            "hardswish",
            "neg",
            "abs",
        ),
        *("square", "dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous", "clone", "float", "double"),
        *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    ]
)
"""Functions and methods that treat all hidden units alike and each by itself."""

COMBINING = frozenset(["add", "iadd", "sub", "isub", "mul", "imul", "add_", "sub_", "mul_", "maximum", "minimum"])
"""Functions and methods of two tensors, unit by unit."""

MAX_POOLING = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)  # their names are the dispatcher's

FIXED = 0
"""The group of what keeps its order: inputs, outputs, and whatever is added to them."""


@dataclass(frozen=True)
class Axis:
    """A dimension of a parameter or buffer along which hidden units are numbered.

    A dimension that is a multiple of the group's size holds so many consecutive entries of each unit (the pixels of
    a channel, after flattening).
    """

    tensor: str
    dimension: int


@dataclass(frozen=True)
class PermutationGroup:
    """Hidden units, numbered alike along several axes: permuting all of them leaves the network's function alone."""

    size: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class _Units:
    """A tensor in the traced network: whose units its channels are, and whether pixels are folded into them."""

    group: int
    channels: bool = False  # along dimension 1, before more dimensions
    folded: bool = False


def permutation_groups(model: nn.Module) -> tuple[PermutationGroup, ...]:
    """Find the permutation symmetries of a feed-forward network from its traced graph.

    Understood are Linear, convolutions (depthwise ones too), BatchNorm, LayerNorm over the units, GroupNorm with one
    group or one channel each, element-wise functions, pooling, flattening and sums: units that are added to each other
    are one group. The order of inputs and outputs is fixed. Groups come in the order of the forward pass.

    Raises
    ------
    LandscapeError
        If the network cannot be traced, or does something else with its hidden units.
    """
    module = unwrap(model)
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # tracing runs the user's code
        raise _not_understood(f"it cannot be traced ({first_line(error)})") from error
    return _Walk(module).groups(graph)


def _not_understood(what: str) -> LandscapeError:
    return LandscapeError(
        f"the hidden units of this network cannot be matched: {what}",
        "a feed-forward network of linear, convolutional and normalising layers",
    )


class _Walk:
    """One pass over the graph: each axis gets a group, and groups that meet in a sum become one."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.tensors: dict[str, Tensor] = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        self.parent = [FIXED]
        self.sizes: dict[int, int] = {}
        self.axes: dict[Axis, int] = {}
        self.values: dict[fx.Node, _Units | None] = {}

    def groups(self, graph: fx.Graph) -> tuple[PermutationGroup, ...]:
        for node in graph.nodes:
            self.values[node] = self._visit(node)
        self._refuse_shared()
        members: dict[int, list[Axis]] = {}
        for axis, group in self.axes.items():
            members.setdefault(self.root(group), []).append(axis)
        members.pop(FIXED, None)
        return tuple(PermutationGroup(self.sizes[group], tuple(axes)) for group, axes in members.items())

    def _refuse_shared(self) -> None:
        names: dict[int, str] = {}
        for name in {axis.tensor for axis in self.axes}:
            other = names.setdefault(id(self.tensors[name]), name)
            if other != name:
                raise _not_understood(f"{min(name, other)} and {max(name, other)} are one tensor")

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def tie(self, first: int, second: int) -> int:
        """Make two groups one; the fixed one stays fixed."""
        a, b = sorted((self.root(first), self.root(second)))
        if a != b:
            if a != FIXED and self.sizes[a] != self.sizes[b]:
                raise _not_understood(f"{self.sizes[a]} units are combined with {self.sizes[b]}")
            self.parent[b] = a
        return a

    def new(self, size: int) -> int:
        self.parent.append(len(self.parent))
        self.sizes[self.parent[-1]] = size
        return self.parent[-1]

    def put(self, tensor: str, dimension: int, group: int) -> None:
        """Number this axis by this group."""
        if tensor not in self.tensors:
            raise _not_understood(f"{tensor} is computed from other parameters")
        axis = Axis(tensor, dimension)
        self.axes[axis] = self.tie(self.axes[axis], group) if axis in self.axes else group
        root, length = self.root(group), self.tensors[tensor].shape[dimension]
        if root != FIXED and length % self.sizes[root]:
            raise _not_understood(f"{tensor} has {length} entries along {dimension} for {self.sizes[root]} units")

    def _visit(self, node: fx.Node) -> _Units | None:
        if node.op == "placeholder":
            return _Units(FIXED)
        if node.op == "output":
            for units in self._arguments(node):
                self.tie(FIXED, units.group)
            return None
        if node.op == "call_module":
            return self._module(str(node.target), self.modules[str(node.target)], self._only(node))
        if node.op in ("call_function", "call_method"):
            return self._function(node)
        raise _not_understood(f"the forward pass uses {node.target} by itself")

    def _arguments(self, node: fx.Node) -> Iterator[_Units]:
        for source in node.all_input_nodes:
            units = self.values[source]
            if units is not None:
                yield units

    def _only(self, node: fx.Node) -> _Units:
        found = list(self._arguments(node))
        if len(found) != 1:
            raise _not_understood(f"{node.target} has {len(found)} inputs")
        return found[0]

    def _module(self, name: str, module: nn.Module, units: _Units) -> _Units:
        if isinstance(module, (*ELEMENTWISE, *POOLING)):
            return units
        if isinstance(module, nn.Flatten):
            return self._flatten(units, module.start_dim, module.end_dim)
        if isinstance(module, nn.Linear):
            return self._linear(name, module, units)
        if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
            return self._convolution(name, module, units)
        if isinstance(module, nn.PReLU):
            if module.num_parameters > 1:
                self.put(f"{name}.weight", 0, units.group)
            return units
        return self._norm(name, module, units)

    def _linear(self, name: str, module: nn.Linear, units: _Units) -> _Units:
        if units.channels:
            raise _not_understood(f"{name} mixes pixels, not channels")
        out = self._out_group(name, module.out_features)
        self.put(f"{name}.weight", 1, units.group)
        self._put_out(name, module, out)
        return _Units(out)

    def _convolution(self, name: str, module: _ConvNd, units: _Units) -> _Units:
        if module.groups == 1:
            out = self._out_group(name, module.out_channels)
            self.put(f"{name}.weight", 1, units.group)
        elif module.groups == module.in_channels == module.out_channels:
            out = units.group
        else:
            raise _not_understood(f"{name} convolves {module.groups} groups of channels")
        self._put_out(name, module, out)
        return _Units(out, channels=True)

    def _out_group(self, name: str, size: int) -> int:
        """The group of a layer's outputs: that of its first call where it is called again."""
        known = self.axes.get(Axis(f"{name}.weight", 0))
        return self.new(size) if known is None else known

    def _put_out(self, name: str, module: nn.Linear | _ConvNd, group: int) -> None:
        self.put(f"{name}.weight", 0, group)
        if module.bias is not None:
            self.put(f"{name}.bias", 0, group)

    def _norm(self, name: str, module: nn.Module, units: _Units) -> _Units:
        alike = (
            isinstance(module, _BatchNorm)
            or (isinstance(module, nn.GroupNorm) and module.num_groups in (1, module.num_channels))
            or (isinstance(module, nn.LayerNorm) and not units.channels and len(module.normalized_shape) == 1)
        )
        if not alike:
            raise _not_understood(f"{name} is a {type(module).__name__}")
        for part in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, part, None) is not None:
                self.put(f"{name}.{part}", 0, units.group)
        return units

    def _flatten(self, units: _Units, first: int, last: int) -> _Units:
        if first != 1 or last != -1:
            raise _not_understood(f"dimensions {first} to {last} are flattened")
        return _Units(units.group, folded=True) if units.channels else units

    def _function(self, node: fx.Node) -> _Units | None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        found = list(self._arguments(node))
        if not found or name in ("size", "getattr", "dim"):
            return None
        if name in COMBINING:
            return self._combined(found)
        if len(found) == 1:
            units = found[0]
            if name in UNITWISE or node.target in MAX_POOLING:
                return units
            if name == "flatten":
                bounds = [*node.args[1:], *([-1] if len(node.args) < 3 else [])]
                first = node.kwargs.get("start_dim", bounds[0] if len(node.args) > 1 else 0)
                last = node.kwargs.get("end_dim", bounds[1] if len(node.args) > 2 else -1)
                return self._flatten(units, _plain(first), _plain(last))
            if name in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
                return self._flatten(units, 1, -1)
            if name in ("mean", "amax", "sum"):
                return self._pooled(node, units)
        raise _not_understood(f"the forward pass calls {name}")

    def _combined(self, found: list[_Units]) -> _Units:
        first, *others = found
        for other in others:
            if (first.channels, first.folded) != (other.channels, other.folded) and FIXED not in (
                self.root(first.group),
                self.root(other.group),
            ):
                raise _not_understood("tensors of different layout are added")
            self.tie(first.group, other.group)
        return first

    def _pooled(self, node: fx.Node, units: _Units) -> _Units:
        over = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        dims = [over] if isinstance(over, int) else list(over) if isinstance(over, tuple | list) else []
        if not units.channels or sorted(_plain(d) for d in dims) not in ([2, 3], [-2, -1], [2, 3, 4]):
            raise _not_understood(f"the forward pass takes the {node.target} over dimensions {over}")
        return _Units(units.group, channels=bool(node.kwargs.get("keepdim", False)))


def _plain(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise _not_understood("a dimension is computed in the forward pass")
