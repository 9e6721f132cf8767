"""Networks as people have them, each small enough for a dense Hessian, and data of the kind it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import small_networks
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from landscape import Samples

SAMPLES = 37  # with batches of 16: 16, 16, 5
TOKENS = 11
CLASSES = 4


class Recurrent(nn.Module):
    """Embedding, GRU or LSTM, last state, linear head."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 5)
        self.recurrent = kind(5, 6, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.recurrent(self.embedding(tokens))[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


class VisionTransformer(nn.Module):
    """Patches by a convolution, class token, positions, one pre-norm encoder layer with fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 3, stride=3)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        x = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class TextTransformer(nn.Module):
    """Named inputs: tokens, and a mask that is true where there is a token; the mean over those is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 6, padding_idx=0)
        self.positions = nn.Parameter(torch.zeros(1, 7, 6))
        layer = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.encoder(self.embedding(tokens) + self.positions, src_key_padding_mask=~mask)
        weights = mask[..., None].to(x)
        return self.head((x * weights).sum(1) / weights.sum(1))


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` by itself, over five vectors a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class TiedWeights(nn.Module):
    """Predicts a token from three; the output layer's weight is that of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 6)
        self.hidden = nn.Linear(6, 6)
        self.output = nn.Linear(6, TOKENS)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.hidden(self.embedding(tokens).mean(1)).relu())


class LayerCalledTwice(nn.Module):
    """One linear layer applied in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(self.first(x).relu()).relu()).relu())


class TwoTowers(nn.Module):
    """Two inputs of different kinds: an image and a vector of features."""

    def __init__(self) -> None:
        super().__init__()
        self.image_tower = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.feature_tower = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        return self.head(torch.cat([self.image_tower(image), self.feature_tower(features)], dim=1))


@dataclass
class Output:
    """What the language-model libraries return."""

    logits: Tensor
    loss: Tensor | None = None


class SequenceClassifier(nn.Module):
    """Called by names, counts padding out by its attention mask, returns an object with ``logits``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 6)
        self.hidden = nn.Linear(6, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        weights = attention_mask[..., None].to(self.embedding.weight)
        pooled = (functional.gelu(self.hidden(self.embedding(input_ids))) * weights).sum(1) / weights.sum(1)
        logits = self.head(pooled)
        return Output(logits, None if labels is None else functional.cross_entropy(logits, labels))


class BagOfTokens(nn.Module):
    """``nn.EmbeddingBag``, of which torch has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(TOKENS, 5, mode="mean")
        self.head = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, CLASSES))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.bag(tokens))


def weight_norm_mlp() -> nn.Module:
    """Torch has a second derivative of this parametrization, and it is wrong: see :func:`sound`."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, CLASSES))


def dropout_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES))


def prelu_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 8), nn.PReLU(), nn.Linear(8, CLASSES))


def rms_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8), nn.SiLU(), nn.Linear(8, CLASSES))


def transposed_convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(3, 3, 2, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, CLASSES),
    )


def series_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding="same"),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Conv1d(4, 4, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def volume_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(3, CLASSES)
    )


def _normal(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randn(SAMPLES, *shape, generator=generator)


def _tokens(length: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randint(1, TOKENS, (SAMPLES, length), generator=generator)


def _padded(tokens: str, mask: str, kind: torch.dtype) -> Callable[[torch.Generator], dict[str, Tensor]]:
    """Up to seven tokens a sample, the rest padding; no sample of a short batch need be as long as the longest."""

    def draw(generator: torch.Generator) -> dict[str, Tensor]:
        lengths = torch.randint(2, 8, (SAMPLES, 1), generator=generator)
        present = torch.arange(7) < lengths
        return {tokens: _tokens(7)(generator) * present, mask: present.to(kind)}

    return draw


def _image_and_features(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return _normal(1, 6, 6)(generator), _normal(6)(generator)


def _image_and_features_by_name(generator: torch.Generator) -> dict[str, Tensor]:
    return dict(zip(("image", "features"), _image_and_features(generator), strict=True))


@dataclass(frozen=True)
class Case:
    """A network and its data.

    Parameters
    ----------
    make : callable
        The network as it is before training.
    draw : callable
        Inputs of ``SAMPLES`` samples.
    classes : int
    exact_trace : bool
        Whether its logits are piecewise linear in every parameter tensor, so that no trace need be sampled.
    mixable : bool
        Whether two of its inputs have a mixture: not tokens, not several tensors.
    twice_differentiable : bool
        Whether torch's double backward is right for every layer.
    """

    make: Callable[[], nn.Module]
    draw: Callable[[torch.Generator], Any]
    classes: int = CLASSES
    exact_trace: bool = False
    mixable: bool = True
    twice_differentiable: bool = True


_PADDED = _padded("tokens", "mask", torch.bool)
_FEATURES, _IMAGES = _normal(6), _normal(1, 6, 6)

CASES = {
    "mlp": Case(small_networks.mlp, _FEATURES, exact_trace=True),
    "mlp_with_dropout": Case(dropout_mlp, _FEATURES, exact_trace=True),
    "prelu_mlp": Case(prelu_mlp, _FEATURES, exact_trace=True),
    "layer_norm_mlp": Case(small_networks.layer_norm_mlp, _FEATURES),
    "rms_norm_mlp": Case(rms_norm_mlp, _FEATURES),
    "weight_norm_mlp": Case(weight_norm_mlp, _FEATURES, twice_differentiable=False),
    "layer_called_twice": Case(LayerCalledTwice, _FEATURES),
    "cnn": Case(small_networks.cnn, _IMAGES, exact_trace=True),
    "batch_norm_resnet": Case(small_networks.ResidualNet, _IMAGES, exact_trace=True),
    "group_norm_resnet": Case(lambda: small_networks.ResidualNet(nn.GroupNorm), _IMAGES),
    "transposed_convolution": Case(transposed_convolution, _IMAGES, exact_trace=True),
    "series_cnn": Case(series_cnn, _normal(2, 9), exact_trace=True),
    "volume_cnn": Case(volume_cnn, _normal(1, 4, 4, 4), exact_trace=True),
    "vision_transformer": Case(VisionTransformer, _IMAGES),
    "self_attention": Case(SelfAttention, _normal(5, 4)),
    "gru": Case(lambda: Recurrent(nn.GRU), _tokens(5), mixable=False),
    "lstm": Case(lambda: Recurrent(nn.LSTM), _tokens(5), mixable=False),
    "tied_weights": Case(TiedWeights, _tokens(3), classes=TOKENS, mixable=False),
    "text_transformer": Case(TextTransformer, _PADDED, mixable=False),
    "positional_inputs": Case(TwoTowers, _image_and_features, exact_trace=True, mixable=False),
    "named_inputs": Case(TwoTowers, _image_and_features_by_name, exact_trace=True, mixable=False),
    "output_object": Case(SequenceClassifier, _padded("input_ids", "attention_mask", torch.int64), mixable=False),
    "embedding_bag": Case(BagOfTokens, _tokens(4), mixable=False, twice_differentiable=False),
}


def inputs_of(name: str) -> Any:
    """The inputs of a case, the same at every call."""
    return CASES[name].draw(torch.Generator().manual_seed(11))


def samples_of(name: str) -> Samples:
    """Inputs and labels of a case, the same at every call."""
    targets = torch.randint(CASES[name].classes, (SAMPLES,), generator=torch.Generator().manual_seed(12))
    return Samples(inputs_of(name), targets)


def call(model: nn.Module, inputs: Any) -> Tensor:
    """The logits of a model called as people call it."""
    if isinstance(inputs, dict):
        output = model(**inputs)
    else:
        output = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return output if isinstance(output, Tensor) else output.logits


def network(name: str, seed: int = 0) -> nn.Module:
    """A network in training mode: no parameter at a special value, BatchNorm statistics those of its data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CASES[name].make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
            for _ in range(3):
                call(model, inputs_of(name))
    return model


class _Mean(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens].mean(1)


def sound(model: nn.Module) -> nn.Module:
    """The same function of the same parameters in the same order, by operations whose second derivative is right."""

    def normalised(weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / weight_v.square().sum(1, keepdim=True).sqrt())

    for module in list(model.modules()):
        if isinstance(module, parametrizations._WeightNorm):
            module.forward = normalised
    if isinstance(model, BagOfTokens):
        model.bag = _Mean(model.bag.weight)
    return model
