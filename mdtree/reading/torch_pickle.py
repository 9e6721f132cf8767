"""The pickles of torch.save, read by ``torch.load(weights_only=True)`` with inert classes for all it does not know."""

from __future__ import annotations

import io
import re
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mdtree.errors import InputError, ResourceError
from mdtree.reading.file_kinds import RE_SAVE, refuse_executing
from mdtree.reading.inert_objects import inert_class
from mdtree.reading.pickle_audit import Audit, DamagedPickleError
from mdtree.reading.pickle_scan import globals_asked_for
from mdtree.reading.zip_archive import MAX_PICKLE_BYTES
from mdtree.specification import shown

OLDEST_TORCH = (2, 10)
_LEGACY_PICKLES = 5  # a magic number, a version, the system, the content, the keys of the storages

_lock = threading.Lock()


def load_pickled(handle: BinaryIO, path: Path, size: int, pickled: bytes | None) -> tuple[Any, tuple[str, ...]]:
    """The content of a file of torch.save; nothing of it is run, no class it names is imported.

    Parameters
    ----------
    handle : binary file
        The whole file.
    path : Path
        Named in errors.
    size : int
        Its bytes.
    pickled : bytes or None
        The pickle of a zip archive; None for a file from before torch 1.6, which is nothing but pickles and storages.

    Returns
    -------
    content : object
    unknown : tuple of str
        Names of the classes that were read as inert data.

    Raises
    ------
    InputError
        If it is damaged, beyond bounds, asks to run code, or this torch is too old to read it safely.
    ResourceError
        If it does not fit into memory.
    """
    check_torch_version(path)
    handle.seek(0)
    data = handle.read(MAX_PICKLE_BYTES) if pickled is None else pickled
    audit = Audit(path, size)
    audit.calls.checksums = pickled is not None
    try:
        for _ in range(_LEGACY_PICKLES if pickled is None else 1):
            audit.follow(data, audit.end)
    except DamagedPickleError as error:
        raise _unread(data, path, pickled is None) from error
    finally:
        del data
    refuse_executing(list(audit.names), path)
    if pickled is None and audit.end + 8 * len(audit.calls.storages) + audit.calls.stored != size:
        raise _damaged(path)  # the storages follow, each after its length, and nothing else
    with _only_inert(audit) as unknown:
        handle.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(handle, map_location="cpu", weights_only=True), unknown
        except MemoryError as error:
            raise ResourceError(f"{path} does not fit into memory") from error
        except Exception as error:  # damaged pickles raise anything
            raise _damaged(path) from error


def check_torch_version(path: Path) -> None:
    """Refuse a torch whose ``weights_only`` is known to be passed by (CVE-2025-32434, CVE-2026-24747).

    Raises
    ------
    InputError
    """
    numbers = re.findall(r"\d+", str(torch.__version__))[:2]
    if tuple(map(int, numbers)) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise InputError(
            f"torch {torch.__version__} cannot read {path} safely (CVE-2026-24747)",
            f"torch {oldest} or newer",
            f"run: pip install 'torch>={oldest}', or save it as .safetensors",
        )


@contextmanager
def _only_inert(audit: Audit) -> Iterator[tuple[str, ...]]:
    """torch's list of what users allow holds inert classes for the names it does not know, and nothing else.

    The list is one for the whole process: it is put back as it was, and only one file is read at a time.
    """
    with _lock:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            unknown = _unknown_to_torch(audit.names)
            for name in sorted(audit.calls.called.difference(unknown)):
                raise audit.calls.refusal(name)
            torch.serialization.add_safe_globals(
                [(inert_class(name, audit.filled.get(name)), name) for name in unknown]
            )
            yield unknown
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _unknown_to_torch(names: Iterable[str]) -> tuple[str, ...]:
    """The names that torch's restricted unpickler does not know, as it says itself of a file made of nothing else."""
    program = "".join(f"c{module}\n{name}\n" for module, _, name in (one.rpartition(".") for one in names))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program.encode() + b".")
        archive.writestr("archive/version", b"3\n")
    made.seek(0)
    unknown = set(torch.serialization.get_unsafe_globals_in_checkpoint(made))
    return tuple(name for name in names if name in unknown)


def _unread(data: bytes, path: Path, is_legacy: bool) -> InputError:
    """Why a pickle was not followed to its end."""
    asked = globals_asked_for(io.BytesIO(data), pickles=_LEGACY_PICKLES if is_legacy else 1) or []
    refuse_executing(asked, path)
    start = data.find(b"\x80", 10) if is_legacy else 0
    protocol = data[start + 1] if data[start : start + 1] == b"\x80" else 2
    if protocol in (3, 4, 5):
        return InputError(f"{path} is pickled with protocol {protocol}", "protocol 2, torch.save's own", RE_SAVE)
    networks = [name for name in asked if name.startswith("torch.nn.modules.")]
    if is_legacy and networks:
        mend = "load it where its classes are and save model.state_dict()"
        what = f"is a whole pickled network ({shown(networks[0])}) in the form from before torch 1.6"
        return InputError(f"{path} {what}", "weights", mend)
    return _damaged(path)


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is truncated, damaged, or pickled in a way torch.load(weights_only=True) does not read", "", RE_SAVE
    )
