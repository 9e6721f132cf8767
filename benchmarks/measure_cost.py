"""What one measurement costs: sample gradients, and wall time in epochs of training the same network.

    python benchmarks/measure_cost.py CIFAR10_FOLDER [--write]

Two networks (a small CNN and a BatchNorm ResNet-18 of width 8), each trained from two seeds on 50,000 and on 5,000
real images, are measured by the default protocol: one checkpoint, and one with its sibling. Beside the seconds stands
the time of one epoch (forward, backward, step) at batch 128, timed right before on the same thread. With --write the
table replaces benchmarks/measure_cost.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import landscape
from mdtree.data import load_data
from mdtree.models import build_model
from mdtree.prepare import classification_data

BATCH = 128
STEPS = {"cnn": 1500, "resnet18": 300}
TIMED_STEPS = 20


def cnn(seed: int | None = None) -> nn.Module:
    if seed is not None:
        torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def resnet18(seed: int | None = None) -> nn.Module:
    return build_model("resnet18?width=8", num_classes=10, input_shape=(3, 32, 32), seed=seed)


NETWORKS: dict[str, Callable[[int | None], nn.Module]] = {"cnn": cnn, "resnet18": resnet18}


def train(make: Callable[[int | None], nn.Module], data: landscape.Samples, seed: int, steps: int) -> nn.Module:
    model = make(seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        _step(model, optimizer, data, torch.randint(len(data), (BATCH,), generator=generator))
    return model.eval()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, data: landscape.Samples, chosen: torch.Tensor) -> None:
    batch = data.at(chosen)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
    optimizer.step()


def seconds_per_sample(make: Callable[[int | None], nn.Module], data: landscape.Samples) -> float:
    """Of training, from `TIMED_STEPS` steps after two that warm up."""
    model = make(9).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for step in range(TIMED_STEPS + 2):
        if step == 2:
            started = time.perf_counter()
        _step(model, optimizer, data, torch.randperm(len(data))[:BATCH])
    return (time.perf_counter() - started) / (TIMED_STEPS * BATCH)


def rows(folder: str) -> list[str]:
    lines = [
        f"{'network':10}{'images':>8}{'checkpoints':>13}{'sample gradients':>18}{'seconds':>9}{'epochs':>8}"
        f"{'of 50,000':>11}{'of 5,000':>10}  flags"
    ]
    for images in (50_000, 5_000):
        data = classification_data(load_data(f"cifar10:{folder}?train={images}"))
        for name, make in NETWORKS.items():
            models = [train(make, data.train, seed, STEPS[name]) for seed in range(2)]
            for count in (1, 2):
                sample = seconds_per_sample(make, data.train)
                found = landscape.measure(models[:count], data, fresh=lambda make=make: make(None))
                gradients, seconds = found.cost.sample_gradients, found.cost.seconds
                lines.append(
                    f"{name:10}{images:>8,}{count:>13}{gradients:>18,.0f}{seconds:>9.1f}"
                    f"{seconds / (sample * images):>8.2f}{seconds / (sample * 50_000):>11.2f}"
                    f"{seconds / (sample * 5_000):>10.2f}  {' '.join(found.flags) or '-'}"
                )
                print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder with CIFAR-10's train.parquet and test.parquet")
    parser.add_argument("--write", action="store_true", help="replace benchmarks/measure_cost.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = "\n".join(rows(arguments.folder))
    print(table)
    if arguments.write:
        text = (
            "# What one measurement costs\n\n"
            "`python benchmarks/measure_cost.py CIFAR10_FOLDER --write`, one thread of a server processor, torch "
            f"{torch.__version__.split('+')[0]}. One\nsample gradient is the forward and backward pass of one sample "
            "(a forward pass alone counts a third, a Hessian\nproduct two). Epochs are the wall time over that of one "
            "epoch of training on all the images, on 50,000, on 5,000.\n\n"
            f"```\n{table}\n```\n"
        )
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
