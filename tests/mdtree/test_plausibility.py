"""The sanity gate: data on which a network answers as it never did in training are asked about, others are not."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from landscape import ClassificationData, Execution, LandscapeError, Samples
from mdtree.checking.data_hints import IMAGENET_DEVIATION, IMAGENET_MEAN
from mdtree.checking.plausibility import CHANCE_ERRORS, CHANCE_POINTS, check_plausible, plausibility
from mdtree.checking.recorded_scores import LOSS_OVER_CHANCE
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.recipes.recipe import Recorded

ZOOS = Path(__file__).parents[2] / "zoo_samples"

NORMALISATIONS = {
    "0...1": lambda u: u,
    "bytes": lambda u: 255 * u,
    "-1...1": lambda u: 2 * u - 1,
    "standardised": lambda u: (u - u.mean((0, 2, 3), keepdim=True)) / u.std((0, 2, 3), keepdim=True),
    "imagenet": lambda u: (u - IMAGENET_MEAN[0]) / IMAGENET_DEVIATION[0],
}


def convolutional(channels: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def trained(network: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int = 200) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def digits():
    """Images (n, 1, 8, 8) between 0 and 1, their labels; 1,200 to train on, the others to test on."""
    held = load_digits()
    x, y = torch.tensor(held.images[:, None], dtype=torch.float32) / 16, torch.tensor(held.target)
    return x[:1200], y[:1200], x[1200:], y[1200:]


@pytest.fixture(scope="module")
def network_for(digits):
    """The same network trained on the digits in any of the normalisations; trained once each."""
    known = {}

    def network(name: str) -> nn.Module:
        if name not in known:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                known[name] = trained(convolutional(), NORMALISATIONS[name](digits[0]), digits[1])
        return known[name]

    return network


def ask(network, x, y, recorded=None, *, test=None, own_words=False, classes=10, **how):
    held = None if test is None else Samples(*test)
    return plausibility(
        network, ClassificationData(Samples(x, y), held, classes), recorded or {}, own_words=own_words, **how
    )


def told(**scores: float) -> dict[str, Recorded]:
    return {name: Recorded(value, f"{name} in the log") for name, value in scores.items()}


class TestWhatIsMeasured:
    def test_error_and_loss_are_those_of_the_first_1024_samples_of_the_fixed_order(self, network_for, digits):
        x, y = digits[:2]
        found = ask(network_for("0...1"), x, y)
        chosen = torch.randperm(1200, generator=torch.Generator().manual_seed(0))[:1024]
        logits = copy.deepcopy(network_for("0...1")).eval()(x[chosen]).detach().double()
        error = 100 * float((logits.argmax(1) != y[chosen]).double().mean())
        assert found.samples == 1024
        assert found.train_error_percent == pytest.approx(error, abs=1e-9)
        assert found.loss == pytest.approx(float(functional.cross_entropy(logits, y[chosen])), rel=1e-5)
        assert found.standard_error == pytest.approx(100 * math.sqrt(error / 100 * (1 - error / 100) / 1024), rel=0.01)
        assert found.chance_error_percent == pytest.approx(100 * (1 - int(torch.bincount(y).max()) / 1200))
        shares = torch.bincount(y).double() / 1200
        assert found.chance_loss == pytest.approx(-float((shares * shares.log()).sum()))
        assert found.question is None
        assert found.hints == ()
        assert found.test_error_percent is None

    def test_fewer_samples_can_be_asked_for_and_batches_make_no_difference(self, network_for, digits):
        one = ask(network_for("0...1"), *digits[:2], most_samples=200)
        other = ask(network_for("0...1"), *digits[:2], most_samples=200, execution=Execution(batch_size=7))
        assert one.samples == other.samples == 200
        assert one.train_error_percent == other.train_error_percent
        assert one.loss == pytest.approx(other.loss, rel=1e-6)

    def test_nothing_of_the_callers_changes(self, network_for, digits):
        network = network_for("0...1").train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        inputs = 255 * digits[0]
        kept = inputs.clone()
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        ask(network, inputs, digits[1])
        assert all(module.training for module in network.modules())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert torch.equal(inputs, kept)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])
        assert random.getstate() == states[2]

    def test_test_samples_are_looked_at_where_a_test_score_was_recorded(self, network_for, digits):
        network, test = network_for("0...1"), digits[2:]
        assert ask(network, *digits[:2], test=test).test_error_percent is None
        found = ask(network, *digits[:2], told(test_accuracy_percent=95.0), test=test)
        logits = copy.deepcopy(network).eval()(test[0]).detach()
        assert found.test_error_percent == pytest.approx(100 * float((logits.argmax(1) != test[1]).double().mean()))

    def test_a_network_that_does_not_fit_the_data_is_an_error_of_the_measurement(self, network_for, digits):
        with pytest.raises(LandscapeError, match="the model fails on a batch"):
            ask(network_for("0...1"), digits[0].flatten(1)[:, :5], digits[1])


class TestNormalisation:
    @pytest.mark.parametrize(
        ("learnt_on", "given", "words"),
        [
            ("0...1", "bytes", "divided by 255"),
            ("0...1", "imagenet", "scaled to 0...1"),
            ("0...1", "-1...1", "scaled to 0...1"),
            ("bytes", "0...1", "multiplied by 255"),
            ("bytes", "standardised", "scaled to 0...255"),
            ("standardised", "bytes", "standardised by channel"),
            ("-1...1", "bytes", "scaled to -1...1"),
            ("imagenet", "0...1", "scaled to 0...1 and normalised by ImageNet's mean and deviation"),
        ],
    )
    def test_the_hint_names_the_one_that_the_network_learnt_on(self, network_for, digits, learnt_on, given, words):
        x, y = NORMALISATIONS[given](digits[0]), digits[1]
        found = ask(network_for(learnt_on), x, y, told(train_accuracy_percent=99.0))
        right = ask(network_for(learnt_on), NORMALISATIONS[learnt_on](digits[0]), y, told(train_accuracy_percent=99.0))
        assert right.question is None
        assert found.question is not None
        assert len(found.hints) == 1
        assert found.hints[0].startswith(f"{words} its accuracy would be ")
        promised = float(found.hints[0].split("would be ")[1].split(" %")[0])
        assert promised == pytest.approx(100 - right.train_error_percent, abs=2)

    def test_a_scale_that_the_accuracy_survives_shows_in_the_loss_of_wrong_answers(self, digits):
        x, y = digits[:2]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
            network = trained(network, x, y, 400)
        assert ask(network, x, y).question is None
        found = ask(network, 255 * x, y)
        assert found.train_error_percent < 5
        assert found.loss < found.chance_loss
        assert "and its loss on the others is" in found.question
        assert found.hints[0].startswith("divided by 255 its accuracy would be 9")
        assert ask(network, 255 * x, y, own_words=True).question is None

    @pytest.mark.slow
    def test_reversed_colour_channels_are_named(self, mdtree_data):
        data = load_data(f"cifar10:{mdtree_data / 'cifar10'}?train=2000&size=16")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = trained(convolutional(3), data.x_train, data.y_train, 400)
        recorded = told(train_accuracy_percent=100 - ask(network, data.x_train, data.y_train).train_error_percent)
        assert ask(network, data.x_train, data.y_train, recorded).question is None
        found = ask(network, data.x_train.flip(1), data.y_train, recorded)
        assert found.question is not None
        assert found.hints[0].startswith("with the colour channels in reverse order (BGR for RGB)")

    def test_columns_of_a_table_are_standardised_one_by_one(self):
        generator = torch.Generator().manual_seed(0)
        clean = torch.randn(900, 6, generator=generator)
        y = (clean[:, :3].sum(1) > clean[:, 3:].sum(1)).long()
        raw = clean * torch.tensor([1.0, 10, 100, 1e3, 1e4, 0.1]) + torch.tensor([0.0, 50, -30, 1e3, 7, 2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = trained(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)), clean, y)
        found = ask(network, raw, y, classes=2)
        assert found.question is not None
        assert found.hints[0].startswith("standardised by feature its accuracy would be 9")

    def test_tokens_and_named_inputs_have_no_normalisation(self):
        class Words(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(10, 4)

            def forward(self, input_ids):
                return 50 * self.table(input_ids[:, 0])

        tokens, y = torch.arange(400)[:, None] % 10, torch.arange(400) // 100
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Words()
        for inputs in (tokens, {"input_ids": tokens}):
            found = ask(network, inputs, y, classes=4)
            assert found.question is not None
            assert found.hints == ()


class TestLabels:
    def test_labels_off_by_one(self, network_for, digits):
        found = ask(network_for("0...1"), digits[0], (digits[1] + 1) % 10)
        assert "a loss that no training leaves" in found.question
        assert found.hints[0].startswith(
            "the labels look off by one: label 1 is what the network calls 0 (its accuracy "
        )

    def test_two_exchanged_labels_show_where_an_accuracy_was_recorded(self, network_for, digits):
        x, y = digits[:2]
        exchanged = torch.where(y == 3, 5, torch.where(y == 5, 3, y))
        assert ask(network_for("0...1"), x, exchanged).question is None  # 80 % could be all it learnt
        found = ask(network_for("0...1"), x, exchanged, told(train_accuracy_percent=99.0))
        assert found.hints[0].startswith("the labels 3 and 5 look exchanged (its accuracy would be 9")

    def test_another_order_of_all(self, network_for, digits):
        order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
        found = ask(network_for("0...1"), digits[0], order[digits[1]])
        assert found.hints[0].startswith(
            "8 labels look to be in another order: 0 is what the network calls 3, 2 is what the network calls 6, "
            "3 is what the network calls 0 and 5 more (its accuracy would be 9"
        )
        reverse = ask(network_for("0...1"), digits[0], 9 - digits[1])
        assert reverse.hints[0].startswith("the labels look to be in reverse order")

    def test_of_many_classes_no_order_fits_what_is_answered_by_chance(self):
        """Chosen and scored on the same samples, an assignment of 600 classes would make 60 % of them right."""
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randint(600, (1024,), generator=generator) for _ in range(2))
        found = ask(Answering(600), sure_of(x, 600), y, classes=600)
        assert found.question is not None
        assert found.hints == ()


class Answering(nn.Module):
    """Its logits are its inputs: what it is right on is in the data."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x):
        return self.scale * x


def sure_of(classes: torch.Tensor, count: int = 10, logit: float = 8.0) -> torch.Tensor:
    return logit * functional.one_hot(classes, count).float()


def right_on(share: float, samples: int = 1000, logit: float = 8.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and balanced labels of which `Answering` is right on that share, in every class alike."""
    y = torch.arange(samples) % 10
    wrong = torch.arange(samples) // 10 >= share * samples / 10
    return sure_of(torch.where(wrong, (y + 1 + torch.arange(samples) // 10 % 9) % 10, y), logit=logit), y


class TestRecorded:
    @pytest.mark.parametrize(("measured", "recorded", "asks"), [
        (0.70, 79.0, False), (0.70, 81.0, True), (0.95, 20.0, False), (0.10, 10.0, False), (0.99, 100.0, False),
    ])  # fmt: skip
    def test_an_accuracy_far_below_the_recorded_one_asks_and_nothing_else(self, measured, recorded, asks):
        found = ask(Answering(), *right_on(measured, logit=1.0), told(train_accuracy_percent=recorded))
        assert (found.question is not None) is asks
        if asks:
            assert found.question == (
                "the network is right on 70.0 % ± 1.4 of the training samples, and its training recorded 81.0 % "
                "(train_accuracy_percent in the log) (wrong normalisation, label order or split?)"
            )

    def test_few_samples_must_be_further_off(self):
        x, y = right_on(0.5, 40)
        assert (
            ask(Answering(), x, y, told(train_accuracy_percent=70.0)).question is None
        )  # 20 points, 8 a standard error
        assert ask(Answering(), x, y, told(train_accuracy_percent=90.0)).question is not None

    def test_a_loss_far_above_the_recorded_one(self):
        x, y = right_on(0.6, logit=4.0)  # loss 1.76: below chance's
        loss = ask(Answering(), x, y).loss
        assert 1.5 < loss < 2.3
        assert "the loss on the training samples is 1.7" in ask(Answering(), x, y, told(train_loss=0.2)).question
        assert ask(Answering(), x, y, told(train_loss=loss - 0.7)).question is None
        # a loss of 0.6 allows for 87 % wrong answers: it may be another loss than cross-entropy
        assert ask(Answering(), x, y, told(train_loss=0.6)).question is None
        # an accuracy that fits settles it
        assert ask(Answering(), x, y, told(train_loss=0.2, train_accuracy_percent=60.0)).question is None

    def test_test_scores_are_held_against_the_test_samples(self):
        train, test = right_on(0.9), right_on(0.5)
        found = ask(Answering(), *train, told(test_accuracy_percent=88.0), test=test)
        assert found.question.startswith("the network is right on 50.0 % ± 1.6 of the test samples")
        assert ask(Answering(), *train, told(test_accuracy_percent=52.0), test=test).question is None
        assert ask(Answering(), *train, told(test_loss=0.1), test=test).question.startswith("the loss on the test")

    def test_without_test_samples_training_may_be_below_the_recorded_test_accuracy_but_not_half_way_to_chance(self):
        """40 % of wrong training labels cost 40 points honestly."""
        assert ask(Answering(), *right_on(0.6, logit=2.0), told(test_accuracy_percent=95.0)).question is None
        found = ask(Answering(), *right_on(0.5, logit=2.0), told(test_accuracy_percent=95.0))
        assert "and on its test samples its training recorded 95.0 %" in found.question

    def test_a_split_the_other_way_round_is_named(self, digits):
        x, y, x_test, y_test = digits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
            network = trained(network, x[:60], y[:60], 100)
        scores = [100 - ask(network, *part).train_error_percent for part in ((x[:60], y[:60]), (x_test, y_test))]
        assert scores[0] == 100
        assert scores[1] < 85
        recorded = told(train_accuracy_percent=scores[0], test_accuracy_percent=scores[1])
        assert ask(network, x[:60], y[:60], recorded, test=(x_test, y_test)).question is None
        found = ask(network, x_test, y_test, recorded, test=(x[:60], y[:60]))
        assert found.hints[0] == (
            "the training and the test samples look exchanged, since on the test samples it is right on 100.0 %"
        )

    def test_numbers_that_are_no_scores_are_passed_over(self):
        x, y = right_on(0.7, logit=2.0)
        for scores in (
            {"train_accuracy_percent": math.nan},
            {"train_accuracy_percent": 170.0},
            {"train_loss": -3.0},
            {"test_loss": -math.inf},
            {"something_else": 100.0},
        ):
            assert ask(Answering(), x, y, told(**scores)).question is None


class TestChance:
    def test_a_network_no_better_than_chance_is_asked_about_unless_the_file_itself_names_the_data(self, digits):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            untrained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        found = ask(untrained, *digits[:2])
        assert found.question.endswith("(wrong normalisation, label order or split? Or did it fail to train?)")
        assert ask(untrained, *digits[:2], own_words=True).question is None
        # nor where training itself recorded that it failed
        assert ask(untrained, *digits[:2], told(train_loss=2.3)).question is None

    def test_a_loss_above_chance_s_makes_the_sentence_firmer(self):
        x, y = right_on(0.0)
        assert "and its loss is 8, chance's 2.3: a loss that no training leaves" in ask(Answering(), x, y).question

    def test_such_a_loss_is_asked_about_although_the_recorded_accuracy_fits_unless_it_was_recorded_too(self):
        x, y = right_on(0.8, logit=100.0)
        accuracy = told(train_accuracy_percent=80.0)
        assert "its loss is 20, chance's 2.3" in ask(Answering(), x, y, accuracy).question
        assert ask(Answering(), x, y, {**accuracy, **told(train_loss=15.0)}).question is None
        assert ask(Answering(), x, y, accuracy, own_words=True).question is None

    def test_classes_that_count_unequally(self):
        """95 of 100 are of one class: weighted classes may cost accuracy; the constant answer has learnt nothing."""
        y = torch.arange(1000) % 100 % 95 // 94 * 0 + (torch.arange(1000) % 100 >= 95).long()
        found_half_of_each = torch.where(torch.arange(1000) % 10 == 3, 1 - y, y)
        weighted = ask(Answering(2), sure_of(found_half_of_each, 2, 2.0), y, classes=2)
        assert 100 - weighted.train_error_percent < 95 < 100 - weighted.chance_error_percent + 1e-9
        assert weighted.question is None
        constant = ask(Answering(2), sure_of(torch.zeros(1000).long(), 2, 3.0), y, classes=2)
        assert constant.train_error_percent == constant.chance_error_percent == 5
        assert constant.question is not None

    def test_a_loss_that_is_not_finite_is_left_to_the_measurement(self):
        x, y = right_on(0.0)
        assert ask(Answering(), x * 1e38 * 10, y).question is None

    @pytest.mark.slow
    def test_shares_of_the_reference_zoos_that_the_gate_would_stop(self):
        """The figures in the module's text: no network has a loss above chance's, an eighth an accuracy at chance."""
        count = at_chance = above = 0
        largest = 0.0
        for file in ZOOS.glob("*.csv"):
            table = pd.read_csv(file)
            table = table[table["train_error_percent"].notna() & table["train_loss_over_chance"].notna()]
            share = table["train_error_percent"] / 100
            chance = (table["train_error_percent"] / table["train_error_over_chance"]).where(share > 0)
            samples = np.minimum(table["train_size"], 1024)
            error = 100 * np.sqrt(np.maximum(share * (1 - share), 1 / (samples + 1)) / samples)
            gained = chance.fillna(chance.median()) - table["train_error_percent"]
            count += len(table)
            at_chance += int((gained < np.maximum(CHANCE_POINTS, CHANCE_ERRORS * error)).sum())
            above += int((table["train_loss_over_chance"] > LOSS_OVER_CHANCE).sum())
            largest = max(largest, table["train_loss_over_chance"].max())
        assert (count, above) == (13_959, 0)
        assert round(100 * at_chance / count, 1) == 11.0
        assert round(largest, 2) == 1.02


class TestCheckPlausible:
    def test_the_error_is_one_line_with_numbers_hint_and_flag(self, network_for, digits):
        data = ClassificationData(Samples(digits[0], (digits[1] + 1) % 10), None, 10)
        with pytest.raises(InputError) as caught:
            check_plausible(network_for("0...1"), data, {}, own_words=False)
        text = str(caught.value)
        assert "\n" not in text
        assert "the best constant answer on 10.2 %" in text
        assert "the labels look off by one" in text
        assert text.endswith("mend the data, or add --data-checked if they are right and the network is as bad as that")

    def test_inputs_that_double_what_is_right_are_asked_about_above_chance_too(self, network_for, digits):
        """Mean and deviation forgotten: still right on half of the samples, and a verdict on a network of no one's."""
        x = 0.35 * NORMALISATIONS["standardised"](digits[0]) + 0.6
        found = ask(network_for("standardised"), x, digits[1])
        chance = found.chance_error_percent
        assert 25 < found.train_error_percent < chance - 20
        assert found.question is not None
        assert "standardised" in found.question
        assert ask(network_for("standardised"), x, digits[1], own_words=True).question is None

    def test_data_that_nothing_speaks_against_pass(self, network_for, digits):
        data = ClassificationData(Samples(*digits[:2]), Samples(*digits[2:]), 10)
        found = check_plausible(network_for("0...1"), data, told(train_accuracy_percent=99.0), own_words=False)
        assert found == plausibility(network_for("0...1"), data, told(train_accuracy_percent=99.0), own_words=True)
        assert found.train_error_percent < 5
