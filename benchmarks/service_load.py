"""200 mixed jobs from 20 clients on two cores; then records alone, beside a bare echo of the same framework.

    python benchmarks/service_load.py -o benchmarks/service_load.md

The service has two cores to itself (server, two workers, their children) and the clients have the others. In each of
three rounds 20 clients send 60 jobs to be measured (some that must fail) and, spread over the time these take, 140
records. Every answer is held against the command line's, computed once a sample. Linux, at least four cores, and
nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from service_faults import complaints
from service_mixed import CLIENTS, MEASURED, Memory, Round, mixed_round
from service_process import ServiceProcess, resident, running
from service_rate import Rate, beside_echo, rate
from service_samples import RECORDS, make_samples

CONFIGURATION = """
[limits]
kept_jobs_per_owner = 1000000
"""
ECHO_CLIENTS, ECHO_ROUNDS = 4, 5


@dataclass(frozen=True)
class Load:
    """Everything measured.

    Attributes
    ----------
    rounds : list of Round
    memory : dict
        Largest resident MiB of the server, a worker, a child, and all of them together.
    resident_mib : list of float
        Of the server: started, after each round, after all records.
    ours, echo : list of Rate
        Round by round.
    alone : Rate
        One client, the service having nothing else to do.
    complaints : list of str
        Of the log.
    """

    rounds: list[Round]
    memory: dict[str, float]
    resident_mib: list[float]
    ours: list[Rate]
    echo: list[Rate]
    alone: Rate
    complaints: list[str]


def run_load(folder: Path, rounds: int) -> Load:
    """The mixed rounds, then the rates."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 4:
        raise SystemExit(f"{len(cores)} cores; expected four: two for the service, two for its clients")
    served, others = cores[:2], cores[2:4]
    (folder / "samples").mkdir()
    expected = make_samples(folder / "samples", [*MEASURED, *RECORDS])
    body = (folder / "samples" / RECORDS[0].files[0]).read_bytes()
    before = ("taskset", "-c", ",".join(map(str, served)))
    service = ServiceProcess(folder / "service", ["--workers", "2"], CONFIGURATION, before)
    os.sched_setaffinity(0, others)
    with running(service):
        memory, sizes = Memory(), [resident(service.tree()[0])]
        watcher = threading.Thread(target=memory.watch, args=(service,))
        watcher.start()
        mixed = []
        for number in range(rounds):
            mixed.append(mixed_round(service, folder / "samples", expected, number))
            sizes.append(mixed[-1].server_mib)
        alone = rate(service.port, body, 1, 5.0, others)
        ours, echo = beside_echo(service, body, ECHO_ROUNDS, ECHO_CLIENTS, (served, others))
        sizes.append(resident(service.tree()[0]))
        memory.stopped.set()
        watcher.join()
        code = service.stop()
    found = {"server": memory.server, "worker": memory.worker, "child": memory.child, "together": memory.together}
    trouble = [*complaints(service.log), *([f"exit code {code}"] if code else [])]
    return Load(mixed, found, sizes, ours, echo, alone, trouble)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies, or is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _milliseconds(values: Sequence[float]) -> str:
    if not values:
        return "– | – | – | 0"
    parts = [1000 * median(values), 1000 * percentile(values, 0.95), 1000 * max(values)]
    return " | ".join(f"{part:.0f}" for part in parts) + f" | {len(values)}"


def page(load: Load) -> str:
    """The committed page."""
    states = sum((Counter(one.states) for one in load.rounds), Counter())
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    busy = [second for one in load.rounds for second in one.record_seconds]
    quiet = [second for one in load.rounds for second in one.quiet_seconds]
    jobs = [second for one in load.rounds for second in one.job_seconds]
    wrong = [text for one in load.rounds for text in one.wrong] + load.complaints
    ratios = [ours.per_second / bare.per_second for ours, bare in zip(load.ours, load.echo, strict=True)]
    ours, bare = (median(one.per_second for one in found) for found in (load.ours, load.echo))
    sizes = " → ".join(f"{size:.0f}" for size in load.resident_mib)
    several = [second for one in load.ours for second in one.seconds]
    return f"""# The service under load

`python benchmarks/service_load.py -o benchmarks/service_load.md`: {len(load.rounds)} rounds of 200 jobs from {CLIENTS}
clients; two cores of a server processor for the service (server, two workers, their children), two others for the
clients; Python {platform.python_version()}, torch {version("torch")}, uvicorn {version("uvicorn")}, SQLite on the disk.

A round: each client uploads and submits 3 jobs at once (one network, pairs, a convolutional one, weights with data; one
in five is damaged or malicious and must fail with the command line's sentence), sends 7 records with pauses of 0 to
5 s, asks every second what became of its jobs, and fetches the diagnoses. {ended}.

**Lost or wrong: {len(wrong) or "none"}.** Every diagnosis is, its seconds apart, the command line's to the byte; every
refusal is its sentence. A round took {median(one.seconds for one in load.rounds):.0f} s in the median; a job that was
measured had ended {median(jobs):.1f} s after its arrival in the median, {max(jobs):.1f} s at most: 60 arrive at once.

| a record, sent until its diagnosis is there | p50, ms | p95, ms | max, ms | n |
|---|---|---|---|---|
| beside running measurements, mixed load | {_milliseconds(busy)} |
| between them | {_milliseconds(quiet)} |
| one client that sends one after another, nothing else | {_milliseconds(load.alone.seconds)} |
| {ECHO_CLIENTS} such clients | {_milliseconds(several)} |

Records a second, {ECHO_CLIENTS} clients that send one after another, {len(ratios)} rounds of 5 s in turn with
`benchmarks/service_echo.py` (the JSON parsed and sent back by a bare FastAPI application) on the same two cores:
{ours:.0f} against {bare:.0f}, {ours / bare:.2f} of it (rounds: {min(ratios):.2f} to {max(ratios):.2f}). A record is
decided in one process beside the server's other work, and its answer is on the disk before it is sent.

Memory, MiB, at most: server {load.memory["server"]:.0f}, a worker {load.memory["worker"]:.0f}, a child that reads or
measures {load.memory["child"]:.0f}, each with what it shares with others; all together, with what they share counted
once, {load.memory["together"]:.0f}. The server alone: {sizes} (started, after each round, after
{sum(len(one.seconds) for one in load.ours) + len(load.alone.seconds):,} records more).
{"".join(f"{chr(10)}- {text}" for text in wrong[:20])}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = run_load(Path(folder), options.rounds)
    print(json.dumps(asdict(load), indent=1) if options.json else page(load))
    if options.output:
        options.output.write_text(page(load), encoding="utf-8")


if __name__ == "__main__":
    main()
