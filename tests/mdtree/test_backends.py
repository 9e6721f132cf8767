"""Tasks on processes and on a dask cluster: all results once, whoever dies; errors as themselves; no orphans."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dask_processes import dask_cluster
from small_tasks import (
    kill_worker_at_three,
    note_start,
    one_thread_environment,
    refuse_two,
    square,
    starts,
    when,
)

from mdtree.backends import Backend, run_tasks
from mdtree.errors import InputError, ResourceError
from mdtree.remote_task import RemoteTask, WorkerWatch

SQUARES = {index: index**2 for index in range(12)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        # nannies: a worker that is killed comes back
        cluster.add_workers(1, "--nworkers", "3", "--nthreads", "1")
        yield cluster


def on_dask(cluster, **changes):
    return Backend("dask", scheduler=cluster.address, **changes)


def loky_workers():
    return [p for p in psutil.Process().children(recursive=True) if "LokyProcess" in " ".join(p.cmdline())]


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_every_result_once(workers):
    assert dict(run_tasks(square, range(12), Backend(workers=workers))) == SQUARES
    assert not loky_workers()


def test_no_tasks_need_no_workers():
    assert list(run_tasks(square, [], Backend("dask", scheduler="tcp://nobody:1"))) == []


def test_one_worker_is_this_process():
    assert {pid for _, (_, pid) in run_tasks(one_thread_environment, range(3), Backend(workers=1))} == {os.getpid()}


def test_processes_compute_with_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = [result for _, result in run_tasks(one_thread_environment, range(4), Backend(workers=2))]
    assert {threads for threads, _ in seen} == {"1"}
    assert os.getpid() not in {pid for _, pid in seen}


def test_results_arrive_as_they_finish(tmp_path):
    tasks = [(tmp_path, 0, 1.5), (tmp_path, 1, 0.0), (tmp_path, 2, 0.0)]
    order = [index for index, _ in run_tasks(note_start, tasks, Backend(workers=2))]
    assert order[-1] == 0


def test_an_error_of_the_function_comes_out_at_once():
    begin = time.monotonic()
    with pytest.raises(InputError, match="x = 2; expected another number; change it") as caught:
        list(run_tasks(refuse_two, range(10_000), Backend(workers=2)))
    assert caught.value.mend == "change it"
    assert time.monotonic() - begin < 30
    assert not loky_workers()


def test_a_killed_process_costs_its_own_task_alone(tmp_path):
    killed = None
    done = []
    for index, _ in run_tasks(note_start, [(tmp_path, i, 0.4) for i in range(8)], Backend(workers=3)):
        done.append(index)
        if killed is None:
            killed = next(key for key in sorted(starts(tmp_path)) if key[0] not in done)
            os.kill(starts(tmp_path)[killed], signal.SIGKILL)
    assert sorted(done) == list(range(8))
    assert len(starts(tmp_path)) == 9
    assert (killed[0], 1) in starts(tmp_path)


def test_a_task_that_kills_its_process_is_named_after_the_others_are_done():
    results = run_tasks(kill_worker_at_three, range(8), Backend(workers=2), retries=1)
    assert dict(itertools.islice(results, 7)) == {i: i for i in range(8) if i != 3}
    with pytest.raises(ResourceError, match="every worker died that was given 3;"):
        next(results)


COORDINATOR = """
import signal, sys
# a shell's background jobs ignore SIGINT, and hand that on
signal.signal(signal.SIGINT, signal.default_int_handler)
from small_tasks import note_start
from mdtree.backends import Backend, run_tasks
list(run_tasks(note_start, [(sys.argv[1], i, 600) for i in range(4)], Backend(workers=2)))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_coordinator(how, tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as coordinator:
        wait_until(lambda: len(starts(tmp_path)) == 2)
        pids = set(starts(tmp_path).values())
        # Ctrl-C reaches the whole group, workers too
        (os.killpg if how == signal.SIGINT else os.kill)(coordinator.pid, how)
        errors = coordinator.communicate(timeout=30)[1]
    assert coordinator.returncode == -how
    assert errors.count("Traceback") == (how == signal.SIGINT)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def wait_until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_dask_gives_every_result_once(cluster):
    assert dict(run_tasks(square, range(12), on_dask(cluster))) == SQUARES


def test_on_dask_an_error_of_the_function_comes_out_at_once(cluster):
    begin = time.monotonic()
    with pytest.raises(InputError, match="x = 2; expected another number; change it"):
        list(run_tasks(refuse_two, range(3000), on_dask(cluster)))
    assert time.monotonic() - begin < 30


def test_a_killed_dask_worker_costs_no_result(cluster, tmp_path):
    killed = None
    done = []
    for index, _ in run_tasks(note_start, [(str(tmp_path), i, 0.4) for i in range(8)], on_dask(cluster)):
        done.append(index)
        if killed is None:
            killed = next(key for key in sorted(starts(tmp_path)) if key[0] not in done)
            os.kill(starts(tmp_path)[killed], signal.SIGKILL)
    assert sorted(done) == list(range(8))
    assert (killed[0], 1) in starts(tmp_path)


def test_a_task_that_kills_dask_workers_is_named_after_the_others_are_done(cluster):
    results = run_tasks(kill_worker_at_three, range(8), on_dask(cluster))
    assert dict(itertools.islice(results, 7)) == {i: i for i in range(8) if i != 3}
    with pytest.raises(ResourceError, match="every worker died that was given 3;"):
        next(results)


def test_two_threads_of_a_dask_worker_never_compute_at_once(tmp_path, caplog):
    with dask_cluster(tmp_path) as cluster:
        cluster.add_workers(1, "--nthreads", "2", "--no-nanny")
        # the first call waits for the worker, the second sees its threads
        assert dict(run_tasks(square, range(3), on_dask(cluster))) == {0: 0, 1: 1, 2: 4}
        seen = sorted(result for _, result in run_tasks(when, range(6), on_dask(cluster)))
        assert len({pid for *_, pid in seen}) == 1
        assert all(end <= begin for (_, end, _), (begin, _, _) in itertools.pairwise(seen))
        assert "a dask worker has 2 threads, of which one is used" in caplog.text


def test_a_cluster_without_workers_is_waited_for_then_given_up(tmp_path, caplog):
    with dask_cluster(tmp_path) as cluster:
        with pytest.raises(ResourceError, match=r"has had no worker for 2 s.*dask worker tcp://"):
            list(run_tasks(square, range(3), on_dask(cluster, patience=1.5)))
        assert "has no worker; waiting (0 of 2 s)" in caplog.text
        waiting = run_tasks(square, range(3), on_dask(cluster))
        cluster.add_workers(1, "--nthreads", "1", "--no-nanny")
        assert dict(waiting) == {0: 0, 1: 1, 2: 4}


def test_a_scheduler_that_goes_away_is_one_line(tmp_path, capfd):
    with dask_cluster(tmp_path) as cluster:
        cluster.add_workers(1, "--nthreads", "1", "--no-nanny")
        results = run_tasks(note_start, [(str(tmp_path), i, 0.2) for i in range(50)], on_dask(cluster))
        next(results)
        cluster.processes[0].kill()
        with pytest.raises(ResourceError, match=r"the dask scheduler at tcp.* went away.*what was finished is kept"):
            list(results)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_module_that_the_cluster_lacks_is_named(tmp_path, tmp_path_factory, monkeypatch):
    (tmp_path / "only_here.py").write_text("def same(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with dask_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.add_workers(1, "--nthreads", "1", "--no-nanny")
        with pytest.raises(InputError, match="the cluster cannot import only_here"):
            list(run_tasks(only_here.same, range(3), on_dask(cluster)))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://host:port"])
def test_a_scheduler_that_is_not_there(address):
    begin = time.monotonic()
    with pytest.raises(InputError, match=f"no dask scheduler answers at {address}; .*start one: `dask scheduler`"):
        list(run_tasks(square, range(3), Backend("dask", scheduler=address)))
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("name", "missing", "mend"), [("dask", "distributed", r"mdtree-diagnosis\[dask\]"), ("ray", "ray", "ray")]
)
def test_an_engine_that_is_not_installed(name, missing, mend, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=f"is not installed.*pip install '?{mend}"):
        list(run_tasks(square, range(3), Backend(name, scheduler="tcp://127.0.0.1:1")))


def test_a_ray_cluster_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", sys.modules[__name__])
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1;"):
        list(run_tasks(square, range(3), Backend("ray", scheduler="127.0.0.1:1")))


def test_other_versions_on_a_worker_are_refused():
    assert RemoteTask(square, 3)() == 9
    with pytest.raises(InputError, match=r"expected mdtree 0\.0\.1 and torch 1\.0, .*the same versions"):
        RemoteTask(square, 3, versions=("0.0.1", "1.0"))()


def test_workers_that_come_back_start_the_patience_anew(monkeypatch):
    now = iter([0.0, 9.0, 10.0, 11.0, 20.0, 21.0])
    monkeypatch.setattr("mdtree.remote_task.time.monotonic", lambda: next(now))
    watch = WorkerWatch("the cluster", "start", patience=10)
    for workers in (0, 0, 1, 0, 0):
        watch.saw(workers)
    with pytest.raises(ResourceError, match="the cluster has had no worker for 10 s"):
        watch.saw(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "spark"}, "backend 'spark'; expected one of loky, dask, ray"),
        ({"workers": 0}, "workers = 0; expected 1 or more, or -1"),
        ({"workers": -2}, "workers = -2; expected 1 or more, or -1"),
        ({"scheduler": "tcp://host:1"}, "scheduler tcp://host:1 for loky"),
        ({"name": "dask"}, "backend dask without a scheduler"),
    ],
)
def test_a_backend_that_cannot_be(wrong, message):
    with pytest.raises(InputError, match=message):
        Backend(**wrong)
