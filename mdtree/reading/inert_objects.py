"""Objects of unknown classes in a pickle, read as data: nothing of the user's or a library's code is imported.

Every class that a checkpoint names and ``torch.load(weights_only=True)`` does not know is stood in for by a class made
here, which keeps what the pickle hands it and does nothing. `plain_values` and `module_state` take out of such objects
what a diagnosis can use: plain values, and the weights of a whole pickled network.
"""

from __future__ import annotations

import functools
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, cast

import torch
from torch import Tensor

MAX_VALUES = 100_000
"""What `plain_values` gives back at most, and the names `module_state` walks through."""
OMITTED = "…"
"""The name of the inert object that stands for what lies beyond the depth or the number of values asked for."""

_MAX_NODES = 100  # of OmegaConf, one in another
_LONGEST_NAME = 1000  # of a weight; a network that holds itself has longer ones
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_LISTS = frozenset({"collections.deque", *(f"builtins.{name}" for name in ("set", "frozenset", "list", "tuple"))})
_DICTS = frozenset({"collections.defaultdict", "collections.OrderedDict", "builtins.dict"})
_PATHS = ("pathlib.", "pathlib._local.")
_STRUCT_CODES = {f"f{size}": code for size, code in ((2, "e"), (4, "f"), (8, "d"))}
_STRUCT_CODES |= {f"i{size}": code for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))}
_STRUCT_CODES |= {f"u{size}": code for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))} | {"b1": "?"}


class _InertClass(type):
    """The class of inert classes: they show the name they stand for."""

    name: str

    def __repr__(cls) -> str:
        return f"<inert {cls.name[:120]!r}>"


class InertObject(metaclass=_InertClass):
    """An object of a class that was not imported.

    Attributes
    ----------
    name : str
        Dotted name of its class, or of the function it was made by: ``argparse.Namespace``.
    arguments : tuple
        What it was made with.
    state : object
        What ``__setstate__`` or its ``__dict__`` would have got: usually a dict of its attributes, or a pair of that
        and its slots; None if there was nothing.
    """

    # objects of dict- and list-like classes are read as OrderedDict and list: see `inert_class`
    __slots__ = ("arguments", "state")
    name = "object"
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Any:
        made = object.__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return _remade, (self.name, self.arguments, self.state)

    def __repr__(self) -> str:
        return f"<inert {self.name[:120]!r} object>"

    @property
    def attributes(self) -> dict[str, Any]:
        """Its ``__dict__`` and slots as one dict; empty where its state is something else."""
        parts = self.state if isinstance(self.state, tuple) and len(self.state) == 2 else (self.state,)
        if not all(part is None or isinstance(part, dict) for part in parts):
            return {}
        return {name: value for part in parts if part for name, value in part.items() if isinstance(name, str)}


def inert_class(name: str, filled_as: type | None = None) -> type[InertObject]:
    """A class that stands for an unknown one.

    Parameters
    ----------
    name : str
        Its dotted name.
    filled_as : type, optional
        ``dict`` or ``list`` if the pickle sets or appends items on its objects (a defaultdict, a deque, a dict with
        attribute access): these are made as an OrderedDict, whose ``__dict__`` takes attributes, and as a list.
    """
    made: dict[str, Any] = {"__slots__": (), "name": name, "__module__": __name__}
    if name in ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"):
        made["__new__"] = _remake
    elif filled_as is not None:
        made["__new__"] = _empty_dict if filled_as is dict else _list_of
    return cast(type[InertObject], _InertClass("Inert", (InertObject,), made))


def plain_values(value: Any, depth: int = 8) -> Any:
    """A nest of plain values out of a nest that holds inert objects.

    Parameters
    ----------
    value : object
        What a checkpoint held.
    depth : int
        Containers deeper than that are left out.

    Returns
    -------
    object
        Dicts, lists, text, numbers, None and tensors. Objects with attributes (Namespace, dataclasses, training
        arguments) become dicts of them, OmegaConf containers their values, an enum its value, paths and names of
        classes text, numpy scalars numbers. What is none of these stays an `InertObject`; what lies beyond `depth` or
        `MAX_VALUES` becomes one named "…", and so does what holds itself.
    """
    return _Plain().of(value, depth)


def module_state(value: Any) -> dict[str, Tensor] | None:
    """The state dict of a whole pickled network: the names and tensors that ``model.state_dict()`` had.

    Parameters
    ----------
    value : object
        What a checkpoint held.

    Returns
    -------
    dict of str to Tensor or None
        None if it is no network. Shared tensors stand under each of their names. A network that holds itself, has more
        than `MAX_VALUES` layers or tensors, or names that are no text or longer than 1000 letters, gives None too.
    """
    if not is_module(value):
        return None
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_VALUES):
        if not waiting:
            return state
        prefix, module = waiting.pop()
        if not _has_parts(module):  # a network of torch.compile is made of the one it wraps
            prefix, module = f"{prefix}_orig_mod.", module.arguments[0]
        parameters, buffers, children = (module.state[part] for part in _MODULE_PARTS)
        hidden = module.state.get("_non_persistent_buffers_set")
        kept = {name: one for name, one in buffers.items() if not (isinstance(hidden, set) and name in hidden)}
        if not all(_nameable(prefix, name) for part in (parameters, kept, children) for name in part):
            return None
        for part in (parameters, kept):
            state.update((prefix + name, one.detach()) for name, one in part.items() if isinstance(one, Tensor))
        waiting.extend((f"{prefix}{name}.", children[name]) for name in reversed(children) if is_module(children[name]))
        if len(state) > MAX_VALUES:
            return None
    return None


def is_module(value: Any) -> bool:
    """Whether it is a pickled torch.nn.Module, read as inert data."""
    if not isinstance(value, InertObject):
        return False
    return _has_parts(value) or (
        value.name.endswith(".OptimizedModule") and _has_parts(next(iter(value.arguments), None))
    )


def _has_parts(value: Any) -> bool:
    state = value.state if isinstance(value, InertObject) else None
    return isinstance(state, dict) and all(isinstance(state.get(part), dict) for part in _MODULE_PARTS)


def _nameable(prefix: str, name: Any) -> bool:
    return isinstance(name, str) and len(prefix) + len(name) <= _LONGEST_NAME


class _Plain:
    """One conversion, with what is left of its number of values and what is being converted just now."""

    def __init__(self) -> None:
        self.left = MAX_VALUES
        self.within: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            return _omitted()
        if value is None or isinstance(value, bool | float | str | Tensor):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= 256 else _omitted()
        if isinstance(value, bytes | bytearray):
            return bytes(value[:10_000]).decode("utf-8", "backslashreplace")
        if isinstance(value, _InertClass):
            return value.name
        if isinstance(value, torch.dtype | torch.device | torch.layout | type):
            return str(value)
        if depth <= 0 or id(value) in self.within:
            return _omitted()
        self.within.add(id(value))
        try:
            return self._nest(value, depth - 1)
        finally:
            self.within.discard(id(value))

    def _nest(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._entries(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value, depth)
        if isinstance(value, InertObject):
            return self._object(value, depth)
        return _omitted(type(value).__name__)

    def _entries(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        plain: dict[Any, Any] = {}
        for key, one in value.items():
            if self.left <= 0:
                plain[OMITTED] = _omitted()
                break
            name = key if key is None or isinstance(key, str | int | float) else str(self.of(key, 1))[:120]
            plain[name] = self.of(one, depth)
        return plain

    def _items(self, value: Iterable[Any], depth: int) -> list[Any]:
        plain: list[Any] = []
        for one in value:
            plain.append(self.of(one, depth))
            if self.left <= 0:
                break
        return plain

    def _object(self, value: InertObject, depth: int) -> Any:
        arguments, attributes = value.arguments, value.attributes
        if value.name in _LISTS or value.name in _DICTS:
            first = next((one for one in arguments if isinstance(one, list | tuple | set | Mapping)), [])
            if value.name in _DICTS:
                return self._entries(first if isinstance(first, Mapping) else {}, depth)
            return self._items(first, depth)
        if value.name.startswith(_PATHS) and all(isinstance(part, str) for part in arguments):
            return str((PureWindowsPath if "Windows" in value.name else PurePosixPath)(*arguments))
        if value.name.endswith(".multiarray.scalar"):
            return _numpy_scalar(*arguments) if len(arguments) == 2 else value
        if value.name == "builtins.getattr" and len(arguments) == 2:  # an enum, as Python 3.11.0 to 3.11.3 pickled it
            return self.of(arguments[1], depth)
        if value.name.startswith("omegaconf."):
            for held in ("_content", "_val"):
                if held in attributes:  # no level of its own, unless nodes stand in nodes without end
                    return self.of(attributes[held], depth + (len(self.within) < _MAX_NODES))
        if value.state is None and len(arguments) == 1 and isinstance(arguments[0], str | int | float):
            return self.of(arguments[0], depth)  # an enum, or a text or number with a class of its own
        if value.name == "builtins.bytes" and not arguments:
            return ""
        if not arguments and (attributes or value.state is None) and not is_module(value):
            return self._entries(attributes, depth)
        return value


def _numpy_scalar(kind: Any, data: Any) -> Any:
    """A number out of what ``numpy.core.multiarray.scalar`` was called with: a dtype and the bytes."""
    code = kind.arguments[0] if isinstance(kind, InertObject) and kind.arguments else None
    form = _STRUCT_CODES.get(code) if isinstance(code, str) else None
    state = kind.state if isinstance(kind, InertObject) and isinstance(kind.state, tuple) else ()
    order = ">" if ">" in state[1:2] else "<"
    if form is None or not isinstance(data, bytes) or struct.calcsize(order + form) != len(data):
        return _omitted("numpy scalar")
    return struct.unpack(order + form, data)[0]


@functools.lru_cache(maxsize=100)
def _stand_in(name: str) -> type[InertObject]:
    return inert_class(name)


def _omitted(name: str = OMITTED) -> InertObject:
    return _stand_in(name)()


def _remade(name: str, arguments: tuple[Any, ...], state: Any) -> InertObject:
    """For copies: an inert object anew."""
    made = InertObject.__new__(inert_class(name), *arguments)
    made.state = state
    return made


def _remake(cls: type[InertObject], *arguments: Any) -> Any:
    """``copyreg`` makes an object of the class it is handed."""
    target = arguments[0] if arguments else None
    if not isinstance(target, _InertClass):
        return InertObject.__new__(cls, *arguments)
    handed = arguments[1] if cls.name == "copyreg.__newobj_ex__" and len(arguments) > 1 else arguments[1:]
    make: Callable[..., Any] = target.__new__
    return make(target, *(handed if isinstance(handed, tuple) else (handed,)))


def _empty_dict(cls: type[InertObject], *arguments: Any) -> Any:
    return OrderedDict()


def _list_of(cls: type[InertObject], *arguments: Any) -> Any:
    return []
