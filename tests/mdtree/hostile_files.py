"""All hostile and damaged files and folders, each with the sentence the user must get."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostile_archives import OLD_FILES, ZIPS
from hostile_contents import GREEDY, ODD, Bytes
from hostile_distributed import DISTRIBUTED, MANY_VALUES
from hostile_folders import BESIDE, MALICIOUS, SHARDS, SPECIAL, Build, runs
from hostile_formats import OTHERS, RENAMED, SAFETENSORS
from hostile_objects import INERT, REFUSED
from hostile_pickles import EXECUTING, beside_weights, old_with
from hostile_tensors import POSING
from hostile_words import VAST, WORD_FOLDERS, WORDS


@dataclass(frozen=True)
class Hostile:
    """One file or folder.

    Parameters
    ----------
    name : str
        What is wrong with it.
    build : callable
        Makes it in an empty folder, with a payload that would create the marker named; gives back what to open.
    sentence : str
        Regular expression: of the one line on standard error, or of the report where it opens.
    opens : bool
        Whether only something beside good weights is wrong with it.
    """

    name: str
    build: Build
    sentence: str
    opens: bool = False


def one_file(content: Callable[[str], bytes]) -> Build:
    def build(folder: Path, marker: str) -> Path:
        (folder / "x.pt").write_bytes(content(marker))
        return folder / "x.pt"

    return build


def without_marker(content: Bytes) -> Build:
    return one_file(lambda _: content())


def _in_the_optimizer(marker: str) -> bytes:
    """A list of the optimizer's parameter groups in which one value runs code."""
    return beside_weights(
        b"}" + b"X\x0c\x00\x00\x00param_groups](}X\x02\x00\x00\x00lr" + runs(marker) + b"ses", "optimizer"
    )


def _plain(protocol: int) -> Callable[[str], bytes]:
    class Runs:
        def __init__(self, marker: str) -> None:
            self.marker = marker

        def __reduce__(self) -> tuple[object, ...]:
            import os

            return os.system, (f"touch {self.marker}",)

    return lambda marker: pickle.dumps({"state_dict": 1, "extra": Runs(marker)}, protocol)


def _named(sentence: str) -> str:
    return f"asks to call {sentence}: {MALICIOUS}"


_OLD_PARTS = ("magic number", "version", "system", "content", "storage keys")

RUNNING = [
    *(
        Hostile(name, one_file(lambda m, body=body: beside_weights(body(m))), _named(called))
        for name, (body, called) in EXECUTING.items()
    ),
    *(
        Hostile(
            f"os.system in the {part} of an old file",
            one_file(lambda m, n=n: old_with(n, runs(m))),
            _named("posix.system"),
        )
        for n, part in enumerate(_OLD_PARTS)
    ),
    *(
        Hostile(f"os.system in a plain pickle, protocol {n}", one_file(_plain(n)), _named("posix.system"))
        for n in (0, 2, 4)
    ),
    Hostile("os.system in an optimizer's state", one_file(_in_the_optimizer), _named("posix.system")),
]
"""Files that run code when they are unpickled as usual."""

REFUSED_FILES = [
    Hostile(name, without_marker(content), sentence)
    for group in (GREEDY, POSING, REFUSED, ZIPS, OLD_FILES, SAFETENSORS, OTHERS)
    for name, (content, sentence) in group.items()
]
OPENED_FILES = [
    Hostile(name, without_marker(content), sentence, opens=True)
    for group in (ODD, INERT, RENAMED, WORDS, VAST)
    for name, (content, sentence) in group.items()
]
FOLDERS = [
    Hostile(name, build, sentence)
    for group in (SPECIAL, SHARDS, DISTRIBUTED)
    for name, (build, sentence) in group.items()
]
OPENED_FOLDERS = [
    Hostile(name, build, sentence, opens=True)
    for name, (build, sentence) in (BESIDE | WORD_FOLDERS | MANY_VALUES).items()
]

CASES = [*RUNNING, *REFUSED_FILES, *FOLDERS, *OPENED_FILES, *OPENED_FOLDERS]
