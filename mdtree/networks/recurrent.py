"""A recurrent reference network: one layer of gated recurrent units (Cho et al. 2014) over a sequence."""

from __future__ import annotations

from torch import Tensor, nn


class GRUClassifier(nn.Module):
    """The last hidden state of a GRU, then a linear layer.

    Parameters
    ----------
    width : int
        Units of the recurrent layer, and dimension of the embedding where there is one.
    depth : int
        Recurrent layers, one above the other.
    classes : int
        Outputs.
    features : int
        Numbers a step.
    vocabulary : int, optional
        If given, inputs are tokens 0 <= token < `vocabulary`, embedded in `features` numbers each.
    """

    def __init__(self, width: int, depth: int, classes: int, features: int, vocabulary: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Identity() if vocabulary is None else nn.Embedding(vocabulary, features)
        self.gru = nn.GRU(features, width, depth, batch_first=True)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, length, features), (n, channels, rows, columns) or tokens (n, length) -> (n, classes)."""
        if x.ndim == 4:
            x = x.transpose(1, 2).flatten(2)  # an image is read row by row, all channels at once
        states, _ = self.gru(self.embedding(x))
        return self.output(states[:, -1])
