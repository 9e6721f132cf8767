"""A small pre-norm vision transformer (Dosovitskiy et al. 2021), its attention written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdtree.errors import InputError

MOST_PATCHES = 64
"""Without a `patch` the smallest one is taken that leaves at most so many patches."""


class Attention(nn.Module):
    """Multi-head self-attention: softmax(Q·Kᵀ / √d)·V for every head, d = width / heads, then a linear layer.

    Plain products instead of a fused kernel: they have second derivatives and can be stacked over networks.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, tokens, width)."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2)
        )  # each (n, heads, tokens, d)
        weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then that + output(GELU(hidden(norm2(that)))), the hidden layer four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, tokens, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.output(functional.gelu(self.hidden(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Square patches, each embedded linearly; learned positions; pre-norm blocks; LayerNorm; mean over patches; linear.

    Parameters
    ----------
    width : int
        Dimension of the embedding.
    depth : int
        Blocks.
    channels, classes : int
        Channels of an input; outputs.
    size : (int, int)
        Rows and columns of an image.
    heads : int, optional
        Attention heads, a divisor of `width`; 4 by default, fewer (2 or 1) where 4 does not divide `width`.
    patch : int, optional
        Side of a patch in pixels, a divisor of rows and columns. By default the smallest that leaves at most 64
        patches, and the largest there is if none does.

    Raises
    ------
    InputError
        If `heads` or `patch` divides not.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        channels: int,
        size: tuple[int, int],
        classes: int,
        heads: int | None = None,
        patch: int | None = None,
    ) -> None:
        super().__init__()
        heads = math.gcd(4, width) if heads is None else heads
        if width % heads:
            raise InputError(f"heads={heads} of vit with width={width}", "a divisor of the width")
        self.patch = default_patch(*size) if patch is None else patch
        if size[0] % self.patch or size[1] % self.patch:
            raise InputError(
                f"patch={self.patch} of vit and images of {size[0]}×{size[1]} pixels", "a divisor of both sides"
            )
        tokens = size[0] * size[1] // self.patch**2
        self.embedding = nn.Linear(channels * self.patch**2, width)
        # the usual small random positions: zeros would start every patch alike
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, classes)."""
        pixels = x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # (n, c, h/p, p, w/p, p)
        patches = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (n, tokens, c·p·p)
        x = self.blocks(self.embedding(patches) + self.positions)
        return self.output(self.norm(x).mean(dim=1))


def default_patch(rows: int, columns: int) -> int:
    """The smallest divisor of both sides that leaves at most `MOST_PATCHES` patches, else the largest divisor."""
    common = math.gcd(rows, columns)
    divisors = (p for p in range(1, common + 1) if common % p == 0)
    return next((p for p in divisors if rows * columns <= MOST_PATCHES * p**2), common)
