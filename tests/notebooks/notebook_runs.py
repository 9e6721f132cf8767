"""Run notebooks as a reader would, and read off what they show.

python tests/notebooks/notebook_runs.py [NAME...]    runs notebooks and keeps what they show (all of them: two minutes)
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

LIMIT_SECONDS = 180
"""What a notebook may take on two cores."""

TRAINED = "trained"
"""Tag of cells whose numbers come from networks that were trained in the notebook: another kind of machine rounds
otherwise, and training carries that far."""

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?")
MARKUP = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


@dataclass
class Executed:
    """A notebook that has run.

    Attributes
    ----------
    notebook : NotebookNode
        With its new outputs.
    seconds : float
        From the start of its kernel to the end.
    processes : list of psutil.Process
        The kernel, and what was at work for it after any of its cells.
    """

    notebook: NotebookNode
    seconds: float
    processes: list[psutil.Process] = field(default_factory=list)


def execute(name: str) -> Executed:
    """Run a notebook from top to bottom, in its folder, with one thread for each process, as `make test` has it."""
    notebook = read(name)
    processes: set[psutil.Process] = set()

    def note_processes(**_: Any) -> None:
        kernel = psutil.Process(client.km.provisioner.process.pid)
        processes.update([kernel, *kernel.children(recursive=True)])

    client: Any = NotebookClient(
        notebook,
        timeout=LIMIT_SECONDS,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        record_timing=False,
        on_cell_executed=note_processes,
    )
    started = time.monotonic()
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    return Executed(notebook, time.monotonic() - started, list(processes))


def read(name: str) -> NotebookNode:
    """A notebook as it is kept."""
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def names() -> list[str]:
    """All notebooks."""
    return sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Its cells of code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: NotebookNode) -> list[tuple[str, ...]]:
    """What kinds of output a cell shows, in their order: streams joined, a table or picture by its media types."""
    kinds = [
        (output.name,) if output.output_type == "stream" else (output.output_type, *sorted(output.get("data", {})))
        for output in cell.outputs
    ]
    return [kind for number, kind in enumerate(kinds) if number == 0 or len(kind) > 1 or kind != kinds[number - 1]]


def text_of(cell: NotebookNode) -> str:
    """All a reader can read of what a cell shows: streams, tables, plain text; of HTML what is between the tags."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif "text/html" in output.get("data", {}):
            parts.append(MARKUP.sub(" ", output.data["text/html"]))
        else:
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


def numbers_of(cell: NotebookNode) -> list[float]:
    """The numbers in that text."""
    return [float(found.replace(",", "").replace("−", "-").rstrip(".")) for found in NUMBER.findall(text_of(cell))]


def alike(first: float, second: float) -> bool:
    """Whether two numbers agree to two digits."""
    return math.isclose(first, second, rel_tol=0.01, abs_tol=0.01)


def pictures(notebook: NotebookNode) -> list[str]:
    """Its pictures, base64."""
    return [
        output.data["image/png"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def check_run(name: str) -> None:
    """Run a notebook in time; it shows what it keeps, and leaves no process behind.

    Cells whose networks were trained here are compared by what kinds of output they show; all others also word for
    word, and number for number to two digits.
    """
    kept, done = read(name), execute(name)
    assert done.seconds < LIMIT_SECONDS
    assert done.processes
    _, alive = psutil.wait_procs(done.processes, timeout=10)
    assert not alive
    assert len(pictures(done.notebook)) == len(pictures(kept))
    for old, new in zip(code_cells(kept), code_cells(done.notebook), strict=True):
        assert shown(new) == shown(old), f"{name}, cell {old.id}"
        if TRAINED in old.metadata.get("tags", []):
            continue
        before, now = numbers_of(old), numbers_of(new)
        assert NUMBER.sub("#", text_of(new)) == NUMBER.sub("#", text_of(old)), f"{name}, cell {old.id}"
        for number, (first, second) in enumerate(zip(before, now, strict=True)):
            assert alike(first, second), f"{name}, cell {old.id}, number {number}: {second}, kept is {first}"


def main(chosen: list[str]) -> None:
    """Run notebooks and keep what they show."""
    for name in chosen or names():
        done = execute(name)
        # what the machine happens to run is no part of a notebook
        done.notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(done.notebook, NOTEBOOKS / name)
        print(f"{name}: {done.seconds:.0f} s, {len(pictures(done.notebook))} pictures")


if __name__ == "__main__":
    main(sys.argv[1:])
