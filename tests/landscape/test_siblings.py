"""One pass over the data for a network and all its siblings, and the errors of what it gives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch
from conftest import digits_mlp, train
from small_networks import CLASSES, build, data_for, inputs_for
from torch import Tensor, nn

from landscape import (
    METRICS,
    PAIR_METRICS,
    ClassificationData,
    Execution,
    LandscapeError,
    Objective,
    Protocol,
    Samples,
    Task,
    linear_cka,
    mixup,
)
from landscape.connectivity import BezierCurve, Pair, Path, pair_gradients
from landscape.ledger import Ledger, Progress
from landscape.siblings import measure_siblings
from landscape.similarity import StreamingCKA, percent_error

QUICK = Protocol(curve_steps=5)
SIMILARITY = ("disagreement_percent", "cka", "cka_mixup")


def objectives(models: Sequence[nn.Module], samples: Samples, classes: int, execution: Execution) -> list[Objective]:
    first = Objective(models[0], samples, Task(classes), execution=execution)
    return [first, *(first.of(model) for model in models[1:])]


def ledger_of(each: Sequence[Objective], available: int, progress: Progress | None = None) -> Ledger:
    ledger = Ledger(each[0].samples, progress)
    measure_siblings(ledger, each[0], each[1:], QUICK, chance=90.0, available=available)
    return ledger


def measured(
    models: Sequence[nn.Module],
    samples: Samples,
    classes: int = 10,
    execution: Execution | None = None,
    available: int | None = None,
) -> Ledger:
    execution = execution or Execution(dtype="float64")
    return ledger_of(objectives(models, samples, classes, execution), available or len(samples))


def reasons(ledger: Ledger) -> dict[str, str]:
    """Of every pair metric without a value."""
    ledger.skip([name for name in METRICS if name not in PAIR_METRICS], "not asked for")
    return {item.metric: item.reason for item in ledger.not_measured if item.metric in PAIR_METRICS}


@pytest.fixture(scope="module")
def short(digits: ClassificationData) -> list[nn.Module]:
    """Three trainings that do not yet agree everywhere."""
    return [train(digits_mlp, digits.train, seed, steps=100) for seed in range(3)]


@pytest.fixture(scope="module")
def alone(short: list[nn.Module], digits: ClassificationData) -> list[Ledger]:
    """The first network with each of the two others."""
    return [measured([short[0], other], digits.train) for other in short[1:]]


def test_similarity_is_that_of_all_outputs_at_once(
    alone: list[Ledger], short: list[nn.Module], digits: ClassificationData
) -> None:
    inputs = digits.train.inputs
    for ledger, other in zip(alone, short[1:], strict=True):
        models = [copy.deepcopy(model).double().eval() for model in (short[0], other)]
        plain = [model(inputs.double()).detach() for model in models]
        mixed = [model(mixup(inputs.double(), 16.0, seed=0)).detach() for model in models]
        differ = int((plain[0].argmax(1) != plain[1].argmax(1)).sum())

        assert ledger.metrics["cka"].value == pytest.approx(linear_cka(*(z.softmax(1) for z in plain)), rel=1e-12)
        assert ledger.metrics["cka_mixup"].value == pytest.approx(linear_cka(*(z.softmax(1) for z in mixed)), rel=1e-12)
        assert ledger.metrics["disagreement_percent"].value == 100 * differ / 640
        assert differ > 0


def test_several_siblings_give_the_mean_of_the_pairs_and_its_standard_error(
    alone: list[Ledger], short: list[nn.Module], digits: ClassificationData
) -> None:
    both = measured(short, digits.train, available=6400)  # the spread over the siblings is the error told

    assert set(both.metrics) == set(PAIR_METRICS)
    for name in PAIR_METRICS:
        values = [ledger.metrics[name].value for ledger in alone]
        assert both.metrics[name].value == pytest.approx(fmean(values), rel=1e-12), name
        assert both.metrics[name].standard_error == pytest.approx(stdev(values) / math.sqrt(2), rel=1e-9), name
    assert both.series == alone[0].series


@pytest.mark.parametrize("batch_size", [1, 100, 640])
def test_the_micro_batch_moves_the_last_digits_only(
    alone: list[Ledger], short: list[nn.Module], digits: ClassificationData, batch_size: int
) -> None:
    each = objectives(short[:2], digits.train, 10, Execution(dtype="float64", batch_size=batch_size))
    ledger = Ledger(640)
    measure_siblings(ledger, each[0], each[1:], replace(QUICK, curve_points=5, linear_points=3), 90.0, 640)
    for name in SIMILARITY:
        assert ledger.metrics[name].value == pytest.approx(alone[0].metrics[name].value, rel=1e-12), name


def test_all_samples_leave_no_error(alone: list[Ledger]) -> None:
    for name in PAIR_METRICS:
        assert alone[0].metrics[name].standard_error == 0, name


def test_a_subset_leaves_the_error_of_its_samples(
    alone: list[Ledger], short: list[nn.Module], digits: ClassificationData
) -> None:
    found = measured(short[:2], digits.train, available=2560).metrics
    finite = math.sqrt(3 / 4)
    inputs = digits.train.inputs.double()
    probabilities = [copy.deepcopy(m).double().eval()(inputs).detach().softmax(1) for m in short[:2]]
    cka = StreamingCKA(640)
    cka.add(probabilities)

    assert {name: value.value for name, value in found.items()} == {
        name: value.value for name, value in alone[0].metrics.items()
    }
    error = cka.results()[0].standard_error
    assert found["cka"].standard_error == pytest.approx(finite * error, rel=1e-9)
    assert 0.001 < found["cka_mixup"].standard_error < 0.05
    share = found["disagreement_percent"].value / 100
    expected = finite * 100 * math.sqrt(share * (1 - share) / 640)
    assert found["disagreement_percent"].standard_error == pytest.approx(expected)
    peak = found["connectivity_peak_percent"]
    assert 0 < peak.standard_error == pytest.approx(finite * percent_error(peak.value, 640))
    assert found["connectivity_barrier_percent"].standard_error == peak.standard_error
    assert found["connectivity_barrier_over_chance"].standard_error == pytest.approx(peak.standard_error / 90)
    line = alone[0].series["linear_path"]["error_percent"][1:-1]
    expected = finite * max(percent_error(error, 640) for error in line)
    assert found["linear_barrier_percent"].standard_error == pytest.approx(expected)
    assert found["parameter_distance"].standard_error == 0
    assert found["parameter_distance"].samples == 0
    assert found["cka"].samples == 640


def test_paths_of_fewer_samples_than_there_are_have_an_error_of_their_own() -> None:
    found = measured([build("mlp"), build("mlp", 1)], data_for("mlp", samples=3000), CLASSES).metrics
    peak, finite = found["connectivity_peak_percent"], math.sqrt(1 - Protocol().path_samples / 3000)

    assert found["cka"].samples == 3000
    assert found["cka"].standard_error == 0
    assert peak.samples == found["linear_barrier_percent"].samples == Protocol().path_samples
    assert peak.standard_error == pytest.approx(finite * percent_error(peak.value, Protocol().path_samples))


class Counted(nn.Module):
    """Counts the samples that pass through any copy of a network."""

    def __init__(self, model: nn.Module, count: list[int]) -> None:
        super().__init__()
        self.model = model
        self.note: Callable[[int], None] = lambda samples: count.append(samples)  # shared by copies

    def forward(self, x: Tensor) -> Tensor:
        self.note(len(x))
        return self.model(x)


@pytest.mark.parametrize("siblings", [1, 2, 3])
def test_the_networks_outputs_are_computed_once_for_all_siblings(
    short: list[nn.Module], digits: ClassificationData, siblings: int
) -> None:
    counts: list[list[int]] = [[] for _ in range(siblings + 1)]
    models = [Counted(short[min(i, 2)], count) for i, count in enumerate(counts)]
    each = objectives(models, digits.train, 10, Execution())
    seen: dict[tuple[str, float], list[tuple[int, float]]] = {}

    def look(stage: str, share: float) -> None:
        state = [(sum(count), one.sample_gradients) for count, one in zip(counts, each, strict=True)]
        seen.setdefault((stage, share), state) if share == 0 else seen.update({(stage, share): state})

    ledger = Ledger(640, look)
    measure_siblings(ledger, each[0], each[1:], replace(QUICK, curve_steps=1), 90.0, 640)

    before, between = seen["similarity", 0.0], seen["similarity", 1.0]
    after = seen["similarity on mixtures", 1.0]
    for number in range(siblings + 1):
        assert between[number][0] - before[number][0] == 640, "on the samples"
        assert after[number][0] - between[number][0] == 640, "on the mixtures"
        assert after[number][1] - before[number][1] == pytest.approx(2 * 640 / 3), "a forward pass costs a third"


def test_the_cost_of_the_paths_is_counted_also_where_they_fail(
    short: list[nn.Module], digits: ClassificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = objectives(short[:2], digits.train, 10, Execution())
    ledger_of(each, 640)
    whole = each[0].sample_gradients

    def fail(pair: Pair, progress: object = None) -> BezierCurve:
        raise LandscapeError("no curve")

    monkeypatch.setattr(Pair, "fit_curve", fail)
    each = objectives(short[:2], digits.train, 10, Execution())
    ledger = ledger_of(each, 640)

    similarity = 2 * 640 / 3
    assert whole == pytest.approx(similarity + pair_gradients(QUICK, 640, batch_norm=False))
    assert each[0].sample_gradients == pytest.approx(similarity + 9 * 640 / 3)  # the straight line alone
    assert each[1].sample_gradients == pytest.approx(similarity)
    assert reasons(ledger)["connectivity_barrier_loss"] == "no curve"
    assert "linear_barrier_percent" in ledger.metrics


def test_the_series_are_those_of_the_first_sibling_or_none(
    short: list[nn.Module], digits: ClassificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, tried = Pair.fit_curve, []

    def fail_once(pair: Pair, progress: Callable[[float], None] | None = None) -> BezierCurve:
        tried.append(pair)
        if len(tried) == 1:
            raise LandscapeError("no curve to the first sibling")
        return fit(pair, progress)

    monkeypatch.setattr(Pair, "fit_curve", fail_once)
    ledger = measured(short, digits.train)

    assert set(ledger.series) == {"linear_path"}
    assert reasons(ledger)["connectivity_peak_percent"] == "no curve to the first sibling"
    assert "linear_barrier_percent" in ledger.metrics


def test_a_network_with_constant_outputs_is_named_and_costs_only_the_cka() -> None:
    still = build("mlp", 1)
    with torch.no_grad():
        still[-1].weight.zero_()
    ledger = measured([build("mlp"), build("mlp", 2), still], data_for("mlp"), CLASSES)

    for name in ("cka", "cka_mixup"):
        assert reasons(ledger)[name].startswith("the third network's features are constant over the samples")
    assert set(reasons(ledger)) == {"cka", "cka_mixup"}


def test_outputs_that_are_not_finite_have_no_answers_to_compare() -> None:
    broken = build("mlp", 1)
    with torch.no_grad():
        for layer in broken:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(1e30)
    ledger = measured([build("mlp"), broken], data_for("mlp"), CLASSES, Execution(dtype="float32"))

    for name in SIMILARITY:
        assert reasons(ledger)[name].startswith("the second network's features are not finite")
    assert "outputs along the path are not finite" in reasons(ledger)["linear_barrier_percent"]
    assert set(reasons(ledger)) == {*PAIR_METRICS} - {"parameter_distance"}


def test_a_path_that_is_not_finite_somewhere_has_no_barrier(
    short: list[nn.Module], digits: ClassificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = Pair.linear_path

    def broken(pair: Pair) -> Path:
        path = straight(pair)
        return replace(path, error_percent=(*path.error_percent[:3], math.nan, *path.error_percent[4:]))

    monkeypatch.setattr(Pair, "linear_path", broken)
    ledger = measured(short[:2], digits.train)

    assert set(reasons(ledger)) == {"linear_barrier_percent"}
    assert ledger.series["linear_path"]["error_percent"][3] is None


def test_too_few_samples_leave_the_answers_comparable() -> None:
    ledger = measured([build("mlp"), build("mlp", 1)], data_for("mlp", samples=3), CLASSES)

    for name in ("cka", "cka_mixup"):
        assert reasons(ledger)[name] == "CKA of 3 samples; expected at least 4"
    assert "disagreement_percent" in ledger.metrics


def test_where_there_can_be_no_path_the_rest_is_measured() -> None:
    models = [build("batch_norm_resnet", seed) for seed in range(2)]
    ledger = measured(models, data_for("batch_norm_resnet", samples=1), CLASSES)

    for name in ("linear_barrier_percent", "connectivity_peak_percent"):
        assert reasons(ledger)[name].startswith("BatchNorm statistics cannot be refreshed from one sample")
    assert set(ledger.metrics) == {"parameter_distance", "disagreement_percent"}


def test_tokens_are_compared_but_not_mixed() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(15, CLASSES))

    samples = Samples(torch.randint(9, (40, 3)), torch.arange(40) % CLASSES)
    ledger = measured([network(), network()], samples, CLASSES)

    assert set(reasons(ledger)) == {"cka_mixup"}
    assert "inputs of type torch.int64 cannot be mixed" in reasons(ledger)["cka_mixup"]


def test_one_class_has_no_chance_to_compare_with() -> None:
    data = data_for("mlp")
    one = Samples(data.inputs, torch.zeros_like(data.targets))
    each = objectives([build("mlp"), build("mlp", 1)], one, CLASSES, Execution())
    ledger = Ledger(len(one))
    ledger.skip(["connectivity_barrier_over_chance"], "one class only")
    measure_siblings(ledger, each[0], each[1:], QUICK, chance=0.0, available=len(one))

    assert reasons(ledger) == {"connectivity_barrier_over_chance": "one class only"}


def test_without_a_sibling_there_is_nothing_to_compare() -> None:
    ledger = measured([build("mlp")], Samples(inputs_for("mlp"), data_for("mlp").targets), CLASSES)
    assert set(reasons(ledger)) == set(PAIR_METRICS)
    assert "needs a sibling" in reasons(ledger)["cka"]
