"""One way in which a framework writes a checkpoint, what opening it must give, and the tiny training behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

RATE, BATCH, EPOCHS, SAMPLES = 0.1, 8, 3, 30
BATCHES = 4  # of an epoch


@dataclass(frozen=True, eq=False)
class Built:
    """A checkpoint that was written.

    Parameters
    ----------
    path : Path
        File or folder.
    state : mapping of str to Tensor
        The weights that opening must give; empty where it must be refused.
    recorded : mapping of str to float
        The scores that opening must give, as training saw them.
    """

    path: Path
    state: Mapping[str, Tensor] = field(default_factory=dict)
    recorded: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Layout:
    """A layout, and what opening it must give.

    Parameters
    ----------
    name, made_by : str
        For the table: what it is, and which function of which framework wrote it.
    build : callable
        Writes it into an empty folder.
    found_in : str
        Where the weights in use stand.
    others : tuple of str
        The further weights in it.
    weights : str or None
        What ``--weights`` is given.
    recipe : mapping
        All that is told of training.
    framework : str
        What wrote it.
    network, fine_tuned_from : str or None
        Where the file tells them.
    refusal : str
        The sentence, without the path, where it is not opened.
    """

    name: str
    made_by: str
    build: Callable[[Path], Built]
    found_in: str = "file"
    others: tuple[str, ...] = ()
    weights: str | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    framework: str = "pytorch"
    network: str | None = None
    fine_tuned_from: str | None = None
    refusal: str = ""


def network(seed: int = 0) -> nn.Sequential:
    """Two layers with batch normalisation between them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Linear(3, 4), nn.BatchNorm1d(4)),
            nn.Linear(4, 2),
        )


def samples() -> tuple[Tensor, Tensor]:
    """Thirty points of two classes: three batches of eight and one of six."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 3, generator=generator)
    return x, (x[:, 0] > 0).long()


def fit(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: object = None, *, each_update: bool = False
) -> None:
    """Train for three epochs; the schedule is stepped after every epoch, or after every update."""
    x, y = samples()
    for _ in range(EPOCHS):
        for inputs, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):

            def closure(inputs: Tensor = inputs, labels: Tensor = labels) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs), labels)
                loss.backward()
                return loss

            optimizer.step(closure)
            if schedule is not None and each_update:
                schedule.step()  # type: ignore[attr-defined]
        if schedule is not None and not each_update:
            schedule.step()  # type: ignore[attr-defined]


def trained(seed: int = 0, rate: float = RATE) -> tuple[nn.Sequential, torch.optim.SGD]:
    """A network after three epochs of stochastic gradient descent, and its optimizer."""
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    fit(model, optimizer)
    return model, optimizer


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Its weights, apart from the network."""
    return {name: value.detach().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


@contextmanager
def process_group() -> Iterator[None]:
    """One process that is a whole group."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
