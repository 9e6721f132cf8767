"""How the cost of trace and top eigenvalues grows with samples, parameters and classes.

    python benchmarks/hessian_growth.py [--data DIR] [--json]
    python benchmarks/hessian_growth.py --gpu [--data DIR] [--json]

One thread, float32, default settings, each point in a process of its own: its peak memory is the largest resident set
less that before the measurement (on Linux; elsewhere that of the whole process). MLPs, trained for 200 steps on
CIFAR-10 (16 px) where DIR or $MDTREE_DATA holds it, else and along the classes on Gaussian clusters. At the small ends
the peers run, too: PyHessian with as many probes as the spread of a probe demands for 3 % and its own stop for the
eigenvalues, curvlinops with XTrace (24 products) and ARPACK. `--gpu` measures a full-width ResNet-18 on 50,000 images
instead: seconds, and the arithmetic per second beside that of the card's own matrix product.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from hessian_models import (
    USUAL,
    NetworkSpec,
    TrainedNetwork,
    data_folder,
    one_thread,
    plain_loss,
    separate,
    trained_on,
)
from hessian_peers import RUNS, contenders
from hessian_table import machine
from hessian_tuning import TRACE_ERROR, probe_pool
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from landscape import Execution, Objective, Samples, top_eigenvalues, trace
from mdtree.data import load_data
from mdtree.training import Recipe

POINT_SECONDS = 300
"""Longest a point may take; one that takes longer is reported as such."""

SIDE = 16
"""Of the images, in pixels."""

WAYS: Mapping[str, Callable[[Objective], Any]] = {
    "trace": trace,
    "top1": lambda objective: top_eigenvalues(objective, 1),
    "top5": lambda objective: top_eigenvalues(objective, 5),
}
"""What is measured, by default settings."""


@dataclass(frozen=True)
class Point:
    """One network to measure.

    Parameters
    ----------
    axis : str
        What grows: ``samples``, ``parameters`` or ``classes``.
    samples, width, classes : int
        Of the MLP with two hidden layers.
    peers : bool
        Whether the peers run as well.
    """

    axis: str
    samples: int
    width: int
    classes: int
    peers: bool = False


POINTS = (
    Point("samples", 500, 256, 10, peers=True),
    Point("samples", 5_000, 256, 10),
    Point("samples", 50_000, 256, 10),
    Point("parameters", 500, 13, 10, peers=True),
    Point("parameters", 500, 115, 10, peers=True),
    Point("parameters", 500, 690, 10),
    Point("parameters", 500, 2_800, 10),
    Point("classes", 2_000, 128, 10, peers=True),
    Point("classes", 2_000, 128, 100),
    Point("classes", 2_000, 128, 1_000),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with cifar10; $MDTREE_DATA, else Gaussian clusters")
    parser.add_argument("--gpu", action="store_true", help="a full-width ResNet-18 on 50,000 images, on a GPU")
    parser.add_argument("--device", default="cuda", help="with --gpu: where (a small case on the cpu tries the code)")
    parser.add_argument("--samples", type=int, default=50_000, help="with --gpu")
    parser.add_argument("--width", type=int, default=64, help="with --gpu")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = data_folder(given.data)
    if given.point:
        one_thread()
        print(json.dumps(measured(Point(**json.loads(given.point)), folder)))
    elif given.gpu:
        found = on_device(given.device, given.width, given.samples, folder)
        print(json.dumps(found, indent=1) if given.json else "\n".join(f"- {key}: {found[key]}" for key in found))
    else:
        rows = [_apart(point, folder) for point in POINTS]
        print(json.dumps(rows, indent=1) if given.json else table(rows))


def _apart(point: Point, folder: Path | None) -> dict[str, Any]:
    """A point measured in a process of its own."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    command += ["--data", str(folder)] if folder else []
    print(f"{point.axis}: {point.samples} samples, width {point.width}, {point.classes} classes", file=sys.stderr)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=POINT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {**asdict(point), "failed": f"more than {POINT_SECONDS} s"}
    if done.returncode:
        return {**asdict(point), "failed": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout))


def network_at(point: Point, folder: Path | None) -> TrainedNetwork:
    """The trained MLP of a point."""
    if folder is not None and point.axis != "classes":
        data = load_data(f"cifar10:{folder / 'cifar10'}?train={point.samples}&size={SIDE}")
        inputs, targets = data.x_train, data.y_train
    else:
        inputs, targets = clusters(point.samples, point.classes, 3 * SIDE * SIDE if point.axis != "classes" else 64)
    architecture = f"mlp?width={point.width}&depth=2"
    spec = NetworkSpec("MLP", "", architecture, USUAL, Recipe(0.02, 32, 200))
    return trained_on(spec, inputs, targets, point.classes)


def clusters(samples: int, classes: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Gaussian clusters of unit variance around centres of unit variance, one a class."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(samples) % classes
    centres = torch.randn(classes, inputs, generator=generator)
    return centres[targets] + torch.randn(samples, inputs, generator=generator), targets


def measured(point: Point, folder: Path | None) -> dict[str, Any]:
    """Seconds, gradients over the data and peak memory at one point."""
    network = network_at(point, folder)
    before = reset_peak()
    found: dict[str, Any] = {**asdict(point), "parameters": network.parameter_count, "loss": network.loss}
    for name, way in WAYS.items():
        start = time.perf_counter()
        objective = Objective(network.model, network.samples, network.task)
        result = way(objective)
        found[f"{name}_seconds"] = time.perf_counter() - start
        found[f"{name}_gradients"] = objective.sample_gradients / objective.samples
        found[f"{name}_gib"] = peak_gib() - before
        if name == "trace":
            found["trace_relative_error"] = result.standard_error / abs(result.value)
        del objective, result
    if point.peers:
        found["peer_seconds"] = peers_at(network)
    return found


def reset_peak() -> float:
    """GiB resident now; where the system allows it, the peak of :func:`peak_gib` starts anew from here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return 0.0


def peak_gib() -> float:
    """Largest resident memory since then, or of the whole process, in GiB."""
    try:
        return _status("VmHWM")
    except OSError:
        scale = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


def peers_at(network: TrainedNetwork) -> dict[str, float]:
    """Seconds of the peers' calls."""
    pool = probe_pool(network)
    probes = math.ceil((pool.std() / abs(pool.mean()) / TRACE_ERROR) ** 2)
    settings: dict[str, dict[str, dict[str, Any]]] = {
        "trace": {
            "pyhessian": {"probes": probes},
            "curvlinops": {"estimator": "xtrace", "products": 24, "columns": 4},
        },
        "top1": {"pyhessian": {"k": 1, "max_iter": 100, "tol": 1e-3}, "curvlinops": {"k": 1, "ncv": 6, "tol": 0.03}},
        "top5": {"pyhessian": {"k": 5, "max_iter": 100, "tol": 1e-3}, "curvlinops": {"k": 5, "ncv": 12, "tol": 0.03}},
    }
    found = {"pyhessian_probes": float(probes)}
    for quantity, of_peers in settings.items():
        for name, chosen in of_peers.items():
            if name in contenders():
                start = time.perf_counter()
                RUNS["trace" if quantity == "trace" else "top"][name](separate(network), chosen, 0)
                found[f"{name}_{quantity}_seconds"] = time.perf_counter() - start
    return found


def on_device(device: str, width: int, samples: int, folder: Path | None) -> dict[str, Any]:
    """A ResNet-18 on one device: seconds of each quantity and the share of the peak of a float32 matrix product."""
    if folder is not None:
        data = load_data(f"cifar10:{folder / 'cifar10'}?train={samples}")
        inputs, targets = data.x_train, data.y_train
    else:
        flat, targets = clusters(samples, 10, 3 * 32 * 32)
        inputs = flat.view(-1, 3, 32, 32)
    spec = NetworkSpec("ResNet-18", "", f"resnet18?width={width}", USUAL, Recipe(0.05, 64, 5))
    network = trained_on(spec, inputs[:2000], targets[:2000], 10)
    execution = Execution(device=device, batch_size=1000)
    peak = peak_flops(device)
    per_sample = gradient_flops(network)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "parameters": network.parameter_count,
        "samples": samples,
        "peak_tflops": peak / 1e12,
    }
    for name, way in WAYS.items():
        synchronise(device)
        start = time.perf_counter()
        objective = Objective(network.model, Samples(inputs, targets), network.task, execution=execution)
        way(objective)
        synchronise(device)
        seconds = time.perf_counter() - start
        found[f"{name}_seconds"] = seconds
        found[f"{name}_share_of_peak"] = objective.sample_gradients * per_sample / seconds / peak
    if device.startswith("cuda"):
        found["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return found


def gradient_flops(network: TrainedNetwork) -> float:
    """Floating-point operations of one sample's forward and backward pass."""
    twin, count = separate(network), min(8, len(network.targets))
    with FlopCounterMode(display=False) as counter:
        plain_loss(twin.model, twin.inputs[:count], twin.targets[:count], count).backward()
    return counter.get_total_flops() / count


def peak_flops(device: str, size: int = 4096) -> float:
    """Operations per second of a full-precision float32 matrix product."""
    size = size if device.startswith("cuda") else size // 4
    matrix = torch.randn(size, size, device=device)
    best = math.inf
    for _ in range(5):
        synchronise(device)
        start = time.perf_counter()
        matrix @ matrix
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    head = ("samples", "parameters", "classes", "trace", "top 1", "top 5", "peak memory", "PyHessian", "curvlinops")
    lines = ["# Growth of the Hessian's cost", "", machine("python benchmarks/hessian_growth.py"), ""]
    lines += ["Seconds (gradients over the data). Peers: trace, top 1, top 5, seconds.", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['samples']:,} | width {row['width']} | {row['classes']} | {row['failed']} ||||||")
            continue
        ours = [f"{row[f'{name}_seconds']:.3g} ({row[f'{name}_gradients']:.1f})" for name in WAYS]
        peers = []
        for name in ("pyhessian", "curvlinops"):
            seconds = [
                row.get("peer_seconds", {}).get(f"{name}_{quantity}_seconds") for quantity in ("trace", "top1", "top5")
            ]
            peers.append("" if None in seconds else ", ".join(f"{value:.3g}" for value in seconds))
        lines.append(
            f"| {row['samples']:,} | {row['parameters']:,} | {row['classes']:,} | {' | '.join(ours)} "
            f"| {row['top5_gib']:.2f} GiB | {' | '.join(peers)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
