"""Saved names and a network's own names: what is the same, what is set aside, and what is an error that lists it."""

from __future__ import annotations

import time
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.weights.weight_names import fit_and_load, fitting_state


class Net(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean(dim=(2, 3)))


class Tied(nn.Module):
    """An encoder whose weights are the decoder's as well."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight


def saved(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_equal_names_are_taken_as_they_are() -> None:
    state = saved(Net())
    fit = fitting_state(Net().state_dict(), state)
    assert equal(fit.state, state)
    assert (fit.prefix, fit.left_aside, fit.tied, fit.network_prefix, fit.notes) == ("", (), (), "", ())


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.module.", "a.b.c.d.e.f.g.h."])
def test_a_prefix_of_the_file_is_taken_off_and_the_rest_set_aside(prefix: str) -> None:
    state = saved(Net())
    file = {"loss_fn.weight": torch.ones(2), **{prefix + n: v for n, v in state.items()}, "acc.correct": torch.ones(())}
    fit = fitting_state(Net().state_dict(), file)
    assert equal(fit.state, state)
    assert fit.prefix == prefix
    assert fit.left_aside == ("loss_fn.weight", "acc.correct")
    assert fit.notes == (
        f"the network is what the file has under {prefix[:-1]}",
        "2 tensors of the file are not the network's and were set aside: loss_fn.weight, acc.correct",
    )


def test_a_prefix_deeper_than_eight_levels_is_not_searched() -> None:
    with pytest.raises(InputError, match=r"2 missing"):
        fitting_state(nn.Linear(2, 2).state_dict(), saved(nn.Linear(2, 2), "a." * 9))


def test_the_network_may_have_the_prefix_instead() -> None:
    wrapper = nn.ModuleDict({"net": Net()})
    state = saved(Net())
    fit = fitting_state(wrapper.state_dict(), state)
    assert equal(fit.state, {f"net.{name}": value for name, value in state.items()})
    assert (fit.prefix, fit.network_prefix) == ("", "net.")


def test_both_may_have_a_prefix_of_their_own() -> None:
    fit = fitting_state(nn.ModuleDict({"net": Net()}).state_dict(), saved(Net(), "backbone."))
    assert (fit.prefix, fit.network_prefix) == ("backbone.", "net.")


def test_segments_of_compile_and_checkpointing_inside_a_name_are_passed_over() -> None:
    state = saved(Net())
    file = {name.replace("conv.", "conv._orig_mod.").replace("fc.", "_checkpoint_wrapped_module.fc."): value
            for name, value in state.items()}  # fmt: skip
    assert equal(fitting_state(Net().state_dict(), file).state, state)
    compiled = OrderedDict((name.replace("conv.", "conv._orig_mod."), value) for name, value in saved(Net()).items())
    assert fitting_state(compiled, state).state.keys() == compiled.keys()


def test_a_file_with_two_networks_that_fit_is_an_error_that_names_both() -> None:
    file = {**saved(Net(), "student."), **saved(Net(), "teacher.")}
    with pytest.raises(
        InputError, match=r"^the network fits several parts of kd.ckpt \(student, teacher\); expected one;"
    ):
        fitting_state(Net().state_dict(), file, "kd.ckpt")
    chosen = fitting_state(Net().state_dict(), file, prefix="teacher")
    assert chosen.prefix == "teacher."
    assert torch.equal(chosen.state["fc.weight"], file["teacher.fc.weight"])
    assert all(name.startswith("student.") for name in chosen.left_aside)


def test_one_network_saved_under_two_names_is_no_question() -> None:
    state = saved(Net())
    file = {f"{prefix}.{name}": value for prefix in ("model", "net") for name, value in state.items()}
    assert fitting_state(Net().state_dict(), file).prefix == "model."


def test_a_prefix_that_does_not_fit_says_what_is_missing_under_it() -> None:
    with pytest.raises(InputError, match=r"under teacher do not fit the network: 9 missing"):
        fitting_state(Net().state_dict(), saved(Net(), "student."), "kd.ckpt", prefix="teacher")


def test_the_error_lists_five_of_each_kind() -> None:
    file = {f"extra{number}": torch.ones(1) for number in range(7)} | {"fc.weight": torch.ones(5, 3)}
    with pytest.raises(InputError) as error:
        fitting_state(Net().state_dict(), file, "run.pt")
    assert str(error.value).startswith(
        "the weights in run.pt do not fit the network: 8 missing (conv.weight, conv.bias, "
    )
    assert "7 unexpected (extra0, extra1, extra2, extra3, extra4 and 2 more)" in str(error.value)
    assert "1 of another shape (fc.weight 5×3 for 2×3)" in str(error.value)


def test_the_error_speaks_of_the_nearest_reading() -> None:
    file = {**saved(Net(classes=5), "model."), "loss.weight": torch.ones(1)}
    with pytest.raises(InputError) as error:
        fitting_state(Net().state_dict(), file, "run.ckpt")
    assert str(error.value).startswith(
        "the weights in run.ckpt under model do not fit the network: "
        "2 of another shape (fc.weight 5×3 for 2×3, fc.bias 5 for 2)"
    )


def test_what_stands_under_the_prefix_and_is_not_the_networks_is_an_error() -> None:
    file = {**saved(Net(), "model."), "model.head.weight": torch.ones(1)}
    with pytest.raises(InputError, match=r"1 unexpected \(head.weight\)"):
        fitting_state(Net().state_dict(), file)


def test_whole_numbers_are_not_taken_for_weights() -> None:
    state = saved(Net())
    state["fc.weight"] = state["fc.weight"].to(torch.int8)
    with pytest.raises(InputError, match=r"fc.weight 2×3 of int8 for 2×3"):
        fitting_state(Net().state_dict(), state)


@pytest.mark.parametrize("absent", ["decoder.weight", "encoder.weight"])
def test_a_tied_weight_that_the_file_holds_once_is_taken_from_its_partner(absent: str) -> None:
    state = saved(Tied())
    del state[absent]
    fit = fitting_state(Tied().state_dict(), state)
    assert fit.tied == (absent,)
    assert fit.notes == (f"1 weights were taken from those they are tied to: {absent}",)
    assert torch.equal(fit.state["encoder.weight"], fit.state["decoder.weight"])


def test_under_a_prefix_ties_and_counts_may_be_missing_too() -> None:
    larger = {f"other.{number}": torch.ones(1) for number in range(20)}
    state = saved(Tied(), "model.")
    del state["model.decoder.weight"]
    assert fitting_state(Tied().state_dict(), state | larger).tied == ("decoder.weight",)
    state = saved(Net(), "model.")
    del state["model.norm.num_batches_tracked"]
    assert "norm.num_batches_tracked" in fitting_state(Net().state_dict(), state | larger).state


def test_parts_of_one_tensor_are_not_tied() -> None:
    whole = torch.arange(6.0)
    fit = fitting_state({"a": whole[:3], "b": whole[3:]}, {"a": torch.ones(3), "b": torch.zeros(3)})
    assert fit.state["b"].sum() == 0
    with pytest.raises(InputError, match=r"1 missing \(b\)"):
        fitting_state({"a": whole[:3], "b": whole[3:]}, {"a": torch.ones(3)})


def test_ties_are_seen_on_the_meta_device() -> None:
    with torch.device("meta"):
        own = Tied().state_dict()
    state = saved(Tied())
    del state["decoder.weight"]
    assert fitting_state(own, state).tied == ("decoder.weight",)


def test_tied_weights_that_differ_in_the_file_are_an_error() -> None:
    state = saved(Tied())
    state["decoder.weight"] += 1
    with pytest.raises(
        InputError, match=r"encoder.weight and decoder.weight are one tensor in the network, but differ"
    ):
        fitting_state(Tied().state_dict(), state)


def test_untied_weights_are_not_filled_in() -> None:
    state = saved(Net())
    del state["fc.bias"]
    with pytest.raises(InputError, match=r"1 missing \(fc.bias\)"):
        fitting_state(Net().state_dict(), state)


def test_counts_of_batches_that_old_files_lack_are_zero() -> None:
    state = saved(Net())
    del state["norm.num_batches_tracked"]
    fit = fitting_state(Net().state_dict(), state)
    assert fit.state["norm.num_batches_tracked"].item() == 0
    assert fit.notes == ("1 counts of batches that the file lacks (torch before 0.4.1) were taken as 0",)


def test_a_missing_running_mean_is_not_filled_in() -> None:
    state = saved(Net())
    del state["norm.running_mean"]
    with pytest.raises(InputError, match=r"1 missing \(norm.running_mean\)"):
        fitting_state(Net().state_dict(), state)


def test_gamma_and_beta_of_an_old_bert_are_its_layer_norms() -> None:
    model = nn.ModuleDict({"LayerNorm": nn.LayerNorm(3)})
    file = {"LayerNorm.gamma": torch.full((3,), 2.0), "LayerNorm.beta": torch.full((3,), 3.0)}
    fit = fitting_state(model.state_dict(), file)
    assert equal(fit.state, {"LayerNorm.weight": file["LayerNorm.gamma"], "LayerNorm.bias": file["LayerNorm.beta"]})
    assert fit.notes == ("2 weights have another version's names: LayerNorm.gamma was read as LayerNorm.weight",)
    both = {"LayerNorm.gamma": torch.ones(3), "LayerNorm.weight": torch.ones(3)}
    with pytest.raises(InputError, match=r"1 missing \(LayerNorm.weight\)"):  # a network that has both
        fitting_state(both, {"LayerNorm.gamma": torch.ones(3)})
    with pytest.raises(InputError, match="2 missing"):  # anybody else's gamma may be something else
        fitting_state(nn.ModuleDict({"norm": nn.LayerNorm(3)}).state_dict(),
                      {"norm.gamma": torch.ones(3), "norm.beta": torch.ones(3)})  # fmt: skip


def normalised(new: bool, kind: str) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    place = nn.utils.parametrizations if new else nn.utils
    return nn.Sequential(getattr(place, kind)(layer)).eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("new", [False, True])
def test_normalised_weights_are_known_by_their_older_and_newer_names(kind: str, new: bool) -> None:
    source, target = normalised(not new, kind), normalised(new, kind)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(1.5)
    fit = fitting_state(target.state_dict(), saved(source))
    target.load_state_dict(fit.state)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(target(x), source(x), rtol=1e-6, atol=1e-6)
    assert "another version's names" in fit.notes[0]


def test_tables_of_constants_that_old_files_hold_are_set_aside() -> None:
    file = {**saved(Net()), "position_ids": torch.arange(5)}
    assert fitting_state(Net().state_dict(), file).left_aside == ("position_ids",)
    file["position_ids"] = torch.randn(5)  # learned, so not a constant
    with pytest.raises(InputError, match=r"1 unexpected \(position_ids\)"):
        fitting_state(Net().state_dict(), file)


def test_another_precision_is_said() -> None:
    fit = fitting_state(
        Net().state_dict(), {n: v.half() if v.is_floating_point() else v for n, v in saved(Net()).items()}
    )
    assert fit.notes == ("weights saved as float16 are computed with in the network's own precision",)


def test_layers_that_take_their_size_from_the_file_fit() -> None:
    lazy = nn.Sequential(nn.LazyLinear(3))
    state = saved(nn.Sequential(nn.Linear(4, 3)))
    fit = fitting_state(lazy.state_dict(), state)
    lazy.load_state_dict(fit.state)
    assert lazy(torch.ones(1, 4)).shape == (1, 3)


def test_many_and_deep_names_take_no_time() -> None:
    own = nn.Linear(2, 2).state_dict()
    tensor = torch.ones(3)
    file = {f"a{number}." + "b." * 30 + "weight": tensor for number in range(50_000)}
    start = time.perf_counter()
    with pytest.raises(InputError, match="do not fit"):
        fitting_state(own, file)
    assert time.perf_counter() - start < 10


class Versioned(nn.Linear):
    """Reads files of its own version only, as some networks of torchvision do."""

    _version = 2

    def _load_from_state_dict(
        self, state: dict[str, Tensor], prefix: str, metadata: dict[str, int], *rest: object
    ) -> None:
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_fitted_weights_are_loaded_as_of_the_networks_own_version() -> None:
    source, target = nn.Linear(3, 2), Versioned(3, 2)
    fit = fit_and_load(target, saved(source, "model."), "run.ckpt")
    assert fit.prefix == "model."
    assert equal(dict(target.state_dict()), saved(source))
    before = saved(target)
    with pytest.raises(InputError, match=r"the weights in run.ckpt do not fit the network"):
        fit_and_load(target, {"weight": torch.ones(2, 3), "bias": torch.ones(9)}, "run.ckpt")
    assert equal(dict(target.state_dict()), before)
