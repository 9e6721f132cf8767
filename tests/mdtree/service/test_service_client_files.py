"""What the client makes of files: sent in parts, as they were when it began, and none that the service would refuse."""

import hashlib

import pytest
from service_scripted import Scripted, answering

from mdtree.errors import InputError, ResourceError
from mdtree.service.client import Client, RemoteFile

LOST = Scripted(0)


@pytest.fixture(autouse=True)
def _no_token_of_the_users(monkeypatch):
    monkeypatch.delenv("MDTREE_TOKEN", raising=False)


def test_a_file_is_read_anew_when_it_is_sent_again(tmp_path):
    file = tmp_path / "run7.pt"
    file.write_bytes(bytes(range(256)) * 10_000)
    stored = {"id": "cd" * 16, "name": "run7.pt", "size": 2_560_000, "sha256": _sha256(file)}
    limits = Scripted(200, {"limits": {"file_bytes": 10**9}})
    with answering([limits, LOST, Scripted(201, stored)]) as host, Client(host.address) as client:
        assert client.upload(file) == RemoteFile(**stored)
    assert host.asked[1].body == host.asked[2].body == file.read_bytes()
    assert host.asked[2].path == "/v1/files?name=run7.pt"


def test_a_file_too_large_is_refused_before_it_is_sent(tmp_path):
    (tmp_path / "run7.pt").write_bytes(bytes(2_500_000))
    with (
        answering([Scripted(200, {"limits": {"file_bytes": 1_000_000}})]) as host,
        Client(host.address) as client,
        pytest.raises(InputError, match=r"run7.pt has 2.5 MB; expected at most 1.0 MB"),
    ):
        client.upload(tmp_path / "run7.pt")
    assert [asked.method for asked in host.asked] == ["GET"]


def test_a_file_that_becomes_shorter_while_it_is_sent_is_said_to(tmp_path):
    file = tmp_path / "run7.pt"
    file.write_bytes(bytes(3_000_000))
    with (
        answering([Scripted(200, {"limits": {"file_bytes": 10**9}})]) as host,
        Client(host.address) as client,
        pytest.raises(InputError, match=r"run7.pt changed while it was sent"),
    ):
        client.upload(file, lambda progress: file.write_bytes(b"short"))


def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(tmp_path):
    file = tmp_path / "run7.pt"
    file.write_bytes(bytes(1_500_000))
    stored = {"id": "cd" * 16, "name": "run7.pt", "size": 1_500_000, "sha256": _sha256(file)}
    answers = [Scripted(200, {"limits": {"file_bytes": 10**9}}), Scripted(201, stored)]
    with answering(answers) as host, Client(host.address) as client:
        client.upload(file, lambda progress: file.write_bytes(bytes(1_600_000)))
    assert host.asked[1].body == bytes(1_500_000)


def test_a_file_that_arrived_otherwise_is_not_used(tmp_path):
    (tmp_path / "run7.pt").write_bytes(b"weights")
    stored = {"id": "cd" * 16, "name": "run7.pt", "size": 7, "sha256": "0" * 64}
    answers = [Scripted(200, {"limits": {"file_bytes": 10**9}}), Scripted(201, stored)]
    with (
        answering(answers) as host,
        Client(host.address) as client,
        pytest.raises(ResourceError, match="did not arrive as it was sent"),
    ):
        client.upload(tmp_path / "run7.pt")


def test_a_folder_a_missing_file_and_a_single_sibling_are_refused(tmp_path):
    with Client("http://127.0.0.1:1", patience=0) as client:
        with pytest.raises(InputError, match="is a folder; expected a file"):
            client.submit(tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            client.submit(tmp_path / "run7.pt")
        file = RemoteFile("ab" * 16, "run7.pt", 1, "")
        with pytest.raises(InputError, match="put it into a list"):
            client.submit(file, siblings="run8.pt")
        for wrong in ("../files", "a/b", "", "job?x=1"):
            with pytest.raises(InputError, match="is no id of a job"):
                client.job(wrong)


def _sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()
