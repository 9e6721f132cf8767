"""A small BatchNorm CNN, and photographs in grey of MNIST's size to train it on before it is tuned on digits."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdtree.data import DataSet, load_data
from mdtree.datasets.parquet_data import CIFAR10_MEAN, CIFAR10_STANDARD_DEVIATION

SIZE = 14
_CROP = 28
_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


def photographs(train: int) -> DataSet:
    """CIFAR-10 in grey, the inner 28 × 28 pixels averaged to 14 × 14, shape (n, 1, 14, 14), values in [0, 1].

    Shape and values are those of MNIST as ``idx?size=14``.

    Parameters
    ----------
    train : int
        Images to train on, evenly of the ten classes.
    """
    data = load_data(f"cifar10?train={train}")
    assert data.x_test is not None
    return replace(data, x_train=_shrunk(data.x_train), x_test=_shrunk(data.x_test))


def _shrunk(images: Tensor) -> Tensor:
    """Normalised colour (n, 3, 32, 32) -> grey (n, 1, 14, 14)."""
    luma, mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (_LUMA, CIFAR10_MEAN, CIFAR10_STANDARD_DEVIATION)
    )
    grey = (luma * (images * deviation + mean)).sum(dim=1, keepdim=True)
    border = (images.shape[-1] - _CROP) // 2
    inner = grey[:, :, border : border + _CROP, border : border + _CROP]
    return functional.avg_pool2d(inner, _CROP // SIZE)


def batch_norm_cnn(width: int, classes: int = 10) -> nn.Module:
    """Two blocks of convolution, BatchNorm, ReLU and pooling, `width` and 2 · `width` channels; mean; linear."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )
