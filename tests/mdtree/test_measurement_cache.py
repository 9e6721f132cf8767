"""The folder of kept measurements: what comes out is what went in, or nothing."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mdtree.errors import InputError
from mdtree.measurement_cache import MEASURED, MeasurementCache, cache_folder
from mdtree.record import Metric, NotMeasured, Record

KEY = "a1" * 32
OTHER = "b2" * 32

RECORD = Record(
    checkpoint={"path": "/home/someone/secret.pt"},
    recipe={"learning_rate": 0.1},
    protocol={"precision": 0.1, "digest": "0123456789ab"},
    execution={"device": "cpu", "threads": 1},
    metrics={"train_loss": Metric(0.1 + 0.2, 1e-300, 7), "hessian_trace": Metric(-1 / 3, 0.0, 512)},
    not_measured=(NotMeasured("cka", "needs a sibling"),),
    series={"curve": {"t": [0.0, 0.5, 1.0], "loss": [1.1, float("inf"), 1.3]}},
    layers=({"name": "output.weight", "shape": [10, 4]},),
    flags=("trace_negative",),
    cost={"seconds": 12.5, "sample_gradients": 100 / 3},
)


@pytest.fixture
def cache(tmp_path):
    return MeasurementCache(tmp_path / "made" / "when needed")


def entry(cache, key=KEY):
    return cache.folder / f"{key}.json"


def test_what_is_kept_comes_back_to_the_bit_without_what_the_files_say(cache):
    assert cache.get(KEY) is None
    assert cache.put(KEY, RECORD)
    cost = {"seconds": 12.5, "sample_gradients": 100 / 3, "cached": True}
    assert cache.get(KEY) == replace(RECORD, checkpoint={}, recipe={}, cost=cost)
    assert b"secret" not in entry(cache).read_bytes()
    assert cache.get(OTHER) is None


def test_every_part_of_a_record_is_kept_or_read_from_the_files():
    parts = set(RECORD.to_dict()) - {"schema_version", "evidence"}  # the evidence follows from the metrics
    assert parts == {*MEASURED, "checkpoint", "recipe"}


@pytest.mark.parametrize("flag", ["budget_spent", "budget_cut_connectivity"])
def test_what_a_time_budget_cut_is_not_kept(cache, flag):
    assert not cache.put(KEY, replace(RECORD, flags=("trace_negative", flag)))
    assert not cache.folder.exists()


def truncated(text):
    return text[: len(text) // 2]


def another_digit(text):
    assert "0.30000000000000004" in text
    return text.replace("0.30000000000000004", "0.30000000000000014")


def another_version(text):
    return json.dumps({**json.loads(text), "version": 2})


def another_schema(text):
    """Consistent in itself, written by a package whose records look otherwise."""
    from mdtree.measurement_cache import _checksum

    values = json.loads(text)
    measured = {**values["measured"], "schema_version": 99}
    return json.dumps({**values, "measured": measured, "sha256": _checksum(measured)})


def another_key(text):
    return text.replace(KEY, OTHER)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        another_digit,
        another_version,
        another_schema,
        another_key,
        lambda _: "",
        lambda _: "[]",
        lambda _: "null",
        lambda _: "{}",
        lambda _: "[" * 100_000,
        lambda _: "\x00\xff",
    ],
)
def test_a_damaged_entry_is_none_and_written_over(cache, damage):
    cache.put(KEY, RECORD)
    entry(cache).write_text(damage(entry(cache).read_text()))
    assert cache.get(KEY) is None
    cache.put(KEY, RECORD)
    assert cache.get(KEY).metrics == RECORD.metrics


def test_a_folder_in_the_place_of_an_entry_is_no_entry_and_no_reason_to_fail_before_writing(cache):
    entry(cache).mkdir(parents=True)
    assert cache.get(KEY) is None
    with pytest.raises(InputError, match="cannot be written"):
        cache.put(KEY, RECORD)


def keys(count):
    return [f"{number:064x}" for number in range(count)]


def test_the_least_recently_used_make_room(cache):
    for key in keys(5):
        cache.put(key, RECORD)
    size = entry(cache, keys(1)[0]).stat().st_size
    for age, key in enumerate(keys(5)):
        os.utime(entry(cache, key), (1_000_000 - age, 1_000_000 - age))  # the last one is the oldest
    assert cache.get(keys(5)[4]) is not None  # and now the most recently used

    tight = MeasurementCache(cache.folder, limit_bytes=3 * size)
    tight.put(KEY, RECORD)

    assert tight.contents().entries == 3
    kept = {key for key in (*keys(5), KEY) if tight.get(key)}
    assert kept == {keys(5)[0], keys(5)[4], KEY}
    assert tight.contents().bytes == 3 * size


def test_what_is_larger_than_the_bound_is_not_kept_and_costs_no_other_its_place(cache):
    cache.put(KEY, RECORD)
    size = entry(cache).stat().st_size
    assert not MeasurementCache(cache.folder, limit_bytes=size - 1).put(OTHER, RECORD)
    assert cache.get(KEY) is not None
    assert MeasurementCache(cache.folder, limit_bytes=size).put(OTHER, RECORD)
    assert cache.get(KEY) is None


def test_abandoned_temporaries_are_swept_and_those_being_written_are_not(cache):
    cache.put(KEY, RECORD)
    old, new = (cache.folder / f".{KEY}.json.{end}.tmp" for end in ("0a", "0b"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.put(OTHER, RECORD)
    assert (old.exists(), new.exists()) == (False, True)


def test_clear_removes_measurements_and_nothing_else(cache):
    for key in keys(3):
        cache.put(key, RECORD)
    (cache.folder / "thesis.json").write_text("{}")
    (cache.folder / f".{KEY}.json.0a.tmp").write_text("half")
    before = cache.contents()
    assert before.entries == 3
    assert before.bytes == sum(entry(cache, key).stat().st_size for key in keys(3))
    assert cache.clear() == before
    assert [file.name for file in cache.folder.iterdir()] == ["thesis.json"]
    assert (cache.clear().entries, cache.contents().bytes) == (0, 0)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    cache = MeasurementCache(tmp_path / "file" / "measurements")
    assert cache.get(KEY) is None
    assert cache.contents().entries == cache.clear().entries == 0
    with pytest.raises(InputError, match=r"cannot be made \(not a directory\).*MDTREE_CACHE"):
        cache.put(KEY, RECORD)


def test_the_folder_is_the_users_own_unless_the_environment_names_another(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "own" / name))
    monkeypatch.delenv("MDTREE_CACHE", raising=False)
    assert cache_folder() == tmp_path / "own" / "mdtree" / "measurements"
    monkeypatch.setenv("MDTREE_CACHE", "")
    assert cache_folder() == tmp_path / "own" / "mdtree" / "measurements"
    monkeypatch.setenv("MDTREE_CACHE", str(tmp_path / "other"))
    assert MeasurementCache().folder == tmp_path / "other" / "measurements"


WRITER = """
import sys
from pathlib import Path
from mdtree.measurement_cache import MeasurementCache
from mdtree.record import Metric, Record

assert "torch" not in sys.modules
records = {
    f"{n:064x}": Record({}, {}, {"n": n}, {}, {"train_loss": Metric(n / 7, 0.0, 1)}, series={"t": list(range(200))})
    for n in range(20)
}
cache = MeasurementCache(Path(sys.argv[1]), limit_bytes=10_000)  # room for a few: one removes what the other reads
print("ready", flush=True)
sys.stdin.readline()
hits = 0
for _ in range(15):
    for key, record in records.items():
        cache.put(key, record)
        found = cache.get(key)
        if found is not None:
            assert found.protocol == record.protocol and found.metrics == record.metrics
            hits += 1
print(hits)
"""


def test_two_processes_may_write_read_and_remove_at_once(tmp_path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert int(out) > 100
    assert MeasurementCache(tmp_path).contents().bytes <= 20_000
    assert not list(tmp_path.glob(".*"))
