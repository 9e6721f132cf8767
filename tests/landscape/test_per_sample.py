"""Per-sample gradient norms against one backward pass a sample: which route is taken, and that every one is right."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from one_backward_a_sample import DOUBLE, directions_for, measured, plain_squares
from small_networks import ARCHITECTURES, CLASSES, build, data_for, inputs_for, mlp
from torch import Tensor, nn
from unruly_networks import (
    Cells,
    Experts,
    FunctionalUse,
    Gated,
    InPlaceOnView,
    LooksAtValues,
    Pieces,
    Positions,
    Recurrent,
    SamplesSecond,
    Scaled,
    Tied,
    Traced,
    TwoInputs,
    Unused,
    WholeTied,
    prelu,
    weight_norm,
)

from landscape import Execution, LandscapeError, Objective, Samples, Task
from landscape.layer_squares import RULES, Rule
from landscape.network import Network, differentiable
from landscape.per_sample import PerSampleNorms

SAMPLES = 9


def normal(*shape: int, samples: int = SAMPLES) -> Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(11))


def check(model: nn.Module, inputs: Any, expected_route: str, classes: int = CLASSES) -> None:
    samples = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    directions = directions_for(samples, classes)
    found, route = measured(model, inputs, directions)
    assert route == expected_route
    torch.testing.assert_close(found.squares, plain_squares(model, inputs, directions), rtol=1e-9, atol=0)


@pytest.mark.parametrize("route", ["layers", "vectorised", "single"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_route_gives_the_same_norms_logits_and_gradient(name: str, route: str) -> None:
    model, inputs = build(name), inputs_for(name)
    directions = directions_for(len(inputs), CLASSES)
    found, taken = measured(model, inputs, directions, route)

    assert taken == route
    torch.testing.assert_close(found.squares, plain_squares(model, inputs, directions), rtol=1e-9, atol=0)
    network = Network(model, DOUBLE)
    logits = network(inputs.double())
    assert torch.equal(found.logits, logits)
    assert not found.logits.requires_grad
    torch.testing.assert_close(found.gradient, network.gradient(logits, [directions[0]]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "inputs", "route"),
    [
        (Unused, normal(6), "layers"),
        (InPlaceOnView, normal(5, 6), "layers"),
        (prelu, normal(6), "mixed"),
        (weight_norm, normal(6), "mixed"),
        (Scaled, normal(6), "mixed"),
        (Gated, normal(6), "mixed"),
        (Positions, normal(5, 6), "mixed"),
        (FunctionalUse, normal(6), "mixed"),
        (Tied, torch.arange(SAMPLES * 3).view(SAMPLES, 3) % 7, "mixed"),
        (lambda: Recurrent(nn.GRU(6, 5, batch_first=True), state=True), normal(5, 6), "mixed"),
        (lambda: Recurrent(nn.GRU(6, 5), state=False), normal(5, 6), "mixed"),
        (lambda: Recurrent(nn.RNN(6, 5, 2, batch_first=True), state=False), normal(5, 6), "mixed"),
        (lambda: Recurrent(nn.LSTM(6, 5, proj_size=3, batch_first=True), state=True), normal(5, 6), "mixed"),
        (lambda: Recurrent(nn.LSTM(6, 5, 2, bidirectional=True), state=True), normal(5, 6), "mixed"),
        (lambda: Cells(nn.GRUCell), normal(5, 6), "mixed"),
        (lambda: Cells(nn.LSTMCell), normal(5, 6), "mixed"),
        (SamplesSecond, normal(5, 6), "mixed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_no_rule_covers_is_computed_again_for_each_sample(
    make: Callable[[], nn.Module], inputs: Tensor, route: str
) -> None:
    check(make(), inputs, route, classes=7 if make is Tied else CLASSES)


def test_where_more_than_half_is_shared_the_whole_network_is_vectorised() -> None:
    check(WholeTied(), normal(6), "vectorised")


def test_where_nothing_can_be_vectorised_each_sample_has_a_backward_pass() -> None:
    check(LooksAtValues(), normal(6), "single")


@pytest.mark.parametrize("route", ["mixed", "vectorised", "single"])
@pytest.mark.parametrize("named", [True, False])
def test_inputs_of_several_tensors(named: bool, route: str) -> None:
    class Logits(TwoInputs):
        def forward(self, image: Tensor, features: Tensor, shift: float = 0.0) -> Tensor:
            return super().forward(image, features, shift)["logits"]

    parts = {"features": normal(6), "image": normal(1, 4, 5), "shift": 0.5}
    inputs = parts if named else (parts["image"], parts["features"], 0.5)
    model = TwoInputs()
    plain = Logits()
    plain.load_state_dict(model.state_dict())
    directions = directions_for(SAMPLES, CLASSES)
    found, taken = measured(model, inputs, directions, route)

    assert taken == route
    torch.testing.assert_close(found.squares, plain_squares(plain, inputs, directions), rtol=1e-9, atol=0)


def test_a_wrong_rule_is_found_out_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RULES[nn.LayerNorm]

    def half_right(module: nn.Module, calls: Any, names: frozenset[str]) -> Tensor:
        return right.squares(module, calls, names) + (right.squares(module, calls, frozenset({"bias"})) if names else 0)

    monkeypatch.setitem(RULES, nn.LayerNorm, Rule(half_right))
    check(build("layer_norm_mlp"), inputs_for("layer_norm_mlp"), "mixed")


def test_a_rule_that_fails_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Tensor:
        raise ValueError("no such layer")

    monkeypatch.setitem(RULES, nn.Conv2d, Rule(fails))
    check(build("cnn"), inputs_for("cnn"), "mixed")


def test_a_parameter_first_used_in_a_later_batch_is_not_overlooked() -> None:
    model, inputs = Experts(), normal(6).abs()
    inputs[:4, 0] *= -1
    norms = PerSampleNorms(Network(model, DOUBLE), Task(CLASSES))
    for part, route in ((inputs[:4], "layers"), (inputs, "single")):
        directions = directions_for(len(part), CLASSES)
        with differentiable():
            found = norms.squares(part.double(), lambda _, directions=directions: directions)
        torch.testing.assert_close(found, plain_squares(model, part, directions), rtol=1e-9, atol=0)
        assert norms.route == route


@pytest.mark.parametrize("make", [Positions, Gated, lambda: Recurrent(nn.GRU(6, 5), state=False)])
def test_batches_of_any_size_after_one_another(make: Callable[[], nn.Module]) -> None:
    """As many samples as tokens, features or layers, or one only, are no reason to take one for the other."""
    model = make()
    inputs = normal(6) if make is Gated else normal(5, 6)
    norms = PerSampleNorms(Network(model, DOUBLE), Task(CLASSES))
    for size in (1, 6, 1, 5, 2, 9):
        part = inputs[:size]
        directions = directions_for(size, CLASSES)
        with differentiable():
            found = norms.squares(part.double(), lambda _, directions=directions: directions)
        torch.testing.assert_close(found, plain_squares(model, part, directions), rtol=1e-9, atol=0)
    assert norms.route == "mixed"


@pytest.mark.parametrize("make", [lambda: build("cnn"), Scaled], ids=["cnn", "scaled"])
def test_large_intermediates_are_computed_in_pieces(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    inputs = normal(6) if isinstance(model, Scaled) else inputs_for("cnn")
    directions = directions_for(len(inputs), CLASSES)
    whole = {route: measured(model, inputs, directions, route)[0].squares for route in ("layers", "vectorised")}
    for name in ("CHUNK_ELEMENTS", "CACHED_ELEMENTS", "GROUPED_ELEMENTS"):
        monkeypatch.setattr(f"landscape.convolution_squares.{name}", 200)
    monkeypatch.setattr("landscape.module_squares.CHUNK_ELEMENTS", 500)

    for route, expected in whole.items():
        found = measured(model, inputs, directions, route)[0].squares
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["batch_norm_resnet", "cnn", "mlp"])
def test_single_precision(name: str) -> None:
    model, inputs = build(name), inputs_for(name)
    directions = directions_for(len(inputs), CLASSES)
    norms = PerSampleNorms(Network(model, Execution()), Task(CLASSES))
    with differentiable():
        found = norms.squares(inputs, lambda logits: directions.to(logits))

    assert norms.route == "layers"
    torch.testing.assert_close(found.double(), plain_squares(model, inputs, directions), rtol=1e-4, atol=0)


def test_the_graph_is_freed() -> None:
    """At once, without the garbage collector, although hooks that know their graph make a circle."""
    traced = Traced()
    network = Network(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, CLASSES)), DOUBLE)
    network.module.insert(1, traced)
    norms = PerSampleNorms(network, Task(CLASSES))
    gc.collect()
    gc.disable()
    try:
        with differentiable():
            norms.first_order(normal(6).double(), lambda logits: logits[None].expand(2, -1, -1), torch.ones_like)
        assert norms.route == "layers"
        assert traced.nodes
        assert all(node() is None for node in traced.nodes)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "make", [Scaled, lambda: Recurrent(nn.LSTM(6, 5, batch_first=True), state=True), LooksAtValues]
)
def test_the_network_and_global_state_are_left_as_they_were(make: Callable[[], nn.Module]) -> None:
    model = make()
    network = Network(model, DOUBLE)
    norms = PerSampleNorms(network, Task(CLASSES))
    flat, random = network.flat.clone(), torch.random.get_rng_state()
    state = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    inputs = normal(5, 6) if isinstance(model, Recurrent) else normal(6)
    with differentiable():
        norms.squares(inputs.double(), lambda logits: torch.ones(2, *logits.shape, dtype=logits.dtype))

    assert torch.equal(network.flat, flat)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert state == (torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled())
    for module in network.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter, name in zip(network.parameters, network.names, strict=True):
        assert parameter.grad is None
        assert not parameter._backward_hooks
        assert network.module.get_parameter(name) is parameter


@pytest.mark.parametrize(("block", "route"), [(nn.Linear(6, 6), "layers"), (nn.PReLU(6), "mixed")])
def test_layers_that_see_a_part_of_a_larger_batch(block: nn.Module, route: str) -> None:
    model = Pieces(block)
    norms = PerSampleNorms(Network(model, DOUBLE), Task(CLASSES))
    for size, expected_route in ((4, route), (9, "vectorised")):
        part = normal(6, samples=size)
        directions = directions_for(size, CLASSES)
        with differentiable():
            found = norms.squares(part.double(), lambda _, directions=directions: directions)
        torch.testing.assert_close(found, plain_squares(model, part, directions), rtol=1e-9, atol=0)
        assert norms.route == expected_route


def test_cotangents_are_asked_for_once() -> None:
    norms = PerSampleNorms(Network(mlp(), DOUBLE), Task(CLASSES))
    asked = []

    def cotangents(logits: Tensor) -> Tensor:
        asked.append(logits)
        return torch.ones(1, *logits.shape, dtype=logits.dtype)

    with differentiable():
        norms.squares(normal(6).double(), cotangents)
    assert len(asked) == 1
    assert not asked[0].requires_grad


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(LandscapeError, match="the route is 'fast'; expected one of layers, mixed"):
        PerSampleNorms(Network(mlp(), DOUBLE), Task(CLASSES), route="fast")


def test_gradient_norms_of_each_samples_own_loss() -> None:
    data = data_for("batch_norm_resnet")
    model = build("batch_norm_resnet")
    found = Objective(model, data, Task(CLASSES), execution=DOUBLE).per_sample_gradient_squares()

    for n in (0, 16, 36):
        one = Samples(data.inputs[n : n + 1], data.targets[n : n + 1])
        gradient = Objective(model, one, Task(CLASSES), execution=DOUBLE).gradient()
        assert float(found[n]) == pytest.approx(float(gradient.square().sum()), rel=1e-9)
