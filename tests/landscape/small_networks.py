"""Networks of a few hundred parameters, small enough for a dense Hessian, and data for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape import Samples

CLASSES = 4
SAMPLES = 37  # with batches of 16: 16, 16, 5


class ResidualNet(nn.Module):
    """Two convolutions with BatchNorm around a skip connection, in-place activations, a pooled linear head."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        make = norm if norm is nn.BatchNorm2d else lambda channels: nn.GroupNorm(2, channels)
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.stem_norm = make(4)
        self.body = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.body_norm = make(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu_(self.stem_norm(self.stem(x)))
        out = self.body_norm(self.body(x))
        out += x
        return self.head(nn.functional.relu_(out).mean((2, 3)))


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, CLASSES))


def layer_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


ARCHITECTURES = {
    "mlp": mlp,
    "cnn": cnn,
    "batch_norm_resnet": ResidualNet,
    "layer_norm_mlp": layer_norm_mlp,
    "group_norm_resnet": lambda: ResidualNet(nn.GroupNorm),
    "tanh_mlp": lambda: mlp(nn.Tanh),
}
PIECEWISE_LINEAR = ("mlp", "cnn", "batch_norm_resnet")
CURVED = ("layer_norm_mlp", "group_norm_resnet", "tanh_mlp")


def build(name: str, seed: int = 0) -> nn.Module:
    """A network in training mode, its BatchNorm statistics those of random data, no parameter at a special value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES[name]()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
            for _ in range(3):
                model(inputs_for(name) + 0.1)
    return model


def inputs_for(name: str, samples: int = SAMPLES) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    shape = (6,) if name.endswith("mlp") else (1, 6, 6)
    return torch.randn(samples, *shape, generator=generator)


def data_for(name: str, samples: int = SAMPLES) -> Samples:
    generator = torch.Generator().manual_seed(12)
    return Samples(inputs_for(name, samples), torch.randint(CLASSES, (samples,), generator=generator))
