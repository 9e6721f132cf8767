"""Finished parts survive whatever ends the process: SIGKILL, a full disk, another builder, a changed plan."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mdtree.errors import InputError, ResourceError
from mdtree.unfinished_table import UnfinishedTable, unfinished_status

COLUMNS = ["cell", "width", "cka"]
PLAN = {"family": "tiny", "training": {"steps": 100, "learning_rate": [0.1, 0.2]}}
PARTS = ["w8/n40?rate=0.1", "w8/n40?rate=0.2", "W8/n40?rate=0.1"]


def rows(cell: str, width: float = 8, cka: float = 0.123456789) -> pd.DataFrame:
    return pd.DataFrame({"cell": [cell], "width": [width], "cka": [cka]})


def fill(table: UnfinishedTable, *parts: str) -> None:
    for part in parts:
        table.add(part, rows(part), COLUMNS, {"seconds": 1.5, "networks": np.int64(4)})


def test_parts_come_back_in_the_tables_order_with_six_digits(tmp_path: Path) -> None:
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS) as table:
        assert table.finished == frozenset()
        fill(table, PARTS[2], PARTS[0], PARTS[1])
        assert table.finished == frozenset(PARTS)
        assert table.facts() == {part: {"seconds": 1.5, "networks": 4} for part in PARTS}
        whole = table.rows()
        assert whole["cell"].tolist() == PARTS
        assert whole["cka"].tolist() == [0.123457] * 3
        table.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_part_without_numbers_does_not_change_the_types_of_the_others(tmp_path: Path) -> None:
    names = ["12", "empty"]
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, names) as table:
        table.add("12", rows("007"), COLUMNS, {})
        table.add("empty", rows("NA", np.nan, np.nan), COLUMNS, {})
        whole = table.rows()
    assert whole["cell"].tolist() == ["007", "NA"]  # text stays text, whatever it looks like
    assert whole["width"].tolist()[0] == 8
    assert np.isnan(whole["width"][1])


def test_a_second_run_finds_the_finished_parts_and_ignores_others(tmp_path: Path) -> None:
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS) as table:
        fill(table, PARTS[0], PARTS[1])
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS[1:]) as table:
        assert table.finished == {PARTS[1]}
        with pytest.raises(InputError, match=r"part W8/n40.* of .*zoo.csv is not finished"):
            table.rows()
        with pytest.raises(ValueError, match="is no part of"):
            table.add(PARTS[0], rows("a"), COLUMNS, {})


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_part_cut_short_counts_as_not_finished(tmp_path: Path, cut: int) -> None:
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS[:1]) as table:
        fill(table, PARTS[0])
        (file,) = (table.folder / "parts").iterdir()
    file.write_bytes(file.read_bytes()[:cut])
    with UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS[:1]) as table:
        assert table.finished == frozenset()
        fill(table, PARTS[0])
        assert table.rows()["cell"].tolist() == PARTS[:1]


def test_another_plan_is_refused_at_the_first_key_that_differs(tmp_path: Path) -> None:
    file = tmp_path / "zoo.csv"
    with UnfinishedTable(file, PLAN, PARTS) as table:
        fill(table, PARTS[0])
    with UnfinishedTable(file, json.loads(json.dumps(PLAN)), PARTS):
        pass  # equal by value, not by identity
    changed = {"family": "tiny", "training": {"steps": 200, "learning_rate": (0.1, 0.2)}}
    with pytest.raises(InputError) as caught:
        UnfinishedTable(file, changed, PARTS)
    assert "another plan: training.steps was 100, is 200; expected the plan it was started with" in str(caught.value)
    assert f"remove {file}.partial" in str(caught.value)
    with pytest.raises(InputError, match=r"seeds was \(not given\), is 3"):
        UnfinishedTable(file, {**PLAN, "seeds": 3}, PARTS)
    with UnfinishedTable(file, PLAN, PARTS) as table:  # what refused it neither kept the lock nor the folder's parts
        assert table.finished == {PARTS[0]}


def test_a_plan_of_which_nothing_is_finished_may_change(tmp_path: Path) -> None:
    UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS).close()
    with UnfinishedTable(tmp_path / "zoo.csv", {"family": "other"}, ["one"]) as table:
        assert table.finished == frozenset()
    status = unfinished_status(tmp_path / "zoo.csv")
    assert status is not None
    assert (status.plan, status.parts) == ({"family": "other"}, ("one",))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "zoo.csv.partial"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"is no unfinished table of this version: it holds thesis.tex"):
        UnfinishedTable(tmp_path / "zoo.csv", PLAN, PARTS)
    (folder / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan.json is no plan of an unfinished table"):
        unfinished_status(tmp_path / "zoo.csv")
    assert (folder / "thesis.tex").exists()


def test_the_second_builder_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    file = tmp_path / "zoo.csv"
    with UnfinishedTable(file, PLAN, PARTS) as table:
        with pytest.raises(InputError, match=f"zoo.csv is being built by process {os.getpid()} on host .*started"):
            UnfinishedTable(file, PLAN, PARTS)
        fill(table, PARTS[0])  # the first one does not notice
    with UnfinishedTable(file, PLAN, PARTS) as table:
        assert table.finished == {PARTS[0]}


def test_status_tells_parts_and_writer_and_needs_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "zoo.csv"
    assert unfinished_status(file) is None
    with UnfinishedTable(file, PLAN, PARTS) as table:
        fill(table, PARTS[1])
        status = unfinished_status(file)
        assert status is not None
        assert (status.plan, status.parts, list(status.finished)) == (PLAN, tuple(PARTS), [PARTS[1]])
        assert status.finished[PARTS[1]]["seconds"] == 1.5
        assert status.writer is not None
        assert f"process {os.getpid()} " in status.writer
    after = unfinished_status(file)
    assert after is not None
    assert after.writer is None
    assert after.started_at == status.started_at


def test_a_look_at_the_status_turns_no_builder_away(tmp_path: Path) -> None:
    import fcntl
    import threading

    file = tmp_path / "zoo.csv"
    UnfinishedTable(file, PLAN, PARTS).close()
    # a slow look: the shared lock is held for a while, longer than any look takes
    descriptor = os.open(tmp_path / "zoo.csv.partial" / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.2, os.close, [descriptor]).start()
    with UnfinishedTable(file, PLAN, PARTS) as table:
        assert table.finished == frozenset()


WRITER = """
    import os, sys
    import pandas as pd
    from pathlib import Path
    from mdtree.unfinished_table import UnfinishedTable
    table, log = Path(sys.argv[1]), Path(sys.argv[2])
    names = [f"part/{i}" for i in range(int(sys.argv[3]))]
    frame = lambda i: pd.DataFrame({"cell": [names[i]] * 50, "width": range(50), "cka": [i / 7] * 50})
    print("ready", flush=True)
    for _ in sys.stdin:  # one line, one life: a child that is killed at some moment, so that pandas is imported once
        child = os.fork()
        if not child:
            with UnfinishedTable(table, {"a": 1}, names) as unfinished:
                for i, name in enumerate(names):
                    if name not in unfinished.finished:
                        unfinished.add(name, frame(i), ["cell", "width", "cka"], {"i": i})
                        with open(log, "a") as handle:
                            handle.write(name + "\\n")
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
"""


def test_sigkill_at_any_moment_leaves_every_part_whole_or_absent(tmp_path: Path) -> None:
    file, log, parts, kills = tmp_path / "zoo.csv", tmp_path / "log", 120, 20
    moments = np.random.default_rng(0).uniform(0.0, 0.06, size=kills)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(file), str(log), str(parts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        before: set[str] = set()
        for moment in (*moments, None):
            writer.stdin.write("live\n")
            writer.stdin.flush()
            child = int(writer.stdout.readline())
            if moment is not None:
                time.sleep(moment)
                with contextlib.suppress(ProcessLookupError):  # it was done already
                    os.kill(child, signal.SIGKILL)
            assert writer.stdout.readline() == "ended\n"
            status = unfinished_status(file)
            if status is not None:
                assert status.writer is None  # the lock died with its holder
                assert before <= set(status.finished)
                before = set(status.finished)
        writer.stdin.close()
    with UnfinishedTable(file, {"a": 1}, [f"part/{i}" for i in range(parts)]) as table:
        assert len(table.finished) == parts
        whole = table.rows()
        assert not list((table.folder / "parts").glob(".*"))  # temporary files of killed writers are swept
    assert len(whole) == 50 * parts
    assert whole.groupby("cell", sort=False)["cka"].nunique().eq(1).all()
    written = log.read_text().split()
    # a part that was put on disk is never made again; at most its line in the log was lost
    assert len(written) == len(set(written))
    assert len(written) >= parts - kills


@pytest.mark.parametrize("limit", [10_000, 200])
def test_a_full_disk_stops_cleanly_and_keeps_what_is_finished(tmp_path: Path, limit: int) -> None:
    program = f"""
        import resource, sys
        from pathlib import Path
        import pandas as pd
        from mdtree.errors import ResourceError
        from mdtree.unfinished_table import UnfinishedTable
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            with UnfinishedTable(Path(sys.argv[1]), {{"a": 1}}, ["small", "large"]) as table:
                table.add("small", pd.DataFrame({{"cell": ["a"]}}), ["cell"], {{}})
                table.add("large", pd.DataFrame({{"cell": ["a" * 90] * 900}}), ["cell"], {{}})
        except ResourceError as error:
            print(error)
            sys.exit(error.exit_code)
    """
    file = tmp_path / "zoo.csv"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert f"no space left to write part large of {file}" in done.stdout
    assert f"the 1 finished parts in {file}.partial are safe: free some space, then run" in done.stdout
    with UnfinishedTable(file, {"a": 1}, ["small", "large"]) as table:
        assert table.finished == {"small"}
        assert len(list((table.folder / "parts").iterdir())) == 1
        table.add("large", pd.DataFrame({"cell": ["b"]}), ["cell"], {})
        assert table.rows()["cell"].tolist() == ["a", "b"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # a file where a folder should be: refused to every user, root too
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/zoo.csv.partial cannot be written \(not a directory\)"):
        UnfinishedTable(tmp_path / "file" / "zoo.csv", PLAN, PARTS)
    with pytest.raises(InputError, match=r"/proc/zoo.csv.partial cannot be written"):
        UnfinishedTable(Path("/proc/zoo.csv"), PLAN, PARTS)


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from mdtree.errors import InputError
        from mdtree.unfinished_table import UnfinishedTable
        if os.getuid() == 0:
            os.setuid(65534)  # root may write everywhere
        try:
            UnfinishedTable(Path(sys.argv[1]), {}, [])
        except InputError as error:
            print(error)
    """
    folder = Path("/") if os.getuid() == 0 else tmp_path / "closed"
    if os.getuid() != 0:
        folder.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder / "zoo.csv")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{folder / 'zoo.csv.partial'} cannot be written (permission denied)" in done.stdout, done.stderr
