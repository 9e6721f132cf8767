"""What a pickle asks for, found by reading its opcodes: nothing is unpickled, imported or run."""

from __future__ import annotations

import itertools
import pickletools
from typing import BinaryIO

MAX_OPCODES = 500_000
"""Reading stops here: the globals of a checkpoint stand far earlier, and a hostile file may have no end."""

_STRINGS = frozenset(
    {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})

# modules that run code, start processes, open files or connections, or reach into other modules
_EXECUTING = frozenset(
    {
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "builtins",
        "__builtin__",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "imp",
    }
    | {
        "ctypes",
        "pty",
        "pickle",
        "_pickle",
        "operator",
        "_operator",
        "functools",
        "types",
        "code",
        "codeop",
        "commands",
    }
    | {"webbrowser", "multiprocessing", "asyncio", "threading", "signal", "tempfile", "io", "pip", "http", "urllib"}
    | {"requests", "inspect", "marshal", "timeit", "cProfile", "profile", "pdb", "bdb", "trace", "atexit", "zipimport"}
    | {"pkgutil", "site", "ensurepip", "venv", "distutils", "setuptools", "platform", "gc"}
)
_EXECUTING_PARTS = (
    *("torch.hub.", "torch.jit.", "torch.load", "torch.serialization.", "torch.utils.collect_env", "torch.utils.cpp_"),
    *("numpy.testing.", "numpy.f2py", "numpy.distutils", "copyreg."),
)
# data types that live in those modules; getattr is what Python 3.11.0 to 3.11.3 pickle an enum's member with, and
# objects made by any of these are inert data
_BUILTIN_TYPES = (
    *("bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice"),
    *("str", "tuple", "type", "Ellipsis", "NotImplemented", "bytearray", "getattr"),
)
_DATA_TYPES = frozenset(
    {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTIN_TYPES}
    | {"types.SimpleNamespace", "types.GenericAlias", "functools.partial"}
    | {"collections.OrderedDict", "collections.Counter", "_codecs.encode", "torch.serialization._get_layout"}
    | {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
    | {"copyreg.__newobj_ex__"}
)


def globals_asked_for(handle: BinaryIO, pickles: int = 1) -> list[str] | None:
    """The dotted names that a pickle (or several in a row) would import, in order, each once.

    Parameters
    ----------
    handle : binary file
        Read from where it stands.
    pickles : int
        How many pickles follow each other there, at most.

    Returns
    -------
    list of str or None
        None if the bytes are not a pickle. A pickle that breaks off yields what was read before.
    """
    found: dict[str, None] = {}
    for number in range(pickles):
        complete = _scan(handle, found)
        if not complete:
            return None if number == 0 and not found else list(found)
    return list(found)


def executes(name: str) -> bool:
    """Whether a global runs code or reaches for it; in a checkpoint it has no honest use."""
    if name in _DATA_TYPES:
        return False
    return name.partition(".")[0] in _EXECUTING or name.startswith(_EXECUTING_PARTS)


def _scan(handle: BinaryIO, found: dict[str, None]) -> bool:
    """Add the globals of one pickle to `found`; True if it was read to its end or to `MAX_OPCODES`."""
    texts: list[str] = ["", ""]
    last: str | None = None
    memo: dict[object, str | None] = {}
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(handle), MAX_OPCODES):
            if opcode.name in _PUTS:
                memo[len(memo) if opcode.name == "MEMOIZE" else argument] = last
                continue
            last = None
            if opcode.name in _STRINGS:
                last = str(argument)
            elif opcode.name in _GETS:
                last = memo.get(argument)
            elif opcode.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":
                found[".".join(texts)] = None
            if last is not None:
                texts = [texts[1], last]
    except Exception:  # pickletools raises a dozen kinds on damaged bytes; what was read until then is the answer
        return False
    return True
