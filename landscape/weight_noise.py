"""How much loss a relative disturbance of the weights costs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.features import FEATURE_SAMPLES, Spread
from landscape.ledger import Ledger
from landscape.objective import Objective

RELATIVE_NOISE = 0.4
"""Standard deviation of the noise on a parameter tensor, in units of the root of its mean square."""

DRAWS = 8


def weight_noise_loss(objective: Objective, seed: int, draws: int = DRAWS) -> Spread:
    r"""Mean rise of the loss where every parameter tensor is disturbed in proportion to its own size.

    .. math:: \mathbb E_z\, L\bigl(W_l + \sigma\,\mathrm{rms}(W_l)\, z_l\bigr) - L(W),
              \qquad z_l \sim \mathcal N(0, I),\ \sigma = 0.4

    Rescaling a whole tensor whose scale the function does not show (a layer before BatchNorm, layers around ReLU)
    leaves it alone. On at most 512 samples at even distances; a third of a sample gradient for each of them and each
    draw, and once before. The standard error is that over draws, on these samples.

    Parameters
    ----------
    objective : Objective
        On samples.
    seed : int
        Of the draws.
    draws : int
        At least 2.
    """
    part = objective.spread(min(FEATURE_SAMPLES, objective.samples))
    network = part.network
    generator = torch.Generator().manual_seed(seed)
    kept = network.flat.clone()
    scales = torch.cat([w.square().mean().sqrt().expand(w.numel()) for w in network.split(kept)])
    before = part.loss_and_error().loss
    rises = []
    try:
        for _ in range(draws):
            noise = torch.randn(len(kept), generator=generator).to(kept)  # the same draws in both precisions
            network.load(kept + RELATIVE_NOISE * scales * noise)
            rises.append(part.loss_and_error().loss - before)
    finally:
        network.load(kept)
    found: Tensor = torch.tensor(rises, dtype=torch.float64)
    return Spread(float(found.mean()), float(found.std()) / math.sqrt(draws))


def measure_weight_noise(ledger: Ledger, objective: Objective, seed: int, chance_loss: float) -> None:
    """`weight_noise_loss` over the loss of the best constant answer (nats): one stage."""
    with ledger.stage("weight noise", ("weight_noise_loss_over_chance",)):
        if chance_loss <= 0:
            raise LandscapeError("all training labels are of one class", "two or more, so that chance costs a loss")
        found = weight_noise_loss(objective, seed)
        ledger.put(
            "weight_noise_loss_over_chance",
            found.value / chance_loss,
            found.standard_error / chance_loss,
            min(FEATURE_SAMPLES, objective.samples),
        )
