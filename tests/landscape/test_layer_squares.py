"""The rule of every layer against one backward pass a sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from one_backward_a_sample import directions_for, measured, plain_squares
from torch import Tensor, nn

from landscape import convolution_squares
from landscape.convolution_squares import product_squares
from landscape.layer_squares import rule_of

CLASSES = 4
SAMPLES = 7

Make = Callable[[], nn.Module]


class Classifier(nn.Module):
    """A layer called one or more times, its values squashed, averaged over positions and classified."""

    def __init__(self, layer: nn.Module, calls: int = 1) -> None:
        super().__init__()
        self.layer = layer
        self.calls = calls
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = torch.tanh(self.layer(x))
        x = nn.functional.adaptive_avg_pool1d(x.flatten(1)[:, None], 12)[:, 0].unflatten(1, (3, 4))
        return self.head((x * torch.arange(4).to(x)).sum(2))


def built(make: Make, calls: int = 1) -> nn.Module:
    """In training mode, no parameter or running statistic at a special value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(make(), calls)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.add_(torch.rand(buffer.shape))
    return model


def check(model: nn.Module, inputs: Tensor) -> None:
    directions = directions_for(len(inputs), CLASSES)
    found, route = measured(model, inputs, directions)
    assert route == "layers"
    torch.testing.assert_close(found.squares, plain_squares(model, inputs, directions), rtol=1e-9, atol=0)


def normal(*shape: int) -> Tensor:
    return torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(11))


CONVOLUTIONS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9)),
    "1d, strides, dilation and groups": (lambda: nn.Conv1d(4, 6, 2, 2, padding=3, dilation=3, groups=2), (4, 9)),
    "2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "2d, sides unlike": (lambda: nn.Conv2d(3, 4, (3, 2), (2, 1), padding=(1, 0), dilation=(1, 2)), (3, 6, 7)),
    "2d, stride leaves a margin": (lambda: nn.Conv2d(3, 4, 2, 3, bias=False), (3, 7, 6)),
    "2d, groups and dilation": (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (4, 6, 5)),
    "2d, depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 6, 5)),
    "2d, one pixel": (lambda: nn.Conv2d(3, 5, 1), (3, 4, 5)),
    "2d, one pixel with strides and groups": (lambda: nn.Conv2d(4, 6, 1, (2, 3), groups=2), (4, 6, 5)),
    "2d, same": (lambda: nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(1, 2)), (3, 6, 9)),
    "2d, valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid"), (3, 6, 5)),
    "2d, reflected margin": (lambda: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="reflect"), (3, 6, 5)),
    "2d, circular margin, same": (lambda: nn.Conv2d(3, 4, 4, padding="same", padding_mode="circular"), (3, 6, 5)),
    "3d": (lambda: nn.Conv3d(2, 4, (2, 3, 1), padding=(1, 0, 0)), (2, 3, 4, 3)),
    "3d, strides and groups": (lambda: nn.Conv3d(2, 4, 2, (1, 2, 1), groups=2), (2, 3, 4, 3)),
    "1d transposed": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, padding=1, output_padding=1), (4, 5)),
    "2d transposed": (lambda: nn.ConvTranspose2d(4, 6, (3, 2), padding=(1, 0)), (4, 3, 4)),
    "2d transposed, strides, dilation and groups": (
        lambda: nn.ConvTranspose2d(4, 6, 2, 2, dilation=2, groups=2),
        (4, 3, 4),
    ),
    "3d transposed": (lambda: nn.ConvTranspose3d(2, 3, 2, bias=False), (2, 2, 3, 2)),
}


@pytest.mark.parametrize("gram", [True, False, None], ids=["gram matrices", "gradients", "the cheaper"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, gram: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if gram is not None:
        monkeypatch.setattr(convolution_squares, "_gram_is_cheaper", lambda *_: gram)
    make, shape = CONVOLUTIONS[name]
    check(built(make), normal(*shape))


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if "transposed" not in name])
def test_convolutions_as_on_a_device_without_fast_grouped_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution_squares, "_gram_is_cheaper", lambda *_: False)
    of_columns = convolution_squares._column_squares
    monkeypatch.setattr(
        convolution_squares, "_weight_gradient_squares", lambda pairs, shape: of_columns(*pairs[0], shape)
    )
    make, shape = CONVOLUTIONS[name]
    check(built(make), normal(*shape))


OTHERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 13), (12,)),
    "linear over tokens": (lambda: nn.Linear(6, 5), (9, 6)),
    "linear over few tokens": (lambda: nn.Linear(40, 50, bias=False), (2, 40)),
    "linear over a grid": (lambda: nn.Linear(5, 6), (2, 3, 5)),
    "batch norm of features": (lambda: nn.BatchNorm1d(12), (12,)),
    "batch norm, 1d": (lambda: nn.BatchNorm1d(4), (4, 5)),
    "batch norm, 2d": (lambda: nn.BatchNorm2d(3), (3, 4, 5)),
    "batch norm, 3d": (lambda: nn.BatchNorm3d(2), (2, 3, 2, 2)),
    "batch norm without parameters": (lambda: nn.BatchNorm2d(3, affine=False), (3, 4, 5)),
    "layer norm": (lambda: nn.LayerNorm(12), (12,)),
    "layer norm over two dimensions": (lambda: nn.LayerNorm([4, 5]), (3, 4, 5)),
    "layer norm without shift": (lambda: nn.LayerNorm(6, bias=False), (5, 6)),
    "RMS norm": (lambda: nn.RMSNorm(6), (5, 6)),
    "RMS norm over two dimensions": (lambda: nn.RMSNorm([3, 6], eps=0.1), (2, 3, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 5)),
    "group norm of features": (lambda: nn.GroupNorm(3, 12), (12,)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 5)),
    "instance norm by running statistics": (
        lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        (3, 5),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_layers(name: str) -> None:
    make, shape = OTHERS[name]
    check(built(make), normal(*shape))


TWICE: dict[str, tuple[Make, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 12), (12,)),
    "linear over tokens": (lambda: nn.Linear(6, 6), (9, 6)),
    "convolution": (lambda: nn.Conv2d(4, 4, 3, groups=2), (4, 9, 8)),
    "convolution of one pixel": (lambda: nn.Conv2d(3, 3, 1), (3, 4, 5)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 2, 2), (2, 3, 4)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (3, 4, 5)),
    "layer norm": (lambda: nn.LayerNorm(6), (5, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 5)),
}


@pytest.mark.parametrize("name", TWICE)
def test_calls_of_one_layer_are_added_up_before_the_norm_is_taken(name: str) -> None:
    make, shape = TWICE[name]
    check(built(make, calls=3), normal(*shape))


class Words(nn.Module):
    def __init__(self, padding: int | None, calls: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 6, padding_idx=padding)
        self.head = nn.Linear(6, CLASSES)
        self.calls = calls

    def forward(self, tokens: Tensor) -> Tensor:
        parts = tokens.chunk(self.calls, dim=1)
        return self.head(sum(torch.tanh(self.embedding(part)).mean(1) for part in parts))


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("padding", [None, 2])
def test_embedding_adds_up_the_gradients_of_equal_tokens(padding: int | None, calls: int) -> None:
    tokens = torch.randint(5, (SAMPLES, 8), generator=torch.Generator().manual_seed(4))
    assert all(len(row.unique()) < 8 for row in tokens)
    check(Words(padding, calls), tokens)


class Attention(nn.Module):
    def __init__(self, mask: str, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True)
        self.head = nn.Linear(6, CLASSES)
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        n, length = len(x), x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        if self.mask == "causal":
            mixed, _ = self.attention(x, x, x, attn_mask=future, need_weights=False, is_causal=True)
        elif self.mask == "each head its own, and padding":
            slopes = torch.arange(2.0).repeat(n)[:, None, None].to(x) * -future.to(x)
            padding = torch.zeros(n, length, dtype=x.dtype).masked_fill(x[:, :, 0] > 1, -torch.inf)
            padding[:, 0] = 0
            mixed, _ = self.attention(x, x, x, padding, False, slopes)
        elif self.mask == "other keys":
            keys = x[:, :2] * 2
            mixed, _ = self.attention(query=x, key=keys, value=keys.exp())
        else:
            mixed, _ = self.attention(x, x, x)
        return self.head(mixed.square().mean(1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", ["none", "causal", "each head its own, and padding", "other keys"])
def test_attention(mask: str, bias: bool) -> None:
    check(Attention(mask, bias), normal(5, 6))


def test_transformer_layer_with_padding() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x, src_key_padding_mask=x[:, :, 0].abs() > 1.5)[:, 0])

    x = normal(5, 6)
    x[:, 0, 0] = 0
    check(Encoder(), x)


def test_a_layer_that_overrides_its_forward_pass_has_no_rule() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Standardised(nn.Conv2d):
        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(x, weight - weight.mean(), bias)

    class Renamed(nn.Linear):
        pass

    assert rule_of(Renamed(2, 2)) is rule_of(nn.Linear(2, 2)) is not None
    assert rule_of(Doubled(2, 2)) is None
    assert rule_of(Standardised(2, 2, 1)) is None
    assert rule_of(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))) is None
    assert rule_of(nn.utils.weight_norm(nn.Linear(2, 2))) is None
    assert rule_of(nn.Embedding(3, 2, max_norm=1.0)) is None
    assert rule_of(nn.MultiheadAttention(4, 2)) is None, "the samples are in the second dimension"


@pytest.mark.parametrize("length", [1, 3, 40])
def test_product_squares_in_pieces(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = normal(8, length).double(), normal(9, length).double() + 1
    expected = torch.einsum("nql,nkl->nqk", left, right).square().sum((1, 2))
    for elements in (2**24, 100):
        monkeypatch.setattr(convolution_squares, "CHUNK_ELEMENTS", elements)
        torch.testing.assert_close(product_squares(left, right), expected, rtol=1e-12, atol=0)
