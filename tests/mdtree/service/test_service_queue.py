"""The life of a job between the queue and the workers; each test on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from service_rows import DAY, START, answer, at, claimed, waiting

from mdtree.service.jobs import Blame, Failure, Job, Progress, State
from mdtree.service.storage.store import Standing, Store

READING = Progress("reading", "run7.pt", 0.25)


def now(store: Store, job: Job) -> Job:
    """The job as it stands now."""
    found = store.job(job.owner, job.id)
    assert found is not None
    return found


def order(store: Store) -> list[str]:
    """The names of the jobs in the order in which they are taken, each ended before the next is taken."""
    names = []
    while claim := store.claim("worker-9"):
        names.append(claim.job.name)
        store.finish(claim, answer(), DAY)
    return names


class TestClaims:
    def test_give_a_job_to_one_worker(self, store: Store) -> None:
        sent = waiting(store)
        claim = store.claim("worker-0", now=at(3))
        assert claim is not None
        assert (claim.job.id, claim.job.state, claim.job.started_at) == (sent.id, State.RUNNING, at(3))
        assert claim.job == now(store, sent)
        assert store.claim("worker-1") is None

    def test_take_the_oldest_first(self, store: Store) -> None:
        for minutes in (3, 1, 2):
            waiting(store, name=f"{minutes}", minutes=minutes)
        assert order(store) == ["1", "2", "3"]

    def test_take_the_owner_first_of_whom_fewer_jobs_run(self, store: Store) -> None:
        for minutes in range(4):
            waiting(store, name=f"alice {minutes}", minutes=minutes)
        for minutes in range(2):
            waiting(store, owner="bob", name=f"bob {minutes}", minutes=10 + minutes)
        names = [claimed(store).job.name for _ in range(6)]
        assert names == ["alice 0", "bob 0", "alice 1", "bob 1", "alice 2", "alice 3"]

    def test_take_turns_between_owners_where_there_is_one_worker(self, store: Store) -> None:
        for minutes in range(3):
            waiting(store, name=f"alice {minutes}", minutes=minutes)
        waiting(store, owner="bob", name="bob", minutes=10)
        names = []
        for minutes in range(20, 24):
            claim = store.claim("worker-0", now=at(minutes))
            assert claim is not None
            store.finish(claim, answer(), DAY, now=at(minutes))
            names.append(claim.job.name)
        assert names == ["alice 0", "bob", "alice 1", "alice 2"]

    def test_take_jobs_that_were_never_set_back_first(self, store: Store) -> None:
        waiting(store, name="crashed", minutes=0)
        store.crashed(claimed(store), DAY)
        waiting(store, name="new", minutes=1)
        taken = [claimed(store, "worker-0").job.name]
        store.interrupted(None, DAY)
        taken += [claimed(store, name).job.name for name in ("worker-1", "worker-2")]
        assert taken == ["new", "crashed", "new"]  # as often set back: the older

    def test_a_poisonous_job_keeps_no_other_waiting(self, store: Store) -> None:
        waiting(store, name="poison", minutes=0)
        store.crashed(claimed(store), DAY)
        for minutes in range(1, 4):
            waiting(store, owner="bob", name=f"good {minutes}", minutes=minutes)
        assert order(store) == ["good 1", "good 2", "good 3", "poison"]

    def test_position_counts_those_that_are_taken_before(self, store: Store) -> None:
        for owner, minutes in (("alice", 0), ("alice", 1), ("bob", 2), ("alice", 3)):
            waiting(store, owner=owner, minutes=minutes)
        claimed(store)
        assert [one.position for one in store.jobs("bob")] == [0]
        assert [one.position for one in store.jobs("alice")] == [2, 1, None]


class TestProgress:
    def test_is_seen_by_the_owner_until_the_end(self, store: Store) -> None:
        sent = waiting(store)
        claim = claimed(store)
        assert store.progress(claim, READING) is Standing.GO_ON
        assert now(store, sent).progress == READING
        store.finish(claim, answer(), DAY)
        assert now(store, sent).progress is None

    def test_tells_the_worker_that_its_client_wants_to_cancel(self, store: Store) -> None:
        sent = waiting(store)
        claim = claimed(store)
        asked = store.cancel("alice", sent.id)
        assert asked is not None
        assert asked.state is State.RUNNING
        assert store.progress(claim, READING) is Standing.CANCEL
        assert store.finish(claim, None, DAY, now=at(1))
        ended = now(store, sent)
        assert (ended.state, ended.finished_at, ended.expires_at) == (State.CANCELLED, at(1), at(1) + DAY)

    def test_tells_the_worker_that_the_job_is_no_longer_its_own(self, store: Store) -> None:
        waiting(store)
        claim = claimed(store)
        store.interrupted(None, DAY)
        assert store.progress(claim, READING) is Standing.LOST
        second = claimed(store)
        assert store.progress(claim, READING) is Standing.LOST
        assert now(store, second.job).progress is None


class TestEnds:
    def test_an_answer_is_kept(self, store: Store) -> None:
        sent = waiting(store)
        assert store.finish(claimed(store), answer("model_too_small"), DAY, now=at(5))
        ended = now(store, sent)
        assert (ended.state, ended.finished_at, ended.expires_at) == (State.DONE, at(5), at(5) + DAY)
        assert ended.summary == answer("model_too_small").summary
        assert ended.failure is None
        assert store.diagnosis("alice", sent.id) == answer("model_too_small").diagnosis

    def test_a_failure_is_kept(self, store: Store) -> None:
        sent = waiting(store)
        failure = Failure(Blame.RESOURCES, "reading took longer than 120 seconds")
        assert store.finish(claimed(store), failure, DAY)
        ended = now(store, sent)
        assert (ended.state, ended.failure, ended.summary) == (State.FAILED, failure, None)
        assert store.diagnosis("alice", sent.id) is None

    def test_an_answer_counts_although_its_client_wanted_to_cancel(self, store: Store) -> None:
        sent = waiting(store)
        claim = claimed(store)
        store.cancel("alice", sent.id)
        assert store.finish(claim, answer(), DAY)
        assert now(store, sent).state is State.DONE

    @pytest.mark.parametrize("outcome", [answer(), Failure(Blame.INPUT, "no"), None], ids=["done", "failed", "none"])
    def test_come_once(self, store: Store, outcome: object) -> None:
        sent = waiting(store)
        claim = claimed(store)
        assert store.finish(claim, answer("healthy"), DAY)
        ended = now(store, sent)
        assert not store.finish(claim, outcome, DAY)  # type: ignore[arg-type]
        assert store.cancel("alice", sent.id) == ended
        assert store.crashed(claim, DAY) == ended
        store.give_back(claim)
        assert store.interrupted(None, DAY) == []
        assert now(store, sent) == ended

    @pytest.mark.parametrize("outcome", [answer("stale"), Failure(Blame.INPUT, "no"), None])
    def test_a_stale_claim_changes_nothing(self, store: Store, outcome: object) -> None:
        sent = waiting(store)
        stale = claimed(store, "worker-0")
        store.interrupted(["worker-0"], DAY)
        fresh = claimed(store, "worker-0")  # the same name even: what counts is the token
        before = now(store, sent)
        assert not store.finish(stale, outcome, DAY)  # type: ignore[arg-type]
        assert store.crashed(stale, DAY) == before
        store.give_back(stale)
        assert now(store, sent) == before
        assert store.diagnosis("alice", sent.id) is None
        assert store.finish(fresh, answer("fresh"), DAY)
        assert store.diagnosis("alice", sent.id) == answer("fresh").diagnosis

    def test_a_claim_of_a_job_that_is_gone_changes_nothing(self, store: Store) -> None:
        waiting(store)
        claim = claimed(store)
        store.interrupted(None, DAY)
        store.delete_job("alice", claim.job.id)
        assert not store.finish(claim, answer(), DAY)
        assert store.crashed(claim, DAY) == claim.job
        assert store.jobs("alice") == []


class TestCrashes:
    def test_the_first_lets_a_job_wait_again(self, store: Store) -> None:
        waiting(store)
        claim = claimed(store)
        store.progress(claim, READING)
        again = store.crashed(claim, DAY)
        assert (again.state, again.crashes, again.started_at, again.progress) == (State.QUEUED, 1, None, None)

    def test_the_second_fails_it(self, store: Store) -> None:
        sent = waiting(store)
        store.crashed(claimed(store), DAY)
        failed = store.crashed(claimed(store), DAY, now=at(9))
        assert (failed.state, failed.crashes, failed.expires_at) == (State.FAILED, 2, at(9) + DAY)
        assert failed.failure is not None
        assert failed.failure.blame is Blame.CRASHED
        assert "died twice" in failed.failure.message
        assert store.claim("worker-0") is None
        assert now(store, sent) == failed

    def test_a_job_whose_client_wants_to_cancel_is_cancelled(self, store: Store) -> None:
        sent = waiting(store)
        claim = claimed(store)
        store.cancel("alice", sent.id)
        assert store.crashed(claim, DAY).state is State.CANCELLED


class TestInterruptions:
    def test_let_the_jobs_of_these_workers_wait_again(self, store: Store) -> None:
        sent = [waiting(store, minutes=minutes) for minutes in range(3)]
        claims = [claimed(store, f"worker-{number}") for number in range(3)]
        assert store.interrupted([], DAY) == []
        assert set(store.interrupted(["worker-0", "worker-2", "worker-7"], DAY)) == {sent[0].id, sent[2].id}
        assert [now(store, one).state for one in sent] == [State.QUEUED, State.RUNNING, State.QUEUED]
        assert [now(store, one).interruptions for one in sent] == [1, 0, 1]
        assert store.finish(claims[1], answer(), DAY)
        assert store.interrupted(None, DAY) == []

    def test_the_twentieth_fails_a_job(self, store: Store) -> None:
        sent = waiting(store)
        for _ in range(19):
            claimed(store)
            assert store.interrupted(None, DAY) == [sent.id]
        assert (now(store, sent).state, now(store, sent).interruptions) == (State.QUEUED, 19)
        claimed(store)
        assert store.interrupted(None, DAY) == [sent.id]
        failed = now(store, sent)
        assert (failed.state, failed.interruptions, failed.crashes) == (State.FAILED, 20, 0)
        assert failed.failure is not None
        assert failed.failure.blame is Blame.CRASHED
        assert "interrupted 20 times" in failed.failure.message

    def test_cancel_a_job_whose_client_wants_it(self, store: Store) -> None:
        sent = waiting(store)
        claimed(store)
        store.cancel("alice", sent.id)
        assert store.interrupted(None, DAY, now=START) == [sent.id]
        assert (now(store, sent).state, now(store, sent).expires_at) == (State.CANCELLED, START + DAY)

    def test_a_job_that_is_given_back_has_no_fault(self, store: Store) -> None:
        sent = waiting(store)
        store.give_back(claimed(store))
        assert now(store, sent) == sent
        claim = claimed(store)
        store.cancel("alice", sent.id)
        store.give_back(claim)
        assert now(store, sent).state is State.CANCELLED


class TestCancellation:
    def test_of_a_waiting_job_is_its_end(self, store: Store) -> None:
        sent = waiting(store)
        cancelled = store.cancel("alice", sent.id, retention=DAY, now=at(1))
        assert cancelled == now(store, sent)
        assert (cancelled.state, cancelled.finished_at, cancelled.expires_at) == (State.CANCELLED, at(1), at(1) + DAY)
        assert store.claim("worker-0") is None

    def test_of_a_job_that_is_not_there(self, store: Store) -> None:
        assert store.cancel("alice", "0" * 32) is None

    def test_lasts_for_one_run(self, store: Store) -> None:
        """What was asked of one job is not asked of the next one that its worker takes."""
        first = waiting(store, minutes=0)
        waiting(store, minutes=1)
        claim = claimed(store)
        store.cancel("alice", first.id)
        store.finish(claim, None, DAY)
        assert store.progress(claimed(store), READING) is Standing.GO_ON
