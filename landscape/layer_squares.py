"""Squared norms of per-sample gradients of one layer, from its inputs and the gradients at its outputs.

Each rule is exact and costs about as much as the layer's part of a backward pass, or less. A layer that is called
several times in one forward pass has its gradients added up before the norm is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from landscape.convolution_squares import CACHED_ELEMENTS, convolution_squares, product_squares
from landscape.recorded_calls import Call, UnsupportedError

Norm = Callable[[nn.Module, list[Call], frozenset[str]], Tensor]


@dataclass(frozen=True)
class Rule:
    """How the squared norms of one kind of layer are found.

    Parameters
    ----------
    squares : callable
        ``squares(module, calls, names)``: the sum over the named parameters of their squared norms, shape (n,).
    names : frozenset of str
        The parameters it knows.
    at_once : bool
        Whether it may run during the backward pass, which frees the gradient at the layer's output early.
    """

    squares: Norm
    names: frozenset[str] = frozenset({"weight", "bias"})
    at_once: bool = True


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a layer; None where its forward pass is not that of a layer known here."""
    for kind, rule in RULES.items():
        if isinstance(module, kind):
            own = ("forward", "_conv_forward") if issubclass(kind, nn.Conv1d | nn.Conv2d | nn.Conv3d) else ("forward",)
            same = all(getattr(type(module), name) is getattr(kind, name) for name in own)
            changed = "forward" in module.__dict__ or parametrize.is_parametrized(module)
            known = {name for name, _ in module.named_parameters()} <= rule.names
            return rule if same and known and not changed and _plain(module) else None
    return None


def _plain(module: nn.Module) -> bool:
    """Whether the options of a module are those its rule covers."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if isinstance(module, nn.MultiheadAttention):
        return module.batch_first and module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.track_running_stats and not module.training
    return True


def _pairs(calls: list[Call]) -> list[tuple[Tensor, Tensor]]:
    """First argument and gradient of each call whose output was used."""
    return [(call.positional[0], call.gradients[0]) for call in calls if call.gradients[0] is not None]


def _linear(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
    pairs = _pairs(calls)
    left = _joined([g.reshape(len(g), -1, g.shape[-1]) for _, g in pairs]).mT
    squares = left.new_zeros(len(left))
    if "weight" in names:
        squares = squares + product_squares(left, _joined([x.reshape(len(x), -1, x.shape[-1]) for x, _ in pairs]).mT)
    return squares + left.sum(2).square().sum(1) if "bias" in names else squares


def _joined(tensors: list[Tensor]) -> Tensor:
    """The positions of all calls one after the other."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


def _convolution(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
    pairs = _pairs(calls)
    squares = pairs[0][0].new_zeros(len(pairs[0][0]))
    if "weight" in names:
        squares = squares + convolution_squares(module, pairs)
    if "bias" in names:
        squares = squares + torch.stack([_channel_sums(g) for _, g in pairs]).sum(0).square().sum(1)
    return squares


def _channel_rule(normalised: Callable[[Any, Tensor], Tensor]) -> Norm:
    """Rule of a layer that normalises, then scales and shifts each channel (dimension 1)."""
    return _normalising_rule(normalised, lambda _, values: _channel_sums(values))


def _normalising_rule(normalised: Callable[[Any, Tensor], Tensor], summed: Callable[[Any, Tensor], Tensor]) -> Norm:
    """Rule of a layer that normalises, then scales and shifts; `summed` adds up what shares a scale."""

    def squares(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
        scale, shift = [], []
        for x, g in _pairs(calls):
            shift.append(summed(module, g))
            if "weight" in names:
                scale.append(torch.cat([summed(module, normalised(module, a).mul_(b)) for a, b in _pieces(x, g)]))
        return _sum_of_squares(scale, shift, names)

    return squares


def _pieces(x: Tensor, g: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both cut over the samples, so that what is made of a piece stays in the cache."""
    size = max(1, CACHED_ELEMENTS // max(1, x[0].numel()))
    return zip(x.split(size), g.split(size), strict=True)


def _sum_of_squares(scale: list[Tensor], shift: list[Tensor], names: frozenset[str]) -> Tensor:
    """Of the gradients of scale and shift, each first added up over the calls."""
    squares = shift[0].new_zeros(len(shift[0]))
    for name, parts in (("weight", scale), ("bias", shift)):
        if name in names:
            squares = squares + torch.stack(parts).sum(0).square().sum(1)
    return squares


def _batch_norm(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
    """``sum (x - mean) g / deviation`` of each channel, without the normalised values themselves."""
    assert isinstance(module, nn.modules.batchnorm._BatchNorm)
    assert module.running_mean is not None
    assert module.running_var is not None
    scale, shift = [], []
    for x, g in _pairs(calls):
        shift.append(_channel_sums(g))
        if "weight" in names:
            products = torch.cat([_channel_sums(a * b) for a, b in _pieces(x, g)])
            scale.append((products - module.running_mean * shift[-1]) * (module.running_var + module.eps).rsqrt())
    return _sum_of_squares(scale, shift, names)


def _channel_sums(values: Tensor) -> Tensor:
    return values.reshape(*values.shape[:2], -1).sum(2)


def _last_sums(module: Any, values: Tensor) -> Tensor:
    """Over all but the samples and the dimensions a layer normalises."""
    return values.reshape(len(values), -1, math.prod(module.normalized_shape)).sum(1)


def _embedding(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
    """The gradients of equal tokens of one sample are added up first; padding has none."""
    assert isinstance(module, nn.Embedding)
    pairs = _pairs(calls)
    count = len(pairs[0][0])
    tokens = _joined([x.reshape(count, -1) for x, _ in pairs])
    rows = _joined([g.reshape(count, -1, module.embedding_dim) for _, g in pairs]).flatten(0, 1)
    samples = torch.arange(count, device=tokens.device)
    keys, places = torch.unique((tokens + module.num_embeddings * samples[:, None]).flatten(), return_inverse=True)
    sums = rows.new_zeros(len(keys), module.embedding_dim).index_add_(0, places, rows)
    squares = sums.square().sum(1)
    if module.padding_idx is not None:
        squares = squares * (keys % module.num_embeddings != module.padding_idx)
    return squares.new_zeros(count).index_add_(0, keys // module.num_embeddings, squares)


def _attention(module: nn.Module, calls: list[Call], names: frozenset[str]) -> Tensor:
    """The projections are linear layers; the gradients at their outputs come from computing the attention again."""
    assert isinstance(module, nn.MultiheadAttention)
    if len(calls) > 1 or any(gradient is not None for gradient in calls[0].gradients[1:]):
        raise UnsupportedError("attention called twice, or its weights used")
    gradient = calls[0].gradients[0]
    arguments = dict(zip(_ATTENTION_ARGUMENTS, calls[0].positional, strict=False)) | calls[0].named
    sources = [arguments[name] for name in ("query", "key", "value")]
    if gradient is None or any(t.dim() != 3 or len(t) != len(gradient) for t in (gradient, *sources)):
        raise UnsupportedError("attention without a dimension for the samples")
    with torch.enable_grad():
        projected, mixed = _attend(module, sources, arguments)
        gradients = torch.autograd.grad(mixed, projected, gradient @ module.out_proj.weight)
    squares = gradient.new_zeros(len(gradient))
    of_input = [(x, g) for x, g in zip(sources, gradients, strict=True)]
    for prefix, pairs in (("in_proj_", of_input), ("out_proj.", [(mixed.detach(), gradient)])):
        for x, g in pairs:
            if prefix + "weight" in names:
                squares = squares + product_squares(g.mT, x.mT)
            if prefix + "bias" in names:
                squares = squares + g.sum(1).square().sum(1)
    return squares


def _attend(module: nn.MultiheadAttention, sources: list[Tensor], arguments: dict[str, Any]) -> tuple[Any, Tensor]:
    """Projected queries, keys and values, and what the heads make of them, before the last projection."""
    assert module.in_proj_weight is not None
    weights = module.in_proj_weight.detach().chunk(3)
    biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.detach().chunk(3)
    projected = [functional.linear(x, w, b).requires_grad_() for x, w, b in zip(sources, weights, biases, strict=True)]
    q, k, v = (h.unflatten(2, (module.num_heads, -1)).transpose(1, 2) for h in projected)
    mask = None
    for value in _masks(arguments, len(q), module.num_heads):
        added = torch.zeros_like(value, dtype=q.dtype).masked_fill_(value, -torch.inf) if _is_bool(value) else value
        mask = added if mask is None else mask + added
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return projected, mixed.transpose(1, 2).flatten(2)


def _masks(arguments: dict[str, Any], samples: int, heads: int) -> Iterator[Tensor]:
    padding, mask = arguments.get("key_padding_mask"), arguments.get("attn_mask")
    if padding is not None:
        yield padding[:, None, None]
    if mask is not None:
        yield mask if mask.dim() == 2 else mask.unflatten(0, (samples, heads))


def _is_bool(mask: Tensor) -> bool:
    return mask.dtype == torch.bool


_ATTENTION_ARGUMENTS = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")


def _layer_normalised(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(x, module.normalized_shape, eps=module.eps)


def _rms_normalised(module: nn.RMSNorm, x: Tensor) -> Tensor:
    return functional.rms_norm(x, module.normalized_shape, eps=module.eps)


def _group_normalised(module: nn.GroupNorm, x: Tensor) -> Tensor:
    return functional.group_norm(x, module.num_groups, eps=module.eps)


def _instance_normalised(module: nn.modules.instancenorm._InstanceNorm, x: Tensor) -> Tensor:
    own = module.training or not module.track_running_stats
    return functional.instance_norm(x, module.running_mean, module.running_var, use_input_stats=own, eps=module.eps)


_WEIGHT = frozenset({"weight"})
_ATTENTION = frozenset({"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"})

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: Rule(_linear),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), Rule(_convolution)),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), Rule(_convolution)),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), Rule(_batch_norm)),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), Rule(_channel_rule(_instance_normalised))
    ),
    nn.GroupNorm: Rule(_channel_rule(_group_normalised)),
    nn.LayerNorm: Rule(_normalising_rule(_layer_normalised, _last_sums)),
    nn.RMSNorm: Rule(_normalising_rule(_rms_normalised, _last_sums), _WEIGHT),
    nn.Embedding: Rule(_embedding, _WEIGHT),
    nn.MultiheadAttention: Rule(_attention, _ATTENTION, at_once=False),
}
"""Layers with a rule; a subclass has it too where it leaves the forward pass as it is."""
