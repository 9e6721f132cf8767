"""Kill -9 at random moments, in a service under load: is every accepted job ended once, as the command line says?

    python benchmarks/service_faults.py -o benchmarks/service_faults.md    # 100 rounds, a quarter of an hour
    python benchmarks/service_faults.py --rounds 6 --json
    python benchmarks/service_faults.py --rounds 20 --database postgresql://user@host/name

Clients upload, submit, cancel and ask without a pause, under idempotency keys, and ask again where the server died over
them. A round waits a random time, or until something is measured and a moment more, and kills: the server, a process
that it made, all of them at the same moment, or the server twice, the second time while it starts. Triggers in the
database count how often each job ended. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from service_clients import Client, keep_busy
from service_ledger import Ledger
from service_poison import Poisoned, poisoned
from service_process import ServiceProcess
from service_samples import ALONE, BAD, CONVOLUTIONAL, PAIRED, RECORDS, WITH_DATA, Sample, make_samples

ALL = (*PAIRED, *ALONE, CONVOLUTIONAL, WITH_DATA, *BAD, *RECORDS)
FEW = (ALONE[0], BAD[0], RECORDS[0])
VICTIMS = {"the server": 8, "a process of the server's": 6, "all at once": 3, "the server, again while it starts": 3}
LONGEST_PAUSE = 8.0
ORPHAN_SECONDS = 5.0


@dataclass
class Faults:
    """What a run of kills found.

    Attributes
    ----------
    kills : dict
        How often each kind of victim was killed.
    starts : list of float
        Seconds until the service answered again.
    states : dict
        Of all jobs, by their state at the end.
    """

    kills: dict[str, int] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    lost_answers: int = 0
    jobs: int = 0
    claims: int = 0
    ends: int = 0
    most_interruptions: int = 0
    seconds: float = 0.0
    defects: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How many rounds, clients and workers, of which samples, and with which seed."""

    rounds: int
    samples: Sequence[Sample]
    clients: int = 5
    workers: int = 2
    seed: int = 0
    longest_pause: float = LONGEST_PAUSE
    database: str | None = None


def run_faults(folder: Path, plan: Plan) -> Faults:
    """All rounds; then every job is followed to its end, and all is held against command line, database and disk."""
    (folder / "samples").mkdir(parents=True)
    expected = make_samples(folder / "samples", plan.samples)
    options = ["--workers", str(plan.workers), *(["--database", plan.database] if plan.database else [])]
    service = ServiceProcess(folder / "service", options)
    found, began = Faults(), time.monotonic()
    try:
        service.start()
        ledger = Ledger(plan.database or f"sqlite:///{data_dir(service) / 'mdtree.sqlite'}")
        ledger.begin()
        clients = [Client(service.address, folder / "samples", plan.seed * 100 + n) for n in range(plan.clients)]
        _kill_under_load(service, plan, clients, found)
        found.defects += [
            defect
            for client in clients
            for wish in client.wishes
            for defect in wish.defects(expected[wish.sample.name])
        ]
        code = service.stop()
        found.defects += [f"the service ended with exit code {code}"] if code else []
        found.defects += _orphans(service)
        wishes = [wish for client in clients for wish in client.wishes]
        found.states = dict(Counter(str(wish.ended.get("state")) for wish in wishes))
        audit = ledger.audit([wish.job for wish in wishes], data_dir(service))
        found.jobs, found.claims, found.ends = audit.jobs, audit.claims, audit.ends
        found.most_interruptions = audit.most_interruptions
        found.defects += audit.defects
        found.defects += [surprise for client in clients for surprise in client.surprises]
        found.defects += complaints(service.log)
        found.lost_answers = sum(client.lost_answers for client in clients)
    finally:
        service.end_all()
    found.seconds = time.monotonic() - began
    return found


def data_dir(service: ServiceProcess) -> Path:
    assert service.data_dir is not None
    return service.data_dir


def _kill_under_load(service: ServiceProcess, plan: Plan, clients: Sequence[Client], found: Faults) -> None:
    stop, generator = threading.Event(), random.Random(plan.seed)
    threads = [
        threading.Thread(target=keep_busy, args=(client, list(plan.samples), stop, 0.1), daemon=True)
        for client in clients
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(plan.rounds):
            _wait(service, generator, plan.longest_pause)
            _round(service, generator, found)
    finally:
        stop.set()
        for thread in threads:
            thread.join(300)
    found.defects += ["a client did not come to its end" for thread in threads if thread.is_alive()]


def _wait(service: ServiceProcess, generator: random.Random, longest: float) -> None:
    """A random time; in half of the rounds a short one after something begins to be read or measured."""
    if generator.random() < 0.5:
        time.sleep(generator.uniform(0.1, longest))
        return
    until = time.monotonic() + 2 * longest
    while not service.measuring_children() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(generator.uniform(0.0, 0.6))


def _round(service: ServiceProcess, generator: random.Random, found: Faults) -> None:
    victim = generator.choices(list(VICTIMS), list(VICTIMS.values()))[0]
    found.kills[victim] = found.kills.get(victim, 0) + 1
    if victim == "a process of the server's":
        made = service.workers()
        if made:
            _kill(generator.choice(made))
        return
    if victim == "all at once":
        for process in reversed(service.tree()):
            _kill(process)
    service.kill()
    if victim == "the server, again while it starts":
        service.launch()
        time.sleep(generator.uniform(0.0, 1.5))
        service.kill()
    found.starts.append(service.start())
    found.defects += _orphans(service)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def _orphans(service: ServiceProcess) -> list[str]:
    """Processes of an earlier start that outlive it."""
    until = time.monotonic() + ORPHAN_SECONDS
    while left := service.leftovers():
        if time.monotonic() > until:
            return [f"process {' '.join(process.cmdline())[:80]} outlives its server" for process in left]
        time.sleep(0.05)
    return []


def complaints(log: Path) -> list[str]:
    """Lines of a log that tell of a defect of the service: tracebacks, errors."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        line[:300]
        for line in lines
        if "Traceback" in line or '"level": "error"' in line.lower() or not line.startswith("{")
    ]


def page(found: Faults, poison: Sequence[Poisoned], plan: Plan) -> str:
    """The committed page."""
    minutes = found.seconds / 60
    kills = "\n".join(f"| {victim} | {count} |" for victim, count in found.kills.items())
    bad = "\n".join(f"- {defect}" for defect in found.defects) or "None."
    starts = f"{median(found.starts):.1f} s in the median, {max(found.starts):.1f} s at most" if found.starts else "-"
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))
    return f"""# Kill -9 at random moments

`python benchmarks/service_faults.py {asked(plan)}`

{circumstances(plan)}
server processor, Python {platform.python_version()}; {minutes:.0f} minutes. {PAUSES.format(plan.longest_pause)}
is measured and up to 0.6 s more, and kills:

| SIGKILL to | rounds |
|---|---|
{kills}

- {found.jobs} jobs accepted ({states}); {found.ends} ends counted by triggers in the database, {found.claims} runs
  begun; the job interrupted most often was interrupted {found.most_interruptions} times.
- {found.lost_answers} requests were not answered, for the server died over them or was not there; each was sent again
  under its key.
- The service answered again after {starts}.
- Held against the command line: the state of every job, the JSON of every diagnosis (its seconds apart), the sentence
  of every refusal. Held against each other at the end: promised jobs and the database, rows of files and files (size
  and SHA-256), `incoming/` and `work/` (empty), processes of dead servers (none left), the log (no traceback).

Differences: {bad}
{poison_table(poison)}"""


def poison_table(poison: Sequence[Poisoned]) -> str:
    """The part of the page on jobs that crash; empty where none was tried."""
    if not poison:
        return ""
    rows = "\n".join(f"| {p.name} | {p.state}, {p.crashes} crashes | {p.message} | {p.others} |" for p in poison)
    return f"""
## Jobs that end their own process

| job | end | message | the others beside it |
|---|---|---|---|
{rows}
"""


PAUSES = "A round waits a random time, up to {:.0f} s, or until something"


def circumstances(plan: Plan) -> str:
    """How much load, on what."""
    return (
        f"{plan.rounds} rounds, seed {plan.seed}, {plan.clients} clients that never pause, {plan.workers} workers, "
        f"{database_name(plan.database)}; {os.cpu_count()} cores of a"
    )


def asked(plan: Plan) -> str:
    """The words of the command."""
    if plan.database:
        return f"--rounds {plan.rounds} --database URL -o benchmarks/service_faults_postgresql.md"
    return "-o benchmarks/service_faults.md"


def database_name(url: str | None) -> str:
    return "SQLite" if url is None else "PostgreSQL"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--few", action="store_true", help="three kinds of samples, short pauses, no poison")
    parser.add_argument("--database", help="an address of PostgreSQL; SQLite without")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    options = parser.parse_args()
    plan = Plan(options.rounds, FEW if options.few else ALL, seed=options.seed, database=options.database)
    if options.few:
        plan = Plan(options.rounds, FEW, 3, 1, options.seed, 4.0, options.database)
    with tempfile.TemporaryDirectory() as folder:
        found = run_faults(Path(folder) / "kills", plan)
        poison = [] if options.database or options.few else poisoned(Path(folder) / "poison")
    found.defects += [defect for one in poison for defect in one.defects]
    told: dict[str, Any] = {**asdict(found), "poison": [asdict(one) for one in poison]}
    print(json.dumps(told, indent=1) if options.json else page(found, poison, plan))
    if options.output:
        options.output.write_text(page(found, poison, plan), encoding="utf-8")


if __name__ == "__main__":
    main()
