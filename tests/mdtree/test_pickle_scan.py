"""The names a pickle asks for are read from its opcodes, in every protocol."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import random

import pytest

from mdtree.reading.pickle_scan import executes, globals_asked_for


class Reduced:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", range(6))
def test_names_are_found_in_every_protocol(protocol: int) -> None:
    content = {"a": argparse.Namespace(x=1), "b": collections.OrderedDict(y=Reduced()), "again": argparse.Namespace()}
    asked = globals_asked_for(io.BytesIO(pickle.dumps(content, protocol=protocol)))
    assert asked is not None
    assert {"argparse.Namespace", "collections.OrderedDict", "posix.system"} <= set(asked)
    assert asked.count("argparse.Namespace") == 1


def test_a_name_that_hides_behind_the_memo_is_found() -> None:
    """STACK_GLOBAL takes its two strings from the memo as well as from the stream."""
    hidden = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x8c\x05plain\x8c\x04text0000h\x00h\x01\x93."
    assert globals_asked_for(io.BytesIO(hidden)) == ["posix.system"]


def test_plain_values_ask_for_nothing_and_other_bytes_are_no_pickle() -> None:
    assert globals_asked_for(io.BytesIO(pickle.dumps({"a": [1, "x", 2.5, None]}))) == []
    assert globals_asked_for(io.BytesIO(b"hello")) is None
    assert globals_asked_for(io.BytesIO(b"")) is None


def test_a_pickle_that_breaks_off_tells_what_was_read() -> None:
    data = pickle.dumps({"a": Reduced(), "b": list(range(1000))})
    assert globals_asked_for(io.BytesIO(data[:-20])) == ["posix.system"]


def test_damaged_bytes_never_raise() -> None:
    generator = random.Random(0)
    data = pickle.dumps({"a": Reduced(), "b": [1, 2.5, "text"]})
    for _ in range(500):
        broken = bytearray(data)
        for _ in range(3):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        asked = globals_asked_for(io.BytesIO(bytes(broken)), pickles=3)
        assert asked is None or all(isinstance(name, str) for name in asked)


@pytest.mark.parametrize(
    "name",
    [
        *("posix.system", "builtins.eval", "subprocess.Popen", "torch.hub.load", "os.path.join", "functools.reduce"),
        *("copyreg.add_extension", "torch.serialization.add_safe_globals", "torch.load", "builtins.__import__"),
    ],
)
def test_names_that_run_code(name: str) -> None:
    assert executes(name)


@pytest.mark.parametrize("name", ["torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "builtins.set"])
def test_names_that_tensors_and_plain_values_need(name: str) -> None:
    assert not executes(name)


@pytest.mark.parametrize(
    "name",
    [
        *("argparse.Namespace", "torch.nn.modules.linear.Linear", "numpy.dtype", "types.SimpleNamespace"),
        *("functools.partial", "copyreg._reconstructor", "copyreg.__newobj__"),
    ],
)
def test_names_of_other_objects(name: str) -> None:
    assert not executes(name)
