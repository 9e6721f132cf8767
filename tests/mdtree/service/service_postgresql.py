"""A PostgreSQL server for the tests: a real one, in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

NOT_INSTALLED = "PostgreSQL is not installed"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class PostgreSQL:
    """A running server, whose socket lies in `folder`."""

    folder: Path

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of a fresh database, removed at the end whoever still uses it."""
        name = f"test_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql://mdtree@/{name}?host={self.folder}"
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the one who may do everything."""
        with psycopg.connect(host=str(self.folder), user="mdtree", dbname=database, autocommit=True) as connection:
            for one in statements:
                connection.execute(one)


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: on the path, or the newest where Debian puts them; None without them."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((one.parent for one in found), key=lambda folder: float(folder.parent.name), default=None)


@contextmanager
def running(programs: Path) -> Iterator[PostgreSQL]:
    """A server of its own; it ends with the block, and with this process however that ends.

    PostgreSQL refuses to run as root: root lends it the account `postgres`, or `nobody`.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a socket has at most 107 bytes
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    data = folder / "data"
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "mdtree", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            **user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *words],
                **user,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        try:
            _await(server, folder)
            yield PostgreSQL(folder)
        finally:
            server.send_signal(signal.SIGINT)  # ends connections, then the server
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder)


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _await(server: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="mdtree", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "log").read_text("utf-8", "replace")) from None
            time.sleep(0.05)
