"""A dask cluster of separate processes on this machine: a scheduler and workers, each its own process."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Cluster:
    """A running scheduler; `add_workers` starts processes that connect to it."""

    address: str
    folder: Path
    processes: list = field(default_factory=list)

    def add_workers(self, count=1, *options):
        for _ in range(count):
            self.start("worker", self.address, "--no-dashboard", *options)

    def start(self, *arguments):
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        command = [sys.executable, "-m", "dask", *arguments]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        self.processes.append(process)
        return process

    def stop(self):
        # the workers first, asked: a nanny takes its worker with it
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def dask_cluster(folder):
    """A scheduler on a free port, without workers."""
    cluster = Cluster("", Path(folder))
    contact = cluster.folder / "scheduler.json"
    cluster.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact))
    try:
        deadline = time.monotonic() + 60
        while not cluster.address:
            assert time.monotonic() < deadline, (cluster.folder / "0.log").read_text()
            time.sleep(0.1)
            if contact.exists() and (text := contact.read_text()).endswith("}"):
                cluster.address = json.loads(text)["address"]
        yield cluster
    finally:
        cluster.stop()
