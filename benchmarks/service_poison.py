"""Jobs that end the process they run in: each fails after its second crash, and the others are served."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from service_clients import Client, Wish
from service_process import ServiceProcess, running
from service_samples import ALONE, CONVOLUTIONAL, RECORDS, WITH_DATA, Sample, make_samples

ABORTS = '''
"""A network whose code, registered by the operator, ends the process: as a defect in a C library does."""

import os


def build():
    os.abort()
'''
CONFIGURATION = """
[networks]
aborts = "aborting_network:build"
"""
ABORTING = Sample("a registered network that aborts", ("weights.pt",), "digits.npz", "aborts")
OTHERS = (ALONE[0], CONVOLUTIONAL, RECORDS[0])


@dataclass(frozen=True)
class Poisoned:
    """A job that crashed.

    Attributes
    ----------
    name : str
        What ended its process.
    state, message : str
    crashes : int
    others : str
        What became of the jobs beside it.
    defects : list of str
    """

    name: str
    state: str
    message: str
    crashes: int
    others: str
    defects: list[str]


def poisoned(folder: Path) -> list[Poisoned]:
    """A network that aborts, and a measurement that is killed from outside each time; with one worker."""
    (folder / "samples").mkdir(parents=True)
    service = ServiceProcess(folder / "service", ["--workers", "1"], CONFIGURATION)
    (service.folder / "aborting_network.py").write_text(ABORTS, encoding="utf-8")
    expected = make_samples(folder / "samples", [*OTHERS, WITH_DATA])
    found = []
    with running(service):
        client = Client(service.address, folder / "samples", 1, slow=False)
        for name, sample, killed in (
            ("a registered network that aborts", ABORTING, False),
            ("its measuring process is killed each time", CONVOLUTIONAL, True),
        ):
            poison = Wish(f"poison-{killed}", sample)
            beside = [Wish(f"beside-{killed}-{n}", OTHERS[n % len(OTHERS)]) for n in range(6)]
            client.submit(poison)
            watch = threading.Thread(target=kill_when_running, args=(service, client.address, poison.job))
            if killed:
                watch.start()
            for wish in beside:
                client.submit(wish)
            for wish in (*beside, poison):
                client.follow(wish)
            if killed:
                watch.join()
            defects = [one for wish in beside for one in wish.defects(expected[wish.sample.name])]
            found.append(_told(name, poison, beside, [*defects, *client.surprises]))
    return found


def _told(name: str, poison: Wish, beside: list[Wish], defects: list[str]) -> Poisoned:
    failure = poison.ended.get("failure") or {}
    state, crashes = str(poison.ended["state"]), int(poison.ended["crashes"])
    if (state, crashes, failure.get("blame")) != ("failed", 2, "crashed"):
        defects = [*defects, f"{name}: {state} after {crashes} crashes, {failure}"]
    done = sum(wish.ended["state"] == "done" for wish in beside)
    told = f"{done} of {len(beside)} done, the last after {max(wish.seconds for wish in beside):.1f} s"
    return Poisoned(name, state, str(failure.get("message")), crashes, told, defects)


def kill_when_running(service: ServiceProcess, address: str, job: str) -> None:
    """Kill every process that reads or measures for this job, until the job has ended."""
    watcher = Client(address, Path(), 2)
    while watcher.ask("GET", f"/v1/jobs/{job}").json()["state"] in ("queued", "running"):
        for child in service.measuring_children():
            with suppress(psutil.NoSuchProcess):
                if _works_for(child.pid, job):
                    child.kill()
        time.sleep(0.01)


def _works_for(pid: int, job: str) -> bool:
    """Whether its standard error goes to a file of the job."""
    try:
        return job in os.readlink(f"/proc/{pid}/fd/2")
    except OSError:  # it has ended
        return False
