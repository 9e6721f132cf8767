"""Checkpoints of wrapped, averaged, sharded and whole networks, and of the tools around torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from layout import BATCH, EPOCHS, RATE, Built, Layout, copied, fit, network, process_group, trained
from layouts_torch import SGD, Twice
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mdtree.checkpoint_saving import save_checkpoint
from mdtree.recipes.recipe import RecipeValue


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Path], Built]:
    """A builder that saves the state dict of a network inside a wrapper."""

    def build(folder: Path) -> Built:
        model = trained()[0]
        with process_group():
            torch.save(wrap(model).state_dict(), folder / "net.pt")
        return Built(folder / "net.pt", copied(trained()[0]))

    return build


def _compiled_layer(model: nn.Module) -> nn.Module:
    model[0] = torch.compile(model[0])  # type: ignore[index,operator]
    return model


def _recomputed_layer(folder: Path) -> Built:
    model = network()
    model[0] = checkpoint_wrapper(model[0])
    # its state dict is bare; what a loop over the parameters' names saves is not
    torch.save(dict(model.named_parameters()), folder / "net.pt")
    return Built(folder / "net.pt", dict(network().named_parameters()))


def averaged() -> tuple[nn.Module, AveragedModel]:
    """A trained network and the moving average of its weights."""
    model = network()
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    fit(model, optimizer, argparse.Namespace(step=lambda: mean.update_parameters(model)), each_update=True)
    return model, mean


def _mean_beside(key: str, used: str) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        model, mean = averaged()
        torch.save({"model": model.state_dict(), key: mean.state_dict()}, folder / "net.pt")
        return Built(folder / "net.pt", copied(model if used == "model" else mean.module))

    return build


def _mean_alone(folder: Path) -> Built:
    mean = averaged()[1]
    torch.save(mean.state_dict(), folder / "net.pt")
    return Built(folder / "net.pt", copied(mean.module))


def _named_mean_alone(folder: Path) -> Built:
    torch.save({"ema_state_dict": averaged()[1].module.state_dict()}, folder / "net.pt")
    return Built(folder / "net.pt")


def _whole(**options: Any) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        model = trained()[0]
        torch.save(model, folder / "net.pt", **options)
        return Built(folder / "net.pt", copied(model))

    return build


def _whole_beside(folder: Path) -> Built:
    model, optimizer = trained()
    torch.save({"model": model, "optimizer": optimizer.state_dict(), "epoch": EPOCHS}, folder / "net.pt")
    return Built(folder / "net.pt", copied(model))


def _whole_mean(folder: Path) -> Built:
    model = trained()[0]
    mean = AveragedModel(network(1))
    torch.save({"model": model, "ema": mean}, folder / "net.pt")
    return Built(folder / "net.pt", copied(model))


def _sharded(full: bool) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        model = network()
        with process_group():
            fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
            options = StateDictOptions(full_state_dict=True)
            state = get_model_state_dict(model, options=options) if full else model.state_dict()
            torch.save(state, folder / "net.pt")
        return Built(folder / "net.pt", copied(network()))

    return build


def _dcp_folder(folder: Path) -> Built:
    model, optimizer = trained()
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / "step-12")
    return Built(folder / "step-12", copied(model))


def _dcp_weights(folder: Path) -> Built:
    dcp.save(trained()[0].state_dict(), checkpoint_id=folder / "step-12")
    return Built(folder / "step-12", copied(trained()[0]))


def _dcp_sharded(folder: Path) -> Built:
    model = network()
    with process_group():
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        dcp.save({"model": model.state_dict()}, checkpoint_id=folder / "step-0")
    return Built(folder / "step-0", copied(network()))


def _dcp_converted(folder: Path) -> Built:
    built = _dcp_folder(folder)
    dcp_to_torch_save(built.path, folder / "net.pt")
    return Built(folder / "net.pt", built.state)


def _safetensors(folder: Path) -> Built:
    model = trained()[0]
    safetensors.torch.save_file(copied(model), folder / "net.safetensors", {"format": "pt"})
    return Built(folder / "net.safetensors", dict(sorted(copied(model).items())))


def _safetensors_tied(folder: Path) -> Built:
    model = Twice()
    safetensors.torch.save_model(model, str(folder / "net.safetensors"))
    return Built(folder / "net.safetensors", {n: t for n, t in copied(model).items() if n.startswith("first.")})


def _own(ending: str) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        model = trained()[0]
        recipe: dict[str, RecipeValue] = {"learning_rate": RATE, "batch_size": BATCH}
        return Built(save_checkpoint(folder / f"net{ending}", model, recipe=recipe), copied(model))

    return build


def _scripted(folder: Path) -> Built:
    torch.jit.save(torch.jit.trace(network().eval(), torch.zeros(2, 3)), folder / "net.pt")
    return Built(folder / "net.pt")


def _exported(folder: Path) -> Built:
    torch.export.save(torch.export.export(network().eval(), (torch.zeros(2, 3),)), folder / "net.pt2")
    return Built(folder / "net.pt2")


_MEAN = "AveragedModel, torch.save"
_RE_SAVE = "re-save the weights alone with torch.save(model.state_dict(), PATH) or as .safetensors"
_DCP = "torch.distributed.checkpoint"
_OWN = {"learning_rate": RATE, "batch_size": BATCH}

WRAPPED = (
    Layout("DataParallel", "DataParallel, torch.save", wrapped(nn.DataParallel)),
    Layout("DistributedDataParallel", "DistributedDataParallel (gloo)", wrapped(nn.parallel.DistributedDataParallel)),
    Layout("compiled", "torch.compile, torch.save", wrapped(torch.compile)),
    Layout(
        "compiled within DistributedDataParallel",
        "DistributedDataParallel, torch.compile",
        wrapped(lambda model: nn.parallel.DistributedDataParallel(torch.compile(model))),  # type: ignore[arg-type]
    ),
    Layout("one layer compiled", "torch.compile, torch.save", wrapped(_compiled_layer)),
    Layout("one layer recomputed", "checkpoint_wrapper, named_parameters", _recomputed_layer),
    Layout("fully sharded, gathered", "fully_shard, get_model_state_dict", _sharded(full=True)),
    Layout(
        "fully sharded, not gathered",
        "fully_shard, torch.save",
        _sharded(full=False),
        refusal="holds shards of tensors (DTensor), as FSDP keeps them in each process; expected whole tensors; save "
        "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of "
        "torch.distributed.checkpoint.state_dict",
    ),
    Layout("averaged weights", _MEAN, _mean_alone, found_in="file (averaged weights)"),
    Layout(
        "weights and their average",
        _MEAN,
        _mean_beside("model_ema", "model"),
        found_in="model",
        others=("model_ema",),
    ),
    Layout(
        "weights and their average, which is asked for",
        _MEAN,
        _mean_beside("model_ema", "model_ema"),
        found_in="model_ema",
        others=("model",),
        weights="model_ema",
    ),
    Layout(
        "weights and their average, under a name that does not say so",
        _MEAN,
        _mean_beside("net", "model"),
        found_in="model",
        others=("net",),
    ),
    Layout(
        "an average alone, which its name says",
        "torch.save",
        _named_mean_alone,
        refusal="holds averaged weights only (ema_state_dict); expected one; say which one is meant, for instance "
        "--weights ema_state_dict",
    ),
    Layout("whole network", "torch.save", _whole()),
    Layout(
        "whole network, before torch 1.6",
        "torch.save",
        _whole(_use_new_zipfile_serialization=False),
        refusal="is a whole pickled network (torch.nn.modules.container.Sequential) in the form from before torch 1.6; "
        "expected weights; load it where its classes are and save model.state_dict()",
    ),
    Layout(
        "whole network beside its optimizer",
        "torch.save",
        _whole_beside,
        found_in="model",
        recipe={**SGD, "epochs": EPOCHS},
    ),
    Layout("whole network and whole average", _MEAN, _whole_mean, found_in="model", others=("ema",)),
    Layout(
        "a program of torch.jit",
        "torch.jit.save",
        _scripted,
        refusal="is a TorchScript program; expected weights; re-save its weights with "
        "torch.save(torch.jit.load(PATH).state_dict(), ...) if the file is yours",
    ),
    Layout(
        "a program of torch.export",
        "torch.export.save",
        _exported,
        refusal="is a program of torch.export; expected weights; add --trust if the file is yours (loading a program "
        f"runs code from it), or {_RE_SAVE}",
    ),
    Layout(
        "distributed checkpoint, weights and optimizer",
        "dcp.save, get_state_dict",
        _dcp_folder,
        found_in="model",
        framework=_DCP,
        recipe=SGD,
    ),
    Layout("distributed checkpoint, weights alone", "dcp.save", _dcp_weights, framework=_DCP),
    Layout("distributed checkpoint, sharded", "fully_shard, dcp.save", _dcp_sharded, found_in="model", framework=_DCP),
    Layout("distributed checkpoint, converted", "dcp_to_torch_save", _dcp_converted, found_in="model", recipe=SGD),
    Layout("safetensors", "safetensors.torch.save_file", _safetensors),
    Layout("safetensors of tied weights", "safetensors.torch.save_model", _safetensors_tied),
    Layout("mdtree, .pt", "mdtree.save_checkpoint", _own(".pt"), found_in="manifest", framework="mdtree", recipe=_OWN),
    Layout(
        "mdtree, .safetensors",
        "mdtree.save_checkpoint",
        _own(".safetensors"),
        found_in="manifest",
        framework="mdtree",
        recipe=_OWN,
    ),
)
