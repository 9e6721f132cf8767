"""Trace and top eigenvalues of the Hessian at equal accuracy: seconds of this package, PyHessian and curvlinops.

    python benchmarks/hessian.py --model mlp|cnn|resnet [--data DIR] [--seeds 20] [--seconds 420] [--json]

Networks are trained on real data (CIFAR-10 and MNIST from DIR, else scikit-learn's digits). Every contender gets the
same model, float32, the same batches and one thread. The peers get their best settings: those of the fewest products
with an rms relative error of at most 3 % (trace) or 1 % (eigenvalues); this package is asked for the trace in the same
way, and for eigenvalues runs as it comes. The rms is over all seeds, against exact values in float64. In each round
every contender runs once, in random order; a time is that of the whole call, from building the operator. Where a peer
is too slow for as many timed rounds as there are seeds, the errors of the rest come from replays: its own code on a
diagonal matrix with the network's eigenvalues or, for PyHessian's trace, from pooled probes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from hessian_models import BATCH_SIZE, TrainedNetwork, data_folder, one_thread, separate, specifications, trained
from hessian_peers import contenders, pyhessian_one_batch, pyhessian_product
from hessian_reference import Reference, reference
from hessian_rounds import Record, aggregated, figures, fill_up, shorten, timed_rounds
from hessian_table import table
from hessian_tuning import (
    QUANTITIES,
    REPLAYS,
    Tuned,
    probe_pool,
    tune_curvlinops_trace,
    tune_eigenvalues,
    tune_hutchinson,
    tune_our_trace,
)

TARGETS = {
    "trace": {
        "ratio_pyhessian": {"mlp": 100.0, "cnn": 50.0, "resnet": 30.0},
        "ratio_curvlinops": {"mlp": 10.0, "cnn": 10.0, "resnet": 10.0},
    },
    "top5": {
        "ratio_pyhessian": {"mlp": 3.0, "cnn": 3.0, "resnet": 3.0},
        "ratio_curvlinops": {"mlp": 1.3, "cnn": 1.3, "resnet": 1.3},
    },
    "top1": {},
}
"""How many times faster the package is meant to be, by quantity, peer and kind of network."""


@dataclass(frozen=True)
class Effort:
    """How much is spent: seeds of the errors, seconds (about), and seeds with which each setting is tried."""

    seeds: int
    seconds: float
    replays: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mlp", "cnn", "resnet", "tiny"), required=True)
    parser.add_argument("--data", help="folder with cifar10 and mnist10k; $MDTREE_DATA, else scikit-learn's digits")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=420, help="about how long; longer means more timed rounds")
    parser.add_argument("--replays", type=int, default=REPLAYS, help="seeds with which each setting is tried")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    one_thread()
    found = compared(given.model, given.data, Effort(given.seeds, given.seconds, given.replays))
    print(json.dumps(found, indent=1) if given.json else table(found))


def compared(model: str, data: str | None, effort: Effort) -> dict[str, Any]:
    """Every figure of one kind of network."""
    begun = time.perf_counter()
    specs = specifications(model, data_folder(data))
    prepared = []
    for spec in specs:
        network = trained(spec)
        prepared.append((network, reference(network)))
        _say(f"{spec.name}, {spec.state}: exact values after {time.perf_counter() - begun:.0f} s")
    networks = []
    for number, (network, exact) in enumerate(prepared):
        share = (begun + effort.seconds - time.perf_counter()) / (len(prepared) - number)
        networks.append(one_network(network, exact, replace(effort, seconds=max(share, 0.0))))
    totals = {quantity: aggregated([one[quantity] for one in networks]) for quantity in QUANTITIES}
    return {"model": model, "networks": networks, **totals, "targets": _against_targets(model, totals)}


def one_network(network: TrainedNetwork, exact: Reference, effort: Effort) -> dict[str, Any]:
    """Tune on one network, then time."""
    deadline = time.perf_counter() + effort.seconds
    pool = probe_pool(network)
    tuned = {
        "trace": _tuned_traces(network, exact, tune_hutchinson(pool, exact)),
        "top5": _tuned_eigenvalues("top5", exact, effort.replays),
        "top1": _tuned_eigenvalues("top1", exact, effort.replays),
    }
    over_batches, in_one_batch = _product_seconds(network)
    found: dict[str, Any] = {
        "name": network.spec.name,
        "state": network.spec.state,
        "data": network.spec.data.split("/")[-1],
        "parameters": network.parameter_count,
        "samples": len(network.targets),
        "batch_size": BATCH_SIZE,
        "loss": network.loss,
        "error_percent": network.error_percent,
        "exact": {
            "trace": exact.trace,
            "eigenvalues": exact.eigenvalues,
            "magnitudes": exact.magnitudes,
            "trace_check": exact.trace_check,
        },
    }
    _say(f"{network.spec.name}, {network.spec.state}: tuned")
    for left, quantity in zip((3, 2, 1), QUANTITIES, strict=True):
        share = max((deadline - time.perf_counter()) / left, 0.0)
        records = {name: Record(name, one, effort.seeds) for name, one in tuned[quantity].items()}
        if quantity == "trace":
            shorten(records["pyhessian"], over_batches, 0.6 * share)
        timed_rounds(network, quantity, records, effort.seeds, share)
        fill_up(records, quantity, exact, pool, effort.seeds)
        found[quantity] = figures(records, quantity, exact, in_one_batch / over_batches)
        _say(f"{network.spec.name}, {network.spec.state}: {quantity} timed")
    return found


def _tuned_eigenvalues(quantity: str, exact: Reference, replays: int) -> dict[str, Tuned]:
    return {name: tune_eigenvalues(name, quantity, exact, replays) for name in contenders()}


def _tuned_traces(network: TrainedNetwork, exact: Reference, hutchinson: Tuned) -> dict[str, Tuned]:
    found = {"ours": tune_our_trace(network, exact), "pyhessian": hutchinson}
    if "curvlinops" in contenders():
        found["curvlinops"] = tune_curvlinops_trace(network, exact, hutchinson.settings["probes"])
    return found


def _product_seconds(network: TrainedNetwork, repeats: int = 5) -> tuple[float, float]:
    """Median seconds of PyHessian's product over the batches and of that in its one-batch mode, taken in turn."""
    ways = (pyhessian_product(separate(network)), pyhessian_one_batch(separate(network)))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _against_targets(model: str, totals: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target beside what was measured; no verdict where the peer was not there."""
    lines: list[dict[str, Any]] = []
    for quantity, ratios in TARGETS.items():
        for ratio, least in ratios.items():
            measured, target = totals[quantity][ratio], least.get(model)
            met = None if measured is None or target is None else measured >= target
            lines.append({"quantity": quantity, "ratio": ratio, "target": target, "measured": measured, "met": met})
    ours, peer = totals["top1"]["ours_miss_rate"], totals["top1"]["pyhessian_miss_rate"]
    lines.append({"quantity": "top1", "ratio": "miss_rate", "target": peer, "measured": ours, "met": ours <= peer})
    return lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
