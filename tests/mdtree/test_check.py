"""What a check says of a checkpoint: what can be measured and what cannot, what it takes, and what to add."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import mdtree
from landscape import (
    ALONE_METRICS,
    METRICS,
    PAIR_METRICS,
    TEST_METRICS,
    ClassificationData,
    Execution,
    LandscapeError,
    Objective,
    Protocol,
    Samples,
    Task,
)
from landscape import measure as measure_landscape
from mdtree.checking import check as check_module
from mdtree.checking import measurement_cost as cost_module
from mdtree.checking.check import check
from mdtree.checking.check_text import WIDTH, check_text, check_values
from mdtree.checking.measurement_cost import alone_gradients, measurement_cost, saved_bytes
from mdtree.diagnose import measure
from mdtree.errors import InputError
from mdtree.models import model_factory
from mdtree.prepare import Sources

SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"

PROJECT = """
import torch
from torch import nn


def net(width=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def digits(shift=0, test=False):
    from sklearn.datasets import load_digits

    held = load_digits()
    x, y = torch.tensor(held.images, dtype=torch.float32) / 16, (torch.tensor(held.target) + shift) % 10
    return (x[:1000], y[:1000], x[1000:], y[1000:]) if test else (x[:1000], y[:1000])


def broken():
    raise RuntimeError("the disk is on another machine")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with the user's code and two checkpoints that say nothing but their weights."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "checknets.py").write_text(PROJECT)
    scope: dict[str, object] = {}
    exec(PROJECT, scope)  # the same functions, to train with
    x, y = scope["digits"]()
    for name, seed in (("net.pt", 0), ("other.pt", 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = scope["net"]()
            optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
            for _ in range(300):
                batch = torch.randint(1000, (64,))
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
        torch.save({"state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}, folder / name)
    return folder


@pytest.fixture
def ask(project):
    """Check ``net.pt`` of the project; words are the names of other files or the fields of `Sources`."""

    def call(name="net.pt", **fields):
        siblings = tuple(project / sibling for sibling in fields.pop("siblings", ()))
        return check(project / name, Sources(directory=project, siblings=siblings, **fields))

    return call


GIVEN = {"model": "checknets:net", "data": "checknets:digits"}
WITH_TEST = {"model": "checknets:net", "data": "checknets:digits?test=true"}


def needed(report) -> list[str]:
    return [each.what for each in report.missing if each.needed]


class TestReady:
    @pytest.mark.parametrize(
        ("given", "siblings", "evidence"),
        [
            (GIVEN, (), "alone"),
            (WITH_TEST, (), "alone_test"),
            (GIVEN, ("other.pt",), "sibling"),
            (WITH_TEST, ("other.pt",), "sibling_test"),
        ],
    )
    def test_it_names_the_metrics_that_a_measurement_then_gives(self, project, ask, given, siblings, evidence):
        report = ask(siblings=siblings, **given)
        record = measure(
            project / "net.pt",
            Sources(directory=project, siblings=tuple(project / name for name in siblings), **given),
        )
        assert report.evidence == record.evidence == evidence
        assert set(report.metrics) == set(record.metrics)
        absent = {name for each in report.missing for name in each.metrics}
        assert absent == {each.metric for each in record.not_measured}
        assert not needed(report)
        least, most = report.cost.sample_gradients
        assert 0.9 * least <= record.cost["sample_gradients"] <= most

    def test_what_is_missing_says_what_to_add(self, ask):
        test, sibling = ask(**GIVEN).missing
        assert (test.what, test.metrics) == ("test data", TEST_METRICS)
        assert test.add == "x_test and y_test in what checknets:digits returns"
        assert (sibling.what, sibling.metrics) == ("a sibling", PAIR_METRICS)
        assert sibling.add.startswith("--sibling FILE")

    def test_what_the_file_the_network_and_the_data_hold(self, project, ask):
        report = ask(**WITH_TEST)
        opened = report.opened
        assert (opened.tensors, opened.numbers) == (4, 64 * 16 + 16 + 160 + 10)
        assert opened.size == (project / "net.pt").stat().st_size
        assert opened.weights_from == "state_dict"
        recipe = {row.name: (row.value, row.source) for row in report.recipe}
        assert recipe["learning_rate"] == (0.1, "optimizer.param_groups[0].lr")
        assert recipe["momentum"][0] == 0.9
        assert (report.network.spec, report.network.source) == ("checknets:net", "--model")
        assert report.network.parameters == opened.numbers
        data = report.data
        assert (data.train_samples, data.test_samples, data.input_shape) == (1000, 797, (8, 8))
        assert sum(data.class_counts) == 1000
        assert report.plausible.question is None
        assert report.plausible.train_error_percent < 10

    def test_the_command_is_the_one_with_the_same_arguments(self, project):
        given = Sources(
            model="checknets:net?width=16",
            data="checknets:digits",
            siblings=(project / "other.pt",),
            directory=project,
            trust=True,
            data_checked=True,
        )
        words = shlex.split(check(project / "net.pt", given).command)
        assert words == [
            *("mdtree", "diagnose", str(project / "net.pt")),
            *("--model", "checknets:net?width=16", "--data", "checknets:digits"),
            *("--sibling", str(project / "other.pt"), "--trust", "--data-checked"),
        ]

    def test_a_file_of_this_package_needs_nothing_but_a_sibling(self):
        report = check(SAMPLES / "healthy-1.pt")
        assert report.evidence == "alone_test"
        assert [each.what for each in report.missing] == ["a sibling"]
        assert report.data.test_part == "first_half"
        assert check(SAMPLES / "healthy-1.pt", Sources(siblings=(SAMPLES / "healthy-1.sibling.pt",))).missing == ()

    def test_the_callers_random_state_stays(self, ask):
        before = torch.get_rng_state()
        ask(siblings=("other.pt",), **GIVEN)
        assert torch.equal(torch.get_rng_state(), before)


class TestMissing:
    def test_neither_network_nor_data(self, ask):
        report = ask()
        assert needed(report) == ["the network", "the data"]
        assert report.metrics == ()
        assert (report.evidence, report.cost, report.command, report.plausible) == (None, None, None, None)
        network, data, _ = report.missing
        assert "def make()" in network.add
        assert "--data npz:FILE.npz" in data.add

    def test_a_network_is_tried_on_the_weights_before_there_are_data(self, ask):
        assert needed(ask(model="checknets:net")) == ["the data"]
        report = ask(model="checknets:net?width=7")
        assert needed(report) == ["the data", "a network that fits"]
        assert "do not fit the network" in report.missing[1].why

    def test_a_built_in_network_may_wait_for_the_data(self, ask):
        assert needed(ask(model="mlp?width=16")) == ["the data"]

    def test_data_that_cannot_be_loaded(self, ask):
        report = ask(model="checknets:net", data="checknets:broken")
        assert needed(report) == ["the data"]
        assert "the disk is on another machine" in report.missing[0].why

    def test_data_of_another_shape(self, ask, project):
        torch.manual_seed(0)
        import numpy as np

        np.savez(project / "short.npz", x_train=np.zeros((20, 5), "float32"), y_train=np.arange(20) % 10)
        report = ask(model="checknets:net", data="npz:short.npz")
        assert needed(report) == ["the measurement"]
        assert "the model fails on a batch" in report.missing[0].why

    def test_implausible_data_and_that_the_user_vouches_for_them(self, ask):
        wrong = {"model": "checknets:net", "data": "checknets:digits?shift=1"}
        report = ask(**wrong)
        assert needed(report) == ["plausible data"]
        assert "the labels look off by one" in report.missing[0].why
        assert "--data-checked" in report.missing[0].add
        assert report.cost is not None  # what it would take is known all the same
        vouched = ask(data_checked=True, **wrong)
        assert needed(vouched) == []
        assert vouched.plausible.question is not None

    def test_a_sibling_that_is_the_network_or_another_architecture(self, ask, project):
        report = ask(siblings=("net.pt",), **GIVEN)
        assert needed(report) == ["a sibling"]
        assert "holds the same weights as" in report.missing[0].why
        torch.save(nn.Linear(3, 4).state_dict(), project / "small.pt")
        report = ask(siblings=("small.pt",), **GIVEN)
        assert needed(report) == ["a network that fits"]
        assert "the weights in" in report.missing[0].why
        assert "small.pt" in report.missing[0].why

    def test_growth_of_a_fine_tuned_network(self, project, ask):
        network = model_factory("checknets:net", directory=project)()
        state = torch.load(project / "net.pt", weights_only=True)["state_dict"]
        network.load_state_dict(state)
        for name, changed in (("tuned.pt", 0.0), ("tuned2.pt", 0.01)):
            state = {key: value + changed for key, value in network.state_dict().items()}
            twin = model_factory("checknets:net", directory=project)()
            twin.load_state_dict(state)
            mdtree.save_checkpoint(project / name, twin, fine_tuned_from="other.pt")
        start = next(each for each in ask("tuned.pt", **GIVEN).missing if each.what == "the start")
        assert (start.why, start.metrics) == ("fine-tuned from other.pt", ("log_weight_growth",))
        assert start.add == "give what training started from with --init FILE"
        known = ask("tuned.pt", init=project / "other.pt", siblings=("tuned2.pt",), **GIVEN)
        assert "log_weight_growth" in known.metrics
        assert known.flags == ("siblings_share_start",)
        assert known.notes == ()
        body = {key: value for key, value in torch.load(project / "other.pt", weights_only=True)["state_dict"].items()}
        torch.save({key: value for key, value in body.items() if key.startswith("1.")}, project / "body.pt")
        (note,) = ask("tuned.pt", init=project / "body.pt", **GIVEN).notes
        assert note.startswith("2 tensors (3.weight, 3.bias) of the network are not in ")
        foreign = project / "foreign.pt"
        torch.save({"conv.weight": torch.ones(2, 2)}, foreign)
        assert needed(ask("tuned.pt", init=foreign, **GIVEN)) == ["the start"]

    def test_a_program_has_no_growth_and_opens_only_where_it_is_trusted(self, project, ask):
        network = model_factory("checknets:net", directory=project)().eval()
        network.load_state_dict(torch.load(project / "net.pt", weights_only=True)["state_dict"])
        batch = {"input": {0: torch.export.Dim("batch")}}
        torch.export.save(
            torch.export.export(network, (torch.zeros(4, 8, 8),), dynamic_shapes=batch), project / "n.pt2"
        )
        report = ask("n.pt2", data="checknets:digits", trust=True)
        assert needed(report) == []
        start = next(each for each in report.missing if each.what == "the start")
        assert start.metrics == ("log_weight_growth",)
        assert report.plausible.train_error_percent == ask(**GIVEN).plausible.train_error_percent
        with pytest.raises(InputError, match="--trust"):
            ask("n.pt2", data="checknets:digits")

    @pytest.mark.parametrize("name", ["nothing.pt", "checknets.py"])
    def test_what_does_not_open_is_an_error(self, ask, name):
        with pytest.raises(InputError):
            ask(name, **GIVEN)
        with pytest.raises(InputError):
            ask(siblings=(name,), **GIVEN)


@pytest.fixture(scope="module")
def reports(project):
    """Of a file alone, with all it needs, with test data and sibling, with data in doubt, and vouched for."""

    def one(name="net.pt", **fields):
        return check(project / name, Sources(directory=project, **fields))

    return [
        one(),
        one(**GIVEN),
        one(siblings=(project / "other.pt",), **WITH_TEST),
        one(model="checknets:net", data="checknets:digits?shift=1"),
        one(model="checknets:net", data="checknets:digits?shift=1", data_checked=True),
    ]


class TestText:
    def test_no_line_is_longer_than_80_columns_but_one_long_word_or_the_command(self, reports):
        for report in reports:
            for line in check_text(report).splitlines():
                indent = len(line) - len(line.lstrip())
                one_word = " " not in line.strip() or indent + len(line.split()[-1]) >= WIDTH - 13
                assert len(line) <= WIDTH or line.startswith("  run") or one_word, line

    def test_it_says_what_the_report_holds(self, reports):
        bare, alone, pair, wrong, vouched = map(check_text, reports)
        assert "Missing: the network\n  why        " in bare
        assert "2 things are needed first: the network, the data" in bare
        assert "4 tensors, 1,210 numbers" in bare
        assert "Can be measured: 17 of 28 metrics (evidence: alone)" in alone
        assert "  learning rate  0.1" in alone
        assert f"  run        {reports[1].command}" in alone
        assert "Can be measured: 28 of 28 metrics (evidence: sibling, test)" in pair
        assert "Missing" not in pair
        assert "sample gradients)" in " ".join(pair.split())
        assert "Missing: plausible data" in wrong
        assert "let through by --data-checked" in vouched

    def test_json_holds_the_same(self, reports):
        for report in reports:
            values = json.loads(json.dumps(check_values(report)))
            assert values["ready"] is (report.command is not None)
            assert values["metrics"] == list(report.metrics)
            assert [each["what"] for each in values["missing"]] == [each.what for each in report.missing]
            assert set(values) == {
                *("ready", "opened", "siblings", "recipe", "recorded", "network", "data", "plausible", "evidence"),
                *("metrics", "missing", "cost", "command", "flags", "notes"),
            }

    def test_names_out_of_a_file_cannot_write_to_the_terminal(self, reports):
        hostile = "\x1b[2J\x1b[31mall is well\r"
        report = reports[0]
        opened = replace(report.opened, weights_from=hostile, weights_there=(hostile,), fine_tuned_from=hostile)
        row = replace(report.recipe[0], value=hostile, source=hostile)
        text = check_text(replace(report, opened=opened, recipe=(row,)))
        assert "\x1b" not in text
        assert "\r" not in text


class TestCost:
    @pytest.mark.parametrize("samples", [100, 700, 3000])
    def test_sample_gradients_are_those_of_the_measurement(self, samples):
        """Of small trained networks, which may need more samples for their eigenvalues than larger ones."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(samples, 6, generator=generator)
        data = ClassificationData(Samples(x, x[:, :3].argmax(1)), Samples(x, x[:, :3].argmax(1)), 3)
        models = []
        for seed in range(2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                models.append(nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)))
            optimizer = torch.optim.Adam(models[-1].parameters(), 0.01)
            for _ in range(200):
                optimizer.zero_grad()
                nn.functional.cross_entropy(models[-1](x), data.train.targets).backward()
                optimizer.step()
        before = expected = 0.0
        for count in (1, 2):
            cost = measurement_cost(models[:count], data)
            spent = measure_landscape(models[:count], data).cost.sample_gradients
            least, most = cost.sample_gradients
            assert 0.9 * least <= spent <= 1.3 * most
            if before:  # what the sibling adds is known beforehand
                assert least - expected == pytest.approx(spent - before, rel=0.02)
            before, expected = spent, least
            assert 0 < cost.seconds[0] < cost.seconds[1]
            assert cost.memory_bytes > 50 * 2**20  # a process with torch in it

    def test_bounds_of_the_large_case_are_those_of_the_readme(self):
        data = ClassificationData(Samples(torch.zeros(50_000, 1), torch.zeros(50_000).long()), None, 10)
        least, most = alone_gradients(Protocol(), data)
        assert 28_000 <= least <= 32_000
        assert 40_000 <= most <= 46_000

    def test_saved_bytes_of_a_graph_count_each_storage_once_and_no_weights(self):
        network = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
        few, more = (Objective(network, Samples(torch.randn(n, 10), torch.arange(n) % 3), Task(3)) for n in (4, 8))
        each = 4 * 10 + 4 * 20 + 4 * 3 + 8  # inputs, hidden layer, log-softmax, labels
        assert saved_bytes(more) - saved_bytes(few) == 4 * each
        assert 4 * each <= saved_bytes(few) <= 4 * each + 64

    def test_networks_are_not_changed(self):
        network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        x, y = torch.randn(90, 6), torch.arange(90) % 3
        state = torch.get_rng_state()
        measurement_cost([network], ClassificationData(Samples(x, y), None, 3))
        assert network.training
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)

    def test_what_cannot_be_measured_is_an_error(self):
        with pytest.raises(LandscapeError):
            measurement_cost([nn.Linear(6, 4)], ClassificationData(Samples(torch.ones(9, 6), torch.zeros(9)), None, 3))

    def test_a_slow_network_is_tried_on_fewer_samples(self, ask, project, monkeypatch):
        slow = "import time\nfrom torch import nn\n\n\nclass Slow(nn.Flatten):\n    def forward(self, x):\n        "
        slow += "time.sleep(1e-3 * len(x))\n        return super().forward(x)\n\n\ndef net():\n    return "
        slow += "nn.Sequential(Slow(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
        (project / "slownets.py").write_text(slow)
        monkeypatch.setattr(cost_module, "TRIAL_SECONDS", 0.1)
        monkeypatch.setattr(check_module, "GATE_SECONDS", 0.1)
        report = ask(model="slownets:net", data="checknets:digits")
        assert 128 <= report.plausible.samples <= 300
        assert 1e-3 < report.cost.seconds_per_gradient < 2e-3

    def test_too_little_memory_is_said(self, ask, monkeypatch):
        report = ask(**GIVEN)
        assert report.notes == ()
        monkeypatch.setattr(check_module, "free_memory", lambda: report.cost.memory_bytes // 3)
        (note,) = ask(**GIVEN).notes
        assert note.endswith("GiB of memory are free: try --batch-size 64")
        assert "--batch-size 64" in check_text(ask(**GIVEN))

    def test_alone_metrics_are_those_without_test_and_sibling(self):
        assert set(METRICS) - {*TEST_METRICS, *PAIR_METRICS} == set(ALONE_METRICS)
        assert Execution().batch_size == 256
