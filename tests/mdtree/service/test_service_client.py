"""The Python client and a real service: upload, queue, wait, diagnosis."""

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from service_started import ALICE, BOB, benchmark_module, started
from test_service_client_connection import TOKEN

import mdtree
from mdtree.errors import InputError, ResourceError
from mdtree.networks.architectures import mlp
from mdtree.service.client import Client, Details
from mdtree.service.client import service_client as client_module

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"
SAMPLE = SAMPLES / "temperature_too_low-1.pt"
CONFIGURATION = """
[networks]
our_net = "mlp?width=8"
[limits]
file_bytes = 1_000_000
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service that Alice and Bob may use."""
    with started(tmp_path_factory.mktemp("service"), CONFIGURATION) as running:
        yield running


@pytest.fixture
def alice(service):
    with Client(service.process.address, ALICE) as client:
        yield client


@pytest.fixture(scope="module")
def record():
    """Measured once, here."""
    return mdtree.measure(SAMPLE)


@pytest.fixture
def own(tmp_path):
    """Weights that do not say what they are, and data, in files of a client's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 6, generator=generator)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    torch.save(mlp(8, 2, 6, 2, normalise=False).state_dict(), tmp_path / "weights.pt")
    np.savez(tmp_path / "sample.npz", x_train=x.numpy(), y_train=y.numpy())
    return tmp_path


def without_cost(text):
    return {key: value for key, value in json.loads(text).items() if key != "cost"}


def test_one_call_gives_what_the_command_line_prints(alice, tmp_path, monkeypatch, run):
    for name in (SAMPLE.name, SAMPLE.stem + ".sibling.pt"):
        shutil.copy(SAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    told = []
    result = alice.diagnose(SAMPLE.name, [SAMPLE.stem + ".sibling.pt"], progress=told.append)
    assert (result.verdict, round(result.confidence, 2)) == ("temperature_too_low", 0.79)
    assert "learning rate 0.0015 → 0.015" in result.advice
    assert repr(result) == f"<Result of job {result.job}: temperature_too_low, 79%>"
    _, printed, _ = run("diagnose", SAMPLE.name, "--sibling", SAMPLE.stem + ".sibling.pt", "--json", "--no-cache")
    assert without_cost(result.json) == without_cost(printed)
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages[0] == "uploading"
    assert stages[-1] == "done"
    assert [progress.share for progress in told if progress.stage == "uploading"] == [1, 1]


def test_what_one_call_sent_is_deleted_and_what_was_there_is_kept(alice, own):
    data = alice.upload(own / "sample.npz")
    before = _files(alice)
    details = Details(data_options={"train": "100"}, data_checked=True)
    result = alice.diagnose(own / "weights.pt", data=data, network="our_net", details=details)
    assert _files(alice) == before
    assert result.to_dict()["recipe"]["train_size"] == 100
    assert result.to_dict()["checkpoint"]["data"] == "npz:sample.npz?train=100"
    alice.delete(data)
    assert data.id not in _files(alice)


def test_data_are_a_file_by_its_suffix_a_specification_or_a_name(alice, own):
    sent = [own / "sample.npz", str(own / "sample.npz"), f"npz:{own / 'sample.npz'}?train=90", "digits?train=160"]
    jobs = [alice.submit(own / "weights.pt", data=data, network="mlp?width=8") for data in sent]
    said = [job.values["request"]["data"] for job in jobs]
    assert [data.get("options") for data in said] == [{}, {}, {"train": "90"}, None]
    assert said[3] == {"name": "digits?train=160"}
    with pytest.raises(InputError, match="no data set named our_data is registered here"):
        alice.submit(own / "weights.pt", data="our_data")
    for job in jobs:
        alice.cancel(job)


def test_a_job_that_fails_says_why_in_the_servers_words(alice, own):
    job = alice.wait(alice.submit(own / "weights.pt", data=own / "sample.npz", network="mlp?width=16"))
    assert (job.state, job.ended, job.verdict) == ("failed", True, None)
    with pytest.raises(InputError, match=r"weights\.pt .*16"):
        alice.result(job)


def test_a_record_is_answered_at_once_however_it_is_given(alice, record, tmp_path, run):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record.to_dict()))
    _, printed, _ = run("diagnose", file, "--json")
    results = [alice.diagnose_record(one) for one in (record, record.to_dict(), file, str(file))]
    assert [result.json + "\n" for result in results] == [printed] * 4
    assert len({result.job for result in results}) == 4
    with pytest.raises(InputError, match="the record has no schema_version"):
        alice.diagnose_record({})


def test_jobs_are_listed_newest_first_and_page_by_page(service, record, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE", 2)
    with Client(service.process.address, BOB) as bob:
        ids = [bob.diagnose_record(record).job for _ in range(5)]
        assert [job.id for job in bob.jobs()] == ids[::-1]
        assert [job.verdict for job in bob.jobs(verdict="temperature_too_low", kind="record")] == [
            "temperature_too_low"
        ] * 5
        assert list(bob.jobs(state="running")) == []
        assert list(bob.jobs(name="another")) == []


def test_pages_are_written(alice, record, tmp_path):
    one, other = (alice.diagnose_record(record) for _ in range(2))
    assert one.report(tmp_path / "report.html") == tmp_path / "report.html"
    alice.comparison([one.job, other.job], tmp_path / "comparison.html")
    for name in ("report.html", "comparison.html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert "temperature too low" in page


def test_a_job_that_does_not_end_in_time_goes_on(alice):
    sibling = alice.upload(SAMPLES / f"{SAMPLE.stem}.sibling.pt")
    job = alice.submit(SAMPLE, [sibling] * 8, details=Details(precision=0.01))  # takes seconds
    with pytest.raises(ResourceError, match=rf"job {job.id} is \w+ after 0 s; it goes on"):
        alice.wait(job, timeout=0)
    with pytest.raises(InputError, match=rf"job {job.id} is (queued|running); expected one that is done"):
        alice.result(job)
    cancelled = alice.wait(alice.cancel(job).id, timeout=20)
    assert cancelled.state == "cancelled"
    with pytest.raises(InputError, match="is cancelled"):
        alice.result(job)
    alice.delete(job)
    with pytest.raises(InputError, match=f"there is no job {job.id}"):
        alice.job(job)


def test_nobody_sees_what_another_sent(service, alice, record):
    job = alice.diagnose_record(record).job
    with Client(service.process.address, BOB) as bob, pytest.raises(InputError, match="there is no job"):
        bob.report(job, "report.html")
    for token in (TOKEN, None):
        with Client(service.process.address, token) as nobody, pytest.raises(InputError, match="token"):
            nobody.server()


def test_the_servers_limit_is_told_before_anything_is_sent(alice, tmp_path):
    (tmp_path / "large.pt").write_bytes(bytes(1_000_001))
    before = _files(alice)
    with pytest.raises(InputError, match=r"large.pt has 1.0 MB; expected at most 1.0 MB"):
        alice.upload(tmp_path / "large.pt")
    assert _files(alice) == before


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_is_waited_for(tmp_path):
    processes = benchmark_module("service_process")
    with processes.running(processes.ServiceProcess(tmp_path)) as process, Client(process.address) as client:
        job = client.submit(SAMPLE)
        process.kill()
        over = threading.Event()

        def start_again():
            time.sleep(0.5)
            process.start()
            over.wait(120)  # a service ends with the thread that started it

        again = threading.Thread(target=start_again)
        again.start()
        try:
            assert client.result(client.wait(job, timeout=60)).verdict == "temperature_too_low"
        finally:
            over.set()
            again.join()


def _files(client):
    return {file["id"] for file in client._values("/v1/files")["files"]}
