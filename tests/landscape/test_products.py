"""Products with second derivatives: graphs kept or rebuilt, pieces of batches, many rows, layers without a second."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dense_reference import dense_hessian
from small_networks import CLASSES, SAMPLES, build, data_for
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from landscape import Execution, LandscapeError, Objective, Samples, Task
from landscape.network import Network, differentiable
from landscape.products import FLOOR, STEP, SecondDerivative

DOUBLE = Execution(dtype="float64", batch_size=16)
WORDS, LENGTH = 11, 5


class Cube(torch.autograd.Function):
    """x^3, whose gradient torch is told not to differentiate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class Plain(nn.Module):
    """x^3 by differentiable operations."""

    def forward(self, x: Tensor) -> Tensor:
        return x**3


class Once(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Cube.apply(x)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Counted(nn.Module):
    """Tells how many samples each forward pass had, and keeps weak hold of what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, CLASSES)
        self.sizes: list[int] = []
        self.made: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        hidden = self.linear(x).tanh()
        self.made.append(weakref.ref(hidden))
        return hidden**2


def second_derivative(model: nn.Module, data: Samples, execution: Execution, **options: Any) -> SecondDerivative:
    network, task = Network(model, execution), Task(CLASSES)

    def scalar(batch: tuple[Tensor, Tensor]) -> Tensor:
        return task.losses(task.logits(network(batch[0])), batch[1]).sum() / len(data)

    return SecondDerivative(
        network, lambda: iter([network.place(b) for b in data.batches(execution.batch_size)]), scalar, **options
    )


def rows(count: int, size: int, seed: int = 5) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def words(seed: int = 2) -> tuple[nn.Module, nn.Module, Samples]:
    """Bags of words embedded and averaged by one layer without a second derivative, or by two with."""
    torch.manual_seed(seed)
    bag, linear = nn.EmbeddingBag(WORDS, 3, mode="mean"), nn.Linear(3, CLASSES)
    embedding = nn.Embedding(WORDS, 3)
    embedding.weight.data.copy_(bag.weight.data)
    tokens, targets = torch.randint(WORDS, (SAMPLES, LENGTH)), torch.randint(CLASSES, (SAMPLES,))
    twin = nn.Sequential(embedding, Mean(), nn.Tanh(), linear)
    return nn.Sequential(bag, nn.Tanh(), linear), twin, Samples(tokens, targets)


@pytest.mark.parametrize("memory_bytes", [0, 40_000, 2**40])
@pytest.mark.parametrize("name", ["mlp", "cnn", "layer_norm_mlp"])
def test_products_match_the_dense_hessian_whatever_the_memory(name: str, memory_bytes: int) -> None:
    data = data_for(name)
    product = second_derivative(build(name), data, DOUBLE, memory_bytes=memory_bytes)
    dense = dense_hessian(build(name), data.inputs, data.targets)
    vectors = rows(3, len(dense))

    for _ in range(2):  # graphs built, then kept or built again
        with differentiable():
            assert torch.allclose(product.products(vectors), vectors @ dense, atol=1e-12)
            assert torch.allclose(product(vectors[0]), dense @ vectors[0], atol=1e-12)
    assert product.method == "double_backward"


@pytest.mark.parametrize("memory_bytes", [0, 40_000, 2**40])
@pytest.mark.parametrize("name", ["mlp", "batch_norm_resnet", "group_norm_resnet"])
def test_rows_taken_at_once_give_the_products_of_each(name: str, memory_bytes: int) -> None:
    product = second_derivative(build(name), data_for(name), DOUBLE, memory_bytes=memory_bytes)
    vectors = rows(5, product.network.parameter_count)

    with differentiable():
        together, apart = product.products(vectors, batched=True), product.products(vectors, batched=False)

    assert torch.allclose(together, apart, rtol=0, atol=1e-11 * float(apart.abs().max()))


def test_an_operation_that_takes_one_row_only_gets_them_one_by_one() -> None:
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x / 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            if float(gradient.detach().abs().max()) > 0:  # a value, which a batch of rows does not have
                return gradient / 2
            return torch.zeros_like(gradient)

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Halved.apply(x)

    torch.manual_seed(1)
    model, data = nn.Sequential(nn.Linear(6, CLASSES), Half()), data_for("mlp")
    product = second_derivative(model, data, DOUBLE)
    vectors = rows(3, product.network.parameter_count)

    with differentiable():
        found = product.products(vectors, batched=True)

    plain = nn.Sequential(nn.Linear(6, CLASSES))
    plain[0].load_state_dict({name: value / 2 for name, value in model[0].state_dict().items()})
    dense = dense_hessian(plain, data.inputs, data.targets) / 4
    assert torch.allclose(found, vectors @ dense, atol=1e-12)


def test_batches_are_cut_until_a_graph_fits_and_graphs_kept_only_where_all_fit() -> None:
    model, data = Counted(), data_for("mlp")
    product = second_derivative(model, data, DOUBLE, memory_bytes=2**30)
    counted, vector = product.network.module, rows(1, product.network.parameter_count)[0]
    assert isinstance(counted, Counted)
    with differentiable():
        product(vector)
        (footprint,) = product._known.footprints.values()
        probed = len(counted.sizes) - 3
        assert counted.sizes[probed:] == [16, 16, 5]
        product(vector)
        assert len(counted.sizes) == probed + 3, "the graphs were kept"

        product.release()
        product.memory_bytes = int(footprint.graph(6)) + 1
        counted.sizes.clear()
        product(vector)
        product(vector)
    assert counted.sizes == [6, 6, 4, 6, 6, 4, 5] * 2, "pieces of at most 6, built for each product"


def test_the_footprint_counts_what_the_graphs_hold() -> None:
    """tanh saves its output and a square its input, 4 numbers a sample; parameters and inputs are not counted."""
    product = second_derivative(Counted(), data_for("mlp"), DOUBLE)
    with differentiable():
        product(rows(1, product.network.parameter_count)[0])
    (footprint,) = product._known.footprints.values()

    assert footprint.forward >= 8 * (CLASSES + CLASSES)
    assert 1.5 * footprint.forward <= footprint.gradient <= 6 * footprint.forward
    assert footprint.graph(0) < 1000
    assert product._limit == pytest.approx(FLOOR + 16 * footprint.forward)


def test_a_scalar_that_is_no_sum_over_samples_is_asked_for_whole_batches() -> None:
    model = Counted()
    product = second_derivative(model, data_for("mlp"), DOUBLE, memory_bytes=0, divisible=False)
    with differentiable():
        product(rows(1, product.network.parameter_count)[0])
    assert isinstance(product.network.module, Counted)
    assert set(product.network.module.sizes) == {16, 5}


@pytest.mark.parametrize("memory_bytes", [0, 2**40])
def test_no_graph_outlives_its_release(memory_bytes: int) -> None:
    product = second_derivative(Counted(), data_for("mlp"), DOUBLE, memory_bytes=memory_bytes)
    counted = product.network.module
    assert isinstance(counted, Counted)
    with differentiable():
        product.products(rows(2, product.network.parameter_count), batched=True)
    gc.collect()
    alive = sum(ref() is not None for ref in counted.made)
    assert alive == (3 if memory_bytes else 0)

    product.release()
    gc.collect()
    assert not any(ref() is not None for ref in counted.made)


def test_a_product_that_failed_half_way_leaves_nothing_behind() -> None:
    data = data_for("mlp")
    product = second_derivative(build("mlp"), data, DOUBLE)
    vector, scalar = rows(1, product.network.parameter_count)[0], product.scalar
    calls = []

    def failing(batch: Any) -> Tensor:
        calls.append(batch)
        if len(calls) == 4:  # two small graphs for their size, one batch, and then
            raise RuntimeError("the machine is on fire")
        return scalar(batch)

    with differentiable():
        product.scalar = failing
        with pytest.raises(RuntimeError, match="on fire"):
            product(vector)
        assert product.method == "double_backward"
        product.scalar = scalar
        dense = dense_hessian(build("mlp"), data.inputs, data.targets)
        assert torch.allclose(product(vector), dense @ vector, atol=1e-12)
        assert torch.allclose(product(vector), dense @ vector, atol=1e-12)


def test_embedding_bag_by_differences_matches_the_hessian_of_embedding_and_mean() -> None:
    bag, twin, data = words()
    dense = dense_hessian(twin, data.inputs, data.targets)
    objective = Objective(bag, data, Task(CLASSES), execution=DOUBLE)
    before = objective.network.flat.clone()

    for vector in torch.eye(len(dense), dtype=torch.float64)[::5]:
        found = objective.hessian_vector_product(vector)
        assert torch.allclose(found, dense @ vector, atol=2e-8 * float(dense.norm()))

    assert torch.equal(objective.network.flat, before)
    assert objective._hessian.method == "finite_difference"
    assert objective._hessian._kept == []
    assert objective.at(0, 8)._hessian.method == "finite_difference", "known of the network from then on"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_difference_is_linear_in_the_length_of_the_vector(scale: float) -> None:
    bag, _, data = words()
    objective = Objective(bag, data, Task(CLASSES), execution=DOUBLE)
    vector = rows(1, objective.parameter_count)[0]

    one, other = objective.hessian_vector_product(vector), objective.hessian_vector_product(scale * vector)

    assert torch.allclose(other, scale * one, rtol=1e-6)
    assert not objective.hessian_vector_product(torch.zeros_like(vector)).any()


def test_a_function_marked_once_differentiable_is_met_by_differences_even_as_the_last_layer() -> None:
    """Fed by a gradient that does not depend on the weights, torch would take it for a linear one and say nothing."""
    torch.manual_seed(4)
    linear = nn.Linear(6, CLASSES)
    network = Network(nn.Sequential(linear, Once()), DOUBLE)
    batch = data_for("mlp").inputs.double()
    product = SecondDerivative(network, lambda: iter([batch]), lambda x: network(x).sum())
    vector = rows(1, network.parameter_count)[0]
    twin = nn.Sequential(linear, Plain())
    dense = dense_hessian(twin, batch, torch.zeros(len(batch)), loss=lambda z, _: z.sum())

    with differentiable():
        found = product(vector)

    assert product.method == "finite_difference"
    assert torch.allclose(found, dense @ vector, atol=1e-6 * float((dense @ vector).norm()))


def test_what_is_frozen_stays_while_the_weights_move() -> None:
    """(H - G) v by differences: the residual of the loss is that at the weights, not at those stepped to."""
    torch.manual_seed(4)
    network = Network(nn.Sequential(nn.Linear(6, CLASSES), Once()), DOUBLE)
    twin = Network(nn.Sequential(network.module[0], Plain()), DOUBLE)
    data, task = data_for("mlp"), Task(CLASSES)
    samples = (data.inputs.double(), data.targets)

    def frozen(net: Network) -> Callable[[Any], Callable[[], Tensor]]:
        def freeze(batch: Any) -> Callable[[], Tensor]:
            residual = task.residual(net(batch[0]).detach(), batch[1])
            return lambda: (residual * net(batch[0])).sum()

        return freeze

    def scalar(net: Network) -> Callable[[Any], Tensor]:
        return lambda batch: frozen(net)(batch)()

    once = SecondDerivative(network, lambda: iter([samples]), scalar(network), freeze=frozen(network))
    exact = SecondDerivative(twin, lambda: iter([samples]), scalar(twin))
    vector = rows(1, network.parameter_count)[0]

    with differentiable():
        assert torch.allclose(once(vector), exact(vector), atol=1e-6 * float(exact(vector).norm()))
    assert (once.method, exact.method) == ("finite_difference", "double_backward")


@pytest.mark.parametrize("name", ["tanh_mlp", "layer_norm_mlp"])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 2e-3), ("float64", 1e-7)])
def test_the_step_of_a_precision_is_right_along_the_sharpest_direction(name: str, dtype: str, error: float) -> None:
    """At the step chosen the difference is good to `error` of the eigenvalue; at the textbook's eps^(1/3) it is not."""
    data = data_for(name)
    model = build(name)
    with torch.no_grad():
        list(model.parameters())[-2].mul_(6)  # a sharp network, as trained ones are
    dense = dense_hessian(model, data.inputs, data.targets)
    values, vectors = torch.linalg.eigh(dense)
    product = second_derivative(model, data, Execution(dtype=dtype, batch_size=16))
    direction = vectors[:, -1].to(product.network.flat)

    def off() -> float:
        with differentiable():
            found = product._difference(direction).double()
        return float((found - values[-1] * vectors[:, -1]).norm() / values[-1])

    chosen = off()
    kind, step = product.network.dtype, STEP[product.network.dtype]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEP, kind, torch.finfo(kind).eps ** (1 / 3))
        textbook = off()
        patch.setitem(STEP, kind, step / 1000)
        rounding = off()

    assert chosen < error
    assert textbook > 3 * chosen
    assert rounding > 3 * chosen


def test_weights_come_back_when_a_difference_fails() -> None:
    bag, _, data = words()
    product = second_derivative(bag, data, DOUBLE)
    before, scalar = product.network.flat.clone(), product.scalar
    vector = rows(1, product.network.parameter_count)[0]
    with differentiable():
        product(vector)
        assert product._kept == [], "what failed to be differentiated is not kept"

        def failing(batch: Any) -> Tensor:
            if not torch.equal(product.network.flat, before):
                raise RuntimeError("out of luck")
            return scalar(batch)

        product.scalar = failing
        with pytest.raises(RuntimeError, match="out of luck"):
            product(vector)
    assert torch.equal(product.network.flat, before)


def test_graphs_are_not_used_where_products_are_no_longer_trusted() -> None:
    product = second_derivative(build("tanh_mlp"), data_for("tanh_mlp"), DOUBLE)
    vector = rows(1, product.network.parameter_count)[0]
    with differentiable():
        exact = product(vector)
        assert product._kept
        second_derivative(build("mlp"), data_for("mlp"), DOUBLE).distrust()
        assert product.method == "double_backward", "another network"
        SecondDerivative(product.network, product.batches, product.scalar).distrust()
        assert product.method == "finite_difference"
        by_difference = product(vector)

    assert product._kept == []
    assert not torch.equal(by_difference, exact)
    assert torch.allclose(by_difference, exact, atol=1e-6 * float(exact.norm()))


def test_errors_about_anything_else_are_passed_on() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise RuntimeError("this derivative is broken")

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Broken.apply(x)

    objective = Objective(nn.Sequential(nn.Linear(6, CLASSES), Layer()), data_for("mlp"), Task(CLASSES))
    with pytest.raises(RuntimeError, match="broken"):
        objective.hessian_vector_product(torch.ones(objective.parameter_count))
    assert objective._hessian.method == "double_backward"


def test_a_vector_that_is_not_finite_gives_a_product_that_is_not() -> None:
    bag, _, data = words()
    objective = Objective(bag, data, Task(CLASSES), execution=DOUBLE)
    before = objective.network.flat.clone()
    found = objective.hessian_vector_product(torch.full((objective.parameter_count,), float("nan")))

    assert not bool(torch.isfinite(found).any())
    assert torch.equal(objective.network.flat, before)
    with pytest.raises(LandscapeError, match="at least one"):
        Samples(data.inputs[:0], data.targets[:0])
