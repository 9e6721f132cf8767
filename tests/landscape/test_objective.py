"""Loss, error, gradient and products of one network; what is refused; what is left untouched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from dense_reference import dense_gauss_newton, dense_gradient, dense_hessian
from small_networks import ARCHITECTURES, CLASSES, build, data_for, inputs_for, mlp
from torch import Tensor, nn

from landscape import ClassificationData, Execution, LandscapeError, Objective, Samples, Task

DOUBLE = Execution(dtype="float64", batch_size=16)


def vector_for(target: Objective) -> Tensor:
    return torch.randn(target.parameter_count, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_and_products_match_the_dense_ones_on_uneven_batches(name: str) -> None:
    data, model = data_for(name), build(name)
    target = Objective(model, data, Task(CLASSES), execution=DOUBLE)
    vector = vector_for(target)
    hessian = dense_hessian(model, data.inputs, data.targets)

    assert [len(y) for _, y in target.batches()] == [16, 16, 5]
    assert torch.allclose(target.gradient(), dense_gradient(model, data.inputs, data.targets), atol=1e-12)
    assert torch.allclose(target.hessian_vector_product(vector), hessian @ vector, atol=1e-10)
    residual = hessian - dense_gauss_newton(model, data.inputs)
    assert torch.allclose(target.residual_vector_product(vector), residual @ vector, atol=1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_error_are_those_of_torch(name: str) -> None:
    data = data_for(name)
    model = build(name).double().eval()
    logits = model(data.inputs.double()).detach()

    found = Objective(model, data, Task(CLASSES), execution=DOUBLE).loss_and_error()

    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.targets)), rel=1e-12)
    assert found.error_percent == pytest.approx(100 * float((logits.argmax(1) != data.targets).double().mean()))
    each = nn.functional.cross_entropy(logits, data.targets, reduction="none")
    assert found.loss_deviation == pytest.approx(float(each.std(correction=0)), rel=1e-9)


@pytest.mark.parametrize("name", ["mlp", "batch_norm_resnet"])
def test_the_micro_batch_moves_rounding_only(name: str) -> None:
    results = []
    for size in (1, 7, 64):
        target = Objective(
            build(name), data_for(name), Task(CLASSES), execution=Execution(dtype="float64", batch_size=size)
        )
        values = [target.gradient(), target.hessian_vector_product(vector_for(target)), target.gauss_newton_squares()]
        results.append((target.loss_and_error(), values))

    for found, values in results[1:]:
        assert found.loss == pytest.approx(results[0][0].loss, rel=1e-13)
        assert found.error_percent == results[0][0].error_percent
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(values, results[0][1], strict=True))


def test_one_logit_is_two_classes_with_logits_zero_and_z() -> None:
    inputs = inputs_for("mlp")
    labels = (inputs[:, 0] > 0).long()
    one, two = nn.Linear(6, 1), nn.Linear(6, 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([torch.zeros_like(one.weight), one.weight]))
        two.bias.copy_(torch.cat([torch.zeros_like(one.bias), one.bias]))
        binary = nn.functional.binary_cross_entropy_with_logits(one(inputs)[:, 0].double(), labels.double())

    single = Objective(one, Samples(inputs, labels), Task(2), execution=DOUBLE)
    double = Objective(two, Samples(inputs, labels), Task(2), execution=DOUBLE)
    floating = Objective(one, Samples(inputs, labels[:, None].float()), Task(2), execution=DOUBLE)

    assert single.loss_and_error().loss == pytest.approx(float(binary), rel=1e-6)
    assert single.loss_and_error() == floating.loss_and_error()
    assert single.loss_and_error().loss == pytest.approx(double.loss_and_error().loss, rel=1e-12)
    assert single.loss_and_error().error_percent == double.loss_and_error().error_percent
    assert torch.allclose(single.gradient(), double.gradient()[[6, 7, 8, 9, 10, 11, 13]])


def test_soft_targets_are_class_probabilities() -> None:
    data = data_for("mlp")
    soft = nn.functional.one_hot(data.targets, CLASSES).double() * 0.7 + 0.3 / CLASSES
    hard = Objective(build("mlp"), data, Task(CLASSES, label_smoothing=0.3), execution=DOUBLE)
    given = Objective(build("mlp"), Samples(data.inputs, soft), Task(CLASSES), execution=DOUBLE)

    assert given.loss_and_error().loss == pytest.approx(hard.loss_and_error().loss, rel=1e-12)
    assert given.loss_and_error().error_percent == hard.loss_and_error().error_percent
    assert torch.allclose(given.gradient(), hard.gradient())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_mean_what_they_mean_in_torch(smoothing: float) -> None:
    data, weights = data_for("mlp"), (1.0, 0.0, 3.0, 0.5)
    loss = nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float64), label_smoothing=smoothing)
    model = build("mlp").double()

    target = Objective(model, data, Task(CLASSES, smoothing, weights), execution=DOUBLE)

    expected = loss(model.eval()(data.inputs.double()), data.targets)
    assert target.loss_and_error().loss == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(target.gradient(), dense_gradient(model, data.inputs, data.targets, loss), atol=1e-12)


class Wrapped(nn.Module):
    """Answers as language-model libraries do: an object or a mapping with the logits in it."""

    def __init__(self, as_mapping: bool) -> None:
        super().__init__()
        self.body = build("mlp")
        self.as_mapping = as_mapping

    def forward(self, x: Tensor) -> object:
        logits = self.body(x)
        return {"logits": logits, "hidden": x} if self.as_mapping else type("Output", (), {"logits": logits})()


@pytest.mark.parametrize("as_mapping", [True, False])
def test_logits_are_found_inside_an_output(as_mapping: bool) -> None:
    plain = Objective(build("mlp"), data_for("mlp"), Task(CLASSES))
    assert Objective(Wrapped(as_mapping), data_for("mlp"), Task(CLASSES)).loss_and_error() == plain.loss_and_error()


class Batches:
    """Batches of dictionaries, walked again for every pass."""

    def __init__(self, data: Samples, sizes: list[int]) -> None:
        self.data, self.sizes = data, sizes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        parts = self.data.inputs.split(self.sizes), self.data.targets.split(self.sizes)
        for inputs, targets in zip(*parts, strict=True):
            yield {"inputs": inputs, "labels": targets}


def test_a_bare_loss_function_on_batches_of_any_kind() -> None:
    data = data_for("mlp")

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch["inputs"]), batch["labels"])

    bare = Objective(build("mlp"), Batches(data, [30, 5, 2]), loss_fn=loss_fn, execution=DOUBLE)
    task = Objective(build("mlp"), data, Task(CLASSES), execution=DOUBLE)

    assert bare.loss_and_error().loss == pytest.approx(task.loss_and_error().loss, rel=1e-12)
    assert bare.loss_and_error().error_percent is None
    assert torch.allclose(bare.gradient(), task.gradient())
    vector = vector_for(bare)
    assert torch.allclose(bare.hessian_vector_product(vector), task.hessian_vector_product(vector))
    for needs_logits in (bare.logits, bare.gauss_newton_squares, bare.per_sample_gradient_squares):
        with pytest.raises(LandscapeError, match="only a loss function is known"):
            needs_logits()


def test_pairs_of_tensors_from_a_loader_are_batches_too() -> None:
    data = data_for("cnn")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data.inputs, data.targets), batch_size=16)

    found = Objective(build("cnn"), loader, Task(CLASSES), execution=DOUBLE)

    assert found.samples == len(data)
    assert found.check_determinism() == Objective(build("cnn"), data, Task(CLASSES), execution=DOUBLE).loss_and_error()


class NoisyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(nn.functional.dropout(x, 0.5, training=True))


def test_dropout_that_ignores_eval_is_found_out() -> None:
    with pytest.raises(LandscapeError, match=r"two evaluations .* dropout that ignores eval"):
        Objective(NoisyNet(), data_for("mlp"), Task(CLASSES)).check_determinism()


def test_a_shuffling_loader_is_found_out() -> None:
    data = data_for("mlp")

    class Augmented(Batches):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            yield self.data.inputs + torch.randn_like(self.data.inputs), self.data.targets

    with pytest.raises(LandscapeError, match="random augmentation and shuffling"):
        Objective(mlp(), Augmented(data, []), Task(CLASSES)).check_determinism()


def test_dropout_that_obeys_eval_is_welcome() -> None:
    model = nn.Sequential(nn.Dropout(0.5), mlp()).train()
    Objective(model, data_for("mlp"), Task(CLASSES)).check_determinism()


class Constant(nn.Module):
    """Returns a fixed shape whatever comes in."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.ones(len(x), *self.shape)


def labels(values: list[int]) -> Tensor:
    return torch.tensor(values * 10)


REFUSED = {
    "several labels as 0/1 integers": (mlp(), torch.randint(2, (20, CLASSES)), "several labels a sample"),
    "several labels as 0/1 floats": (mlp(), torch.ones(20, CLASSES), "not class probabilities"),
    "regression": (mlp(), torch.linspace(0, 1, 20), "a regression"),
    "regression in a column": (mlp(), torch.linspace(0, 1, 20)[:, None], "a regression"),
    "probabilities of other classes": (mlp(), torch.full((20, 3), 1 / 3), r"\(20, 3\)"),
    "dense prediction": (Constant(CLASSES, 8, 8), labels([0, 1]), "dense prediction"),
    "language model": (Constant(12, CLASSES), labels([0, 1]), "a language model"),
    "label beyond the classes": (mlp(), labels([0, 4]), r"labels from 0 to 4; expected labels from 0 to 3"),
    "negative label": (mlp(), labels([-100, 1]), r"labels from -100 to 1"),
    "too many logits": (Constant(10), labels([0, 1]), "returned 10 logits a sample; expected 4"),
    "one logit for four classes": (Constant(1), labels([0, 1]), "returned 1 logits a sample; expected 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_tasks_are_refused_in_one_line(case: str) -> None:
    model, targets, message = REFUSED[case]
    with pytest.raises(LandscapeError, match=message) as caught:
        Objective(model, Samples(torch.ones(20, 6), targets), Task(CLASSES))
    assert "\n" not in str(caught.value)


class ReturnsNone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> None:
        self.layer(x)


class WrongRows(ReturnsNone):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.ones(1, CLASSES) * self.layer(x).sum()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ReturnsNone(), "returned NoneType"),
        (WrongRows(), "1 rows of logits for 37 samples"),
        (nn.Linear(7, CLASSES), r"fails on a batch of shape \(37, 6\): mat1 and mat2 shapes"),
        (nn.Flatten(), "no floating-point parameter"),
        (nn.LazyLinear(CLASSES), "lazy layers"),
        (nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False)), "without running statistics"),
    ],
)
def test_models_that_cannot_be_measured_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(LandscapeError, match=message):
        Objective(model, data_for("mlp"), Task(CLASSES))


def test_broken_weights_and_statistics_are_named() -> None:
    model = build("batch_norm_resnet")
    with torch.no_grad():
        model.head.bias[1] = float("nan")
        model.body_norm.running_var[0] = float("inf")
    with pytest.raises(LandscapeError, match=r"NaN or infinite values in head\.bias, body_norm\.running_var;"):
        Objective(model, data_for("batch_norm_resnet"), Task(CLASSES))


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = mlp()
    model.cached = model[0].weight * 2  # not a leaf: copy.deepcopy gives up on it
    with pytest.raises(LandscapeError, match="cannot be copied"):
        Objective(model, data_for("mlp"), Task(CLASSES))


def test_data_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(LandscapeError, match="one target for each input"):
        Samples(torch.ones(3, 6), torch.ones(2))
    with pytest.raises(LandscapeError, match="no sample"):
        Samples(torch.ones(0, 6), torch.ones(0))
    with pytest.raises(LandscapeError, match="exactly one of the two"):
        Objective(mlp(), data_for("mlp"))
    with pytest.raises(LandscapeError, match="no sample that counts"):
        Objective(mlp(), [], Task(CLASSES))
    with pytest.raises(LandscapeError, match="walked only once"):
        Objective(mlp(), data_for("mlp").batches(8), Task(CLASSES))
    for wrong, message in (
        ({"num_classes": 1}, "num_classes is 1"),
        ({"num_classes": 2, "label_smoothing": 2}, "label_smoothing is 2"),
        ({"num_classes": 2, "class_weights": (1,)}, "expected 2 weights"),
    ):
        with pytest.raises(LandscapeError, match=message):
            Task(**wrong)


def test_the_callers_model_is_left_alone() -> None:
    model = build("batch_norm_resnet").train()
    model.head.weight.requires_grad_(False)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    before = {name: (value.clone(), value.data_ptr()) for name, value in model.state_dict(keep_vars=False).items()}

    target = Objective(model, data_for("batch_norm_resnet"), Task(CLASSES))
    target.gradient()
    target.hessian_vector_product(vector_for(target))
    target.gauss_newton_squares()
    target.network.load(torch.zeros(target.parameter_count))

    assert model.training
    assert model.body_norm.training
    assert not model.head.weight.requires_grad
    assert torch.equal(model.stem.weight.grad, torch.ones_like(model.stem.weight))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "stem.weight")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.data_ptr() == before[name][1]
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_parameters_count_as_every_other() -> None:
    model = build("mlp")
    free = Objective(model, data_for("mlp"), Task(CLASSES)).gradient()
    model.requires_grad_(False)
    assert torch.equal(Objective(model, data_for("mlp"), Task(CLASSES)).gradient(), free)


def test_half_precision_weights_are_measured_in_full() -> None:
    model = build("mlp").half()
    target = Objective(model, data_for("mlp"), Task(CLASSES))
    assert target.gradient().dtype == torch.float32
    assert model[0].weight.dtype == torch.float16


def test_gradients_switched_off_by_the_caller_make_no_difference() -> None:
    expected = Objective(build("mlp"), data_for("mlp"), Task(CLASSES)).gradient()
    with torch.no_grad():
        assert torch.equal(Objective(build("mlp"), data_for("mlp"), Task(CLASSES)).gradient(), expected)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 12)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x.unflatten(1, (2, 3))).chunk(3, dim=2)
        attended = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return self.head(attended[:, 0].mean(1))


def test_attention_is_differentiated_twice() -> None:
    data, model = data_for("mlp"), Attention()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        dense = dense_hessian(model, data.inputs, data.targets)
    target = Objective(model, data, Task(CLASSES), execution=DOUBLE)
    vector = vector_for(target)
    assert torch.allclose(target.hessian_vector_product(vector), dense @ vector, atol=1e-10)


def test_integer_inputs_stay_integers() -> None:
    model = nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(15, CLASSES))
    tokens = torch.randint(9, (12, 3), generator=torch.Generator().manual_seed(0))
    target = Objective(model, Samples(tokens, torch.arange(12) % CLASSES), Task(CLASSES), execution=DOUBLE)
    vector = vector_for(target)

    dense = dense_hessian(model, tokens, torch.arange(12) % CLASSES)
    assert torch.allclose(target.hessian_vector_product(vector), dense @ vector, atol=1e-10)


def test_wrappers_of_training_are_taken_off() -> None:
    model = build("mlp")
    wrapped = nn.DataParallel(model)
    assert Objective(wrapped, data_for("mlp"), Task(CLASSES)).network.names[0] == "0.weight"


def test_cost_is_counted_in_sample_gradients() -> None:
    target = Objective(build("mlp"), data_for("mlp"), Task(CLASSES), execution=DOUBLE)
    target.check_second_derivative()
    assert target.sample_gradients == (1 + 3 * 2) * 8  # once for each network: three products on 8 samples
    costs = []
    for work in (
        target.loss_and_error,
        target.gradient,
        lambda: target.hessian_vector_product(vector_for(target)),
        target.gauss_newton_squares,
    ):
        before = target.sample_gradients
        work()
        costs.append((target.sample_gradients - before) / target.samples)
    # a forward is a third; the Gauss-Newton trace is one forward and a backward a class
    assert costs == pytest.approx([1 / 3, 1, 2, 1 / 3 + CLASSES * 2 / 3])


def test_a_subset_is_fixed_by_its_seed() -> None:
    data = data_for("mlp", samples=50)
    first, again, other = (data.subset(20, seed) for seed in (0, 0, 1))

    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)
    assert len(first) == 20
    whole = data.subset(60, 0)
    assert len(whole) == 50
    assert torch.equal(whole.inputs[:20], first.inputs)  # whose beginning is a random part of all, however sorted
    rows = {tuple(row.tolist()): int(label) for row, label in zip(data.inputs, data.targets, strict=True)}
    assert all(rows[tuple(x.tolist())] == int(y) for x, y in zip(first.inputs, first.targets, strict=True))


def test_the_best_constant_answer() -> None:
    assert Task(3).chance_error_percent(torch.tensor([0, 0, 1, 2])) == 50.0
    assert Task(3).chance_error_percent(torch.tensor([1, 1])) == 0.0
    assert ClassificationData(data_for("mlp"), None, CLASSES).test is None
