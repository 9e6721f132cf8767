"""What the squared norms of per-sample gradients cost, and write benchmarks/per_sample_norms.md.

    OMP_NUM_THREADS=1 python benchmarks/per_sample_norms.py [--repeats N]

The unit is a *grad*, the forward and backward pass of the mean loss of the same batch. What is compared takes turns,
and the medians of the ratios within a turn are printed: so a loaded machine moves them little. Two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from landscape import Execution, Task
from landscape.convolution_squares import convolution_squares
from landscape.network import Network, differentiable
from landscape.per_sample import PerSampleNorms
from mdtree.models import ResNet18

TARGET = Path(__file__).with_suffix(".md")
CLASSES, WORDS = 10, 500


class VisionTransformer(nn.Module):
    """64 patches and a class token of 96 features, four encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 96, 4, 4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 96))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 65, 96))
        layer = nn.TransformerEncoderLayer(96, 4, 192, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(96, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 32, 32) -> (n, classes)."""
        patches = self.patches(x).flatten(2).mT
        x = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class Recurrent(nn.Module):
    """Embedding, one recurrent layer of 64 units, linear head."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 32)
        self.recurrent = kind(32, 64, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) -> (n, classes)."""
        return self.head(self.recurrent(self.embedding(tokens))[0][:, -1])


def mlp() -> nn.Module:
    """784-256-256-10."""
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)
    )  # fmt: skip


def cnn() -> nn.Module:
    """Four convolutions of 32, 64, 64 and 128 channels."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        if channels > 3:
            layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, CLASSES))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32)


def tokens(count: int) -> Tensor:
    return torch.randint(WORDS, (count, 28))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], int]] = {
    "MLP 784-256-256-10": (mlp, lambda count: torch.randn(count, 784), 256),
    "CNN 32-64-64-128": (cnn, images, 128),
    "ResNet-18, width 16": (lambda: ResNet18(16, 3, CLASSES), images, 128),
    "ResNet-18, width 64": (lambda: ResNet18(64, 3, CLASSES), images, 64),
    "vision transformer": (VisionTransformer, images, 64),
    "GRU": (lambda: Recurrent(nn.GRU), tokens, 64),
    "LSTM": (lambda: Recurrent(nn.LSTM), tokens, 64),
}

LAYERS = [(3, 64, 32), (16, 16, 32), (64, 64, 32), (32, 32, 16), (64, 64, 16), (128, 128, 16), (64, 64, 8),
          (256, 256, 8), (128, 128, 4), (512, 512, 4)]  # fmt: skip
"""Input and output channels and height of 3 x 3 convolutions."""


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of the first work, and medians of the others' times over it."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    first, *others = works
    ratios = {name: statistics.median(map(float.__truediv__, times[name], times[first])) for name in others}
    return {first: statistics.median(times[first]), **ratios}


def network_row(name: str, repeats: int) -> str:
    """One line of the table of networks."""
    make, draw, count = CASES[name]
    torch.manual_seed(0)
    network, task = Network(make(), Execution()), Task(CLASSES)
    inputs, targets, direction = draw(count), torch.randint(CLASSES, (count,)), torch.randn(1, count, CLASSES)
    norms = PerSampleNorms(network, task)
    other = PerSampleNorms(network, task, route="vectorised")
    found = in_turn(
        {
            "grad": lambda: network.gradient(task.losses(task.logits(network(inputs)), targets).mean()),
            "squares": lambda: norms.squares(inputs, lambda _: direction),
            "first": lambda: norms.first_order(inputs, lambda _: direction, lambda z: task.residual(z, targets)),
            "other": lambda: other.squares(inputs, lambda _: direction),
        },
        repeats,
    )
    return (
        f"| {name} | {count} | {1e3 * found['grad']:.1f} | {norms.route} | {found['squares']:.2f} | "
        f"{found['first']:.2f} | {found['other']:.2f} ({other.route}) |"
    )


def layer_row(inputs: int, outputs: int, height: int, repeats: int) -> str:
    """One line of the table of convolutions."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    x, g = torch.randn(64, inputs, height, height), torch.randn(64, outputs, height, height)
    found = in_turn(
        {
            "gradient": lambda: conv2d_weight(x, layer.weight.shape, g, padding=1),
            "squares": lambda: convolution_squares(layer, [(x, g)]),
        },
        repeats,
    )
    return f"| {inputs} → {outputs}, {height} × {height} | {1e3 * found['gradient']:.1f} | {found['squares']:.2f} |"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    lines = [
        "# Squared norms of per-sample gradients",
        "",
        "Written by `OMP_NUM_THREADS=1 python benchmarks/per_sample_norms.py`. One thread, float32, random data.",
        "",
        "Costs of one cotangent a sample in grads, the forward and backward pass of the mean loss of the same batch:",
        "the squared norms; the norms, the summed gradient and the logits from one forward pass; the norms by",
        "`torch.func.vmap` over the whole network.",
        "",
        "| network | samples | grad (ms) | route | norms | norms, gradient and logits | whole network by vmap |",
        "|---|---|---|---|---|---|---|",
    ]
    with differentiable():
        lines += [network_row(name, repeats) for name in CASES]
        lines += [
            "",
            "Convolutions of 3 × 3 on 64 samples: the norms over the weight gradient of the whole batch.",
            "",
            "| channels, positions | weight gradient (ms) | norms |",
            "|---|---|---|",
            *(layer_row(*shape, repeats) for shape in LAYERS),
        ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
