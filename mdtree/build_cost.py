"""What a zoo will cost, tried on a few steps of it before it is begun."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from landscape import Execution, measure_many
from landscape.budget import TRIAL_SAMPLES, seconds_per_gradient, sibling_gradients
from landscape.objective import Objective
from landscape.task import Samples, Task
from mdtree.backends import Backend
from mdtree.data import load_data
from mdtree.grid import plan_units
from mdtree.grid_spec import Unit, ZooSpec
from mdtree.grid_unit import fresh, network_seed
from mdtree.prepare import classification_data
from mdtree.training import StackMember, train_loop, train_stack

TRIAL_STEPS = (10, 40)
"""Training is tried with both numbers of updates: their difference leaves out what happens once."""

TRIAL_GROUPS = 8
"""Networks, each with a sibling, on which the measuring of a stack is tried."""


@dataclass(frozen=True)
class BuildCost:
    """What a build is expected to take.

    Attributes
    ----------
    networks, stacked, units, cells : int
        Networks in all, those of them trained in stacks, and what they are stored in.
    train_seconds, measure_seconds : float
        On one thread.
    wall_seconds : float
        With all workers at work.
    workers : int
    memory_bytes : int
        All workers together: each as large as the process that tried the largest unit.
    """

    networks: int
    stacked: int
    units: int
    cells: int
    train_seconds: float
    measure_seconds: float
    wall_seconds: float
    workers: int
    memory_bytes: int


def build_cost(spec: ZooSpec, backend: Backend, *, progress: Callable[[str, float], None] | None = None) -> BuildCost:
    """Try a few steps of every architecture and width, on one thread of this machine.

    The time is right to about a factor of 1.5 where the workers are like this machine and have nothing else to do.

    Parameters
    ----------
    spec : ZooSpec
    backend : Backend
        Its number of workers divides the time; of a cluster it is not known, and one is assumed.
    progress : callable, optional
        Called with a network's specification and the share of them that is done.

    Raises
    ------
    InputError
        The data cannot be read, or an architecture cannot be built for it.
    """
    units = plan_units(spec)
    kinds: dict[tuple[str, bool], list[Unit]] = {}
    for unit in units:
        kinds.setdefault((unit.block.model_spec, unit.stacked), []).append(unit)
    train = measure = 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number, ((name, _), alike) in enumerate(kinds.items()):
            largest = max(alike, key=lambda unit: (unit.networks, unit.block.train_size))
            update, network = seconds_per_update(largest), seconds_per_measurement(largest)
            train += sum(update * updates for unit in alike for updates in _updates(unit))
            measure += sum(network * unit.networks for unit in alike)
            if progress:
                progress(name, (number + 1) / len(kinds))
    finally:
        torch.set_num_threads(threads)
    workers = backend.processes or 1
    return BuildCost(
        networks=sum(unit.networks for unit in units),
        stacked=sum(unit.networks for unit in units if unit.stacked),
        units=len(units),
        cells=sum(len(unit.cells) for unit in units),
        train_seconds=train,
        measure_seconds=measure,
        wall_seconds=(train + measure) / min(workers, len(units)),
        workers=workers,
        memory_bytes=_peak_memory() * min(workers, len(units)),
    )


def _updates(unit: Unit) -> Iterator[int]:
    """Parameter updates of a unit: of a stack all at once, of a loop one network after the other."""
    for cell in unit.cells[:1] if unit.stacked else unit.cells:
        steps = unit.spec.recipe(cell).steps
        yield steps if unit.stacked else steps * unit.spec.seeds


def seconds_per_update(unit: Unit) -> float:
    """Wall time of one update of a whole stack, or of one network of a loop."""
    data = load_data(unit.block.data_spec)
    recipe = unit.spec.recipe(unit.cells[0])
    members = [
        StackMember(network_seed(seed), cell.learning_rate, data.y_train)
        for cell in unit.cells
        for seed in range(unit.spec.seeds)
    ]

    def run(steps: int) -> float:
        started = time.perf_counter()
        if unit.stacked:
            train_stack(
                lambda seed: fresh(unit.block, data, seed), members, data.train_tensor, replace(recipe, steps=steps)
            )
        else:
            model = fresh(unit.block, data, network_seed(0))
            train_loop(model, data.train_tensor, data.y_train, replace(recipe, steps=steps), network_seed(0))
        return time.perf_counter() - started

    few, many = TRIAL_STEPS
    run(few)
    return max(0.0, run(many) - run(few)) / (many - few)


def seconds_per_measurement(unit: Unit) -> float:
    """Wall time of measuring one network with its sibling."""
    data, protocol = load_data(unit.block.data_spec), unit.spec.protocol

    def one(seed: int) -> nn.Module:
        return fresh(unit.block, data, seed).eval()

    if unit.stacked:
        count = min(TRIAL_GROUPS, unit.networks)
        networks = [one(seed) for seed in range(count + 1)]
        groups = [[networks[i], networks[i + 1]] for i in range(count)]
        started = time.perf_counter()
        measure_many(groups, classification_data(data), protocol, fresh=lambda: fresh(unit.block, data))
        return (time.perf_counter() - started) / count
    samples = Samples(data.x_train, data.y_train)

    def per_gradient(batch: int) -> float:
        part = samples.at(torch.arange(min(len(samples), batch)))
        execution = Execution(batch_size=min(batch, TRIAL_SAMPLES))
        return seconds_per_gradient(Objective(one(0), part, Task(data.num_classes), execution=execution))

    used = min(len(samples), protocol.samples)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in one(0).modules())
    curve = protocol.curve_steps * min(protocol.curve_batch_size, used)
    rest = sibling_gradients(protocol, used, norms) - curve + _alone_gradients(used, protocol.first_samples)
    return curve * per_gradient(protocol.curve_batch_size) + rest * per_gradient(TRIAL_SAMPLES)


def _alone_gradients(samples: int, first_samples: int) -> float:
    """Sample gradients of one network by itself: the pass that gives loss, gradient and trace, then about 25 products
    with the Hessian, each worth two gradients, on the first samples."""
    return 3.0 * samples + 50.0 * min(samples, first_samples)


def _peak_memory() -> int:
    """Largest size this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
