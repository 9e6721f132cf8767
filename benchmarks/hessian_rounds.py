"""Timed rounds of the contenders on one network and quantity, and the figures that follow."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hessian_models import TrainedNetwork, separate
from hessian_peers import RUNS, Outcome
from hessian_reference import Floats, Reference
from hessian_tuning import MISS, Tuned, errors, replay, rms, truth

LEAST_ROUNDS = 5
"""Timed rounds of a peer, however long they take."""

LEAST_PROBES = 8
"""Probes of a shortened call of PyHessian's trace."""

POOLED = 5
"""Draws from the pooled probes a seed: they cost nothing."""

RESAMPLES = 2000


@dataclass
class Record:
    """The runs of one contender.

    Parameters
    ----------
    name : str
    tuned : Tuned
    rounds : int
        How many it is to run.
    scale : float
        What the measured seconds are multiplied by: above 1 where a call of PyHessian's trace is too long, and one
        with fewer probes is timed instead.
    seconds : list of float
    outcomes, replays : lists of Outcome
        Of the timed runs, and of the stand-ins that fill them up to the asked number.
    """

    name: str
    tuned: Tuned
    rounds: int
    scale: float = 1.0
    seconds: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    replays: list[Outcome] = field(default_factory=list)

    @property
    def all_outcomes(self) -> list[Outcome]:
        """Those from which the errors follow; shortened runs are left out."""
        return self.replays if self.scale > 1 else [*self.outcomes, *self.replays]


def timed_rounds(
    network: TrainedNetwork, quantity: str, records: Mapping[str, Record], seeds: int, seconds: float
) -> None:
    """Every contender once a round, in random order; peers drop out when their share of `seconds` is spent.

    The first round tells how long a call takes. The package runs in all `seeds` rounds.
    """
    models = {name: separate(network) for name in records}
    runs = RUNS["trace" if quantity == "trace" else "top"]
    order = np.random.default_rng(0)
    for seed in range(seeds):
        taking_part = [name for name in records if seed < records[name].rounds]
        for name in order.permutation(taking_part):
            record = records[name]
            settings = dict(record.tuned.settings)
            if record.scale > 1:
                settings["probes"] = round(settings["probes"] / record.scale)
            gc.collect()
            start = time.perf_counter()
            outcome = runs[name](models[name], settings, seed)
            record.seconds.append((time.perf_counter() - start) * record.scale)
            record.outcomes.append(outcome)
            models[name].model.zero_grad(set_to_none=True)
        if seed == 0:
            _plan(records, seeds, seconds)


def shorten(record: Record, product_seconds: float, seconds: float) -> None:
    """Time PyHessian's trace by calls with fewer probes where `LEAST_ROUNDS` whole ones do not fit into `seconds`."""
    probes = record.tuned.settings["probes"]
    fitting = max(LEAST_PROBES, int(seconds / LEAST_ROUNDS / product_seconds))
    if fitting < probes:
        record.scale = probes / fitting


def _plan(records: Mapping[str, Record], seeds: int, seconds: float) -> None:
    """Rounds of each peer, from the time of its first call; what the package needs is taken off first."""
    peers = [record for name, record in records.items() if name != "ours"]
    left = seconds - seeds * records["ours"].seconds[0]
    for record in peers:
        fitting = int(left / len(peers) / (record.seconds[0] / record.scale))
        record.rounds = max(min(LEAST_ROUNDS, seeds), min(seeds, fitting))


def fill_up(records: Mapping[str, Record], quantity: str, exact: Reference, pool: Floats, seeds: int) -> None:
    """Stand-ins for the runs a peer has not made: replays on the spectrum or, for PyHessian's trace, pooled probes."""
    for name, record in records.items():
        done = 0 if record.scale > 1 else len(record.outcomes)
        pooled = name == "pyhessian" and quantity == "trace"
        for seed in range(done, POOLED * seeds if pooled and done < seeds else seeds):
            if pooled:
                probes = record.tuned.settings["probes"]
                drawn = np.random.default_rng(seed).choice(pool, probes)
                record.replays.append(Outcome((float(drawn.mean()),), probes))
            else:
                record.replays.append(replay(name, quantity, record.tuned.settings, exact, seed))


def figures(records: Mapping[str, Record], quantity: str, exact: Reference, one_batch: float) -> dict[str, Any]:
    """Seconds, ratios, errors, misses, products and settings, by contender.

    Parameters
    ----------
    one_batch : float
        Time of a product in PyHessian's one-batch mode over that of its product over batches.
    """
    values = truth(quantity, exact)
    found: dict[str, Any] = {}
    for name in ("ours", "pyhessian", "curvlinops"):
        found.update(dict.fromkeys((f"{name}_seconds", f"{name}_rms_error", f"{name}_miss_rate", f"{name}_products")))
        if name != "ours":
            found.update(dict.fromkeys((f"ratio_{name}", f"ratio_{name}_interval")))
    for name, record in records.items():
        misses = [bool(np.abs(errors(one, values)).max() > MISS[quantity]) for one in record.all_outcomes]
        found[f"{name}_seconds"] = statistics.median(record.seconds)
        found[f"{name}_rms_error"] = rms([errors(one, values) for one in record.all_outcomes])
        found[f"{name}_miss_rate"] = statistics.fmean(misses)
        found[f"{name}_products"] = (
            record.tuned.products if record.scale > 1 else statistics.fmean(one.products for one in record.outcomes)
        )
        found[f"{name}_settings"] = dict(record.tuned.settings)
        found[f"{name}_timed_runs"] = len(record.seconds)
        found[f"{name}_replayed_runs"] = len(record.replays)
        if name != "ours":
            ratios = [peer / ours for peer, ours in zip(record.seconds, records["ours"].seconds, strict=False)]
            found[f"ratio_{name}"] = statistics.median(ratios)
            found[f"ratio_{name}_interval"] = interval(ratios)
    found["ours_gradients"] = statistics.fmean(one.gradients for one in records["ours"].outcomes)
    found["pyhessian_timed_probes_share"] = 1 / records["pyhessian"].scale
    found["pyhessian_misses_by_sign"] = sign_misses(records["pyhessian"], quantity, exact)
    found["ratio_pyhessian_one_batch"] = found["ratio_pyhessian"] * one_batch
    return found


def sign_misses(record: Record, quantity: str, exact: Reference) -> int:
    """Runs that miss the largest eigenvalues but hit those of largest magnitude: a negative one stands among them."""
    if quantity == "trace":
        return 0
    values = truth(quantity, exact)
    magnitudes = tuple(sorted(exact.magnitudes[: len(values)], reverse=True))
    return sum(
        bool(np.abs(errors(one, values)).max() > MISS[quantity] >= np.abs(errors(one, magnitudes)).max())
        for one in record.all_outcomes
    )


def interval(ratios: list[float]) -> tuple[float, float]:
    """Bootstrap interval (95 %) of the median of paired ratios."""
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def aggregated(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the networks: geometric mean of seconds, ratios and costs, root mean square of errors, mean of misses."""
    result: dict[str, Any] = {}
    for key in parts[0]:
        values = [part[key] for part in parts]
        if any(value is None for value in values):
            result[key] = None
        elif key.endswith("_rms_error"):
            result[key] = math.sqrt(statistics.fmean(value**2 for value in values))
        elif key.endswith("_miss_rate"):
            result[key] = statistics.fmean(values)
        elif key.endswith(("_seconds", "_products", "_gradients", "_one_batch")) or key in RATIOS:
            result[key] = statistics.geometric_mean(values) if min(values) > 0 else statistics.fmean(values)
    return result


RATIOS = ("ratio_pyhessian", "ratio_curvlinops")
