"""The trace: the identity tr(H) = tr(G), its test, the correction, and the errors reported."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import stdev

import pytest
import torch
from dense_reference import dense_gauss_newton, dense_hessian
from small_networks import ARCHITECTURES, CLASSES, CURVED, PIECEWISE_LINEAR, build, data_for, inputs_for, mlp
from torch import nn

from landscape import Execution, LandscapeError, Objective, Samples, SymmetricOperator, Task, top_eigenvalues, trace
from landscape.trace_identity import identity_holds

DOUBLE = Execution(dtype="float64", batch_size=16)
WHOLE = Execution(dtype="float64", batch_size=64)


def objective(name: str, execution: Execution = DOUBLE, task: Task | None = None) -> Objective:
    return Objective(build(name), data_for(name), task or Task(CLASSES), execution=execution)


def dense_trace(name: str) -> float:
    data = data_for(name)
    return float(dense_hessian(build(name), data.inputs, data.targets).trace())


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_exact_trace_matches_the_dense_hessian(name: str) -> None:
    found = trace(objective(name))

    assert found.value == pytest.approx(dense_trace(name), rel=1e-6)
    assert found.method == "gauss_newton"
    assert found.exact
    assert found.standard_error == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gauss_newton_part_matches_the_dense_matrix(name: str) -> None:
    found = trace(objective(name), relative_error=10)

    dense = dense_gauss_newton(build(name), inputs_for(name))
    assert found.gauss_newton == pytest.approx(float(dense.trace()), rel=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_identity_is_found_to_hold_exactly_where_it_does(name: str) -> None:
    assert identity_holds(objective(name)) is (name in PIECEWISE_LINEAR)


class Shared(nn.Module):
    """One layer used twice: piecewise linear in the inputs, quadratic in the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))


class LogProbabilities(nn.Module):
    """Returns log-softmax: not piecewise linear itself, but its cross-entropy is that of the logits beneath."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).log_softmax(1)


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (Shared, False),
        (lambda: mlp(nn.GELU), False),
        (lambda: mlp(nn.Softplus), False),
        (lambda: mlp(nn.LeakyReLU), True),
        (LogProbabilities, True),
    ],
    ids=["shared weights", "GELU", "softplus", "leaky ReLU", "log probabilities"],
)
def test_the_identity_in_other_networks(make: Callable[[], nn.Module], holds: bool) -> None:
    data, model = data_for("mlp"), make()
    target = Objective(model, data, Task(CLASSES), execution=DOUBLE)

    assert identity_holds(target) is holds
    dense = float(dense_hessian(model, data.inputs, data.targets).trace())
    assert (trace(target, relative_error=10).gauss_newton == pytest.approx(dense, rel=1e-6)) is holds


def test_the_identity_is_judged_by_the_network_not_by_its_fit() -> None:
    """With residuals near zero any network's tr(H - G) is near zero; the answer must not follow."""
    model = build("tanh_mlp")
    inputs = inputs_for("tanh_mlp")
    with torch.no_grad():
        model[-1].weight.mul_(200)
        labels = model.eval()(inputs).argmax(1)

    assert not identity_holds(Objective(model, Samples(inputs, labels), Task(CLASSES), execution=DOUBLE))


@pytest.mark.parametrize("name", CURVED)
def test_where_the_identity_fails_the_trace_matches_within_its_error(name: str) -> None:
    dense = dense_trace(name)
    estimates = [trace(objective(name, WHOLE), relative_error=0.15, seed=seed) for seed in range(10)]

    assert {e.method for e in estimates} == {"gauss_newton+hutchinson"}
    assert all(abs(e.value - dense) < 4 * e.standard_error for e in estimates)
    mean = sum(e.value for e in estimates) / 10
    error = math.sqrt(sum(e.standard_error**2 for e in estimates)) / 10
    assert abs(mean - dense) < 3 * error
    gap = abs(estimates[0].gauss_newton - dense)
    assert gap > 3 * error, "the correction must matter for this test to mean anything"


@pytest.mark.parametrize(("name", "relative_error"), [("mlp", 0.03), ("batch_norm_resnet", 0.1), ("tanh_mlp", 0.3)])
def test_standard_errors_are_true(name: str, relative_error: float) -> None:
    """z-scores over 100 seeds: at most one beyond 3, standard deviation near 1."""
    dense = dense_trace(name)
    target = objective(name, WHOLE)
    scores = []
    for seed in range(100):
        found = trace(target, mode="stochastic", relative_error=relative_error, seed=seed)
        scores.append((found.value - dense) / found.standard_error)

    assert sum(abs(z) > 3 for z in scores) <= 1
    assert 0.8 <= stdev(scores) <= 1.25
    assert abs(sum(scores) / 100) < 0.3


def test_sampling_stops_at_the_precision_asked_for() -> None:
    target = objective("mlp")
    coarse, fine = (trace(target, mode="stochastic", relative_error=e) for e in (0.1, 0.02))

    assert coarse.standard_error <= 0.1 * coarse.value
    assert fine.standard_error <= 0.02 * fine.value
    assert fine.draws > coarse.draws


def test_auto_is_exact_for_small_problems_and_sampled_for_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    target = objective("mlp")
    assert trace(target).exact
    monkeypatch.setattr("landscape.gauss_newton.EXACT_BELOW", CLASSES * target.samples - 1)
    assert not trace(target, relative_error=0.2).exact
    assert trace(target, relative_error=1e-6).exact, "sampling that is dearer than exactness gives way to it"
    assert trace(target, relative_error=0.2, mode="exact").exact


def test_two_classes_are_exact_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.gauss_newton.EXACT_BELOW", 0)
    model = nn.Linear(6, 1)
    data = Samples(inputs_for("mlp"), (inputs_for("mlp")[:, 0] > 0).long())

    assert trace(Objective(model, data, Task(2), execution=DOUBLE)).draws == 2


@pytest.mark.parametrize(
    "task",
    [
        Task(CLASSES, label_smoothing=0.2),
        Task(CLASSES, class_weights=(1.0, 2.0, 0.5, 3.0)),
        Task(CLASSES, label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5, 3.0)),
    ],
    ids=["smoothing", "weights", "both"],
)
def test_the_identity_covers_label_smoothing_and_class_weights(task: Task) -> None:
    data = data_for("cnn")
    weights = None if task.class_weights is None else torch.tensor(task.class_weights, dtype=torch.float64)
    loss = nn.CrossEntropyLoss(weights, label_smoothing=task.label_smoothing)
    dense = dense_hessian(build("cnn"), data.inputs, data.targets, loss)

    target = objective("cnn", task=task)
    assert trace(target).value == pytest.approx(float(dense.trace()), rel=1e-6)
    top = float(torch.linalg.eigvalsh(dense)[-1])
    assert top_eigenvalues(target, 1, tolerance=1e-8).values[0] == pytest.approx(top, rel=1e-6)


def test_a_loss_function_alone_is_estimated_with_deflation() -> None:
    data = data_for("mlp")

    def squared(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (model(batch[0]) - nn.functional.one_hot(batch[1], CLASSES)).square().mean()

    target = Objective(build("mlp"), data, loss_fn=squared, execution=DOUBLE)
    model = build("mlp").double().eval()
    dense = dense_hessian(
        model, data.inputs, data.targets, lambda z, y: (z - nn.functional.one_hot(y, CLASSES)).square().mean()
    )
    vectors = top_eigenvalues(target, 5, tolerance=1e-6).vectors

    plain = trace(target, relative_error=0.1)
    deflated = trace(target, relative_error=0.1, deflation=vectors)

    assert plain.method == deflated.method == "hutchinson"
    for found in (plain, deflated):
        assert abs(found.value - float(dense.trace())) < 3 * found.standard_error
    assert deflated.probes * deflated.standard_error**2 < 0.7 * plain.probes * plain.standard_error**2


def test_hutchinson_on_a_matrix_and_its_exact_form_for_few_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(60, 60, generator=generator, dtype=torch.float64)
    matrix = matrix @ matrix.mT

    sampled = trace(SymmetricOperator(lambda v: matrix @ v, 60), relative_error=0.02)
    assert abs(sampled.value - float(matrix.trace())) < 3 * sampled.standard_error
    assert 0 < sampled.standard_error <= 0.02 * sampled.value
    small = trace(SymmetricOperator(lambda v: matrix[:9, :9] @ v, 9))
    assert small.value == pytest.approx(float(matrix[:9, :9].trace()))
    assert small.exact


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(LandscapeError, match="trace mode is 'quick'"):
        trace(objective("mlp"), mode="quick")
