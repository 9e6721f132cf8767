"""Checkpoints whose tensors are not what they say, or cannot be measured."""

from __future__ import annotations

import math

import torch
from hostile_contents import Bytes, alone, storage, tensor, weights
from hostile_pickles import (
    STATE,
    called,
    get,
    long,
    named,
    number,
    put,
    saved,
    text,
    tuple_of,
)

POSING: dict[str, tuple[Bytes, str]] = {
    "a storage that claims 10**12 numbers": (
        lambda: weights(tensor(storage(count=10**12), 0, (6,), (1,))),
        "claim more bytes than the file has",
    ),
    "a storage that claims 2**62 numbers": (
        lambda: weights(tensor(storage(count=2**62), 0, (6,), (1,))),
        "claim more bytes than the file has",
    ),
    "a storage of a negative number": (
        lambda: weights(tensor(storage(count=-6), 0, (6,), (1,))),
        "claim more bytes than the file has|damaged",
    ),
    "a storage that is not there": (lambda: weights(tensor(storage("77"), 0, (6,), (1,))), "damaged"),
    "a storage outside the archive": (lambda: weights(tensor(storage("../../etc/passwd"), 0, (6,), (1,))), "damaged"),
    "a storage type that is a function": (
        lambda: weights(
            tensor(
                tuple_of(text("storage"), named("collections", "OrderedDict"), text("0"), text("cpu"), number(6))
                + b"Q",
                0,
                (6,),
                (1,),
            )
        ),
        "damaged",
    ),
    "a persistent id that is no storage": (lambda: weights(tuple_of(text("module"), text("x")) + b"Q"), "damaged"),
    "10**12 numbers of one, stride 0": (
        lambda: weights(tensor(storage(), 0, (10**6, 10**6), (0, 0))),
        r"claims 1,000,000,000,000 elements, its storage holds 24 bytes",
    ),
    "2**64 numbers, a product that wraps to 0": (
        lambda: weights(tensor(storage(), 0, (2**32, 2**32), (0, 0))),
        "no plain tensor",
    ),
    "2**62 times 6 numbers": (lambda: weights(tensor(storage(), 0, (2**62, 6), (0, 0))), "no plain tensor"),
    "overlapping strides": (
        lambda: weights(tensor(storage(), 0, (3, 3), (1, 1))),
        "claims 9 elements, its storage holds 24 bytes",
    ),
    "negative strides": (lambda: weights(tensor(storage(), 5, (6,), (-1,))), "no plain tensor"),
    "a negative size": (lambda: weights(tensor(storage(), 0, (-6,), (1,))), "no plain tensor"),
    "an offset beyond the storage": (
        lambda: weights(tensor(storage(), 10**15, (6,), (1,))),
        "reaches beyond its storage of 6 elements",
    ),
    "a negative offset": (lambda: weights(tensor(storage(), -4, (6,), (1,))), "no plain tensor"),
    "a tensor set to a larger storage": (
        lambda: weights(
            tensor(storage(), 0, (6,), (1,))
            + tuple_of(storage(), number(0), tuple_of(long(10**9)), tuple_of(number(1)))
            + b"b"
        ),
        "damaged",
    ),
    "a parameter of no tensor": (
        lambda: weights(called("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"}")),
        "no plain tensor",
    ),
    "one tensor under 100,000 names": (
        lambda: alone(
            tensor(storage(), 0, (2, 3), (3, 1))
            + put(1)
            + b"}("
            + b"".join(text(f"t{n}") + get(1) for n in range(100_000))
            + b"u"
        ),
        "100,000 tensors; expected",
    ),
    "NaN weights": (
        lambda: saved({"w": torch.tensor([1.0, math.nan]), **STATE}),
        "hold NaN or infinite values .*diverged",
    ),
    "infinite weights": (
        lambda: saved({"w": torch.tensor([1.0, math.inf]), **STATE}),
        "hold NaN or infinite values .*diverged",
    ),
    "sparse weights": (lambda: saved({"w": torch.ones(3).to_sparse(), **STATE}), "no plain tensor of numbers"),
    "sparse weights of 10**18 numbers": (
        lambda: saved(
            {"w": torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**9, 10**9)), **STATE}
        ),
        "no plain tensor of numbers",
    ),
    "quantised weights": (
        lambda: saved({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), **STATE}),
        "no plain tensor of numbers",
    ),
    "nested weights": (
        lambda: saved({"w": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), **STATE}),
        "no plain tensor of numbers",
    ),
    "weights without data": (
        lambda: saved({"w": torch.empty(3, device="meta"), **STATE}),
        "no plain tensor of numbers",
    ),
    "no weights": (lambda: saved({}), r"holds no tensors that could be weights \(it is empty\)"),
    "only numbers": (lambda: saved({"epoch": 3}), "holds no tensors that could be weights"),
    "only an optimizer": (
        lambda: saved({"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}),
        "holds no tensors that could be weights",
    ),
    "names that would forge a line": (
        lambda: saved({"w\n\x1b[2K\x1b[1Amdtree: all is well\r": torch.tensor([math.nan]), **STATE}),
        r"hold NaN or infinite values \('w\\n\\x1b\[2K",
    ),
    "a name of ten million letters": (
        lambda: saved({"w" * 10_000_000: torch.tensor([math.nan]), **STATE}),
        "hold NaN or infinite values",
    ),
    "a name that cannot be printed": (
        lambda: saved({"w\ud800": torch.tensor([math.nan]), **STATE}),
        r"hold NaN or infinite values \('w\\ud800'",
    ),
    "a name that turns the line around": (
        lambda: saved({"w\u202emetsys": torch.tensor([math.nan]), **STATE}),
        r"hold NaN or infinite values \('w\\u202e",
    ),
}
