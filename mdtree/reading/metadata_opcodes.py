"""The opcodes of a distributed checkpoint's ``.metadata``, followed one by one without unpickling it.

It is a pickle of a few classes of ``torch.distributed.checkpoint``. Here a class is only ever its name, an object its
name with the plain values stored in it. Nothing is imported or called, an opcode costs a bounded amount of memory, and
a name that torch's writer has no use for ends the reading.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mdtree.errors import InputError
from mdtree.reading.pickle_scan import executes
from mdtree.specification import shown

MAX_OPCODES = 4_000_000
MAX_DIMENSIONS = 64
SAVE_AGAIN = "save or copy it again"

_PACKAGES = ("torch.distributed.checkpoint.", "torch.distributed._shard.checkpoint.")
_CLASSES = frozenset(
    {"Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties"}
    | {"MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING", "_StorageInfo"}
)
_OTHERS = frozenset(
    {"torch.Size", "torch.serialization._get_layout", "collections.OrderedDict", "torch.strided"}
    | {f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("", "Posix", "Windows")}
    | {f"{module}.Pure{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("", "Posix", "Windows")}
)


@dataclass(frozen=True)
class Name:
    """A class or function that the file named."""

    dotted: str


@dataclass(eq=False, slots=True)
class Made:
    """What the file would have made of a name: its arguments and its state."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]


class _Machine:
    """The stack, the marks and the memo of a pickle, for the opcodes that ``.metadata`` is written with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.actions: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "MEMOIZE": lambda _: self.memo.__setitem__(len(self.memo), self.stack[-1]),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "NONE": lambda _: self.stack.append(None),
            "NEWTRUE": lambda _: self.stack.append(True),
            "NEWFALSE": lambda _: self.stack.append(False),
            "TUPLE": lambda _: self.stack.append(tuple(self.since_mark())),
            "TUPLE1": lambda _: self.tupleof(1),
            "TUPLE2": lambda _: self.tupleof(2),
            "TUPLE3": lambda _: self.tupleof(3),
            "APPEND": lambda _: self.append([self.stack.pop()]),
            "APPENDS": lambda _: self.append(self.since_mark()),
            "SETITEM": lambda _: self.set_items([self.stack.pop(-2), self.stack.pop()]),
            "SETITEMS": lambda _: self.set_items(self.since_mark()),
            "GLOBAL": lambda argument: self.name(argument.replace(" ", ".")),
            "STACK_GLOBAL": lambda _: self.name(".".join([self.stack.pop(-2), self.stack.pop()])),
            "NEWOBJ": lambda _: self.make(),
            "REDUCE": lambda _: self.make(),
            "BUILD": lambda _: self.build(),
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
        }
        for opcode in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            self.actions[opcode] = self.stack.append
        for opcode in ("SHORT_BINUNICODE", "BINUNICODE"):
            self.actions[opcode] = self.stack.append
        for opcode in ("BINGET", "LONG_BINGET"):
            self.actions[opcode] = lambda index: self.stack.append(self.memo[index])
        for opcode in ("BINPUT", "LONG_BINPUT"):
            self.actions[opcode] = lambda index: self.memo.__setitem__(index, self.stack[-1])

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def tupleof(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(values)

    def append(self, values: list[Any]) -> None:
        of(list, self.stack[-1]).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = of(dict, self.stack[-1])
        for key, value in zip(values[::2], values[1::2], strict=True):
            # a nest of tuples that share each other takes for ever to hash: texts and objects are enough
            target[of((str, Made), key)] = value

    def name(self, dotted: str) -> None:
        package, _, last = dotted.rpartition(".")
        is_type = package == "torch" and isinstance(vars(torch).get(last), torch.dtype)
        if not (is_type or dotted in _OTHERS or (last in _CLASSES and dotted.startswith(_PACKAGES))):
            if executes(dotted):
                what = f"asks to call {shown(dotted)}: it is malicious or damaged, and nothing in it was run"
            else:
                what = f"asks for {shown(dotted)}, which torch.distributed.checkpoint does not write there"
            raise InputError(f"{self.path} {what}", "the names and sizes of tensors", SAVE_AGAIN)
        self.stack.append(Name(dotted))

    def make(self) -> None:
        arguments = of(tuple, self.stack.pop())
        name = of(Name, self.stack.pop()).dotted
        if name == "torch.Size":
            self.stack.append(extent(arguments[0] if arguments else ()))
        elif name == "collections.OrderedDict" and not arguments:
            self.stack.append({})
        else:
            self.stack.append(Made(name, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        of(Made, self.stack[-1]).state = state


def evaluated(data: bytes, path: Path) -> Any:
    """What a pickle stands for: plain values, and `Made` for every object.

    Parameters
    ----------
    data : bytes
        The pickle.
    path : Path
        Named in errors.

    Raises
    ------
    InputError
        If it uses an opcode or a name that ``.metadata`` is not written with, or too many opcodes.
    Exception
        Of many kinds, if it is damaged.
    """
    machine = _Machine(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickletools, about texts it cannot decode
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                return machine.stack.pop()
            action = machine.actions.get(opcode.name)
            if action is None or count >= MAX_OPCODES:
                what = f"has more than {MAX_OPCODES:,} opcodes" if action else f"uses the opcode {opcode.name}"
                raise InputError(f"{path} {what}", "what torch.distributed.checkpoint writes", SAVE_AGAIN)
            action(argument)
    raise ValueError("no STOP")


def extent(value: Any) -> tuple[int, ...]:
    """The sizes or offsets of a tensor."""
    numbers = tuple(of((tuple, list), value)[: MAX_DIMENSIONS + 1])
    if len(numbers) > MAX_DIMENSIONS:
        raise ValueError("dimensions")
    return tuple(map(natural, numbers))


def natural(value: Any) -> int:
    """A count of bytes or elements."""
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError("number")
    return value


def of(kind: Any, value: Any) -> Any:
    """The value, if it is of the kind it has to be."""
    if not isinstance(value, kind):
        raise ValueError(kind)
    return value
