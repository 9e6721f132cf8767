"""The whole measurement, on real digits."""

from __future__ import annotations

import copy
import json
import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from conftest import digits_mlp
from dense_reference import dense_hessian
from small_networks import CLASSES, ResidualNet, build, data_for, inputs_for, mlp
from torch import Tensor, nn

from landscape import (
    METRICS,
    PAIR_METRICS,
    TEST_METRICS,
    ClassificationData,
    Execution,
    LandscapeError,
    Measurement,
    Objective,
    Protocol,
    Samples,
    Task,
    disagreement,
    linear_cka,
    linear_path,
    measure,
    parameter_distance,
)
from landscape.features import FEATURE_METRICS, measure_features
from landscape.ledger import Ledger
from landscape.weight_noise import measure_weight_noise

QUICK = Protocol(curve_steps=30, density_probes=1)


def reasons(found: Measurement) -> dict[str, str]:
    return {item.metric: item.reason for item in found.not_measured}


def value(found: Measurement, name: str) -> float:
    return found.metrics[name].value


@pytest.fixture(scope="module")
def full(trained: list[nn.Module], digits: ClassificationData) -> Measurement:
    return measure(trained[:2], digits, fresh=digits_mlp)


def test_every_metric_of_a_healthy_pair_has_a_finite_value(full: Measurement) -> None:
    assert tuple(full.metrics) == METRICS
    assert full.not_measured == ()
    assert full.flags == ()
    for name, item in full.metrics.items():
        assert math.isfinite(item.value), name
        assert math.isfinite(item.standard_error), name
        assert item.standard_error >= 0, name


def test_values_of_the_network_alone(full: Measurement, trained: list[nn.Module], digits: ClassificationData) -> None:
    model = trained[0].double().eval()
    counts = torch.bincount(digits.train.targets)
    chance = 100 * (1 - int(counts.max()) / 640)
    gradient = Objective(model, digits.train, Task(10), execution=Execution(dtype="float64")).gradient()

    assert value(full, "parameter_count") == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    for which, samples in (("train", digits.train), ("test", digits.test)):
        assert samples is not None
        logits = model(samples.inputs.double()).detach()
        wrong = (logits.argmax(1) != samples.targets).double()
        assert value(full, f"{which}_error_percent") == pytest.approx(100 * wrong.mean().item())
        assert value(full, f"{which}_loss") == pytest.approx(
            nn.functional.cross_entropy(logits, samples.targets).item(), rel=1e-5
        )
    assert full.metrics["train_loss"].standard_error == 0, "all training samples were used"
    share = value(full, "test_error_percent") / 100
    expected = 100 * math.sqrt(share * (1 - share) / 1157)
    assert full.metrics["test_error_percent"].standard_error == pytest.approx(expected)
    assert value(full, "train_error_over_chance") == pytest.approx(value(full, "train_error_percent") / chance)
    squares = gradient.square().sum().item() / 1482
    assert value(full, "gradient_norm_squared_per_parameter") == pytest.approx(squares, rel=1e-3)
    trained[0].float()


def test_values_of_the_last_layer_and_the_loss_over_chance(
    full: Measurement, trained: list[nn.Module], digits: ClassificationData
) -> None:
    """Of 512 of the 640 samples, in the order in which the protocol takes them."""
    model, chosen = copy.deepcopy(trained[0]).double().eval(), digits.train.subset(640, 0)
    shares = torch.bincount(chosen.targets).double() / 640
    inputs = chosen.inputs[[640 * n // 512 for n in range(512)]].double()
    with torch.no_grad():
        features, logits = model[:-1](inputs), model(inputs)
    covariance = np.cov(features.numpy(), rowvar=False)
    parts = np.linalg.eigvalsh(covariance) / np.trace(covariance)
    rank = math.exp(-sum(p * math.log(p) for p in parts if p > 1e-15)) / 16

    assert value(full, "feature_rank_share") == pytest.approx(rank, rel=1e-5)
    assert 0 < full.metrics["feature_rank_share"].standard_error < 0.1 * rank
    assert value(full, "idle_feature_share") == (features.std(0) == 0).double().mean()
    spread = (logits - logits.mean(1, keepdim=True)).square().mean().sqrt()
    assert value(full, "logit_spread") == pytest.approx(float(spread), rel=1e-5)
    assert {full.metrics[name].samples for name in (*FEATURE_METRICS, "weight_noise_loss_over_chance")} == {512}
    chance = -float((shares * shares.log()).sum())
    assert value(full, "train_loss_over_chance") == pytest.approx(value(full, "train_loss") / chance, rel=1e-12)


def hard_targets() -> Tensor:
    return torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])


def soft_targets() -> Tensor:
    return (3 * torch.randn(10, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).softmax(1)


@pytest.mark.parametrize("targets", [hard_targets(), soft_targets()], ids=["labels", "probabilities"])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 3.0), (1.0, 0.0, 1.0, 1.0)])
def test_loss_of_chance_is_that_of_the_best_constant_logits(targets: Tensor, weights: tuple[float, ...] | None) -> None:
    """Found by Newton's method on torch's own cross-entropy of one row of logits for all samples."""
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)

    def loss(row: Tensor) -> Tensor:
        return nn.functional.cross_entropy(row.expand(10, 4), targets, weight=tensor)

    row = torch.zeros(4, dtype=torch.float64)
    for _ in range(60):  # the Hessian lacks the direction of equal logits
        gradient, hessian = torch.func.grad(loss)(row), torch.func.hessian(loss)(row)
        row -= torch.linalg.pinv(hessian, hermitian=True, rtol=1e-13) @ gradient

    for smoothing in (0.0, 0.1):
        found = Task(4, label_smoothing=smoothing, class_weights=weights).chance_loss(targets)
        assert found == pytest.approx(float(loss(row)), rel=1e-6)


def test_loss_of_chance_of_one_class_is_nothing() -> None:
    assert Task(3).chance_loss(torch.tensor([1, 1, 1])) == 0.0
    assert Task(3, class_weights=(1.0, 1.0, 0.0)).chance_loss(torch.tensor([1, 1, 2])) == 0.0
    assert Task(2).chance_loss(torch.tensor([0, 1])) == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.slow
def test_hessian_metrics_are_those_of_the_dense_hessian(
    full: Measurement, trained: list[nn.Module], digits: ClassificationData
) -> None:
    dense = dense_hessian(trained[0], digits.train.inputs, digits.train.targets)
    spectrum = torch.linalg.eigvalsh(dense)

    assert value(full, "hessian_trace") == pytest.approx(float(dense.trace()), rel=1e-4)
    assert full.metrics["hessian_trace"].standard_error == 0
    assert full.series["top_eigenvalues"]["eigenvalues"] == pytest.approx(spectrum.flip(0)[:5].tolist(), rel=1e-3)
    assert value(full, "hessian_top_eigenvalue") == pytest.approx(float(spectrum[-1]), rel=1e-4)
    assert value(full, "hessian_top_eigenvalue_magnitude") == value(full, "hessian_top_eigenvalue")
    smallest = full.metrics["hessian_smallest_eigenvalue"]
    assert abs(smallest.value - float(spectrum[0])) <= smallest.standard_error
    for name in ("hessian_top_eigenvalue", "hessian_trace"):
        assert value(full, f"{name}_per_parameter") == pytest.approx(value(full, name) / 1482, rel=1e-12)


def test_values_of_the_pair(full: Measurement, trained: list[nn.Module], digits: ClassificationData) -> None:
    logits = [model.eval()(digits.train.inputs).detach() for model in trained[:2]]
    weights = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in trained[:2]]
    curve = full.series["curve"]
    inner = [curve["error_percent"][curve["t"].index(t)] for t in (0.25, 0.5, 0.75)]
    chance = 100 * (1 - int(torch.bincount(digits.train.targets).max()) / 640)

    assert value(full, "cka") == pytest.approx(linear_cka(*(z.softmax(1) for z in logits)), rel=1e-5)
    assert 0 < value(full, "cka_mixup") < value(full, "cka")
    assert value(full, "disagreement_percent") == pytest.approx(disagreement(*logits), abs=0.2)
    assert value(full, "parameter_distance") == pytest.approx(parameter_distance(*weights), rel=1e-6)
    assert value(full, "connectivity_peak_percent") == max(inner)
    ends = (curve["error_percent"][0] + curve["error_percent"][-1]) / 2
    assert value(full, "connectivity_barrier_percent") == pytest.approx(max(inner) - ends)
    barely_trained = measure(trained[:2], digits, Protocol(curve_steps=5))
    barrier = value(barely_trained, "connectivity_barrier_percent")
    assert barrier > 10
    assert value(barely_trained, "connectivity_barrier_over_chance") == pytest.approx(barrier / chance)
    assert curve["error_percent"][0] == value(full, "train_error_percent")
    assert curve["loss"][0] == value(full, "train_loss")
    assert full.series["linear_path"]["loss"] == list(linear_path(trained[0], trained[1], digits).loss)


def test_batch_norm_ends_with_their_own_statistics_are_the_measured_ones(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    found = measure(residual_nets, images, QUICK)

    for series in ("curve", "linear_path"):
        path = found.series[series]
        assert path["batch_norm_refreshed"]
        own = path["loss"][0] - path["end_shift"]["loss"][0]
        assert own == pytest.approx(value(found, "train_loss"), rel=1e-12)
        own = path["error_percent"][0] - path["end_shift"]["error_percent"][0]
        assert own == pytest.approx(value(found, "train_error_percent"), rel=1e-12)


def test_the_record_is_json_without_nan_and_says_how_it_was_made(full: Measurement) -> None:
    record = json.loads(json.dumps(full.to_dict(), allow_nan=False))

    assert set(record) == {
        "metrics",
        "not_measured",
        "series",
        "layers",
        "flags",
        "cost",
        "protocol",
        "execution",
    }
    assert record["metrics"]["train_loss"] == {
        "value": value(full, "train_loss"),
        "standard_error": 0.0,
        "samples": 640,
    }
    assert record["protocol"]["digest"] == Protocol().digest()
    assert Protocol.from_dict(record["protocol"]) == Protocol()
    assert Execution(**record["execution"]) == Execution()
    assert len(record["series"]["spectral_density"]["eigenvalues"]) == len(
        record["series"]["spectral_density"]["density"]
    )


def test_layers_carry_names_shapes_and_norms(full: Measurement, trained: list[nn.Module]) -> None:
    assert [layer["name"] for layer in full.layers] == [name for name, _ in trained[0].named_parameters()]
    assert full.layers[0]["shape"] == [16, 64]
    assert full.layers[0]["parameters"] == 1024
    assert full.layers[0]["weight_norm"] == pytest.approx(trained[0][0].weight.norm().item(), rel=1e-6)
    total = sum(layer["gradient_norm"] ** 2 for layer in full.layers)
    assert total / 1482 == pytest.approx(value(full, "gradient_norm_squared_per_parameter"), rel=1e-6)


def test_the_same_bytes_twice_and_the_callers_world_untouched(
    residual_nets: list[nn.Module], images: ClassificationData
) -> None:
    before = [copy.deepcopy(model.state_dict()) for model in residual_nets]
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    threads, inputs = torch.get_num_threads(), images.train.inputs.clone()

    records = []
    for _ in range(2):
        record = measure(residual_nets, images, QUICK, fresh=ResidualNet).to_dict()
        del record["cost"]["seconds"]
        records.append(json.dumps(record))

    assert records[0] == records[1]
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert torch.get_num_threads() == threads
    assert torch.equal(images.train.inputs, inputs)
    for model, state in zip(residual_nets, before, strict=True):
        assert all(module.training for module in model.modules())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_micro_batch_and_the_precision_move_last_digits_only(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    protocol = Protocol(curve_steps=20)
    base = measure(trained[:2], digits, protocol, Execution(dtype="float64", batch_size=640))
    for execution, tolerance in (
        (Execution(dtype="float64", batch_size=100), 1e-9),
        (Execution(batch_size=100), 2e-3),
    ):
        found = measure(trained[:2], digits, protocol, execution)
        for name in base.metrics:
            if name != "hessian_smallest_eigenvalue":  # not iterated to tolerance
                assert value(found, name) == pytest.approx(value(base, name), rel=tolerance, abs=1e-9), name


def test_threads_are_set_while_measuring_and_restored(trained: list[nn.Module], digits: ClassificationData) -> None:
    before, seen = torch.get_num_threads(), []
    measure(
        trained[:1],
        digits,
        QUICK,
        Execution(threads=2),
        progress=lambda stage, share: seen.append(torch.get_num_threads()),
    )
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
    with pytest.raises(LandscapeError):
        measure([build("cnn")], digits, QUICK, Execution(threads=2))
    assert torch.get_num_threads() == before


def test_several_siblings_give_means_and_their_standard_error(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    both = measure(trained, digits, QUICK)
    single = [measure([trained[0], other], digits, QUICK) for other in trained[1:]]

    for name in PAIR_METRICS:
        values = [value(found, name) for found in single]
        assert value(both, name) == pytest.approx(fmean(values), rel=1e-12), name
        assert both.metrics[name].standard_error == pytest.approx(stdev(values) / math.sqrt(2), rel=1e-9), name
        assert single[0].metrics[name].standard_error == 0
    assert both.series["curve"] == single[0].series["curve"]


def test_alone_and_without_test_data_the_rest_has_its_reason(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    found = measure(trained[:1], ClassificationData(digits.train, None, 10), QUICK)

    assert set(reasons(found)) == {*PAIR_METRICS, *TEST_METRICS, "log_weight_growth"}
    assert "needs a sibling" in reasons(found)["cka"]
    assert reasons(found)["test_loss"] == "no test data were given"
    assert "norm at initialisation is unknown" in reasons(found)["log_weight_growth"]
    assert set(found.metrics) | set(reasons(found)) == set(METRICS)


def test_weight_growth_counts_biases_and_averages_fresh_instances(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    made = []

    def fresh() -> nn.Module:
        made.append(digits_mlp())
        return made[-1]

    found = measure(trained[:1], digits, QUICK, fresh=fresh)

    squares = [sum(p.double().square().sum().item() for p in model.parameters()) for model in made]
    own = sum(p.double().square().sum().item() for p in trained[0].parameters())
    without_biases = sum(p.double().square().sum().item() for n, p in trained[0].named_parameters() if "weight" in n)
    assert len(made) == Protocol().fresh_instances
    assert len(set(squares)) == len(squares), "each instance has its own seed"
    assert value(found, "log_weight_growth") == pytest.approx(math.log(own / fmean(squares)), rel=1e-9)
    assert abs(math.log(own / without_biases)) > 1e-3
    error = stdev(squares) / math.sqrt(8) / fmean(squares)
    assert found.metrics["log_weight_growth"].standard_error == pytest.approx(error, rel=1e-9)
    given = measure(trained[:1], digits, QUICK, initial_norm_squared=fmean(squares))
    assert value(given, "log_weight_growth") == pytest.approx(value(found, "log_weight_growth"))
    assert given.metrics["log_weight_growth"].standard_error == 0


def test_a_fresh_network_of_another_size_is_no_reference(trained: list[nn.Module], digits: ClassificationData) -> None:
    found = measure(trained[:1], digits, QUICK, fresh=lambda: nn.Linear(64, 10))
    assert reasons(found)["log_weight_growth"].startswith("the untrained network has 650 parameters; expected 1482")


def test_a_subset_is_used_above_the_cap_and_its_error_told(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    protocol = Protocol(samples=200, density_probes=0)
    found = measure(trained[:1], digits, protocol)
    whole = measure(trained[:1], digits, Protocol(density_probes=0))
    subset = digits.train.subset(200, 0)

    assert found.metrics["train_loss"].samples == 200
    assert found.metrics["test_loss"].samples == 200
    inside = Objective(trained[0], subset, Task(10)).loss_and_error()
    assert value(found, "train_loss") == inside.loss
    expected = inside.loss_deviation / math.sqrt(200) * math.sqrt(1 - 200 / 640)
    assert found.metrics["train_loss"].standard_error == pytest.approx(expected)
    assert abs(inside.loss - value(whole, "train_loss")) < 4 * expected
    assert "spectral_density" not in found.series


def test_a_sibling_with_the_same_weights_is_refused(trained: list[nn.Module], digits: ClassificationData) -> None:
    with pytest.raises(LandscapeError, match="same weights"):
        measure([trained[0], trained[1], copy.deepcopy(trained[0])], digits, QUICK)


def test_a_sibling_of_another_architecture_is_refused(trained: list[nn.Module], digits: ClassificationData) -> None:
    with pytest.raises(LandscapeError, match=r"another architecture: 0\.weight \(16, 64\) and absent"):
        measure([trained[0], nn.Sequential(nn.Flatten(), nn.Linear(64, 10))], digits, QUICK)


def test_a_sibling_nearer_than_a_training_of_its_own_is_flagged(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    near = copy.deepcopy(trained[0])
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))

    assert "sibling_too_near" in measure([trained[0], near], digits, QUICK).flags
    assert "sibling_too_near" not in measure(trained[:2], digits, QUICK).flags


def test_one_class_only_has_no_chance_error() -> None:
    data = data_for("mlp")
    one = ClassificationData(Samples(data.inputs, torch.zeros_like(data.targets)), None, CLASSES)
    found = measure([build("mlp"), build("mlp", 1)], one, QUICK)

    assert "single_class" in found.flags
    for name in (
        "train_error_over_chance",
        "train_loss_over_chance",
        "weight_noise_loss_over_chance",
        "connectivity_barrier_over_chance",
    ):
        assert "one class" in reasons(found)[name]
    assert "connectivity_barrier_percent" in found.metrics


def test_one_sample_is_measured_as_far_as_it_goes() -> None:
    found = measure(
        [build("mlp"), build("mlp", 1)], ClassificationData(data_for("mlp", samples=1), None, CLASSES), QUICK
    )

    assert "CKA of 1 samples" in reasons(found)["cka"]
    assert value(found, "train_loss") > 0
    assert value(found, "hessian_trace") > 0
    assert set(found.metrics) | set(reasons(found)) == set(METRICS)


def test_a_network_at_zero_with_zero_gradient() -> None:
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    balanced = Samples(inputs_for("mlp", 36), torch.arange(36) % CLASSES)
    found = measure([model, build("mlp")], ClassificationData(balanced, None, CLASSES), QUICK, initial_norm_squared=1.0)

    assert value(found, "gradient_norm_squared_per_parameter") == pytest.approx(0.0, abs=1e-14)
    assert value(found, "train_loss") == pytest.approx(math.log(CLASSES))
    assert reasons(found)["log_weight_growth"] == "every weight is zero; expected a network with weights"
    assert "the first network's features are constant" in reasons(found)["cka"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_infinite_losses_are_not_measured_rather_than_numbers() -> None:
    model = build("mlp")
    with torch.no_grad():
        model[0].weight.mul_(1e30)
        model[2].weight.mul_(1e30)
    found = measure([model, build("mlp")], ClassificationData(data_for("mlp"), None, CLASSES), QUICK)

    assert "infinite values in the logits of 37 of 37" in reasons(found)["train_loss"]
    for name in ("hessian_top_eigenvalue", "hessian_trace", "gradient_norm_squared_per_parameter"):
        assert reasons(found)[name] == reasons(found)["train_loss"]
    assert set(found.metrics) | set(reasons(found)) == set(METRICS)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_loss_function_alone_measures_what_needs_no_logits(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    small = ClassificationData(digits.train.subset(100, 0), digits.test, 10)
    bare = measure(trained[:2], small, QUICK, task=loss_fn, initial_norm_squared=1.0)
    full = measure(trained[:2], small, QUICK, initial_norm_squared=1.0)

    for name in (
        "train_error_percent",
        "test_error_percent",
        "train_error_over_chance",
        "train_loss_over_chance",
        *FEATURE_METRICS,
        "weight_noise_loss_over_chance",
        "cka",
        "linear_barrier_percent",
    ):
        assert "only a loss function is known" in reasons(bare)[name]
    for name in ("train_loss", "test_loss", "hessian_top_eigenvalue", "log_weight_growth", "parameter_distance"):
        assert value(bare, name) == pytest.approx(value(full, name), rel=1e-3)
    trace = bare.metrics["hessian_trace"]
    assert abs(trace.value - value(full, "hessian_trace")) < 4 * trace.standard_error
    assert bare.series["trace"]["method"] == "hutchinson"


def test_a_task_with_label_smoothing(trained: list[nn.Module], digits: ClassificationData) -> None:
    found = measure(trained[:1], digits, QUICK, task=Task(10, label_smoothing=0.1))
    logits = trained[0].eval()(digits.train.inputs).detach()
    expected = nn.functional.cross_entropy(logits, digits.train.targets, label_smoothing=0.1).item()
    assert value(found, "train_loss") == pytest.approx(expected, rel=1e-5)


class Bag(nn.Module):
    """Has no double backward."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 5, mode="max")
        self.head = nn.Linear(5, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.bag(tokens))


def test_a_layer_without_double_backward_is_measured_by_differences_and_said_so() -> None:
    tokens = torch.randint(9, (40, 3))
    found = measure([Bag(), Bag()], ClassificationData(Samples(tokens, torch.arange(40) % 4), None, CLASSES), QUICK)

    assert "finite_difference_products" in found.flags
    assert "hessian_top_eigenvalue" in found.metrics
    assert "cannot be mixed" in reasons(found)["cka_mixup"]
    assert {"train_loss", "gradient_norm_squared_per_parameter", "cka", "connectivity_peak_percent"} <= set(
        found.metrics
    )


def test_pyhessian_as_the_back_end(trained: list[nn.Module], digits: ClassificationData) -> None:
    theirs = measure(trained[:1], digits, Protocol(backend="pyhessian"))
    ours = measure(trained[:1], digits, QUICK)

    assert value(theirs, "hessian_top_eigenvalue") == pytest.approx(value(ours, "hessian_top_eigenvalue"), rel=0.02)
    assert value(theirs, "hessian_top_eigenvalue_magnitude") == value(theirs, "hessian_top_eigenvalue")
    trace = theirs.metrics["hessian_trace"]
    assert abs(trace.value - value(ours, "hessian_trace")) < 3 * trace.standard_error
    assert "largest magnitude only" in reasons(theirs)["hessian_smallest_eigenvalue"]


def test_progress_names_every_stage_from_start_to_end(trained: list[nn.Module], digits: ClassificationData) -> None:
    seen: dict[str, list[float]] = {}
    measure(
        trained[:2], digits, QUICK, fresh=digits_mlp, progress=lambda s, share: seen.setdefault(s, []).append(share)
    )

    assert list(seen) == [
        "loss and gradient",
        "features",
        "weight noise",
        "test",
        "weight growth",
        "eigenvalues",
        "density",
        "trace",
        "similarity",
        "similarity on mixtures",
        "linear path",
        "curve",
    ]
    for shares in seen.values():
        assert shares[0] == 0.0
        assert shares[-1] == 1.0
        assert shares == sorted(shares)
    assert len(seen["curve"]) > 10


def test_cost_covers_every_part(full: Measurement) -> None:
    # the curve's training; the Hessian: 20 products, 2 each on 640 samples
    least = Protocol().curve_steps * Protocol().curve_batch_size + 20 * 2 * 640
    assert least < full.cost.sample_gradients < 2 * least
    assert full.cost.seconds > 0


def test_features_and_weight_noise_cost_ten_forward_passes_of_512_samples(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    objective = Objective(trained[0], digits.train, Task(10))
    ledger = Ledger(640)
    measure_features(ledger, objective, 640)
    measure_weight_noise(ledger, objective, 0, 1.0)

    assert set(ledger.metrics) == {*FEATURE_METRICS, "weight_noise_loss_over_chance"}
    assert objective.sample_gradients == pytest.approx(10 * 512 / 3)


def test_what_cannot_be_asked() -> None:
    data = ClassificationData(data_for("mlp"), None, CLASSES)
    with pytest.raises(LandscapeError, match="no model was given"):
        measure([], data)
    with pytest.raises(LandscapeError, match="initial_norm_squared is 0"):
        measure([mlp()], data, initial_norm_squared=0.0)
