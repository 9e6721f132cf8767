"""Which jobs the store lets in: once for each key, and within quotas; each test on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from service_rows import DAY, LIMITS, START, answer, at, claimed, finished, job, stored_upload

from mdtree.service.jobs import JobRequest
from mdtree.service.settings import Limits
from mdtree.service.storage.idempotency import IdempotencyKey
from mdtree.service.storage.store import Store
from mdtree.service.storage.store_errors import KeyReused, QueueFull, QuotaExceeded

KEY = IdempotencyKey("once", "digest")


class TestIdempotency:
    def test_the_same_request_is_let_in_once(self, store: Store) -> None:
        request = JobRequest(stored_upload(store))
        first, new = store.add_job(job(request), LIMITS, KEY, now=START)
        again, new_again = store.add_job(job(request), LIMITS, KEY, now=at(1))
        assert (new, new_again) == (True, False)
        assert again == first
        assert len(store.jobs("alice")) == 1

    def test_a_repetition_is_answered_even_when_nothing_more_is_let_in(self, store: Store) -> None:
        request = JobRequest(stored_upload(store))
        limits = Limits(waiting_jobs=1, kept_jobs_per_owner=1)
        first, _ = store.add_job(job(request), limits, KEY)
        assert store.finish(claimed(store), answer(), DAY)
        assert request.checkpoint in {one.id for one in store.files("alice")}
        store.delete_file("alice", request.checkpoint)
        assert store.add_job(job(request), limits, KEY) == (store.job("alice", first.id), False)

    def test_another_request_with_the_same_key_is_refused(self, store: Store) -> None:
        store.add_answer(job(), answer(), LIMITS, KEY)
        with pytest.raises(KeyReused, match="the idempotency key 'once' came with another request before"):
            store.add_answer(job(), answer(), LIMITS, replace(KEY, fingerprint="another"))
        assert len(store.jobs("alice")) == 1

    def test_keys_of_other_owners_are_other_keys(self, store: Store) -> None:
        assert store.add_answer(job(), answer(), LIMITS, KEY)[1]
        assert store.add_answer(job(owner="bob"), answer(), LIMITS, replace(KEY, fingerprint="another"))[1]

    def test_a_key_is_forgotten_after_a_day_or_with_its_job(self, store: Store) -> None:
        first, _ = store.add_answer(job(), answer(), LIMITS, KEY, now=START)
        assert store.add_answer(job(), answer(), LIMITS, KEY, now=START + DAY - timedelta(seconds=1)) == (first, False)
        second, new = store.add_answer(job(), answer(), LIMITS, KEY, now=START + DAY)
        assert new
        assert store.delete_job("alice", second.id)
        assert store.add_answer(job(), answer(), LIMITS, KEY, now=START + DAY)[1]


class TestQuotas:
    def test_an_owner_may_let_so_many_wait(self, store: Store) -> None:
        limits = Limits(waiting_jobs_per_owner=2)
        request, of_bob = JobRequest(stored_upload(store)), JobRequest(stored_upload(store, "bob"))
        for minutes in (0, 1):
            store.add_job(job(request, minutes=minutes), limits)
        with pytest.raises(QueueFull, match="2 of your jobs wait already; expected fewer than 2"):
            store.add_job(job(request), limits)
        store.add_job(job(of_bob, owner="bob", minutes=2), limits)
        claimed(store)  # of the first: it waits no more
        assert store.add_job(job(request), limits)[1]

    def test_so_many_may_wait_of_all(self, store: Store) -> None:
        limits = Limits(waiting_jobs=2)
        for owner in ("alice", "bob"):
            store.add_job(job(JobRequest(stored_upload(store, owner)), owner=owner), limits)
        with pytest.raises(QueueFull, match="2 jobs wait already; expected fewer than 2; send it again later"):
            store.add_job(job(JobRequest(stored_upload(store, "carol")), owner="carol"), limits)

    def test_an_owner_may_keep_so_many_ended_jobs(self, store: Store) -> None:
        limits = Limits(kept_jobs_per_owner=2)
        done = finished(store)
        store.add_answer(job(), answer(), limits)
        message = "2 of your ended jobs are kept; expected fewer than 2; delete some of them"
        with pytest.raises(QuotaExceeded, match=message):
            store.add_answer(job(), answer(), limits)
        with pytest.raises(QuotaExceeded, match=message):
            store.add_job(job(JobRequest(stored_upload(store))), limits)
        store.add_answer(job(owner="bob"), answer(), limits)
        store.delete_job("alice", done.id)
        assert store.add_answer(job(), answer(), limits)[1]
