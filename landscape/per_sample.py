"""Squared norms of per-sample gradients of a network's logits against given cotangents, without a loop over samples.

Three routes, the first that holds is taken. *Layers*: where every parameter belongs to a linear, convolution or
normalisation layer called once, the norm follows from the layer's input and the gradient at its output (Goodfellow,
"Efficient per-example gradient computations", 2015; for convolutions Rochette, Manoel and Tramel, 2019), at the cost
of one backward pass. *Vectorised*: ``torch.func.vmap`` over samples. *Single*: one backward pass a sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from landscape.failures import out_of_memory
from landscape.network import Network
from landscape.task import Task

Cotangents = Callable[[Tensor], Tensor]
"""From the logits (n, classes) to R cotangents a sample (R, n, classes)."""

CHUNK_ELEMENTS = 2**24
"""Most numbers a temporary tensor may hold here: 64 MiB in float32."""


class PerSampleNorms:
    """Squared norms of ``d(u_n . z_n)/dw`` for cotangents u_n of the logits z_n.

    Parameters
    ----------
    network : Network
    task : Task
        Turns the network's output into logits.
    """

    def __init__(self, network: Network, task: Task) -> None:
        self.network = network
        self.task = task
        self.route = "layers" if _layers_suffice(network) else "vectorised"
        self._verified = False

    def squares(self, inputs: Tensor, cotangents: Cotangents) -> Tensor:
        """Squared gradient norms, shape (R, n); `cotangents` sees the logits of the batch, detached."""
        if self.route == "layers" and not self._verified:
            self._verified = True
            if not self._verify(inputs[:2]):
                self.route = "vectorised"
        if self.route == "layers":
            return self._by_layers(inputs, cotangents)
        with torch.no_grad():
            directions = cotangents(self.task.logits(self.network(inputs)))
        if self.route == "vectorised":
            try:
                return self._vectorised(inputs, directions)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self.route = "single"  # an operation that cannot be batched
        return self._single(inputs, directions)

    def _verify(self, inputs: Tensor) -> bool:
        """Whether the layers' rule gives the same norms as plain backward passes on `inputs`."""
        generator = torch.Generator().manual_seed(0)

        def random(logits: Tensor) -> Tensor:
            values = torch.randn(1, *logits.shape, generator=generator, dtype=torch.float64).to(logits)
            directions.append(values)
            return values

        directions: list[Tensor] = []
        try:
            fast = self._by_layers(inputs, random)
        except _UnsupportedError:
            return False
        slow = self._single(inputs, directions[0])
        return torch.allclose(fast, slow, rtol=1e-3, atol=1e-30)

    def _by_layers(self, inputs: Tensor, cotangents: Cotangents) -> Tensor:
        calls: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

        def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if module in calls:
                raise _UnsupportedError
            calls[module] = (arguments[0].detach(), output, arguments[0]._version)
            return output.clone()  # so that an in-place activation leaves the kept output alone

        hooks = [m.register_forward_hook(keep) for m in self.network.module.modules() if type(m) in _SQUARES]
        try:
            logits = self.task.logits(self.network(inputs))
        finally:
            for hook in hooks:
                hook.remove()
        directions = cotangents(logits.detach())
        outputs = [output for _, output, _ in calls.values()]
        rounds = []
        for index, direction in enumerate(directions):
            gradients = torch.autograd.grad(
                logits, outputs, direction, retain_graph=index + 1 < len(directions), allow_unused=True
            )
            total = logits.new_zeros(len(inputs))
            for (module, (value, _, version)), gradient in zip(calls.items(), gradients, strict=True):
                if value._version != version:
                    raise _UnsupportedError
                if gradient is not None:
                    total += _SQUARES[type(module)](module, value, gradient)
            rounds.append(total)
        return torch.stack(rounds)

    def _vectorised(self, inputs: Tensor, directions: Tensor) -> Tensor:
        module = self.network.module
        parameters = {name: p.detach() for name, p in zip(self.network.names, self.network.parameters, strict=True)}

        def projection(values: dict[str, Tensor], sample: Tensor, direction: Tensor) -> Tensor:
            output = functional_call(module, values, (sample[None],))
            return (self.task.logits(output)[0] * direction).sum()

        size = max(1, CHUNK_ELEMENTS // self.network.parameter_count)
        rows = vmap(grad(projection), in_dims=(None, 0, 0))
        rounds = []
        for direction in directions:
            parts = []
            for start in range(0, len(inputs), size):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    gradients = rows(parameters, inputs[start : start + size], direction[start : start + size])
                parts.append(sum(g.reshape(len(g), -1).square().sum(1) for g in gradients.values()))
            rounds.append(torch.cat(parts))
        return torch.stack(rounds)

    def _single(self, inputs: Tensor, directions: Tensor) -> Tensor:
        squares = directions.new_zeros(directions.shape[:2])
        for n in range(len(inputs)):
            logits = self.task.logits(self.network(inputs[n : n + 1]))[0]
            for index, direction in enumerate(directions[:, n]):
                gradients = torch.autograd.grad(
                    logits, self.network.parameters, direction, retain_graph=True, allow_unused=True
                )
                squares[index, n] = sum(g.square().sum() for g in gradients if g is not None)
        return squares


class _UnsupportedError(RuntimeError):
    """The layers' rule does not hold for this network."""


def _layers_suffice(network: Network) -> bool:
    owners = [m for m in network.module.modules() if next(m.parameters(recurse=False), None) is not None]
    owned = [id(p) for m in owners for p in m.parameters(recurse=False)]
    return len(owned) == len(set(owned)) and all(type(m) in _SQUARES and _plain(m) for m in owners)


def _plain(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return True


def _product_squares(left: Tensor, right: Tensor) -> Tensor:
    """``||left_n right_n^T||_F^2`` for left (n, q, l) and right (n, k, l), shape (n,), by the smaller intermediate."""
    length = left.shape[2]
    if length == 1:
        return left.square().sum((1, 2)) * right.square().sum((1, 2))
    if 2 * length**2 < left.shape[1] * right.shape[1]:
        return ((left.mT @ left) * (right.mT @ right)).sum((1, 2))
    size = max(1, CHUNK_ELEMENTS // (left.shape[1] * right.shape[1]))
    pairs = zip(left.split(size), right.split(size), strict=True)
    return torch.cat([(a @ b.mT).square().sum((1, 2)) for a, b in pairs])


def _linear(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    left = gradient.reshape(len(gradient), -1, gradient.shape[-1]).mT
    right = inputs.reshape(len(inputs), -1, inputs.shape[-1]).mT
    squares = _product_squares(left, right)
    return squares if module.bias is None else squares + left.sum(2).square().sum(1)


def _convolution(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    assert not isinstance(module.padding, str)
    lift = (1,) if isinstance(module, nn.Conv1d) else ()  # a row of height 1, since unfold knows images only
    unfold = nn.Unfold(
        kernel_size=(*lift, *module.kernel_size),
        dilation=(*lift, *module.dilation),
        padding=(*((0,) if lift else ()), *module.padding),
        stride=(*lift, *module.stride),
    )
    images = inputs[:, :, None] if lift else inputs
    left = gradient.flatten(2).unflatten(1, (module.groups, -1))
    columns = images[0].numel() * module.weight[0, 0].numel()
    parts = []
    for image, part in zip(*(t.split(max(1, CHUNK_ELEMENTS // columns)) for t in (images, left)), strict=True):
        grouped = unfold(image).unflatten(1, (module.groups, -1)).flatten(0, 1)
        parts.append(_product_squares(part.flatten(0, 1), grouped).unflatten(0, (-1, module.groups)).sum(1))
    squares = torch.cat(parts)
    return squares if module.bias is None else squares + gradient.flatten(2).sum(2).square().sum(1)


def _channel_scale(normal: Tensor, gradient: Tensor, module: nn.Module) -> Tensor:
    """For scale and shift of each channel (dimension 1)."""
    squares = gradient.new_zeros(len(gradient))
    if module.weight is not None:
        squares = squares + (normal * gradient).flatten(2).sum(2).square().sum(1)
    if module.bias is not None:
        squares = squares + gradient.flatten(2).sum(2).square().sum(1)
    return squares


def _batch_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    normal = functional.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
    return _channel_scale(normal[..., None], gradient[..., None], module)


def _group_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    assert isinstance(module, nn.GroupNorm)
    normal = functional.group_norm(inputs, module.num_groups, eps=module.eps)
    return _channel_scale(normal[..., None], gradient[..., None], module)


def _layer_norm(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    assert isinstance(module, nn.LayerNorm)
    normal = functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    size = module.weight.numel() if module.weight is not None else 1
    squares = (normal * gradient).reshape(len(gradient), -1, size).sum(1).square().sum(1)
    if module.bias is not None:
        squares = squares + gradient.reshape(len(gradient), -1, size).sum(1).square().sum(1)
    return squares


_SQUARES: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
