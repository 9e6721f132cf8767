"""The recipe: each value from the place that is to be believed, with that place's name; nothing made up."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pytest
import torch

from mdtree.reading.checkpoint_files import FileContents
from mdtree.reading.inert_objects import inert_class
from mdtree.recipes.recipe import Recipe
from mdtree.recipes.recipe_findings import percent
from mdtree.recipes.recipe_sources import find_recipe
from mdtree.recipes.recipe_written import score_name
from mdtree.weights.checkpoint_contents import Weights

GROUP = {"lr": 0.01, "momentum": 0.9, "dampening": 0, "weight_decay": 5e-4, "nesterov": False, "params": [0, 1]}
ADAM = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "params": [0, 1]}


def recipe(content: Any, beside: dict[str, Any] | None = None, used: str = "state_dict", **more: Any) -> Recipe:
    weights = Weights({}, used, (used,))
    return find_recipe(FileContents(content, None, "", 0, beside=beside or {}, **more), weights)


def values(content: Any, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    found = recipe(content, beside)
    assert set(found.sources) == set(found.values)
    return dict(found.values)


def optimizer(*groups: dict[str, Any], state: Any = None) -> dict[str, Any]:
    return {"state": state or {}, "param_groups": list(groups)}


def namespace(**attributes: Any) -> Any:
    made = inert_class("argparse.Namespace")()
    made.state = vars(argparse.Namespace(**attributes))
    return made


def test_the_rate_a_schedule_starts_from_is_preferred() -> None:
    """Top of one cycle, start of a schedule, the schedule's own base, settings, and last the rate of the last step."""
    base = {"T_max": 3, "base_lrs": [0.3], "last_epoch": 3, "_last_lr": [0.01]}
    args = {"lr": 0.2}
    group = {**GROUP, "initial_lr": 0.4}
    one_cycle = {**group, "max_lr": 0.5, "base_momentum": 0.85}
    for content, rate, place in (
        ({"o": optimizer(one_cycle), "args": args}, 0.5, "o.param_groups[0].max_lr"),
        ({"o": optimizer(group), "s": base, "args": args}, 0.4, "o.param_groups[0].initial_lr"),
        ({"o": optimizer(GROUP), "s": base, "args": args}, 0.3, "s.base_lrs[0]"),
        ({"o": optimizer(GROUP), "args": args, "lr": 0.1}, 0.2, "args.lr"),
        ({"o": optimizer(GROUP), "lr": 0.1}, 0.1, "lr"),
        ({"o": optimizer(GROUP)}, 0.01, "o.param_groups[0].lr"),
    ):
        found = recipe(content)
        assert (found.values["learning_rate"], found.sources["learning_rate"]) == (rate, place)
    assert "learning_rate" not in values({"o": optimizer({**GROUP, "lr": 0.0})})  # where a schedule ends
    assert "momentum" not in values({"o": optimizer(one_cycle)})  # moved with the rate


def test_the_group_of_most_parameters_speaks() -> None:
    state = {0: {"exp_avg": torch.ones(5)}, 1: {"exp_avg": torch.ones(5)}, 2: {"exp_avg": torch.ones(100)}}
    groups = ({**ADAM, "lr": 0.1, "params": [0, 1]}, {**ADAM, "lr": 0.2, "params": [2]})
    assert values({"o": optimizer(*groups)})["learning_rate"] == 0.1  # by their number, where no shape is known
    assert values({"o": optimizer(*groups, state=state)})["learning_rate"] == 0.2
    # groups that differ in weight decay alone: those without are exempted
    decays = ({**ADAM, "params": [0, 1, 2]}, {**ADAM, "weight_decay": 0.1, "params": [3]})
    assert values({"o": optimizer(*decays)})["weight_decay"] == 0.1


def test_several_optimizers_speak_if_they_agree_or_one_has_nearly_all_parameters() -> None:
    many = {**GROUP, "params": list(range(30))}
    other = {**GROUP, "lr": 0.5}
    assert values({"a": optimizer(GROUP), "b": optimizer(GROUP)})["learning_rate"] == 0.01
    assert values({"a": optimizer(many), "b": optimizer(other)})["learning_rate"] == 0.01
    found = recipe({"a": optimizer(GROUP), "b": optimizer(other)})
    assert dict(found.values) == {}
    assert found.notes == ("the file holds 2 optimizers that do not agree: none of them is heard",)


@pytest.mark.parametrize(
    ("group", "slots", "name"),
    [
        (GROUP, {}, "sgd"),
        (ADAM, {}, "adam or adamw"),
        ({**ADAM, "decoupled_weight_decay": True}, {}, "adamw"),
        ({**ADAM, "decoupled_weight_decay": False}, {}, "adam"),
        ({"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}, {"exp_inf": torch.ones(1)}, "adamax"),
        ({"lr": 0.1, "alpha": 0.9}, {"square_avg": torch.ones(1)}, "rmsprop"),
        ({"lr": 0.1}, {}, None),
        ({"lr": 0.1, "betas": (0.9, 0.99)}, {"exp_avg": torch.ones(1)}, None),  # Lion and others
    ],
)
def test_the_optimizer_is_named_by_what_only_it_has(group: dict[str, Any], slots: Any, name: str | None) -> None:
    assert values({"o": optimizer(group, state={0: slots})}).get("optimizer") == name


def test_epochs_are_those_trained_and_planned_ones_stand_apart() -> None:
    schedule = {"T_max": 9, "base_lrs": [0.3], "last_epoch": 3, "_last_lr": [0.01]}
    assert values({"epoch": 3, "args": {"epochs": 90}}) == {"epochs": 3, "planned_epochs": 90}
    assert values({"epoch": 90, "args": {"epochs": 90}}) == {"epochs": 90}
    assert values({"epoch": 3, "s": schedule})["epochs"] == 3
    counted_from_0 = recipe({"epoch": 2, "s": schedule})
    assert counted_from_0.values["epochs"] == 3
    assert counted_from_0.sources["epochs"].startswith("epoch + 1")
    planned = recipe({"args": {"epochs": 90}})
    assert (planned.values["epochs"], planned.sources["epochs"]) == (90, "args.epochs (as planned)")
    assert values({"epoch": 0}) == {}  # untrained, or the first of those that count from 0


def test_settings_are_found_in_nests_and_namespaces() -> None:
    told = {"optim": {"name": "AdamW", "lr": "1e-3"}, "data": {"batch-size": 16}, "val": {"batch_size": 99}}
    expected = {"optimizer": "adamw", "learning_rate": 1e-3, "batch_size": 16}
    assert values({"config": told}) == expected
    assert values({"args": namespace(lr=0.1, bs=8, wd=0.0)}) == {
        "learning_rate": 0.1,
        "batch_size": 8,
        "weight_decay": 0.0,
    }
    assert values({"cfg": {"optimizer": {"type": "Lion", "lr": 0.1}}}) == {"optimizer": "lion", "learning_rate": 0.1}


def test_places_that_contradict_each_other_are_not_heard() -> None:
    found = recipe({"args": {"lr": 0.1, "batch_size": 8}, "config": {"batch_size": 16}})
    assert dict(found.values) == {"learning_rate": 0.1}
    assert found.notes == (
        "the file tells two values of batch size: 8 (args.batch_size) and 16 (config.batch_size); neither is used",
    )
    processes = recipe({"args": {"batch_size": 8, "world_size": 4}})
    assert dict(processes.values) == {}
    assert processes.notes == (
        "args.world_size is 4: whether the batch size counts once or 4 times is not said, it is left out",
    )
    passes = {"batch_size": 8, "config": {"gradient_accumulation_steps": 2}}
    assert values(passes) == {}
    assert values({**passes, "config": {"gradient_accumulation_steps": 1}}) == {"batch_size": 8}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (8, 8),
        (8.0, 8),
        ("8", 8),
        (torch.tensor(8), 8),
        (8.5, None),
        (0, None),
        (-8, None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        (10**20, None),
        ("8" * 5_000_000, None),
        ("eight", None),
        (torch.ones(3), None),
        (torch.empty((), device="meta"), None),
        ([8], None),
        (None, None),
    ],
)
def test_only_plain_finite_possible_values_are_kept(value: Any, kept: int | None) -> None:
    found = values({"batch_size": value, "args": {"optimizer": "a\nb", "scheduler": "x" * 10_000}})
    assert found == ({} if kept is None else {"batch_size": kept})
    assert kept is None or type(found["batch_size"]) is int


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("val_acc", "test_accuracy_percent"),
        ("train/loss_epoch", "train_loss"),
        ("test_accuracy", "test_accuracy_percent"),
        ("eval_top1", "test_accuracy_percent"),
        ("valid.loss", "test_loss"),
        ("acc", None),
        ("loss", None),
        ("best_acc", None),
        ("best_val_acc", None),  # of another epoch
        ("train_val_loss", None),
        ("val_f1", None),
        ("val_acc_top5", None),
    ],
)
def test_a_score_is_known_where_set_and_measure_are_said(key: str, name: str | None) -> None:
    assert score_name(key) == name


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        (0.93, "val_acc", 93.0),
        (93.0, "val_acc", 93.0),
        (1.0, "val_acc", None),  # all of them, or one in a hundred
        (0.0, "val_acc", 0.0),
        (0.5, "val_top1", None),  # half a percent, or half of them
        (50.0, "val_acc1", 50.0),
        (101.0, "val_acc", None),
        (-0.1, "val_acc", None),
    ],
)
def test_an_accuracy_is_percent_or_a_share_or_left_out(value: float, source: str, expected: float | None) -> None:
    assert percent(value, source) == (None if expected is None else pytest.approx(expected))


def test_beside_percentages_a_small_accuracy_is_left_out() -> None:
    told = recipe({"train_acc": 97.0, "val_acc": 0.8}).recorded
    assert {name: one.value for name, one in told.items()} == {"train_accuracy_percent": 97.0}
    both = recipe({"train_acc": 0.97, "val_acc": 0.8}).recorded
    assert {name: (round(one.value, 9), one.source) for name, one in both.items()} == {
        "train_accuracy_percent": (97.0, "train_acc"),
        "test_accuracy_percent": (80.0, "val_acc"),
    }


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"pretrained": True}, "pretrained weights (args.pretrained)"),
        ({"pretrained": "imagenet21k"}, "imagenet21k"),
        ({"initial_checkpoint": "a.pt", "pretrained": True}, "a.pt"),
        ({"pretrained": False, "initial_checkpoint": ""}, None),
        ({"pretrained": "none"}, None),
        ({"weights": "ResNet18_Weights.IMAGENET1K_V1"}, "ResNet18_Weights.IMAGENET1K_V1"),
        ({"weights": "runs/1/last.pt"}, None),
        ({}, None),
    ],
)
def test_settings_tell_what_training_started_from(settings: dict[str, Any], start: str | None) -> None:
    assert recipe({"args": settings}).fine_tuned_from == start


def test_hostile_contents_tell_nothing_and_end() -> None:
    own: dict[Any, Any] = {"epoch": 3}
    own["self"], own["args"], own[(1, 2)] = own, own, own
    assert values(own) == {"epochs": 3}
    wide = {"args": {f"key{number}": number for number in range(200_000)}}
    assert values(wide) == {}
    groups = {"o": {"param_groups": [{"lr": 10**400, "params": 3}], "state": {0: 3}}}
    assert values(groups) == {}
    nested = [{"lr": {}, "params": {}, "weight_decay": 0.1}, {"lr": [], "params": [{}, []]}]
    assert values({"o": {"param_groups": nested, "state": {}}}) == {"weight_decay": 0.1}
    for content in (None, [], 3, {"param_groups": 3}, {"args": 3, "callbacks": 3, "pytorch-lightning_version": 1}):
        assert values(content) == {}
    broken = {"trainer_state.json": {"log_history": [3, {"step": {}}], "epoch": "x"}, "training_args.bin": 3}
    assert values({}, broken) == {}
    assert values({}, {"config.json": [], "optimizer.pt": None}) == {}
