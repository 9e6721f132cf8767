"""The PyHessian package and this one on the same networks."""

from __future__ import annotations

import sys

import pytest
import torch
from small_networks import ARCHITECTURES, CLASSES, build, data_for

from landscape import Execution, LandscapeError, Objective, Protocol, Task, top_eigenvalues, trace
from landscape.pyhessian_backend import pyhessian_estimate

DOUBLE = Execution(dtype="float64", batch_size=16)
PRECISE = Protocol(eigenvalue_tolerance=1e-7, precision=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_both_agree_on_uneven_batches(name: str) -> None:
    target = Objective(build(name), data_for(name), Task(CLASSES), execution=DOUBLE)

    theirs = pyhessian_estimate(target, PRECISE)

    ours = top_eigenvalues(target, 1, tolerance=1e-9, least_products=40)
    assert abs(theirs.eigenvalue) == pytest.approx(ours.magnitude[0], rel=1e-3)
    assert theirs.eigenvalue_bound < 0.05 * abs(theirs.eigenvalue)
    exact = trace(target, relative_error=0.02)
    gap = abs(theirs.trace - exact.value)
    assert gap < 3 * (theirs.trace_standard_error**2 + exact.standard_error**2) ** 0.5
    assert theirs.trace_standard_error > 0


def test_twice_on_one_model_gives_the_same_numbers_and_leaves_no_trace() -> None:
    model = build("mlp").train()
    state = torch.random.get_rng_state()
    results = [
        pyhessian_estimate(Objective(model, data_for("mlp"), Task(CLASSES), execution=DOUBLE), Protocol())
        for _ in range(2)
    ]

    assert results[0] == results[1]
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_class_weights_reach_pyhessian() -> None:
    task = Task(CLASSES, class_weights=(1.0, 5.0, 0.2, 2.0))
    target = Objective(build("mlp"), data_for("mlp"), task, execution=DOUBLE)

    theirs = pyhessian_estimate(target, PRECISE).eigenvalue

    assert theirs == pytest.approx(top_eigenvalues(target, 1, tolerance=1e-9).values[0], rel=1e-3)


def test_a_missing_package_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyhessian", None)
    with pytest.raises(LandscapeError, match="pyhessian is not installed; expected it, or backend='native'"):
        pyhessian_estimate(Objective(build("mlp"), data_for("mlp"), Task(CLASSES)), Protocol())
