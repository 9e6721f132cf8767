"""Permutation symmetries found by tracing, and hidden units matched by their weights."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import CLASSES, ResidualNet, cnn, data_for, layer_norm_mlp, mlp
from torch import Tensor, nn
from torch.nn import functional

from landscape import ClassificationData, LandscapeError, Protocol, Samples, barrier
from landscape.alignment import align, match_weights, parameters_of, permuted
from landscape.connectivity import pair_of
from landscape.permutations import Axis, PermutationGroup, permutation_groups


class Bottleneck(nn.Module):
    """A stream of four channels with a projection, a depthwise convolution and a block that adds to it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.Conv2d(4, 3, 1)
        self.depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.up = nn.Conv2d(3, 4, 1)
        self.project = nn.Conv2d(4, 4, 1, bias=False)
        self.slope = nn.PReLU(4)
        self.head = nn.Linear(4 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        out = self.up(torch.tanh(self.depthwise(self.down(x))))
        out += self.project(x)
        out = functional.max_pool2d(self.slope(out), 2)
        return self.head(out.view(out.size(0), -1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.attention(x, x, x)[0])


class Recurring(nn.Module):
    """One layer called twice: the units before and after it are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.again(torch.relu(self.again(x)))))


def deep_mlp(seed: int) -> nn.Module:
    """Five hidden layers, on which coordinate descent from the identity gets stuck for some seeds."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(6, 8)]
    for _ in range(4):
        layers += [nn.ReLU(), nn.Linear(8, 8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, CLASSES)).double()


NETWORKS = {
    "mlp": mlp,
    "layer norm": layer_norm_mlp,
    "cnn": cnn,
    "residual": ResidualNet,
    "bottleneck": Bottleneck,
    "recurring": Recurring,
}


def make(name: str, seed: int) -> nn.Module:
    """A network in float64 whose every parameter and buffer is random, so that no mistake in order is hidden."""
    torch.manual_seed(seed)
    model = NETWORKS[name]().double().eval()
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1 if value.dim() == 1 else torch.randn_like(value) / 2)
    return model


def inputs_for(name: str) -> Tensor:
    shape = (6,) if name in ("mlp", "layer norm", "recurring") else (1, 8, 8) if name != "cnn" else (1, 6, 6)
    return torch.randn(5, *shape, dtype=torch.float64)


def shuffled(model: nn.Module) -> nn.Module:
    groups = permutation_groups(model)
    permutations = tuple(torch.randperm(group.size) for group in groups)
    copied = copy.deepcopy(model)
    copied.load_state_dict(permuted(model.state_dict(), groups, permutations))
    return copied


@pytest.mark.parametrize("name", NETWORKS)
def test_permuting_all_groups_leaves_the_function_alone(name: str) -> None:
    model, inputs = make(name, 0), inputs_for(name)
    other = shuffled(model)

    assert torch.allclose(other(inputs), model(inputs), rtol=1e-10, atol=1e-10)
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)]
    assert sum(moved) >= len(moved) - 1, "all but the last bias have hidden units"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_copy_is_recovered_to_the_bit(name: str) -> None:
    model = make(name, 0)
    found = align(model, shuffled(model))

    for tensor, value in found.state_dict().items():
        assert torch.equal(value, model.state_dict()[tensor]), tensor


@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_deep_copy_is_recovered_whatever_the_permutation(seed: int) -> None:
    model = deep_mlp(seed)
    found = align(model, shuffled(model))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_aligning_keeps_the_function_and_shortens_the_distance(name: str) -> None:
    first, second, inputs = make(name, 0), make(name, 1), inputs_for(name)
    before = copy.deepcopy(second.state_dict())
    found = align(first, second)

    def distance(model: nn.Module) -> float:
        pairs = zip(first.parameters(), model.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs)

    assert torch.allclose(found(inputs), second(inputs), rtol=1e-10, atol=1e-10)
    assert distance(found) < 0.99 * distance(second)
    assert all(torch.equal(value, before[key]) for key, value in second.state_dict().items()), "the model is left alone"


def test_the_groups_of_a_residual_net_by_hand() -> None:
    (stream,) = permutation_groups(ResidualNet())

    assert stream.size == 4
    convolutions = {Axis("stem.weight", 0), Axis("body.weight", 0), Axis("body.weight", 1), Axis("head.weight", 1)}
    parts = ("weight", "bias", "running_mean", "running_var")
    norms = {Axis(f"{norm}.{part}", 0) for norm in ("stem_norm", "body_norm") for part in parts}
    assert set(stream.axes) == convolutions | norms


def test_units_added_to_the_input_or_given_out_keep_their_order() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(x + torch.relu(self.a(x)))

    assert permutation_groups(Skip()) == ()


def test_matching_is_the_best_assignment_of_a_single_layer() -> None:
    """Against all permutations."""
    from itertools import permutations

    torch.manual_seed(0)
    a, b = ({"in": torch.randn(5, 3), "out": torch.randn(2, 5)} for _ in range(2))
    groups = (PermutationGroup(5, (Axis("in", 0), Axis("out", 1))),)

    def product(order: Tensor) -> float:
        return float((a["in"] * b["in"][order]).sum() + (a["out"] * b["out"][:, order]).sum())

    (found,) = match_weights(a, b, groups)
    assert product(found) == pytest.approx(max(product(torch.tensor(p)) for p in permutations(range(5))))


def test_sweeps_settle_where_no_single_group_gains() -> None:
    """Two networks that take four sweeps."""
    first, second = parameters_of(deep_mlp(3)), parameters_of(deep_mlp(103))
    groups = permutation_groups(deep_mlp(0))
    found = match_weights(first, second, groups)

    def product(permutations: tuple[Tensor, ...]) -> float:
        moved = permuted(second, groups, permutations)
        return sum(float((first[name] * moved[name]).sum()) for name in first)

    best = product(found)
    for number, order in enumerate(found):
        for i in range(len(order)):
            for j in range(i):
                swapped = order.clone()
                swapped[[i, j]] = order[[j, i]]
                assert product((*found[:number], swapped, *found[number + 1 :])) <= best + 1e-12


def test_the_line_to_a_permuted_copy_is_flat_once_aligned(trained: list[nn.Module], digits: ClassificationData) -> None:
    pair = pair_of(trained[0], shuffled(trained[0]), digits)
    spent = pair.sample_gradients
    plain = pair.linear_path()
    line_cost = pair.sample_gradients - spent
    aligned = pair.aligned_linear_path()

    assert barrier(plain).barrier_loss > 0.1
    assert max(aligned.loss) - min(aligned.loss) < 1e-6
    assert aligned.t == plain.t
    assert pair.sample_gradients - spent - line_cost == pytest.approx(2 * 64 / 3 + 7 * len(digits.train) / 3)


def test_alignment_lowers_the_line_between_two_trainings(trained: list[nn.Module], digits: ClassificationData) -> None:
    pair = pair_of(trained[0], trained[1], digits)
    assert barrier(pair.aligned_linear_path()).barrier_loss < 0.7 * barrier(pair.linear_path()).barrier_loss


def test_a_curve_between_aligned_ends_ends_in_the_permuted_network_and_is_lower(
    trained: list[nn.Module], digits: ClassificationData
) -> None:
    pair = pair_of(trained[0], trained[1], digits, Protocol(curve_steps=40))
    plain, aligned = pair.fit_curve(), pair.fit_curve(aligned=True)

    assert torch.equal(aligned.start, plain.start)
    expected = torch.cat([p.detach().flatten() for p in align(trained[0], trained[1]).parameters()])
    assert torch.equal(aligned.end, expected)
    assert sum(pair.curve_path(aligned).loss) < 0.9 * sum(pair.curve_path(plain).loss)


def test_batch_norm_nets_are_aligned_too(residual_nets: list[nn.Module], images: ClassificationData) -> None:
    pair = pair_of(residual_nets[0], shuffled(residual_nets[0]), images)
    path = pair.aligned_linear_path()
    assert path.refreshed
    assert max(path.loss) - min(path.loss) < 1e-5


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.Linear(8, CLASSES)), "1 is a GroupNorm"),
        (Attention(), "getitem|MultiheadAttention|inputs"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "convolves 2 groups"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 4)), "mixes pixels"),
        (nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, CLASSES)), "1 is a Softmax"),
        (
            nn.Sequential(nn.Linear(6, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))),
            "from other parameters",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(model: nn.Module, what: str) -> None:
    with pytest.raises(LandscapeError, match=f"cannot be matched: .*({what}).*expected a feed-forward"):
        permutation_groups(model)


def test_a_forward_pass_that_depends_on_its_values_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum() > 0 else -self.layer(x)

    with pytest.raises(LandscapeError, match="cannot be traced"):
        permutation_groups(Branching())


def test_shared_tensors_and_concatenation_are_refused() -> None:
    tied = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    tied[2].weight = tied[0].weight
    with pytest.raises(LandscapeError, match=r"0\.weight and 2\.weight are one tensor"):
        permutation_groups(tied)

    class Concatenating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.cat([self.a(x), self.b(x)], 1))

    with pytest.raises(LandscapeError, match="calls cat"):
        permutation_groups(Concatenating())


def test_networks_of_other_architectures_are_not_matched() -> None:
    with pytest.raises(LandscapeError, match="different architecture"):
        align(mlp(), layer_norm_mlp())


def test_a_permutation_that_would_change_the_function_is_caught() -> None:
    """Units in the last of three dimensions, flattened: the trace takes them for channels, the answers do not."""
    samples = data_for("mlp")
    inputs = samples.inputs[:, None, :] * torch.linspace(0.5, 2, 3)[:, None]
    data = ClassificationData(Samples(inputs, samples.targets), None, CLASSES)
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, CLASSES)))
    with pytest.raises(LandscapeError, match="permuting the hidden units moves the logits"):
        pair_of(*models, data).aligned_linear_path()
