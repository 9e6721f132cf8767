"""How much memory a measurement takes, and that it goes on with smaller batches where there is too little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_networks import CLASSES, build, data_for
from torch import Tensor, nn

from landscape import METRICS, ClassificationData, Execution, Measurement, Protocol, measure

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
SAMPLES = 64
QUICK = Protocol(curve_steps=10, curve_batch_size=8)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is read from Linux's /proc")
def test_a_measurement_takes_little_more_memory_than_a_training_step() -> None:
    """A process that measures is at its peak at most twice as large as one that trains; what the work itself adds has
    a fixed part, which a network as small as this one shows. The step's own 33 to 45 MiB vary from process to process:
    the allocator's doing."""
    command = [sys.executable, str(BENCHMARK), "--network", "cnn, small", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["cnn, small"]

    assert found["step"]["added"] > 20, "enough for a comparison"
    for kind in ("alone", "pair"):
        assert found[kind]["added"] > 10, kind
        assert found[kind]["peak_ratio"] < 1.5, kind
        assert found[kind]["added_ratio"] < 4, kind


class Cramped(nn.Module):
    """A network on a device with room for a few samples, of fewer where a gradient is asked for."""

    def __init__(self, network: nn.Module, most: int, most_with_gradient: int) -> None:
        super().__init__()
        self.network = network
        self.most = most
        self.most_with_gradient = most_with_gradient

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > (self.most_with_gradient if torch.is_grad_enabled() else self.most):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.network(x)


def measured(
    batch_size: int, most: int, most_with_gradient: int, protocol: Protocol = QUICK, name: str = "cnn"
) -> Measurement:
    models = [Cramped(build(name, seed), most, most_with_gradient) for seed in range(2)]
    data = data_for(name, SAMPLES)
    return measure(
        models,
        ClassificationData(data, data.at(torch.arange(40)), CLASSES),
        protocol,
        Execution(dtype="float64", batch_size=batch_size),
        initial_norm_squared=1.0,
    )


def check_the_same(found: Measurement, expected: Measurement) -> None:
    assert found.not_measured == expected.not_measured == ()
    for name in METRICS:
        if name != "hessian_smallest_eigenvalue":  # not iterated to tolerance
            assert found.metrics[name].value == pytest.approx(expected.metrics[name].value, rel=1e-6, abs=1e-9), name


def halvings(found: Measurement) -> list[str]:
    return [flag for flag in found.flags if flag.startswith("batch_size_halved_to_")]


@pytest.mark.parametrize(
    ("most", "most_with_gradient"),
    [(10, 10), (SAMPLES, 10), (10, SAMPLES)],
    ids=["everywhere", "gradients only", "evaluation only"],
)
def test_too_large_a_batch_is_halved_until_it_fits(most: int, most_with_gradient: int) -> None:
    """64, 32 and 16 samples are too many, 8 are not."""
    expected = measured(8, SAMPLES, SAMPLES)
    found = measured(64, most, most_with_gradient)

    assert halvings(expected) == []
    assert halvings(found)[-1] == "batch_size_halved_to_8"
    check_the_same(found, expected)
    assert found.execution.batch_size == 8, "the record tells what it was measured with"


def test_batches_of_the_curve_are_cut_as_well() -> None:
    """Its mini-batch belongs to the protocol: cut in parts it is the same step."""
    protocol = Protocol(curve_steps=10, curve_batch_size=32)
    found = measured(64, 10, 10, protocol)

    assert halvings(found)[-1] == "batch_size_halved_to_8"
    check_the_same(found, measured(8, SAMPLES, SAMPLES, protocol))


def test_a_batch_that_fits_raises_no_flag() -> None:
    assert halvings(measured(10, 10, 10)) == []


def test_a_single_sample_that_does_not_fit_is_the_end() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        measured(64, 0, 0)


def test_an_error_that_is_not_of_memory_halves_nothing() -> None:
    class Particular(Cramped):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > self.most:
                raise RuntimeError("expected at most 10 samples")
            return self.network(x)

    data = data_for("cnn", SAMPLES)
    with pytest.raises(ValueError, match="expected at most 10 samples"):
        measure([Particular(build("cnn"), 10, 10)], ClassificationData(data, None, CLASSES), QUICK)
