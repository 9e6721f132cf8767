"""Thirty measured columns of a tumour's cells, benign or malignant, and a small transformer that reads them.

The network is written as its user would write it, of PyTorch's own layers: one token per column (the feature tokenizer
of Gorishniy et al. 2021), transformer layers, the mean over the columns, a linear layer.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from mdtree.data import DataSet
from mdtree.datasets.subset import Choice, Stored, choose
from mdtree.specification import Specification

COLUMNS = 30
POOL = 209
_SPLIT_SEED = 1993


def load(train: int, label_noise: float = 0.0, seed: int = 0, test: str = "first_half") -> DataSet:
    """The breast cancer table of scikit-learn, (n, 30) and two classes; 209 rows are the pool, 360 the test set.

    Columns are shifted and scaled to mean 0 and standard deviation 1 over the pool.

    Parameters
    ----------
    train : int
        Rows to train on, half of them benign as long as there are malignant ones.
    label_noise, seed, test
        As of every data set of `mdtree.data`.
    """
    table = load_breast_cancer()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(table.target))
    x, y = table.data[order], table.target[order]
    x = ((x - x[:POOL].mean(axis=0)) / x[:POOL].std(axis=0)).astype(np.float32)
    stored = Stored(x[:POOL], y[:POOL], x[POOL:], y[POOL:], "tumour_columns:load", 2)
    return choose(stored, Choice(train, label_noise, seed, test), Specification("tumour_columns", "load"))


class TabularTransformer(nn.Module):
    """Column j of value x becomes the token x · scale[j] + shift[j]; layers; mean over columns; linear.

    Parameters
    ----------
    columns, classes : int
    width : int
        Dimension of a token, even: there are two heads.
    depth : int
        Transformer layers.
    """

    def __init__(self, columns: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(columns, width) / width**0.5)
        self.shift = nn.Parameter(torch.randn(columns, width) / width**0.5)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, columns) -> (n, classes)."""
        tokens = self.layers(x.unsqueeze(2) * self.scale + self.shift)
        return self.output(self.norm(tokens).mean(dim=1))


def transformer(width: int, depth: int = 1) -> nn.Module:
    """A transformer of the table's thirty columns."""
    return TabularTransformer(COLUMNS, 2, width, depth)
