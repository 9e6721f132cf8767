"""Curves between small CIFAR-10 networks, by the library itself; kept on disk."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.alignment import align
from landscape.connectivity import BezierCurve, Pair, barrier, linear_barrier_percent
from landscape.connectivity import Path as Along
from landscape.errors import LandscapeError
from landscape.objective import Objective
from landscape.protocol import Execution, Protocol
from landscape.task import Samples, Task
from mdtree.data import load_data
from mdtree.datasets.data_set import DataSet
from mdtree.files import write_atomically
from mdtree.models import build_model
from mdtree.training import Recipe, train_loop

MODELS = ("cnn?width=8", "groupnorm_cnn?width=8", "resnet18?width=4")
RATES = (0.003, 0.03, 0.1, 0.3)
STEPS = {1000: 800, 4000: 1500}
EXECUTION = Execution(batch_size=512)
LONG = "2000 x 128, 0.1"
CHOSEN = "800 x 32, 0.1"
BUDGETS = {
    LONG: (2000, 128, 0.1, 0),
    "500 x 128, 0.1": (500, 128, 0.1, 0),
    CHOSEN: (800, 32, 0.1, 0),
    f"{CHOSEN}, other seed": (800, 32, 0.1, 1),
    f"{CHOSEN}, aligned": (800, 32, 0.1, 0),
    "800 x 32, 0.2": (800, 32, 0.2, 0),
    "400 x 64, 0.1": (400, 64, 0.1, 0),
    "400 x 32, 0.1": (400, 32, 0.1, 0),
    "200 x 64, 0.1": (200, 64, 0.1, 0),
}
"""Steps, batch size, learning rate, seed."""

PATH_SAMPLES = (256, 512, 1024, 2048)
BATCH_NORM_SAMPLES = (128, 256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """Two trainings of one recipe."""

    model: str
    train_size: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.model.split('?')[0]}_{self.train_size}_{self.rate:g}"


def cases() -> list[Case]:
    """All combinations, but of the costliest two rates only."""
    every = [Case(model, size, rate) for size in STEPS for model in MODELS for rate in RATES]
    return [c for c in every if not c.model.startswith("resnet") or c.train_size == 1000 or c.rate in (0.03, 0.3)]


def _data(case: Case, directory: str) -> DataSet:
    return load_data(f"cifar10:{directory}?size=16&train={case.train_size}&label_noise=0.1&seed=0")


def networks(case: Case, data: DataSet, folder: Path) -> list[nn.Module]:
    """Both trainings; done once, then read."""
    found = []
    for seed in (0, 1):
        file = folder / f"{case.name}_{seed}.pt"
        model = build_model(case.model, num_classes=10, input_shape=data.input_shape, seed=1000 + seed)
        if not file.exists():
            recipe = Recipe(case.rate, 64, STEPS[case.train_size])
            buffer = io.BytesIO()
            torch.save(train_loop(model, data.x_train, data.y_train, recipe, 1000 + seed).state, buffer)
            write_atomically(file, buffer.getvalue())
        model.load_state_dict(torch.load(file, weights_only=True))
        found.append(model.eval())
    return found


def protocol_of(name: str) -> Protocol:
    steps, batch, rate, seed = BUDGETS[name]
    return Protocol(curve_steps=steps, curve_batch_size=batch, curve_learning_rate=rate, seed=seed)


def measure(case: Case, folder: Path, directory: str) -> dict[str, Any]:
    """Measure one pair by every budget that is not on disk yet, and what fewer samples change."""
    file = folder / f"{case.name}.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {**asdict(case), "curves": {}}
    wanted = [name for name in BUDGETS if name not in result["curves"]]
    if not wanted and result["chosen"] == CHOSEN:
        return result
    data = _data(case, directory)
    models = networks(case, data, folder)
    start, end = (Objective(m, Samples(data.x_train, data.y_train), Task(10), execution=EXECUTION) for m in models)
    whole = len(data.x_train)
    straight = Pair(start, end, _on_all(protocol_of(CHOSEN), whole))
    result["line"] = _numbers(straight.linear_path())
    try:
        result["aligned_line"] = _numbers(straight.aligned_linear_path())
        aligned = start.of(align(*models))
    except LandscapeError:  # groups of channels that GroupNorm normalises together
        result["aligned_line"], aligned = None, None
    for name in [*wanted, CHOSEN]:
        other = aligned if name.endswith("aligned") else end
        if other is None:
            result["curves"][name] = None
            continue
        pair = Pair(start, other, _on_all(protocol_of(name), whole))
        began = time.perf_counter()
        curve = pair.fit_curve()
        seconds = time.perf_counter() - began
        result["curves"][name] = {**_numbers(pair.curve_path(curve)), "seconds": seconds}
    result.update(_fewer_samples(start, end, curve), chosen=CHOSEN)
    write_atomically(file, json.dumps(result).encode())
    return result


def _on_all(protocol: Protocol, samples: int) -> Protocol:
    """The protocol with every point of a path on all the samples."""
    return replace(protocol, path_samples=samples, batch_norm_samples=samples)


def _fewer_samples(start: Objective, end: Objective, curve: BezierCurve) -> dict[str, Any]:
    """The path of one curve from fewer samples at each point, and with fewer samples for BatchNorm."""
    whole, protocol = start.samples, protocol_of(CHOSEN)

    def along(points: int, statistics: int) -> dict[str, float | list[float]]:
        asked = replace(protocol, path_samples=points, batch_norm_samples=statistics)
        return _numbers(Pair(start, end, asked).curve_path(curve))

    points = {str(n): along(n, whole) for n in PATH_SAMPLES if n < whole}
    counts = [n for n in BATCH_NORM_SAMPLES if n < whole] if start.network.batch_norms else []
    refresh = {str(n): along(whole, n) for n in counts}
    return {"path_samples": points, "refresh": refresh}


def _numbers(path: Along) -> dict[str, float | list[float]]:
    height = barrier(path)
    return {
        "peak": height.peak_percent,
        "barrier": height.barrier_percent,
        "barrier_loss": height.barrier_loss,
        "line_barrier": linear_barrier_percent(path),
        "error_percent": list(path.error_percent),
    }


def run(folder: Path, directory: str, quick: bool) -> list[dict[str, Any]]:
    """Every case, or two; cases whose training diverged are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    chosen = [c for c in cases() if not quick or c.name in ("cnn_1000_0.03", "groupnorm_cnn_1000_0.03")]
    for number, case in enumerate(chosen):
        try:
            found.append(measure(case, folder, directory))
        except LandscapeError as error:
            print(f"{case.name}: left out ({error.got})", flush=True)
            continue
        print(f"CIFAR-10: {number + 1} of {len(chosen)} pairs", flush=True)
    return [f for f in found if math.isfinite(f["line"]["barrier"])]
