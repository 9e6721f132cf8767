"""Checkpoints that timm's own saver writes, and torchvision's networks saved as its reference script does."""

from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver, ModelEmaV3

import mdtree
from mdtree.checkpoint import load_weights
from mdtree.models import build_model


def trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer, ema: ModelEmaV3 | None = None) -> None:
    torch.manual_seed(0)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
        if ema is not None:
            ema.update(model)


@pytest.fixture(scope="module")
def saved_by_timm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """What timm's training script leaves: `last.pth.tar`, written by its CheckpointSaver."""
    folder = tmp_path_factory.mktemp("timm")
    model = timm.create_model("resnet10t", num_classes=4)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
    ema = ModelEmaV3(model, decay=0.9)
    trained(model, optimizer, ema)
    args = Namespace(
        model="resnet10t", num_classes=4, lr=0.05, batch_size=4, epochs=3, opt="sgd", weight_decay=2e-5, sched="cosine",
        smoothing=0.1, pretrained=False, initial_checkpoint="", seed=42, momentum=0.9, img_size=None,
    )  # fmt: skip
    saver = CheckpointSaver(model, optimizer, args, model_ema=ema, checkpoint_dir=str(folder), max_history=2)
    saver.save_checkpoint(2, metric=61.5)
    return folder / "last.pth.tar", model


def test_timms_checkpoint_opens_with_the_raw_weights_and_names_its_network(
    saved_by_timm: tuple[Path, torch.nn.Module],
) -> None:
    path, model = saved_by_timm
    opened = mdtree.open_checkpoint(path)
    state = model.state_dict()
    assert opened.state.keys() == state.keys()
    assert all(torch.equal(opened.state[name], state[name]) for name in state)
    assert (opened.framework, opened.weights_from) == ("timm", "state_dict")
    assert "state_dict_ema" in opened.candidates
    assert opened.network == "timm:resnet10t?num_classes=4"
    assert {name: opened.recipe[name] for name in ("learning_rate", "batch_size", "optimizer", "weight_decay")} == {
        "learning_rate": 0.05, "batch_size": 4, "optimizer": "sgd", "weight_decay": 2e-5,
    }  # fmt: skip

    network = build_model(opened.network).eval()
    load_weights(network, opened)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(x), model.eval()(x))


def test_its_averaged_weights_are_taken_when_named(saved_by_timm: tuple[Path, torch.nn.Module]) -> None:
    path, model = saved_by_timm
    averaged = mdtree.open_checkpoint(path, weights="state_dict_ema")
    assert averaged.state.keys() == model.state_dict().keys()
    assert not torch.equal(averaged.state["fc.weight"], model.state_dict()["fc.weight"])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
def test_torchvisions_reference_script(tmp_path: Path, name: str) -> None:
    model = torchvision.models.get_model(name, num_classes=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    args = Namespace(model=name, lr=0.1, batch_size=32, epochs=90, weight_decay=1e-4, momentum=0.9)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 4, "args": args}
    torch.save(content, tmp_path / "checkpoint.pth")
    opened = mdtree.open_checkpoint(tmp_path / "checkpoint.pth")
    assert all(torch.equal(opened.state[key], value) for key, value in model.state_dict().items())
    assert opened.recipe["learning_rate"] == 0.1
    network = build_model(f"torchvision:{name}?num_classes=5")
    load_weights(network, opened)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in model.state_dict().items())
