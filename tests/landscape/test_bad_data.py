"""Data and networks at the edge of what can be measured: a clear reason, a right value, never a silent number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from dense_reference import dense_hessian
from small_networks import CLASSES, ResidualNet, build, data_for, inputs_for, mlp
from torch import Tensor, nn

from landscape import METRICS, ClassificationData, Execution, LandscapeError, Measurement, Protocol, Samples, measure

QUICK = Protocol(curve_steps=12, curve_batch_size=16)
WITHOUT_DATA = {"parameter_count", "log_weight_growth", "parameter_distance"}
TEST = {"test_error_percent", "test_loss"}
CURVE = {
    "connectivity_peak_percent",
    "connectivity_barrier_percent",
    "connectivity_barrier_over_chance",
    "connectivity_barrier_loss",
}
GRADIENT = {
    "gradient_norm_squared_per_parameter",
    "hessian_top_eigenvalue",
    "hessian_top_eigenvalue_magnitude",
    "hessian_smallest_eigenvalue",
    "hessian_top_eigenvalue_per_parameter",
    "hessian_trace",
    "hessian_trace_per_parameter",
}
CHANCE = {
    "train_error_over_chance",
    "train_loss_over_chance",
    "weight_noise_loss_over_chance",
    "connectivity_barrier_over_chance",
}
CKA = {"cka", "cka_mixup"}


def measured(
    make: Callable[[int], nn.Module],
    train: Samples,
    test: Samples | None = None,
    execution: Execution | None = None,
    classes: int = CLASSES,
) -> Measurement:
    """Network and sibling; every metric has a finite value or a reason of one line, and the record is plain JSON."""
    data = ClassificationData(train, test or train, classes)
    found = measure([make(0), make(1)], data, QUICK, execution, initial_norm_squared=10.0)
    missing = reasons(found)
    assert set(found.metrics) | set(missing) == set(METRICS)
    assert not set(found.metrics) & set(missing)
    assert all(reason and "\n" not in reason for reason in missing.values())
    json.dumps(found.to_dict(), allow_nan=False)
    return found


def reasons(found: Measurement) -> dict[str, str]:
    return {item.metric: item.reason for item in found.not_measured}


def value(found: Measurement, name: str) -> float:
    return found.metrics[name].value


def refusals(make: Callable[[int], nn.Module], train: Samples, test: Samples | None = None) -> dict[str, str]:
    """Why each metric is missing; where nothing at all can be measured, the one error that says so."""
    try:
        return reasons(measured(make, train, test))
    except LandscapeError as error:
        return dict.fromkeys(METRICS, str(error))


def check_nothing_but(possible: set[str], found: dict[str, str], word: str) -> None:
    """Every metric outside `possible` is missing, and the loss's reason names what is broken."""
    assert set(found) >= set(METRICS) - possible
    assert word in found["train_loss"]
    assert "finite" in found["train_loss"] or "NaN" in found["train_loss"]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_inputs_are_named_and_nothing_is_made_of_them(broken: float) -> None:
    """One value of one sample: the mean over all samples is lost with it, and so are errors, answers and paths."""
    data = data_for("mlp")
    data.inputs[20, 3] = broken
    check_nothing_but(WITHOUT_DATA, refusals(lambda seed: build("mlp", seed), data), word="input")


class Imputing(nn.Module):
    """Takes NaN for a missing value, as networks for tables do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = build("mlp", seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.nan_to_num(0.0))


def test_nan_is_no_fault_where_the_network_knows_it() -> None:
    data = data_for("mlp")
    data.inputs[::3, 2] = math.nan
    found = measured(Imputing, data)
    filled = measured(Imputing, Samples(data.inputs.nan_to_num(0.0), data.targets))

    assert reasons(found) == {}
    for name in set(METRICS) - {"cka_mixup"}:  # a mixture with a missing value is a missing value
        assert value(found, name) == value(filled, name), name


class Normalising(nn.Module):
    """Divides by the length of its input: 0 / 0 for a sample of zeros."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = build("mlp", seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x / x.norm(dim=1, keepdim=True))


def test_logits_that_are_nan_are_named_and_no_answer_is_read_from_them() -> None:
    """The index of the largest of several NaN is a number, and no answer of the network."""
    data = data_for("mlp")
    data.inputs[20] = 0.0
    # a mixture of the zeros with another sample has a length
    check_nothing_but({*WITHOUT_DATA, "cka_mixup"}, refusals(Normalising, data), word="logits")


def test_broken_test_inputs_cost_the_test_metrics_only() -> None:
    data, test = data_for("mlp"), Samples(inputs_for("mlp"), data_for("mlp").targets)
    clean = measured(lambda seed: build("mlp", seed), data)
    test.inputs[7] = math.nan
    found = measured(lambda seed: build("mlp", seed), data, test)

    assert set(reasons(found)) == TEST
    assert "input" in reasons(found)["test_loss"]
    assert found.metrics == {name: item for name, item in clean.metrics.items() if name not in TEST}


class GuardedRoot(nn.Module):
    """The root of what is positive, 0 elsewhere: finite, and its gradient 0 × NaN where there was no root."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = build("mlp", seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.network[1:](torch.where((h := self.network[0](x)) > 0, h.sqrt(), 0.0))


def test_a_gradient_of_nan_costs_what_needs_gradients_and_what_a_curve_is_trained_with() -> None:
    data = data_for("mlp")
    found = measured(GuardedRoot, data)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(GuardedRoot(0).eval()(data.inputs), data.targets)

    assert set(reasons(found)) == GRADIENT | CURVE
    assert all("finite" in reasons(found)[name] for name in GRADIENT | CURVE)
    assert value(found, "train_loss") == pytest.approx(float(expected), rel=1e-5)
    assert all(layer["weight_norm"] > 0 for layer in found.layers)


def dead(seed: int) -> nn.Module:
    """Every hidden unit is dead, and the last bias holds the logarithms of the shares of the classes."""
    model = build("mlp", seed)
    with torch.no_grad():
        model[2].bias.fill_(-1e3)
        model[4].bias.copy_(torch.tensor([0.4, 0.3, 0.2, 0.1]).log())
    return model


def test_a_dead_network_has_no_gradient_and_the_curvature_of_its_last_bias() -> None:
    """All that is left is the bias b: dL/db = p - shares = 0 and d^2L/db^2 = diag(p) - p p^T."""
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    targets = torch.arange(CLASSES).repeat_interleave(torch.tensor([16, 12, 8, 4]))
    data = Samples(inputs_for("mlp", 40), targets)
    spectrum = torch.linalg.eigvalsh(torch.diag(p) - p[:, None] * p)
    found = measured(dead, data, execution=Execution(dtype="float64"))

    assert set(reasons(found)) == CKA, "one answer to every input is nothing to align"
    assert "constant" in reasons(found)["cka"]
    assert value(found, "train_loss") == pytest.approx(float(-(p * p.log()).sum()), rel=1e-7)
    assert value(found, "train_error_percent") == pytest.approx(60.0)
    assert value(found, "train_error_over_chance") == pytest.approx(1.0)
    assert value(found, "train_loss_over_chance") == pytest.approx(1.0, rel=1e-6)
    assert value(found, "feature_rank_share") == 0.0
    assert value(found, "idle_feature_share") == 1.0
    assert value(found, "gradient_norm_squared_per_parameter") == pytest.approx(0.0, abs=1e-16)
    assert value(found, "hessian_top_eigenvalue") == pytest.approx(float(spectrum[-1]), rel=1e-6)
    assert value(found, "hessian_trace") == pytest.approx(float(1 - (p * p).sum()), rel=1e-6)
    assert value(found, "hessian_smallest_eigenvalue") == pytest.approx(0.0, abs=1e-8)
    assert value(found, "disagreement_percent") == 0.0


def at_zero(seed: int) -> nn.Module:
    model = build("mlp", seed)
    if seed == 0:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    return model


def test_weights_that_are_all_zero_have_a_curvature_and_no_growth() -> None:
    """p is uniform over 4 classes: the last bias has curvature I/4 - 1/16, every other parameter none."""
    data = Samples(inputs_for("mlp", 36), torch.arange(36) % CLASSES)
    found = measured(at_zero, data)

    assert set(reasons(found)) == {"log_weight_growth", *CKA}
    assert reasons(found)["log_weight_growth"] == "every weight is zero; expected a network with weights"
    assert value(found, "train_loss") == pytest.approx(math.log(CLASSES))
    assert value(found, "hessian_top_eigenvalue") == pytest.approx(1 / 4, rel=1e-5)
    assert value(found, "hessian_trace") == pytest.approx(3 / 4, rel=1e-5)
    assert value(found, "parameter_distance") == pytest.approx(math.sqrt(2), rel=1e-6)


def test_labels_of_one_class_have_no_error_by_chance() -> None:
    data = Samples(inputs_for("mlp"), torch.full((37,), 2))
    found = measured(lambda seed: build("mlp", seed), data)

    assert set(reasons(found)) == CHANCE
    assert all("one class" in reasons(found)[name] for name in CHANCE)
    assert "single_class" in found.flags
    dense = dense_hessian(build("mlp"), data.inputs, data.targets)
    assert value(found, "hessian_top_eigenvalue") == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=2e-3)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_very_few_samples_are_measured_as_far_as_they_go(samples: int) -> None:
    data = data_for("mlp").at(torch.arange(samples))
    found = measured(lambda seed: build("mlp", seed), data)
    classes = len(set(data.targets.tolist()))

    assert set(reasons(found)) == CKA | (CHANCE if classes == 1 else set())
    assert reasons(found)["cka"] == f"CKA of {samples} samples; expected at least 4"
    dense = dense_hessian(build("mlp"), data.inputs, data.targets)
    assert value(found, "hessian_trace") == pytest.approx(float(dense.trace()), rel=1e-4)
    assert value(found, "hessian_top_eigenvalue") == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=2e-3)


def test_one_sample_cannot_refresh_batch_norm() -> None:
    data = data_for("batch_norm_resnet").at(torch.tensor([0]))
    found = measured(lambda seed: build("batch_norm_resnet", seed), data)

    assert isinstance(build("batch_norm_resnet"), ResidualNet)
    assert set(reasons(found)) == CKA | CHANCE | CURVE | {"linear_barrier_percent"}
    assert "one sample" in reasons(found)["linear_barrier_percent"]


def test_every_sample_thrice_changes_nothing() -> None:
    data = data_for("mlp")
    thrice = data.at(torch.arange(len(data)).repeat_interleave(3))
    double = Execution(dtype="float64", batch_size=16)
    found, expected = (measured(lambda seed: build("mlp", seed), d, data, double) for d in (thrice, data))

    assert reasons(found) == {}
    for name in set(METRICS) - CURVE - {"cka_mixup", "hessian_smallest_eigenvalue"}:  # those draw samples
        assert value(found, name) == pytest.approx(value(expected, name), rel=1e-8, abs=1e-12), name


def test_inputs_that_are_all_the_same_have_nothing_to_align_and_no_rank() -> None:
    """Rounding makes mixtures of equal inputs differ in their last digit: no representation to compare."""
    data = Samples(inputs_for("mlp")[:1].expand(37, -1).clone(), data_for("mlp").targets)
    found = measured(lambda seed: build("mlp", seed), data)

    assert set(reasons(found)) == CKA
    assert all("constant" in reasons(found)[name] for name in CKA)
    assert value(found, "feature_rank_share") == 0.0
    assert value(found, "idle_feature_share") == 1.0
    dense = dense_hessian(build("mlp"), data.inputs, data.targets)
    assert value(found, "hessian_top_eigenvalue") == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=2e-3)


@pytest.mark.parametrize("right", [True, False])
def test_a_saturated_softmax_has_a_hessian_of_zero(right: bool) -> None:
    """Logits 300 apart: every p is 0 or 1 in any precision here, so the curvature is 0, a number with error 0.

    The gradient is 0 where the answers are right; where they are wrong it has the length of p - y.
    """
    targets = torch.arange(40) % CLASSES
    inputs = nn.functional.one_hot(targets if right else (targets + 1) % CLASSES, CLASSES).float()

    def saturated(seed: int) -> nn.Module:
        model = nn.Linear(CLASSES, CLASSES)
        with torch.no_grad():
            model.weight.copy_((300.0 + seed) * torch.eye(CLASSES))
            model.bias.zero_()
        return model

    found = measured(saturated, Samples(inputs, targets))
    # a row of the weight's gradient: 1/4 at the wrong class's input, -1/4 at the right one's; the bias's is 0
    gradient = 0.0 if right else 2 * CLASSES * (1 / CLASSES) ** 2

    assert reasons(found) == {}
    assert value(found, "train_loss") == (0.0 if right else 300.0)
    assert value(found, "train_error_percent") == (0.0 if right else 100.0)
    assert value(found, "gradient_norm_squared_per_parameter") == pytest.approx(gradient / 20, rel=1e-6)
    for name in GRADIENT - {"gradient_norm_squared_per_parameter"}:
        assert value(found, name) == 0.0, name
        assert found.metrics[name].standard_error == 0.0, name
    assert not {"eigenvalues_not_converged", "trace_precision_not_reached"} & set(found.flags)


@pytest.mark.parametrize(("label", "shown"), [(CLASSES, "labels from 0 to 4"), (-100, "labels from -100 to 3")])
def test_labels_outside_the_classes_are_refused(label: int, shown: str) -> None:
    targets = torch.arange(37) % CLASSES
    broken = targets.clone()
    broken[30] = label
    inputs = inputs_for("mlp")

    with pytest.raises(LandscapeError, match=rf"{shown}; expected labels from 0 to 3; set num_classes, or map"):
        measured(lambda seed: build("mlp", seed), Samples(inputs, broken))
    found = measured(lambda seed: build("mlp", seed), Samples(inputs, targets), Samples(inputs, broken))
    assert set(reasons(found)) == TEST
    assert shown in reasons(found)["test_loss"]


def test_a_token_outside_the_vocabulary_is_refused_in_whichever_batch() -> None:
    def reader(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(15, CLASSES))

    targets = torch.arange(37) % CLASSES
    tokens = torch.randint(9, (37, 3), generator=torch.Generator().manual_seed(0))
    broken = tokens.clone()
    broken[36, 1] = 9
    batches = Execution(batch_size=16)

    with pytest.raises(LandscapeError, match="index out of range"):
        measured(reader, Samples(broken, targets), execution=batches)
    found = measured(reader, Samples(tokens, targets), Samples(broken, targets), batches)
    assert set(reasons(found)) == {*TEST, "cka_mixup"}
    assert "index out of range" in reasons(found)["test_loss"]


def test_broken_weights_of_a_sibling_are_said_to_be_the_siblings() -> None:
    def diverged(seed: int) -> nn.Module:
        model = build("mlp", seed)
        if seed == 1:
            with torch.no_grad():
                model[2].weight[0, 0] = math.nan
        return model

    with pytest.raises(LandscapeError, match=r"sibling.*NaN or infinite values in 2\.weight"):
        measured(diverged, data_for("mlp"))


def overflowing(seed: int) -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(1e30)
        model[2].weight.mul_(1e30)
    return model if seed == 0 else build("mlp", seed)


def test_weights_so_large_that_the_logits_overflow_leave_no_number_that_needs_them() -> None:
    check_nothing_but(WITHOUT_DATA, refusals(overflowing, data_for("mlp")), word="logits")
