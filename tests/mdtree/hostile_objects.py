"""Objects of unknown classes: what a reader that keeps them as inert data could be made to do."""

from __future__ import annotations

from hostile_contents import Bytes, alone, storage, tensor, weights
from hostile_pickles import (
    beside_weights,
    built,
    called,
    dict_of,
    get,
    named,
    number,
    put,
    text,
    tuple_of,
)

REFUSED: dict[str, tuple[Bytes, str]] = {
    "a name that allows names": (
        lambda: beside_weights(
            called("torch.serialization", "add_safe_globals", b"](" + named("posix", "system") + b"e")
        ),
        "asks to call",
    ),
    "torch.load in a checkpoint": (
        lambda: beside_weights(called("torch.serialization", "load", text("/etc/passwd"))),
        "asks to call torch.serialization.load",
    ),
    "torch.load by its short name": (
        lambda: beside_weights(called("torch", "load", text("/etc/passwd"))),
        "asks to call torch.load",
    ),
    "a class named like a tensor's builder": (
        lambda: weights(called("torch._utils ", "_rebuild_tensor_v2", storage())),
        "holds no tensors that could be weights",
    ),
    "a class whose name is ten million letters": (
        lambda: beside_weights(called("user", "C" * 10_000_000), "args"),
        "damaged",
    ),
    "a class of many dots": (lambda: beside_weights(called("." * 100_000, "x"), "args"), "damaged"),
    "unknown objects as the weights": (
        lambda: weights(called("user", "Tensor", number(3))),
        "holds no tensors that could be weights",
    ),
    "an unknown object as the whole file": (
        lambda: alone(called("user", "Model", number(3))),
        "holds no tensors that could be weights",
    ),
    "weights of an unknown type of tensor": (
        lambda: weights(
            called(
                "torch._tensor",
                "_rebuild_from_type_v2",
                named("torch._utils", "_rebuild_tensor_v2"),
                named("user", "Tensor"),
                tuple_of(
                    storage(),
                    number(0),
                    tuple_of(number(6)),
                    tuple_of(number(1)),
                    b"\x89",
                    called("collections", "OrderedDict"),
                ),
                b"}",
            )
        ),
        "holds tensors of class user.Tensor; expected plain tensors",
    ),
    "an unknown function that would make a tensor": (
        lambda: weights(
            called(
                "torch._tensor",
                "_rebuild_from_type_v2",
                named("posix", "system"),
                named("torch", "Tensor"),
                tuple_of(text("true")),
                b"}",
            )
        ),
        "asks to call (posix.system|torch._tensor._rebuild_from_type_v2)",
    ),
    "an ordered dict with a state": (
        lambda: beside_weights(
            called("collections", "OrderedDict") + dict_of(__class__=b"N", keys=b"N", items=number(1)) + b"b", "args"
        ),
        "damaged",
    ),
    "weights in an ordered dict that denies it": (
        lambda: alone(
            called("collections", "OrderedDict")
            + dict_of(items=b"N", values=b"N", keys=b"N", get=b"N")
            + b"b"
            + b"("
            + text("weight")
            + tensor(storage(), 0, (2, 3), (3, 1))
            + b"u"
        ),
        "damaged",
    ),
}

INERT: dict[str, tuple[Bytes, str]] = {
    "a state that names the reader's own fields": (
        lambda: beside_weights(
            built(
                "argparse",
                "Namespace",
                dict_of(name=text("x"), state=b"]", arguments=number(3), items=b"N", entries=b"N"),
            ),
            "hyper_parameters",
        ),
        "read as inert data, nothing imported: argparse.Namespace",
    ),
    "a state of dunder names": (
        lambda: beside_weights(
            built(
                "argparse",
                "Namespace",
                dict_of(
                    __class__=text("x"),
                    __dict__=b"N",
                    __setstate__=number(3),
                    __reduce__=b"N",
                    __hash__=b"N",
                    __eq__=number(1),
                ),
            ),
            "args",
        ),
        "read as inert data, nothing imported: argparse.Namespace",
    ),
    "a state that is no dict": (
        lambda: beside_weights(built("argparse", "Namespace", number(3)), "args"),
        "read as inert data, nothing imported: argparse.Namespace",
    ),
    "a state of slots": (
        lambda: beside_weights(
            built("argparse", "Namespace", tuple_of(b"N", dict_of(__class__=named("user", "Class")))), "args"
        ),
        "read as inert data, nothing imported: argparse.Namespace, user.Class",
    ),
    "an object that is its own state": (
        lambda: beside_weights(
            named("argparse", "Namespace") + b")\x81" + put(1) + b"}" + text("me") + get(1) + b"sb", "args"
        ),
        "read as inert data, nothing imported: argparse.Namespace",
    ),
    "an object as a key": (
        lambda: beside_weights(b"}" + built("user", "Key", b"}") + b"Ns", "args"),
        "read as inert data, nothing imported: user.Key",
    ),
    "an object as its own argument": (
        lambda: beside_weights(named("user", "A") + put(1) + get(1) + b"\x85R" + put(2) + get(2) + b"\x85b", "args"),
        "read as inert data, nothing imported: user.A",
    ),
    "a class of this package": (
        lambda: beside_weights(called("mdtree.reading.inert_objects", "InertObject", text("x")), "args"),
        "read as inert data, nothing imported: mdtree.reading.inert_objects.InertObject",
    ),
    "a class whose name has escapes": (
        lambda: beside_weights(called("user\x1b[2K", "\x1b[31mClass\r", number(1)), "args"),
        "read as inert data, nothing imported: 'user.x1b.2K.*Class.r'",
    ),
    "a class without a name": (
        lambda: beside_weights(called("", ""), "args"),
        "read as inert data, nothing imported: .",
    ),
}
"""Weights with an object beside them of which nothing is made: they are opened, and the class is named."""
