"""Hostile and damaged files: each is refused in one line that says why, in seconds, without its weight in memory.

Every file is read by the command line in a process of its own kind (see `hostile_reader`), which is asked for its time
and its peak of memory file by file. Where only something beside good weights is wrong, the weights are opened and the
report says what was left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hostile_files import CASES, RUNNING, Hostile
from hostile_folders import runs
from hostile_pickles import STATE
from hostile_reader import LIMIT, Reader, Reading

from mdtree.checkpoint import open_checkpoint
from mdtree.errors import InputError

SPARE = 512 * 2**20
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    started = Reader()
    yield started
    started.close()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; links are not followed."""
    if path.is_dir():
        return sum(size_of(one) for one in path.iterdir() if not one.is_symlink())
    return path.lstat().st_size


def check_cost(reading: Reading, path: Path) -> None:
    assert reading.seconds <= LIMIT
    assert reading.bytes_more <= 4 * size_of(path) + SPARE, f"{reading.bytes_more / 2**20:.0f} MB"


def check_line(reading: Reading, sentence: str) -> None:
    """One line on standard error and nothing else, fit for a terminal, with the sentence in it."""
    assert reading.code == 2
    assert reading.output == ""
    assert reading.error.startswith("mdtree: ")
    assert reading.error.count("\n") == 1
    assert reading.error.endswith("\n")
    assert not CONTROL.search(reading.error)
    assert len(reading.error) < 2000
    assert re.search(sentence, reading.error)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_file_gets_its_sentence(tmp_path: Path, reader: Reader, case: Hostile) -> None:
    (tmp_path / "given").mkdir()
    marker = tmp_path / "marker"
    path = case.build(tmp_path / "given", str(marker))
    small = size_of(path) < 2**18
    for command in ("check", "layers") if small else ("check",):
        reading = reader.read(command, str(path))
        if not case.opens:
            check_line(reading, case.sentence)
        else:
            assert (reading.code, reading.error) == (0, "")
            assert not CONTROL.search(reading.output)
            assert command == "layers" or re.search(case.sentence, " ".join(reading.output.split()))
        check_cost(reading, path)
        assert not marker.exists()
    if small:
        check_opened(case, path)
    assert not marker.exists()


def check_opened(case: Hostile, path: Path) -> None:
    """The same from Python."""
    if case.opens:
        state = open_checkpoint(path).state
        assert state
        assert all(torch.equal(value, STATE[name]) for name, value in state.items())
    else:
        with pytest.raises(InputError, match=case.sentence) as caught:
            open_checkpoint(path)
        assert "\n" not in str(caught.value)


LOAD_AS_USUAL = """
import json, pickle, sys, torch
for path, plain in json.load(sys.stdin):
    with open(path, "rb") as handle:
        pickle.load(handle) if plain else torch.load(handle, weights_only=False)
"""


def test_the_payloads_work_where_a_file_is_trusted(tmp_path: Path) -> None:
    """Loaded as usual, in another process, each of these files makes the marker that the test above looks for."""
    given = []
    for number, case in enumerate(RUNNING):
        folder = tmp_path / str(number)
        folder.mkdir()
        given.append((str(case.build(folder, str(folder / "marker"))), "plain pickle" in case.name))
    words = [sys.executable, "-c", LOAD_AS_USUAL]
    subprocess.run(words, input=json.dumps(given), text=True, timeout=120, check=True, capture_output=True)
    missing = [case.name for number, case in enumerate(RUNNING) if not (tmp_path / str(number) / "marker").exists()]
    assert missing == []


def test_the_measure_of_memory_sees_a_file_and_forgets_it(tmp_path: Path, reader: Reader) -> None:
    weight = torch.zeros(128, 2**18)
    torch.save({"weight": weight}, tmp_path / "large.pt")
    torch.save(STATE, tmp_path / "small.pt")
    large = reader.read("check", str(tmp_path / "large.pt"))
    small = reader.read("check", str(tmp_path / "small.pt"))
    assert weight.nbytes <= large.bytes_more <= 4 * weight.nbytes + SPARE
    assert small.bytes_more < large.bytes_more - weight.nbytes // 2


def test_there_are_as_many_as_there_should_be() -> None:
    assert sum(not case.opens for case in CASES) >= 70
    assert len(RUNNING) >= 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["os.system", "named pipe", "deflated bomb", "bit flipped in the weights", "a shard that runs code"]
)
def test_the_command_itself_refuses(tmp_path: Path, name: str) -> None:
    """A few of them through `python -m mdtree`, as a user starts it."""
    case = next(case for case in CASES if case.name == name)
    (tmp_path / "given").mkdir()
    path = case.build(tmp_path / "given", str(tmp_path / "marker"))
    words = [sys.executable, "-m", "mdtree", "check", str(path)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment, check=False
    )
    check_line(Reading(ended.returncode, ended.stderr, ended.stdout, 0, 0), case.sentence)
    assert not (tmp_path / "marker").exists()


def test_code_beside_weights_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the command is run inside the folder that was downloaded."""
    marker = tmp_path / "marker"
    case = next(case for case in CASES if case.name == "config.json that names code")
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(case.build(tmp_path / "given", str(marker)))
    (Path.cwd() / "pyproject.toml").unlink()  # in a project of the user's it would be the user's own word
    assert set(open_checkpoint(Path.cwd()).state) == set(STATE)
    assert not marker.exists()


def test_a_payload_is_written_as_it_should_be(tmp_path: Path) -> None:
    assert str(tmp_path).encode() in runs(str(tmp_path))
