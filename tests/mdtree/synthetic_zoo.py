"""A small complete zoo made of a formula, for tests of the deciding half: no network is trained for it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from mdtree.room import label_zoo
from mdtree.zoo import GAIN_COLUMN, METRICS, SETTINGS

WIDTHS = (4, 8, 16, 32)
SIZES = (50, 100, 400, 1600)
RATES = (0.001, 0.01, 0.1, 1.0)
SEEDS = 4


def synthetic_zoo(seed: int = 0) -> pd.DataFrame:
    """A labelled zoo: metrics follow the causes with noise, test error is the sum of what each cause costs."""
    generator = np.random.default_rng(seed)
    rows = []
    cells = itertools.product(WIDTHS, SIZES, RATES)
    held = set(np.random.default_rng(1).permutation(len(WIDTHS) * len(SIZES) * len(RATES))[:16].tolist())
    for number, (w, n, r) in enumerate(cells):
        cold, hot = {0.001: 30.0, 0.01: 4.0}.get(r, 0.0), {1.0: 40.0}.get(r, 0.0)
        small, little = {4: 25.0, 8: 6.0}.get(w, 0.0), {50: 15.0, 100: 8.0}.get(n, 0.0)
        for s in range(SEEDS):
            noise = generator.lognormal(0.0, 0.1, size=6)
            row: dict[str, object] = dict.fromkeys((*SETTINGS, *METRICS), 1.0)
            row.update(
                family="synthetic", data_set="formula", architecture="none", cell=f"w{w}-n{n}-r{r}", seed=s,
                sibling_seed=(s + 1) % SEEDS, width=w, parameter_count=w * w, train_size=n, temperature=r,
                temperature_axis="learning_rate", learning_rate=r, batch_size=16, weight_decay=0.0, label_noise=0.0,
                optimizer="sgd", schedule="constant", epochs=10.0, protocol="formula",
                split="held_out" if number in held else "fit", diverged=0,
            )  # fmt: skip
            row["train_error_percent"] = (cold + hot + small) * noise[0]
            row["train_error_over_chance"] = row["train_error_percent"] / 90.0
            row["gradient_norm_squared_per_parameter"] = (0.01 + cold) * noise[1]
            row["log_weight_growth"] = np.log(1 + hot) + 0.1 * noise[2]
            row["hessian_trace"] = (1.0 + small) * noise[3]
            row["disagreement_percent"] = (1.0 + little) * noise[4]
            row["connectivity_barrier_over_chance"] = 0.01 * hot * noise[5]
            error = 4.0 + cold + hot + small + little
            row["test_error_percent"] = error + 0.3 * generator.standard_normal()
            row[GAIN_COLUMN] = error + 0.3 * generator.standard_normal()
            rows.append(row)
    return label_zoo(pd.DataFrame(rows))
