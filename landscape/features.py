"""What the last layer reads: how many directions its features use, how many stand still, how far logits spread."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from landscape.errors import LandscapeError
from landscape.ledger import Ledger
from landscape.network import evaluating
from landscape.objective import Objective

FEATURE_SAMPLES = 512
"""Most samples that features are read from: a rank depends on their number, so it is fixed."""

IDLE = 1e-6
"""A feature whose variance is at most this part of the mean variance is idle: it answers alike to every sample."""

CONSTANT = 1e-6
"""Spread of the features, in units of their size, up to which they do not vary: that of rounding in float32."""

JACKKNIFE_GROUPS = 8

FEATURE_METRICS = ("feature_rank_share", "idle_feature_share", "logit_spread")


@dataclass(frozen=True, eq=False)
class Features:
    """Inputs of the last layer and its outputs.

    Parameters
    ----------
    values : Tensor, shape (n, D), float64
        What the last linear layer or convolution reads of each sample, averaged over tokens or places.
    logits : Tensor, shape (n, classes), float64
    """

    values: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Spread:
    """A number computed from samples, and its standard error as that of a sample of the population."""

    value: float
    standard_error: float


def last_features(objective: Objective, samples: int = FEATURE_SAMPLES) -> Features:
    """Features and logits of so many samples, at even distances.

    The last layer is the last linear layer or convolution that is called and has as many outputs as there are classes;
    where none has, the last that is called. One forward pass: a third of a sample gradient each.

    Raises
    ------
    LandscapeError
        The network calls no linear layer and no convolution, only a loss function is known, or a feature is not
        finite.
    """
    task = objective.require_task()
    part = objective.spread(min(samples, objective.samples))
    widths = {task.num_classes, 1} if task.num_classes == 2 else {task.num_classes}  # one logit serves two classes
    last: dict[bool, tuple[nn.Module, Tensor]] = {}  # the last call, of layers as wide as a head and of the others

    def keep(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        read = next((value for value in (*inputs, *named.values()) if isinstance(value, Tensor)), None)
        if read is not None:
            last[_outputs(module) in widths] = module, read.detach()

    layers = [m for m in objective.network.module.modules() if isinstance(m, nn.Linear | _ConvNd)]
    hooks = [layer.register_forward_hook(keep, with_kwargs=True) for layer in layers]
    values, logits = [], []
    try:
        with evaluating():
            for batch in part.batches():
                last.clear()
                logits.append(part.evaluate(batch).double())
                values.append(_by_sample(*_head(last), len(batch[1])))
                objective.sample_gradients += len(batch[1]) / 3
    finally:
        for hook in hooks:
            hook.remove()
    found = Features(torch.cat(values), torch.cat(logits))
    if not bool(torch.isfinite(found.values).all() and torch.isfinite(found.logits).all()):
        raise LandscapeError("a feature or a logit is not finite", "finite numbers", "the training may have diverged")
    return found


def _head(last: dict[bool, tuple[nn.Module, Tensor]]) -> tuple[nn.Module, Tensor]:
    if not last:
        raise LandscapeError("the network calls no linear layer and no convolution", "a last layer that reads features")
    return last[max(last)]


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features) if isinstance(layer, nn.Linear) else int(cast(_ConvNd, layer).out_channels)


def _by_sample(layer: nn.Module, inputs: Tensor, count: int) -> Tensor:
    """(n, D) in float64: tokens of a linear layer and places of a convolution are averaged."""
    least = 2 if isinstance(layer, nn.Linear) else cast(_ConvNd, layer).weight.dim()
    if inputs.dim() < least or inputs.shape[0] != count:
        raise LandscapeError(
            f"the last layer reads a tensor of shape {tuple(inputs.shape)} for {count} samples",
            "the samples along the first axis",
        )
    inputs = inputs.double()
    if isinstance(layer, nn.Linear):
        return inputs.flatten(1, -2).mean(1) if inputs.dim() > 2 else inputs
    return inputs.flatten(2).mean(2)


def _varies(centred: Tensor, values: Tensor) -> bool:
    return bool(centred.norm() > CONSTANT * values.norm())


def feature_rank_share(values: Tensor) -> float:
    r"""Effective rank of the features over their number D.

    .. math:: \frac1D \exp\Bigl(-\sum_i p_i \ln p_i\Bigr), \qquad p_i = \lambda_i / \sum_j \lambda_j

    with the eigenvalues of their covariance; between 1/D and 1, and 0 where nothing varies. A layer that needs all its
    directions is narrow for its task; one that was trained too hot has lost many of them.

    Parameters
    ----------
    values : Tensor, shape (n, D), float64

    References
    ----------
    Roy & Vetterli 2007, *The effective rank: a measure of effective dimensionality*.
    """
    centred = values - values.mean(0)
    if not _varies(centred, values):
        return 0.0
    gram = centred.mT @ centred if centred.shape[1] <= centred.shape[0] else centred @ centred.mT
    eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    shares = shares[shares > 0]
    return math.exp(-float((shares * shares.log()).sum())) / values.shape[1]


def idle_feature_share(values: Tensor) -> float:
    """Share of the D features whose variance is at most a millionth of the mean variance: dead units, for a ReLU.

    1 where nothing varies. `values` has shape (n, D), float64.
    """
    centred = values - values.mean(0)
    if not _varies(centred, values):
        return 1.0
    variances = centred.square().mean(0)
    return float((variances <= IDLE * variances.mean()).double().mean())


def logit_spread(logits: Tensor) -> float:
    """Root of the mean square of the logits, each sample's mean over the classes taken off.

    A constant added to all logits of a sample, which no probability shows, changes nothing. `logits` has shape
    (n, classes), float64.
    """
    return float((logits - logits.mean(1, keepdim=True)).square().mean().sqrt())


def with_error(statistic: Callable[[Tensor], float], rows: Tensor, share: float) -> Spread:
    """A statistic of rows and its standard error, by the jackknife over groups, each group left out in turn.

    Parameters
    ----------
    statistic : callable
        From rows (n, ...) to a number.
    rows : Tensor
    share : float
        Of all available samples that the rows are; 1 leaves no error.
    """
    value = statistic(rows)
    if share >= 1:
        return Spread(value, 0.0)
    groups = min(JACKKNIFE_GROUPS, len(rows))
    if groups < 2:
        return Spread(value, math.inf)
    number = torch.arange(len(rows), device=rows.device) % groups
    left = torch.tensor([statistic(rows[number != group]) for group in range(groups)], dtype=torch.float64)
    variance = (groups - 1) / groups * float((left - left.mean()).square().sum())
    return Spread(value, math.sqrt((1 - share) * variance))


def measure_features(ledger: Ledger, objective: Objective, available: int) -> None:
    """Rank and idle share of the features, spread of the logits: one stage.

    Parameters
    ----------
    available : int
        Training samples there are: where all of them are read, the values have no error.
    """
    with ledger.stage("features", FEATURE_METRICS):
        found = last_features(objective)
        count = len(found.logits)
        for name, statistic, rows in (
            ("feature_rank_share", feature_rank_share, found.values),
            ("idle_feature_share", idle_feature_share, found.values),
            ("logit_spread", logit_spread, found.logits),
        ):
            spread = with_error(statistic, rows, count / available)
            ledger.put(name, spread.value, spread.standard_error, count)
