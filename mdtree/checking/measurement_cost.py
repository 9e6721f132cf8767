"""What a measurement is going to cost, from a trial of a second or two: time, sample gradients, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape import ClassificationData, Execution, Objective, Protocol, Task
from landscape.budget import sibling_gradients
from landscape.features import FEATURE_SAMPLES
from landscape.first_order import EXACT_BELOW
from landscape.network import Network, computing, differentiable

TRIAL_SECONDS = 2.0
"""Most time for the trial of one batch size, where one sample gradient takes less."""

MOST_OVER_LEAST = 1.4
"""How many more sample gradients a measurement usually takes at most, over one whose eigenvalues are known at once.

Eigenvalues that need further samples or are slow to converge take 1.7 times the least on a small network; random
weights and labels 2.3 times.
"""

GRAPH_COPIES = 2.4
"""Memory that a measurement takes in graphs that the weights do not count for, over that of one forward pass."""

VECTOR_BYTES = 55
"""Bytes a parameter of vectors as long as the weights: the copy of the network, gradients, sums in float64."""

SIBLING_BYTES = 80
"""The same of each sibling: its copy, the curve between the two, and what trains it."""

BASIS_BYTES = 128 * 2**20
"""Most memory of the Lanczos basis."""

_FIRST_SAMPLES = (2, 4)
"""Sizes of the batches whose saved tensors tell what one sample more saves."""

Part = Callable[[int], Objective]
"""The objective of the network on so many of its first samples, as one batch."""


@dataclass(frozen=True)
class MeasurementCost:
    """What `mdtree diagnose` is going to take, about.

    Parameters
    ----------
    sample_gradients : tuple of float
        Least and usually most: forward and backward of one sample count 1.
    seconds : tuple of float
        The same in time on this machine, on as many threads as the measurement takes.
    seconds_per_gradient : float
        As tried with the measurement's batch, or as large a part of it as the trial had time for.
    memory_bytes : int
        At its peak, the process with the data in it.
    """

    sample_gradients: tuple[float, float]
    seconds: tuple[float, float]
    seconds_per_gradient: float
    memory_bytes: int


def measurement_cost(
    models: Sequence[nn.Module],
    data: ClassificationData,
    protocol: Protocol | None = None,
    execution: Execution | None = None,
) -> MeasurementCost:
    """Try the network on a few of its training samples.

    Parameters
    ----------
    models : sequence of torch.nn.Module
        The network, then its siblings; none is changed.
    data : ClassificationData
    protocol, execution
        Of the measurement to come.

    Returns
    -------
    MeasurementCost

    Raises
    ------
    LandscapeError
        If the network cannot be measured on these data, as in `landscape.measure`.
    """
    protocol, execution = protocol or Protocol(), execution or Execution()
    before = _peak_memory()
    with computing(execution):
        network, few = Network(models[0], execution), data.train.subset(execution.batch_size, protocol.seed)

        def part(size: int) -> Objective:
            return Objective(network, few.at(torch.arange(size)), Task(data.num_classes), execution=execution)

        slow = seconds_per_gradient(part, len(few))
        least, most = alone_gradients(protocol, data)
        seconds = (least * slow, most * slow)
        siblings = len(models) - 1
        if siblings:
            each = sibling_gradients(protocol, min(len(data.train), protocol.samples), bool(network.batch_norms))
            training = protocol.curve_steps * min(protocol.curve_batch_size, len(data.train))
            # the curve is trained on small batches, whose samples take longer
            small = max(slow, seconds_per_gradient(part, min(protocol.curve_batch_size, len(few))))
            pairs = siblings * ((each - training) * slow + training * small)
            least, most = least + siblings * each, most + siblings * each
            seconds = (seconds[0] + pairs, seconds[1] + pairs)
        memory = before + added_memory(part, len(few), siblings)
    return MeasurementCost((least, most), seconds, slow, memory)


def alone_gradients(protocol: Protocol, data: ClassificationData) -> tuple[float, float]:
    """Least and usually most sample gradients of one network by itself.

    The pass for loss, gradient and trace; features and weight noise; the test samples; and Lanczos runs of
    ``density_steps`` products (each 2 sample gradients) on the first samples, or on all if those are not twice as many.
    """
    count = min(len(data.train), protocol.samples)
    whole = len(data.train) <= 2 * protocol.first_samples
    classes = data.num_classes
    exact = len(data.train) <= protocol.samples and classes * count <= EXACT_BELOW
    trace = (1 + 2 * classes) / 3 * count if exact else 2 * count
    test = 0 if data.test is None else min(len(data.test), protocol.samples) / 3
    first = count if whole else protocol.first_samples
    least = trace + 10 / 3 * min(FEATURE_SAMPLES, count) + test + (2 * protocol.density_steps + 2) * first
    return least, MOST_OVER_LEAST * least


def seconds_per_gradient(part: Part, batch: int) -> float:
    """Wall time of one sample gradient in batches of that size, or of the largest part of it that is quick enough."""
    size, spent = 1, 0.0
    while True:
        objective = part(size)
        seconds = _timed(objective)
        spent += seconds
        larger = min(4 * size, batch)
        if spent + seconds * larger / size > TRIAL_SECONDS:
            return seconds / size
        if size == batch:  # once more: the first pass of a size also allocates
            return min(seconds, _timed(objective)) / size
        size = larger


def _timed(objective: Objective) -> float:
    started = time.perf_counter()
    objective.gradient()
    return time.perf_counter() - started


def added_memory(part: Part, batch: int, siblings: int) -> int:
    """Bytes that a measurement takes beyond what the process holds already.

    What the graph of a batch keeps; vectors as long as the weights, more of them where networks are compared than
    where a graph is alive beside them; and the Lanczos basis.
    """
    fewest, more = (min(size, batch) for size in _FIRST_SAMPLES)
    kept = saved_bytes(part(fewest))
    each = (saved_bytes(part(more)) - kept) / (more - fewest) if more > fewest else kept / fewest
    graph = max(0.0, kept - fewest * each) + each * batch
    count = part(1).parameter_count
    basis = min(BASIS_BYTES, 4 * count * 2 * Protocol().density_steps)
    return (
        int(max(GRAPH_COPIES * graph + VECTOR_BYTES * count, (VECTOR_BYTES + siblings * SIBLING_BYTES) * count)) + basis
    )


def saved_bytes(objective: Objective) -> int:
    """Bytes that the graph of one forward pass keeps for its backward pass, weights left out; each storage once."""
    weights = objective.network.flat.untyped_storage().data_ptr()
    sizes: dict[int, int] = {}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != weights:
            alive.append(tensor)  # a storage that was freed would give its address to another
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with differentiable(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.batch_loss(next(objective.batches()))
    return sum(sizes.values())


def _peak_memory() -> int:
    """Largest size this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
