"""Files on disk: only regular ones are read, and what is written appears whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from mdtree.errors import InputError, ResourceError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left: on the disk, in the user's share of it, or in what the user's limit allows one file."""


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path, if a regular file stands there that is not empty. Nothing is opened: a pipe would wait for ever.

    Raises
    ------
    InputError
        If it is missing, not readable, a folder, a pipe, a device, a socket, or empty.
    """
    file = Path(path)
    try:
        status = file.stat()
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist", "a file", "check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({_reason(error)})", "a file") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{file} is a folder", "a file", "give the file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{file} is a {_special(status.st_mode)}", "a regular file", "copy its contents to a file")
    if status.st_size == 0:
        raise InputError(f"{file} is empty: the save or the copy did not finish", "", "save or copy it again")
    if not os.access(file, os.R_OK):
        raise InputError(f"{file} cannot be read (permission denied)", "a file you may read")
    return file


def write_atomically(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file so that no other process, and no crash, ever sees half of it: a temporary beside it, then a rename.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to.
    ResourceError
        If the disk is full.
    """
    file = Path(path)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
        _sync_folder(file.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(f"no space left to write {file}", "", "free some space") from error
        raise InputError(
            f"{file} cannot be written ({_reason(error)})", "a path in a folder you may write to"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power, where folders can be opened and synchronised."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot: the rename itself is done
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _special(mode: int) -> str:
    for test, word in ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return word
    return "device"
