"""Networks of torchvision and timm: built by name, known by their files, recognised by their names and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import network_table
import pytest
import safetensors.torch
import timm
import timm.utils
import torch
import torchvision
from torch import nn
from torchvision import models

from mdtree import free_memory
from mdtree.checkpoint import load_into, open_checkpoint
from mdtree.errors import InputError, ResourceError
from mdtree.models import build_model
from mdtree.networks.fingerprint import recognise
from mdtree.networks.network_source import network_source

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def logits(model: nn.Module, side: int = 64) -> torch.Tensor:
    with torch.no_grad():
        output = model.eval()(torch.nn.functional.interpolate(IMAGE, size=(side, side)))
    assert isinstance(output, torch.Tensor)
    return output


def trained(model: nn.Module) -> nn.Module:
    """The network with weights that nobody's initialiser gives."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5",
                                  "regnet_y_400mf", "mnasnet0_5", "convnext_tiny", "swin_t"])  # fmt: skip
def test_a_saved_network_of_torchvision_is_recognised_and_gives_its_logits(name: str, tmp_path: Path) -> None:
    original = trained(models.get_model(name, weights=None, num_classes=7))
    torch.save({"state_dict": original.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt")
    source = network_source(opened, directory=tmp_path)
    assert (source.spec, source.source) == (f"torchvision:{name}?num_classes=7", "names and shapes")
    assert source.proposed
    model = load_into(build_model(source.spec, num_classes=7, input_shape=(3, 64, 64)), opened.state, opened.path)
    assert torch.equal(logits(model), logits(original))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_there_by_default_and_silent_in_evaluation(name: str) -> None:
    side = 96 if name == "inception_v3" else 64
    for auxiliary in (True, False):
        spec = f"torchvision:{name}?num_classes=4" + ("" if auxiliary else "&aux_logits=false")
        model = build_model(spec, seed=0)
        assert logits(model, side).shape == (2, 4)
        recognised = recognise(model.state_dict())
        assert recognised is not None
        other = (
            f"torchvision:{name}?num_classes=4" if auxiliary else f"torchvision:{name}?aux_logits=false&num_classes=4"
        )
        assert recognised.spec == other
        assert build_model(recognised.spec).state_dict().keys() == model.state_dict().keys()


def test_what_torchvision_does_not_have_is_refused() -> None:
    for spec, complaint in (
        ("torchvision:resnet19", "torchvision has no network 'resnet19'; expected torchvision:NAME"),
        ("torchvision:resnet1", "expected one it lists, such as resnet101, resnet152, resnet18, "),
        ("torchvision:fasterrcnn_resnet50_fpn", "has no network"),
        ("torchvision:resnet18?weights=DEFAULT", "unknown option 'weights'"),
        ("torchvision:resnet18?num_classes=1000000000", "expected 1 to 100,000"),
        ("torchvision:resnet18?num_classes=2", "num_classes=2 of torchvision:resnet18, but the data has 3"),
        ("torchvision:resnet18?image_size=32", "cannot be built (TypeError: "),
        ("torchvision", "torchvision without a name"),
    ):
        with pytest.raises(InputError) as error:
            build_model(spec, num_classes=3, input_shape=(3, 64, 64))
        assert complaint in str(error.value)
    with pytest.raises(InputError, match="takes images of 3 channels, but the data has 1"):
        build_model("torchvision:resnet18", num_classes=3, input_shape=(1, 64, 64))
    with pytest.raises(InputError, match="takes images, the data has inputs of shape"):
        build_model("torchvision:resnet18", num_classes=3, input_shape=(64,))


def test_data_give_classes_and_channels_and_the_seed_the_weights() -> None:
    model = build_model("timm:resnet18", num_classes=5, input_shape=(1, 32, 32), seed=1)
    assert model.conv1.in_channels == 1
    assert model.fc.out_features == 5
    again = build_model("timm:resnet18", num_classes=5, input_shape=(1, 32, 32), seed=1)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert build_model("torchvision:resnet18", num_classes=5).fc.out_features == 5


def test_a_checkpoint_of_timms_training_script_names_its_network(tmp_path: Path) -> None:
    original = trained(timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=64))
    optimizer = torch.optim.SGD(original.parameters(), 0.1)
    args = SimpleNamespace(model="vit_tiny_patch16_224", num_classes=4, in_chans=3, img_size=64, lr=0.1)
    saver = timm.utils.CheckpointSaver(original, optimizer, args=args, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(1, metric=50.0)
    opened = open_checkpoint(tmp_path / "last.pth.tar")
    source = network_source(opened, directory=tmp_path)
    assert source.source == "arch in the file"
    assert source.spec.startswith("timm:vit_tiny_patch16_224?num_classes=4")
    spec = source.spec if "img_size" in source.spec else f"{source.spec}&img_size=64"
    model = load_into(build_model(spec), opened.state, opened.path)
    assert torch.equal(logits(model), logits(original))


def test_a_folder_as_timm_pushes_it_names_its_network(tmp_path: Path) -> None:
    original = trained(timm.create_model("resnet10t", num_classes=6, in_chans=3))
    timm.models.save_for_hf(original, tmp_path, safe_serialization="both")
    opened = open_checkpoint(tmp_path / "model.safetensors")
    source = network_source(opened, directory=tmp_path)
    assert source.source == "config.json"
    assert source.spec.startswith("timm:resnet10t?num_classes=6")
    model = load_into(build_model(source.spec), opened.state, opened.path)
    assert torch.equal(logits(model), logits(original))


@pytest.mark.parametrize(
    "name", ["hf_hub:timm/resnet18.a1_in1k", "hf-hub:evil/net", "local-dir:/tmp", "nothing_18", "../x", "*"]
)
def test_only_names_that_timm_lists_are_built(name: str) -> None:
    with pytest.raises(InputError, match=r"^timm has no network"):
        build_model(f"timm:{name}", num_classes=3)


def test_a_tag_of_pretrained_weights_is_taken_and_nothing_fetched() -> None:
    tagged, plain = build_model("timm:resnet18.a1_in1k", num_classes=3), build_model("timm:resnet18", num_classes=3)
    assert tagged.state_dict().keys() == plain.state_dict().keys()


def test_a_network_that_would_fill_the_memory_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 16 * 10**9)
    with pytest.raises(ResourceError, match=r"timm:vit_7b_patch16_dinov3 would take 26\.\d GB of memory"):
        build_model("timm:vit_7b_patch16_dinov3", num_classes=10)


def test_networks_of_timm_are_recognised() -> None:
    for name in ("convnext_atto", "mixer_s32_224", "mobilenetv3_small_050"):
        recognised = recognise(timm.create_model(name, num_classes=3).state_dict())
        assert recognised is not None
        assert recognised.spec == f"timm:{name}?num_classes=3"
    both = recognise(models.resnet34(num_classes=3).state_dict())
    assert both is not None
    assert (both.spec, both.others) == ("torchvision:resnet34?num_classes=3", ("timm:resnet34?num_classes=3",))


def test_what_torchvision_and_timm_both_have_computes_the_same() -> None:
    for name in ("resnet18", "densenet121"):
        one = trained(models.get_model(name, weights=None, num_classes=3))
        other = load_into(timm.create_model(name, num_classes=3), one.state_dict(), "net.pt")
        torch.testing.assert_close(logits(other), logits(one), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_table_is_that_of_the_packages() -> None:
    committed = json.loads(network_table.TABLE.read_text())
    assert committed["made_with"] == {"torchvision": "0.28.0", "timm": "1.0.31"}
    built = json.loads(network_table.text(network_table.table()))
    known = {tuple(map(str, row)) for group in committed["networks"].values() for row in group}
    anew = {tuple(map(str, row)) for group in built["networks"].values() for row in group}
    # another version of torchvision may add networks; none that is known may have changed
    assert known <= anew
    if torchvision.__version__.startswith(committed["made_with"]["torchvision"]):
        assert built == committed


def test_safetensors_of_torchvision_are_recognised_in_any_order(tmp_path: Path) -> None:
    state = models.resnet18(num_classes=3).state_dict()
    safetensors.torch.save_file(dict(reversed(state.items())), tmp_path / "net.safetensors")
    assert network_source(open_checkpoint(tmp_path / "net.safetensors"), directory=tmp_path).spec == (
        "torchvision:resnet18?num_classes=3"
    )
