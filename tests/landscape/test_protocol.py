"""The protocol: validation, the way to JSON and back, the digest; and that it needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from landscape import ALONE_METRICS, METRICS, PAIR_METRICS, TEST_METRICS, Execution, LandscapeError, Protocol


def test_the_metrics_are_those_of_the_contract() -> None:
    assert METRICS == (
        "train_error_percent",
        "train_loss",
        "test_error_percent",
        "test_loss",
        "train_error_over_chance",
        "hessian_top_eigenvalue",
        "hessian_top_eigenvalue_magnitude",
        "hessian_smallest_eigenvalue",
        "hessian_trace",
        "hessian_top_eigenvalue_per_parameter",
        "hessian_trace_per_parameter",
        "gradient_norm_squared_per_parameter",
        "log_weight_growth",
        "train_loss_over_chance",
        "feature_rank_share",
        "idle_feature_share",
        "logit_spread",
        "weight_noise_loss_over_chance",
        "parameter_count",
        "connectivity_peak_percent",
        "connectivity_barrier_percent",
        "connectivity_barrier_over_chance",
        "connectivity_barrier_loss",
        "linear_barrier_percent",
        "cka",
        "cka_mixup",
        "disagreement_percent",
        "parameter_distance",
    )
    assert sorted(METRICS) == sorted(ALONE_METRICS + TEST_METRICS + PAIR_METRICS)


def test_protocol_survives_json() -> None:
    protocol = Protocol(samples=100, trace="exact", mixup_alpha=2)
    back = Protocol.from_dict(json.loads(json.dumps(protocol.to_dict())))

    assert back == protocol
    assert back.digest() == protocol.digest()
    assert Protocol.from_dict({"samples": 7}) == Protocol(samples=7)


def test_digest_tells_protocols_apart_and_nothing_else() -> None:
    digest = Protocol().digest()

    assert len(digest) == 12
    assert int(digest, 16) >= 0
    assert all(replace(Protocol(), **change).digest() != digest for change in ({"seed": 1}, {"curve_steps": 501}))
    assert Protocol(precision=0.01).digest() == digest  # how exactly, not what
    assert Protocol(mixup_alpha=16).digest() == Protocol(mixup_alpha=16.0).digest() == digest


def test_the_digest_of_a_saved_protocol_is_checked() -> None:
    saved = {**Protocol().to_dict(), "digest": Protocol().digest()}
    assert Protocol.from_dict(saved) == Protocol()
    with pytest.raises(LandscapeError, match="digest"):
        Protocol.from_dict({**saved, "seed": 1})


def test_unknown_keys_are_named() -> None:
    with pytest.raises(LandscapeError, match="unknown keys: probes, sample; expected only backend"):
        Protocol.from_dict({"sample": 3, "probes": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples is 0; expected an integer of at least 1"),
        ({"samples": 10.0}, "samples is 10.0; expected an integer"),
        ({"seed": True}, "seed is True"),
        ({"seed": -1}, "seed is -1"),
        ({"curve_batch_size": 1}, "at least 2"),
        ({"curve_points": 8}, "t = 1/4, 1/2, 3/4"),
        ({"linear_points": 2}, "at least 3"),
        ({"eigenvalue_tolerance": 0}, "a positive finite number"),
        ({"precision": float("nan")}, "a positive finite number"),
        ({"curve_learning_rate": float("inf")}, "a positive finite number"),
        ({"mixup_alpha": "16"}, "a positive finite number"),
        ({"backend": "jax"}, "backend is 'jax'; expected one of native, pyhessian"),
        ({"trace": "fast"}, "one of auto, exact, stochastic"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(LandscapeError, match=message):
        Protocol(**values)


@pytest.mark.parametrize("values", [{"dtype": "bfloat16"}, {"batch_size": 0}, {"threads": -1}])
def test_executions_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(LandscapeError):
        Execution(**values)


def test_protocol_and_metric_names_need_no_torch() -> None:
    code = "import sys, landscape.protocol, landscape.measurement, landscape; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_packages_names_are_functions_whichever_way_they_are_imported() -> None:
    code = (
        "import landscape.measure\n"
        "from landscape.measure import measure\n"
        "import landscape\n"
        "assert landscape.measure is measure and callable(landscape.trace)\n"
        "assert all(getattr(landscape, name) is not None for name in landscape.__all__)\n"
        "assert not hasattr(landscape, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
