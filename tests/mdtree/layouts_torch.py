"""Checkpoints written by torch itself: state dicts alone, beside optimizers, beside all kinds of values."""

from __future__ import annotations

import argparse
import enum
import random
import types
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import torch
from layout import BATCH, EPOCHS, RATE, Built, Layout, copied, network, trained
from torch import nn

STEPS = 12
SGD = {"learning_rate": RATE, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}


class Task(enum.Enum):
    """What a network is for."""

    BINARY = "binary"


@dataclass
class Settings:
    """Settings as a class of the user's own."""

    lr: float = RATE
    batch_size: int = BATCH
    task: Task = Task.BINARY


class Counting(nn.Linear):
    """A layer with an extra state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


class Twice(nn.Module):
    """A layer that is used twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first


def saved(content: Callable[[], tuple[Any, nn.Module]], **options: Any) -> Callable[[Path], Built]:
    """A builder that gives what `content` returns to torch.save."""

    def build(folder: Path) -> Built:
        held, model = content()
        torch.save(held, folder / "net.pt", **options)
        return Built(folder / "net.pt", copied(model))

    return build


def refused(content: Callable[[], Any]) -> Callable[[Path], Built]:
    """A builder of a file that is not opened."""

    def build(folder: Path) -> Built:
        torch.save(content(), folder / "net.pt")
        return Built(folder / "net.pt")

    return build


def bare(change: Callable[[nn.Module], nn.Module] = lambda model: model) -> tuple[Any, nn.Module]:
    model = change(trained()[0])
    return model.state_dict(), model


def beside(**values: Any) -> tuple[Any, nn.Module]:
    """Weights and the optimizer's state under their most usual names, with other values."""
    model, optimizer = trained()
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), **values}, model


def random_states() -> dict[str, Any]:
    return {"torch": torch.get_rng_state(), "numpy": np.random.RandomState(0).get_state(), "python": random.getstate()}


def _alone() -> list[Layout]:
    def layout(name: str, content: Callable[[], Any], made_by: str = "torch.save", **options: Any) -> Layout:
        return Layout(name, made_by, saved(content, **options))

    return [
        layout("state dict", bare),
        layout("state dict, before torch 1.6", bare, _use_new_zipfile_serialization=False),
        layout("bfloat16 weights", lambda: bare(lambda model: model.bfloat16())),
        layout("float16 weights", lambda: bare(lambda model: model.half())),
        layout("float64 weights", lambda: bare(lambda model: model.double())),
        layout("weight norm, as a parametrization", lambda: bare(_weight_norm)),
        layout("spectral norm, the older one", lambda: bare(lambda m: nn.utils.spectral_norm(m[0]) and m)),
        layout("an extra state that is no tensor", lambda: bare(lambda _: Counting(3, 2))),
        layout("one tensor under two names", lambda: bare(lambda _: Twice())),
        layout("plain dict of parameters", lambda: _parameters()),
    ]


def _weight_norm(model: nn.Module) -> nn.Module:
    nn.utils.parametrizations.weight_norm(model[0])  # type: ignore[index]
    return model


def _parameters() -> tuple[Any, nn.Module]:
    model = nn.Linear(3, 2)
    return dict(model.named_parameters()), model


def _beside() -> list[Layout]:
    def layout(
        name: str, values: dict[str, Any], recipe: dict[str, Any], made_by: str = "torch.save", **options: Any
    ) -> Layout:
        build = saved(lambda: beside(**values))
        return Layout(name, made_by, build, found_in="model_state_dict", recipe={**SGD, **recipe}, **options)

    told = {"batch_size": BATCH, "learning_rate": RATE}
    namespace = argparse.Namespace(lr=RATE, batch_size=BATCH, epochs=EPOCHS, out=Path("runs/1"))
    counts: defaultdict[str, list[float]] = defaultdict(list)
    counts["train_loss"].append(0.5)
    config = omegaconf.OmegaConf.create(
        {"optim": {"lr": RATE}, "data": {"batch_size": BATCH}, "name": "${optim.lr}", "epochs": EPOCHS}
    )
    loss = nn.CrossEntropyLoss(torch.ones(2))
    return [
        layout("optimizer and epoch", {"epoch": 3, "step": STEPS}, {"epochs": 3, "steps": STEPS}),
        layout("argparse.Namespace", {"args": namespace}, {**told, "epochs": EPOCHS}),
        layout(
            "types.SimpleNamespace", {"config": types.SimpleNamespace(**vars(namespace))}, {**told, "epochs": EPOCHS}
        ),
        layout("dataclass with an enum", {"config": Settings()}, told),
        layout("OmegaConf", {"cfg": config}, {**told, "epochs": EPOCHS}, "torch.save, OmegaConf.create"),
        layout(
            "numpy scalars and a path", {"lr": np.float64(RATE), "batch_size": np.int64(BATCH), "dir": Path("x")}, told
        ),
        layout("defaultdict", {"history": counts}, {}),
        layout("gradient scaler", {"scaler": torch.amp.GradScaler("cpu").state_dict()}, {}, "torch.save, GradScaler"),
        layout("states of random number generators", {"rng": random_states()}, {}),
        layout("a loss with weights of its own", {"criterion": loss.state_dict()}, {}, others=("criterion",)),
        layout("nested settings", {"config": {"train": {"batch_size": BATCH}, "val": {"batch_size": 99}}}, told),
        layout("settings that contradict", {"args": {"batch_size": 8}, "config": {"batch_size": 16}}, {}),
    ]


def _chosen() -> list[Layout]:
    return [
        Layout(
            "weights two levels down",
            "torch.save",
            saved(lambda: ({"checkpoint": {"model": (made := bare())[0]}, "version": 2}, made[1])),
            found_in="checkpoint.model",
        ),
        Layout(
            "weights with an epoch and a version among them",
            "torch.save",
            saved(lambda: ({**(made := bare())[0], "epoch": 3, "version": "1.0"}, made[1])),
            recipe={"epochs": 3},
        ),
        Layout(
            "two networks, one named",
            "torch.save",
            saved(lambda: ({"encoder": network(1).state_dict(), "head": (made := bare())[0]}, made[1])),
            found_in="head",
            others=("encoder",),
            weights="head",
        ),
        Layout(
            "two networks",
            "torch.save",
            refused(lambda: {"encoder": network().state_dict(), "head": network(1).state_dict()}),
            refusal="holds several sets of weights (encoder, head); expected one; "
            "say which one is meant, for instance --weights encoder",
        ),
        Layout(
            "networks by number",
            "torch.save",
            saved(lambda: ({0: network(1).state_dict(), 1: (made := bare())[0]}, made[1])),
            found_in="1",
            others=("0",),
            weights="1",
        ),
        Layout(
            "parameters without names",
            "torch.save",
            refused(lambda: list(network().parameters())),
            refusal="holds no tensors that could be weights (it holds a list); expected a state dict; re-save the "
            "weights alone with torch.save(model.state_dict(), PATH) or as .safetensors",
        ),
        Layout(
            "an optimizer alone",
            "torch.save",
            refused(lambda: trained()[1].state_dict()),
            refusal="holds no tensors that could be weights (keys state, param_groups); expected a state dict; re-save "
            "the weights alone with torch.save(model.state_dict(), PATH) or as .safetensors",
        ),
    ]


def _protocols() -> list[Layout]:
    """Protocols that torch.load(weights_only=True) does not read."""
    mend = "re-save the weights alone with torch.save(model.state_dict(), PATH) or as .safetensors"
    zipped = [
        Layout(
            f"state dict, pickle protocol {number}",
            "torch.save",
            saved(bare, pickle_protocol=number),
            refusal=f"is pickled with protocol {number}; expected protocol 2, torch.save's own; {mend}",
        )
        for number in (4, 5)
    ]
    older = Layout(
        "state dict, protocol 4, before torch 1.6",
        "torch.save",
        saved(bare, pickle_protocol=4, _use_new_zipfile_serialization=False),
        refusal=f"is a plain pickle file, which is never loaded; expected a checkpoint of torch.save; {mend}",
    )
    return [*zipped, older]


TORCH = (
    *_alone(),
    *_protocols(),
    *_beside(),
    *_chosen(),
)
