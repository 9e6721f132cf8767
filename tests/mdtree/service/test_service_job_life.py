"""Jobs in any order of events: sent, taken, cancelled, crashed, given back, interrupted, deleted, expired."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from service_rows import DAY, LIMITS, START, answer, job, stored_upload

from mdtree.service.jobs import ENDS, Blame, Claim, Failure, JobRequest, Outcome, Progress, State
from mdtree.service.storage.store import Standing, Store
from mdtree.service.storage.store_errors import RunningJob

WORKERS = ("worker-0", "worker-1", "worker-2")
FAILURE = Failure(Blame.INPUT, "not a checkpoint")


@dataclass
class Expected:
    """What a job ought to be."""

    state: State = State.QUEUED
    crashes: int = 0
    interruptions: int = 0
    token: str = ""
    worker: str = ""
    cancel_asked: bool = False
    diagnosis: str | None = None
    ends: list[State] = field(default_factory=list)

    def end(self, state: State) -> None:
        self.state = state
        self.ends.append(state)
        self.token = ""

    def set_back(self, fails: bool) -> None:
        if self.cancel_asked:
            self.end(State.CANCELLED)
        elif fails:
            self.end(State.FAILED)
        else:
            self.state, self.token = State.QUEUED, ""


class JobLife(RuleBasedStateMachine):
    """A store beside a dictionary that says what it ought to hold."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'service.sqlite'}")
        self.file = stored_upload(self.store)
        self.expected: dict[str, Expected] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def held(self, claim: Claim) -> Expected | None:
        """The job if the claim still holds it."""
        found = self.expected.get(claim.job.id)
        return found if found and found.token == claim.token else None

    @rule(target=jobs)
    def send(self) -> str:
        sent, _ = self.store.add_job(job(JobRequest(self.file), minutes=len(self.expected)), LIMITS)
        self.expected[sent.id] = Expected()
        return sent.id

    @rule(target=claims, worker=st.sampled_from(WORKERS))
    def take(self, worker: str) -> Claim | None:
        waits = {id: one for id, one in self.expected.items() if one.state is State.QUEUED}
        claim = self.store.claim(worker)
        assert (claim is None) == (not waits)
        if claim is not None:
            one = waits[claim.job.id]
            assert one.crashes + one.interruptions == min(two.crashes + two.interruptions for two in waits.values())
            one.state, one.token, one.worker, one.cancel_asked = State.RUNNING, claim.token, worker, False
        return claim

    @rule(claim=claims)
    def report(self, claim: Claim | None) -> None:
        if claim is None:
            return
        one = self.held(claim)
        standing = Standing.LOST if one is None else Standing.CANCEL if one.cancel_asked else Standing.GO_ON
        assert self.store.progress(claim, Progress("measuring")) is standing

    @rule(claim=claims, outcome=st.sampled_from(["answer", "failure", "cancelled"]))
    def finish(self, claim: Claim | None, outcome: str) -> None:
        if claim is None:
            return
        one = self.held(claim)
        told: Outcome | None = {"answer": answer(claim.token), "failure": FAILURE, "cancelled": None}[outcome]
        assert self.store.finish(claim, told, DAY, now=START) is (one is not None)
        if one is not None:
            ends = {"answer": State.DONE, "failure": State.FAILED, "cancelled": State.CANCELLED}
            one.diagnosis = answer(claim.token).diagnosis if outcome == "answer" else None
            one.end(ends[outcome])

    @rule(claim=claims)
    def crash(self, claim: Claim | None) -> None:
        if claim is None:
            return
        one = self.held(claim)
        self.store.crashed(claim, DAY, now=START)
        if one is not None:
            one.crashes += 1
            one.set_back(fails=one.crashes == 2)

    @rule(claim=claims)
    def give_back(self, claim: Claim | None) -> None:
        if claim is None:
            return
        one = self.held(claim)
        self.store.give_back(claim, retention=DAY, now=START)
        if one is not None:
            one.set_back(fails=False)

    @rule(workers=st.none() | st.sets(st.sampled_from(WORKERS)))
    def interrupt(self, workers: set[str] | None) -> None:
        hit = {
            id: one
            for id, one in self.expected.items()
            if one.state is State.RUNNING and (workers is None or one.worker in workers)
        }
        assert set(self.store.interrupted(workers, DAY, now=START)) == set(hit)
        for one in hit.values():
            one.interruptions += 1
            one.set_back(fails=one.interruptions == 20)

    @rule(id=jobs)
    def cancel(self, id: str) -> None:
        one = self.expected.get(id)
        assert (self.store.cancel("alice", id, retention=DAY, now=START) is None) == (one is None)
        if one is not None and one.state is State.QUEUED:
            one.end(State.CANCELLED)
        elif one is not None and one.state is State.RUNNING:
            one.cancel_asked = True

    @rule(id=consumes(jobs))
    def delete(self, id: str) -> None:
        one = self.expected.get(id)
        if one is not None and one.state is State.RUNNING:
            try:
                self.store.delete_job("alice", id)
            except RunningJob:
                return
            raise AssertionError("a running job was deleted")
        assert self.store.delete_job("alice", id) is (one is not None)
        self.expected.pop(id, None)

    @rule(days=st.sampled_from([timedelta(hours=23), DAY]))
    def expire(self, days: timedelta) -> None:
        gone = {id for id, one in self.expected.items() if one.state in ENDS and days >= DAY}
        assert set(self.store.expire(START + days)) == gone
        for id in gone:
            del self.expected[id]

    @invariant()
    def store_holds_what_it_ought_to(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {one.id: one for one in self.store.jobs("alice", limit=1000)}
        assert {id: (one.state, one.crashes, one.interruptions) for id, one in found.items()} == {
            id: (one.state, one.crashes, one.interruptions) for id, one in self.expected.items()
        }
        for id, one in self.expected.items():
            assert len(one.ends) == (one.state in ENDS)  # one end, and it stays
            assert self.store.diagnosis("alice", id) == one.diagnosis
            assert (found[id].expires_at is not None) == (one.state in ENDS)
            assert (found[id].failure is not None) == (one.state is State.FAILED)
        positions = sorted(one.position for one in found.values() if one.position is not None)
        assert positions == list(range(len(positions)))


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
