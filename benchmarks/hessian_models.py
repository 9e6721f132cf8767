"""Networks trained for the Hessian benchmarks: small, real data, one in a usual state and one well fitted."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape import Execution, Objective, Samples, Task
from mdtree.data import load_data
from mdtree.models import build_model
from mdtree.training import Recipe, train_loop

BATCH_SIZE = 256
"""Samples a batch, for every contender."""

USUAL, WELL_FITTED = "usual", "well fitted"


@dataclass(frozen=True)
class NetworkSpec:
    """A network to train.

    Parameters
    ----------
    name : str
    data, architecture : str
        Specifications as `mdtree.data.load_data` and `mdtree.models.build_model` read them.
    state : str
        What the recipe leads to: ``usual`` (the training loss is not yet at zero) or ``well fitted``.
    recipe : Recipe
    """

    name: str
    data: str
    architecture: str
    state: str
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network and the data it was trained on, on which its Hessian is taken.

    Parameters
    ----------
    spec : NetworkSpec
    model : nn.Module
        In evaluation mode, float32.
    inputs, targets : Tensor
    classes : int
    loss, error_percent : float
        On these data.
    """

    spec: NetworkSpec
    model: nn.Module
    inputs: Tensor
    targets: Tensor
    classes: int
    loss: float
    error_percent: float

    @property
    def parameter_count(self) -> int:
        """Number of parameters P."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def samples(self) -> Samples:
        """The data as the engine takes them."""
        return Samples(self.inputs, self.targets)

    @property
    def task(self) -> Task:
        """Cross-entropy of the logits."""
        return Task(self.classes)

    def batches(self, size: int = BATCH_SIZE) -> list[tuple[Tensor, Tensor]]:
        """The data in order, in batches."""
        return list(zip(self.inputs.split(size), self.targets.split(size), strict=True))


def specifications(model: str, folder: Path | None) -> list[NetworkSpec]:
    """The networks of one kind; CIFAR-10 and MNIST from `folder` where it is given, else scikit-learn's digits.

    Parameters
    ----------
    model : {"mlp", "cnn", "resnet", "tiny"}
    folder : Path, optional
        Holds ``cifar10`` and, for the MLPs, ``mnist10k``.
    """
    if model == "tiny":
        recipe = Recipe(0.05, steps=150)
        return [NetworkSpec("MLP 8-8 on digits", "digits?train=120", "mlp?width=8&depth=2", USUAL, recipe)]
    if model == "mlp":
        large = f"idx:{folder / 'mnist10k'}?train=1500" if folder else "digits?train=1000"
        where = "MNIST" if folder else "digits"
        return [
            NetworkSpec("MLP 64-64 on digits", "digits?train=1000", "mlp?width=64", USUAL, Recipe(0.02, 32, 400)),
            NetworkSpec(f"MLP 256-256 on {where}", large, "mlp?width=256", USUAL, Recipe(0.02, 32, 150)),
            NetworkSpec(f"MLP 256-256 on {where}", large, "mlp?width=256", WELL_FITTED, Recipe(0.05, 32, 1500)),
        ]
    if model == "cnn":
        images, where = _images(folder, 16)
        return [
            NetworkSpec(f"CNN 16-32 on {where}", images, "cnn?width=16", USUAL, Recipe(0.02, 32, 300)),
            NetworkSpec(f"CNN 8-16 on {where}", images, "cnn?width=8", WELL_FITTED, Recipe(0.05, 32, 2000)),
        ]
    images, where = _images(folder, 8)
    return [
        NetworkSpec(f"ResNet-18, width 4, on {where}", images, "resnet18?width=4", USUAL, Recipe(0.05, 64, 300)),
        NetworkSpec(f"ResNet-18, width 4, on {where}", images, "resnet18?width=4", WELL_FITTED, Recipe(0.05, 64, 1200)),
    ]


def _images(folder: Path | None, size: int) -> tuple[str, str]:
    if folder is None:
        return "digits?train=1000&shape=image", "digits"
    return f"cifar10:{folder / 'cifar10'}?train=1000&size={size}", f"CIFAR-10 ({size} px)"


def data_folder(given: str | None) -> Path | None:
    """The folder of the data sets: as given, or from the environment, or None."""
    named = given or os.environ.get("MDTREE_DATA")
    return Path(named) if named else None


def trained(spec: NetworkSpec, seed: int = 0) -> TrainedNetwork:
    """Train the network of a specification; equal seeds give equal weights."""
    data = load_data(spec.data)
    return trained_on(spec, data.x_train, data.y_train, data.num_classes, seed)


def trained_on(spec: NetworkSpec, inputs: Tensor, targets: Tensor, classes: int, seed: int = 0) -> TrainedNetwork:
    """The same on samples at hand."""
    shape = tuple(inputs.shape[1:])
    model = build_model(spec.architecture, num_classes=classes, input_shape=shape, seed=seed)
    model.load_state_dict(train_loop(model, inputs, targets, spec.recipe, seed).state)
    model.eval()
    execution = Execution(batch_size=BATCH_SIZE)
    found = Objective(model, Samples(inputs, targets), Task(classes), execution=execution).loss_and_error()
    return TrainedNetwork(spec, model, inputs, targets, classes, found.loss, found.error_percent or 0.0)


def separate(network: TrainedNetwork) -> TrainedNetwork:
    """The same network with a model of its own: PyHessian leaves gradients in it."""
    return replace(network, model=copy.deepcopy(network.model))


def plain_loss(model: nn.Module, inputs: Tensor, targets: Tensor, samples: int) -> Tensor:
    """These samples' part of the mean cross-entropy over `samples`."""
    return nn.functional.cross_entropy(model(inputs), targets, reduction="sum") / samples


def one_thread() -> None:
    """Every contender computes with one thread."""
    torch.set_num_threads(1)
