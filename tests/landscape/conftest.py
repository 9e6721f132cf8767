"""Every test starts from the same global random state and leaves it as it was; trained networks, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from small_networks import ResidualNet
from torch import nn

from landscape import ClassificationData, Samples


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def digits_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))


def train(make: Callable[[], nn.Module], samples: Samples, seed: int, steps: int) -> nn.Module:
    """A network trained by Adam on batches of 64, left in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            chosen = torch.randint(len(samples), (64,))
            loss = nn.functional.cross_entropy(model(samples.inputs[chosen]), samples.targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return model


@pytest.fixture(scope="session")
def digits() -> ClassificationData:
    """The real digits of scikit-learn: 640 to train, 1,157 to test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    return ClassificationData(Samples(inputs[:640], targets[:640]), Samples(inputs[640:], targets[640:]), 10)


@pytest.fixture(scope="session")
def trained(digits: ClassificationData) -> list[nn.Module]:
    """Three trainings of one recipe."""
    return [train(digits_mlp, digits.train, seed, steps=500) for seed in range(3)]


@pytest.fixture(scope="session")
def images(digits: ClassificationData) -> ClassificationData:
    """Digits 0 to 3 as images of one channel."""
    chosen = digits.train.targets < 4
    inputs = digits.train.inputs[chosen].view(-1, 1, 8, 8)
    return ClassificationData(Samples(inputs, digits.train.targets[chosen]), None, 4)


@pytest.fixture(scope="session")
def residual_nets(images: ClassificationData) -> list[nn.Module]:
    """Two trainings of a BatchNorm residual net."""
    return [train(ResidualNet, images.train, seed, steps=150) for seed in range(2)]
