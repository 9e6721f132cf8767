"""One round of mixed load: clients that have networks measured, and send records while that goes on."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path

from service_clients import Client, Wish
from service_process import ServiceProcess, proportional, resident
from service_rate import timed_record
from service_samples import (
    ALONE,
    BAD,
    CONVOLUTIONAL,
    PAIRED,
    RECORDS,
    WITH_DATA,
    Expected,
    Sample,
    without_seconds,
)

CLIENTS, MEASURED_EACH, RECORDS_EACH = 20, 3, 7
LONGEST_PAUSE = 5.0
MEASURED = (*PAIRED, *PAIRED, *ALONE, *ALONE, CONVOLUTIONAL, WITH_DATA, *BAD)


@dataclass
class Round:
    """What one round gave.

    Attributes
    ----------
    seconds : float
        Until the last job ended.
    states : dict
        Of all jobs, by their end.
    record_seconds, quiet_seconds : list of float
        Of each record that was sent while some job was measured, and of the others.
    job_seconds : list of float
        From a job's arrival until its end, for jobs that were measured.
    wrong : list of str
        What is not as the command line says.
    server_mib : float
        Resident memory of the server afterwards.
    """

    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    record_seconds: list[float] = field(default_factory=list)
    quiet_seconds: list[float] = field(default_factory=list)
    job_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    server_mib: float = 0.0


@dataclass
class MixedClient:
    """Three jobs at once, then records with pauses between, then what became of the jobs."""

    client: Client
    connection: HTTPConnection
    wishes: list[Wish]
    expected: dict[str, Expected]
    records: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        try:
            for wish in self.wishes:
                self.client.submit(wish)
            for number in range(RECORDS_EACH):
                time.sleep(self.client.random.uniform(0.0, LONGEST_PAUSE))
                self._record(RECORDS[number % len(RECORDS)])
            for wish in self.wishes:
                self.client.follow(wish, interval=1.0)
                self.wrong += wish.defects(self.expected[wish.sample.name])
        except Exception as error:  # in a thread nobody else would hear of it
            self.wrong.append(f"a client ended early: {error!r}")
        self.wrong += self.client.surprises

    def _record(self, sample: Sample) -> None:
        began = time.time()
        answered = timed_record(self.connection, (self.client.samples / sample.files[0]).read_bytes())
        self.records.append((began, answered.seconds))
        if answered.status != 201 or without_seconds(answered.text) != self.expected[sample.name].diagnosis:
            self.wrong.append(f"{sample.name}: {answered.status}, another diagnosis than the command line's")

    def spans(self) -> list[tuple[float, float]]:
        """When its jobs were measured."""
        done = [wish.ended for wish in self.wishes if wish.ended.get("state") == "done"]
        return [(_seconds(job["started_at"]), _seconds(job["finished_at"])) for job in done]

    def waited(self) -> list[float]:
        """Seconds from the arrival of its jobs that were measured until their ends."""
        done = [wish.ended for wish in self.wishes if wish.ended.get("state") == "done"]
        return [_seconds(job["finished_at"]) - _seconds(job["created_at"]) for job in done]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def mixed_round(service: ServiceProcess, samples: Path, expected: dict[str, Expected], number: int) -> Round:
    """20 clients at once, 200 jobs."""
    chosen = [MEASURED[n % len(MEASURED)] for n in range(CLIENTS * MEASURED_EACH)]
    random.Random(number).shuffle(chosen)
    mixed = []
    for n in range(CLIENTS):
        client = Client(service.address, samples, 1000 * number + n, slow=False)
        own = chosen[n * MEASURED_EACH : (n + 1) * MEASURED_EACH]
        wishes = [Wish(f"{number}-{n}-{i}", sample) for i, sample in enumerate(own)]
        mixed.append(MixedClient(client, HTTPConnection("127.0.0.1", service.port, timeout=60), wishes, expected))
    began = time.monotonic()
    threads = [threading.Thread(target=one.run) for one in mixed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Round(time.monotonic() - began, server_mib=resident(service.tree()[0]))
    spans = [span for one in mixed for span in one.spans()]
    ends: list[str] = []
    for one in mixed:
        found.wrong += one.wrong
        ends += [str(wish.ended.get("state")) for wish in one.wishes] + ["answered at once"] * len(one.records)
        found.job_seconds += one.waited()
        for at, seconds in one.records:
            busy = any(start <= at <= end for start, end in spans)
            (found.record_seconds if busy else found.quiet_seconds).append(seconds)
    found.states = dict(Counter(ends))
    return found


@dataclass
class Memory:
    """Largest memory of each kind of process, in MiB, sampled twice a second.

    `server`, `worker` and `child` are resident, with what they share; `together` counts what is shared once.
    """

    server: float = 0.0
    worker: float = 0.0
    child: float = 0.0
    together: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self, service: ServiceProcess) -> None:
        """Until `stopped`."""
        while not self.stopped.wait(0.5):
            tree = service.tree()
            self.server = max([self.server, *map(resident, tree[:1])])
            self.worker = max([self.worker, *map(resident, service.workers())])
            self.child = max([self.child, *map(resident, service.measuring_children())])
            self.together = max(self.together, sum(map(proportional, tree)))
