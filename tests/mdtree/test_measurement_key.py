"""The key of a measurement: the same for the same work, another for anything that could move a digit."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape import ClassificationData, Execution, Protocol, Samples
from mdtree.measurement_key import PROBE_SAMPLES, MeasurementInput, measurement_key
from mdtree.models import model_factory


def given():
    """Two small networks on 40 samples, made anew at each call."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=generator), torch.arange(40) % 3
    factory = partial(model_factory, "mlp?width=4", num_classes=3, input_shape=(6,))
    models = [factory(seed=seed)() for seed in (1, 2)]
    data = ClassificationData(Samples(x[:30], y[:30]), Samples(x[30:], y[30:]), 3)
    return MeasurementInput(models, data, Protocol(), Execution(), factory(seed=None), None, "mlp?width=4")


def last_bit(tensor, index):
    """Change one float by the least that can be changed."""
    with torch.no_grad():
        tensor[index] = torch.nextafter(tensor[index], torch.tensor(torch.inf))


def change_weight(one):
    last_bit(one.models[0].output.weight, (2, 3))


def change_sibling(one):
    last_bit(one.models[1].hidden2.bias, 0)


def change_input(one):
    last_bit(one.data.train.inputs, (29, 5))


def change_label(one):
    one.data.train.targets[29] = (one.data.train.targets[29] + 1) % 3


def change_test_input(one):
    last_bit(one.data.test.inputs, (9, 0))


def change_test_label(one):
    one.data.test.targets[9] = (one.data.test.targets[9] + 1) % 3


def add_buffer(one):
    one.models[0].hidden1.register_buffer("mask", torch.ones(3), persistent=False)


@pytest.mark.parametrize(
    "change",
    [change_weight, change_sibling, change_input, change_label, change_test_input, change_test_label, add_buffer],
)
def test_the_least_change_of_weights_or_data_is_another_key(change):
    one = given()
    change(one)
    assert measurement_key(one) != measurement_key(given())


def with_data(**changes):
    one = given()
    return replace(one, data=replace(one.data, **changes))


@pytest.mark.parametrize(
    "other",
    [
        lambda: replace(given(), protocol=Protocol(precision=0.05)),
        lambda: replace(given(), protocol=Protocol(seed=1)),
        lambda: replace(given(), execution=Execution(dtype="float64")),
        lambda: replace(given(), execution=Execution(batch_size=10)),
        lambda: replace(given(), execution=Execution(threads=2)),
        lambda: replace(given(), execution=Execution(device="meta")),
        lambda: replace(given(), initial_norm_squared=3.0),
        lambda: replace(given(), model_spec="mlp?width=4&depth=2"),
        lambda: replace(given(), models=given().models[:1]),
        lambda: replace(given(), models=given().models[::-1]),
        lambda: with_data(test=None),
        lambda: with_data(test=given().data.train),
        lambda: with_data(train=given().data.train.at(torch.arange(29))),
        lambda: with_data(train=Samples(given().data.train.inputs.double(), given().data.train.targets)),
    ],
)
def test_protocol_execution_and_the_choice_of_networks_and_data_enter(other):
    assert measurement_key(other()) != measurement_key(given())


def test_what_does_not_move_a_digit_does_not_enter():
    budget = replace(given(), execution=Execution(budget_seconds=1.0))
    assert measurement_key(budget) == measurement_key(given())
    frozen = given()
    frozen.models[0].requires_grad_(False).eval()
    assert measurement_key(frozen) == measurement_key(given())
    threads = replace(given(), execution=Execution(threads=torch.get_num_threads()))
    assert measurement_key(threads) == measurement_key(replace(given(), execution=Execution(threads=0)))


class Net(nn.Module):
    """What stands for a user's class, whose code is edited between two runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)))


class Smooth(Net):
    def forward(self, x):
        return self.second(functional.gelu(self.first(x)))


class Cut(Net):
    """The same outputs, and no gradient behind the first layer."""

    def forward(self, x):
        return self.second(functional.relu(self.first(x)).detach())


class StartsSmaller(Net):
    def __init__(self):
        super().__init__()
        nn.init.normal_(self.first.weight, std=0.01)


@pytest.mark.parametrize("edited", [Smooth, Cut, StartsSmaller])
def test_edited_code_is_another_network_although_name_and_weights_are_the_same(edited):
    def key(kind):
        model = kind()
        torch.manual_seed(3)
        model.load_state_dict(Net().state_dict())
        return measurement_key(replace(given(), models=[model], fresh=kind, model_spec="mine:Net"))

    assert key(edited) != key(Net)
    assert key(Net) == key(Net)


def test_tied_weights_are_not_the_same_as_equal_ones():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.b(self.a(x)))

    equal = Tied()
    equal.b.load_state_dict(equal.a.state_dict())
    one = replace(given(), models=[equal], fresh=Tied)
    before = measurement_key(one)
    equal.b.weight = equal.a.weight
    assert measurement_key(one) != before


def test_nothing_of_the_callers_is_changed():
    one = given()
    one.models[0].train()
    one.models[0].output.bias.grad = torch.ones(3)
    state = {name: value.clone() for name, value in one.models[0].state_dict().items()}
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), torch.get_num_threads()

    measurement_key(one)

    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), torch.get_num_threads()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert before[3] == after[3]
    assert all(torch.equal(value, state[name]) for name, value in one.models[0].state_dict().items())
    assert one.models[0].training
    assert torch.equal(one.models[0].output.bias.grad, torch.ones(3))
    assert one.models[0].output.weight.grad is None


def test_types_without_a_numpy_counterpart_and_named_inputs_have_a_key():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)
            self.register_buffer("scale", torch.ones((), dtype=torch.bfloat16))
            self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))

        def forward(self, tokens, mask):
            return self.head((self.table(tokens) * mask[..., None]).mean(1))

    def key(tokens, mask, bit=1.0):
        torch.manual_seed(0)
        model = Words()
        model.scale.fill_(bit)
        inputs = {"tokens": tokens, "mask": mask}
        data = ClassificationData(Samples(inputs, torch.arange(12) % 3), None, 3)
        return measurement_key(replace(given(), models=[model], data=data, fresh=Words))

    tokens, mask = torch.arange(60).reshape(12, 5) % 9, torch.ones(12, 5)
    assert key(tokens, mask) == key(tokens.clone(), mask.clone())
    assert key(tokens, mask) != key(tokens, mask, bit=1.0078125)
    masked = mask.clone()
    masked[PROBE_SAMPLES + 1, 0] = 0.0
    assert key(tokens, mask) != key(tokens, masked)


def test_another_process_finds_the_same_key():
    """A hash that held an address or the order of a set would keep measurements that nobody finds again."""
    script = "import test_measurement_key as t; print(t.measurement_key(t.given()))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.path.dirname(__file__)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == measurement_key(given()), run.stderr
