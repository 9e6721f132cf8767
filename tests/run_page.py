"""Run the code blocks of one page in order, in the current folder: `python -P tests/run_page.py PAGE.md`.

One process a page: Python blocks share their names, as in a notebook, and commands find the files of the blocks before
them. The first block that does not do what the page says ends it with the reason.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from doc_pages import SERVICE, Block, Command, blocks, pages
from doc_stand_ins import prepare

from mdtree.cli import main as mdtree_main

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def run_page(name: str) -> None:
    """Run every block of a page that can be run."""
    names = prepare(name, Path.cwd())
    for block in blocks(pages()[name]):
        if not block.not_run:
            run_block(replace(block, text=block.text.replace(SERVICE, names.get("SERVICE", SERVICE))), names)


def run_block(block: Block, names: dict[str, Any]) -> None:
    """Run one block, or write the file that it is.

    Raises
    ------
    AssertionError
        A command returns another code, or prints something else than the page shows.
    """
    if block.file:
        Path(block.file).write_text(block.text + "\n", encoding="utf-8")
        if "__main__" in block.text:
            run_command(block, Command(("python", block.file), None))
    elif block.language == "python":
        exec(compile(block.text, block.place, "exec"), names)
    elif block.language == "sh":
        run_script(block)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "console":
        for command in block.commands():
            run_command(block, command)


def run_script(block: Block) -> None:
    """Run a block as a script that ends at its first failure; not where curl is missing, but on continuous integration.

    Raises
    ------
    AssertionError
        Some line of it fails.
    """
    if shutil.which("curl") is None and not os.environ.get("CI"):
        return
    words = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == block.exit_code, f"{block.place}: exit code {done.returncode}\n{done.stderr}{done.stdout}"


def run_command(block: Block, command: Command) -> None:
    """Run a command, `mdtree` in this process, and compare what it prints with what the page shows."""
    program, *words = expanded(command.words)
    if program == "mdtree":
        code, printed, said = run_mdtree(words)
    else:
        assert program == "python", f"{block.place}: {program} is not run; say so above the block"
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        code, printed, said = done.returncode, done.stdout, done.stderr
    about = f"{block.place}: {' '.join(command.words)}"
    assert code == block.exit_code, f"{about}: exit code {code}, not {block.exit_code}\n{said}{printed}"
    if command.target:
        Path(command.target).write_text(printed, encoding="utf-8")
    if command.output and block.page != "README.md":  # test_readme compares its transcript
        missing = first_missing(command.output, printed.splitlines())
        assert missing is None, f"{about}: does not print\n{missing}\nbut\n{printed}"


def run_mdtree(words: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and standard error of a command."""
    # a terminal's encoding: without one the reports are drawn in ASCII
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            mdtree_main(list(words))
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    printed, said = (cast(io.BytesIO, stream.buffer).getvalue().decode() for stream in (output, errors))
    return code, printed, said


def expanded(words: Sequence[str]) -> list[str]:
    """The words as a shell hands them on: names with a star become the files they match."""
    found: list[str] = []
    for word in words:
        found += sorted(glob.glob(word)) or [word] if "*" in word else [word]
    return found


def first_missing(shown: Sequence[str], printed: Sequence[str]) -> str | None:
    """The first shown line that is not printed in its place; None if all are.

    A line of dots stands for any lines, dots at a line's end for the rest of it. Of numbers with a point two digits
    count: the others differ between machines.
    """
    lines = [coarse(line) for line in printed if line.strip()]
    at, anywhere = 0, False
    for line in shown:
        if line.strip() == "...":
            anywhere = True
            continue
        wanted = coarse(line)
        places = range(at, len(lines)) if anywhere else range(at, min(at + 1, len(lines)))
        place = next((number for number in places if fits(wanted, lines[number])), None)
        if place is None:
            return line
        at, anywhere = place + 1, False
    return None


def fits(wanted: str, line: str) -> bool:
    """Whether a printed line is the shown one, or begins with what stands before its dots."""
    return line.startswith(wanted[:-3].rstrip()) if wanted.endswith("...") else line == wanted


def coarse(line: str) -> str:
    """A line with single spaces, and numbers of two digits."""
    return _NUMBER.sub(lambda found: f"{float(found[0]):.2g}", " ".join(line.split()))


if __name__ == "__main__":
    run_page(sys.argv[1])
