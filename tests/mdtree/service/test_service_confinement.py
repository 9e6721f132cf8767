"""A child has what it was given and no more, every way to end it is told apart, and none outlives its parent."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from service_forking import ForkingProcess, start_a_thread

from mdtree.errors import InputError, ResourceError
from mdtree.service.work.confinement import End, Report
from mdtree.service.work.endings import ServerFault

MIB = 2**20


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkingProcess]:
    process = ForkingProcess(tmp_path_factory.mktemp("errors") / "errors")
    yield process
    process.close()


def gone(pid: int, within: float = 2.0) -> bool:
    """Whether a process has ended, or ends soon; one that nobody has buried yet has."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def work(say: Report) -> None:
    for step in range(3):
        say(f"step {step}", step / 3)
        time.sleep(0.6)


def test_what_a_child_does_is_heard_while_it_does_it(forking: ForkingProcess) -> None:
    ended = forking.run(work)
    assert (ended.ending.end, ended.ending.message) == (End.RETURNED, "")
    assert 1.8 < ended.ending.seconds < 5 > 10 * ended.ending.processor_seconds
    assert 10 * MIB < ended.ending.peak_bytes < 2**31
    assert ("step 2", 2 / 3) in ended.said
    assert len(ended.said) <= 6  # twice a second at most


def refuse(say: Report) -> None:
    raise InputError("run7.pt is empty", "a whole file", "copy it again")


def run_short(say: Report) -> None:
    raise ResourceError("run7.pt does not fit into memory")


def find_a_fault(say: Report) -> None:
    try:
        Path("/nowhere/at/all").read_bytes()
    except OSError as error:
        raise ServerFault("the data set ours cannot be loaded") from error


def have_a_bug(say: Report) -> None:
    secret = [1]
    print(secret[2])


def test_errors_are_told_apart(forking: ForkingProcess) -> None:
    ending = forking.run(refuse).ending
    assert (ending.end, ending.message) == (
        End.REFUSED,
        "run7.pt is empty; expected a whole file; copy it again",
    )
    ending = forking.run(run_short).ending
    assert (ending.end, ending.message) == (End.SHORT, "run7.pt does not fit into memory")
    ending = forking.run(find_a_fault).ending
    sentence, cause = ending.message.split("\n", 1)
    assert (ending.end, sentence) == (End.FAULT, "the data set ours cannot be loaded")
    assert "/nowhere/at/all" in cause
    ending = forking.run(have_a_bug).ending
    assert ending.end is End.RAISED
    assert ending.message.rstrip().endswith("IndexError: list index out of range")


def say_too_much(say: Report) -> None:
    say("é\n" * 100_000, 7.0)
    time.sleep(0.7)
    raise InputError("x" * 10**7)


def test_what_is_said_is_bounded(forking: ForkingProcess) -> None:
    ended = forking.run(say_too_much)
    assert (ended.ending.end, len(ended.ending.message)) == (End.REFUSED, 2000)
    assert ended.said[-1] == (("é\n" * 100_000)[:200], 1.0)


def fill_memory(say: Report) -> None:
    held = bytearray(400 * MIB)
    del held


def fill_memory_by_numpy(say: Report) -> None:
    np.ones(400 * MIB, dtype=np.uint8)


def fill_memory_by_torch(say: Report) -> None:
    import torch

    torch.ones(4 * 2**30, dtype=torch.uint8)


def call_it_damaged(say: Report) -> None:
    try:
        fill_memory(say)
    except MemoryError as error:
        raise InputError("the file is damaged") from error


def abort_for_memory(say: Report) -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


@pytest.mark.parametrize(
    ("function", "memory"),
    [
        (fill_memory, 256 * MIB),
        (fill_memory_by_numpy, 256 * MIB),
        (fill_memory_by_torch, 3 * 2**30),
        (call_it_damaged, 256 * MIB),
        (abort_for_memory, 256 * MIB),
    ],
)
def test_too_much_memory(function: Callable[[Report], None], memory: int, forking: ForkingProcess) -> None:
    assert forking.run(function, memory=memory).ending.end is End.OUT_OF_MEMORY


def test_as_much_memory_as_was_given(forking: ForkingProcess) -> None:
    assert forking.run(fill_memory, memory=500 * MIB).ending.end is End.RETURNED


def sleep(say: Report) -> None:
    time.sleep(60)


def test_too_much_time(forking: ForkingProcess) -> None:
    ending = forking.run(sleep, seconds=0.3).ending
    assert ending.end is End.OUT_OF_TIME
    assert 0.3 <= ending.seconds < 2


def write_much(file: Path, size: int, say: Report) -> None:
    with open(file, "wb") as handle:
        handle.write(bytes(size))


def test_files_too_large_and_full_disks(forking: ForkingProcess, tmp_path: Path) -> None:
    file = tmp_path / "made"
    assert forking.run(partial(write_much, file, 3 * MIB), file=2 * MIB).ending.end is End.FILE_TOO_LARGE
    assert file.stat().st_size <= 2 * MIB
    assert forking.run(partial(write_much, file, 2 * MIB), file=2 * MIB).ending.end is End.RETURNED
    assert forking.run(partial(write_much, Path("/dev/full"), MIB)).ending.end is End.DISK_FULL


def die_by(number: int, say: Report) -> None:
    os.write(2, b"some last words\n")
    os.kill(os.getpid(), number)


def leave(code: int, say: Report) -> None:
    os._exit(code)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGBUS])
def test_a_child_that_dies(number: signal.Signals, forking: ForkingProcess) -> None:
    ending = forking.run(partial(die_by, number)).ending
    assert (ending.end, ending.message) == (End.DIED, f"signal {number.name}: some last words")


@pytest.mark.parametrize("code", [0, 3])
def test_a_child_that_leaves_without_a_word(code: int, forking: ForkingProcess) -> None:
    ending = forking.run(partial(leave, code)).ending
    assert (ending.end, ending.message) == (End.DIED, f"exit code {code}")


def test_a_child_that_is_stopped(forking: ForkingProcess) -> None:
    ending = forking.run(sleep, stop_after=0.0).ending
    assert ending.end is End.STOPPED
    assert ending.seconds < 1


def have_children(file: Path, say: Report) -> None:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    file.write_text(str(started.pid))


@pytest.mark.parametrize("stays", [False, True])
def test_what_a_child_starts_ends_with_it(stays: bool, forking: ForkingProcess, tmp_path: Path) -> None:
    """Whether the child itself returns or is stopped."""
    file = tmp_path / "pid"
    function = partial(_have_children_and_wait if stays else have_children, file)
    ending = forking.run(function, stop_after=0.8 if stays else 1e9).ending
    assert ending.end is (End.STOPPED if stays else End.RETURNED)
    assert gone(int(file.read_text()))


def _have_children_and_wait(file: Path, say: Report) -> None:
    have_children(file, say)
    time.sleep(60)


def lie(lies: list[bytes], say: Report) -> None:
    for each in lies:
        os.write(say.writing, each)  # type: ignore[attr-defined]


GARBAGE = [b"\xff\xfe\n", b"[]\n", b"7\n", b'{"end": "done"}\n', b'{"end": 7, "message": ""}\n', b"[" * 5000 + b"\n"]
NO_SHARE = [b'{"message": "a", "share": NaN}\n', b'{"message": {"a": 1}, "share": "half"}\n']
ENDLESS = [b"x" * 50_000] * 20


@pytest.mark.parametrize(("lies", "end"), [(GARBAGE, End.RETURNED), (NO_SHARE, End.RETURNED), (ENDLESS, End.DIED)])
def test_what_a_child_says_is_not_trusted(lies: list[bytes], end: End, forking: ForkingProcess) -> None:
    """Not even that it is a line: what follows an endless one is part of it."""
    assert forking.run(partial(lie, lies)).ending.end is end
    assert forking.run(refuse).ending.end is End.REFUSED


def look_around(say: Report) -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = ("CORE", "NOFILE", "FSIZE", "CPU", "AS", "NPROC")
    found = {
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names},
        "no new rights": status["NoNewPrivs"].strip(),
        "first to be killed": Path("/proc/self/oom_score_adj").read_text().strip(),
        "own session": os.getsid(0) == os.getpid(),
        "descriptors": sorted(
            int(each) for each in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{each}").exists()
        ),
        "channel": say.writing,  # type: ignore[attr-defined]
        "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
    }
    os.kill(os.getpid(), signal.SIGTERM)  # means its parent
    raise InputError(json.dumps(found))


def test_what_a_child_finds_around_it(forking: ForkingProcess) -> None:
    ending = forking.run(look_around, seconds=7, memory=300 * MIB, file=5 * MIB, processes=False).ending
    found = json.loads(ending.message)
    limits = {name: soft for name, (soft, hard) in found["limits"].items() if soft == hard}
    assert limits.pop("AS") > 300 * MIB
    assert limits == {"CORE": 0, "NOFILE": 1024, "FSIZE": 5 * MIB, "CPU": 12, "NPROC": 0}
    assert (found["no new rights"], found["first to be killed"], found["own session"]) == ("1", "1000", True)
    assert found["descriptors"] == [0, 1, 2, found["channel"]]
    assert found["streams"][:2] == ["/dev/null", "/dev/null"]
    assert found["streams"][2].endswith("errors")


def test_a_process_with_threads_is_not_forked(tmp_path: Path) -> None:
    process = ForkingProcess(tmp_path / "errors", start_a_thread)
    with pytest.raises(RuntimeError, match="a process with 2 threads cannot be forked safely"):
        process.run(refuse)
    process.close()


def write_pid(file: Path, say: Report) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    process = ForkingProcess(tmp_path / "errors")
    process.begin(partial(write_pid, tmp_path / "pid"))
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.close()  # kill -9
    assert gone(int((tmp_path / "pid").read_text()))
