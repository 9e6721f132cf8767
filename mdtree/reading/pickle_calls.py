"""The calls that a checkpoint's pickle may make, judged on stand-ins for their arguments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from mdtree.errors import InputError
from mdtree.reading.file_kinds import RE_SAVE, executing_error
from mdtree.reading.pickle_scan import executes
from mdtree.reading.pickle_values import Dict, Global, Made, Opaque, Storage, Tensor, Tuple
from mdtree.specification import shown

MAX_COPIED = 1_000_000
"""Items that the calls of one file may copy."""
MAX_ODD_KEYS = 4_096
"""Keys that are tuples, or numbers of more than 61 bits: their hashes can be made to collide."""
MAX_ODD_SIZE = 1_000
"""Values in such a key, one in another counted through."""

MADE_FOR_OTHERS = frozenset({"copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"})
"""They make an object of the class they are handed."""

_STORAGE_BYTES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4", "Untyped", "_Untyped"), 1),
    "ComplexDouble": 16,
}
_MAX_DIMENSIONS = 64  # of a tensor, in torch
_ENCODINGS = frozenset({"latin1", "latin-1", "utf-8", "utf8", "ascii"})
_TENSOR_NAMES = frozenset(dir(torch.nn.Parameter))
_OTHER_TENSORS = ("torch._utils._rebuild_", "torch.sparse.")


class Calls:
    """What the calls of one file add up to.

    Parameters
    ----------
    path : Path
        Named in errors.
    size : int
        Bytes of the file.

    Attributes
    ----------
    checksums : bool
        Whether a checksum covers the pickle: without one a flipped bit can leave strides that torch reads.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.checksums = True
        self.copied = self.encoded = self.odd_keys = self.stored = 0
        self.storages: dict[str, Storage] = {}
        self.called: set[str] = set()

    def refusal(self, name: str) -> InputError:
        if name.startswith(_OTHER_TENSORS):
            return InputError(
                f"{self.path} holds what is no plain tensor of numbers ({shown(name)})", "dense tensors", RE_SAVE
            )
        how = " in a way no checkpoint needs" if name in KNOWN_CALLS else ", which no checkpoint needs"
        return InputError(f"{self.path} asks to call {shown(name)}{how}", "weights", RE_SAVE)

    def copy(self, count: int) -> None:
        """Count items that are copied."""
        self.copied += count
        if self.copied > MAX_COPIED:
            raise InputError(f"{self.path} copies its values over and over", f"at most {MAX_COPIED:,} values copied")

    def result(self, name: str, arguments: list[Any], fresh: bool) -> Any:
        """What a call gives back.

        Parameters
        ----------
        name : str
            Dotted name of the function or class.
        arguments : list
            Stand-ins.
        fresh : bool
            Whether it is the class's ``__new__`` that is called.

        Raises
        ------
        InputError
            If torch would run it and no checkpoint calls it so.
        """
        judge = _JUDGES.get(name)
        if name == "builtins.getattr" and not _names_a_member(arguments):
            raise executing_error(name, self.path)
        if judge is None:
            self.called.add(name)
            return Made(name)
        made = judge(self, arguments) if not fresh or name == "torch.nn.parameter.Parameter" else None
        if made is None:
            raise self.refusal(name)
        return made

    def storage(self, identifier: Any) -> Storage:
        """The storage that a persistent id stands for.

        Raises
        ------
        InputError
            If all storages together claim more bytes than the file has.
        """
        kind, key, place, elements = identifier.items[1:5]
        view = identifier.items[5] if len(identifier.items) == 6 else None
        if identifier.items[0] != "storage" or not (type(key) is type(place) is str and type(elements) is int):
            raise ValueError("a persistent id of no storage")
        width = _STORAGE_BYTES[kind.name.rpartition(".")[2].removesuffix("Storage")]
        known = self.storages.get(key)
        if known is None:
            self.stored += elements * width
            if self.stored > self.size or elements < 0:
                raise InputError(f"the tensors of {self.path} claim more bytes than the file has ({self.size:,})")
            known = self.storages[key] = Storage(elements * width)
        if view is not None and not (type(view) is Tuple and [type(one) for one in view.items] == [str, int, int]):
            raise ValueError("a view of no storage")
        return Storage(known.elements // width)


def refuse_keys(calls: Calls, keys: list[Any], target: Dict) -> None:
    """Count keys that are set in a dict or a set.

    Raises
    ------
    InputError
        For too many keys whose hashes can be made to collide, or take long to compute.
    """
    target.count += len(keys)
    for key in keys:
        kind = type(key)
        if kind is str:
            target.names = target.names or set()
            if len(target.names) < 100:
                target.names.add(key)
        elif kind is Tuple or (kind is int and key.bit_length() > 60) or kind is Opaque:
            size = key.size if kind is Tuple else 1
            calls.odd_keys += 1
            target.odd += size
            if calls.odd_keys > MAX_ODD_KEYS or size > MAX_ODD_SIZE:
                raise InputError(
                    f"{calls.path} has dicts or sets of tuples or huge numbers",
                    f"at most {MAX_ODD_KEYS:,} such keys, of at most {MAX_ODD_SIZE:,} values",
                )
        elif kind is Storage or kind is Dict or kind is list:
            raise ValueError("a key that cannot be hashed")


def _names_a_member(arguments: list[Any]) -> bool:
    """Whether ``getattr`` is called as an enum's member or a method is pickled; its result is inert all the same."""
    return (
        len(arguments) == 2
        and type(arguments[0]) in (Global, Made)
        and not executes(arguments[0].name)
        and type(arguments[1]) is str
    )


def _tensor(calls: Calls, arguments: list[Any]) -> Tensor | None:
    """A view of a storage: the last element it reaches must be there, or torch would enlarge the storage."""
    storage, offset, sizes, strides = arguments[:4]
    if type(storage) is not Storage or type(sizes) is not Tuple or type(strides) is not Tuple:
        return None
    whole = [offset, *sizes.items, *strides.items]
    if not all(type(one) is int and 0 <= one < 2**62 for one in whole) or len(sizes.items) != len(strides.items):
        return None
    if math.prod(max(1, size) for size in sizes.items[:_MAX_DIMENSIONS]) >= 2**62 or len(sizes.items) > _MAX_DIMENSIONS:
        return None
    reach = sum((size - 1) * stride for size, stride in zip(sizes.items, strides.items, strict=True))
    if 0 not in sizes.items and offset + reach >= storage.elements:
        raise InputError(f"a tensor in {calls.path} reaches beyond its storage of {storage.elements:,} elements")
    if not calls.checksums and _overlaps(sizes.items, strides.items):
        raise InputError(
            f"a tensor in {calls.path} reads numbers of its storage twice: a flipped bit, or meant so; "
            "a file from before torch 1.6 has no checksum that could tell",
            "",
            "save tensor.contiguous(), or copy it again",
        )
    return Tensor()


def _overlaps(sizes: list[int], strides: list[int]) -> bool:
    """Whether a view reads an element more than once."""
    reach = 0
    for stride, size in sorted(zip(strides, sizes, strict=True)):
        if size > 1 and stride <= reach:
            return 0 not in sizes
        reach += (size - 1) * stride
    return False


def _meta_tensor(calls: Calls, arguments: list[Any]) -> Tensor | None:
    return Tensor() if all(type(one) is Tuple for one in arguments[1:3]) else None


def _parameter(calls: Calls, arguments: list[Any]) -> Tensor | None:
    attributes = arguments[3:4]
    fits = all(type(one) is Dict and one.names_fit(_TENSOR_NAMES) for one in attributes)
    return Tensor() if fits and type(arguments[0]) is Tensor else None


def _with_attributes(calls: Calls, arguments: list[Any]) -> Tensor | None:
    function, kind, inner, state = arguments
    if type(kind) is Global and kind.name == "torch.distributed.tensor.DTensor":
        raise InputError(
            f"{calls.path} holds shards of tensors (DTensor), as FSDP keeps them in each process",
            "whole tensors",
            "save get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of "
            "torch.distributed.checkpoint.state_dict",
        )
    if not (type(function) is type(kind) is Global and type(inner) is Tuple and function.name in _PLAIN_TENSORS):
        return None
    if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise InputError(f"{calls.path} holds tensors of class {shown(kind.name)}", "plain tensors")
    if not (type(state) is Dict and state.names_fit(_TENSOR_NAMES)):
        return None
    return _PLAIN_TENSORS[function.name](calls, inner.items)


def _size(calls: Calls, arguments: list[Any]) -> Tuple | None:
    held = _held(arguments)
    if held is None or not all(type(one) is int for one in held):
        return None
    calls.copy(len(held))
    return Tuple(held)


def _dict(calls: Calls, arguments: list[Any]) -> Dict | None:
    made = Dict()
    if len(arguments) == 1 and type(arguments[0]) is Dict:
        calls.copy(arguments[0].count)
        made.count = arguments[0].count
        calls.copy(100 * arguments[0].odd)
        return made
    pairs = _held(arguments)
    if pairs is None:
        return None
    calls.copy(len(pairs))
    both = [_held([pair]) if type(pair) in (Tuple, list) else None for pair in pairs]
    if not all(pair is not None and len(pair) == 2 for pair in both):
        return None
    refuse_keys(calls, [pair[0] for pair in both if pair], made)
    return made


def _counter(calls: Calls, arguments: list[Any]) -> Dict | None:
    counts = not arguments or (len(arguments) == 1 and type(arguments[0]) is Dict)
    return _dict(calls, arguments) if counts else None


def _set(calls: Calls, arguments: list[Any]) -> Opaque | None:
    held = _held(arguments)
    if held is None:
        return None
    calls.copy(len(held))
    refuse_keys(calls, held, Dict())
    return Opaque()


def _encode(calls: Calls, arguments: list[Any]) -> Opaque | None:
    if len(arguments) != 2 or not all(type(one) is str for one in arguments) or arguments[1] not in _ENCODINGS:
        return None
    calls.encoded += len(arguments[0])
    return Opaque() if calls.encoded <= calls.size else None  # what is encoded once stands in the file


def _scalar(calls: Calls, arguments: list[Any]) -> Opaque | None:
    return Opaque() if all(type(one) in (int, float, str) for one in arguments) and len(arguments) < 3 else None


def _held(arguments: list[Any]) -> list[Any] | None:
    """The items of the one list or tuple that a container is made of."""
    if not arguments:
        return []
    only = arguments[0] if len(arguments) == 1 else None
    if type(only) is Tuple:
        return only.items
    return only if type(only) is list else None


_REBUILD = "torch._utils._rebuild_"
_PLAIN_TENSORS = {
    **{f"{_REBUILD}tensor{version}": _tensor for version in ("", "_v2", "_v3")},
    f"{_REBUILD}meta_tensor_no_storage": _meta_tensor,
    f"{_REBUILD}parameter": _parameter,
    f"{_REBUILD}parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
}
_JUDGES = {
    **_PLAIN_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.Size": _size,
    "collections.OrderedDict": _dict,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "_codecs.encode": _encode,
    **dict.fromkeys(("builtins.complex", "torch.device", "torch.serialization._get_layout"), _scalar),
}
KNOWN_CALLS = frozenset(_JUDGES)
"""Names of the functions and classes that torch's restricted unpickler calls itself, where a checkpoint may ask it."""
