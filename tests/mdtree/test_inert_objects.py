"""Objects of classes that torch does not know: read as data, nothing imported, weights and plain values taken out."""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import enum
import functools
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.parsing import AttributeDict
from omegaconf import OmegaConf
from torch import nn
from transformers import TrainingArguments

from mdtree.reading.checkpoint_files import FileContents, read_checkpoint_file
from mdtree.reading.inert_objects import (
    MAX_VALUES,
    OMITTED,
    InertObject,
    inert_class,
    is_module,
    module_state,
    plain_values,
)

STATE = {"weight": torch.arange(6.0).reshape(2, 3)}


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    name: str = "adam"


@dataclasses.dataclass(slots=True)
class Slotted:
    lr: float = 0.1


class Colour(enum.Enum):
    RED = "red"


class Names(list[str]):
    pass


class Attributes(dict[str, int]):
    def __init__(self, **items: int) -> None:
        super().__init__(**items)
        self.frozen = True


class Point(collections.namedtuple("Point", "x y")):
    pass


class Counted:
    """Its state is no dict."""

    def __getstate__(self) -> int:
        return 7


def opened(thing: object, folder: Path, legacy: bool = False) -> FileContents:
    torch.save({"state_dict": STATE, "thing": thing}, folder / "x.pt", _use_new_zipfile_serialization=not legacy)
    contents = read_checkpoint_file(folder / "x.pt")
    assert torch.equal(contents.content["state_dict"]["weight"], STATE["weight"])
    return contents


def default_of_lists() -> collections.defaultdict[str, list[int]]:
    made = collections.defaultdict(list)
    made["a"].append(1)
    return made


NESTED = {"optimizer": {"lr": 0.1, "betas": [0.9, 1]}, "none": None}

THINGS: list[tuple[Any, Any, str]] = [
    (argparse.Namespace(lr=0.1, of=argparse.Namespace(a=[1])), {"lr": 0.1, "of": {"a": [1]}}, "argparse.Namespace"),
    (types.SimpleNamespace(a=1), {"a": 1}, "types.SimpleNamespace"),
    (Settings(), {"lr": 0.1, "name": "adam"}, f"{__name__}.Settings"),
    (Slotted(), {"lr": 0.1}, f"{__name__}.Slotted"),
    (Colour.RED, "red", f"{__name__}.Colour"),
    (pathlib.PurePosixPath("/runs/a"), "/runs/a", "pathlib.PurePosixPath"),
    (pathlib.PureWindowsPath("C:\\runs"), "C:\\runs", "pathlib.PureWindowsPath"),
    (default_of_lists(), {"a": [1]}, "collections.defaultdict"),
    (collections.defaultdict(int), {}, "collections.defaultdict"),
    (collections.deque([1, 2], maxlen=5), [1, 2], "collections.deque"),
    (collections.deque(), [], "collections.deque"),
    (frozenset([3]), [3], "builtins.frozenset"),
    (Names(["a"]), None, f"{__name__}.Names"),
    (AttributeDict({"b": {"c": 2}}), {"b": {"c": 2}}, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (OmegaConf.create(NESTED), NESTED, "omegaconf.dictconfig.DictConfig"),
    (np.float64(0.5), 0.5, "numpy.dtype"),
    (np.float32(0.5), 0.5, "numpy.dtype"),
    (np.int32(-7), -7, "numpy.dtype"),
    (np.bool_(True), True, "numpy.dtype"),
    (nn.ReLU, "torch.nn.modules.activation.ReLU", "torch.nn.modules.activation.ReLU"),
    (b"", "", "builtins.bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "plain", "name"), THINGS, ids=[type(thing).__name__ for thing, _, _ in THINGS])
def test_what_people_save_beside_their_weights(thing: Any, plain: Any, name: str, tmp_path: Path) -> None:
    contents = opened(thing, tmp_path)
    assert name in contents.unknown
    assert contents.notes[0].startswith(f"read as inert data, nothing imported: {contents.unknown[0]}")
    expected = list(thing) if isinstance(thing, Names) else plain
    assert plain_values(contents.content["thing"]) == expected


@pytest.mark.parametrize("thing", [argparse.Namespace(lr=0.1), default_of_lists(), Settings()])
def test_old_files_are_read_alike(thing: Any, tmp_path: Path) -> None:
    contents = opened(thing, tmp_path, legacy=True)
    assert contents.layout == "torch.save before 1.6"
    assert plain_values(contents.content["thing"]) == (dict(thing) if isinstance(thing, dict) else vars(thing))


def test_training_arguments_tell_the_recipe(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), learning_rate=3e-5, use_cpu=True, lr_scheduler_type="cosine")
    values = plain_values(opened(arguments, tmp_path).content["thing"])
    assert values["learning_rate"] == 3e-5
    assert values["lr_scheduler_type"] == "cosine"
    assert values["output_dir"] == str(tmp_path)


def test_what_is_not_plain_stays_inert_and_keeps_what_the_pickle_held(tmp_path: Path) -> None:
    things = {"partial": functools.partial(nn.LayerNorm, eps=1e-6), "point": Point(1, 2), "counted": Counted()}
    plain = plain_values(opened(things, tmp_path).content["thing"])
    assert {name: one.name for name, one in plain.items()} == {
        "partial": "functools.partial",
        "point": f"{__name__}.Point",
        "counted": f"{__name__}.Counted",
    }
    assert plain["point"].arguments == (1, 2)
    assert plain["counted"].state == 7
    assert plain["partial"].state[2] == {"eps": 1e-6}
    assert repr(plain["point"]) == f"<inert '{__name__}.Point' object>"
    twin = copy.deepcopy(plain["point"])
    assert (twin.name, twin.arguments, twin.state) == (plain["point"].name, (1, 2), None)


def test_a_dict_with_attributes_keeps_both(tmp_path: Path) -> None:
    thing = opened(Attributes(a=1), tmp_path).content["thing"]
    assert thing == {"a": 1}
    assert vars(thing) == {"frozen": True}


def test_nothing_is_imported_and_nothing_of_the_user_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is there to be imported; its class would tell."""
    telling = "class Thing:\n    def __setstate__(self, state):\n        raise SystemExit\n"
    (tmp_path / "secret_module.py").write_text(telling)
    monkeypatch.syspath_prepend(str(tmp_path))
    import secret_module  # type: ignore[import-not-found]

    thing = secret_module.Thing()
    thing.value = 3
    torch.save({"state_dict": STATE, "thing": thing}, tmp_path / "x.pt")
    del sys.modules["secret_module"]
    content = read_checkpoint_file(tmp_path / "x.pt").content
    assert "secret_module" not in sys.modules
    assert plain_values(content["thing"]) == {"value": 3}


def test_the_list_of_allowed_classes_is_put_back(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())  # of torch.distributed, where something imported it
    with torch.serialization.safe_globals([Settings]):
        contents = opened(Settings(), tmp_path)
        assert set(torch.serialization.get_safe_globals()) == before | {Settings}
        assert isinstance(contents.content["thing"], InertObject), "what the caller allows is inert here all the same"
        (tmp_path / "x.pt").write_bytes(b"PK\x03\x04")
        with pytest.raises(ValueError, match="damaged"):
            read_checkpoint_file(tmp_path / "x.pt")
        assert set(torch.serialization.get_safe_globals()) == before | {Settings}
    assert set(torch.serialization.get_safe_globals()) == before


class Net(nn.Module):
    """Every way in which a tensor becomes part of a state dict, or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.first, self.own = nn.Linear(3, 3), nn.Parameter(torch.ones(2))
        self.again = self.first
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.listed = nn.ParameterList([torch.ones(1)])
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("kept", torch.ones(3))
        self.register_buffer("absent", None)
        self.register_parameter("missing", None)
        self.recurrent, self.attending = nn.LSTM(2, 3), nn.TransformerEncoderLayer(4, 2, 8)
        self.nothing = None


@pytest.mark.parametrize("wrap", [nn.Module.cpu, nn.DataParallel, torch.compile], ids=["bare", "parallel", "compiled"])
def test_a_whole_pickled_network_gives_its_state_dict(wrap: Any, tmp_path: Path) -> None:
    model = wrap(Net())
    thing = opened(model, tmp_path).content["thing"]
    assert is_module(thing)
    state, expected = module_state(thing), model.state_dict()
    assert state is not None
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], one) for name, one in expected.items())
    assert not any(one.requires_grad for one in state.values())


def module(**children: Any) -> Any:
    made = inert_class("user.Net")()
    made.state = {"_parameters": {"w": torch.ones(1)}, "_buffers": {}, "_modules": children}
    return made


def test_other_things_are_no_network() -> None:
    assert module_state(3) is None
    assert module_state(inert_class("user.Thing")()) is None
    assert module_state(STATE) is None


def test_a_network_without_end_is_none() -> None:
    itself = module()
    itself.state["_modules"]["me"] = itself
    assert module_state(itself) is None
    doubled = module()
    for _ in range(60):
        doubled = module(a=doubled, b=doubled)
    assert module_state(doubled) is None
    assert module_state(module(**{"n" * 2000: module()})) is None
    odd = module()
    odd.state["_parameters"][3] = torch.ones(1)
    assert module_state(odd) is None


def test_values_without_end_are_left_out() -> None:
    itself: list[Any] = [1]
    itself.append(itself)
    plain = plain_values(itself)
    assert plain[0] == 1
    assert plain[1].name == OMITTED
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    assert "inert '…'" in repr(plain_values(deep))
    assert plain_values([[[3]]], depth=3) == [[[3]]]
    assert plain_values([[[3]]], depth=2)[0][0].name == OMITTED


def test_shared_values_cost_no_more_than_the_bound() -> None:
    """Ten lists of ten of the next one, a hundred levels deep, are 10**100 values when written out."""
    level: list[Any] = ["lol"]
    for _ in range(100):
        level = [level] * 10

    def count(value: Any) -> int:
        return 1 + (sum(map(count, value)) if isinstance(value, list) else 0)

    assert count(plain_values(level, depth=90)) <= MAX_VALUES + 1
    made = inert_class("argparse.Namespace")()
    for _ in range(100):
        outer = inert_class("argparse.Namespace")()
        outer.state = {"a": made, "b": made}
        made = outer
    plain_values(made, depth=90)
    chain = inert_class("omegaconf.nodes.AnyNode")()
    chain.state = {"_val": 1}
    for _ in range(5000):
        outer = inert_class("omegaconf.nodes.AnyNode")()
        outer.state = {"_val": chain}
        chain = outer
    assert plain_values(chain).name == OMITTED


def test_numbers_too_long_to_print_are_left_out() -> None:
    assert plain_values(10**40) == 10**40
    assert plain_values(1 << 20_000).name == OMITTED
    assert plain_values(torch.float16) == "torch.float16"
    assert plain_values({(1, 2): 3}) == {"[1, 2]": 3}
