"""Many curves trained in one stack are those trained one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_networks import CLASSES, SAMPLES, build, data_for, inputs_for
from torch import Tensor, nn

import landscape.curve_stack
from landscape import Execution, Objective, Protocol, Samples, Task
from landscape.connectivity import Pair
from landscape.curve_stack import CurveStack, may_be_stacked
from landscape.network import Network

SHORT = Protocol(curve_steps=25, curve_batch_size=16)
DOUBLE = Execution(dtype="float64")


class Patches(nn.Module):
    """Attention over the rows of an image, with parameters of the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.position = nn.Parameter(0.1 * torch.randn(6, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x.squeeze(1)) + self.position).mean(1))


class TwiceUsed(nn.Module):
    """One weight in two places; two named inputs; returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 2)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head((self.first(a) + self.second(b)).tanh())}


class DecidesByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x if float(x.detach().mean()) > 1e9 else 2 * x


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(6, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.squeeze(1))[0][:, -1])


def of_seed(make: type[nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def four(kind: str) -> list[nn.Module]:
    """Networks of one architecture; the third has weights ten times as large."""
    models = [of_seed(Patches, i) if kind == "patches" else build(kind, i) for i in range(4)]
    with torch.no_grad():
        for parameter in models[2].parameters():
            parameter.mul_(10)
    return models


def objectives(models: list[nn.Module], samples: Samples, task: Task | None = None) -> list[Objective]:
    first = Objective(models[0], samples, task or Task(CLASSES), execution=DOUBLE)
    return [first, *(first.of(model) for model in models[1:])]


def rows(each: list[Objective]) -> Tensor:
    return torch.stack([one.network.flat for one in each])


def one_by_one(each: list[Objective]) -> Tensor:
    """Middle points of the curves from each network to the next."""
    return torch.stack([Pair(a, b, SHORT).fit_curve().middle for a, b in itertools.pairwise(each)])


def shares_of(stack: CurveStack, starts: Tensor, ends: Tensor) -> tuple[Tensor, list[float]]:
    shares: list[float] = []
    return stack.train(starts, ends, shares.append), shares


@pytest.mark.parametrize("kind", ["mlp", "layer_norm_mlp", "cnn", "group_norm_resnet", "patches"])
def test_a_stack_trains_the_curves_that_a_loop_trains(kind: str) -> None:
    samples = data_for("cnn" if kind == "patches" else kind)
    each = objectives(four(kind), samples)
    stack = CurveStack(each[0], SHORT)
    before = rows(each)
    middles = stack.train(before[:-1], before[1:])
    expected = one_by_one(each)

    assert stack.computes([one.network for one in each]) == [True] * 4
    assert torch.equal(rows(each), before), "the networks are left alone"
    assert float((middles - expected).abs().max()) < 1e-10 * float(expected.abs().max())
    chord = (before[:-1] + before[1:]) / 2
    assert float((middles - chord).norm(dim=1).min()) > 0.1, "the middle points have moved"


@pytest.mark.parametrize(
    "task", [Task(CLASSES, label_smoothing=0.1), Task(CLASSES, class_weights=(1.0, 0.0, 2.0, 0.5))], ids=repr
)
def test_the_loss_is_the_tasks(task: Task) -> None:
    each = objectives([build("mlp", i) for i in range(3)], data_for("mlp"), task)
    middles = CurveStack(each[0], SHORT).train(rows(each)[:-1], rows(each)[1:])
    torch.testing.assert_close(middles, one_by_one(each), rtol=0, atol=1e-10)


def test_class_probabilities_named_inputs_and_shared_weights() -> None:
    inputs = {"a": inputs_for("mlp"), "b": inputs_for("mlp").flip(0)}
    targets = torch.rand(SAMPLES, 2, generator=torch.Generator().manual_seed(3)).softmax(1)
    each = objectives([of_seed(TwiceUsed, i) for i in range(3)], Samples(inputs, targets), Task(2))
    stack = CurveStack(each[0], SHORT)

    assert all(stack.computes([one.network for one in each]))
    middles = stack.train(rows(each)[:-1], rows(each)[1:])
    torch.testing.assert_close(middles, one_by_one(each), rtol=0, atol=1e-10)


def test_a_pair_that_diverges_harms_no_other() -> None:
    each = objectives([build("mlp", i) for i in range(4)], data_for("mlp"))
    starts, ends = rows(each)[:-1], rows(each)[1:].clone()
    ends[1] *= 1e200  # logits overflow, and with them every gradient of this pair
    middles = CurveStack(each[0], SHORT).train(starts, ends)

    assert torch.isfinite(middles).all(1).tolist() == [True, False, True]
    torch.testing.assert_close(middles[[0, 2]], one_by_one(each)[[0, 2]], rtol=0, atol=1e-10)


def test_a_large_stack_is_cut_in_even_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    each = objectives([build("mlp", i) for i in range(6)], data_for("mlp"))
    stack, weights = CurveStack(each[0], SHORT), rows(each)
    whole, shares = shares_of(stack, weights[:-1], weights[1:])
    assert shares == pytest.approx([k / 25 for k in range(1, 26)])

    monkeypatch.setattr(landscape.curve_stack, "STACK_PARAMETERS", 4 * weights.shape[1])
    parts, shares = shares_of(stack, weights[:-1], weights[1:])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-10)
    assert shares == pytest.approx([k / 50 for k in range(1, 51)]), "two parts"

    monkeypatch.setattr(landscape.curve_stack, "STACK_INPUTS", 2 * 16 * 6)
    parts, shares = shares_of(stack, weights[:-1], weights[1:])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-10)
    assert len(shares) == 3 * 25, "pairs of six inputs and sixteen samples, two at a time"


def test_a_network_that_is_another_function_of_its_weights_is_found() -> None:
    other = build("mlp", 1)
    other[1] = nn.Tanh()
    each = objectives([build("mlp"), other, build("mlp", 2)], data_for("mlp"))
    assert CurveStack(each[0], SHORT).computes([one.network for one in each]) == [True, False, True]


def test_linear_layers_that_take_several_rows_a_sample_are_told() -> None:
    rows = CurveStack(objectives([of_seed(Patches, 0)], data_for("cnn"))[0], SHORT)
    assert rows.has_rows()
    for kind in ("mlp", "cnn"):
        assert not CurveStack(objectives([build(kind)], data_for(kind))[0], SHORT).has_rows()


def test_a_network_that_decides_by_values_is_not_vectorised() -> None:
    each = objectives([of_seed(DecidesByValue, i) for i in range(2)], data_for("mlp"))
    assert CurveStack(each[0], SHORT).computes([one.network for one in each]) == [False, False]


def wide(units: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU(), nn.Linear(units, CLASSES))


def convolution(channels: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, channels, 3, stride, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "shape", "stacked"),
    [
        (wide(400), (64,), True),  # 27,604 parameters
        (wide(440), (64,), False),  # 30,364
        (convolution(8), (1, 32, 32), True),  # 8,192 activations
        (convolution(9), (1, 32, 32), False),
        (convolution(32, stride=2), (1, 32, 32), True),
        (convolution(4), (1, 64, 64), False),
        (nn.Flatten(), (1, 4096), True),
        (nn.Flatten(), (1, 4097), False),
        (build("batch_norm_resnet"), (1, 6, 6), False),
        (Recurrent(), (1, 6, 6), False),
        (nn.MultiheadAttention(8, 2), (1, 6, 6), False),
        (TwiceUsed(), (6,), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_the_rule_goes_by_kinds_and_sizes(model: nn.Module, shape: tuple[int, ...], stacked: bool) -> None:
    network = Network(nn.Sequential(model, nn.Identity(), nn.PReLU()), Execution())
    samples = Samples(torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64))
    assert may_be_stacked(network, samples) == stacked
