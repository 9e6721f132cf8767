"""Weights beside the states of optimizers and schedules, which tell the recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from layout import EPOCHS, RATE, Layout, fit, network
from layouts_torch import SGD, saved
from torch import nn
from torch.optim import lr_scheduler

STEPS = 12


def scheduled(
    make: Callable[[Any], torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    each_update: bool = False,
) -> tuple[Any, nn.Module]:
    """Trained with an optimizer and a schedule, whose states stand beside the weights."""
    model = network()
    optimizer = make(model.parameters())
    steps = None if schedule is None else schedule(optimizer)
    fit(model, optimizer, steps, each_update=each_update)
    held = {"epoch": EPOCHS - 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return {**held, "scheduler": steps.state_dict()} if steps is not None else held, model


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=1e-4)


def one_cycle(optimizer: torch.optim.Optimizer) -> Any:
    return lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=STEPS)


def warmed_up(optimizer: torch.optim.Optimizer) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer, total_iters=2), lr_scheduler.CosineAnnealingLR(optimizer, 10)]
    return lr_scheduler.SequentialLR(optimizer, parts, [2])


def plateau(optimizer: torch.optim.Optimizer) -> Any:
    class Stepped(lr_scheduler.ReduceLROnPlateau):
        def step(self) -> None:  # type: ignore[override]
            super().step(0.5)

    return Stepped(optimizer)


ONE_CYCLE = {"learning_rate": 0.3, "optimizer": "sgd", "weight_decay": 1e-4, "schedule": "onecycle", "epochs": 2}
OPTIMIZERS = (
    ("sgd, cosine", sgd, lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS), False, {**SGD, "schedule": "cosine"}),
    ("sgd, milestones", sgd, lambda o: lr_scheduler.MultiStepLR(o, [1, 2]), False, {**SGD, "schedule": "multistep"}),
    ("sgd, one cycle", sgd, one_cycle, True, ONE_CYCLE),
    ("sgd, warm-up, cosine", sgd, warmed_up, True, {**SGD, "schedule": "linear then cosine", "epochs": 2}),
    ("sgd, plateau", sgd, plateau, False, {**SGD, "schedule": "plateau"}),
    (
        "adam, exponential",
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda o: lr_scheduler.ExponentialLR(o, 0.9),
        False,
        {"learning_rate": 0.01, "optimizer": "adam", "weight_decay": 0.0, "schedule": "exponential"},
    ),
    (
        "adamw, lambda",
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95)),
        lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.5**step),
        False,
        {"learning_rate": 0.01, "optimizer": "adamw", "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.01},
    ),
    (
        "rmsprop, step",
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
        lambda o: lr_scheduler.StepLR(o, 1),
        False,
        {"learning_rate": 0.01, "optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.0, "schedule": "step"},
    ),
    (
        "nadam, polynomial",
        lambda p: torch.optim.NAdam(p, lr=0.01),
        lambda o: lr_scheduler.PolynomialLR(o, 5),
        False,
        {"learning_rate": 0.01, "optimizer": "nadam", "weight_decay": 0.0, "schedule": "polynomial"},
    ),
    (
        "adagrad",
        lambda p: torch.optim.Adagrad(p, lr=0.01),
        None,
        False,
        {"learning_rate": 0.01, "optimizer": "adagrad", "weight_decay": 0.0, "epochs": 2},
    ),
    (
        "lbfgs",
        lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=2),
        None,
        False,
        {"learning_rate": 0.5, "optimizer": "lbfgs", "epochs": 2},
    ),
)


def _with_counts(recipe: dict[str, Any]) -> dict[str, Any]:
    """What Adam and its kin write further: their betas, and how often they were stepped."""
    name = str(recipe["optimizer"])
    counts = {"steps": STEPS} if name in ("adam", "adamw", "nadam", "rmsprop", "adagrad") else {}
    betas = {"beta1": 0.9, "beta2": 0.999} if name in ("adam", "nadam") else {}
    return {"epochs": EPOCHS, **betas, **counts, **recipe}


OPTIMIZER_LAYOUTS = (
    *(
        Layout(
            f"optimizer and schedule: {name}",
            "torch.save",
            saved(lambda make=make, schedule=schedule, each=each: scheduled(make, schedule, each)),
            found_in="model",
            recipe=_with_counts(recipe),
        )
        for name, make, schedule, each, recipe in OPTIMIZERS
    ),
)
