"""Per-sample gradient norms against one backward pass a sample, on every route."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dense_reference import dense_jacobian
from small_networks import ARCHITECTURES, CLASSES, build, data_for, inputs_for, mlp
from torch import Tensor, nn

from landscape import Execution, Objective, Samples, Task
from landscape.network import Network, differentiable
from landscape.per_sample import PerSampleNorms

DOUBLE = Execution(dtype="float64", batch_size=16)


def reference(model: nn.Module, inputs: Tensor, directions: Tensor) -> Tensor:
    _, jacobian = dense_jacobian(model, inputs)
    return torch.einsum("rnc,ncp->rnp", directions, jacobian).square().sum(2)


def directions_for(samples: int, rounds: int = 3) -> Tensor:
    return torch.randn(rounds, samples, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def norms_of(model: nn.Module, inputs: Tensor, route: str | None = None) -> tuple[Tensor, str]:
    norms = PerSampleNorms(Network(model, DOUBLE), Task(CLASSES))
    if route is not None:
        norms.route = route
    with differentiable():
        found = norms.squares(inputs.double(), lambda logits: directions_for(len(inputs)).to(logits))
    return found, norms.route


@pytest.mark.parametrize("route", ["layers", "vectorised", "single"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_route_gives_the_same_norms(name: str, route: str) -> None:
    model, inputs = build(name), inputs_for(name)
    found, taken = norms_of(model, inputs, route)

    assert taken == route
    assert torch.allclose(found, reference(model, inputs, directions_for(len(inputs))), rtol=1e-9)


class Tokens(nn.Module):
    """A linear layer over tokens, and a convolution in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 5)
        self.conv = nn.Conv1d(4, 6, 2, stride=2, padding=1, dilation=1, groups=2)
        self.head = nn.Linear(18, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(torch.relu(self.mix(x)))).flatten(1))


def grouped_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1, groups=4),
        nn.LayerNorm([3, 4]),
        nn.Flatten(),
        nn.Linear(48, CLASSES),
    )


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Tokens, (4, 3)), (grouped_cnn, (2, 6, 6)), (lambda: nn.Sequential(mlp(), nn.LayerNorm(CLASSES)), (6,))],
    ids=["tokens", "groups, strides and dilation", "layer norm"],
)
def test_layer_rules_for_unusual_layers(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = make(), torch.randn(9, *shape)
    found, taken = norms_of(model, inputs)

    assert taken == "layers"
    assert torch.allclose(found, reference(model, inputs, directions_for(9)), rtol=1e-9)


class FunctionalUse(nn.Module):
    """Uses a layer's weight a second time without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(x) + x @ self.layer.weight))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(torch.relu(self.layer(x))))


class Scaled(nn.Module):
    """A parameter of its own beside the known layers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.body(x)


class LooksAtValues(Scaled):
    """Control flow that depends on the data, which cannot be vectorised."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 1e9 else super().forward(x) * 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.first(x))))


@pytest.mark.parametrize(
    ("make", "route"),
    [
        (FunctionalUse, "vectorised"),
        (CalledTwice, "vectorised"),
        (Scaled, "vectorised"),
        (Tied, "vectorised"),
        (LooksAtValues, "single"),
    ],
)
def test_where_the_layer_rules_do_not_hold_another_route_is_taken(make: type[nn.Module], route: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    found, taken = norms_of(model, inputs_for("mlp"))

    assert taken == route
    assert torch.allclose(found, reference(model, inputs_for("mlp"), directions_for(37)), rtol=1e-9)


def test_large_intermediates_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build("cnn"), inputs_for("cnn")
    whole = {route: norms_of(model, inputs, route)[0] for route in ("layers", "vectorised")}
    monkeypatch.setattr("landscape.per_sample.CHUNK_ELEMENTS", 500)

    for route, expected in whole.items():
        assert torch.allclose(norms_of(model, inputs, route)[0], expected, rtol=1e-12)


def test_gradient_norms_of_each_samples_own_loss() -> None:
    data = data_for("batch_norm_resnet")
    model = build("batch_norm_resnet")
    found = Objective(model, data, Task(CLASSES), execution=DOUBLE).per_sample_gradient_squares()

    for n in (0, 16, 36):
        one = Samples(data.inputs[n : n + 1], data.targets[n : n + 1])
        gradient = Objective(model, one, Task(CLASSES), execution=DOUBLE).gradient()
        assert float(found[n]) == pytest.approx(float(gradient.square().sum()), rel=1e-9)
