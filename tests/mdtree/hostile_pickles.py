"""Pickles that want to do harm, written opcode by opcode: no class of ours has to exist to make them.

A body is a piece of pickle that leaves one value on the stack; `beside_weights` puts it into a checkpoint that is
otherwise good, as the value of one more key.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import torch

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
STOP = b"."


def saved(content: Any = STATE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def long(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def nothing_of(*parts: bytes) -> bytes:
    """A list of several values, where only one may stand."""
    return b"](" + b"".join(parts) + b"e"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + tuple_of(*arguments) + b"R"


def built(module: str, name: str, state: bytes) -> bytes:
    """An object made without arguments that is then given a state."""
    return named(module, name) + b")\x81" + state + b"b"


def dict_of(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def put(place: int) -> bytes:
    return b"r" + struct.pack("<I", place)


def get(place: int) -> bytes:
    return b"j" + struct.pack("<I", place)


def doubled(times: int, empty: bytes = b")") -> bytes:
    """A tuple of two times the tuple of two times the tuple ...: 2**times places in a few hundred bytes."""
    return empty + b"".join(put(1000 + n) + get(1000 + n) + b"\x86" for n in range(times))


def pickle_of(data: bytes) -> bytes:
    """``data.pkl`` of a file of torch.save."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("archive/data.pkl")


def with_pickle(pickled: bytes, content: Any = STATE) -> bytes:
    """A file of torch.save with another ``data.pkl``, in every other way as torch would have written it."""
    source, target = zipfile.ZipFile(io.BytesIO(saved(content))), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in source.namelist():
            archive.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return target.getvalue()


def beside_weights(body: bytes, key: str = "extra") -> bytes:
    """A checkpoint with good weights under ``state_dict`` and `body` beside them."""
    content = {"state_dict": STATE}
    return with_pickle(pickle_of(saved(content)).removesuffix(STOP) + text(key) + body + b"s.", content)


def old_parts(content: Any = STATE) -> list[bytes]:
    """A file of torch.save before 1.6 in its parts: magic, version, system, content, storage keys, and the storages."""
    data = saved(content, _use_new_zipfile_serialization=False)
    stream, parts = io.BytesIO(data), []
    for _ in range(5):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        parts.append(data[start : stream.tell()])
    return [*parts, data[stream.tell() :]]


def old_with(part: int, body: bytes) -> bytes:
    """A file of torch.save before 1.6 one of whose five pickles makes the value of `body` first, and leaves it."""
    parts = old_parts()
    # what is left lies below the value that counts; torch knows such files by their first bytes, which have to stay
    parts[part] = (
        parts[0][:-1] + put(5000) + body + get(5000) + STOP if part == 0 else parts[part][:2] + body + parts[part][2:]
    )
    return b"".join(parts)


def _command(marker: str) -> bytes:
    return text(f"touch {marker}")


def _memo_hidden(marker: str) -> bytes:
    """STACK_GLOBAL with both its strings out of the memo, harmless ones pushed in between."""
    names = text("posix") + put(900) + b"0" + text("system") + put(901) + b"0"
    return names + text("torch") + b"0" + get(900) + get(901) + b"\x93" + tuple_of(_command(marker)) + b"R"


def _extension(marker: str) -> bytes:
    """The pickle registers a short code for a function and then asks for the code."""
    code = (hash(marker) % 200) + 30
    register = called("copyreg", "add_extension", text("posix"), text("system"), number(code))
    return tuple_of(register, b"\x82" + bytes([code]) + tuple_of(_command(marker)) + b"R")


def _state_setter(marker: str) -> bytes:
    """An object is given `os.system` as its ``__setstate__``, and then a state."""
    return built("argparse", "Namespace", dict_of(__setstate__=named("posix", "system"))) + _command(marker) + b"b"


Body = Callable[[str], bytes]

EXECUTING: dict[str, tuple[Body, str]] = {
    "os.system": (lambda m: called("posix", "system", _command(m)), "posix.system"),
    "subprocess": (
        lambda m: called("subprocess", "check_call", b"]" + b"(" + text("touch") + text(m) + b"e"),
        "subprocess.check_call",
    ),
    "eval": (lambda m: called("builtins", "eval", text(f"open({m!r}, 'w')")), "builtins.eval"),
    "exec": (lambda m: called("__builtin__", "exec", text(f"open({m!r}, 'w')")), "(__builtin__|builtins).exec"),
    "import and getattr": (
        lambda m: (
            called("builtins", "getattr", called("builtins", "__import__", text("os")), text("system"))
            + tuple_of(_command(m))
            + b"R"
        ),
        "builtins.getattr",
    ),
    "functools.partial": (
        lambda m: called("functools", "partial", named("posix", "system"), _command(m)) + b")R",
        "(functools.partial|posix.system)",
    ),
    "operator.methodcaller": (
        lambda m: (
            called("operator", "methodcaller", text("system"), _command(m))
            + tuple_of(called("importlib", "import_module", text("os")))
            + b"R"
        ),
        "(operator.methodcaller|importlib.import_module)",
    ),
    "STACK_GLOBAL": (
        lambda m: text("posix") + text("system") + b"\x93" + tuple_of(_command(m)) + b"R",
        "posix.system",
    ),
    "STACK_GLOBAL out of the memo": (_memo_hidden, "posix.system"),
    "INST": (lambda m: b"(" + _command(m) + b"iposix\nsystem\n", "posix.system"),
    "OBJ": (lambda m: b"(" + named("posix", "system") + _command(m) + b"o", "posix.system"),
    "extension registry": (_extension, "copyreg.add_extension"),
    "BUILD of a __setstate__": (_state_setter, "posix.system"),
    "map over a list": (
        lambda m: called(
            "builtins", "list", called("builtins", "map", named("posix", "system"), b"](" + _command(m) + b"e")
        ),
        "(builtins.list|builtins.map|posix.system)",
    ),
    "a pickle in a pickle": (
        lambda m: called(
            "pickle", "loads", b"B" + _packed(b"\x80\x02" + called("posix", "system", _command(m)) + STOP)
        ),
        "pickle.loads",
    ),
    "runstring": (
        lambda m: called("numpy.testing._private.utils", "runstring", text(f"open({m!r}, 'w')"), b"}"),
        "numpy.testing._private.utils.runstring",
    ),
    "torch's own shell": (
        lambda m: called("torch.utils.collect_env", "run", _command(m)),
        "torch.utils.collect_env.run",
    ),
}


def _packed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
