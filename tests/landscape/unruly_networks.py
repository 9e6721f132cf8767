"""Networks whose per-sample gradients no rule of a layer alone can find, for one reason each."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from small_networks import CLASSES, mlp
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Scaled(nn.Module):
    """A parameter of its own beside the known layers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.body(self.scale * x)


class Gated(nn.Module):
    """A block with a parameter of its own, called twice: what was added up once cannot be told apart again."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.linspace(-1, 1, 6))
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor, *, strength: Tensor) -> dict[str, Tensor]:
            return {"out": x + strength * torch.sigmoid(self.gate) * self.layer(x)}

    def __init__(self) -> None:
        super().__init__()
        self.block = self.Block()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for strength in torch.tensor([1.0, 0.5]).to(x):
            x = self.block(x, strength=strength)["out"]
        return self.head(x)


class Positions(nn.Module):
    """Positions looked up once for all samples: the embedding's output has no dimension for them."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(5, 6)
        self.hidden = nn.Linear(6, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions(torch.arange(x.shape[1]))
        return self.head(torch.relu(self.hidden(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, state: bool) -> None:
        super().__init__()
        self.layer = layer
        self.state = state
        self.head = nn.LazyLinear(CLASSES)
        self(torch.zeros(2, 5, 6))

    def forward(self, x: Tensor) -> Tensor:
        first = self.layer.batch_first
        output, state = self.layer(x if first else x.transpose(0, 1))
        if self.state:
            return self.head((state[0] if isinstance(state, tuple) else state)[-1])
        return self.head(output[:, -1] if first else output[-1])


class Cells(nn.Module):
    def __init__(self, cell: type[nn.Module]) -> None:
        super().__init__()
        self.cell = cell(6, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class SamplesSecond(nn.Module):
    """A transformer layer and a linear one over (tokens, samples, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(6, 2, 8)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


class Tied(nn.Module):
    """Predicts a token; the first layer's weight is the last one's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.hidden = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 6))
        self.output = nn.Linear(6, 7)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.hidden(self.embedding(tokens).mean(1)))


class FunctionalUse(nn.Module):
    """Uses a layer's weight a second time without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(x) + x @ self.layer.weight))


class Unused(nn.Module):
    """A layer that training needs and evaluation does not."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(6, CLASSES)
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class InPlaceOnView(nn.Module):
    """A linear layer over tokens returns a view, which is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y[:, 0] *= 2
        return self.head(torch.relu_(y).mean(1))


def weight_norm() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, CLASSES))


def prelu() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, CLASSES))


class WholeTied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.first(x))))


class LooksAtValues(Scaled):
    """Control flow that depends on the data, which cannot be vectorised."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 1e9 else super().forward(x) * 2


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.image, self.features = nn.Conv2d(1, 3, 3), nn.Linear(6, 3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, image: Tensor, features: Tensor, shift: float = 0.0) -> dict[str, Tensor]:
        mixed = torch.tanh(self.scale * self.image(image).mean((2, 3)) + self.features(features) + shift)
        return {"logits": self.head(mixed)}


class Experts(nn.Module):
    """Which layers are called, and on how much, depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.rare = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        chosen = x[:, :1] > 0
        y = self.usual(x)
        if bool(chosen.any()):
            y = torch.where(chosen, self.rare(x), y)
        return self.head(torch.tanh(y))


class Traced(nn.Module):
    """The identity; remembers the nodes of the graphs it was part of, without keeping them."""

    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[weakref.ref[Any]] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.Same.apply(x)
        if x.grad_fn is not None:
            self.nodes.append(weakref.ref(x.grad_fn))
        return x


class Pieces(nn.Module):
    """A block that gets at most four samples at a time."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.block(part) for part in x.split(4)]))
