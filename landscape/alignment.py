"""Hidden units of one network put in the order of another's, by matching their weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.inputs import take
from landscape.network import evaluating, unwrap
from landscape.objective import Objective
from landscape.permutations import Axis, PermutationGroup, permutation_groups

SWEEPS = 100
"""Most passes over all groups; a handful is enough."""

CHECKED_SAMPLES = 64
"""Samples on which a network with permuted hidden units must answer as before."""


def align(reference: nn.Module, model: nn.Module) -> nn.Module:
    """A copy of `model` with its hidden units permuted to lie nearest to `reference`; its function stays the same.

    Raises
    ------
    LandscapeError
        If the architectures differ or the network's permutation symmetries are not understood.
    """
    first, second = unwrap(reference), unwrap(model)
    groups = permutation_groups(second)
    permutations = match_weights(parameters_of(first), parameters_of(second), groups)
    result = copy.deepcopy(second)
    tensors = {**parameters_of(result), **dict(result.named_buffers())}
    with torch.no_grad():
        for name, value in permuted(tensors, groups, permutations).items():
            tensors[name].copy_(value)
    return result


def aligned_parameters(objective: Objective, reference: Tensor, flat: Tensor) -> Tensor:
    """Parameters (P,) with the hidden units in the order of the reference's (P,), checked to be the same function.

    Parameters
    ----------
    objective : Objective
        With a task, on the architecture that both are parameters of. Its network is moved.

    Raises
    ------
    LandscapeError
        If the network's permutation symmetries are not understood, or the answers on a few samples change.
    """
    network, task = objective.network, objective.require_task()
    groups = permutation_groups(network.module)
    first, second = (dict(zip(network.names, network.split(vector), strict=True)) for vector in (reference, flat))
    moved = permuted(second, groups, match_weights(first, second, groups))
    aligned = torch.cat([moved[name].reshape(-1) for name in network.names])
    few = take(next(objective.batches())[0], slice(CHECKED_SAMPLES))
    answers = []
    with evaluating(), network.batch_statistics():
        for vector in (flat, aligned):
            network.load(vector)
            answers.append(task.logits(network(few)).double())
    objective.sample_gradients += 2 * len(answers[0]) / 3
    shift = float((answers[1] - answers[0]).abs().max())
    if not shift <= 1e-3 * (1 + float(answers[0].abs().max())):
        raise LandscapeError(
            f"permuting the hidden units moves the logits by {shift:.3g}",
            "a network whose permutation symmetries are understood",
        )
    return aligned


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter by its name, without its gradient."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def match_weights(
    reference: Mapping[str, Tensor], weights: Mapping[str, Tensor], groups: tuple[PermutationGroup, ...]
) -> tuple[Tensor, ...]:
    """Permutations that maximise ``<a, P b>``, and so minimise ``||a - P b||``, over the hidden units.

    Weight matching (Ainsworth, Hayase and Srinivasa, 2023, algorithm 1): one group after the other is assigned
    exactly while the others stay, until no assignment gains. The start is not the identity but a first pass in the
    order of the groups that looks only at tensors whose other axes are settled: it undoes any permutation of the
    reference itself. No data, no gradient, no chance.

    Parameters
    ----------
    reference, weights : mapping of str to Tensor
        Parameters a and b by name.
    groups : tuple of PermutationGroup
        See :func:`permutation_groups`; buffers among their axes are passed over.

    Returns
    -------
    tuple of Tensor, int64 of shape (size,)
        For each group, which unit of `weights` takes each place; for :func:`permuted`.

    Raises
    ------
    LandscapeError
        If the two have not the same tensors.
    """
    if any(name not in weights or tensor.shape != weights[name].shape for name, tensor in reference.items()):
        raise LandscapeError("two networks of different architecture are to be matched", "the same parameters")
    matching = _Matching(reference, weights, groups)
    matching.first_pass()
    for _ in range(SWEEPS):
        if not any([matching.improve(number) for number in range(len(groups))]):
            break
    return tuple(matching.chosen[number] for number in range(len(groups)))


def permuted(
    tensors: Mapping[str, Tensor], groups: tuple[PermutationGroup, ...], permutations: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """The tensors with unit ``permutations[g][i]`` of each group g in place i; those not given are passed over."""
    result = dict(tensors)
    for group, permutation in zip(groups, permutations, strict=True):
        for axis in group.axes:
            if axis.tensor in result:
                result[axis.tensor] = reordered(result[axis.tensor], axis.dimension, permutation)
    return result


def reordered(tensor: Tensor, dimension: int, permutation: Tensor) -> Tensor:
    """One tensor with its units along one dimension in the order given."""
    blocks = tensor.unflatten(dimension, (len(permutation), -1))
    return blocks.index_select(dimension, permutation.to(tensor.device)).flatten(dimension, dimension + 1)


class _Matching:
    """The permutations so far, and the tensors in float64."""

    def __init__(
        self, reference: Mapping[str, Tensor], weights: Mapping[str, Tensor], groups: Sequence[PermutationGroup]
    ) -> None:
        self.groups = groups
        names = {axis.tensor for group in groups for axis in group.axes if axis.tensor in reference}
        self.a = {name: reference[name].detach().cpu().double() for name in names}
        self.b = {name: weights[name].detach().cpu().double() for name in names}
        self.group_of = {axis: number for number, group in enumerate(groups) for axis in group.axes}
        self.axes: dict[str, list[Axis]] = {name: [] for name in names}
        for axis in self.group_of:
            if axis.tensor in names:
                self.axes[axis.tensor].append(axis)
        self.chosen: dict[int, Tensor] = {}

    def first_pass(self) -> None:
        """Assign every group by the tensors whose other axes are settled, the best informed group first in order."""
        waiting = list(range(len(self.groups)))
        while waiting:
            ready = [number for number in waiting if self._settled_axes(number)]
            number = (ready or waiting)[0]
            self.chosen[number] = self._assign(self._similarity(number, self._settled_axes(number)))
            waiting.remove(number)

    def _settled_axes(self, number: int) -> list[Axis]:
        """The group's axes in tensors whose other axes are fixed or assigned."""
        return [
            axis
            for axis in self._axes_of(number)
            if all(other == axis or self.group_of[other] in self.chosen for other in self.axes[axis.tensor])
        ]

    def _axes_of(self, number: int) -> list[Axis]:
        return [axis for axis in self.groups[number].axes if axis.tensor in self.a]

    def improve(self, number: int) -> bool:
        """Assign one group anew, the others as they are; keep it if the whole inner product grows."""
        before, held = self._inner_product(number), self.chosen[number]
        self.chosen[number] = self._assign(self._similarity(number, self._axes_of(number)))
        if self._inner_product(number) > before + 1e-10 * abs(before):
            return True
        self.chosen[number] = held
        return False

    def _similarity(self, number: int, axes: list[Axis]) -> Tensor:
        """Inner products of the units' weights, shape (size, size): rows the reference's units, columns the others."""
        size = self.groups[number].size
        total = torch.zeros(size, size, dtype=torch.float64)
        for axis in axes:
            moved = self._moved(axis.tensor, but=axis)
            total += _by_unit(self.a[axis.tensor], axis, size) @ _by_unit(moved, axis, size).T
        return total

    def _moved(self, name: str, but: Axis | None = None) -> Tensor:
        """A tensor of the other network with every assigned axis, but one, in its new order."""
        tensor = self.b[name]
        for axis in self.axes[name]:
            if axis != but and self.group_of[axis] in self.chosen:
                tensor = reordered(tensor, axis.dimension, self.chosen[self.group_of[axis]])
        return tensor

    def _inner_product(self, number: int) -> float:
        """``<a, P b>`` over the tensors that the group has an axis in."""
        names = dict.fromkeys(axis.tensor for axis in self._axes_of(number))
        return sum(float((self.a[name] * self._moved(name)).sum()) for name in names)

    @staticmethod
    def _assign(similarity: Tensor) -> Tensor:
        return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def _by_unit(tensor: Tensor, axis: Axis, size: int) -> Tensor:
    """One row of weights for each unit, shape (size, everything else)."""
    return tensor.unflatten(axis.dimension, (size, -1)).movedim(axis.dimension, 0).reshape(size, -1)
