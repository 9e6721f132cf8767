"""Only regular files are read, and a written file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from mdtree.errors import InputError, ResourceError
from mdtree.files import regular_file, write_atomically


def test_a_regular_file_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert regular_file(str(tmp_path / "file")) == tmp_path / "file"


def test_what_is_no_regular_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("empty").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        expected = {
            "missing": "missing does not exist",
            ".": ". is a folder",
            "pipe": "pipe is a named pipe; expected a regular file",
            "socket": "socket is a socket; expected a regular file",
            "/dev/zero": "/dev/zero is a device; expected a regular file",
            "empty": "empty is empty: the save or the copy did not finish",
            "a\0b": "cannot be read",
            "x" * 5000: "cannot be read (file name too long)",
        }
        for path, message in expected.items():
            with pytest.raises(InputError) as caught:
                regular_file(path)
            assert message in str(caught.value), path


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert write_atomically(path, b"new") == path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match=r"no space left to write"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .no such file or directory.; expected a path"):
        write_atomically(tmp_path / "none" / "file", b"x")
