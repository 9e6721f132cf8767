"""Transformers of Hugging Face, called by names: BERT on padded tokens, ViT on pixels; every metric, and by hand."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest
import torch
from dense_reference import dense_hessian
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from landscape import (
    METRICS,
    ClassificationData,
    Execution,
    LandscapeError,
    Measurement,
    Objective,
    Protocol,
    Samples,
    Task,
    measure,
    measure_many,
    top_eigenvalues,
    trace,
)
from landscape.features import last_features
from landscape.protocol import PAIR_METRICS, TEST_METRICS
from landscape.pyhessian_backend import pyhessian_estimate
from landscape.similarity import Mixtures, mixup

SAMPLES, LENGTH, WORDS, CLASSES = 24, 7, 12, 3
KINDS = ("bert eager", "bert sdpa", "vit sdpa")
QUICK = Protocol(
    curve_steps=10, curve_batch_size=16, density_probes=1, fresh_instances=2, curve_points=5, precision=0.5
)
DOUBLE = Execution(dtype="float64", batch_size=10)


def network(kind: str, seed: int = 0) -> nn.Module:
    """In training mode, dropout on, no parameter at a special value."""
    name, attention = kind.split()
    shape = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "num_labels": CLASSES,
        "attn_implementation": attention,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "bert":
            model = BertForSequenceClassification(
                BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH + 2, **shape)
            )
        else:
            model = ViTForImageClassification(ViTConfig(image_size=4, patch_size=2, num_channels=1, **shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.train()


def samples_of(kind: str) -> Samples:
    """Texts of two to seven tokens, padded; or pictures."""
    generator = torch.Generator().manual_seed(7)
    targets = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    if kind.startswith("vit"):
        return Samples({"pixel_values": torch.randn(SAMPLES, 1, 4, 4, generator=generator)}, targets)
    mask = (torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (SAMPLES, 1), generator=generator)).long()
    ids = torch.randint(1, WORDS, (SAMPLES, LENGTH), generator=generator) * mask
    return Samples({"input_ids": ids, "attention_mask": mask}, targets)


class ByPosition(nn.Module):
    """A model called with one tensor, its other inputs held: what the dense reference takes."""

    def __init__(self, model: nn.Module, name: str, others: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.name, self.others = model, name, others

    def forward(self, x: Tensor) -> Tensor:
        return self.model(**{self.name: x}, **self.others).logits


@functools.cache
def reference(kind: str) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient (P,) and Hessian (P, P), in float64, by plain autograd."""
    samples = samples_of(kind)
    (name, x), *others = samples.inputs.items()
    model = ByPosition(network(kind), name, dict(others))
    twin = copy.deepcopy(model).double().eval()
    with sdpa_kernel(SDPBackend.MATH):
        loss = functional.cross_entropy(twin(x.double() if x.is_floating_point() else x), samples.targets)
        parts = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True, materialize_grads=True)
        hessian = dense_hessian(model, x, samples.targets)
    return float(loss.detach()), torch.cat([part.reshape(-1) for part in parts]), hessian


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_the_dense_ones_on_uneven_batches(kind: str) -> None:
    loss, gradient, hessian = reference(kind)
    spectrum = torch.linalg.eigvalsh(hessian).flip(0)
    objective = Objective(network(kind), samples_of(kind), Task(CLASSES), execution=DOUBLE)
    vector = torch.randn(len(gradient), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    estimate = trace(objective, relative_error=0.2)

    assert objective.loss_and_error().loss == pytest.approx(loss, rel=1e-10)
    torch.testing.assert_close(objective.gradient(), gradient, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(objective.hessian_vector_product(vector), hessian @ vector, rtol=1e-7, atol=1e-10)
    assert top_eigenvalues(objective, 3, tolerance=1e-8).values == pytest.approx(spectrum[:3].tolist(), rel=1e-6)
    assert abs(estimate.value - float(hessian.trace())) <= 4 * estimate.standard_error
    assert 0 < estimate.standard_error <= 0.1 * float(spectrum.abs().sum())  # eigenvalues of both signs cancel


@pytest.mark.parametrize("kind", KINDS)
def test_per_sample_gradients_are_those_of_one_sample_at_a_time(kind: str) -> None:
    """Layer rules serve nearly all parameters; of positions, which have no samples, the embedding is done again."""
    samples, twin = samples_of(kind), network(kind).double().eval()
    expected = []
    for n in range(SAMPLES):
        one = samples.at(torch.tensor([n]))
        inputs = {key: x.double() if x.is_floating_point() else x for key, x in one.inputs.items()}
        with sdpa_kernel(SDPBackend.MATH):
            loss = functional.cross_entropy(twin(**inputs).logits, one.targets)
        parts = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True, materialize_grads=True)
        expected.append(sum(float(part.square().sum()) for part in parts))

    objective = Objective(network(kind), samples, Task(CLASSES), execution=DOUBLE)
    assert objective.per_sample_gradient_squares().tolist() == pytest.approx(expected, rel=1e-8)
    assert objective.norms.route == "mixed"


@functools.cache
def measured(kind: str, dtype: str) -> Measurement:
    """A network and its sibling, with test data and fresh instances."""
    samples = samples_of(kind)
    data = ClassificationData(samples, samples.at(torch.arange(0, SAMPLES, 2)), CLASSES)
    models = [network(kind), network(kind, 1)]
    return measure(models, data, QUICK, Execution(dtype=dtype, batch_size=10), fresh=lambda: network(kind, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_metric_of_a_pair_has_a_value(kind: str, dtype: str) -> None:
    found = measured(kind, dtype)
    missing = {item.metric: item.reason for item in found.not_measured}

    assert set(found.metrics) | set(missing) == set(METRICS)
    assert all(math.isfinite(item.value) for item in found.metrics.values())
    assert missing == (
        {}
        if kind.startswith("vit")
        else {"cka_mixup": "inputs of several tensors cannot be mixed; expected one floating tensor"}
    )
    assert found.flags == ()


@pytest.mark.parametrize("kind", KINDS)
def test_measured_values_are_the_dense_ones(kind: str) -> None:
    loss, gradient, hessian = reference(kind)
    spectrum = torch.linalg.eigvalsh(hessian)
    for dtype, tolerance in (("float32", 1e-3), ("float64", 1e-6)):
        value = {name: item.value for name, item in measured(kind, dtype).metrics.items()}
        assert value["parameter_count"] == len(gradient)
        assert value["train_loss"] == pytest.approx(loss, rel=1e-6)
        squares = float(gradient.square().sum()) / len(gradient)
        assert value["gradient_norm_squared_per_parameter"] == pytest.approx(squares, rel=tolerance)
        assert value["hessian_top_eigenvalue"] == pytest.approx(float(spectrum[-1]), rel=3e-3)
        estimate = measured(kind, dtype).metrics["hessian_trace"]
        assert abs(estimate.value - float(hessian.trace())) <= 4 * estimate.standard_error


def test_both_ways_to_attend_measure_the_same() -> None:
    eager, fused = measured("bert eager", "float64").metrics, measured("bert sdpa", "float64").metrics
    for name, item in eager.items():
        if name != "hessian_smallest_eigenvalue":  # not iterated to tolerance
            assert fused[name].value == pytest.approx(item.value, rel=1e-6, abs=1e-8), name


def test_features_are_what_the_classifier_reads() -> None:
    """Of BERT the pooled first token, behind a dropout that is off; of ViT the first token of the last layer norm."""
    text, pictures = samples_of("bert sdpa"), samples_of("vit sdpa")
    bert, vit = network("bert sdpa").double().eval(), network("vit sdpa").double().eval()
    with torch.no_grad():
        pooled = bert.bert(**text.inputs).pooler_output
        first = vit.vit(pictures.inputs["pixel_values"].double()).last_hidden_state[:, 0]
    for model, samples, expected in ((bert, text, pooled), (vit, pictures, first)):
        found = last_features(Objective(model, samples, Task(CLASSES), execution=DOUBLE))
        torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)


def test_what_stands_under_the_padding_changes_nothing_and_the_mask_does() -> None:
    samples = samples_of("bert sdpa")
    ids, mask = samples.inputs["input_ids"], samples.inputs["attention_mask"]
    other = torch.where(mask == 1, ids, (ids + 5) % WORDS)
    assert not torch.equal(other, ids)

    def derivatives(inputs: dict[str, Tensor]) -> tuple[float, Tensor, Tensor]:
        objective = Objective(network("bert sdpa"), Samples(inputs, samples.targets), Task(CLASSES), execution=DOUBLE)
        vector = torch.ones(objective.parameter_count, dtype=torch.float64)
        return objective.loss_and_error().loss, objective.gradient(), objective.hessian_vector_product(vector)

    right = derivatives({"input_ids": ids, "attention_mask": mask})
    padded = derivatives({"input_ids": other, "attention_mask": mask})
    assert padded[0] == pytest.approx(right[0], rel=1e-12)
    for found, expected in zip(padded[1:], right[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    without = derivatives({"input_ids": ids})
    assert abs(without[0] - right[0]) > 1e-4
    assert float((without[1] - right[1]).norm()) > 0.01 * float(right[1].norm())


def test_parameters_that_no_logit_depends_on_have_zero_gradients_and_break_nothing() -> None:
    """Positions past the longest text, the other token type; and a pooler that the classifier passes by."""

    class PassedBy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network("bert sdpa")

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.inner.classifier(self.inner.bert(input_ids, attention_mask).last_hidden_state[:, 0])

    samples = samples_of("bert sdpa")
    objective = Objective(PassedBy(), samples, Task(CLASSES), execution=DOUBLE)
    gradient = dict(zip(objective.network.names, objective.network.split(objective.gradient()), strict=True))
    assert not gradient["inner.bert.pooler.dense.weight"].any()
    assert not gradient["inner.bert.embeddings.position_embeddings.weight"][LENGTH:].any()
    assert not gradient["inner.bert.embeddings.token_type_embeddings.weight"][1].any()
    assert gradient["inner.bert.embeddings.token_type_embeddings.weight"][0].any()

    found = measure([PassedBy()], ClassificationData(samples, None, CLASSES), QUICK, fresh=PassedBy)
    assert {item.metric for item in found.not_measured} == {*PAIR_METRICS, *TEST_METRICS}
    with pytest.raises(LandscapeError, match=r"PyHessian fails on this network .*; expected backend='native'"):
        pyhessian_estimate(objective, Protocol())


def test_many_pairs_at_once_measure_what_one_does() -> None:
    samples = samples_of("bert sdpa")
    data = ClassificationData(samples, samples.at(torch.arange(0, SAMPLES, 2)), CLASSES)
    models = [network("bert sdpa", seed) for seed in range(3)]
    execution = Execution(dtype="float64", batch_size=10)
    many = measure_many([models[:2], models[1:]], data, QUICK, execution, fresh=lambda: network("bert sdpa", 2))
    assert many[0].metrics == measured("bert sdpa", "float64").metrics
    assert many[1].metrics["train_loss"] != many[0].metrics["train_loss"]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_pyhessian_takes_named_inputs(kind: str) -> None:
    spectrum = torch.linalg.eigvalsh(reference(kind)[2])
    objective = Objective(network(kind), samples_of(kind), Task(CLASSES), execution=DOUBLE)
    found = pyhessian_estimate(objective, Protocol(eigenvalue_tolerance=1e-5, precision=0.5))
    assert found.eigenvalue == pytest.approx(float(spectrum[spectrum.abs().argmax()]), rel=1e-2)
    assert abs(found.trace - float(reference(kind)[2].trace())) <= 4 * found.trace_standard_error


def test_one_named_tensor_is_mixed_like_a_tensor() -> None:
    pixels = samples_of("vit sdpa").inputs["pixel_values"]
    plain = mixup(pixels, 16.0, seed=3)
    for held in ({"pixel_values": pixels, "interpolate_pos_encoding": False}, (pixels,)):
        mixed: Any = mixup(held, 16.0, seed=3)
        assert torch.equal(mixed["pixel_values"] if isinstance(held, dict) else mixed[0], plain)
        assert type(mixed) is type(held)
    part = Mixtures({"pixel_values": pixels}, 16.0, seed=3).at(torch.tensor([4, 2]))
    assert torch.equal(part["pixel_values"], plain[[4, 2]])
    with pytest.raises(LandscapeError, match=r"inputs of type torch\.int64 cannot be mixed"):
        mixup({"input_ids": torch.ones(6, 2, dtype=torch.int64)}, 16.0, seed=0)
