"""Networks by name: their keys and sizes are documented, so checkpoints of them can be opened by anyone."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from torch import nn

from mdtree.errors import InputError
from mdtree.models import ARCHITECTURES, build_model, model_factory


def keys(model: nn.Module) -> list[str]:
    return list(model.state_dict())


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_mlp_has_the_documented_keys_and_parameters() -> None:
    model = build_model("mlp?width=16&inputs=64&classes=10&depth=2")
    assert keys(model) == [
        f"{layer}.{part}" for layer in ("hidden1", "hidden2", "output") for part in ("weight", "bias")
    ]
    assert count(model) == (64 * 16 + 16) + (16 * 16 + 16) + (16 * 10 + 10)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(model(images), model(images.flatten(1)))


def test_mlp_is_linear_relu_linear() -> None:
    model = build_model("mlp?width=4&depth=1&inputs=3&classes=2", seed=0)
    x, weights = torch.randn(5, 3), model.state_dict()
    hidden = (x @ weights["hidden1.weight"].T + weights["hidden1.bias"]).clamp(min=0)
    expected = hidden @ weights["output.weight"].T + weights["output.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=1e-7)


def test_layernorm_mlp_normalises_before_each_relu() -> None:
    model = build_model("layernorm_mlp?width=8&depth=1&inputs=4&classes=3", seed=0)
    assert keys(model) == [
        "hidden1.weight",
        "hidden1.bias",
        "norm1.weight",
        "norm1.bias",
        "output.weight",
        "output.bias",
    ]
    x = torch.randn(6, 4)
    hidden = model.hidden1(x)
    standardised = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(model(x), model.output(standardised.clamp(min=0)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "groupnorm_cnn"])
def test_cnn_has_the_documented_keys_and_parameters(name: str) -> None:
    model = build_model(f"{name}?width=6&channels=3&size=10&classes=5")
    norms = ["norm1", "norm2"] if name == "groupnorm_cnn" else []
    layers = ["conv1", *norms[:1], "conv2", *norms[1:], "output"]
    assert keys(model) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    norm_parameters = 2 * 6 + 2 * 12 if norms else 0
    assert count(model) == (3 * 9 * 6 + 6) + (6 * 9 * 12 + 12) + (12 * 2 * 2 * 5 + 5) + norm_parameters
    assert model(torch.zeros(2, 3, 10, 10)).shape == (2, 5)
    if norms:
        assert model.norm1.num_groups == 2  # the largest number of groups, of 4 at most, that divides the width


def test_resnet18_is_the_one_for_cifar() -> None:
    model = build_model("resnet18?channels=3&classes=10")
    assert count(model) == 11_173_962  # the published size of this variant
    assert keys(model)[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert {"layer1.0.conv1.weight", "layer2.0.shortcut.0.weight", "layer4.1.bn2.running_var", "linear.bias"} <= set(
        keys(model)
    )
    assert "layer1.0.shortcut.0.weight" not in keys(model)
    narrow = build_model("resnet18?width=4&channels=1&classes=3").eval()
    assert narrow(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert narrow.layer4(narrow.layer3(narrow.layer2(torch.zeros(1, 4, 32, 32)))).shape == (1, 32, 4, 4)


def test_a_residual_block_adds_its_input() -> None:
    block = build_model("resnet18?width=4&channels=4&classes=2").layer1[0].eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x.clamp(min=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_data_gives_what_is_not_said(name: str) -> None:
    model = build_model(f"{name}?width=4", num_classes=7, input_shape=(2, 8, 12))
    assert model(torch.zeros(3, 2, 8, 12)).shape == (3, 7)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("mlpp", "unknown network 'mlpp'; expected one of mlp, layernorm_mlp, cnn, groupnorm_cnn, resnet18, or "),
        ("mlp:x", "mlp has no 'x'; expected mlp?width=N"),
        ("mlp?height=3", "unknown option 'height' of mlp; expected one of width, depth, inputs, classes"),
        ("mlp?width=0", "width=0 of mlp; expected at least 1"),
        ("cnn?inputs=3", "unknown option 'inputs' of cnn; expected one of width, channels, size, classes"),
        ("mlp?inputs=63", "inputs=63 of mlp, but the data has 64; expected the same; leave inputs out"),
        ("mlp?classes=9", "classes=9 of mlp, but the data has 10; expected the same; leave classes out"),
        ("resnet18", "resnet18 takes images, the data has inputs of shape (64,); expected (channels, rows, columns)"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(specification: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_model(specification, num_classes=10, input_shape=(64,))
    assert str(caught.value).startswith(message)


def test_other_refusals() -> None:
    with pytest.raises(
        InputError, match=r"^mlp.width=4 does not say its inputs; expected inputs=N, or data to take it from"
    ):
        build_model("mlp?width=4", num_classes=2)
    with pytest.raises(InputError, match=r"^size=9 of cnn, but the data has 8×12; expected the same"):
        build_model("cnn?size=9", num_classes=2, input_shape=(1, 8, 12))
    with pytest.raises(InputError, match=r"^images of 3×3 pixels for cnn; expected 4×4 or more"):
        build_model("cnn", num_classes=2, input_shape=(1, 3, 3))


def test_more_outputs_than_classes_in_the_data_are_allowed() -> None:
    assert build_model("mlp?classes=10", num_classes=9, input_shape=(64,)).output.out_features == 10


def test_a_seed_gives_the_same_weights_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build_model("mlp?inputs=4&classes=2", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.hidden1.weight, other.hidden1.weight)


def test_default_initialisation_is_pytorchs() -> None:
    torch.manual_seed(3)
    expected = nn.Linear(4, 64)
    torch.manual_seed(3)
    assert torch.equal(build_model("mlp?inputs=4&classes=2").hidden1.weight, expected.weight)


def test_a_factory_builds_anew_and_can_be_sent_to_another_process() -> None:
    factory = model_factory("mlp?width=4", num_classes=2, input_shape=(3,), seed=1)
    first, second = factory(), factory()
    assert first is not second
    assert torch.equal(first.hidden1.weight, second.hidden1.weight)
    assert len(ForkingPickler.dumps(factory)) > 0  # a closure would raise here


def test_a_factory_says_what_is_wrong_at_once_and_disturbs_no_random_state() -> None:
    with pytest.raises(InputError, match=r"unknown network"):
        model_factory("nothing")
    torch.manual_seed(3)
    expected = build_model("mlp?inputs=4&classes=2")
    torch.manual_seed(3)
    assert torch.equal(model_factory("mlp?inputs=4&classes=2")().hidden1.weight, expected.hidden1.weight)


def test_the_users_factory(tmp_path: Path) -> None:
    (tmp_path / "user_networks.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n    pass\n"
        "def make(width, bias=True):\n    return Net(3, width, bias=bias)\n"
        "def give_class():\n    return Net\n"
        "def give_text():\n    return 'net'\n"
    )
    model = build_model("user_networks:make?width=5&bias=false", directory=tmp_path, seed=0)
    assert model.weight.shape == (5, 3)
    assert model.bias is None
    again = build_model("user_networks:make?width=5&bias=false", directory=tmp_path, seed=0)
    assert torch.equal(again.weight, model.weight)
    with pytest.raises(
        InputError, match=r"^user_networks:give_class returned the class Net; expected a torch.nn.Module$"
    ):
        build_model("user_networks:give_class", directory=tmp_path)
    with pytest.raises(InputError, match=r"^user_networks:give_text returned a str; expected a torch.nn.Module$"):
        build_model("user_networks:give_text", directory=tmp_path)
    with pytest.raises(InputError, match=r"^user_networks:make.depth=2 raised TypeError: "):
        build_model("user_networks:make?depth=2", directory=tmp_path)
