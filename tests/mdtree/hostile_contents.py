"""Checkpoints that run nothing and harm all the same: what they hold is endless, deep, greedy, or not what it says."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hostile_pickles import (
    STOP,
    beside_weights,
    called,
    dict_of,
    doubled,
    get,
    long,
    named,
    old_with,
    pickle_of,
    put,
    saved,
    text,
    tuple_of,
    with_pickle,
)

Bytes = Callable[[], bytes]

MALICIOUS = "it is malicious or damaged, and nothing in it was run"


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage", place: str = "cpu") -> bytes:
    return tuple_of(text("storage"), named("torch", kind), text(key), text(place), long(count)) + b"Q"


def tensor(held: bytes, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    shape, steps = (tuple_of(*map(long, numbers)) for numbers in (sizes, strides))
    hooks = called("collections", "OrderedDict")
    return called("torch._utils", "_rebuild_tensor_v2", held, long(offset), shape, steps, b"\x89", hooks)


def alone(body: bytes) -> bytes:
    """A checkpoint that is nothing but this value."""
    return with_pickle(b"\x80\x02" + body + STOP)


def weights(body: bytes) -> bytes:
    """A state dict whose one tensor is this value."""
    return alone(dict_of(weight=body))


def _vast() -> bytes:
    return tensor(storage(), 0, (10**9,), (0,))


def _encoded(times: int) -> bytes:
    """Bytes written in hexadecimal, the digits in hexadecimal again ...: twice as long each time."""
    body = called("_codecs", "encode", text("ab"), text("latin1"))
    for _ in range(times):
        body = named("_codecs", "encode") + body + text("hex") + b"\x86R"
    return body


def _many_calls(names: int, calls: int) -> bytes:
    """Many unknown classes, and many objects: a reader that searches a list of classes for each object never ends."""
    known = b"".join(f"cuser.module\nClass{n}\n".encode() for n in range(names))
    return b"](" + known + (f"cuser.module\nClass{names - 1}\n)R").encode() * calls + b"e"


def _itself() -> bytes:
    return b"}" + put(7000) + text("model") + get(7000) + b"s" + text("state") + b"]" + get(7000) + b"as"


GREEDY: dict[str, tuple[Bytes, str]] = {
    "bytearray of 10 GB": (
        lambda: beside_weights(called("builtins", "bytearray", long(10**10))),
        "asks to call builtins.bytearray, which no checkpoint needs",
    ),
    "bytearray of 10 GB, old file": (
        lambda: old_with(3, called("__builtin__", "bytearray", long(10**10))),
        r"asks to call (builtins|__builtin__)\.bytearray, which no checkpoint needs",
    ),
    "bytearray of 10 GB in the key list of an old file": (
        lambda: old_with(4, called("builtins", "bytearray", long(10**10))),
        r"asks to call builtins\.bytearray, which no checkpoint needs",
    ),
    "text encoded 33 times": (
        lambda: beside_weights(_encoded(33)),
        "asks to call _codecs.encode in a way no checkpoint needs",
    ),
    "a tensor type called with 10**9": (
        lambda: weights(called("torch", "DoubleTensor", long(10**9))),
        "asks to call torch.DoubleTensor, which no checkpoint needs",
    ),
    "ten tensors of 10**9 numbers": (
        lambda: beside_weights(b"](" + called("torch", "DoubleTensor", long(10**9)) * 10 + b"e"),
        "asks to call torch.DoubleTensor, which no checkpoint needs",
    ),
    "a stride of 0 made dense": (
        lambda: beside_weights(
            called(
                "torch._utils",
                "_rebuild_device_tensor_from_cpu_tensor",
                _vast(),
                named("torch", "float64"),
                text("cpu"),
                b"\x89",
            )
        ),
        "_rebuild_device_tensor_from_cpu_tensor",
    ),
    "a set of a vast tensor": (
        lambda: beside_weights(called("builtins", "set", _vast())),
        "asks to call builtins.set in a way no checkpoint needs",
    ),
    "a count of a vast tensor": (
        lambda: beside_weights(called("collections", "Counter", _vast())),
        "asks to call collections.Counter in a way no checkpoint needs",
    ),
    "the hash of a doubled tuple, as a key": (
        lambda: beside_weights(b"}" + doubled(60) + b"Ns"),
        "has dicts or sets of tuples or huge numbers; expected at most",
    ),
    "the hash of a doubled tuple, as a member": (
        lambda: beside_weights(called("builtins", "set", b"](" + doubled(60) + b"e")),
        "has dicts or sets of tuples or huge numbers; expected at most",
    ),
    "the hash of a doubled tuple, counted": (
        lambda: beside_weights(called("collections", "Counter", b"](" + doubled(60) + b"e")),
        "asks to call collections.Counter in a way no checkpoint needs",
    ),
    "doubled dicts of weights": (
        lambda: alone(
            dict_of(weight=tensor(storage(), 0, (2, 3), (3, 1)))
            + b"".join(put(n) + b"}(" + text("model") + get(n) + text("ema") + get(n) + b"u" for n in range(1000, 1060))
        ),
        "holds (no tensors that could be|several sets of) weights",
    ),
    "a dict that holds itself": (lambda: alone(_itself()), "holds no tensors that could be weights"),
    "100,000 tuples and nothing else": (
        lambda: alone(b")" + b"\x85" * 100_000),
        "holds no tensors that could be weights",
    ),
    "100,000 dicts in each other": (
        lambda: alone((b"}" + text("model")) * 100_000 + pickle_of(saved())[2:-1] + b"s" * 100_000),
        "holds no tensors that could be weights",
    ),
    "60 million marks": (lambda: alone(b"(" * 60_000_000), "makes too many objects; expected a pickle of at most"),
    "900,000 dicts": (lambda: alone(b"](" + b"}" * 900_000 + b"e"), "holds no tensors that could be weights"),
    "60 million values": (lambda: alone(b"N" * 60_000_000), "makes too many objects; expected a pickle of at most"),
    "900 classes and 300,000 objects": (
        lambda: beside_weights(_many_calls(900, 300_000)),
        "makes too many objects; expected a pickle of at most",
    ),
    "20,000 classes and 400,000 objects": (
        lambda: beside_weights(_many_calls(20_000, 400_000)),
        "names more than 1,000 classes",
    ),
    "1,000,000 states for one object": (
        lambda: beside_weights(named("user", "Class") + b")\x81" + b"}b" * 1_000_000),
        "makes too many objects; expected a pickle of at most",
    ),
    "a memo index of four billion": (lambda: alone(b"}" + b"r\xff\xff\xff\xff"), "holds no tensors"),
    "a text that claims four gigabytes": (lambda: alone(b"X\xff\xff\xff\xffabc"), "damaged"),
    "a text that claims 2**63 bytes": (lambda: alone(b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"abc"), "damaged"),
    "bytes that claim 2**62 bytes": (lambda: alone(b"\x8e" + struct.pack("<Q", 2**62) + b"abc"), "damaged"),
    "an array that claims 2**62 bytes": (lambda: alone(b"\x96" + struct.pack("<Q", 2**62) + b"abc"), "damaged"),
    "a frame of 2**62 bytes": (
        lambda: with_pickle(b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}."),
        "is pickled with protocol 4; expected protocol 2",
    ),
    "a number that claims two gigabytes": (lambda: alone(b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01"), "damaged"),
    "a number of a million digits": (lambda: alone(b"I" + b"9" * 1_000_000 + b"\n"), "damaged"),
    "an empty stack": (lambda: alone(b"u0000"), "damaged"),
    "a name that is not in the memo": (lambda: alone(get(4242)), "damaged"),
    "an old file whose system says big-endian nonsense": (lambda: old_with(2, b"\x80"), "damaged"),
    "a pickle that has no end": (lambda: with_pickle(b"\x80\x02}q\x00"), "damaged"),
    "an empty pickle": (lambda: with_pickle(b""), "damaged"),
    "400,000 empty tensors": (
        lambda: alone(
            tensor(storage(), 0, (0,), (1,))
            + put(1)
            + b"}("
            + b"".join(text(f"t{n}") + get(1) for n in range(400_000))
            + b"u"
        ),
        "400,000 tensors; expected",
    ),
}

ODD: dict[str, tuple[Bytes, str]] = {
    "doubled lists beside the weights": (
        lambda: beside_weights(doubled(60, b"]"), "hyper_parameters"),
        "weights .*state_dict: 2 tensors, 8 numbers",
    ),
    "a dict that holds itself, beside the weights": (
        lambda: beside_weights(_itself(), "hyper_parameters"),
        "weights .*state_dict: 2 tensors, 8 numbers",
    ),
    "100,000 tuples in each other": (
        lambda: beside_weights(b")" + b"\x85" * 100_000),
        "weights .*state_dict: 2 tensors, 8 numbers",
    ),
    "a tuple doubled 300,000 times": (
        lambda: beside_weights(b")" + b"q\x05h\x05\x86" * 300_000),
        "weights .*state_dict: 2 tensors, 8 numbers",
    ),
    "a learning rate of 600 digits": (
        lambda: beside_weights(
            dict_of(state=b"}", param_groups=b"](" + dict_of(lr=long(10**600), params=b"]") + b"e"), "optimizer"
        ),
        "weights .*state_dict: 2 tensors, 8 numbers",
    ),
    "a storage of an unknown device": (
        lambda: weights(tensor(storage(place="\x1b[2Jcuda:9"), 0, (2, 3), (3, 1))),
        "weights .*1 tensor",
    ),
}
"""Nothing is wrong with the weights: they are opened, and what is beside them does no harm."""
