"""`mdtree serve` as it is started, used and ended: a real process, its workers, and signals."""

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from service_raw import head
from service_started import benchmark_module

from mdtree.cli import main
from mdtree.service.data_folder import DataFolder
from mdtree.service.jobs import State
from mdtree.service.storage.store import Store
from mdtree.service.tokens import LOCAL

SAMPLES = Path(__file__).parents[3] / "zoo_samples" / "checkpoints"
CHECKPOINT, SIBLING = "temperature_too_low-1.pt", "temperature_too_low-1.sibling.pt"
TOKEN = "t" * 40

HELD = """
import time
from pathlib import Path

FOLDER = Path(__file__).parent

def digits():
    (FOLDER / "asked").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.02)
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    return (x[:160] / 16).astype("float32"), y[:160]
"""
"""Data that are not there before a file says so: a job that asks for them runs as long as a test wants it to."""

processes = benchmark_module("service_process")


@pytest.fixture
def service(tmp_path):
    """A service that is not started; its data `held` come when a file `go` lies in its folder."""
    (tmp_path / "held_data.py").write_text(HELD)
    configuration = '[data_sets]\nheld = "held_data:digits"\n'
    process = processes.ServiceProcess(tmp_path, configuration=configuration)
    yield process
    process.end_all()


@pytest.fixture
def client(service):
    with httpx.Client(base_url=service.address, trust_env=False, timeout=20) as client:
        yield client


def upload(client, name):
    answer = client.post("/v1/files", params={"name": name}, content=(SAMPLES / name).read_bytes())
    assert answer.status_code == 201
    return answer.json()["id"]


def submit(client, **request):
    answer = client.post("/v1/jobs", json=request)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def until(found, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} seconds")


def ended(client, id):
    """The job, as soon as it has ended."""

    def look():
        job = client.get(f"/v1/jobs/{id}").json()
        return job if job["state"] in ("done", "failed", "cancelled") else None

    return until(look)


def running_job(service, client):
    """The id of a job that runs until `go`."""
    id = submit(client, checkpoint=upload(client, CHECKPOINT), data={"name": "held"}, data_checked=True)
    until((service.folder / "asked").exists)
    assert client.get(f"/v1/jobs/{id}").json()["state"] == "running"
    return id


def kept(service, id):
    """The job as its service left it."""
    store = Store(DataFolder(service.data_dir).database)
    try:
        return store.job(LOCAL, id)
    finally:
        store.close()


def exit_code(service):
    """Of a service that has been told to end; another signal would end it at once."""
    return service.process.wait(30)


def events(service):
    return [json.loads(line) for line in service.log.read_text().splitlines()]


# -- from start to end ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_gets_the_diagnosis_of_the_command_line(service, client, monkeypatch, capsys):
    service.launch()
    assert service.first_line(60) == f"{service.address}\n"
    assert stat.S_IMODE(service.data_dir.stat().st_mode) == 0o700
    until(lambda: client.get("/ready").status_code == 200)
    id = submit(client, checkpoint=upload(client, CHECKPOINT), siblings=[upload(client, SIBLING)])
    job = ended(client, id)
    assert (job["state"], job["summary"]["verdict"]) == ("done", "temperature_too_low")

    monkeypatch.chdir(SAMPLES)
    with pytest.raises(SystemExit):
        main(["diagnose", CHECKPOINT, "--sibling", SIBLING, "--json", "--no-cache"])
    lines = capsys.readouterr().out.splitlines()
    answered = client.get(f"/v1/jobs/{id}/result").text.splitlines()
    differ = [(one, other) for one, other in zip(lines, answered, strict=True) if one != other]
    assert [one.split(":")[0].strip() for one, _ in differ] == ['"seconds"'], "times alone"

    assert all("libtorch" not in one.path for one in psutil.Process(service.pid).memory_maps()), "it stays small"
    assert service.stop() == 0
    until(lambda: not service.leftovers(), 5)
    assert service.process.stdout.closed
    messages = [event["message"] for event in events(service)]
    assert [messages[0][:14], messages[-2], messages[-1]] == ["worker started", "stopping", "stopped"]
    assert {event["level"] for event in events(service)} == {"info"}
    assert {event.get("job") for event in events(service)} == {None, id}


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_and_a_request_that_have_begun_end_before_the_server_does(service, client):
    service.start()
    id = running_job(service, client)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as sender:
        lines = ("Content-Length: 6", "Connection: close")
        sender.sendall(head("POST", "/v1/files?name=a.pt", *lines, host=f"127.0.0.1:{service.port}") + b"abc")
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: _refuses(service.port))
        sender.sendall(b"def")
        assert sender.recv(2**16).startswith(b"HTTP/1.1 201 ")
    assert service.alive()
    (service.folder / "go").touch()
    assert exit_code(service) == 0
    assert kept(service, id).state is State.DONE


@pytest.mark.slow
def test_a_job_that_does_not_end_in_time_runs_again_at_the_next_start(service, client):
    service.options = ["--grace", "0.2"]
    service.start()
    id = running_job(service, client)
    began = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert exit_code(service) == 130, "SIGINT ends it as SIGTERM does, and is told by the exit code"
    assert time.monotonic() - began < 10
    until(lambda: not service.leftovers(), 5)
    job = kept(service, id)
    assert (job.state, job.crashes, job.interruptions) == (State.QUEUED, 0, 0)
    (service.folder / "go").touch()
    service.start()
    assert ended(client, id)["state"] == "done"


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(service, client):
    service.start()
    id = running_job(service, client)
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    until(lambda: _refuses(service.port))
    service.process.send_signal(signal.SIGTERM)
    assert exit_code(service) == 130
    assert time.monotonic() - began < 10
    until(lambda: not service.leftovers())
    assert kept(service, id).state is State.RUNNING, "as after a crash, which the next start mends"


def _refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


# -- starts that fail -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys):
    """The one line that a start ends with, and its exit code: what is refused before anything is started."""

    def refused(*words):
        with pytest.raises(SystemExit) as end:
            main(["serve", *map(str, words)])
        out, err = capsys.readouterr()
        assert out == ""
        return end.value.code, one_line(err)

    return refused


def refused_process(*words, before=""):
    """The same of a process of its own, in which something is done `before`."""
    code = f"import sys; {before}\nfrom mdtree.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "serve", *map(str, words)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == ""
    return ran.returncode, one_line(ran.stderr)


def one_line(text):
    (line,) = text.splitlines()
    return line


def test_others_may_only_reach_it_with_a_token(refused, tmp_path):
    code, line = refused("--host", "0.0.0.0", "--port", "0", "--data-dir", tmp_path / "data")
    assert code == 2
    assert "others can reach 0.0.0.0" in line
    assert "secrets.token_urlsafe(32)" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_token_of_the_environment_lets_it_listen_and_reaches_no_worker(service, client):
    service.options = ["--host", "0.0.0.0"]
    service.environment = {"MDTREE_TOKEN": TOKEN}
    service.start()
    assert client.get("/v1/jobs").status_code == 401
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {TOKEN}"}).json()["jobs"] == []
    workers = until(service.workers)
    assert all(TOKEN not in " ".join(worker.environ().values()) for worker in workers)
    assert service.stop() == 0
    assert TOKEN not in service.log.read_text()


def test_what_it_needs_and_lacks_is_said(tmp_path):
    code, line = refused_process("--data-dir", tmp_path, before="sys.modules['uvicorn'] = None")
    assert code == 2
    assert line == "mdtree: mdtree serve needs uvicorn, which is not installed; pip install 'mdtree-diagnosis[service]'"


def test_a_port_that_is_taken_is_told(refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refused("--port", port, "--data-dir", tmp_path / "data")
    assert code == 2
    assert f"127.0.0.1 port {port} cannot be used (Address already in use)" in line


def test_an_address_that_is_not_this_machines_is_told(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("MDTREE_TOKEN", TOKEN)
    code, line = refused("--host", "192.0.2.1", "--data-dir", tmp_path / "data")
    assert code == 2
    assert "192.0.2.1 port 8080 cannot be used" in line


def test_a_data_directory_that_cannot_be_one_is_told(refused, tmp_path):
    (tmp_path / "file").write_text("")
    code, line = refused("--port", 0, "--data-dir", tmp_path / "file")
    assert code == 2
    assert "cannot be used (File exists)" in line
    assert "--data-dir DIR" in line


def test_a_database_that_cannot_be_reached_is_told_without_its_password(tmp_path):
    url = f"postgresql://mdtree:{TOKEN}@127.0.0.1:1/mdtree"
    code, line = refused_process("--port", 0, "--data-dir", tmp_path, "--database", url)
    assert code == 2
    assert TOKEN not in line


def test_help_takes_no_package_of_the_service():
    code = (
        "import sys; from mdtree.cli import main\n"
        "try: main(['serve', '--help'])\n"
        "finally: print(*({'torch', 'fastapi', 'uvicorn', 'sqlalchemy'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--allow-host NAME" in ran.stdout
    assert ran.stderr.strip() == ""


def test_the_command_is_installed():
    assert shutil.which("mdtree", path=Path(sys.executable).parent)
