"""What training started from: fresh weights, or those of another network; growth of the weights is against these.

A fine-tuned network starts at weights that are large already, so that fresh instances say nothing of how far its own
training has taken it; and two that start alike stay in one basin, whatever their temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add

import torch
from torch import Tensor, nn

from landscape import Protocol
from landscape.network import seeded_global_state
from mdtree.checkpoint import Checkpoint
from mdtree.errors import InputError
from mdtree.specification import listing, shown


@dataclass(frozen=True)
class StartingPoint:
    """The squared norm of a network's parameters before training, as far as it is known.

    Parameters
    ----------
    norm_squared : float or None
        None where fresh instances tell it, or nothing does.
    source : str
        Where it is from: "its manifest", a file; empty where there is none.
    notes : tuple of str
        For the report: what of the network that file lacks.
    reason : str or None
        Why growth cannot be told; None where it can, by `norm_squared` or by fresh instances.
    """

    norm_squared: float | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    reason: str | None = None


def starting_point(
    opened: Checkpoint, init: Checkpoint | None, network: nn.Module, fresh: Callable[[], nn.Module] | None
) -> StartingPoint:
    """The squared norm at the start of training: from `init`, else from the manifest, else from fresh instances.

    Parameters
    ----------
    opened : Checkpoint
        The trained network's.
    init : Checkpoint or None
        What training started from, if the user gave it.
    network : torch.nn.Module
        With its trained weights.
    fresh : callable or None
        Makes an untrained network; for what `init` lacks, such as a new head.

    Returns
    -------
    StartingPoint
        With a `reason` and no number for a network that was fine-tuned from weights that are not at hand.

    Raises
    ------
    InputError
        As in `initial_norm_squared`.
    """
    if init is not None:
        return initial_norm_squared(init, network, fresh)
    if opened.initial_norm_squared is not None:
        return StartingPoint(opened.initial_norm_squared, "its manifest")
    if opened.fine_tuned_from is not None:
        return StartingPoint(
            reason=f"fine-tuned from {shown(opened.fine_tuned_from)}: give what training started from with --init FILE"
        )
    return StartingPoint()


def initial_norm_squared(init: Checkpoint, network: nn.Module, fresh: Callable[[], nn.Module] | None) -> StartingPoint:
    """The squared norm of all parameters, buffers left out, as they were in `init`.

    ``sum_i ||w_i||^2`` over the parameters that `init` holds by the same name and shape (a first part of the name that
    all names of the one have and the other's lack is bridged), and for the others, such as a new head,
    ``E ||w_i||^2`` over fresh instances.

    Parameters
    ----------
    init : Checkpoint
    network : torch.nn.Module
        With its trained weights.
    fresh : callable or None
        Makes an untrained network; called under fixed global seeds, which are restored.

    Returns
    -------
    StartingPoint

    Raises
    ------
    InputError
        `init` has nothing in common with the network, is the network itself, or lacks parameters that no fresh
        instance can give.
    """
    own = _parameters(network)
    found = _starting_tensors(init.state, own)
    if not found:
        raise InputError(
            f"{init.path} has no tensor in common with the network, by name and shape (it holds "
            f"{listing(list(init.state), 2)}; the network {listing([names[0] for names in own], 2)})",
            "the weights that its training started from",
        )
    new = [names for names in own if names not in found]
    if not new and all(torch.equal(found[names], value.to(found[names].dtype)) for names, value in own.items()):
        raise InputError(
            f"{init.path} holds the very weights of the checkpoint", "those that its training started from"
        )
    square = sum(float(value.double().square().sum()) for value in found.values())
    if not new:
        return StartingPoint(square, str(init.path))
    if fresh is None:
        raise InputError(
            f"{init.path} lacks {_tensors(new)} of the network", "all weights that its training started from"
        )
    one = len(new) == 1
    note = f"{_tensors(new)} of the network {'is' if one else 'are'} not in {init.path}: from fresh initialisation"
    return StartingPoint(square + _fresh_squares(fresh, new), str(init.path), (note,))


def siblings_share_start(checkpoints: Sequence[Checkpoint], init: object | None) -> bool:
    """Whether a network and its siblings were trained from the same weights, which were no fresh ones.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        The network's, then the siblings'.
    init : object or None
        What the user names as the start of all of them, if anything.

    Returns
    -------
    bool
        Siblings are the same training from another seed: one that names no start has the network's.
    """
    opened, *others = checkpoints
    if not others:
        return False
    if init is not None:
        return True
    start = opened.fine_tuned_from
    return start is not None and any(other.fine_tuned_from in (None, start) for other in others)


def _parameters(network: nn.Module) -> dict[tuple[str, ...], Tensor]:
    """Every floating-point parameter once, under all the names it has."""
    names: dict[int, list[str]] = {}
    values: dict[int, Tensor] = {}
    for name, value in network.named_parameters(remove_duplicate=False):
        if value.is_floating_point():
            names.setdefault(id(value), []).append(name)
            values[id(value)] = value.detach()
    return {tuple(of): values[key] for key, of in names.items()}


def _starting_tensors(
    state: Mapping[str, Tensor], own: Mapping[tuple[str, ...], Tensor]
) -> dict[tuple[str, ...], Tensor]:
    """The parameters that `state` holds, under the network's names; of the ways to bridge names the one with most."""
    best: dict[tuple[str, ...], Tensor] = {}
    for renamed in _renamings(state, own):
        found = {}
        for names, value in own.items():
            held = next((state[key] for name in names if (key := renamed(name)) in state), None)
            if held is not None and held.shape == value.shape and held.is_floating_point():
                found[names] = held
        if len(found) > len(best):
            best = found
    return best


def _renamings(state: Mapping[str, Tensor], own: Mapping[tuple[str, ...], Tensor]) -> Iterator[Callable[[str], str]]:
    """From the network's names to those of `state`: as they are, a first part taken off, or put before."""
    yield str
    for first in sorted({name.partition(".")[0] for names in own for name in names}):
        yield partial(_without, f"{first}.")
    for first in sorted({name.partition(".")[0] for name in state}):
        yield partial(add, f"{first}.")


def _without(first: str, name: str) -> str:
    return name.removeprefix(first)


def _fresh_squares(fresh: Callable[[], nn.Module], new: Sequence[tuple[str, ...]]) -> float:
    """``E sum ||w||^2`` of the named parameters over as many fresh instances as a measurement takes."""
    protocol, squares = Protocol(), []
    for seed in range(protocol.seed, protocol.seed + protocol.fresh_instances):
        with seeded_global_state(seed):
            of = dict(fresh().named_parameters(remove_duplicate=False))
        squares.append(sum(float(of[names[0]].detach().double().square().sum()) for names in new))
    return sum(squares) / len(squares)


def _tensors(new: Sequence[tuple[str, ...]]) -> str:
    names = listing([each[0] for each in new], 3)
    return f"{len(new)} tensor{'s' if len(new) > 1 else ''} ({names})"
