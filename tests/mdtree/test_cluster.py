"""A zoo built on a dask cluster of separate processes, one of them killed: the table of one process, byte for byte."""

import os
import signal

import pytest
from dask_processes import dask_cluster
from distributed import Client
from tiny_zoo import SPECIFICATION

from mdtree.backends import Backend
from mdtree.errors import InputError
from mdtree.grid import build_zoo
from mdtree.spec_file import read_spec


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    file = tmp_path_factory.mktemp("specification") / "tiny.toml"
    file.write_text(SPECIFICATION.replace("[3, 6]", "[3, 5, 8]"))
    return read_spec(file)


@pytest.fixture(scope="module")
def local_table(specification, tmp_path_factory):
    table = tmp_path_factory.mktemp("local") / "tiny.csv"
    build_zoo(specification, table, backend=Backend(workers=1), device="cpu")
    return table


def busy_worker(address):
    """The process of a worker that has a task in hand."""
    with Client(address, set_as_default=False) as client:
        busy = [worker for worker, tasks in client.processing().items() if tasks]
        return client.run(os.getpid, workers=busy[:1]).popitem()[1]


@pytest.mark.slow
def test_a_worker_killed_in_the_build_does_not_show(specification, local_table, tmp_path):
    seen, killed = [], []
    with dask_cluster(tmp_path) as cluster:
        cluster.add_workers(3, "--nthreads", "1", "--no-nanny")
        workers = {process.pid for process in cluster.processes[1:]}

        def kill_one(progress):
            seen.append(progress.done)
            if progress.done and not killed:
                killed.append(busy_worker(cluster.address))
                os.kill(killed[0], signal.SIGKILL)

        table = tmp_path / "tiny.csv"
        backend = Backend("dask", scheduler=cluster.address)
        result = build_zoo(specification, table, backend=backend, device="cpu", progress=kill_one)
    assert len(killed) == 1
    assert set(killed) < workers
    assert seen == list(range(0, 37, 6))
    assert (result.rows, result.trained) == (36, 36)
    assert table.read_bytes() == local_table.read_bytes()


@pytest.mark.slow
def test_two_threads_in_a_worker_do_not_show(specification, local_table, tmp_path):
    with dask_cluster(tmp_path) as cluster:
        cluster.add_workers(1, "--nthreads", "2", "--no-nanny")
        table = tmp_path / "tiny.csv"
        build_zoo(specification, table, backend=Backend("dask", scheduler=cluster.address), device="cpu")
    assert table.read_bytes() == local_table.read_bytes()


def test_without_a_scheduler_nothing_is_lost(specification, local_table, tmp_path):
    table = tmp_path / "tiny.csv"
    with pytest.raises(InputError, match="no dask scheduler answers at tcp://127"):
        build_zoo(specification, table, backend=Backend("dask", scheduler="tcp://127.0.0.1:1"), device="cpu")
    build_zoo(specification, table, backend=Backend(workers=2), device="cpu")
    assert table.read_bytes() == local_table.read_bytes()
