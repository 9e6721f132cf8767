"""Fitting the names of saved weights to a network's own, by a few rules that are each reported and never guess.

1. The names are equal.
2. All names of the network stand under one prefix of the file: a Lightning module saves its network's ``conv1.weight``
   as ``model.conv1.weight``. What stands outside the prefix is set aside and listed.
3. The reverse: all names of the network share a prefix that the file lacks.

Within each of these: segments that compiling and sharding put into names (``_orig_mod``) are passed over; a tensor that
is tied to another one in the network is taken from it where the file holds it once; weight and spectral norm are known
by their older and newer names; ``gamma`` and ``beta`` of an old BERT are ``weight`` and ``bias``; the count of batches
that files of torch before 0.4.1 lack is 0; tables of constants (``position_ids``) that the network makes itself are
set aside. Anything else that is missing, unexpected or of another shape is an error that lists it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.specification import listing, shown
from mdtree.weights.name_matching import Reading, is_count, read_names, tied_names
from mdtree.weights.transformers_names import names_in_files

_Path = str | os.PathLike[str] | None
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_DEEPEST_PREFIX = 8


@dataclass(frozen=True, eq=False)
class FittingState:
    """Weights under the network's own names, every one of them and no other.

    Parameters
    ----------
    state : dict of str to Tensor
        What the network can load.
    prefix : str
        What was taken off the file's names ("model."); empty where nothing was.
    left_aside : tuple of str
        Names of the file that are not the network's: a loss's weights, another network, constants.
    tied : tuple of str
        Names that the file does not hold, filled from the tensor they are tied to.
    network_prefix : str
        What the network's names have and the file's lack.
    notes : tuple of str
        All of this, and what was renamed, as sentences for the report.
    """

    state: dict[str, Tensor]
    prefix: str = ""
    left_aside: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    network_prefix: str = ""
    notes: tuple[str, ...] = ()


def fitting_state(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    path: _Path = None,
    prefix: str | None = None,
    aliases: Mapping[str, str] | None = None,
) -> FittingState:
    """Bring saved weights under a network's own names.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's ``state_dict()``; the tensors may be on the meta device. Entries of one storage count as tied.
    state : mapping of str to Tensor
        The saved weights.
    path : path, optional
        Named in errors.
    prefix : str, optional
        Under which prefix of the file the network stands, where it holds several that fit: "teacher".
    aliases : mapping of str to str, optional
        Names that a package gives to the network's tensors in files, where they differ from those in memory; tried
        second. See `mdtree.weights.transformers_names.names_in_files`.

    Returns
    -------
    FittingState

    Raises
    ------
    InputError
        Lists what is missing, unexpected or of another shape, the first five of each, as the nearest reading has it; or
        the prefixes, where several fit and their weights differ; or tied tensors that differ in the file.
    """
    bare, file_names = _without_wrappers(state)
    tried: list[Reading] = []
    for names in ({name: name for name in own}, {name: (aliases or {}).get(name, name) for name in own}):
        bare_own, own_names = _without_wrappers({names[name]: value for name, value in own.items()})
        readings, fitting = _search(bare_own, bare, prefix)
        tried += readings
        if fitting or not aliases:
            break
    if not fitting:
        raise _misfit(max(tried, key=lambda one: (len(one.used), -len(one.prefix))), path)
    _refuse_ambiguous(fitting, path)
    chosen = fitting[0]
    in_memory = {names[name]: name for name in own}
    back = {name: in_memory[own_names[chosen.network_prefix + name]] for name in chosen.state}
    loaded = {back[name]: value for name, value in chosen.state.items()}
    _refuse_untied(own, loaded, path)
    aside = tuple(file_names[name] for name in bare if name not in chosen.used)
    return FittingState(
        state=loaded,
        prefix=chosen.prefix,
        left_aside=aside,
        tied=tuple(back[name] for name in chosen.tied),
        network_prefix=chosen.network_prefix,
        notes=tuple(_notes(chosen, own, loaded, aside)),
    )


def fit_and_load(
    model: nn.Module, state: Mapping[str, Tensor], path: _Path = None, prefix: str | None = None
) -> FittingState:
    """Bring saved weights under a network's own names and load them into it; if they do not fit, it is left as it was.

    Parameters and errors as for `fitting_state`; the network is changed in place. Those of `transformers` may have
    other names in files.
    """
    present = model.state_dict()
    own = {name: value for name, value in present.items() if isinstance(value, Tensor)}
    fit = fitting_state(own, state, path, prefix, names_in_files(model))
    loaded = OrderedDict(fit.state)
    # names and shapes are those of the network's present version: nothing is left that a module might convert
    loaded._metadata = getattr(present, "_metadata", {})  # type: ignore[attr-defined]
    # names were compared; not strict, since a module may ask for an extra state that is no tensor
    model.load_state_dict(loaded, strict=False)
    return fit


def _search(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str | None
) -> tuple[list[Reading], list[Reading]]:
    """All readings that were tried, and those that fit: as few prefixes as possible are taken off."""
    parts = _parts(state)
    tried: list[Reading] = []
    for network_prefix in _common_prefixes(own):
        wanted = {name.removeprefix(network_prefix): value for name, value in own.items()}
        if prefix is not None:
            steps = [[prefix if prefix.endswith(".") else f"{prefix}."]]
        else:
            steps = [[""], _likely(wanted, parts)]
        for prefixes in steps:
            readings = [read_names(wanted, parts.get(one, {}), one, network_prefix) for one in prefixes]
            tried += readings
            fitting = [one for one in readings if one.fits]
            if fitting:
                return tried, fitting
    return tried, []


def _parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """For every prefix of the file's names, what stands under it; the whole under the empty one."""
    parts: dict[str, dict[str, Tensor]] = {"": dict(state)}
    for name, value in state.items():
        at = -1
        for _ in range(_DEEPEST_PREFIX):
            at = name.find(".", at + 1)
            if at < 0:
                break
            parts.setdefault(name[: at + 1], {})[name[at + 1 :]] = value
    return parts


def _likely(own: Mapping[str, Tensor], parts: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """The prefixes with so many names that the network could stand there, in the file's order."""
    # what a file may lack: tied duplicates and the counts of batches
    fewest = sum(not is_count(name) for name in own) - len(tied_names(own))
    likely = [prefix for prefix, part in parts.items() if prefix and len(part) >= max(1, fewest)]
    # with none that could fit, the most frequent still tell which reading is the nearest
    return likely or sorted((one for one in parts if one), key=lambda one: -len(parts[one]))[:10]


def _common_prefixes(own: Mapping[str, Tensor]) -> list[str]:
    """Nothing, then ``net.``, ``net.model.`` ... as long as every name of the network begins so."""
    found = [""]
    first = next(iter(own), "")
    for at in [place for place, letter in enumerate(first) if letter == "."][:_DEEPEST_PREFIX]:
        if not all(name.startswith(first[: at + 1]) for name in own):
            break
        found.append(first[: at + 1])
    return found


def _without_wrappers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors under names without the segments that wrappers add, and the names they had."""
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in state}
    if len(set(names.values())) < len(names):
        names = {name: name for name in state}
    return {names[name]: value for name, value in state.items()}, {bare: name for name, bare in names.items()}


def _refuse_ambiguous(fitting: Sequence[Reading], path: _Path) -> None:
    """Several prefixes fit: the same weights under two names are no question, different ones are."""
    first, *others = fitting
    if all(torch.equal(first.state[name], other.state[name]) for other in others for name in first.state):
        return
    names = [one.prefix.removesuffix(".") for one in fitting]
    raise InputError(
        f"the network fits several parts of {path or 'the file'} ({listing(names)})",
        "one",
        f"say which one is meant: --weights {shown(names[0])}",
    )


def _refuse_untied(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], path: _Path) -> None:
    for name, partners in tied_names(own).items():
        for partner in partners:
            if not torch.equal(loaded[name], loaded[partner]):
                raise InputError(
                    f"{shown(name)} and {shown(partner)} are one tensor in the network, but differ in "
                    f"{path or 'the file'}",
                    "the network they were trained in",
                    "build it without tying them",
                )


def _misfit(nearest: Reading, path: _Path) -> InputError:
    faults = [
        f"{len(names)} {word} ({listing(names)})"
        for word, names in (
            ("missing", nearest.missing),
            ("unexpected", nearest.unexpected),
            ("of another shape", nearest.misshaped),
        )
        if names
    ]
    where = f" in {path}" if path else ""
    under = f" under {shown(nearest.prefix.removesuffix('.'))}" if nearest.prefix else ""
    return InputError(
        f"the weights{where}{under} do not fit the network: {', '.join(faults)}",
        "the network they were trained in",
        "name it with --model package.module:factory?key=value",
    )


def _notes(
    chosen: Reading, own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], aside: Sequence[str]
) -> Iterable[str]:
    if chosen.prefix:
        yield f"the network is what the file has under {shown(chosen.prefix.removesuffix('.'))}"
    if aside:
        what = (
            "1 tensor of the file is not the network's and was"
            if len(aside) == 1
            else (f"{len(aside)} tensors of the file are not the network's and were")
        )
        yield f"{what} set aside: {listing(aside)}"
    if chosen.tied:
        yield f"{len(chosen.tied)} weights were taken from those they are tied to: {listing(chosen.tied)}"
    if chosen.renamed:
        old, new = chosen.renamed[0]
        yield f"{len(chosen.renamed)} weights have another version's names: {shown(old)} was read as {shown(new)}"
    if chosen.uncounted:
        yield f"{len(chosen.uncounted)} counts of batches that the file lacks (torch before 0.4.1) were taken as 0"
    floats = {name: value for name, value in loaded.items() if value.is_floating_point()}
    kinds = {value.dtype for name, value in floats.items() if value.dtype != own[name].dtype}
    if kinds:
        words = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        yield f"weights saved as {words} are computed with in the network's own precision"
