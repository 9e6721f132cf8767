"""A small disk of a service's own, in a mount namespace that nobody else sees and that ends with it; Linux only."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NOT_ALLOWED = "this system lets nobody mount a file system of his own"
_NAMESPACES = ("--user", "--map-root-user", "--mount")


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory.

    Attributes
    ----------
    place : Path
        Where it is mounted, for those inside.
    holder : int
        A process that keeps the namespace alive.
    """

    place: Path
    holder: int

    @property
    def inside(self) -> tuple[str, ...]:
        """Words before a command that is to see the disk."""
        return ("nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials", "--")

    @property
    def seen(self) -> Path:
        """The same place, for this process."""
        return Path(f"/proc/{self.holder}/root{self.place}")

    def run(self, *words: str | Path) -> None:
        """Run a command that sees the disk."""
        subprocess.run([*self.inside, *map(str, words)], check=True, capture_output=True, text=True, timeout=20)

    def fill(self, leave: int = 0) -> None:
        """Take all space but so many bytes."""
        self.empty()
        with (self.seen / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 2**12)
            except OSError:
                filler.truncate(max(0, filler.tell() - leave))

    def empty(self) -> None:
        """Give the space back."""
        (self.seen / "filler").unlink(missing_ok=True)

    def freeze(self, folder: str) -> None:
        """Let nobody write into a folder of the disk."""
        self.run("mount", "--bind", self.place / folder, self.place / folder)
        self.run("mount", "-o", "remount,bind,ro", self.place / folder)

    def thaw(self, folder: str) -> None:
        """Undo `freeze`."""
        self.run("umount", self.place / folder)


@contextmanager
def small_disk(place: Path, size: str = "24m") -> Iterator[SmallDisk]:
    """Mount it; skipped where that is not allowed."""
    place.mkdir()
    holder = subprocess.Popen(["unshare", *_NAMESPACES, "sleep", "600"], stderr=subprocess.DEVNULL)
    try:
        disk = SmallDisk(place, holder.pid)
        if not _mounted(disk, holder, size):
            pytest.skip(NOT_ALLOWED)
        yield disk
    finally:
        holder.kill()
        holder.wait()


def _mounted(disk: SmallDisk, holder: subprocess.Popen[bytes], size: str) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until and holder.poll() is None:
        try:
            disk.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk.place)
            return True
        except subprocess.CalledProcessError:  # its namespaces are not there yet, or it may not
            time.sleep(0.05)
    return False
