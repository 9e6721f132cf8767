"""The code blocks of README and docs, and what a page says of how each is to be checked.

A block is run unless a comment in the line above it says otherwise:

``<!-- not run: REASON -->``
    Why it cannot be run here; what it needs or takes. Its `mdtree` commands are still held against the command line,
    its Python and TOML still have to parse.
``<!-- exit code N -->``
    What its commands return; 0 by default.

A first line that ends in ``# NAME.py`` or ``# NAME.toml`` makes the block that file; a script is then run. Blocks of
`sh` are scripts of bash.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = ("checkpoints.md", "gallery.md", "metric_values.md", "transfer.md", "zoos.md")
"""Pages that a script writes; what stands in their blocks is output."""

LANGUAGES = ("python", "console", "sh", "toml", "yaml", "text")
REASONS = ("needs ", "takes ")

_MARK = re.compile(r"<!-- (not run|exit code):? (.+) -->")
_FILE = re.compile(r"#\s*([\w./-]+\.(?:py|toml|yml|yaml))$")

SERVICE = "http://127.0.0.1:8080"
"""Where services listen on the pages; the one that is started for a page has another address, put in its place."""

README_MARKS = {
    "make diagnose": "not run: needs a package index",
    "mdtree serve": "not run: needs a terminal of its own",
    "mdtree zoo build my_zoo.toml --dry-run": "not run: needs images, and takes an hour",
    "mdtree transfer zoo_samples/*.csv": "not run: takes minutes",
}
"""The README is read without comments: how its blocks begin that are not run, and why."""


@dataclass(frozen=True)
class Command:
    """One command of a console block, and what the page shows of its output (None: nothing)."""

    words: tuple[str, ...]
    output: tuple[str, ...] | None
    target: str | None = None


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Parameters
    ----------
    page : str
        The file's name.
    line : int
        Of its fence.
    language, text : str
    not_run : str
        Why it is not run; empty if it is.
    exit_code : int
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    exit_code: int = 0
    place: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", f"{self.page}, line {self.line}")

    @property
    def file(self) -> str | None:
        """The file that it is, if it is one."""
        found = _FILE.search(self.text.splitlines()[0]) if self.text and self.language != "console" else None
        return found[1] if found else None

    def commands(self) -> list[Command]:
        """The commands of a console block: all its lines, or those after ``$``, the others being their output."""
        text = self.text.replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip()]
        if not text.startswith("$ "):
            return [_command(line, None) for line in lines if not line.lstrip().startswith("#")]
        found: list[tuple[str, list[str]]] = []
        for line in lines:
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return [_command(line, tuple(output)) for line, output in found]


def _command(line: str, output: tuple[str, ...] | None) -> Command:
    words = shlex.split(line, comments=True)
    if len(words) > 2 and words[-2] == ">":
        return Command(tuple(words[:-2]), output, words[-1])
    return Command(tuple(words), output)


def pages() -> dict[str, Path]:
    """Every page whose blocks are somebody's words, by name."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {file.name: file for file in found if file.name not in GENERATED}


def blocks(file: Path) -> list[Block]:
    """The fenced blocks of a page, without those of Sphinx's directives."""
    found: list[Block] = []
    lines = file.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        language = lines[start][3:].strip()
        if not language.startswith("{"):
            found.append(_block(file.name, start, language, lines[start + 1 : number], lines[max(0, start - 1)]))
        start = None
    assert start is None, f"{file.name}: the fence in line {start} is not closed"
    return found


def _block(page: str, start: int, language: str, lines: list[str], above: str) -> Block:
    text = "\n".join(lines)
    mark = _MARK.fullmatch(above.strip())
    kind, said = (mark[1], mark[2]) if mark else ("", "")
    if page == "README.md":
        for beginning, words in README_MARKS.items():
            if text.startswith(beginning):
                kind, said = words.split(": ")
    not_run = said if kind == "not run" else ""
    return Block(page, start + 1, language, text, not_run, int(said) if kind == "exit code" else 0)
