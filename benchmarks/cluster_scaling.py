"""Networks per second of a zoo build with 1, 2 and 4 workers: processes of this machine, and a dask cluster.

    python benchmarks/cluster_scaling.py [--workers 1,2,4]

The zoo is small: digits, six widths, four amounts of data, 12 networks a unit. Every build is a whole one, from the
specification to the labelled table; starting the processes counts for loky, while the dask workers (a scheduler and
one process each, one thread) are there before. All tables must be the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

import mdtree
from mdtree.backends import Backend
from mdtree.grid import build_zoo
from mdtree.spec_file import read_spec

SPECIFICATION = """
family = "scaling"
seeds = 3
[data]
name = "digits"
seed = 0
train = [160, 260, 400, 650]
label_noise = [0.0]
[model]
name = "mlp"
width = [4, 6, 8, 12, 16, 24]
[training]
learning_rate = [0.003, 0.01, 0.03, 0.1]
batch_size = 16
steps = 500
momentum = 0.9
weight_decay = 5e-4
schedule = "constant_then_linear"
[held_out]
share = 0.25
seed = 1
[protocol]
curve_steps = 60
"""


def import_once() -> None:
    """On a worker: the first task of a process pays for importing torch."""
    importlib.import_module("mdtree.grid_unit")


@contextmanager
def dask_backend(workers: int, folder: Path) -> Iterator[Backend]:
    """A scheduler and workers as processes of this machine; ready when it is given."""
    contact = folder / f"scheduler-{workers}.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(mdtree.__file__).parents[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(contact), "--no-dashboard"],
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for arguments in (
            ["scheduler", "--host", "127.0.0.1", "--port", "0"],
            *[["worker", "--nthreads", "1", "--no-nanny"]] * workers,
        )
    ]
    try:
        while not contact.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(contact), set_as_default=False) as client:
            client.wait_for_workers(workers)
            client.run(import_once)
            address = client.scheduler.address
        yield Backend("dask", scheduler=address)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


@contextmanager
def loky_backend(workers: int, _: Path) -> Iterator[Backend]:
    yield Backend("loky", workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4")
    counts = [int(count) for count in parser.parse_args().workers.split(",")]
    print("| back end | workers | seconds | networks/s | ratio |\n|---|---|---|---|---|")
    tables = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.toml").write_text(SPECIFICATION)
        spec = read_spec(folder / "spec.toml")
        for label, backend_of in (("loky", loky_backend), ("dask", dask_backend)):
            first = 0.0
            for workers in counts:
                table = folder / f"{label}-{workers}.csv"
                with backend_of(workers, folder) as backend:
                    begin = time.perf_counter()
                    rows = build_zoo(spec, table, backend=backend, device="cpu").rows
                    seconds = time.perf_counter() - begin
                first = first or rows / seconds
                tables.add(table.read_bytes())
                print(
                    f"| {label} | {workers} | {seconds:.1f} | {rows / seconds:.1f} | {rows / seconds / first:.2f} |",
                    flush=True,
                )
    print(f"\n{rows} networks; {'all tables the same bytes' if len(tables) == 1 else 'TABLES DIFFER'}")


if __name__ == "__main__":
    main()
