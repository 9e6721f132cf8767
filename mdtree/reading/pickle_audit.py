"""A pickle's program followed without running it: what it would call, and that it stays within bounds.

``torch.load(weights_only=True)`` runs the same opcodes afterwards. It calls a short list of functions of its own, and
with these alone a small file can fill the memory or never end: one list copied a million times, dict keys that take
hours to hash, tensors that claim storages they do not have. Here every opcode is followed on a stack of stand-ins, so
that such a file is refused before anything is made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.reading.pickle_calls import KNOWN_CALLS, MADE_FOR_OTHERS, Calls, refuse_keys
from mdtree.reading.pickle_values import Dict, Global, Made, Opaque, Tuple
from mdtree.specification import shown

MAX_OPCODES = 1_000_000
"""Of all pickles of a file together. A tensor takes about 50, with those of a dict and a name."""
_CALL_STEPS = 5  # what a call takes counts as so many opcodes
MAX_NAMES = 1_000
"""Classes and functions named."""
MAX_LOOKED_UP = 20_000_000
"""Names compared: torch's unpickler goes through all unknown names at each object of an unknown class."""

_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections", "UserList": "collections"}
_NAMES = {
    "__builtin__.unicode": "builtins.str",
    "__builtin__.long": "builtins.int",
    "__builtin__.xrange": "builtins.range",
}
"""Names of Python 2, as torch's unpickler translates them."""


class DamagedPickleError(Exception):
    """The bytes are no pickle, break off, or use what torch's restricted unpickler does not read."""


@dataclass(eq=False)
class Audit:
    """What the pickles of one file ask for.

    Parameters
    ----------
    path : Path
        Named in errors.
    size : int
        Bytes of the file: storages may not claim more.

    Attributes
    ----------
    names : dict of str to None
        Dotted names of all classes and functions named, in order.
    filled : dict of str to type
        Classes whose objects get items: ``dict`` or ``list``.
    end : int
        Where the last pickle ended.
    """

    path: Path
    size: int
    names: dict[str, None] = field(default_factory=dict)
    filled: dict[str, type] = field(default_factory=dict)
    end: int = 0
    _opcodes: int = 0
    _looked_up: int = 0
    _built: dict[str, int] = field(default_factory=dict)  # attributes set on the objects of a class
    _unfit: set[str] = field(default_factory=set)  # classes with attributes that an OrderedDict cannot take

    def __post_init__(self) -> None:
        self.calls = Calls(self.path, self.size)

    def follow(self, data: bytes | memoryview, start: int = 0) -> int:
        """Follow one pickle from `start` and give back where it ends.

        Raises
        ------
        InputError
            If it goes beyond the bounds, or would call a function in a way no checkpoint needs.
        DamagedPickleError
            If it is no whole pickle of opcodes that torch reads.
        """
        machine = _Machine(self, data, start)
        try:
            machine.run()
        except InputError:
            raise
        except Exception as error:  # a stack that is empty, a memo without the entry, a text that is no UTF-8 ...
            raise DamagedPickleError(str(error)) from error
        self.end = machine.place
        for name, kind in self.filled.items():
            if name in self._unfit or (name in self._built and kind is list):
                raise InputError(f"{self.path} holds a {shown(name)} with items and attributes", "plain values")
            self.calls.copy(self._built.get(name, 0))
        return self.end

    def spend(self, opcodes: int) -> None:
        """Count opcodes that were followed."""
        self._opcodes += opcodes
        if self._opcodes > MAX_OPCODES or self._looked_up * len(self.names) > MAX_LOOKED_UP:
            raise InputError(f"{self.path} makes too many objects", f"a pickle of at most {MAX_OPCODES:,} steps")

    def named(self, module: str, name: str) -> Global:
        full = _NAMES.get(f"{module}.{name}", f"{_MODULES.get(module, module)}.{name}")
        self.names[full] = None
        if len(self.names) > MAX_NAMES or len(full) > MAX_NAMES:
            raise InputError(f"{self.path} names more than {MAX_NAMES:,} classes", "weights")
        return Global(full)

    def looked_up(self) -> None:
        """Count a name, a call or a state: torch's unpickler searches its lists of names at each."""
        self._looked_up += 1
        self._opcodes += _CALL_STEPS - 1

    def fill(self, target: Any, kind: type) -> None:
        if type(target) is not Made or self.filled.setdefault(target.name, kind) is not kind:
            raise DamagedPickleError("items set on what takes none")

    def build(self, target: Any, state: Any) -> None:
        if type(target) is Made:
            self.looked_up()
            if type(state) is Dict and state.names_fit(_DICT_NAMES):
                self._built[target.name] = self._built.get(target.name, 0) + state.count
            else:
                self._unfit.add(target.name)
        elif type(target) is Dict and type(state) is Dict and state.names_fit(_DICT_NAMES):
            self.calls.copy(state.count)
        else:
            raise DamagedPickleError("a state set on what takes none")


_DICT_NAMES = frozenset(dir(dict)) | frozenset({"move_to_end"})


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, audit: Audit, data: bytes | memoryview, start: int) -> None:
        self.audit, self.data, self.place = audit, data, start
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> None:
        data, steps = self.data, _STEPS
        since = 0
        while True:
            code = data[self.place]
            self.place += 1
            since += 1
            if since == 1000:
                self.audit.spend(since)
                since = 0
            if code == 0x2E:  # STOP
                self.stack.pop()
                return self.audit.spend(since)
            steps[code](self)

    def take(self, length: int) -> bytes:
        end = self.place + length
        if end > len(self.data):
            raise DamagedPickleError("breaks off")
        taken = bytes(self.data[self.place : end])
        self.place = end
        return taken

    def line(self) -> str:
        end = self.data.find(b"\n", self.place, self.place + 2 * MAX_NAMES)  # type: ignore[union-attr]
        if end < 0:
            raise DamagedPickleError("a name without an end")
        taken = self.take(end - self.place).decode("utf-8")
        self.place += 1
        return taken

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def name(self) -> None:
        module = self.line()
        self.audit.looked_up()
        self.stack.append(self.audit.named(module, self.line()))

    def tuple_of(self, items: list[Any]) -> None:
        self.stack.append(Tuple(items))

    def tuple_of_last(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise DamagedPickleError("stack is empty")
        del self.stack[-count:]
        self.stack.append(Tuple(items))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        else:
            self.audit.fill(target, list)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise DamagedPickleError("a key without a value")
        if type(target) is not Dict:
            self.audit.fill(target, dict)
            target = Dict()
        refuse_keys(self.audit.calls, items[::2], target)

    def call(self, fresh: bool) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is not Tuple or type(function) is not Global:
            raise DamagedPickleError("calls what is no function")
        self.audit.looked_up()
        made = self.audit.calls.result(function.name, arguments.items, fresh)
        target = arguments.items[0] if arguments.items else None
        if function.name in MADE_FOR_OTHERS and type(target) is Global and target.name not in KNOWN_CALLS:
            made = Made(target.name)
        self.stack.append(made)

    def build(self) -> None:
        state = self.stack.pop()
        self.audit.build(self.stack[-1], state)

    def persistent(self) -> None:
        self.stack.append(self.audit.calls.storage(self.stack.pop()))

    def unpacked(self, form: str, length: int) -> int:
        return int(struct.unpack(form, self.take(length))[0])

    def text(self) -> None:
        self.stack.append(str(self.take(self.unpacked("<I", 4)), "utf-8", "surrogatepass"))

    def unknown(self, code: int) -> None:
        raise DamagedPickleError(f"opcode {code}")


Step = Callable[[_Machine], Any]
_LETTERS: dict[bytes, Step] = {
    b"c": _Machine.name,
    b"\x81": lambda m: m.call(True),
    b"R": lambda m: m.call(False),
    b"b": _Machine.build,
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"(": _Machine.mark,
    b"t": lambda m: m.tuple_of(m.since_mark()),
    b"\x85": lambda m: m.tuple_of_last(1),
    b"\x86": lambda m: m.tuple_of_last(2),
    b"\x87": lambda m: m.tuple_of_last(3),
    b"N": lambda m: m.stack.append(None),
    b"\x89": lambda m: m.stack.append(False),
    b"\x88": lambda m: m.stack.append(True),
    b")": lambda m: m.stack.append(Tuple([])),
    b"]": lambda m: m.stack.append([]),
    b"}": lambda m: m.stack.append(Dict()),
    b"\x8f": lambda m: m.stack.append(Opaque()),
    b"J": lambda m: m.stack.append(m.unpacked("<i", 4)),
    b"K": lambda m: m.stack.append(m.unpacked("<B", 1)),
    b"M": lambda m: m.stack.append(m.unpacked("<H", 2)),
    b"G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    b"X": _Machine.text,
    b"U": lambda m: m.stack.append(m.take(m.unpacked("<B", 1)).decode("latin-1")),
    b"Q": _Machine.persistent,
    b"h": lambda m: m.stack.append(m.memo[m.unpacked("<B", 1)]),
    b"j": lambda m: m.stack.append(m.memo[m.unpacked("<I", 4)]),
    b"q": lambda m: m.put(m.unpacked("<B", 1)),
    b"r": lambda m: m.put(m.unpacked("<I", 4)),
    b"\x8a": lambda m: m.stack.append(int.from_bytes(m.take(m.unpacked("<B", 1)), "little", signed=True)),
    b"\x80": lambda m: m.take(1),
}
_STEPS: list[Step] = [
    _LETTERS.get(bytes([code]), lambda machine, code=code: machine.unknown(code))  # type: ignore[misc]
    for code in range(256)
]
