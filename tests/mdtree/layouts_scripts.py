"""Checkpoints in the forms of well-known training scripts, which each wrote a dict of their own with torch.save."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layout import BATCH, EPOCHS, RATE, Built, Layout, copied, fit, network, trained
from layouts_optimizers import sgd
from layouts_torch import SGD
from torch import nn


def _script(held: Callable[[nn.Module, torch.optim.Optimizer, Any], dict[str, Any]], **recorded: float) -> Any:
    """A builder: trained with a cosine schedule, saved as a script would."""

    def build(folder: Path) -> Built:
        model = network()
        optimizer = sgd(model.parameters())
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        fit(model, optimizer, schedule)
        torch.save(held(model, optimizer, schedule), folder / "checkpoint.pth")
        return Built(folder / "checkpoint.pth", copied(model), recorded)

    return build


def _image_net(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> dict[str, Any]:
    """As the example of torch: the count of epochs, and the best of all accuracies, which need not be this one's."""
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    held = {"epoch": EPOCHS, "arch": "resnet18", "state_dict": wrapped, "best_acc1": torch.tensor(71.5)}
    return {**held, "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}


def _torchvision(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> dict[str, Any]:
    """As torchvision's references: the number of the epoch, the batch size of one of eight processes."""
    args = argparse.Namespace(model="resnet50", batch_size=32, epochs=90, lr=RATE, weights=None, world_size=8)
    vars(args).update(label_smoothing=0.1, weight_decay=1e-4, opt="sgd", lr_scheduler="cosineannealinglr")
    held = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
    return {**held, "epoch": EPOCHS - 1, "args": args}


def _few_lines(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> dict[str, Any]:
    """As many tutorials: an accuracy that does not say of which samples."""
    return {"net": model.state_dict(), "acc": 93.1, "epoch": 2}


def _with_scores(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> dict[str, Any]:
    history = {"train_loss": [0.7, 0.5, 0.4], "val_acc": [50.0, 80.0, 90.0]}
    scores = {"train_loss": 0.4, "train_acc": 0.9, "val_acc": 0.85, "val_loss": 0.45, "best_val_acc": 0.95}
    settings = {"lr": RATE, "batch_size": BATCH, "epochs": EPOCHS, "seed": 3, "train_size": 30}
    return {"weights": model.state_dict(), "hparams": settings, "history": history, **scores}


def _several_optimizers(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> dict[str, Any]:
    other, second = trained(1, rate=0.02)
    optimizers = {"optimizer_G": optimizer.state_dict(), "optimizer_D": second.state_dict()}
    return {"generator": model.state_dict(), "discriminator": other.state_dict(), **optimizers}


_COSINE = {**SGD, "schedule": "cosine", "epochs": EPOCHS}

SCRIPTS = (
    Layout(
        "the ImageNet example of torch",
        "torch.save, the dict of its main.py",
        _script(_image_net),
        found_in="state_dict",
        recipe=_COSINE,
    ),
    Layout(
        "torchvision's reference scripts",
        "torch.save, the dict of their train.py",
        _script(_torchvision),
        found_in="model",
        recipe={**_COSINE, "planned_epochs": 90, "label_smoothing": 0.1},
    ),
    Layout("a tutorial", "torch.save", _script(_few_lines), found_in="net", recipe={"epochs": 2}),
    Layout(
        "settings and scores by hand",
        "torch.save",
        _script(_with_scores, train_loss=0.4, train_accuracy_percent=90.0, test_accuracy_percent=85.0, test_loss=0.45),
        found_in="weights",
        recipe={
            **{"learning_rate": RATE, "batch_size": BATCH, "epochs": EPOCHS},
            **{"seed": 3, "train_size": 30},
        },
    ),
    Layout(
        "two networks and optimizers, one network named",
        "torch.save",
        _script(_several_optimizers),
        found_in="generator",
        others=("discriminator",),
        weights="generator",
    ),
)
