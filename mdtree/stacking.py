"""What a stack of networks needs: which belong in one, their gradients, and optimizers with a member dimension."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

Gradients = Callable[[list[Tensor], Tensor, Tensor], list[Tensor]]
"""Stacked parameters, inputs (members, batch, ...), targets (members, batch) -> gradients, shaped like the former."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam and AdamW, the defaults of `torch.optim`."""

STACKED_LINEAR_PARAMETERS = 100_000
STACKED_CONVOLUTION_CHANNELS = 64
STACKED_CONVOLUTION_FEATURES = 400
# Where the borders lie, as the loop's time over the stack's (24 networks, batch 16, one thread of a server processor).
# mlp on 64 inputs: width 16 (1,500 weights) 14, 64 (9,000) 6.5, 128 (26,000) 3.1, 256 (84,000) 1.5; on 784 inputs:
# width 16 (13,000) 8.9, 64 (55,000) 1.8, 128 (118,000) 1.5, 256 (269,000) 0.8; on 3,072 inputs: width 16 (49,500) 2.6,
# 64 (201,000) 0.9. What a convolution costs goes with channels times pixels, which is what the first linear layer after
# it sees: cnn and groupnorm_cnn on 8×8 pixels: width 4 (32 features) 7.0 and 6.1, 8 (64) 4.9 and 5.2, 16 (128) 3.5 and
# 3.3, 32 (256, 64 channels) 2.1 and 1.8; on 28×28: width 4 (392) 1.8 and 1.5, 8 (784) 1.6 and 1.0, 16 (1,568) 1.0 and
# 0.8; on 3×32×32: width 4 (512) 1.4 and 1.2, 8 (1,024) 1.1 and 0.9, 16 (2,048) 0.9 and 0.6.

_STACKED_LAYERS = (
    nn.Sequential,
    nn.Linear,
    nn.Conv2d,
    nn.Flatten,
    nn.Identity,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
)


def trains_in_stack(model: nn.Module) -> bool:
    """Whether networks of this kind train faster stacked than one by one: a fixed rule, no timing.

    True if the network is an `nn.Sequential` (or several nested) without buffers and frozen parameters, made of linear
    layers with at most `STACKED_LINEAR_PARAMETERS` weights in all, LayerNorm, GroupNorm, pooling, activations, Flatten,
    and convolutions with at most `STACKED_CONVOLUTION_CHANNELS` channels, beside which no linear layer takes more than
    `STACKED_CONVOLUTION_FEATURES` inputs. Every other kind of layer trains in a loop.
    """
    if any(True for _ in model.buffers()) or not all(p.requires_grad for p in model.parameters()):
        return False
    layers = list(model.modules())
    if any(type(layer) not in _STACKED_LAYERS for layer in layers):
        return False
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    if sum(layer.weight.numel() for layer in linear) > STACKED_LINEAR_PARAMETERS:
        return False
    if not convolutions:
        return True
    return (
        max(max(layer.in_channels, layer.out_channels) for layer in convolutions) <= STACKED_CONVOLUTION_CHANNELS
        and max((layer.in_features for layer in linear), default=0) <= STACKED_CONVOLUTION_FEATURES
    )


def forward_precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 for the layers that bear it, on CUDA; nothing elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """The cross-entropy, in single precision where the logits come in half."""
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return nn.functional.cross_entropy(logits, targets, reduction=reduction)


def stacked_gradients(
    model: nn.Module, names: Sequence[str], parameters: list[Tensor], inputs: Tensor, targets: Tensor
) -> Gradients:
    """The function that computes every member's gradient of its own mean cross-entropy.

    Forward and backward are recorded once, as the elementary operations that `torch.vmap` and autograd issue, and
    replayed at every update: the same numbers to the last bit in half the time for small networks, whose cost is the
    bookkeeping. All later inputs must have the shapes of those given here.

    Parameters
    ----------
    model : torch.nn.Module
        The architecture; its own parameters are not read.
    names : sequence of str
        Of the parameters, in their order.
    parameters : list of torch.Tensor, each of shape (members, ...)
    inputs : torch.Tensor, shape (members, batch, ...)
    targets : torch.Tensor of int64, shape (members, batch)
    """
    template = copy.deepcopy(model).to("meta").train()

    def logits(values: tuple[Tensor, ...], batch: Tensor) -> Tensor:
        return torch.func.functional_call(template, dict(zip(names, values, strict=True)), (batch,))

    forward = torch.vmap(logits)

    def gradients(stacked: list[Tensor], batch: Tensor, wanted: Tensor) -> list[Tensor]:
        with forward_precision(batch.device):
            out = forward(tuple(stacked), batch)
        # the mean over each member's own batch, summed over members: the gradients do not mix
        loss = cross_entropy(out.flatten(0, 1), wanted.flatten(), reduction="sum")
        return list(torch.autograd.grad(loss / wanted.shape[1], stacked))

    return make_fx(gradients)([p.detach().requires_grad_() for p in parameters], inputs, targets)


class StackedOptimizer:
    """One optimizer for parameters with a leading member dimension, a learning rate per member.

    The formulas are those of `torch.optim.SGD`, `Adam` and `AdamW`: SGD and Adam add the weight decay to the gradient,
    AdamW shrinks the parameters by rate · decay.

    Parameters
    ----------
    name : str
        `sgd`, `adam` or `adamw`.
    parameters : sequence of torch.Tensor, each of shape (members, ...)
        Updated in place.
    rates : torch.Tensor, shape (members,)
    momentum : float
        Of SGD; Adam and AdamW use `BETA1` and `BETA2`.
    weight_decay : float
    """

    def __init__(
        self, name: str, parameters: Sequence[Tensor], rates: Tensor, momentum: float, weight_decay: float
    ) -> None:
        self._update = {"sgd": self._sgd, "adam": self._adam, "adamw": self._adamw}[name]
        self._parameters = parameters
        self._rates = [rates.view(-1, *[1] * (p.dim() - 1)) for p in parameters]
        self._momentum, self._weight_decay = momentum, weight_decay
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [] if name == "sgd" else [torch.zeros_like(p) for p in self._parameters]
        self._updates = 0

    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Update the parameters with each member's rate times `factor`."""
        self._updates += 1
        self._update(gradients, torch._foreach_mul(self._rates, factor))

    def _sgd(self, gradients: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        for p, velocity, gradient, rate in zip(self._parameters, self._first, gradients, rates, strict=True):
            velocity.mul_(self._momentum).add_(gradient.add(p, alpha=self._weight_decay))
            p.sub_(velocity * rate)

    def _adam(self, gradients: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        decayed = [g.add(p, alpha=self._weight_decay) for g, p in zip(gradients, self._parameters, strict=True)]
        self._adam_step(decayed, rates)

    def _adamw(self, gradients: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        for p, rate in zip(self._parameters, rates, strict=True):
            p.mul_(1 - rate * self._weight_decay)
        self._adam_step(gradients, rates)

    def _adam_step(self, gradients: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        first_bias = 1 - BETA1**self._updates
        second_bias = (1 - BETA2**self._updates) ** 0.5
        for p, first, second, gradient, rate in zip(
            self._parameters, self._first, self._second, gradients, rates, strict=True
        ):
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            p.sub_(first / (second.sqrt() / second_bias).add_(EPSILON) * (rate / first_bias))
