"""Squared norms of per-sample gradients of convolution weights, from a layer's inputs and the gradients at its outputs.

With X_n the input patches (channels x kernel, L positions) and D_n the gradient at the output (q, L), the gradient of
sample n is ``D_n X_n^T``. Its norm is found from whichever is cheaper: that product itself, computed for several
samples at once as the weight gradient of a grouped convolution (Rochette, Manoel and Tramel, "Efficient per-example
gradient computations in convolutional neural networks", 2019), or the Gram matrices of the positions,
``||D X^T||_F^2 = <D^T D, X^T X>`` (Goodfellow, 2015). The Gram matrix of patches is not formed from patches: it is the
sum, over the offsets of the kernel, of the Gram matrix of the padded input shifted along its diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

CHUNK_ELEMENTS = 2**24
"""Most numbers a temporary tensor may hold: 64 MiB in float32."""

CACHED_ELEMENTS = 2**18
"""Numbers of a temporary tensor that stays in a processor's cache: 1 MiB in float32."""

GROUPED_ELEMENTS = 2**19
"""Per-sample weight gradients computed by one grouped convolution."""

SHIFT_COST = 25
"""Adding one shifted number costs what so many multiplications of a matrix product do."""

PRODUCT_COST = 1.2
"""The same of one multiplication in the small products of the per-sample gradients themselves."""

_WEIGHT_GRADIENTS = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}


@dataclass(frozen=True)
class Geometry:
    """Kernel, stride, dilation (one entry a dimension of the positions) and groups of a convolution."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def product_squares(left: Tensor, right: Tensor) -> Tensor:
    """``||left_n right_n^T||_F^2`` for left (n, q, L) and right (n, k, L), shape (n,), by the cheaper intermediate."""
    q, k, length = left.shape[1], right.shape[1], left.shape[2]
    if length == 1:
        return left.square().sum((1, 2)) * right.square().sum((1, 2))
    gram = length * (q + k + SHIFT_COST) < q * k * (1 + SHIFT_COST / length)
    size = max(1, CHUNK_ELEMENTS // (length**2 if gram else q * k))
    parts = []
    for a, b in zip(left.split(size), right.split(size), strict=True):
        squares = (a.mT @ a).mul_(b.mT @ b) if gram else (a @ b.mT).square_()
        parts.append(squares.sum((1, 2)))
    return torch.cat(parts)


def convolution_squares(module: nn.Module, calls: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Squared gradient norms of a convolution's weight, summed over its calls, shape (n,).

    Parameters
    ----------
    module : nn.Conv1d, nn.Conv2d, nn.Conv3d or the transposed ones
    calls : list of (inputs, gradient)
        What the layer got, (n, channels, ...), and the gradient at what it returned. The gradients of several calls
        are added up before the norm is taken.
    """
    assert isinstance(module, Convolution | Transposed)
    shape = Geometry(module.kernel_size, module.stride, module.dilation, module.groups)
    pairs = []
    for inputs, gradient in calls:
        if isinstance(module, Transposed):  # the convolution whose backward pass it is: the two change places
            assert not isinstance(module.padding, str)
            pairs.append((_padded(gradient, _both_sides(module.padding)), inputs))
        else:
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            pairs.append((_padded(inputs, _padding(module), mode), gradient))
    if len(pairs) > 1:
        return _weight_gradient_squares(pairs, shape)
    images, gradient = pairs[0]
    if math.prod(shape.kernel) == 1:
        for dimension, (step, length) in enumerate(zip(shape.stride, gradient.shape[2:], strict=True), start=2):
            places = torch.arange(length, device=images.device) * step
            images = images if step == 1 else images.index_select(dimension, places)
        return _ungrouped(images.flatten(2), gradient.flatten(2), shape.groups)
    if _gram_is_cheaper(images, gradient, shape):
        return _gram_squares(images, gradient, shape)
    if images.device.type == "cpu":
        return _weight_gradient_squares(pairs, shape)
    return _column_squares(images, gradient, shape)


def _padding(module: Convolution) -> list[int]:
    """As torch.nn.functional.pad takes it: the last dimension first, before and after."""
    if not isinstance(module.padding, str):
        return _both_sides(module.padding)
    if module.padding == "valid":
        return [0] * (2 * len(module.kernel_size))
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]


def _both_sides(padding: tuple[int, ...]) -> list[int]:
    return [side for width in reversed(padding) for side in (width, width)]


def _padded(images: Tensor, padding: list[int], mode: str = "constant") -> Tensor:
    return functional.pad(images, padding, mode=mode) if any(padding) else images


def _ungrouped(images: Tensor, gradient: Tensor, groups: int) -> Tensor:
    """Products of positions, each group of channels by itself."""
    left, right = (t.unflatten(1, (groups, -1)).flatten(0, 1) for t in (gradient, images))
    return product_squares(left, right).unflatten(0, (-1, groups)).sum(1)


def _gram_is_cheaper(images: Tensor, gradient: Tensor, shape: Geometry) -> bool:
    channels, q = images.shape[1] // shape.groups, gradient.shape[1] // shape.groups
    positions, kernel = gradient[0, 0].numel(), math.prod(shape.kernel)
    if any(step != 1 for step in shape.stride):
        gram = positions**2 * (kernel * channels + q + SHIFT_COST)
    else:  # over the padded rows, of which the last dimension's margin is wasted
        rows = images[0, 0].numel()
        gram = rows**2 * channels + rows * positions * (q + SHIFT_COST * sum(shape.kernel))
    return gram < PRODUCT_COST * positions * q * kernel * channels


def _gram_squares(images: Tensor, gradient: Tensor, shape: Geometry) -> Tensor:
    if any(step != 1 for step in shape.stride):
        return _column_squares(images, gradient, shape)
    images = images.unflatten(1, (shape.groups, -1)).flatten(0, 1)
    gradient = gradient.unflatten(1, (shape.groups, -1)).flatten(0, 1)
    grid = images.shape[2:]
    # positions of the output, numbered as those of the padded input: its margin stands for outputs that are zero
    margin = [side for wide, narrow in zip(reversed(grid), reversed(gradient.shape[2:]), strict=True)
              for side in (0, wide - narrow)]  # fmt: skip
    steps = [*accumulate(reversed(grid[1:]), lambda a, b: a * b, initial=1)][::-1]
    reach = [d * step * (k - 1) for d, step, k in zip(shape.dilation, steps, shape.kernel, strict=True)]
    length = grid.numel() - sum(reach)
    parts = []
    size = max(1, CACHED_ELEMENTS // grid.numel() ** 2)
    for image, part in zip(images.split(size), gradient.split(size), strict=True):
        rows = image.flatten(2)
        gram = rows.mT @ rows
        extent = grid.numel()
        for d, step, k, far in zip(shape.dilation, steps, shape.kernel, reach, strict=True):
            extent -= far
            total = gram[:, :extent, :extent].clone() if k > 1 else gram
            for offset in range(d * step, far + 1, d * step):
                total += gram[:, offset : offset + extent, offset : offset + extent]
            gram = total
        rows = functional.pad(part, margin).flatten(2)[:, :, :length]
        parts.append((rows.mT @ rows).mul_(gram).sum((1, 2)))
    return torch.cat(parts).unflatten(0, (-1, shape.groups)).sum(1)


def _column_squares(images: Tensor, gradient: Tensor, shape: Geometry) -> Tensor:
    """From the patches themselves, copied out for as many samples as fit."""
    kernel, positions = shape.kernel, gradient.shape[2:]
    size = max(1, CHUNK_ELEMENTS // (images.shape[1] * math.prod(kernel) * positions.numel()))
    parts = []
    for image, part in zip(images.contiguous().split(size), gradient.split(size), strict=True):
        first, channel, *steps = image.stride()
        along = [d * step for d, step in zip(shape.dilation, steps, strict=True)]
        across = [s * step for s, step in zip(shape.stride, steps, strict=True)]
        patches = image.as_strided(
            (len(image), image.shape[1], *kernel, *positions), (first, channel, *along, *across)
        ).reshape(len(image), image.shape[1] * math.prod(kernel), -1)
        parts.append(_ungrouped(patches, part.flatten(2), shape.groups))
    return torch.cat(parts)


def _weight_gradient_squares(pairs: list[tuple[Tensor, Tensor]], shape: Geometry) -> Tensor:
    """From the per-sample gradients themselves: samples side by side are the groups of one convolution."""
    images, gradient = pairs[0]
    weight = (gradient.shape[1], images.shape[1] // shape.groups, *shape.kernel)
    size = max(1, GROUPED_ELEMENTS // math.prod(weight))
    parts = []
    for start in range(0, len(images), size):
        total: Tensor | None = None
        for values, gradients in pairs:
            image, part = values[start : start + size], gradients[start : start + size]
            count = len(image)
            found = _WEIGHT_GRADIENTS[len(shape.kernel)](
                image.reshape(1, -1, *image.shape[2:]),
                (count * weight[0], *weight[1:]),
                part.reshape(1, -1, *part.shape[2:]),
                stride=shape.stride,
                dilation=shape.dilation,
                groups=count * shape.groups,
            ).view(count, -1)
            total = found if total is None else total.add_(found)
        assert total is not None
        parts.append(total.square_().sum(1))
    return torch.cat(parts)
