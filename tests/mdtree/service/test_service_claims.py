"""Many workers at one queue at the same time: each job is taken once, whoever asks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import service_claimers
from service_rows import DAY, LIMITS, answer, claimed, job, stored_upload, waiting

from mdtree.errors import MDTreeError
from mdtree.service.jobs import Claim, JobRequest, Progress, State
from mdtree.service.settings import Limits
from mdtree.service.storage.idempotency import IdempotencyKey
from mdtree.service.storage.store import Standing, Store
from mdtree.service.storage.store_errors import QueueFull

ROOT = Path(service_claimers.__file__).parents[3]


def test_two_hundred_jobs_are_taken_once_each_by_processes_and_threads(store: Store, database_url: str) -> None:
    """Four processes of two threads, started together; they share a database and nothing else."""
    request = JobRequest(stored_upload(store))
    sent = {
        store.add_job(job(request, minutes=minutes), Limits(waiting_jobs_per_owner=200))[0].id for minutes in range(200)
    }
    command = [sys.executable, service_claimers.__file__, database_url]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen([*command, f"worker-{one}", "2"], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        for one in range(4)
    ]
    for one in workers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in workers:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    lines = [line.split() for one in workers for line in one.communicate(timeout=60)[0].splitlines()]
    assert [one.returncode for one in workers] == [0, 0, 0, 0]
    assert Counter(id for id, _, _ in lines) == Counter(sent)
    assert {ended for _, _, ended in lines} == {"True"}
    assert {id: store.diagnosis("alice", id) for id in sent} == {id: token for id, token, _ in lines}
    assert store.counts()[State.DONE] == 200
    assert len({one.summary["verdict"] for one in store.jobs("alice", limit=200) if one.summary}) > 1


def together(count: int, deed: object) -> list[object]:
    """What this returns, or the error it raises, when so many threads do it at the same time."""
    start = threading.Barrier(count)

    def one(number: int) -> object:
        start.wait()
        try:
            return deed(number)  # type: ignore[operator]
        except MDTreeError as error:
            return type(error)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_no_quota_is_passed_by_many_at_once(store: Store) -> None:
    request = JobRequest(stored_upload(store))
    limits = Limits(waiting_jobs_per_owner=3)
    outcomes = together(8, lambda _: store.add_job(job(request), limits)[1])
    assert Counter(outcomes) == {True: 3, QueueFull: 5}


def test_a_key_lets_in_one_of_many(store: Store) -> None:
    request = JobRequest(stored_upload(store))
    outcomes = together(8, lambda _: store.add_job(job(request), LIMITS, IdempotencyKey("once", "digest"))[1])
    assert Counter(outcomes) == {True: 1, False: 7}
    assert len(store.jobs("alice")) == 1


def test_a_claim_ends_a_job_once(store: Store) -> None:
    waiting(store)
    claim = claimed(store)
    ended = together(8, lambda number: store.finish(claim, answer(f"{number}"), DAY))
    assert Counter(ended) == {True: 1, False: 7}
    assert store.diagnosis("alice", claim.job.id) == answer(f"{ended.index(True)}").diagnosis


def test_a_job_that_is_cancelled_while_it_is_taken_is_cancelled_or_runs_and_knows(store: Store) -> None:
    for _ in range(10):
        sent = waiting(store)
        claim, cancelled = together(
            2, lambda number, id=sent.id: store.cancel("alice", id) if number else store.claim("worker-0")
        )
        if claim is None:
            assert store.job("alice", sent.id).state is State.CANCELLED  # type: ignore[union-attr]
        else:
            assert cancelled.state is State.RUNNING  # type: ignore[attr-defined]
            store.give_back(claim)  # type: ignore[arg-type]
            assert store.job("alice", sent.id).state is State.CANCELLED  # type: ignore[union-attr]


def test_postgresql_takes_another_job_beside_one_that_is_being_taken(postgresql_url: str) -> None:
    with closing(Store(postgresql_url)) as store, psycopg.connect(postgresql_url) as taker:
        first, second = waiting(store, minutes=0), waiting(store, minutes=1)
        taker.execute("SELECT * FROM mdtree_jobs WHERE id = %s FOR UPDATE", [first.id])
        assert claimed(store).job.id == second.id  # without waiting for the other
        assert store.claim("worker-1") is None
        taker.rollback()
        assert claimed(store).job.id == first.id


def test_postgresql_cancels_a_job_as_it_stands_once_it_is_taken(postgresql_url: str) -> None:
    """The cancellation comes while another session is about to take the job: it waits, and then asks the worker."""
    with (
        closing(Store(postgresql_url)) as store,
        psycopg.connect(postgresql_url) as taker,
        ThreadPoolExecutor(1) as thread,
    ):
        sent = waiting(store)
        taker.execute("UPDATE mdtree_jobs SET state = 'running', worker = 'worker-0', token = 'of the taker'")
        cancelled = thread.submit(store.cancel, "alice", sent.id)
        with psycopg.connect(postgresql_url, autocommit=True) as watcher:
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
            until = time.monotonic() + 20
            while watcher.execute(waits).fetchone() == (0,):
                assert time.monotonic() < until
        taker.commit()
        assert cancelled.result().state is State.RUNNING  # type: ignore[union-attr]
        assert store.progress(Claim(sent, "of the taker"), Progress("reading")) is Standing.CANCEL
