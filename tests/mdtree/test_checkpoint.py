"""Saving and opening: what is saved comes back, equal input gives equal bytes, other people's layouts open too."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mdtree.checkpoint import load_into, load_weights, open_checkpoint
from mdtree.checkpoint_saving import save_checkpoint
from mdtree.errors import InputError
from mdtree.manifest import Manifest, stamped
from mdtree.models import build_model

RECIPE = {
    "learning_rate": 0.1,
    "batch_size": 64,
    "epochs": 20,
    "optimizer": "sgd",
    "augmented": False,
    "schedule": None,
}


def network(seed: int = 0) -> nn.Module:
    return build_model("mlp?width=4&inputs=3&classes=2", seed=seed)


def same_state(one: Any, other: Any) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_checkpoint(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
def test_what_is_saved_comes_back(tmp_path: Path, ending: str) -> None:
    path, model = tmp_path / f"net{ending}", network()
    saved = save_checkpoint(
        path,
        model,
        model_spec="mlp?width=4",
        data_spec="digits?train=160",
        recipe=RECIPE,
        initial_norm_squared=2.5,
    )
    assert saved == path
    opened = open_checkpoint(str(path))
    assert opened.path == path
    assert same_state(opened.state, model.state_dict())
    assert (opened.model_spec, opened.data_spec) == ("mlp?width=4", "digits?train=160")
    assert opened.recipe == RECIPE
    assert [type(value) for value in opened.recipe.values()] == [type(opened.recipe[name]) for name in opened.recipe]
    assert (opened.initial_norm_squared, opened.weights_from) == (2.5, "manifest")
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_without_a_manifest_nothing_is_made_up(tmp_path: Path, ending: str) -> None:
    opened = open_checkpoint(save_checkpoint(tmp_path / f"net{ending}", network()))
    assert (opened.model_spec, opened.data_spec, opened.recipe, opened.initial_norm_squared) == (None, None, {}, None)


def test_a_saved_file_opens_without_this_package(tmp_path: Path) -> None:
    model = network()
    content = torch.load(save_checkpoint(tmp_path / "net.pt", model, recipe=RECIPE), weights_only=True)
    assert same_state(content["state_dict"], model.state_dict())
    assert content["manifest"]["recipe"] == RECIPE
    tensors = safetensors.torch.load_file(save_checkpoint(tmp_path / "net.safetensors", model))
    assert same_state(tensors, model.state_dict())


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_equal_input_gives_equal_bytes(tmp_path: Path, ending: str) -> None:
    """Neither the file's name, nor the order of the recipe, nor whether two strings are one object, shows."""
    word = "sgd"
    copy_of_word = "".join(["s", "g", "d"])
    first = {"optimizer": word, "schedule": word, "seed": 1}
    second = {"seed": 1, "schedule": word, "optimizer": copy_of_word}
    one = save_checkpoint(tmp_path / f"one{ending}", network(), model_spec="mlp?width=4", recipe=first)
    other = save_checkpoint(tmp_path / f"longer_name{ending}", network(), model_spec="mlp?width=4", recipe=second)
    assert one.read_bytes() == other.read_bytes()
    different = save_checkpoint(tmp_path / f"different{ending}", network(1), model_spec="mlp?width=4", recipe=first)
    assert one.read_bytes() != different.read_bytes()


def test_saving_leaves_the_network_alone_and_nothing_else_in_the_folder(tmp_path: Path) -> None:
    model = network().train()
    model(torch.ones(1, 3)).sum().backward()
    gradient = model.output.bias.grad.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = save_checkpoint(tmp_path / "net.pt", model)
    assert model.training
    assert torch.equal(model.output.bias.grad, gradient)
    assert same_state(model.state_dict(), before)
    assert os.listdir(tmp_path) == [path.name]


def test_a_part_of_a_large_tensor_is_saved_as_just_itself(tmp_path: Path) -> None:
    model = nn.Linear(2, 2, bias=False)
    model.weight = nn.Parameter(torch.zeros(1000, 1000)[3:5, 3:5])
    assert save_checkpoint(tmp_path / "net.pt", model).stat().st_size < 4000


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.ckpt", {}, "net.ckpt ends in .ckpt; expected .pt, .pth or .safetensors"),
        ("net", {}, "net ends in nothing; expected .pt, .pth or .safetensors"),
        ("none/net.pt", {}, "net.pt cannot be written (no such file or directory)"),
        ("net.pt", {"model_spec": "mlp?width"}, "'width' in 'mlp?width' is not an option"),
        ("net.pt", {"data_spec": ""}, "the specification '' has no name"),
        (
            "net.pt",
            {"recipe": {"betas": (0.9, 0.99)}},
            "recipe entry 'betas' is a tuple; expected int, float, bool, str",
        ),
        (
            "net.pt",
            {"recipe": {"epochs": np.int64(3)}},
            "recipe entry 'epochs' is a int64; expected int, float, bool, str",
        ),
        (
            "net.pt",
            {"recipe": {"learning_rate": math.inf}},
            "recipe entry 'learning_rate' is inf; expected a finite number",
        ),
        ("net.pt", {"initial_norm_squared": -1.0}, "initial_norm_squared is -1.0; expected a finite number, 0 or more"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        save_checkpoint(tmp_path / name, network(), **options)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_manifest_of_a_newer_version_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save({"format": "mdtree-checkpoint", "version": 2, "manifest": {}, "state_dict": state}, tmp_path / "new.pt")
    assert "is of version 2; expected version 1 or older; update mdtree-diagnosis" in refusal(tmp_path / "new.pt")
    torch.save({"format": "mdtree-checkpoint", "version": 1, "manifest": 3, "state_dict": state}, tmp_path / "bad.pt")
    assert "the manifest of" in refusal(tmp_path / "bad.pt")
    for text in ("{", "3", json.dumps({"version": 1, "manifest": {"recipe": [1]}})):
        safetensors.torch.save_file(dict(state), tmp_path / "bad.safetensors", {"mdtree": text})
        assert refusal(tmp_path / "bad.safetensors").endswith("bad.safetensors is damaged; save it again")
    text = json.dumps({"version": 1, "manifest": {"model": 3}})
    safetensors.torch.save_file(dict(state), tmp_path / "bad.safetensors", {"mdtree": text})
    assert refusal(tmp_path / "bad.safetensors").startswith("model in the manifest of")


def test_a_bare_state_dict_old_and_new_and_plain_safetensors(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(dict(state), tmp_path / "hub.safetensors", {"format": "pt"})
    for name in ("new.pt", "old.pt", "hub.safetensors"):
        opened = open_checkpoint(tmp_path / name)
        assert same_state(opened.state, state)
        assert (opened.weights_from, opened.model_spec, opened.recipe) == ("file", None, {})


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "weights", "classifier"])
def test_weights_beside_other_things_are_found(tmp_path: Path, key: str) -> None:
    state = network().state_dict()
    torch.save({"epoch": 3, key: state, "best": 0.5, "losses": [1.0], "notes": {"a": 1}}, tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt")
    assert same_state(opened.state, state)
    assert (opened.weights_from, opened.candidates) == (key, (key,))


def test_averaged_weights_are_taken_only_when_named(tmp_path: Path) -> None:
    raw, averaged = network(0).state_dict(), network(1).state_dict()
    torch.save({"model_ema": averaged, "model": raw}, tmp_path / "both.pt")
    opened = open_checkpoint(tmp_path / "both.pt")
    assert same_state(opened.state, raw)
    assert (opened.weights_from, opened.candidates) == ("model", ("model_ema", "model"))
    named = open_checkpoint(tmp_path / "both.pt", weights="model_ema")
    assert same_state(named.state, averaged)
    assert named.weights_from == "model_ema"
    torch.save({"ema_state": averaged}, tmp_path / "ema.pt")
    assert "holds averaged weights only (ema_state); expected one; say which one is meant" in refusal(
        tmp_path / "ema.pt"
    )


def test_several_sets_of_weights_are_listed_not_guessed(tmp_path: Path) -> None:
    torch.save({name: network().state_dict() for name in ("encoder", "decoder")}, tmp_path / "two.pt")
    message = refusal(tmp_path / "two.pt")
    assert "holds several sets of weights (encoder, decoder); expected one" in message
    assert message.endswith("say which one is meant, for instance --weights encoder")
    assert open_checkpoint(tmp_path / "two.pt", weights="decoder").weights_from == "decoder"
    assert "holds no weights under 'x'; expected one of encoder, decoder" in refusal(tmp_path / "two.pt", weights="x")


def test_what_wrappers_put_before_every_name_is_taken_off(tmp_path: Path) -> None:
    state = network().state_dict()
    wrapped = OrderedDict((f"_orig_mod.module.{name}", value) for name, value in state.items())
    torch.save(wrapped, tmp_path / "wrapped.pt")
    assert same_state(open_checkpoint(tmp_path / "wrapped.pt").state, state)
    partly = {**{f"module.{name}": value for name, value in state.items()}, "temperature": torch.ones(1)}
    torch.save(partly, tmp_path / "partly.pt")
    assert set(open_checkpoint(tmp_path / "partly.pt").state) == set(partly)


def test_weights_averaged_by_torch_are_marked(tmp_path: Path) -> None:
    model = network()
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "swa.pt")
    opened = open_checkpoint(tmp_path / "swa.pt")
    assert same_state(opened.state, model.state_dict())
    assert opened.weights_from == "file (averaged weights)"


def test_the_optimizer_beside_the_weights_tells_the_recipe(tmp_path: Path) -> None:
    model = network()
    groups = [{"params": [model.output.bias], "weight_decay": 0.0}, {"params": [p for p in model.parameters()][:-1]}]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}
    torch.save(content, tmp_path / "net.pt")
    # the rate the schedule started from, and the group of most parameters
    assert optimizer.param_groups[1]["lr"] < 0.1
    opened = open_checkpoint(tmp_path / "net.pt")
    assert opened.recipe == {
        "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "optimizer": "sgd", "schedule": "cosine",
    }  # fmt: skip
    assert opened.recipe_sources["learning_rate"] == "optimizer.param_groups[1].initial_lr"


def test_a_manifest_inside_another_frameworks_checkpoint_is_stronger_than_what_is_found(tmp_path: Path) -> None:
    manifest = Manifest("mlp?width=4", "digits", {"learning_rate": 0.5, "batch_size": 7}, 2.5, {"train_loss": 0.25})
    content = {
        "pytorch-lightning_version": "2.4",
        "state_dict": network().state_dict(),
        "hyper_parameters": {"learning_rate": 0.1, "weight_decay": 0.01},
        "mdtree": stamped(manifest),
    }
    torch.save(content, tmp_path / "last.ckpt")
    opened = open_checkpoint(tmp_path / "last.ckpt")
    assert same_state(opened.state, network().state_dict())
    assert (opened.framework, opened.weights_from) == ("lightning", "state_dict")
    assert (opened.model_spec, opened.data_spec, opened.initial_norm_squared) == ("mlp?width=4", "digits", 2.5)
    assert opened.recipe == {"learning_rate": 0.5, "batch_size": 7, "weight_decay": 0.01}
    assert opened.recipe_sources["learning_rate"] == "the file's manifest"
    assert opened.recipe_sources["weight_decay"].startswith("hyper_parameters")
    assert opened.recorded["train_loss"].value == 0.25


def test_a_manifest_beside_the_weights_counts_as_one_inside(tmp_path: Path) -> None:
    safetensors.torch.save_file(network().state_dict(), tmp_path / "model.safetensors")
    text = json.dumps(stamped(Manifest(data="digits?train=50", fine_tuned_from="start.pt")))
    (tmp_path / "mdtree.json").write_text(text)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        opened = open_checkpoint(path)
        assert (opened.data_spec, opened.fine_tuned_from, opened.weights_from) == (
            "digits?train=50",
            "start.pt",
            "file",
        )
    (tmp_path / "mdtree.json").write_text(text.replace('"version": 1', '"version": 2'))
    assert "is of version 2; expected version 1 or older" in refusal(tmp_path)


def test_one_network_among_several_is_named_by_what_its_names_begin_with(tmp_path: Path) -> None:
    both = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in network().state_dict().items()}
    both["teacher.output.bias"] = torch.full_like(both["teacher.output.bias"], 7.0)
    torch.save({"state_dict": both}, tmp_path / "both.ckpt")
    with pytest.raises(InputError, match="--weights student"):
        load_weights(network(), open_checkpoint(tmp_path / "both.ckpt"))
    model = network()
    fitted = load_weights(model, open_checkpoint(tmp_path / "both.ckpt", weights="teacher"))
    assert torch.equal(model.state_dict()["output.bias"], both["teacher.output.bias"])
    assert len(fitted.left_aside) == len(network().state_dict())
    assert "holds no weights under 'pupil'" in refusal(tmp_path / "both.ckpt", weights="pupil")


def test_load_into_gives_the_network_its_weights() -> None:
    model, state = network(0), network(1).state_dict()
    assert load_into(model, state, "net.pt") is model
    assert same_state(model.state_dict(), state)
    assert model.output.weight.requires_grad


def test_what_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    model = network(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = dict(network(1).state_dict())
    del state["hidden1.weight"], state["hidden1.bias"]
    state["output.weight"] = torch.zeros(10, 4)
    state["output.bias"] = torch.zeros(())
    state.update({f"extra{number}": torch.zeros(1) for number in range(7)})
    with pytest.raises(InputError) as caught:
        load_into(model, state, "net.pt")
    assert str(caught.value) == (
        "the weights in net.pt do not fit the network: 2 missing (hidden1.weight, hidden1.bias), "
        "7 unexpected (extra0, extra1, extra2, extra3, extra4 and 2 more), "
        "2 of another shape (output.weight 10×4 for 2×4, output.bias scalar for 2); "
        "expected the network they were trained in; name it with --model package.module:factory?key=value"
    )
    assert same_state(model.state_dict(), before)


class Counting(nn.Linear):
    """A module with an extra state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        raise AssertionError("only tensors are loaded")


def test_extra_states_that_are_no_tensors_are_left_out(tmp_path: Path) -> None:
    model = Counting(2, 2)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt")
    assert set(opened.state) == {"weight", "bias"}
    other = load_into(Counting(2, 2), opened.state, opened.path)
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(InputError, match=r"^_extra_state of the network's state is a dict; expected tensors only$"):
        save_checkpoint(tmp_path / "own.pt", model)
