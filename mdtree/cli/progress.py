"""Progress on standard error: a bar with the time left where a person looks on, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """A function to call with what is being done and the share of it that is done (0...1).

    A share that falls begins a new stage: the time left is reckoned anew.
    """
    console = Console(stderr=True)
    title = escape(title)  # a file's name is no markup
    if not console.is_terminal:
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        reached = 0.0

        def show(what: str, share: float) -> None:
            nonlocal reached
            if share < reached:
                bar.reset(task)
            reached = share
            bar.update(task, description=f"{title}: {what}" if what else title, completed=share)

        yield show


class _Lines:
    """For logs: one line every ten seconds, with the time left at the present speed."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = self.last = time.monotonic()
        self.first_share = self.reached = 1.0

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if share < self.reached:
            self.start, self.first_share = now, share
        self.reached = share
        if now - self.last < LINE_EVERY_SECONDS:
            return
        self.last = now
        gone = share - self.first_share
        left = f", {(now - self.start) * (1 - share) / gone:.0f} s left" if gone > 0 else ""
        print(f"{self.title}: {share:.0%}{left}  {what}", file=sys.stderr, flush=True)
