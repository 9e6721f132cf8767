"""A real `mdtree serve` in processes of its own: a benchmark or a test starts, watches, kills and restarts it."""

from __future__ import annotations

import ctypes
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

MARK = "MDTREE_STARTED_BY"
START_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class ServiceProcess:
    """One service: its folder and port stay the same from one start to the next.

    Attributes
    ----------
    folder : Path
        Holds its configuration, its log, and its data directory.
    options : sequence of str
        Further words of `mdtree serve`.
    configuration : str
        The TOML of ``--config``.
    before : sequence of str
        Words before the command, such as ``taskset -c 0,1``.
    data_dir : Path or None
        Elsewhere than in `folder`.
    environment : mapping of str to str
        Beside that of this process.
    cwd : Path or None
        The directory it is started in.
    """

    folder: Path
    options: Sequence[str] = ()
    configuration: str = ""
    before: Sequence[str] = ()
    data_dir: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    port: int = field(default_factory=free_port)
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.data_dir or self.folder / "data"
        (self.folder / "service.toml").write_text(self.configuration, encoding="utf-8")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Standard error of all its starts."""
        return self.folder / "log.jsonl"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def launch(self) -> subprocess.Popen[str]:
        """Start it and do not wait."""
        words = [*self.before, sys.executable, "-m", "mdtree", "serve", "--port", str(self.port)]
        words += ["--data-dir", str(self.data_dir), "--config", str(self.folder / "service.toml"), *self.options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment, MARK: self.mark}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=self.cwd,
                preexec_fn=_end_with_parent,
            )
        return self.process

    def start(self) -> float:
        """Start it, wait until it says its address, and give back how many seconds that took."""
        began = time.monotonic()
        self.launch()
        line = self.first_line(START_SECONDS)
        if str(self.port) not in line:
            raise RuntimeError(f"the service did not start: {line!r} {self.log.read_text()[-2000:]}")
        return time.monotonic() - began

    def first_line(self, seconds: float) -> str:
        """What it writes to standard output first; empty if it ends or takes longer."""
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(seconds) else ""

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tree(self) -> list[psutil.Process]:
        """The server and all that descends from it."""
        try:
            server = psutil.Process(self.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Processes that the server itself made: its workers, and what else it may keep."""
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def measuring_children(self) -> list[psutil.Process]:
        """Processes that workers made."""
        found: list[psutil.Process] = []
        for worker in self.workers():
            try:
                found += worker.children()
            except psutil.NoSuchProcess:
                continue
        return found

    def leftovers(self) -> list[psutil.Process]:
        """Processes of this or of earlier starts that do not descend from the present server."""
        own = {process.pid for process in self.tree()}
        return [process for process in _marked(self.mark) if process.pid not in own]

    def kill(self) -> None:
        """As a power cut of the server process: no word of farewell, and what it made must look after itself."""
        if self.process is not None:
            self.process.kill()
            self._collect(30.0)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; gives back the exit code."""
        assert self.process is not None
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        return self._collect(seconds)

    def _collect(self, seconds: float) -> int:
        assert self.process is not None
        code = self.process.wait(seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def end_all(self) -> None:
        """Leave no process behind, however the run went."""
        if self.alive():
            self.kill()
        for process in _marked(self.mark):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def _end_with_parent() -> None:
    """In the server, before it starts: however this process ends, that one does too."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


@contextmanager
def running(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """The service, started; nothing of it is left afterwards."""
    try:
        service.start()
        yield service
    finally:
        service.end_all()


def resident(process: psutil.Process) -> float:
    """Resident MiB now; 0 if it has ended. What processes share counts for each of them."""
    try:
        return float(process.memory_info().rss / 2**20)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def proportional(process: psutil.Process) -> float:
    """The same, but of what n processes share each counts the n-th part."""
    try:
        return float(process.memory_full_info().pss / 2**20)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
