"""What training started from: its squared norm out of another checkpoint, fresh instances for what that lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape import Protocol
from landscape.network import seeded_global_state
from mdtree.checkpoint import Checkpoint
from mdtree.errors import InputError
from mdtree.starting_point import StartingPoint, initial_norm_squared, siblings_share_start, starting_point


class Classifier(nn.Module):
    """A body with BatchNorm, whose buffers are no parameters, and a head."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU())
        self.head = nn.Linear(5, classes)


class Tied(nn.Module):
    """One matrix under two names."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight


def made(factory, seed: int = 1) -> nn.Module:
    with seeded_global_state(seed):
        return factory()


def opened(state, path="start.pt", **fields) -> Checkpoint:
    return Checkpoint(Path(path), dict(state), None, None, {}, None, "0" * 64, "file", **fields)


def squares(values) -> float:
    return sum(float(value.detach().double().square().sum()) for value in values)


def expected_of_fresh(factory, names) -> float:
    protocol = Protocol()
    found = [
        squares(dict(made(factory, protocol.seed + n).named_parameters())[name] for name in names)
        for n in range(protocol.fresh_instances)
    ]
    return sum(found) / len(found)


@pytest.fixture
def network() -> nn.Module:
    return made(Classifier, 2)


class TestNorm:
    def test_all_parameters_and_no_buffer(self, network):
        start = made(Classifier)
        start.body[1].running_mean += 100
        found = initial_norm_squared(opened(start.state_dict()), network, Classifier)
        assert found == StartingPoint(pytest.approx(squares(start.parameters()), rel=1e-12), "start.pt")

    def test_a_new_head_is_taken_from_fresh_instances_and_said(self, network):
        start = made(lambda: Classifier(1000))
        head = ["head.weight", "head.bias"]
        body = squares(value for name, value in start.named_parameters() if name not in head)
        found = initial_norm_squared(opened(start.state_dict()), network, Classifier)
        assert found.norm_squared == pytest.approx(body + expected_of_fresh(Classifier, head), rel=1e-12)
        assert found.notes == (
            "2 tensors (head.weight, head.bias) of the network are not in start.pt: from fresh initialisation",
        )

    @pytest.mark.parametrize(
        "renamed",
        [lambda name: name.removeprefix("body."), lambda name: f"model.{name}"],
        ids=["body saved alone", "wrapped"],
    )
    def test_a_first_part_of_the_names_is_bridged(self, network, renamed):
        start = made(Classifier)
        held = {renamed(name): value for name, value in start.state_dict().items() if name.startswith("body.")}
        found = initial_norm_squared(opened(held), network, Classifier)
        fresh = expected_of_fresh(Classifier, ["head.weight", "head.bias"])
        assert found.norm_squared == pytest.approx(squares(start.body.parameters()) + fresh, rel=1e-12)

    def test_a_tied_matrix_counts_once_whichever_name_it_is_saved_under(self):
        start = made(Tied)
        for name in ("table.weight", "out.weight"):
            found = initial_norm_squared(opened({name: start.table.weight.detach()}), made(Tied, 2), Tied)
            assert found == StartingPoint(pytest.approx(squares([start.table.weight]), rel=1e-12), "start.pt")

    def test_half_precision_is_summed_exactly_enough(self, network):
        start = made(Classifier)
        held = {name: value.half() for name, value in start.state_dict().items() if value.is_floating_point()}
        found = initial_norm_squared(opened(held), network, Classifier)
        assert found.norm_squared == pytest.approx(squares(start.parameters()), rel=1e-3)

    def test_nothing_of_the_global_random_state_is_used_up(self, network):
        before = torch.get_rng_state()
        initial_norm_squared(opened(made(lambda: Classifier(9)).state_dict()), network, Classifier)
        assert torch.equal(torch.get_rng_state(), before)


class TestRefusals:
    def test_nothing_in_common(self, network):
        with pytest.raises(InputError) as caught:
            initial_norm_squared(opened({"conv.weight": torch.ones(2, 2)}), network, Classifier)
        assert str(caught.value) == (
            "start.pt has no tensor in common with the network, by name and shape (it holds conv.weight; the network "
            "body.0.weight, body.0.bias and 4 more); expected the weights that its training started from"
        )

    def test_the_network_itself(self, network):
        with pytest.raises(InputError, match=r"start\.pt holds the very weights of the checkpoint"):
            initial_norm_squared(opened(network.state_dict()), network, Classifier)

    def test_a_frozen_body_with_a_new_head_is_not_the_network_itself(self, network):
        body = {name: value for name, value in network.state_dict().items() if name.startswith("body.")}
        assert len(initial_norm_squared(opened(body), network, Classifier).notes) == 1

    def test_a_new_head_where_no_fresh_instance_can_be_made(self, network):
        body = {name: value for name, value in made(Classifier).state_dict().items() if name.startswith("body.")}
        with pytest.raises(InputError, match=r"start.pt lacks 2 tensors \(head.weight, head.bias\) of the network"):
            initial_norm_squared(opened(body), network, None)


class TestStartingPoint:
    def test_a_file_that_is_given_comes_before_all(self, network):
        start, own = made(Classifier), replace(opened(network.state_dict()), initial_norm_squared=5.0)
        found = starting_point(own, opened(start.state_dict()), network, Classifier)
        assert found.norm_squared == pytest.approx(squares(start.parameters()))

    def test_then_the_manifest(self, network):
        own = replace(opened({}), initial_norm_squared=5.0, fine_tuned_from="bert")
        assert starting_point(own, None, network, Classifier) == StartingPoint(5.0, "its manifest")

    def test_a_fine_tuned_network_without_its_start_has_no_growth(self, network):
        own = opened({}, fine_tuned_from="bert-base\x1b[31m")
        found = starting_point(own, None, network, Classifier)
        assert found == StartingPoint(
            reason=r"fine-tuned from 'bert-base\x1b[31m': give what training started from with --init FILE"
        )

    def test_any_other_is_told_by_fresh_instances(self, network):
        assert starting_point(opened({}), None, network, Classifier) == StartingPoint()


class TestSiblings:
    @pytest.mark.parametrize(
        ("own", "other", "init", "share"),
        [
            (None, None, None, False),
            (None, None, "start.pt", True),
            ("bert", "bert", None, True),
            ("bert", None, None, True),  # the same training: it says less, but started alike
            ("bert", "roberta", None, False),
            (None, "bert", None, False),
        ],
    )
    def test_what_says_that_they_started_alike(self, own, other, init, share):
        files = [opened({}, fine_tuned_from=own), opened({}, fine_tuned_from=other)]
        assert siblings_share_start(files, init) is share

    def test_a_network_alone_shares_nothing(self):
        assert siblings_share_start([opened({}, fine_tuned_from="bert")], "start.pt") is False
