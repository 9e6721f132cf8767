"""Finding the weights in what a checkpoint holds: which are taken, which are listed, and what is never weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mdtree.errors import InputError
from mdtree.reading.inert_objects import inert_class
from mdtree.weights.checkpoint_contents import Weights, find_weights

FILE = Path("net.pt")


def state(value: float = 0.0) -> dict[str, Tensor]:
    return {"conv.weight": torch.full((2, 2), value), "conv.bias": torch.zeros(2)}


def found(content: Any, key: str | None = None) -> Weights:
    return find_weights(content, FILE, key)


def refusal(content: Any, key: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        find_weights(content, FILE, key)
    return str(caught.value)


def inert(name: str, **attributes: Any) -> Any:
    """An object of a class that was not imported, with attributes."""
    made = inert_class(name)()
    made.state = attributes
    return made


def module(**parameters: Any) -> Any:
    """A pickled torch.nn.Module, as it is read."""
    return inert("nets.Net", _parameters=parameters, _buffers={}, _modules={})


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (state(), "file"),
        (OrderedDict(state()), "file"),
        ({"state_dict": state(), "epoch": 3}, "state_dict"),
        ({"anything": state()}, "anything"),
        ({"checkpoint": {"model": state()}}, "checkpoint.model"),
        ({"a": {"b": {"c": {"d": state()}}}}, "a.b.c.d"),
        ({"models": [state()]}, "models.0"),
        ({0: state()}, "0"),
        ({"run": inert("user.Run", net=state())}, "run.net"),
        (module(weight=torch.ones(2)), "file"),
        ({"model": module(weight=torch.ones(2))}, "model"),
    ],
)
def test_weights_are_found_up_to_four_levels_down(content: Any, place: str) -> None:
    weights = found(content)
    assert (weights.found_in, weights.candidates, weights.notes) == (place, (place,), ())
    assert found(content, place).found_in == place


def test_five_levels_down_is_too_deep() -> None:
    content = {"a": {"b": {"c": {"d": {"e": state()}}}}}
    assert refusal(content).startswith("net.pt holds no tensors that could be weights (keys a); expected a state dict")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"model": state(), "criterion": {"weight": torch.ones(3)}}, "model"),
        ({"best": {"state_dict": state(1)}, "state_dict": state()}, "state_dict"),
        ({"model": state(), "teacher": state(1), "extra": {"model": state(2)}}, "model"),
        ({"generator": state(), "model_ema": state(1)}, "generator"),
        ({"generator": state(), "callbacks": {"EMACallback": {"weights": state(1)}}}, "generator"),
        ({"net": {**state(1), "n_averaged": torch.tensor(3)}, "model": state()}, "model"),
    ],
)
def test_of_several_the_usual_name_is_taken_the_least_deep_first(content: Any, place: str) -> None:
    weights = found(content)
    assert weights.found_in == place
    assert len(weights.candidates) >= 2
    assert all(torch.equal(weights.state[name], tensor) for name, tensor in state().items())


@pytest.mark.parametrize(
    "content",
    [
        {"encoder": state(), "head": state(1)},
        {"model": state(), "net": state(1)},
        {"model": {"encoder": state(), "head": state(1)}},
        [state(), state(1)],
    ],
)
def test_several_are_listed_not_guessed(content: Any) -> None:
    message = refusal(content)
    assert message.startswith("net.pt holds several sets of weights (")
    asked = message.rpartition("for instance --weights ")[2]
    assert torch.equal(found(content, asked).state["conv.weight"], torch.zeros(2, 2))
    assert refusal(content, "other").startswith("net.pt holds no weights under 'other'; expected one of ")


@pytest.mark.parametrize(
    "name",
    [
        *("ema", "model_ema", "ema_state_dict", "modelEMA", "netema", "swa_model", "EMACallback{'decay': 0.9}"),
        *("shadow", "averaged_model", "callbacks.EMAWeightAveraging.state", "ModelEmaV2", "polyak_weights"),
    ],
)
def test_averaged_weights_are_never_taken_unasked(name: str) -> None:
    content: Any = state(1)
    for part in reversed(name.split(".")):
        content = {part: content}
    assert refusal(content) == (
        f"net.pt holds averaged weights only ({name}); expected one; say which one is meant, "
        f"for instance --weights {name}"
    )
    assert found({**content, "any_name": state()}).found_in == "any_name"
    assert found(content, name).found_in == name


@pytest.mark.parametrize("name", ["schema", "semantic_head", "cinema", "email", "swap_net"])
def test_names_that_only_look_averaged_are_not(name: str) -> None:
    assert found({name: state()}).found_in == name


def test_an_average_by_another_name_is_marked() -> None:
    mean = {"n_averaged": torch.tensor(3), **{f"module.{name}": one for name, one in state().items()}}
    weights = found({"model": mean})
    assert weights.found_in == "model (averaged weights)"
    assert set(weights.state) == set(state())
    assert weights.notes == ("n_averaged, module. taken off the weights' names",)


def test_lightnings_averages_are_known_by_their_callbacks() -> None:
    moving = {"state_dict": state(1), "callbacks": {"EMAWeightAveraging": {"latest_update_step": 3}}}
    assert found(moving).found_in == "state_dict (averaged weights)"
    assert found({**moving, "current_model_state": state()}).found_in == "current_model_state"
    kept = {"StochasticWeightAveraging": {"n_averaged": 3, "average_model_state": state(1)}}
    assert found({"state_dict": state(), "callbacks": kept}).found_in == "state_dict"
    assert found({"state_dict": state(1), "callbacks": kept}).found_in == "state_dict (averaged weights)"


def test_an_average_that_has_just_begun_is_named_and_the_weights_are_used() -> None:
    weights = found({"model": state(), "ema": {**state(), "bn.running_mean": torch.ones(2)}})
    assert weights.found_in == "model"
    assert weights.notes == ("the weights under model are equal to the averaged ones under ema",)


@pytest.mark.parametrize(
    ("names", "bare", "taken_off"),
    [
        (["module.a", "module.b.c"], ["a", "b.c"], "module."),
        (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"], "_orig_mod., module."),
        (["module._fsdp_wrapped_module.a"], ["a"], "_fsdp_wrapped_module., module."),
        (["a._orig_mod.weight", "b.weight"], ["a.weight", "b.weight"], "_orig_mod."),
        (["a._checkpoint_wrapped_module.b._fsdp_wrapped_module.c"], ["a.b.c"], None),
        (["module.a", "b"], ["module.a", "b"], ""),  # the network's own name
        (["a.module.b"], ["a.module.b"], ""),
        (["module", "module.a"], ["module", "module.a"], ""),
        (["a._orig_mod.b", "a.b"], ["a._orig_mod.b", "a.b"], ""),  # two names would become one
        (["x_orig_mod.a", "_orig_module.b"], ["x_orig_mod.a", "_orig_module.b"], ""),
        (["n_averaged", "module.module.a"], ["a"], "n_averaged, module."),
        (["a.parametrizations.weight.original0"], ["a.parametrizations.weight.original0"], ""),
    ],
)
def test_what_wrappers_put_into_names_is_taken_off(names: list[str], bare: list[str], taken_off: str | None) -> None:
    content = {name: torch.full((2,), float(number)) for number, name in enumerate(names)}
    weights = found(content)
    assert list(weights.state) == bare
    kept = [one for name, one in content.items() if name != "n_averaged"]
    assert all(torch.equal(one, other) for one, other in zip(weights.state.values(), kept, strict=True))
    if taken_off is not None:
        assert weights.notes == ((f"{taken_off} taken off the weights' names",) if taken_off else ())


@pytest.mark.parametrize(
    "content",
    [
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}},
        {"state": {"conv.weight": {"exp_avg": torch.ones(2), "step": torch.tensor(3.0)}}, "param_groups": []},
        {"opt_a": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}},
        {"sums": {"state": {0: {"sum": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}},
        {"moments": {"conv.weight": {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}}},
        {"optim": {"conv.weight": torch.ones(2)}},
        {"optimizer.state.conv.weight.exp_avg": torch.ones(2)},
        {"rng": {"cpu": torch.zeros(9, dtype=torch.uint8)}, "best": {"run": torch.tensor(0.5)}},
        {"loss": torch.tensor(0.5), "epoch": 3},
        {0: torch.ones(2), 1: torch.ones(2)},
        [torch.ones(2)],
        inert("nets.Net", _parameters={}, _buffers={}, _modules={}),
        {},
        None,
    ],
)
def test_what_is_no_weights_is_never_taken(content: Any) -> None:
    assert "holds no tensors that could be weights (" in refusal(content)


def test_moments_among_the_weights_of_a_flat_folder_are_left_aside() -> None:
    flat = {"model.a": torch.ones(2), "optimizer.state.a.exp_avg": torch.ones(2), "optim.state.a.step": torch.ones(1)}
    weights = found(flat)
    assert set(weights.state) == {"model.a"}
    assert weights.notes == ("left aside among the weights: optimizer.state.a.exp_avg, optim.state.a.step",)


def test_plain_values_among_the_weights_are_left_aside_with_a_note() -> None:
    weights = found({"model": {**state(), "epoch": 3, "conv._extra_state": {"calls": 1}}})
    assert set(weights.state) == set(state())
    assert weights.notes == ("left aside among the weights under model: epoch",)
    # but where weights stand further in, tensors beside them are no weights
    assert found({"net": state(), "mean.weight": torch.ones(3), "std.weight": torch.ones(3)}).found_in == "net"


@pytest.mark.parametrize("name", ["torch.distributed.tensor.DTensor", "torch.distributed._shard.api.ShardedTensor"])
def test_shards_are_refused_with_the_mend(name: str) -> None:
    message = refusal({"model": {**state(), "head.weight": inert(name)}})
    assert message.startswith("head.weight in net.pt is a shard of a tensor that several processes hold")
    assert "full_state_dict=True" in message


def test_hostile_nests_end() -> None:
    """Dicts that hold themselves, and shared ones whose paths would be without number."""
    own: dict[str, Any] = {"model": state()}
    own["self"] = own
    own["list"] = [own, own]
    assert found(own).found_in == "model"
    shared: dict[str, Any] = {"weights": state()}
    for _ in range(3):
        shared = {str(number): shared for number in range(1000)}
    assert found(shared).candidates == ("0.0.0.weights",)
    many = {str(number): state() for number in range(3000)}
    assert len(found({**many, "model": state()}, "5").candidates) == 1000
    loop = inert("user.Loop")
    loop.state = {"self": loop, "net": state()}
    assert found(loop).found_in == "net"
    assert "(" in refusal({"x" * 10_000: {"y": 1}, 5: 3})


def test_names_from_the_file_stay_on_one_line() -> None:
    assert "\n" not in refusal({"a\nb": state(), "c": state()})
    assert len(refusal({"a" * 5000: 1})) < 500
