"""The client waits out what passes, says what the server said, and gives its token to one host alone.

The hosts here answer what a service, a proxy or a wrong address might; the service itself stands in
`test_service_client`.
"""

import logging
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from service_scripted import Scripted, answering, refusal

from mdtree.errors import InputError, MDTreeError, ResourceError
from mdtree.service.client import Client
from mdtree.service.client.connection import retry_after

TOKEN = "of-a-client-that-keeps-it-to-itself"
JOB = {"id": "ab" * 16, "name": "run7.pt", "state": "queued", "position": 2, "progress": None}
ANSWERED = Scripted(201, {"verdict": "healthy", "confidence": 0.5}, {"Location": f"/v1/jobs/{JOB['id']}"})
LOST = Scripted(0)


@pytest.fixture(autouse=True)
def _no_token_of_the_users(monkeypatch):
    monkeypatch.delenv("MDTREE_TOKEN", raising=False)


# --- what passes


def test_a_record_whose_answer_was_lost_is_sent_again_under_the_same_key():
    with answering([LOST, ANSWERED, ANSWERED]) as host, Client(host.address) as client:
        assert client.diagnose_record({"metrics": {}}).verdict == "healthy"
        client.diagnose_record({"metrics": {}})
    first, again, other = (asked.headers["Idempotency-Key"] for asked in host.asked)
    assert first == again != other
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert host.asked[0].body == host.asked[1].body == b'{"metrics": {}}'


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_full_queue_or_a_server_that_starts_is_waited_for_as_long_as_it_says(status):
    full = refusal(status, "queue_full", "500 jobs wait", {"Retry-After": "0.4"})
    start = time.monotonic()
    with answering([full, Scripted(200, JOB)]) as host, Client(host.address) as client:
        job = client.job("ab" * 16)
    assert time.monotonic() - start > 0.4
    assert (job.progress.stage, job.progress.text) == ("queued", "2 before it")


def test_a_wait_that_is_longer_than_the_patience_is_not_begun():
    full = refusal(429, "queue_full", "500 jobs wait; expected fewer than 500", {"Retry-After": "30"})
    start = time.monotonic()
    with (
        answering([full]) as host,
        Client(host.address, patience=5) as client,
        pytest.raises(ResourceError, match=r"^500 jobs wait; expected fewer than 500$"),
    ):
        client.server()
    assert time.monotonic() - start < 2
    assert len(host.asked) == 1


def test_a_quota_does_not_pass_by_waiting():
    full = refusal(429, "quota_exceeded", "you keep 20 GB", {"Retry-After": "0.1"})
    with answering([full]) as host, Client(host.address) as client, pytest.raises(ResourceError, match="you keep 20"):
        client.server()
    assert len(host.asked) == 1


def test_where_nothing_listens_patience_ends():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        start = time.monotonic()
        with Client(address, patience=0.5) as client, pytest.raises(ResourceError, match=f"no answer from {address}"):
            client.server()
        assert time.monotonic() - start < 3


def test_waiting_is_told_once(caplog):
    with answering([LOST, LOST, Scripted(200, {})]) as host, Client(host.address) as client:
        client.server()
    assert [re.sub(r"\d+", "N", record.message) for record in caplog.records] == [
        "no answer from http://N.N.N.N:N (Server disconnected without sending a response.); "
        "is the service running, and is this its address?; trying again for N s"
    ]


def test_a_deletion_whose_answer_was_lost_is_done_and_another_one_is_an_error():
    gone = refusal(404, "not_found", "there is no job")
    with answering([LOST, gone]) as host, Client(host.address) as client:
        client.delete("ab" * 16)
        with pytest.raises(InputError, match="there is no job"):
            client.delete("ab" * 16)
    assert [asked.method for asked in host.asked] == ["DELETE"] * 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7), ("0.5", 0.5), ("", 0), ("soon", 0), ("-3", 0), ("inf", 0), ("nan", 0)]
)
def test_retry_after_is_a_number(text, seconds):
    assert retry_after(text) == seconds


def test_retry_after_is_a_date():
    assert 17 < retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)) <= 20
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


# --- what the server said


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputError),
        (401, InputError),
        (404, InputError),
        (413, InputError),
        (421, InputError),
        (422, InputError),
        (408, ResourceError),
        (507, ResourceError),
        (500, MDTreeError),
    ],
)
def test_a_refusal_is_an_error_with_the_servers_sentence(status, kind):
    with (
        answering([refusal(status, "any", "got this;\n expected\x1b[31m that")]) as host,
        Client(host.address) as client,
        pytest.raises(MDTreeError) as raised,
    ):
        client.server()
    assert type(raised.value) is kind
    assert str(raised.value) == "got this; expected[31m that"
    assert len(host.asked) == 1


def test_a_page_of_another_server_is_told_by_its_status():
    page = Scripted(404, headers={"Content-Type": "text/html"}, body=b"<html>nothing here</html>")
    with (
        answering([page]) as host,
        Client(host.address) as client,
        pytest.raises(InputError, match=f"^{host.address} answers 404 Not Found$"),
    ):
        client.server()


def test_an_answer_that_is_none_of_a_service_is_said_to_be():
    page = Scripted(200, headers={"Content-Type": "text/html"}, body=b"<html>welcome</html>")
    with (
        answering([page]) as host,
        Client(host.address) as client,
        pytest.raises(InputError, match=f"^{host.address} does not answer as a service of mdtree"),
    ):
        client.server()


# --- one host, one token


def test_the_token_is_of_the_argument_or_of_the_environment(monkeypatch):
    with answering([Scripted(200, {})]) as host:
        Client(host.address).server()
        Client(host.address, TOKEN).server()
        monkeypatch.setenv("MDTREE_TOKEN", "of-the-environment")
        Client(host.address).server()
        Client(host.address, TOKEN).server()
    sent = [asked.headers.get("Authorization") for asked in host.asked]
    assert sent == [None, f"Bearer {TOKEN}", "Bearer of-the-environment", f"Bearer {TOKEN}"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status):
    with answering([Scripted(200, {})]) as other:
        moved = Scripted(status, headers={"Location": f"{other.address}/v1/server"})
        with (
            answering([moved]) as host,
            Client(host.address, TOKEN) as client,
            pytest.raises(InputError, match=r"sends on to .*, where the token was not sent"),
        ):
            client.server()
    assert other.asked == []


def test_a_proxy_of_the_environment_sees_nothing_unencrypted(monkeypatch):
    with answering([Scripted(200, {})]) as proxy, answering([Scripted(200, {})]) as host:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        Client(host.address, TOKEN).server()
    assert proxy.asked == []
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("http://diagnose.example", True),
        ("http://192.0.2.7:8080", True),
        ("https://diagnose.example", False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_a_token_that_travels_unencrypted_is_warned_of(address, warned, caplog):
    caplog.set_level(logging.WARNING)
    Client(address, TOKEN)
    assert (["unencrypted" in record.message for record in caplog.records] == [True]) is warned
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "wörter", "\x00"])
def test_a_token_that_can_stand_in_no_header_is_refused_unseen(token):
    with pytest.raises(InputError, match="the token holds blanks") as raised:
        Client("http://127.0.0.1", token)
    assert token not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8080",
        "127.0.0.1",
        "ftp://host",
        "http://",
        "http://host?a=b",
        "http://user:word@host",
        "http://a b",
    ],
)
def test_what_is_no_address_of_a_service_is_refused(address):
    with pytest.raises(InputError, match="expected http://HOST:PORT or https://HOST"):
        Client(address)


def test_a_service_may_lie_under_a_path():
    with answering([Scripted(200, {})]) as host:
        Client(f"{host.address}/mdtree/").server()
    assert host.asked[0].path == "/mdtree/v1/server"


def test_the_client_needs_httpx_alone():
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'pandas', 'fastapi', 'sqlalchemy', 'uvicorn'): sys.modules[name] = None\n"
        "from mdtree.service.client.service_client import Client\n"
        "Client('http://127.0.0.1:1').close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
