"""A process with one thread, as a worker is, that confines functions for tests: the process of the tests has many."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from mdtree.service.work.confinement import Confines, Ending, Report, confined
from mdtree.service.work.process_limits import die_with_parent
from mdtree.service.work.supervisor import worker_environment


@dataclass(frozen=True)
class Ended:
    """An ending, and all that the child said before it, as its parent heard it."""

    ending: Ending
    said: list[tuple[str, float]]


@dataclass(frozen=True)
class _Order:
    function: Callable[[Report], None]
    confines: Confines
    stop_after: float


class ForkingProcess:
    """Runs one function after another as `confined` does.

    Parameters
    ----------
    errors : Path
        Where the standard error of the children goes.
    prepare : callable, optional
        Called once in the process, as a worker imports torch.
    """

    def __init__(self, errors: Path, prepare: Callable[[], object] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._errors = errors
        self.process = context.Process(
            target=_obey, args=(theirs, multiprocessing.current_process().pid, prepare), daemon=True
        )
        with worker_environment():
            self.process.start()
        theirs.close()

    def begin(
        self,
        function: Callable[[Report], None],
        *,
        seconds: float = 60.0,
        memory: int | None = 2**30,
        file: int = 2**26,
        processes: bool = True,
        stop_after: float = 1e9,
    ) -> None:
        """Have it run a function; `stop_after` so many seconds its watch says stop."""
        confines = Confines(seconds, memory, file, self._errors, processes=processes)
        self._pipe.send(_Order(function, confines, stop_after))

    def ended(self) -> Ended:
        """How what was begun ended."""
        assert self._pipe.poll(60.0), "nothing came back"
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Ended)
        return answer

    def run(self, function: Callable[[Report], None], *, memory: int | None = 2**30, **limits: float | bool) -> Ended:
        """Begin and wait."""
        self.begin(function, memory=memory, **limits)  # type: ignore[arg-type]
        return self.ended()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def _obey(pipe: Connection, parent: int, prepare: Callable[[], object] | None) -> None:
    die_with_parent(parent)
    if prepare is not None:
        prepare()
    while True:
        order = pipe.recv()
        said: list[tuple[str, float]] = []
        started = time.monotonic()
        watch = partial(_watch, said, started + order.stop_after)
        try:
            pipe.send(Ended(confined(order.function, order.confines, watch), said))
        except Exception as error:
            pipe.send(error)


def _watch(said: list[tuple[str, float]], until: float, text: str, share: float) -> bool:
    said.append((text, share))
    return time.monotonic() < until


def start_a_thread() -> None:
    """What a worker must never do."""
    threading.Thread(target=time.sleep, args=(60.0,), daemon=True).start()
