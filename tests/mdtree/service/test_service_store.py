"""What the store keeps for its owners: uploads, jobs, answers; each test on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import pytest
from service_rows import DAY, LIMITS, START, answer, at, claimed, finished, job, stored_upload, upload, waiting

from mdtree.service.jobs import Blame, DataRequest, Failure, Job, JobRequest, Kind, Progress, State
from mdtree.service.settings import Limits
from mdtree.service.storage.admission import RETENTION
from mdtree.service.storage.idempotency import IdempotencyKey
from mdtree.service.storage.store import Store
from mdtree.service.storage.store_errors import (
    FileInUse,
    QuotaExceeded,
    RunningJob,
    UnknownFile,
    UnknownJob,
)

KEY = IdempotencyKey("once", "digest")


class TestUploads:
    def test_are_kept_for_their_owner_newest_first(self, store: Store) -> None:
        first, second = upload(name="a.pt", created_at=at(0)), upload(name="b.pt", created_at=at(1))
        of_bob = upload("bob")
        for one in (second, first, of_bob):
            store.add_file(one, LIMITS)
        assert store.files("alice") == [second, first]
        assert store.file("alice", first.id) == first
        assert store.file("bob", first.id) is None
        assert store.stored_bytes() == 3000

    def test_may_be_larger_than_32_bits_count(self, store: Store) -> None:
        large = upload(size=2**40)
        store.add_file(large, Limits(stored_bytes_per_owner=2**41))
        assert store.file("alice", large.id) == large

    def test_have_a_quota_for_each_owner(self, store: Store) -> None:
        limits = Limits(stored_bytes_per_owner=2500)
        store.add_file(upload(size=1500), limits)
        store.add_file(upload(size=1000), limits)
        with pytest.raises(QuotaExceeded, match=r"run7\.pt has 1 bytes, beside 2500 bytes of earlier uploads"):
            store.add_file(upload(size=1), limits)
        store.add_file(upload("bob", size=2500), limits)
        assert store.stored_bytes() == 5000
        assert store.stored_bytes("alice") == 2500

    def test_are_deleted_by_their_owner_alone(self, store: Store) -> None:
        id = stored_upload(store)
        assert not store.delete_file("bob", id)
        assert store.delete_file("alice", id)
        assert not store.delete_file("alice", id)
        assert store.files("alice") == []

    @pytest.mark.parametrize("role", ["checkpoint", "siblings", "init", "data"])
    def test_stay_while_a_job_needs_them_whatever_for(self, store: Store, role: str) -> None:
        id, other = stored_upload(store), stored_upload(store)
        asked = {
            "checkpoint": JobRequest(id),
            "siblings": JobRequest(other, siblings=(other, id)),
            "init": JobRequest(other, init=id),
            "data": JobRequest(other, data=DataRequest(file=id)),
        }
        store.add_job(job(asked[role]), LIMITS)
        with pytest.raises(FileInUse, match=r"a job that has not ended uses run7\.pt; cancel the job, or wait"):
            store.delete_file("alice", id)
        claim = claimed(store)
        with pytest.raises(FileInUse):
            store.delete_file("alice", id)
        assert store.finish(claim, answer(), DAY)
        assert store.delete_file("alice", id)

    def test_are_unused_when_old_and_named_by_no_job_that_has_not_ended(self, store: Store) -> None:
        needed = waiting(store)
        ended = finished_upload(store)
        young = upload(created_at=at(60))
        store.add_file(young, LIMITS)
        assert [one.id for one in store.unused_files(at(60))] == [ended]
        assert {one.id for one in store.unused_files(at(61))} == {ended, young.id}
        assert needed.request
        # a job may have come between the look and the deed
        assert store.drop_files([ended, needed.request.checkpoint, "0" * 32]) == [ended]
        assert {one.id for one in store.files("alice")} == {young.id, needed.request.checkpoint}


def finished_upload(store: Store) -> str:
    """An upload whose only job has ended; the job in the queue stays there."""
    id = stored_upload(store)
    ended, _ = store.add_job(job(JobRequest(id), minutes=5), LIMITS)
    store.cancel("alice", ended.id)
    return id


class TestJobs:
    def test_come_back_as_they_were_sent(self, store: Store) -> None:
        ids = [stored_upload(store) for _ in range(4)]
        request = JobRequest(
            ids[0],
            siblings=(ids[1], ids[0]),
            init=ids[2],
            data=DataRequest(file=ids[3], options=MappingProxyType({"inputs": "x & y", "größe": "1"})),
            architecture="resnet18?width=8",
            weights="ema",
            data_checked=True,
            precision=0.05,
        )
        sent = job(request, name="<b>läuft</b>.pt")
        kept, new = store.add_job(sent, LIMITS)
        assert new
        assert kept == store.job("alice", sent.id) == replace(sent, position=0)
        named = replace(request, data=DataRequest(name="cifar10"))
        assert store.add_job(job(named), LIMITS)[0].request == named
        assert store.add_job(job(JobRequest(ids[0])), LIMITS)[0].request == JobRequest(ids[0])

    def test_times_are_utc_to_the_microsecond(self, store: Store) -> None:
        here = datetime(2026, 3, 1, 1, 30, 0, 123457, tzinfo=timezone(timedelta(hours=5)))
        kept, _ = store.add_job(replace(job(JobRequest(stored_upload(store))), created_at=here), LIMITS)
        assert kept.created_at == here
        assert kept.created_at.tzinfo is UTC

    def test_belong_to_their_owner(self, store: Store) -> None:
        ended = finished(store)
        assert store.job("bob", ended.id) is None
        assert store.diagnosis("bob", ended.id) is None
        assert store.cancel("bob", ended.id) is None
        assert not store.delete_job("bob", ended.id)
        assert store.jobs("bob") == []
        assert store.job("alice", ended.id) == ended

    def test_name_files_of_their_owner(self, store: Store) -> None:
        own, of_bob = stored_upload(store), stored_upload(store, "bob")
        with pytest.raises(UnknownFile, match=f"there is no file {of_bob}; expected the id of an uploaded file"):
            store.add_job(job(JobRequest(own, siblings=(of_bob,))), LIMITS)
        assert store.jobs("alice") == []

    def test_know_how_many_are_before_them(self, store: Store) -> None:
        ids = [waiting(store, minutes=minutes).id for minutes in range(3)]
        assert [one.position for one in store.jobs("alice")] == [2, 1, 0]
        claimed(store)
        assert [store.job("alice", id).position for id in ids] == [None, 0, 1]  # type: ignore[union-attr]

    def test_are_deleted_with_their_answer(self, store: Store) -> None:
        ended = finished(store)
        assert store.diagnosis("alice", ended.id) == '{"verdict": "healthy"}'
        assert store.delete_job("alice", ended.id)
        assert store.job("alice", ended.id) is None
        assert store.diagnosis("alice", ended.id) is None
        assert not store.delete_job("alice", ended.id)

    def test_are_cancelled_by_deletion_while_they_wait_but_not_while_they_run(self, store: Store) -> None:
        running, waits = waiting(store, minutes=0), waiting(store, minutes=1)
        claimed(store)
        assert store.delete_job("alice", waits.id)
        assert store.claim("worker-1") is None
        with pytest.raises(RunningJob, match="the job is running; expected one that has ended; cancel it first"):
            store.delete_job("alice", running.id)

    def test_any_words_can_be_stored(self, store: Store) -> None:
        """Words of clients and of libraries may hold what a database does not take."""
        waiting(store)
        claim = claimed(store)
        store.progress(claim, Progress("reading", "a\x00b\ud800c"))
        assert store.finish(claim, Failure(Blame.INPUT, "no\x00 \ud800'; DROP TABLE mdtree_jobs; --"), DAY)
        (ended,) = store.jobs("alice")
        assert ended.failure == Failure(Blame.INPUT, "no\N{REPLACEMENT CHARACTER} ?'; DROP TABLE mdtree_jobs; --")
        assert store.jobs("alice", name="\x00", verdicts=["\x00"]) == []
        assert store.job("\x00", "\x00") is None


class TestLists:
    def test_are_filtered(self, store: Store) -> None:
        sharp = finished(store, name="Run_7%.pt", verdict="temperature_too_low")
        good = finished(store, name="run8.pt")
        record, _ = store.add_answer(job(name="record"), answer("healthy"), LIMITS)
        waits = waiting(store, name="other.pt")

        def ids(**filters: object) -> set[str]:
            return {one.id for one in store.jobs("alice", **filters)}  # type: ignore[arg-type]

        assert ids() == {sharp.id, good.id, record.id, waits.id}
        assert ids(states=[State.DONE]) == {sharp.id, good.id, record.id}
        assert ids(states=[State.QUEUED, State.RUNNING]) == {waits.id}
        assert ids(verdicts=["healthy"]) == {good.id, record.id}
        assert ids(verdicts=["healthy", "temperature_too_low"], kind=Kind.CHECKPOINT) == {sharp.id, good.id}
        assert ids(name="RUN") == {sharp.id, good.id}
        assert ids(name="run_") == {sharp.id}  # an underscore and a percent sign stand for themselves
        assert ids(name="%") == {sharp.id}

    def test_pages_hold_each_job_once_while_others_arrive(self, store: Store) -> None:
        arrivals = itertools.count(100)
        # three at each time: what is older is decided by the id then
        before = {waiting(store, minutes=number // 3).id for number in range(20)}
        seen: list[Job] = []
        while page := store.jobs("alice", limit=7, before=seen[-1].id if seen else None):
            seen += page
            waiting(store, minutes=next(arrivals))
        assert len(seen) == 20
        assert {one.id for one in seen} == before
        assert [one.created_at for one in seen] == sorted((one.created_at for one in seen), reverse=True)

    def test_no_page_follows_a_job_that_is_not_there(self, store: Store) -> None:
        of_bob = waiting(store, owner="bob")
        with pytest.raises(UnknownJob, match=f"there is no job {of_bob.id} to go on after"):
            store.jobs("alice", before=of_bob.id)


class TestRecords:
    def test_are_kept_with_their_answer(self, store: Store) -> None:
        sent = job(name="record.json")
        kept, new = store.add_answer(sent, answer("too_little_data"), LIMITS)
        assert new
        assert (kept.kind, kept.state, kept.request) == (Kind.RECORD, State.DONE, None)
        assert (kept.started_at, kept.finished_at, kept.expires_at) == (START, START, START + RETENTION)
        assert kept.summary == {"verdict": "too_little_data", "metrics": {"train_loss": 0.25}}
        assert store.diagnosis("alice", sent.id) == '{"verdict": "too_little_data"}'
        assert store.claim("worker-0") is None

    def test_keep_the_times_they_bring(self, store: Store) -> None:
        sent = replace(job(), started_at=at(1), finished_at=at(2), expires_at=at(3))
        kept, _ = store.add_answer(sent, answer(), LIMITS)
        assert (kept.started_at, kept.finished_at, kept.expires_at) == (at(1), at(2), at(3))


class TestExpiry:
    def test_ended_jobs_go_when_their_time_has_come(self, store: Store) -> None:
        waiting(store, name="measured.pt")
        store.finish(claimed(store), answer(), timedelta(minutes=10), now=START)
        record, _ = store.add_answer(replace(job(), expires_at=at(20)), answer(), LIMITS)
        cancelled = waiting(store)
        store.cancel("alice", cancelled.id, retention=timedelta(minutes=30), now=START)
        waits = waiting(store)
        (measured,) = store.jobs("alice", name="measured")
        assert store.expire(at(9)) == []
        assert store.expire(at(10)) == [measured.id]
        assert store.diagnosis("alice", measured.id) is None
        assert store.expire(at(19)) == []
        assert set(store.expire(at(30))) == {record.id, cancelled.id}
        assert store.expire(START + timedelta(days=10_000)) == []
        assert [one.id for one in store.jobs("alice")] == [waits.id]

    def test_keys_go_after_a_day(self, store: Store) -> None:
        """Seen from outside by a clock that goes back: what is still there would answer."""
        store.add_answer(job(), answer(), LIMITS, KEY, now=START)
        store.expire(START + DAY)
        assert store.add_answer(job(), answer(), LIMITS, KEY, now=START)[1]


def test_counts_of_all_owners(store: Store) -> None:
    assert store.counts() == dict.fromkeys(State, 0)
    finished(store)
    waiting(store, owner="bob")
    waiting(store)
    claimed(store)
    assert store.counts() == {**dict.fromkeys(State, 0), State.DONE: 1, State.QUEUED: 1, State.RUNNING: 1}
