"""Networks by name: their keys and sizes are documented, so checkpoints of them can be opened by anyone."""

from __future__ import annotations

import math
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape import ClassificationData, Execution, Objective, Protocol, Samples, Task, measure
from mdtree.errors import InputError
from mdtree.models import ARCHITECTURES, build_model, model_factory
from mdtree.networks.vision_transformer import default_patch
from mdtree.training import Recipe, StackMember, train_loop, train_stack


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


VIT_BLOCK = ["norm1", "attention.qkv", "attention.output", "norm2", "hidden", "output"]


def test_vit_has_the_documented_keys_and_parameters() -> None:
    model = build_model("vit?width=12&depth=2&patch=3&channels=2&size=9&classes=5")
    blocks = [f"blocks.{number}.{layer}" for number in (0, 1) for layer in VIT_BLOCK]
    layers = ["embedding", *blocks, "norm", "output"]
    assert keys(model) == ["positions", *(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))]
    d, tokens = 12, 9
    block = 2 * 2 * d + (d * 3 * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d)
    assert count(model) == tokens * d + (2 * 9 * d + d) + 2 * block + 2 * d + (d * 5 + 5)
    assert model(torch.zeros(2, 2, 9, 9)).shape == (2, 5)


def test_vit_is_torchs_pre_norm_encoder_over_patches() -> None:
    """A convolution that steps patch by patch, then `nn.TransformerEncoderLayer`, the mean, a linear layer."""
    model = build_model("vit?width=8&depth=2&heads=2&patch=2&channels=3&size=6&classes=4", seed=0)
    x = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    weights = model.state_dict()
    kernel = weights["embedding.weight"].reshape(8, 3, 2, 2)
    patches = functional.conv2d(x, kernel, weights["embedding.bias"], stride=2).flatten(2).mT
    state = patches + weights["positions"]
    for number in (0, 1):
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        own = [layer.norm1, layer.self_attn.out_proj, layer.norm2, layer.linear1, layer.linear2]
        with torch.no_grad():
            for module, name in zip(own, [VIT_BLOCK[0], *VIT_BLOCK[2:]], strict=True):
                module.weight.copy_(weights[f"blocks.{number}.{name}.weight"])
                module.bias.copy_(weights[f"blocks.{number}.{name}.bias"])
            layer.self_attn.in_proj_weight.copy_(weights[f"blocks.{number}.attention.qkv.weight"])
            layer.self_attn.in_proj_bias.copy_(weights[f"blocks.{number}.attention.qkv.bias"])
        state = layer(state)
    normed = functional.layer_norm(state, (8,), weights["norm.weight"], weights["norm.bias"])
    expected = normed.mean(1) @ weights["output.weight"].T + weights["output.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "heads"), [(12, 4), (6, 2), (5, 1)])
def test_vit_has_four_heads_where_they_divide_its_width(width: int, heads: int) -> None:
    assert build_model(f"vit?width={width}&channels=1&size=8&classes=2").blocks[0].attention.heads == heads


@pytest.mark.parametrize(
    ("size", "patch"), [((8, 8), 1), ((16, 16), 2), ((28, 28), 4), ((32, 32), 4), ((8, 12), 2), ((29, 29), 29)]
)
def test_vit_takes_the_smallest_patch_that_leaves_64(size: tuple[int, int], patch: int) -> None:
    assert default_patch(*size) == patch
    model = build_model("vit?width=4&depth=1", num_classes=2, input_shape=(1, *size))
    assert (model.patch, len(model.positions)) == (patch, size[0] * size[1] // patch**2)


def test_vit_trains_alike_alone_and_in_a_stack() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 1, 4, 4, generator=generator), torch.arange(40) % 3
    recipe = Recipe(learning_rate=0.05, batch_size=8, steps=5)

    def make(seed: int) -> nn.Module:
        return build_model("vit?width=8&depth=1&patch=2", num_classes=3, input_shape=(1, 4, 4), seed=seed)

    stacked = train_stack(make, [StackMember(seed, 0.05, y) for seed in (1, 2)], x, recipe)
    for seed, member in zip((1, 2), stacked, strict=True):
        alone = train_loop(make(seed), x, y, recipe, seed)
        assert not member.diverged
        for name, value in alone.state.items():
            torch.testing.assert_close(member.state[name], value, rtol=0, atol=1e-5)


def test_gru_has_the_documented_keys_and_parameters() -> None:
    model = build_model("gru?width=6&features=3&classes=4")
    layer = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert keys(model) == [*(f"gru.{part}" for part in layer), "output.weight", "output.bias"]
    assert count(model) == 3 * (3 * 6 + 6 * 6 + 6 + 6) + (6 * 4 + 4)
    tokens = build_model("gru?width=6&depth=2&vocabulary=11&classes=4")
    assert keys(tokens)[:2] == ["embedding.weight", "gru.weight_ih_l0"]
    assert count(tokens) == 11 * 6 + 2 * 3 * (6 * 6 + 6 * 6 + 6 + 6) + (6 * 4 + 4)
    assert build_model("gru?width=6&features=2&vocabulary=11&classes=4").embedding.weight.shape == (11, 2)


def test_gru_classifies_its_last_state() -> None:
    model = build_model("gru?width=5&features=3&classes=4", seed=0)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    weights, state = model.state_dict(), torch.zeros(2, 5)
    for step in x.unbind(1):
        reset, update, new = (step @ weights["gru.weight_ih_l0"].T + weights["gru.bias_ih_l0"]).chunk(3, 1)
        old = (state @ weights["gru.weight_hh_l0"].T + weights["gru.bias_hh_l0"]).chunk(3, 1)
        gate = (update + old[1]).sigmoid()
        state = (1 - gate) * (new + (reset + old[0]).sigmoid() * old[2]).tanh() + gate * state
    expected = state @ weights["output.weight"].T + weights["output.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


def test_gru_reads_an_image_row_by_row() -> None:
    model = build_model("gru?width=5&classes=4", input_shape=(2, 3, 7), seed=0)
    image = torch.randn(1, 2, 3, 7, generator=torch.Generator().manual_seed(1))
    rows = torch.stack([image[0, :, row].flatten() for row in range(3)])
    assert torch.equal(model(image), model(rows[None]))


def test_gru_embeds_tokens() -> None:
    model = build_model("gru?width=5&vocabulary=9", num_classes=3, input_shape=(4,), seed=0)
    tokens = torch.tensor([[0, 8, 3, 3]])
    states, _ = model.gru(model.embedding.weight[tokens])
    assert torch.equal(model(tokens), model.output(states[:, -1]))


@pytest.mark.parametrize(
    ("specification", "shape", "message"),
    [
        ("gru", (64,), "gru without a vocabulary reads sequences or images, the data has inputs of shape (64,); expec"),
        ("gru?vocabulary=9", (7, 3), "gru with a vocabulary reads tokens, the data has inputs of shape (7, 3); expec"),
        ("gru?features=4", (7, 3), "features=4 of gru, but the data has 3; expected the same; leave features out"),
        ("vit", (64,), "vit takes images, the data has inputs of shape (64,); expected (channels, rows, columns)"),
        ("vit?width=6&heads=4", (1, 8, 8), "heads=4 of vit with width=6; expected a divisor of the width"),
        ("vit?patch=3", (1, 8, 9), "patch=3 of vit and images of 8×9 pixels; expected a divisor of both sides"),
        ("vit?depth=0", (1, 8, 8), "depth=0 of vit; expected at least 1"),
    ],
)
def test_what_vit_and_gru_refuse(specification: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_model(specification, num_classes=4, input_shape=shape)
    assert str(caught.value).startswith(message)


def attention_and_recurrence() -> list[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        ("vit?width=4&depth=1&patch=2", torch.randn(11, 1, 4, 4, generator=generator)),
        ("gru?width=4", torch.randn(11, 5, 2, generator=generator)),
        ("gru?width=4&vocabulary=6", torch.randint(0, 6, (11, 5), generator=generator)),
    ]


@pytest.mark.parametrize(("specification", "x"), attention_and_recurrence())
def test_vit_and_gru_are_measured_in_full(specification: str, x: Tensor) -> None:
    """Hessian products against a dense float64 Hessian, then a pair with every metric that its inputs allow."""
    y = torch.arange(11) % 3

    def make(seed: int | None) -> nn.Module:
        return build_model(specification, num_classes=3, input_shape=tuple(x.shape[1:]), seed=seed).eval()

    model = make(0)
    names, values = zip(*((name, p.detach().double()) for name, p in model.named_parameters()), strict=True)
    sizes, flat = [value.numel() for value in values], torch.cat([value.flatten() for value in values])
    inputs = x.double() if x.is_floating_point() else x

    def loss(point: Tensor) -> Tensor:
        parts = [part.view_as(value) for part, value in zip(point.split(sizes), values, strict=True)]
        out = torch.func.functional_call(make(0).double(), dict(zip(names, parts, strict=True)), (inputs,))
        return functional.cross_entropy(out, y)

    hessian = torch.autograd.functional.hessian(loss, flat)
    vector = torch.randn(len(flat), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-4)):
        objective = Objective(model, Samples(x, y), Task(3), execution=Execution(dtype=dtype, batch_size=4))
        product = objective.hessian_vector_product(vector).double()
        assert float((product - hessian @ vector).norm()) <= tolerance * float((hessian @ vector).norm())

    protocol = Protocol(curve_steps=5, curve_batch_size=11, density_probes=1, fresh_instances=2)
    data = ClassificationData(Samples(x, y), Samples(x, y), 3)
    found = measure([model, make(1)], data, protocol, fresh=lambda: make(None))
    assert [item.metric for item in found.not_measured] == ([] if x.is_floating_point() else ["cka_mixup"])
    assert all(math.isfinite(item.value) for item in found.metrics.values())
    estimate = found.metrics["hessian_trace"]
    # four standard errors: a wrong estimate is far outside
    assert abs(estimate.value - float(hessian.trace())) <= 4 * estimate.standard_error + 1e-3 * abs(estimate.value)
    top = float(torch.linalg.eigvalsh(hessian)[-1])
    assert found.metrics["hessian_top_eigenvalue"].value == pytest.approx(top, rel=3e-3)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_data_gives_what_is_not_said(name: str) -> None:
    model = build_model(f"{name}?width=4", num_classes=7, input_shape=(2, 8, 12))
    assert model(torch.zeros(3, 2, 8, 12)).shape == (3, 7)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("mlpp", "unknown network 'mlpp'; expected one of mlp, layernorm_mlp, cnn, groupnorm_cnn, resnet18, vit, "),
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
