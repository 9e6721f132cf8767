"""The Hessian benchmark on a tiny network: its exact reference, its stand-in spectrum, the shape of its JSON."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from dense_reference import dense_hessian

import landscape

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CONTENDERS = ("ours", "pyhessian", "curvlinops")


@pytest.fixture(scope="module")
def modules() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import hessian
        import hessian_growth
        import hessian_models
        import hessian_peers
        import hessian_reference
        import hessian_rounds
        import hessian_tuning

        yield {
            "command": hessian,
            "growth": hessian_growth,
            "models": hessian_models,
            "peers": hessian_peers,
            "reference": hessian_reference,
            "rounds": hessian_rounds,
            "tuning": hessian_tuning,
        }


@pytest.fixture(scope="module")
def tiny(modules: dict[str, ModuleType]) -> Any:
    """The tiny network, and the eigenvalues of its dense Hessian, descending."""
    models = modules["models"]
    network = models.trained(models.specifications("tiny", None)[0])
    dense = dense_hessian(network.model, network.inputs, network.targets)
    return network, np.linalg.eigvalsh(dense.numpy())[::-1]


@pytest.fixture(scope="module")
def exact(modules: dict[str, ModuleType], tiny: Any) -> Any:
    return modules["reference"].reference(tiny[0])


def test_the_reference_is_the_dense_hessian_s(tiny: Any, exact: Any) -> None:
    _, eigenvalues = tiny
    assert exact.trace == pytest.approx(eigenvalues.sum(), rel=1e-10)
    assert exact.eigenvalues == pytest.approx(tuple(eigenvalues[:5]), rel=1e-9)
    assert abs(exact.trace_check) < 1e-10
    by_magnitude = eigenvalues[np.argsort(-np.abs(eigenvalues))][:5]
    assert exact.magnitudes == pytest.approx(tuple(by_magnitude), rel=1e-5)


def test_a_negative_eigenvalue_takes_its_place_by_magnitude(modules: dict[str, ModuleType]) -> None:
    """-9 has not converged yet and is left out."""
    ritz, bounds = np.array([-9.0, -3.0, -1.0, 2.0, 4.0]), np.array([0.5, 0.0, 0.0, 0.0, 0.0])
    assert modules["reference"].by_magnitude(np.array([4.0, 2.0]), ritz, bounds) == (4.0, -3.0)


def test_the_slow_trace_by_classes_equals_that_by_columns(
    modules: dict[str, ModuleType], tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = modules["reference"]
    by_columns = reference.slow_trace(tiny[0], 8)
    monkeypatch.setattr(reference, "COLUMNS", 0)
    assert reference.slow_trace(tiny[0], 8) == pytest.approx(by_columns, rel=1e-10)


def test_the_spectrum_stands_in_for_the_hessian(exact: Any, tiny: Any) -> None:
    _, eigenvalues = tiny
    assert len(exact.spectrum) == len(eigenvalues)
    assert np.sort(exact.spectrum)[::-1][:6] == pytest.approx(eigenvalues[:6], rel=1e-4)
    assert np.linalg.norm(exact.spectrum) == pytest.approx(np.linalg.norm(eigenvalues), rel=0.02)


def test_a_thinned_spectrum_keeps_its_ends_and_its_frobenius_norm(modules: dict[str, ModuleType]) -> None:
    """A full spectrum of 20,000 values, of which Lanczos has found the largest exactly."""
    ritz, weights = np.array([-0.01, 0.0, 0.01, 5.0]), np.array([0.3, 0.39995, 0.3, 5e-5])
    bounds = np.array([1.0, 1.0, 1.0, 1e-9])
    thinned = modules["reference"].read_spectrum(ritz, bounds, weights, 20_000)
    assert len(thinned) == 3000
    assert thinned[-1] == 5.0
    middle = np.interp((np.arange(19_999) + 0.5) / 19_999, np.array([0.15, 0.499975, 0.84995]), ritz[:3])
    full = np.sort([*middle, 5.0])
    bulk, ends = full[1000:-1000], [*full[:1000], *full[-1000:]]
    kept = np.square(bulk - bulk.mean()).sum() + np.square(ends).sum()
    assert np.square(thinned).sum() == pytest.approx(kept, rel=1e-4)


def test_pyhessian_on_the_eigenvalues_does_what_it_does_on_the_network(
    modules: dict[str, ModuleType], tiny: Any
) -> None:
    """With the dense Hessian's eigenvectors as coordinates the two runs are one, number for number."""
    peers = modules["peers"]
    network, eigenvalues = tiny
    settings = {"k": 2, "max_iter": 100, "tol": 1e-5}
    on_network = peers.pyhessian_eigenvalues(modules["models"].separate(network), settings, 0)
    on_values = peers.pyhessian_eigenvalues(torch.from_numpy(eigenvalues.copy()).float(), settings, 0)
    assert on_values.values == pytest.approx(tuple(eigenvalues[:2]), rel=2e-3)
    assert on_network.values == pytest.approx(tuple(eigenvalues[:2]), rel=2e-3)
    assert 0.5 < on_network.products / on_values.products < 2


def test_every_contender_finds_the_exact_values_on_the_network(
    modules: dict[str, ModuleType], tiny: Any, exact: Any
) -> None:
    models, peers = modules["models"], modules["peers"]
    found = peers.our_eigenvalues(tiny[0], {"k": 5, "tolerance": 1e-4, "least_products": 8}, 0)
    assert found.values == pytest.approx(exact.eigenvalues, rel=1e-4)
    assert 2 * found.products <= found.gradients < 2 * found.products + 2
    theirs = peers.pyhessian_eigenvalues(models.separate(tiny[0]), {"k": 1, "max_iter": 100, "tol": 1e-6}, 0)
    assert theirs.values == pytest.approx(exact.eigenvalues[:1], rel=1e-3)
    trace = peers.our_trace(tiny[0], {"relative_error": 0.03, "mode": "exact"}, 0)
    assert trace.values == pytest.approx((exact.trace,), rel=1e-4)
    if "curvlinops" in peers.contenders():
        arpack = peers.curvlinops_eigenvalues(tiny[0], {"k": 5, "ncv": 20, "tol": 1e-4}, 0)
        assert arpack.values == pytest.approx(exact.eigenvalues, rel=1e-4)


def test_a_trace_on_the_spectrum_is_brought_to_the_network_s(modules: dict[str, ModuleType], exact: Any) -> None:
    """Signs give the trace of a diagonal matrix without error."""
    outcome = modules["tuning"].replay("pyhessian", "trace", {"probes": 2}, exact, 0)
    assert outcome.values == pytest.approx((exact.trace,), rel=1e-5)
    assert outcome.products == 2


def test_hutchinson_s_probes_follow_from_their_spread(modules: dict[str, ModuleType], exact: Any) -> None:
    pool = exact.trace * np.array([0.71, 1.29] * 20)  # a spread of 29 % wants (0.29 / 0.03)^2 = 93.4 probes
    assert modules["tuning"].tune_hutchinson(pool, exact).settings == {"probes": 94}


def test_settings_are_the_cheapest_in_bounds(modules: dict[str, ModuleType], exact: Any) -> None:
    tuning = modules["tuning"]
    chosen = tuning.tune_eigenvalues("pyhessian", "top1", exact)
    assert chosen.rms_error <= tuning.EIGENVALUE_ERROR
    dearer = [
        candidate
        for candidate in tuning.CANDIDATES["pyhessian"]
        if candidate["tol"] < chosen.settings["tol"] and candidate["max_iter"] == chosen.settings["max_iter"]
    ]
    assert dearer, "the strictest candidate was needed: the search has no room"


def test_this_package_is_not_tuned(modules: dict[str, ModuleType]) -> None:
    defaults = inspect.signature(landscape.top_eigenvalues).parameters
    (settings,) = modules["tuning"].CANDIDATES["ours"]
    assert settings == {name: defaults[name].default for name in ("tolerance", "least_products")}


def test_a_negative_eigenvalue_of_larger_magnitude_counts_as_a_miss_by_sign(modules: dict[str, ModuleType]) -> None:
    peers, rounds, tuning = modules["peers"], modules["rounds"], modules["tuning"]
    exact = modules["reference"].Reference(1.0, (2.0, 1.0, 0.5, 0.4, 0.3), (-3.0, 2.0, 1.0, 0.5, 0.4), 0.0, np.ones(1))
    record = rounds.Record("pyhessian", tuning.Tuned({}, 0.0, 1.0), 3)
    record.outcomes = [peers.Outcome((value,), 1) for value in (-3.001, -2.999, 2.001, 1.5)]
    assert rounds.sign_misses(record, "top1", exact) == 2


def test_a_value_that_is_missing_or_not_finite_is_wholly_wrong(modules: dict[str, ModuleType]) -> None:
    outcome = modules["peers"].Outcome((2.02, math.nan), 1)
    assert modules["tuning"].errors(outcome, (2.0, 1.0, 1.0)) == pytest.approx([0.01, 1.0, 1.0])


def test_a_call_that_is_too_long_is_timed_with_fewer_probes(modules: dict[str, ModuleType]) -> None:
    """Five rounds of 100 products of 0.1 s are 50 s: 25 s hold half the probes."""
    rounds, tuning = modules["rounds"], modules["tuning"]
    record = rounds.Record("pyhessian", tuning.Tuned({"probes": 100}, 0.03, 100.0), 20)
    rounds.shorten(record, 0.1, 50.1)
    assert record.scale == 1
    rounds.shorten(record, 0.1, 25.1)
    assert record.scale == 2


def test_every_contender_runs_its_rounds_and_the_rest_is_filled_up(
    modules: dict[str, ModuleType], tiny: Any, exact: Any
) -> None:
    """Without time to spend the peers stop at the least number of rounds; the package runs in all."""
    rounds, tuning = modules["rounds"], modules["tuning"]
    settings = {
        "ours": {"k": 1, "tolerance": 0.01, "least_products": 8},
        "pyhessian": {"k": 1, "max_iter": 50, "tol": 1e-3},
    }
    records = {name: rounds.Record(name, tuning.Tuned(chosen, 0.0, 1.0), 9) for name, chosen in settings.items()}
    rounds.timed_rounds(tiny[0], "top1", records, 9, 0.0)
    rounds.fill_up(records, "top1", exact, np.ones(1), 9)
    assert [len(record.outcomes) for record in records.values()] == [9, rounds.LEAST_ROUNDS]
    assert [len(record.all_outcomes) for record in records.values()] == [9, 9]
    found = rounds.figures(records, "top1", exact, 0.5)
    assert found["ratio_pyhessian_one_batch"] == pytest.approx(found["ratio_pyhessian"] / 2)
    assert found["pyhessian_timed_runs"] == 5
    assert found["pyhessian_replayed_runs"] == 4
    assert found["ours_rms_error"] < 0.01
    assert found["curvlinops_seconds"] is None
    assert all(parameter.grad is None for parameter in tiny[0].model.parameters())


def test_networks_are_joined_by_geometric_means_of_ratios(modules: dict[str, ModuleType]) -> None:
    parts = [
        {"ratio_pyhessian": 2.0, "ours_rms_error": 0.3, "ours_miss_rate": 0.0, "curvlinops_seconds": None},
        {"ratio_pyhessian": 8.0, "ours_rms_error": 0.4, "ours_miss_rate": 0.5, "curvlinops_seconds": 1.0},
    ]
    joined = modules["rounds"].aggregated(parts)
    assert joined["ratio_pyhessian"] == pytest.approx(4.0)
    assert joined["ours_rms_error"] == pytest.approx(math.sqrt(0.125))
    assert joined["ours_miss_rate"] == 0.25
    assert joined["curvlinops_seconds"] is None


def test_the_json_has_every_figure(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MDTREE_DATA", raising=False)
    effort = ["--seeds", "2", "--seconds", "1", "--replays", "2"]
    monkeypatch.setattr("sys.argv", ["hessian.py", "--model", "tiny", "--json", *effort])
    threads = torch.get_num_threads()
    try:
        modules["command"].main()
    finally:
        torch.set_num_threads(threads)
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "tiny"
    assert len(found["networks"]) == 1
    for part in (found, found["networks"][0]):
        for quantity in ("trace", "top5", "top1"):
            for name in ("ours", "pyhessian"):
                assert part[quantity][f"{name}_seconds"] > 0
                assert 0 <= part[quantity][f"{name}_rms_error"] < 0.2
                assert 0 <= part[quantity][f"{name}_miss_rate"] <= 1
            for name in CONTENDERS[1:]:
                assert f"ratio_{name}" in part[quantity]
    top1 = found["networks"][0]["top1"]
    low, high = top1["ratio_pyhessian_interval"]
    assert low <= top1["ratio_pyhessian"] <= high
    assert {line["quantity"] for line in found["targets"]} == {"trace", "top5", "top1"}
    text = modules["command"].table(found)
    assert "| MLP 8-8 on digits, usual | PyHessian 0.1 |" in text


def test_growth_measures_a_point_and_its_peers(modules: dict[str, ModuleType]) -> None:
    growth = modules["growth"]
    point = growth.Point("classes", samples=60, width=4, classes=3, peers=True)
    found = json.loads(json.dumps(growth.measured(point, None)))
    assert found["parameters"] == 64 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3
    for quantity in ("trace", "top1", "top5"):
        assert found[f"{quantity}_seconds"] > 0
        assert found[f"{quantity}_gradients"] >= 1
        assert found[f"{quantity}_gib"] >= 0
        assert found["peer_seconds"][f"pyhessian_{quantity}_seconds"] > 0
    failed = {"axis": "samples", "samples": 5, "width": 4, "classes": 3, "failed": "more than 300 s"}
    alone = {key: value for key, value in found.items() if key != "peer_seconds"} | {"peers": False, "samples": 61}
    text = growth.table([found, alone, failed])
    assert "| 60 | 295 | 3 |" in text
    assert "| 61 | 295 | 3 |" in text
    assert "more than 300 s" in text


def test_the_operations_of_a_gradient_are_counted(modules: dict[str, ModuleType]) -> None:
    """An MLP 5-4-4-3: forward 2 operations a weight, backward as many for the weights and, but for the first layer,
    for the inputs."""
    models, growth = modules["models"], modules["growth"]
    spec = models.NetworkSpec("", "", "mlp?width=4&depth=2", models.USUAL, models.Recipe(0.1, steps=1))
    inputs, targets = growth.clusters(9, 3, 5)
    network = models.trained_on(spec, inputs, targets, 3)
    assert growth.gradient_flops(network) == 2 * (2 * 5 * 4 + 3 * 4 * 4 + 3 * 4 * 3)
