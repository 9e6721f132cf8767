"""One reading of saved weights: a network's names against the file's names under one prefix, and all that does not fit.

`mdtree.weights.weight_names` chooses among the readings; what counts as the same name is said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from mdtree.specification import shown

_CONSTANTS = frozenset({"position_ids", "relative_position_index"})

# (older, newer) ends of names, both ways; the tensors are the same
_SAME_TENSOR = (
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("weight_orig", "parametrizations.weight.original"),
    ("weight_u", "parametrizations.weight.0._u"),
    ("weight_v", "parametrizations.weight.0._v"),
)
_OLD_LAYER_NORM = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
_OTHER_NAMES = (*_SAME_TENSOR, *((new, old) for old, new in _SAME_TENSOR), *_OLD_LAYER_NORM)


@dataclass(eq=False)
class Reading:
    """What became of the names, with one prefix taken off those of the file and one off those of the network.

    Parameters
    ----------
    prefix, network_prefix : str
        The two.
    state : dict of str to Tensor
        Network's name (without its prefix) to weights.
    used : set of str
        Names of the file that are in it.
    missing, unexpected : list of str
        Names that only the network has, and only the file under the prefix.
    misshaped : list of str
        What has another shape or kind of number, in words.
    tied, uncounted : list of str
        Names filled from the tensor they are tied to, and counts of batches taken as 0.
    renamed : list of (str, str)
        The file's name and the network's where they differ.
    """

    prefix: str
    network_prefix: str = ""
    state: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)
    tied: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether every name and shape of the network is there, and under the prefix nothing else."""
        return not (self.missing or self.unexpected or self.misshaped)


def read_names(
    own: Mapping[str, Tensor], under: Mapping[str, Tensor], prefix: str = "", network_prefix: str = ""
) -> Reading:
    """Match a network's names with the file's.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's tensors, `network_prefix` taken off.
    under : mapping of str to Tensor
        The file's tensors whose names begin with `prefix`, taken off.
    prefix, network_prefix : str
        The two.

    Returns
    -------
    Reading
    """
    reading = Reading(prefix, network_prefix)
    for name, wanted in own.items():
        found = name if name in under else _other_name(name, own, under)
        if found is None:
            continue
        reading.used.add(prefix + found)
        reading.state[name] = under[found]
        if found != name:
            reading.renamed.append((found, name))
        if not _same_kind(under[found], wanted):
            reading.misshaped.append(f"{shown(name)} {_described(under[found])} for {_described(wanted)}")
    partners = tied_names(own)
    for name in own:
        if name in reading.state:
            continue
        partner = next((one for one in partners.get(name, ()) if one in reading.state), None)
        if partner is not None:
            reading.state[name] = reading.state[partner]
            reading.tied.append(name)
        elif is_count(name) and name.replace("num_batches_tracked", "running_mean") in reading.state:
            reading.state[name] = torch.zeros((), dtype=torch.int64)
            reading.uncounted.append(name)
        else:
            reading.missing.append(name)
    rest = [name for name in under if prefix + name not in reading.used]
    reading.unexpected = [name for name in rest if not _is_constant(name, under[name])]
    return reading


def tied_names(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For every name of a tensor that several names have, the others."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, value in own.items():
        if not is_lazy(value) and value.layout is torch.strided and value.numel():
            place = (value.untyped_storage()._cdata, value.storage_offset(), value.shape, value.stride())
            groups.setdefault(place, []).append(name)
    shared = [names for names in groups.values() if len(names) > 1]
    return {name: [one for one in names if one != name] for names in shared for name in names}


def is_count(name: str) -> bool:
    """Whether it is the name of a BatchNorm's count of batches."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _other_name(name: str, own: Mapping[str, Tensor], under: Mapping[str, Tensor]) -> str | None:
    """The name that another version gives to the same tensor, if the file has it and the network does not."""
    for other, this in _OTHER_NAMES:
        if name == this or name.endswith(f".{this}"):
            candidate = name.removesuffix(this) + other
            if candidate in under and candidate not in own and _same_kind(under[candidate], own[name]):
                return candidate
    return None


def _is_constant(name: str, value: Tensor) -> bool:
    """Whether it is a table that networks make themselves, and that older versions of them saved."""
    return name.rpartition(".")[2] in _CONSTANTS and not (value.is_floating_point() or value.is_complex())


def _same_kind(value: Tensor, wanted: Tensor) -> bool:
    kinds = [(one.is_floating_point(), one.is_complex()) for one in (value, wanted)]
    return kinds[0] == kinds[1] and (is_lazy(wanted) or value.shape == wanted.shape)


def _described(tensor: Tensor) -> str:
    if is_lazy(tensor):
        return "any shape"
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.is_floating_point() else f"{shape} of {str(tensor.dtype).removeprefix('torch.')}"
